/** Ranges of a plaintext through the client, over the socket, from a message that is read in part. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { connect } from '../../src/client/index.ts';
import type { ByteRange, DekdClient, MessageSource } from '../../src/client/types.ts';
import { FINAL_FRAME_OVERHEAD, FRAME_OVERHEAD, frameOffset } from '../../src/envelope/message-body.ts';
import { readMessageHeader } from '../../src/envelope/message-header.ts';
import { DekdError, errorCodeOf } from '../../src/errors.ts';
import { runYaml, startTestAgent, type TestAgent, writeRunConfig } from '../support/agent.ts';
import { keySlots, until } from '../support/agent-state.ts';
import { ENGINE_NAMES, engineUnderTest } from '../support/engines.ts';
import { flipped } from '../support/flipped.ts';
import { RawClient } from '../support/raw-client.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const KEY = { key: 'files', context: { row: '1' } };
const FRAME = 1_000;
const SIZE = 20 * FRAME + 7;

describe.each(ENGINE_NAMES)('decryptRange, by an agent with the engine %s', async (engine) => {
  const { missing } = await engineUnderTest(engine);
  let agent: TestAgent;
  let dekd: DekdClient;
  beforeAll(async () => {
    if (missing === undefined) {
      agent = await startTestAgent({ engine });
      dekd = connect({ socket: agent.socket });
    }
  });
  afterAll(async () => {
    await dekd?.close();
    await agent?.stop();
  });

  it('is what subarray gives of the plaintext, whatever the frames', async ({ skip }) => {
    skip(missing !== undefined, missing);
    const shape = fc.record({
      length: fc.nat(3_000),
      frameLength: fc.integer({ min: 1, max: 700 }),
      isWhole: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(shape, fc.nat(3_500), fc.nat(3_500), fc.boolean(), async (size, from, to, isOpen) => {
        const { frameLength } = size;
        const plaintext = randomBytes(size.isWhole ? size.length - (size.length % frameLength) : size.length);
        const source = sourceOf(await seal(dekd, plaintext, frameLength));
        const start = Math.min(from, to);
        const end = isOpen ? undefined : Math.max(from, to);
        const part = await dekd.decryptRange(source, { start, end }, KEY);
        expect(Buffer.from(part).equals(plaintext.subarray(start, end))).toBe(true);
      }),
      { numRuns: Number(process.env.DEKD_RUNS ?? 60) },
    );
  });
});

describe('a range of a message', () => {
  let agent: TestAgent;
  let dekd: DekdClient;
  let plaintext: Buffer;
  let message: Buffer;
  let headerLength: number;
  beforeAll(async () => {
    agent = await startTestAgent();
    dekd = connect({ socket: agent.socket });
    plaintext = randomBytes(SIZE);
    message = await seal(dekd, plaintext, FRAME);
    headerLength = readMessageHeader(message)!.length;
  });
  afterAll(async () => {
    await dekd.close();
    await agent.stop();
  });

  const rangeOf = async (bytes: Buffer | MessageSource, range: ByteRange, options: object = KEY) => {
    const source = Buffer.isBuffer(bytes) ? sourceOf(bytes) : bytes;
    try {
      return Buffer.from(await dekd.decryptRange(source, range, { key: 'files', ...options }));
    } catch (error) {
      return DekdError.is(error) ? error.code : error;
    }
  };
  const frameAt = (index: number) => headerLength + frameOffset(index, FRAME);
  const frame = (index: number, of = message) => of.subarray(frameAt(index), frameAt(index + 1));
  const without = (from: number, to: number, inserted: Buffer = Buffer.alloc(0)) =>
    Buffer.concat([message.subarray(0, from), inserted, message.subarray(to)]);

  it('reads header and frames of the range, and nothing else', async () => {
    const source = sourceOf(message);
    const part = await dekd.decryptRange(source, { start: 10 * FRAME - 1, end: 11 * FRAME + 1 }, KEY);
    expect(Buffer.from(part).equals(plaintext.subarray(10 * FRAME - 1, 11 * FRAME + 1))).toBe(true);
    expect(source.reads).toEqual([
      [0, 4_096],
      [frameAt(9), 3 * (FRAME + FRAME_OVERHEAD)],
    ]);
    source.reads.length = 0;
    await dekd.decryptRange(source, { start: SIZE + 5 }, KEY);
    expect(source.reads.at(-1)).toEqual([frameAt(20), 7 + FINAL_FRAME_OVERHEAD]);
  });

  it('is read from a path, from a FileHandle, which stays open, and from a source that gives little at a time', async () => {
    const path = join(temporaryFolder(), 'in.dk');
    writeFileSync(path, message);
    const range = { start: 5, end: 9_999 };
    const expected = plaintext.subarray(5, 9_999);
    expect(Buffer.from(await dekd.decryptRange(path, range, KEY)).equals(expected)).toBe(true);
    const file = await open(path);
    expect(Buffer.from(await dekd.decryptRange(file, range, KEY)).equals(expected)).toBe(true);
    expect((await file.stat()).size).toBe(message.length);
    await file.close();
    const small = {
      size: message.length,
      read: async (at: number, length: number) => message.subarray(at, at + Math.min(100, length)),
    };
    expect(await rangeOf(small, range)).toEqual(expected);
    await expect(dekd.decryptRange(`${path}.gone`, range, KEY)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('has a beginning and an end that are cut to the plaintext, and may be empty', async () => {
    expect(await rangeOf(message, { start: 0 })).toEqual(plaintext);
    expect(await rangeOf(message, { start: SIZE - 3, end: SIZE + 10 * FRAME })).toEqual(plaintext.subarray(-3));
    for (const start of [SIZE, SIZE + 1, Number.MAX_SAFE_INTEGER]) {
      expect(await rangeOf(message, { start })).toEqual(Buffer.alloc(0));
    }
    expect(await rangeOf(message, { start: 7, end: 7 })).toEqual(Buffer.alloc(0));
    const empty = await seal(dekd, Buffer.alloc(0), FRAME);
    expect(await rangeOf(empty, { start: 0 })).toEqual(Buffer.alloc(0));
  });

  it.each([
    [{ start: -1 }],
    [{ start: 0.5 }],
    [{ start: 2, end: 1 }],
    [{ start: 0, end: 2 ** 53 }],
    [{ end: 1 } as ByteRange],
  ])('%j is refused', async (range) => {
    expect(await rangeOf(message, range)).toBe('INVALID_ARGUMENT');
  });

  it.each([
    ['no source', {}],
    ['a size that is none', { size: -1, read: async () => new Uint8Array(1) }],
    ['more than was asked for', { size: 10_000, read: async () => new Uint8Array(10_001) }],
    ['text', { size: 10_000, read: async () => 'text' }],
  ])('is refused of %s', async (_what, source) => {
    expect(await rangeOf(source as unknown as MessageSource, { start: 0 })).toBe('INVALID_ARGUMENT');
  });

  it('rejects with what its source says', async () => {
    const broken = new Error('403 from the store');
    const source = {
      size: message.length,
      read: async (at: number, length: number) => {
        if (at > 5_000) {
          throw broken;
        }
        return message.subarray(at, at + length);
      },
    };
    expect(await rangeOf(source, { start: 10 * FRAME, end: 10 * FRAME + 1 })).toBe(broken);
  });

  it('takes the right to decrypt', async () => {
    const folder = temporaryFolder();
    writeRunConfig(folder);
    const yaml = runYaml().replace('[encrypt, decrypt, reencrypt, anyKey, keyInfo]', '[encrypt]');
    const strict = await startTestAgent({ folder, yaml });
    const client = connect({ socket: strict.socket });
    onTestFinished(async () => {
      await client.close();
      await strict.stop();
    });
    const source = sourceOf(await seal(client, plaintext, FRAME));
    await expect(client.decryptRange(source, { start: 0, end: 1 }, KEY)).rejects.toMatchObject({
      code: 'PERMISSION_DENIED',
    });
  });

  it('opens only under key and context', async () => {
    for (const options of [{ context: undefined }, { context: { row: '2' } }, { key: 'other' }]) {
      expect(await rangeOf(message, { start: 0, end: 1 }, { ...KEY, ...options })).toBe('DECRYPTION_FAILED');
    }
    expect(
      await rangeOf(message, { start: 0, end: 1 }, { anyKey: true, key: undefined, context: KEY.context }),
    ).toEqual(plaintext.subarray(0, 1));
  });

  it('does not say that the rest is there or right, and is refused where it is not right itself', async () => {
    const inThird = { start: 2 * FRAME, end: 3 * FRAME };
    const third = plaintext.subarray(2 * FRAME, 3 * FRAME);
    const garbled = Buffer.from(message);
    garbled.fill(0, frameAt(3), frameAt(19));
    expect(await rangeOf(garbled, inThird)).toEqual(third);
    const other = await seal(dekd, plaintext, FRAME);
    const withFrameLength = (frameLength: number): Buffer => {
      const changed = Buffer.from(message);
      changed.writeUInt32BE(frameLength, headerLength - 16 - 32 - 4);
      return changed;
    };
    const swapped = Buffer.concat([message.subarray(0, frameAt(1)), frame(2), frame(1), message.subarray(frameAt(3))]);
    const cases: readonly (readonly [string, Buffer, string])[] = [
      ['swapped', swapped, 'DECRYPTION_FAILED'],
      ['of another message', without(frameAt(2), frameAt(3), frame(2, other)), 'DECRYPTION_FAILED'],
      ['behind one that was taken out', without(frameAt(1), frameAt(2)), 'DECRYPTION_FAILED'],
      ['with a bit changed', flipped(message, frameAt(2) + 40), 'DECRYPTION_FAILED'],
      ['under a header of a frame length that fits the size', withFrameLength(2 * FRAME + 32), 'DECRYPTION_FAILED'],
      ['under a header of another frame length', withFrameLength(FRAME + 1), 'MALFORMED'],
      [
        'under the header of another message',
        Buffer.concat([other.subarray(0, headerLength), message.subarray(headerLength)]),
        'DECRYPTION_FAILED',
      ],
    ];
    for (const [what, bytes, code] of cases) {
      expect([what, await rangeOf(bytes, inThird)]).toEqual([what, code]);
    }
  });

  it('that ends where the message was cut is MALFORMED only where the end is in question', async () => {
    const atEdge = message.subarray(0, frameAt(10));
    expect(await rangeOf(atEdge, { start: 0, end: 9 * FRAME })).toEqual(plaintext.subarray(0, 9 * FRAME));
    for (const range of [
      { start: 0 },
      { start: 0, end: 10 * FRAME },
      { start: 12 * FRAME },
      { start: 9_500, end: 20_000 },
    ]) {
      expect([range, await rangeOf(atEdge, range)]).toEqual([range, 'MALFORMED']);
    }
    for (const length of [0, 1, headerLength - 1, headerLength, headerLength + 39, frameAt(10) + 33]) {
      expect([length, await rangeOf(message.subarray(0, length), { start: 0, end: 1 })]).toEqual([length, 'MALFORMED']);
    }
    const lying = { ...sourceOf(message), size: message.length + 2 * (FRAME + FRAME_OVERHEAD) };
    expect(await rangeOf(lying, { start: 0, end: FRAME })).toEqual(plaintext.subarray(0, FRAME));
    expect(await rangeOf(lying, { start: 0 })).toBe('MALFORMED');
    expect(await rangeOf({ ...lying, size: message.length - 1 }, { start: 0 })).toBe('MALFORMED');
  });

  it('of a message that has no parts is UNSUPPORTED, and of none at all MALFORMED', async () => {
    const signed = Buffer.from(message);
    signed[1] = 0x05;
    const onePiece = Buffer.from(message);
    onePiece[headerLength - 16 - 32 - 5] = 1;
    onePiece.fill(0, headerLength - 16 - 32 - 4, headerLength - 16 - 32);
    expect(await rangeOf(signed, { start: 0, end: 1 })).toBe('UNSUPPORTED');
    expect(await rangeOf(onePiece, { start: 0, end: 1 })).toBe('UNSUPPORTED');
    expect(await rangeOf(Buffer.from('no message at all'), { start: 0, end: 1 })).toBe('MALFORMED');
    // Nor does an agent open parts of them for a client that asks.
    for (const bytes of [signed, onePiece]) {
      const raw = await RawClient.greeted(agent.socket);
      onTestFinished(() => raw.destroy());
      raw.send({ id: 1, decryptStream: { key: 'files', firstFrame: 2, frames: 1, credit: 10_000 } });
      await raw.reply(1);
      raw.send({ id: 1, streamPart: { data: bytes.subarray(0, headerLength), end: true } });
      expect(errorCodeOf((await raw.reply(1)).error!.code)).toBe('UNSUPPORTED');
    }
  });

  it('with a number that no frame has is refused by the agent', async () => {
    const raw = await RawClient.greeted(agent.socket);
    onTestFinished(() => raw.destroy());
    const { error } = await raw.ask({ id: 1, decryptStream: { key: 'files', firstFrame: 0xffffffff } });
    expect(errorCodeOf(error!.code)).toBe('INVALID_ARGUMENT');
  });
});

describe('decryptRangeStream', () => {
  const LARGE = 24 * 1024 * 1024;
  let agent: TestAgent;
  let dekd: DekdClient;
  let plaintext: Buffer;
  let message: Buffer;
  beforeAll(async () => {
    agent = await startTestAgent();
    dekd = connect({ socket: agent.socket });
    plaintext = randomBytes(LARGE);
    message = await seal(dekd, plaintext, 64 * 1024);
  });
  afterAll(async () => {
    await dekd.close();
    await agent.stop();
  });

  it('gives the range in pieces, and asks its source for no more than the reader takes', async () => {
    const source = sourceOf(message);
    const before = await keySlots(agent);
    let read = 0;
    for await (const piece of dekd.decryptRangeStream(source, { start: 1, end: LARGE - 1 }, KEY)) {
      expect(Buffer.from(piece).equals(plaintext.subarray(1 + read, 1 + read + piece.length))).toBe(true);
      read += piece.length;
      if (read > 8 * 1024 * 1024) {
        break;
      }
    }
    // Windows both ways and what was read ahead of them.
    expect(source.reads.reduce((sum, [, length]) => sum + length, 0)).toBeLessThan(read + 6 * 1024 * 1024);
    await until(async () => (await keySlots(agent)) === before);
  });

  it('is taken by a pipeline', async () => {
    const kept: Uint8Array[] = [];
    const target = new Writable({
      write(chunk: Uint8Array, _encoding, done) {
        kept.push(chunk);
        done();
      },
    });
    await pipeline(dekd.decryptRangeStream(sourceOf(message), { start: LARGE / 2 }, KEY), target);
    expect(Buffer.concat(kept).equals(plaintext.subarray(LARGE / 2))).toBe(true);
  });

  it('ends with the reason of its signal, also one that comes while the header is read', async () => {
    for (const when of [0, 1]) {
      const controller = new AbortController();
      const plain = sourceOf(message);
      let reads = 0;
      const source: MessageSource = {
        size: plain.size,
        read: (at, length) => {
          if (reads++ === when) {
            controller.abort(new Error('no time'));
          }
          return plain.read(at, length);
        },
      };
      const options = { ...KEY, signal: controller.signal };
      await expect(dekd.decryptRange(source, { start: 0 }, options)).rejects.toThrow('no time');
    }
  });
});

interface CountedSource extends MessageSource {
  /** Position and length of every read. */
  readonly reads: [number, number][];
}

function sourceOf(bytes: Buffer): CountedSource {
  const reads: [number, number][] = [];
  return {
    size: bytes.length,
    reads,
    async read(position, length) {
      reads.push([position, length]);
      return bytes.subarray(position, position + length);
    },
  };
}

async function seal(client: DekdClient, plaintext: Buffer, frameLength: number): Promise<Buffer> {
  const stream = client.encryptStream({ ...KEY, frameLength });
  stream.end(plaintext);
  return buffer(stream);
}
