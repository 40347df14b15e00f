/** Files of any size on the command line: `--message`, what `decrypt` makes of them, and `inspect`. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Workplace } from '../support/command-line.ts';

const TIMEOUT_MS = 60_000;
const SIZE = 3 * 1024 * 1024 + 7;

let place: Workplace;
let plaintext: Buffer;
let message: Buffer;

const path = (name: string) => join(place.folder, name);
const read = (name: string) => readFileSync(path(name));
const leftovers = () => readdirSync(place.folder).filter((name) => name.endsWith('.tmp'));

beforeAll(async () => {
  place = new Workplace();
  await place.startAgent();
  plaintext = randomBytes(SIZE);
  writeFileSync(path('in'), plaintext);
  const made = await place.shell(
    'dekd encrypt --key files --context row=1 --message --frame-length 65536 --input in -o in.dk',
  );
  expect(made).toMatchObject({ code: 0, stdout: '' });
  message = read('in.dk');
}, TIMEOUT_MS);

afterAll(async () => {
  await place[Symbol.asyncDispose]();
});

describe('dekd encrypt --message', { timeout: TIMEOUT_MS }, () => {
  it('makes a message that decrypt opens, by file and by pipe', async () => {
    expect(message.length).toBe(267 + SIZE + 32 * Math.floor((SIZE - 1) / 65_536));
    expect(await place.shell('dekd decrypt --key files --context row=1 -i in.dk -o out')).toMatchObject({ code: 0 });
    expect(read('out').equals(plaintext)).toBe(true);
    expect(statSync(path('out')).mode & 0o777).toBe(0o600);
    const piped = 'dekd encrypt --key files --message < in | dekd decrypt --key files > piped';
    expect(await place.shell(piped)).toMatchObject({ code: 0, stderr: '' });
    expect(read('piped').equals(plaintext)).toBe(true);
  });

  it('says what it did as one JSON object', async () => {
    const { stdout } = await place.shell('dekd encrypt --json --key files --message -i in -o json.dk');
    expect(JSON.parse(stdout)).toEqual({ output: 'json.dk', bytesRead: SIZE, seconds: expect.any(Number) });
  });

  it('takes the length of its frames', async () => {
    await place.shell('dekd encrypt --key files --message -i in -o million.dk');
    await place.shell('dekd encrypt --key files --message < in > piped.dk');
    for (const [name, frameLength] of [
      ['million.dk', 1_048_576],
      ['piped.dk', 65_536],
    ] as const) {
      expect(JSON.parse((await place.shell(`dekd inspect --json ${name}`)).stdout)).toMatchObject({ frameLength });
    }
    await place.shell('dekd encrypt --key files --message --frame-length 1000 -i in -o thousand.dk');
    expect(JSON.parse((await place.shell('dekd inspect --json thousand.dk')).stdout)).toMatchObject({
      frameLength: 1_000,
      frames: Math.ceil(SIZE / 1_000),
      plaintextBytes: SIZE,
    });
    expect(await place.shell('dekd decrypt --key files -i thousand.dk | cmp - in')).toMatchObject({ code: 0 });
  });

  it.each([
    ['a value on the command line', "--message 'a value'", /made of a file/],
    ['--binary', '--message --binary -i in', /cannot be used with|conflict/],
    ['--show', '--message --show -i in', /cannot be used with|conflict/],
    ['a frame length without --message', '--frame-length 100 -i in', /add --message/],
    ['a frame length of 0', '--message --frame-length 0 -i in', /1 to 1048576/],
  ] as const)('refuses %s as usage', async (_, options, says) => {
    const { code, stderr } = await place.shell(`dekd encrypt --key files ${options} -o never`);
    expect([code, stderr]).toEqual([2, expect.stringMatching(says)]);
    expect(existsSync(path('never'))).toBe(false);
  });

  it('is what the refusal of a file too large for a token tells of', async () => {
    const { code, stderr } = await place.shell('dekd encrypt --key files --input in -o never');
    expect([code, stderr]).toEqual([1, expect.stringContaining('add --message')]);
  });
});

describe('dekd decrypt of a message', { timeout: TIMEOUT_MS }, () => {
  it('that is cut short, changed or followed by more fails and leaves the target as it was', async () => {
    writeFileSync(path('kept'), 'before');
    const changed = Buffer.from(message);
    changed[SIZE >> 1]! ^= 1;
    for (const [name, bytes] of [
      ['cut', message.subarray(0, -1)],
      ['cut at a frame', message.subarray(0, 267 - 40 + 10 * 65_568)],
      ['changed', changed],
      ['more', Buffer.concat([message, Buffer.of(0)])],
    ] as const) {
      writeFileSync(path('wrong.dk'), bytes);
      const { code, stderr } = await place.shell('dekd decrypt --key files --context row=1 -i wrong.dk -o kept');
      expect([name, code]).toEqual([name, 1]);
      expect(stderr).toMatch(/cut short|decryption failed|follow the end/);
      expect(read('kept').toString()).toBe('before');
    }
    expect(leftovers()).toEqual([]);
  });

  it('gives whole frames out on standard output, and says by its exit code that they were not all', async () => {
    writeFileSync(path('wrong.dk'), message.subarray(0, -1));
    const { code } = await place.shell('dekd decrypt --key files --context row=1 < wrong.dk > part');
    expect(code).toBe(1);
    const part = read('part');
    expect(part.length % 65_536).toBe(0);
    expect(part.equals(plaintext.subarray(0, part.length))).toBe(true);
  });

  it.each([
    ['another context', '--key files --context row=2'],
    ['no context', '--key files'],
    ['another key', '--key others --context row=1'],
    ['another partition', '--key files --partition acme --context row=1'],
  ])('in %s is one error', async (_, binding) => {
    const { code, stderr } = await place.shell(`dekd decrypt ${binding} -i in.dk -o never`);
    expect([code, stderr.split('\n')[0]]).toEqual([1, 'dekd: decryption failed']);
    expect(existsSync(path('never'))).toBe(false);
  });

  it('opens with --any-key where the policy grants that', async () => {
    expect(await place.shell('dekd decrypt --any-key --context row=1 -i in.dk | cmp - in')).toMatchObject({ code: 0 });
  });

  it('with --range gives those bytes alone, and looks at no other frames', async () => {
    const decrypt = 'dekd decrypt --key files --context row=1';
    writeFileSync(path('garbled.dk'), Buffer.from(message).fill(0, 267 + 3 * 65_568));
    for (const [range, from, to] of [
      ['0-0', 0, 1],
      ['65535-131072', 65_535, 131_073],
    ] as const) {
      expect(await place.shell(`${decrypt} --range ${range} garbled.dk > part`)).toMatchObject({ code: 0, stderr: '' });
      expect(read('part').equals(plaintext.subarray(from, to))).toBe(true);
    }
    expect(await place.shell(`${decrypt} --range 3000000- -i in.dk -o part`)).toMatchObject({ code: 0 });
    expect(read('part').equals(plaintext.subarray(3_000_000))).toBe(true);
    const { stdout } = await place.shell(`${decrypt} --json --range ${SIZE - 5}-${2 * SIZE} in.dk -o part`);
    expect([JSON.parse(stdout), read('part').length]).toEqual([{ output: 'part', bytes: 5 }, 5]);
    writeFileSync(path('kept'), 'before');
    const { code, stderr } = await place.shell(`${decrypt} --range 1-300000 garbled.dk -o kept`);
    expect([code, stderr.split('\n')[0], read('kept').toString()]).toEqual([1, 'dekd: decryption failed', 'before']);
  });

  it.each([
    ['of standard input', '--range 0-1 < in.dk', /standard input/],
    ['of two files', '--range 0-1 in.dk in.dk', /one message/],
    ['of a folder', '--range 0-1 -r . -o out', /one message/],
    ['that ends before it begins', '--range 2-1 in.dk', /START-END/],
    ['that is none', '--range 5 in.dk', /START-END/],
    ['as JSON', '--json --range 0-1 in.dk', /-o/],
    ['of a file that is named twice', '--range 0-1 -i in.dk in.dk', /both a file and --input/],
  ] as const)('refuses a range %s as usage', async (_, options, says) => {
    const { code, stderr } = await place.shell(`dekd decrypt --key files ${options}`);
    expect([code, stderr]).toEqual([2, expect.stringMatching(says)]);
  });

  it('leaves neither target nor temporary file behind when it is told to stop', async () => {
    const child = spawn('sh', ['-c', 'exec dekd decrypt --key files --context row=1 -o stopped'], {
      cwd: place.folder,
      env: place.env,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    child.stdin.on('error', () => {});
    child.stdin.write(message.subarray(0, SIZE >> 1));
    await expect.poll(() => leftovers().length, { timeout: TIMEOUT_MS }).toBe(1);
    child.kill('SIGTERM');
    await once(child, 'exit');
    expect(leftovers()).toEqual([]);
    expect(existsSync(path('stopped'))).toBe(false);
  });
});

describe('dekd inspect', { timeout: TIMEOUT_MS }, () => {
  it('says what a message says, from a file and from standard input, without an agent', async () => {
    const { stdout } = await place.shell('DEKD_SOCKET=/nowhere dekd inspect --json in.dk');
    const document = JSON.parse(stdout);
    expect(document).toEqual({
      kind: 'message',
      suite: '0x0478',
      signed: false,
      messageId: message.subarray(3, 35).toString('hex'),
      context: {},
      dataKeys: [
        {
          recipient: 'keystore',
          providerId: 'dekd',
          key: expect.stringMatching(/^[0-9a-f]{32}\.[0-9a-f]{24}$/),
          bytes: 48,
        },
      ],
      frameLength: 65_536,
      headerBytes: 227,
      bytes: message.length,
      frames: Math.ceil(SIZE / 65_536),
      plaintextBytes: SIZE,
    });
    const piped = JSON.parse((await place.shell('dekd inspect --json < in.dk')).stdout);
    expect(piped).toMatchObject({ messageId: document.messageId });
  });

  it('says what a token says, as text, as bytes and from a file', async () => {
    const { stdout: token } = await place.shell('dekd encrypt --key demo hello');
    writeFileSync(path('token'), token);
    await place.shell('dekd encrypt --key demo --binary hello -o token.bin');
    const expected = {
      kind: 'token',
      suite: 'xaes-256-gcm',
      kid: expect.stringMatching(/^[0-9a-f]{32}$/),
      plaintextBytes: 5,
    };
    for (const [given, form] of [
      [token.trim(), 'text'],
      ['token', 'text'],
      ['token.bin', 'binary'],
    ] as const) {
      const { stdout } = await place.shell(`dekd inspect --json ${given}`);
      expect(JSON.parse(stdout)).toMatchObject({ ...expected, form });
    }
  });

  it('says what is wrong with anything else', async () => {
    writeFileSync(path('empty'), '');
    writeFileSync(path('text'), 'just text');
    writeFileSync(path('head'), message.subarray(0, 100));
    for (const [name, says] of [
      ['empty', /is empty/],
      ['text', /text is neither a token nor a message/],
      ['head', /cut short/],
      ['nowhere', /ENOENT|no such file/],
    ] as const) {
      const { code, stderr } = await place.shell(`dekd inspect ${name}`);
      expect([name, code === 0, stderr]).toEqual([name, false, expect.stringMatching(says)]);
    }
  });
});
