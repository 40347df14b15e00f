import { randomBytes } from 'node:crypto';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import type { CompressionChoice, DekdClient } from '../../src/client/types.ts';
import { messageContext, readMessageHeader } from '../../src/envelope/message-header.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { RawClient } from '../support/raw-client.ts';

const MIB = 1024 * 1024;
const KEY = { key: 'large', context: { row: '7' } };
const CHOICES: readonly CompressionChoice[] = [false, true, 'gzip', 'zstd'];

let agent: TestAgent;
let dekd: DekdClient;
beforeAll(async () => {
  agent = await startTestAgent({ workers: 2, limits: { maxExpanded: 64 * MIB } });
  dekd = connect({ socket: agent.socket, timeoutMs: 60_000 });
});
afterAll(async () => {
  await dekd.close();
  await agent.stop();
});

/** What the header of a message stores. */
function stored(message: Uint8Array): Record<string, string> {
  return { ...messageContext(readMessageHeader(message)!) };
}

/** What names the key that its data key is encrypted under. */
function keyOf(message: Uint8Array): string {
  return Buffer.from(readMessageHeader(message)!.dataKeys[0]!.providerInfo.subarray(0, 32)).toString('latin1');
}

async function rotate(): Promise<void> {
  const operator = await RawClient.greeted(agent.admin);
  const { error } = await operator.ask({ admin: { rotate: { name: KEY.key, purpose: 'message' } } });
  operator.destroy();
  expect(error).toBeFalsy();
}

async function passed(stream: ReturnType<DekdClient['decryptStream']>, input: Uint8Array): Promise<Buffer> {
  const parts: Buffer[] = [];
  stream.end(input);
  for await (const part of stream) {
    parts.push(part as Buffer);
  }
  return Buffer.concat(parts);
}

