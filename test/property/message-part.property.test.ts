/** Frames of a message without the others: what comes of them, and what is taken for none of them. */
import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DATA_KEY_USE, type Engine } from '../../src/crypto/engine.ts';
import { FINAL_FRAME_OVERHEAD, FRAME_OVERHEAD, frameOffset } from '../../src/envelope/message-body.ts';
import { readMessageHeader } from '../../src/envelope/message-header.ts';
import { DekdError } from '../../src/errors.ts';
import { MessageOpening, type MessagePart } from '../../src/operations/message-opening.ts';
import { sealMessage } from '../../src/operations/message-sealing.ts';
import { ENGINE_NAMES, engineUnderTest, importKey } from '../support/engines.ts';

const RUNS = { numRuns: Number(process.env.DEKD_RUNS ?? 150) };
const DATA_KEY = randomBytes(32);
const NOTHING = new Uint8Array(0);
const FRAME = 16;

interface Message {
  readonly plaintext: Buffer;
  readonly header: Buffer;
  readonly body: Buffer;
  readonly frameLength: number;
}

describe.each(ENGINE_NAMES)('a part of a message, opened by %s', async (name) => {
  const under = await engineUnderTest(name);
  const engine = under.missing === undefined ? under.create() : undefined;

  it('is what the plaintext has there, however it is cut', async ({ skip }) => {
    if (engine === undefined) {
      return skip(under.missing);
    }
    const before = engine.stats().used;
    const shape = fc.record({ length: fc.nat(600), frameLength: fc.integer({ min: 1, max: 120 }) });
    await fc.assert(
      fc.asyncProperty(shape, fc.nat(), fc.nat(), fc.integer({ min: 1, max: 300 }), async (size, from, to, piece) => {
        const message = sealed(engine, size.length, size.frameLength);
        const { plaintext, frameLength } = message;
        const count = Math.max(1, Math.ceil(plaintext.length / frameLength));
        const first = from % count;
        const frames = 1 + (to % (count - first));
        const expected = plaintext.subarray(first * frameLength, (first + frames) * frameLength);
        const bytes = [message.header, framesOf(message, first, frames)];
        const wanted = { firstFrame: first + 1, frames };
        expect(await outcomeOf(engine, wanted, Buffer.concat(bytes), piece)).toEqual({ given: expected, code: 'ok' });
        const tail = [message.header, framesOf(message, first, count - first)];
        const toEnd = { firstFrame: first + 1, frames: 0 };
        const rest = plaintext.subarray(first * frameLength);
        expect(await outcomeOf(engine, toEnd, Buffer.concat(tail), piece)).toEqual({ given: rest, code: 'ok' });
        // More frames than there are is no lie: the final one says so.
        const more = { firstFrame: first + 1, frames: count - first + 5 };
        expect(await outcomeOf(engine, more, Buffer.concat(tail), piece)).toEqual({ given: rest, code: 'ok' });
      }),
      RUNS,
    );
    expect(engine.stats().used).toBe(before);
  });

  it('is refused when it is not that part, and gives nothing of the frame that is wrong', async ({ skip }) => {
    if (engine === undefined) {
      return skip(under.missing);
    }
    const message = sealed(engine, 5 * FRAME + 3, FRAME);
    const other = sealed(engine, 5 * FRAME + 3, FRAME);
    const { header, plaintext } = message;
    const frame = (index: number, of = message) => framesOf(of, index, 1);
    const second = plaintext.subarray(FRAME, 2 * FRAME);
    const cases: readonly (readonly [string, MessagePart, readonly Buffer[], string, Buffer])[] = [
      ['another frame than the first', { firstFrame: 2, frames: 1 }, [frame(2)], 'DECRYPTION_FAILED', none],
      ['a swapped frame', { firstFrame: 2, frames: 2 }, [frame(1), frame(3)], 'DECRYPTION_FAILED', second],
      ['a frame twice', { firstFrame: 2, frames: 2 }, [frame(1), frame(1)], 'DECRYPTION_FAILED', second],
      ['a frame of another message', { firstFrame: 2, frames: 1 }, [frame(1, other)], 'DECRYPTION_FAILED', none],
      ['a frame renumbered', { firstFrame: 2, frames: 1 }, [renumbered(frame(2), 2)], 'DECRYPTION_FAILED', none],
      ['a final frame renumbered', { firstFrame: 2, frames: 0 }, [renumbered(frame(5), 2)], 'DECRYPTION_FAILED', none],
      ['nothing', { firstFrame: 2, frames: 1 }, [], 'MALFORMED', none],
      ['a frame too few', { firstFrame: 2, frames: 2 }, [frame(1)], 'MALFORMED', second],
      ['half a frame', { firstFrame: 2, frames: 1 }, [frame(1).subarray(0, -1)], 'MALFORMED', none],
      [
        'a frame and a half',
        { firstFrame: 2, frames: 2 },
        [frame(1), frame(2).subarray(1, 9)],
        'DECRYPTION_FAILED',
        second,
      ],
      ['a frame too many', { firstFrame: 2, frames: 1 }, [frame(1), frame(2)], 'MALFORMED', second],
      ['no final frame where it was asked for', { firstFrame: 2, frames: 0 }, [frame(1)], 'MALFORMED', second],
      [
        'something behind the final frame',
        { firstFrame: 6, frames: 1 },
        [frame(5), frame(1)],
        'MALFORMED',
        plaintext.subarray(5 * FRAME),
      ],
      ['a number that no message has', { firstFrame: 2 ** 32 - 1, frames: 1 }, [frame(1)], 'INVALID_ARGUMENT', none],
    ];
    for (const [what, part, frames, code, most] of cases) {
      // In one piece, where it is refused as a whole, and by bytes, where what was right before has been given out.
      const whole = await outcomeOf(engine, part, Buffer.concat([header, ...frames]), 1_000);
      expect([what, whole.code, whole.given.equals(most.subarray(0, whole.given.length))]).toEqual([what, code, true]);
      expect([what, await outcomeOf(engine, part, Buffer.concat([header, ...frames]), 1)]).toEqual([
        what,
        { code, given: most },
      ]);
    }
  });

  it('needs the header of that message, byte for byte', async ({ skip }) => {
    if (engine === undefined) {
      return skip(under.missing);
    }
    const message = sealed(engine, 3 * FRAME, FRAME);
    const part = { firstFrame: 2, frames: 1 };
    const changed = Buffer.from(message.header);
    // The frame length, by which a reader finds its frames.
    changed[changed.length - 16 - 32 - 1]! ^= 1;
    const tag = Buffer.from(message.header);
    tag[tag.length - 1]! ^= 1;
    for (const header of [changed, tag, sealed(engine, 3 * FRAME, FRAME).header]) {
      const outcome = await outcomeOf(engine, part, Buffer.concat([header, framesOf(message, 1, 1)]), 1_000);
      expect(outcome).toEqual({ given: none, code: 'DECRYPTION_FAILED' });
    }
  });
});

