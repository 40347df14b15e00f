import { describe, expect, it } from 'vitest';
import type { FieldCipher } from '../../src/cli/json-lines/splice.ts';
import { DekdError } from '../../src/errors.ts';
import { fakeDecrypt, fakeEncrypt, splice } from '../support/json-lines.ts';

const TOKEN = /"dk1\.[A-Za-z0-9_-]+"/g;

async function roundTrip(text: string | Buffer, fields: string): Promise<string> {
  const encrypted = await splice('encrypt', text, fields);
  expect(encrypted.error).toBeUndefined();
  const decrypted = await splice('decrypt', encrypted.output, fields);
  expect(decrypted.error).toBeUndefined();
  expect(decrypted.output.equals(Buffer.from(text as string))).toBe(true);
  return encrypted.output.toString();
}

describe('JSON Lines splicing', () => {
  it('leaves every byte outside the named values as it was', async () => {
    const line =
      '{ "id" :12345678901234567890, "price":1.0,"e":1E+2,\t"email": "ada@example.org" , "u":"\\u00e9\\/" }\r\n';
    const encrypted = await roundTrip(line, 'email');
    expect(encrypted.replace(TOKEN, '"ada@example.org"')).toBe(line);
    expect(encrypted).not.toContain('ada@');
  });

  it('takes the JSON text of the value itself as the plaintext: numbers, white space and escapes survive', async () => {
    const seen: string[] = [];
    const cipher: FieldCipher = async (values, path, signal) => {
      seen.push(...values.map((value) => Buffer.from(value).toString()));
      return fakeEncrypt(values, path, signal);
    };
    const line = '{"a":12345678901234567890,"b":1.0,"c":"\\u0041\\n","d":[1, 2 ],"e":null,"f":{"x" : true}}\n';
    await splice('encrypt', line, 'a,b,c,d,e,f', { cipher });
    expect(seen).toEqual(['12345678901234567890', '1.0', '"\\u0041\\n"', '[1, 2 ]', 'null', '{"x" : true}']);
    await roundTrip(line, 'a,b,c,d,e,f');
  });

  it('reaches into nested objects and every element of arrays of arrays', async () => {
    const text =
      '{"cards":[{"pan":"4111","n":1},{"n":2},{"pan":"4222"}],"grid":[[1,2],[],[3]],"address":{"street":"x"}}\n';
    const encrypted = await roundTrip(text, 'cards[].pan,grid[][],address.street');
    expect(encrypted.match(TOKEN)).toHaveLength(6);
    expect(encrypted).toContain('"n":1},{"n":2},{"pan":');
  });

  it('encrypts every occurrence of a member that stands twice, so that no reader meets the clear one', async () => {
    const encrypted = await roundTrip('{"a":"first","a":"second","b":{"a":"other"}}\n', 'a');
    expect(encrypted).not.toMatch(/first|second/);
    expect(encrypted).toContain('other');
  });

  it('compares member names after their escapes are read', async () => {
    const encrypted = await roundTrip(
      '{"\\u0065mail":"x@y","b\\u00fc":1,"bü":2,"__proto__":3}\n',
      'email,bü,__proto__',
    );
    expect(encrypted.match(TOKEN)).toHaveLength(4);
    expect(encrypted).toContain('"\\u0065mail":"dk1.');
  });

  it('keeps blank lines, a byte order mark, CRLF and a last line without a newline', async () => {
    const text = '\ufeff{"a":1}\r\n\r\n  \n{"b":2}\n{"a":3}';
    const encrypted = await roundTrip(text, 'a');
    expect(encrypted.replace(/"dk1[^"]*"/, '1').replace(/"dk1[^"]*"/, '3')).toBe(text);
    const { report } = await splice('encrypt', text, 'a');
    expect(report).toMatchObject({ records: 3, values: 2, fields: { a: 2 }, bytesRead: Buffer.byteLength(text) });
  });

  it('does nothing to an empty input', async () => {
    expect(await splice('encrypt', '', 'a')).toMatchObject({ error: undefined, report: { records: 0, values: 0 } });
  });

  it('leaves a missing or null-held field alone, and counts what has another shape than its path', async () => {
    const text = '{"b":1}\n{"address":null}\n{"address":"Main Street"}\n{"address":[{"street":1}]}\n7\n';
    const { output, report } = await splice('encrypt', text, 'address.street');
    expect(output.toString()).toBe(text);
    expect(report).toMatchObject({ values: 0, misshapen: 3, firstMisshapenLine: 3 });
  });

  it('counts values that are tokens already', async () => {
    const once = await splice('encrypt', '{"a":1}\n{"a":2}\n', 'a');
    const twice = await splice('encrypt', once.output, 'a');
    expect([once.report?.tokensEncrypted, twice.report?.tokensEncrypted]).toEqual([0, 2]);
  });

  it.each([
    ['{"a":1}\n{"a":"x\n{"a":2}\n', 'line 2, byte 8 (offset 15): not valid JSON: the line ends inside a string'],
    ['{"a":1}\n{"a":1', 'line 2, byte 7 (offset 14): not valid JSON: the line ends inside an object'],
    ['{"a":01}\n', 'line 1, byte 7 (offset 6): not valid JSON: a comma or } is due'],
    ['{"a":1.}\n', 'line 1, byte 8 (offset 7): not valid JSON: a digit is due'],
    ['{"a":-}\n', 'line 1, byte 7 (offset 6): not valid JSON: a digit is due'],
    ['{"a":tru}\n', 'line 1, byte 6 (offset 5): not valid JSON: no value starts here'],
    ['{"a":}\n', 'line 1, byte 6 (offset 5): not valid JSON: no value starts here'],
    ['{a:1}\n', 'line 1, byte 2 (offset 1): not valid JSON: a member name is due'],
    ['{"a" 1}\n', 'line 1, byte 6 (offset 5): not valid JSON: a colon is due'],
    ['[1,]\n', 'line 1, byte 4 (offset 3): not valid JSON: no value starts here'],
    ['{"a":1,}\n', 'line 1, byte 8 (offset 7): not valid JSON: a member name is due'],
    ['{"a":1} {"a":2}\n', 'line 1, byte 9 (offset 8): not valid JSON: more follows the value of the line'],
    ['{"a":"\\x"}\n', 'line 1, byte 7 (offset 6): not valid JSON: an unknown escape in a string'],
    ['{"a":"\\u00g0"}\n', 'line 1, byte 7 (offset 6): not valid JSON: an unknown escape in a string'],
    ['{"a":"\t"}\n', 'line 1, byte 7 (offset 6): not valid JSON: a control character in a string'],
    ['{\n  "a": 1\n}\n', 'line 1, byte 2 (offset 1): not valid JSON: the line ends inside an object'],
  ])('refuses %j, naming line and byte', async (text, message) => {
    const { error } = await splice('encrypt', text, 'a');
    expect(error?.message).toBe(message);
    expect(DekdError.is(error, 'INVALID_ARGUMENT')).toBe(true);
  });

  it('refuses a line that is not UTF-8', async () => {
    const text = Buffer.concat([Buffer.from('{"a":1}\n{"b":"'), Buffer.from([0xc3, 0x28]), Buffer.from('"}\n')]);
    expect((await splice('encrypt', text, 'a')).error?.message).toMatch(/^line 2, .*not UTF-8$/);
  });

  it('refuses nesting beyond the limit without exhausting the stack', async () => {
    const deep = (levels: number): string => `{"a":1,"b":${'['.repeat(levels)}${']'.repeat(levels)}}\n`;
    expect((await splice('encrypt', deep(999), 'a')).error).toBeUndefined();
    expect((await splice('encrypt', deep(200_000), 'a')).error?.message).toMatch(/nested deeper than 1000 levels/);
    expect((await splice('encrypt', deep(200_000), 'b[][]')).error?.message).toMatch(/nested deeper than 1000 levels/);
  });

  it('refuses a line over the limit instead of holding it', async () => {
    const { error, output } = await splice('encrypt', `{"b":1}\n{"a":"${'x'.repeat(5_000)}`, 'a', {
      chunkBytes: 100,
      maxLineBytes: 1_000,
    });
    expect(error?.message).toMatch(/^line 2 is longer than 1000 bytes/);
    expect(output.toString()).toBe('{"b":1}\n');
  });

  it.each([1, 7, 1_000_000])(
    'writes the lines before a bad one, and nothing of it, in chunks of %i',
    async (chunkBytes) => {
      const good = '{"b":1}\n'.repeat(50);
      const { output, error } = await splice('encrypt', `${good}{"b":nope}\n${good}`, 'a', { chunkBytes });
      expect(output.toString()).toBe(good);
      expect(error?.message).toMatch(/^line 51, byte 6 \(offset 405\)/);
    },
  );
});