describe.each(CHOICES)('a large object with compression %s', (compression) => {
  it.each([
    ['nothing', new Uint8Array(0)],
    ['a byte', Uint8Array.of(1)],
    ['a block and a byte', randomBytes(256 * 1024 + 1)],
    ['what does not compress', randomBytes(3 * MIB)],
    ['what compresses well', new Uint8Array(5 * MIB).fill(7)],
  ])('comes back as it was: %s', async (_name, value) => {
    const message = await dekd.encryptLarge(value, { ...KEY, compression });
    const back = await dekd.decryptLarge<Uint8Array>(message, KEY);
    expect(back).toBeInstanceOf(Uint8Array);
    expect(Buffer.from(back).equals(value)).toBe(true);
  });

  it.each([
    [null],
    [false],
    [0],
    [-1.5e300],
    [''],
    ['text with \u0000, \ud800 and \u{1f600}'],
    [[]],
    [{}],
    [{ a: [1, { b: null }], '': 'no name', __proto__: null }],
    [Array.from({ length: 50_000 }, (_, id) => ({ id, name: `name ${id}` }))],
  ])('comes back as it was: JSON %#', async (value) => {
    const message = await dekd.encryptLarge(value, { ...KEY, compression });
    expect(stored(message)['dekd-content']).toBe('json');
    expect(await dekd.decryptLarge(message, KEY)).toEqual(JSON.parse(JSON.stringify(value)));
  });

  it('stores what it is, and is refused when a word of that is changed', async () => {
    const message = await dekd.encryptLarge(Buffer.from('value'), { ...KEY, compression });
    const codec = compression === true ? 'zstd' : compression;
    expect(stored(message)).toEqual({
      'dekd-content': 'bytes',
      ...(codec === false ? {} : { 'dekd-compression': codec }),
    });
    const changed = Buffer.from(message);
    const at = changed.indexOf('bytes');
    changed.write('jsons', at);
    await expect(dekd.decryptLarge(changed, KEY)).rejects.toThrow();
    await expect(passed(dekd.decryptStream(KEY), changed)).rejects.toMatchObject({ code: 'DECRYPTION_FAILED' });
  });

  it('gives nothing out when it is cut short anywhere, or of another context', async () => {
    const message = await dekd.encryptLarge(randomBytes(300_000), { ...KEY, compression });
    for (const length of [0, 1, 50, 200, 100_000, message.length - 1]) {
      await expect(dekd.decryptLarge(message.subarray(0, length), KEY)).rejects.toMatchObject({ code: 'MALFORMED' });
    }
    await expect(dekd.decryptLarge(message, { ...KEY, context: { row: '8' } })).rejects.toMatchObject({
      code: 'DECRYPTION_FAILED',
    });
    await expect(dekd.decryptLarge(message, { ...KEY, key: 'another' })).rejects.toMatchObject({
      code: 'DECRYPTION_FAILED',
    });
  });

  it('is the same under a newer version of its key, and still says what it is', async () => {
    const value = Buffer.concat([randomBytes(MIB), Buffer.alloc(2 * MIB, 'value ')]);
    const message = await dekd.encryptLarge(value, { ...KEY, compression });
    await rotate();
    const moved = await passed(dekd.reencryptStream(KEY), message);
    expect(moved.length).toBe(message.length);
    expect(stored(moved)).toEqual(stored(message));
    expect(keyOf(moved)).not.toBe(keyOf(message));
    expect(Buffer.from(await dekd.decryptLarge<Uint8Array>(moved, KEY)).equals(value)).toBe(true);
    await expect(passed(dekd.reencryptStream(KEY), message.subarray(0, -1))).rejects.toMatchObject({
      code: 'MALFORMED',
    });
  });

  it('may be made by a stream, which stores no more than how it is compressed; parts of a compressed one are refused', async () => {
    const value = Buffer.alloc(MIB, 'stream ');
    const message = await passed(dekd.encryptStream({ ...KEY, compression }), value);
    const codec = compression === true ? 'zstd' : compression;
    expect(stored(message)).toEqual(codec === false ? {} : { 'dekd-compression': codec });
    expect(message.length < value.length).toBe(codec !== false);
    expect((await passed(dekd.decryptStream(KEY), message)).equals(value)).toBe(true);
    const source = {
      size: message.length,
      read: async (at: number, length: number) => message.subarray(at, at + length),
    };
    for (const start of [0, 1, MIB - 2]) {
      const part = dekd.decryptRange(source, { start, end: start + 2 }, KEY);
      await (codec === false
        ? expect(part).resolves.toEqual(new Uint8Array(value.subarray(start, start + 2)))
        : expect(part).rejects.toMatchObject({ code: 'UNSUPPORTED' }));
    }
  });

  it('is expanded by decryptStream, too', async () => {
    const value = Buffer.alloc(MIB, 'stream ');
    const message = await dekd.encryptLarge(value, { ...KEY, compression });
    expect((await passed(dekd.decryptStream(KEY), message)).equals(value)).toBe(true);
  });
});

describe('large objects', () => {
  it('are right when many are made, moved and read at once, though streams seal in one place', async () => {
    const work = async (index: number): Promise<boolean> => {
      const value = randomBytes(700_000 + index);
      const compression = CHOICES[index % CHOICES.length]!;
      const message = await dekd.encryptLarge(value, { ...KEY, compression });
      let moved: Uint8Array = message;
      for (let times = 0; times < 2; times++) {
        moved = await passed(dekd.reencryptStream(KEY), moved);
      }
      return Buffer.from(await dekd.decryptLarge<Uint8Array>(moved, KEY)).equals(value);
    };
    expect(await Promise.all(Array.from({ length: 12 }, (_, index) => work(index)))).toEqual(Array(12).fill(true));
  });
});