const none = Buffer.alloc(0);

function sealed(engine: Engine, length: number, frameLength: number): Message {
  const plaintext = randomBytes(length);
  const dataKey = importKey(engine, DATA_KEY, DATA_KEY_USE);
  const dataKeys = [{ providerId: 'test', providerInfo: NOTHING, ciphertext: NOTHING }];
  const fields = { engine, dataKey, dataKeys, context: NOTHING, required: NOTHING, frameLength };
  const bytes = Buffer.from(sealMessage(plaintext, fields));
  engine.destroyKey(dataKey);
  const { length: headerLength } = readMessageHeader(bytes)!;
  return { plaintext, frameLength, header: bytes.subarray(0, headerLength), body: bytes.subarray(headerLength) };
}

function framesOf({ body, frameLength }: Message, first: number, count: number): Buffer {
  const from = frameOffset(first, frameLength);
  const to = from + count * (frameLength + FRAME_OVERHEAD);
  const isLast = body.length - to <= FINAL_FRAME_OVERHEAD - FRAME_OVERHEAD;
  return body.subarray(from, isLast ? body.length : to);
}

/** The frame with another sequence number and the nonce that goes with it. */
function renumbered(frame: Buffer, sequence: number): Buffer {
  const changed = Buffer.from(frame);
  const at = changed.readUInt32BE(0) === 0xffffffff ? 4 : 0;
  changed.writeUInt32BE(sequence, at);
  changed.writeUInt32BE(sequence, at + 12);
  return changed;
}

async function outcomeOf(engine: Engine, part: MessagePart, bytes: Buffer, piece: number) {
  const given: Uint8Array[] = [];
  let opening: MessageOpening | undefined;
  try {
    opening = new MessageOpening({
      engine,
      dataKeyOf: async () => importKey(engine, DATA_KEY, DATA_KEY_USE),
      requiredOf: () => NOTHING,
      part,
    });
    for (let at = 0; at < bytes.length; at += piece) {
      given.push(await opening.push(bytes.subarray(at, at + piece)));
    }
    given.push(opening.end());
    return { given: Buffer.concat(given), code: 'ok' };
  } catch (error) {
    return { given: Buffer.concat(given), code: DekdError.from(error).code };
  } finally {
    opening?.close();
  }
}