describe('JSON Lines decryption', () => {
  it.each([
    ['{"a":"plain"}', 'is not a token'],
    ['{"a":null}', 'is not a token'],
    ['{"a":"dk1."}', 'is not a token'],
    ['{"a":"dk1.AAA*"}', 'is not a token'],
    ['{"a":"dk1.AAAAB"}', 'is not a token'],
    ['{"a":"dk1.AB"}', 'is not a token'],
    ['{"a":"dk1.AAAA="}', 'is not a token'],
  ])('refuses %s, naming line and field', async (line, reason) => {
    const { error, output } = await splice('decrypt', `{"b":1}\n${line}\n`, 'a');
    expect(error?.message).toMatch(/^line 2, byte 6 \(offset 13\): field 'a': /);
    expect(error?.message).toContain(reason);
    expect(DekdError.is(error, 'MALFORMED')).toBe(true);
    expect(output.toString()).toBe('{"b":1}\n');
  });

  it('reads a token whose string is written with escapes', async () => {
    const { output } = await splice('encrypt', '{"a":"x"}\n', 'a');
    const escaped = output.toString().replace('dk1', '\\u0064k\\u0031');
    expect((await splice('decrypt', escaped, 'a')).output.toString()).toBe('{"a":"x"}\n');
  });

  it('names line, field, code and incident of a value that does not open, and keeps the lines before', async () => {
    const cipher: FieldCipher = async (tokens, path, signal) =>
      (await fakeDecrypt(tokens, path, signal)).map((result, index) =>
        index < 2
          ? result
          : { ok: false, error: new DekdError('DECRYPTION_FAILED', 'decryption failed', { incident: 'k3v9' }) },
      );
    const { output } = await splice('encrypt', '{"a":1}\n{"a":2}\n{"b":0,"a":3}\n{"a":4}\n', 'a');
    const decrypted = await splice('decrypt', output, 'a', { cipher });
    expect(decrypted.output.toString()).toBe('{"a":1}\n{"a":2}\n');
    expect(decrypted.error).toMatchObject({ code: 'DECRYPTION_FAILED', incident: 'k3v9' });
    expect(decrypted.error?.message).toMatch(/^line 3, byte 12 \(offset \d+\): field 'a': decryption failed$/);
  });

  it.each(['bare words', '1,"admin":true', '[1,\n2]', '', '\u0001'])(
    'refuses the plaintext %j, which would change the line around it',
    async (plaintext) => {
      const { output } = await splice('encrypt', '{"a":1}\n{"z":9,"a":2}\n', 'a,z');
      const cipher: FieldCipher = async (tokens, path, signal) =>
        (await fakeDecrypt(tokens, path, signal)).map((result, index) =>
          index === 1 ? { ok: true, value: Buffer.from(plaintext) } : result,
        );
      const decrypted = await splice('decrypt', output, 'a,z', { cipher });
      expect(decrypted.output.toString()).toBe('{"a":1}\n');
      expect(decrypted.error?.message).toMatch(/^line 2, .*field 'a': the plaintext is not one JSON value/);
    },
  );
});