describe('a large object', () => {
  it('is not compressed unless asked for', async () => {
    const value = new Uint8Array(MIB);
    const plain = await dekd.encryptLarge(value, KEY);
    const compressed = await dekd.encryptLarge(value, { ...KEY, compression: true });
    expect(plain.length).toBeGreaterThan(MIB);
    expect(compressed.length).toBeLessThan(2_000);
  });

  it('may have 50 MiB', async () => {
    const value = randomBytes(50 * MIB);
    value.fill(9, 10 * MIB, 40 * MIB);
    const message = await dekd.encryptLarge(value, { ...KEY, compression: 'zstd' });
    expect(message.length).toBeLessThan(25 * MIB);
    expect(Buffer.from(await dekd.decryptLarge<Uint8Array>(message, KEY)).equals(value)).toBe(true);
  });

  it.each([
    ['undefined', undefined],
    ['a function', () => 1],
    ['a symbol', Symbol('s')],
    ['a BigInt', { a: 1n }],
    ['NaN', [Number.NaN]],
    ['an infinity', { deep: [{ n: Number.NEGATIVE_INFINITY }] }],
    ['a cycle', cycle()],
  ])('is refused where JSON would lose it: %s', async (_name, value) => {
    await expect(dekd.encryptLarge(value, KEY)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  it('is refused with options that are none', async () => {
    const none = { ...KEY, compression: 'brotli' } as unknown as typeof KEY;
    await expect(dekd.encryptLarge('x', none)).rejects.toThrow(/compression is brotli/);
    const message = await dekd.encryptLarge('x', KEY);
    await expect(dekd.decryptLarge(message, { ...KEY, maxOutput: -1 })).rejects.toThrow(/maxOutput is -1/);
  });

  it('is not what encryptStream makes, which says so', async () => {
    const message = await passed(dekd.encryptStream(KEY), Buffer.from('x'));
    await expect(dekd.decryptLarge(message, KEY)).rejects.toThrow(
      /not one of encryptLarge: read it with decryptStream/,
    );
  });

  it('keeps names that begin with dekd- to the agent', async () => {
    for (const name of ['dekd-content', 'dekd-compression', 'dekd-anything']) {
      await expect(dekd.encryptLarge('x', { ...KEY, context: { [name]: 'json' } })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: "context fields that begin with 'dekd-' are dekd's own",
      });
    }
  });

  it('is bounded by the maxOutput of the reader, and by the limit of the agent', async () => {
    const small = await dekd.encryptLarge(new Uint8Array(MIB), { ...KEY, compression: true });
    await expect(dekd.decryptLarge(small, { ...KEY, maxOutput: MIB - 1 })).rejects.toThrow(
      `the value is longer than maxOutput of ${MIB - 1} bytes`,
    );
    await dekd.decryptLarge(small, { ...KEY, maxOutput: MIB });
    const bomb = await dekd.encryptLarge(new Uint8Array(70 * MIB), { ...KEY, compression: true });
    expect(bomb.length).toBeLessThan(100_000);
    await expect(dekd.decryptLarge(bomb, KEY)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: `the compressed value becomes longer than limits.maxExpanded of ${64 * MIB} bytes`,
    });
  });

  it('that becomes much larger is expanded as fast as it is read, and no faster', async () => {
    const message = await dekd.encryptLarge(new Uint8Array(60 * MIB), { ...KEY, compression: true });
    global.gc?.();
    const before = process.memoryUsage().rss;
    const stream = dekd.decryptStream(KEY);
    stream.end(message);
    let length = 0;
    let most = 0;
    for await (const part of stream) {
      length += (part as Buffer).length;
      most = Math.max(most, process.memoryUsage().rss - before);
      // A reader that is slower than the agent.
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(length).toBe(60 * MIB);
    expect(most).toBeLessThan(40 * MIB);
  });
});

function cycle(): object {
  const value: Record<string, unknown> = {};
  value.self = value;
  return value;
}

describe('what a message holds of a compressed value', () => {
  it('is what any gzip reads', async () => {
    const { compressBlock, MAX_BLOCK_SIZE } = await import('../../src/pool/blocks.ts');
    const pieces = [Buffer.from('first block, '), Buffer.from('second block')].map((piece) => {
      const block = Buffer.alloc(MAX_BLOCK_SIZE);
      return block.subarray(0, compressBlock('gzip', piece, block));
    });
    expect(gunzipSync(Buffer.concat(pieces)).toString()).toBe('first block, second block');
  });
});