describe('JSON Lines flow', () => {
  it('keeps the order of the input when batches answer out of order', async () => {
    let calls = 0;
    const cipher: FieldCipher = async (values, path, signal) => {
      calls += 1;
      await new Promise((resolve) => setTimeout(resolve, calls % 2 === 0 ? 1 : 8));
      return fakeEncrypt(values, path, signal);
    };
    const text = Array.from({ length: 400 }, (_, index) => `{"n":${index},"a":"${index}"}\n`).join('');
    const { output } = await splice('encrypt', text, 'a', { chunkBytes: 512, cipher });
    expect(calls).toBeGreaterThan(2);
    expect((await splice('decrypt', output, 'a')).output.toString()).toBe(text);
  });

  it('answers a line before the next one is written, as a co-process needs', async () => {
    const { PassThrough } = await import('node:stream');
    const { parseFields } = await import('../../src/cli/json-lines/field-list.ts');
    const { spliceJsonLines } = await import('../../src/cli/json-lines/splice.ts');
    const input = new PassThrough();
    const outputs: string[] = [];
    let next: () => void = () => {};
    const done = spliceJsonLines(
      input,
      async (bytes) => {
        outputs.push(bytes.toString());
        next();
      },
      { direction: 'encrypt', fields: parseFields(['a']), cipher: fakeEncrypt },
    );
    for (let line = 0; line < 10; line += 1) {
      const answered = new Promise<void>((resolve) => {
        next = resolve;
      });
      input.write(`{"n":${line},"a":1}\n`);
      await answered;
    }
    input.end();
    await done;
    expect(outputs).toHaveLength(10);
  });

  it('holds a bounded number of batches however much is to read', async () => {
    let running = 0;
    let most = 0;
    const cipher: FieldCipher = async (values, path, signal) => {
      running += 1;
      most = Math.max(most, running);
      await new Promise((resolve) => setTimeout(resolve, 1));
      running -= 1;
      return fakeEncrypt(values, path, signal);
    };
    await splice('encrypt', '{"a":1}\n'.repeat(20_000), 'a', { chunkBytes: 1_024, cipher });
    expect(most).toBe(4);
  });

  it('stops reading and passes the error on when the cipher as a whole fails', async () => {
    const cipher: FieldCipher = async () => {
      throw new DekdError('AGENT_UNAVAILABLE', 'no agent');
    };
    const { error, output } = await splice('encrypt', '{"a":1}\n'.repeat(1_000), 'a', { chunkBytes: 64, cipher });
    expect(DekdError.is(error, 'AGENT_UNAVAILABLE')).toBe(true);
    expect(output).toHaveLength(0);
  });
});
