import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DATA_KEY_USE, type Engine, type KeyHandle } from '../../src/crypto/engine.ts';
import { JsMessages, type MessageHost } from '../../src/crypto/js-messages.ts';
import { newMessage } from '../../src/crypto/message-frames.ts';
import { encodeContext } from '../../src/envelope/context.ts';
import { readMessageHeader } from '../../src/envelope/message-header.ts';
import { DekdError } from '../../src/errors.ts';
import { openMessage } from '../../src/operations/message-opening.ts';
import { MessageSealing, type MessageSealingOptions, sealMessage } from '../../src/operations/message-sealing.ts';
import { engineUnderTest } from '../support/engines.ts';
import { codeOf } from '../support/refusal.ts';

const FRAME = 16;
const SEALED_FRAME = FRAME + 32;
const LENGTHS = [0, 1, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME, 3 * FRAME - 1, 3 * FRAME, 7 * FRAME + 3];
const PIECES = [1, 5, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME - 1, 2 * FRAME, 2 * FRAME + 1, 1_000];
const BYTES = randomBytes(32);

describe.each(['node', 'native'] as const)('a message sealed by the %s engine', async (name) => {
  const under = await engineUnderTest(name);
  let engine: Engine;
  let options: MessageSealingOptions;

  beforeEach(({ skip }) => {
    if (under.missing !== undefined) {
      return skip(under.missing);
    }
    engine = under.create();
    options = {
      engine,
      dataKey: dataKeyIn(engine),
      dataKeys: [{ providerId: 'aws-kms', providerInfo: Buffer.from('arn'), ciphertext: randomBytes(40) }],
      context: encodeContext({ tenant: 'acme' }),
      required: encodeContext({ purpose: 'files' }),
      frameLength: FRAME,
    };
  });

  afterEach(() => {
    engine?.close();
  });

  function opened(message: Uint8Array, required = options.required): Promise<Uint8Array> {
    return openMessage(message, { engine, dataKeyOf: async () => dataKeyIn(engine), requiredOf: () => required });
  }

  describe('in pieces', () => {
    it('has the frames that it has when it is sealed in one call, and opens to its plaintext', async () => {
      for (const length of LENGTHS) {
        const plaintext = randomBytes(length);
        const whole = framesOf(sealMessage(plaintext, options));
        for (const size of PIECES) {
          const message = sealedInPieces(plaintext, size, options);
          expect([length, size, framesOf(message)]).toEqual([length, size, whole]);
          expect(Buffer.from(await opened(message)).equals(plaintext)).toBe(true);
        }
      }
    });

    it('lies in the room that it is given, where it fits, and opens to its plaintext', async () => {
      const sealing = new MessageSealing(options);
      const room = new Uint8Array(2 * SEALED_FRAME);
      const plaintext = randomBytes(6 * FRAME);
      const parts: Uint8Array[] = [sealing.header];
      for (const [from, to] of [
        [0, 2],
        [2, 4],
        [4, 6],
      ] as const) {
        const made = sealing.update(plaintext.subarray(from * FRAME, to * FRAME), room);
        expect(made.buffer).toBe(room.buffer);
        parts.push(made.slice());
      }
      expect(sealing.update(randomBytes(0), room)).toHaveLength(0);
      parts.push(sealing.end());
      expect(Buffer.from(await opened(Buffer.concat(parts))).equals(plaintext)).toBe(true);
      const other = new MessageSealing(options);
      const made = other.update(randomBytes(4 * FRAME), room);
      expect(made).toHaveLength(3 * SEALED_FRAME);
      expect(made.buffer).not.toBe(room.buffer);
      other.close();
    });

    it('of all sizes, empty ones among them, opens to its plaintext', async () => {
      const pieces = [0, 3, 0, 13, 16, 40, 1, 0, 33, 7, 95, 0].map((size) => randomBytes(size));
      const sealing = new MessageSealing(options);
      const sealed = [sealing.header, ...pieces.map((piece) => sealing.update(piece)), sealing.end()];
      const plaintext = Buffer.concat(pieces);
      expect(Buffer.from(await opened(Buffer.concat(sealed))).equals(plaintext)).toBe(true);
      expect(sealed.map(({ length }) => length).slice(1)).toEqual(lengthsGiven(pieces));
    });

    it('comes out of update in whole frames, each as soon as something follows it', () => {
      for (const size of PIECES) {
        const sealing = new MessageSealing(options);
        for (let taken = size, given = 0; taken <= 7 * FRAME; taken += size) {
          const sealed = sealing.update(randomBytes(size));
          given += sealed.length / SEALED_FRAME;
          expect([size, taken, given]).toEqual([size, taken, Math.floor((taken - 1) / FRAME)]);
          expect(sealed.length % SEALED_FRAME).toBe(0);
        }
        sealing.close();
      }
    });

    it('keeps nothing of the memory that it was given or gave out', async () => {
      const plaintext = randomBytes(3 * FRAME + 5);
      const sealing = new MessageSealing(options);
      const sealed: Buffer[] = [Buffer.from(sealing.header)];
      for (let at = 0; at < plaintext.length; at += 11) {
        const piece = Uint8Array.from(plaintext.subarray(at, at + 11));
        const given = sealing.update(piece);
        sealed.push(Buffer.from(given));
        piece.fill(0xff);
        given.fill(0xff);
      }
      sealed.push(Buffer.from(sealing.end()));
      expect(Buffer.from(await opened(Buffer.concat(sealed))).equals(plaintext)).toBe(true);
    });
  });

  it('has full frames, the last of them at an exact multiple too, and an empty one only when it is empty', () => {
    const plaintextOf = (length: number) => framesOf(sealMessage(randomBytes(length), options));
    expect(plaintextOf(0)).toEqual(['final 1: 0']);
    expect(plaintextOf(1)).toEqual(['final 1: 1']);
    expect(plaintextOf(FRAME)).toEqual([`final 1: ${FRAME}`]);
    expect(plaintextOf(FRAME + 1)).toEqual(['1', 'final 2: 1']);
    expect(plaintextOf(3 * FRAME)).toEqual(['1', '2', `final 3: ${FRAME}`]);
  });

  it('begins with the header that says what it was given, and binds the pairs that this does not store', async () => {
    const sealing = new MessageSealing(options);
    const header = readMessageHeader(sealing.header)!;
    expect(header).toMatchObject({ suite: 0x0478, frameLength: FRAME, length: sealing.header.length });
    expect(header.context).toEqual(new Uint8Array(options.context));
    expect(header.dataKeys).toEqual([
      {
        providerId: 'aws-kms',
        providerInfo: new Uint8Array(Buffer.from('arn')),
        ciphertext: new Uint8Array(options.dataKeys[0]!.ciphertext),
      },
    ]);
    for (const message of [Buffer.concat([sealing.header, sealing.end()]), sealMessage(Buffer.from('x'), options)]) {
      await expect(opened(message, encodeContext({}))).rejects.toMatchObject({ code: 'DECRYPTION_FAILED' });
      await expect(opened(message, encodeContext({ purpose: 'file' }))).rejects.toMatchObject({
        code: 'DECRYPTION_FAILED',
      });
      await expect(opened(message)).resolves.toBeDefined();
    }
  });

  it('has an id and a commitment of its own, whatever the data key', () => {
    const headers = [sealMessage(BYTES, options), sealMessage(BYTES, options), new MessageSealing(options).header].map(
      (message) => readMessageHeader(message)!,
    );
    expect(new Set(headers.map(({ messageId }) => Buffer.from(messageId).toString('hex'))).size).toBe(3);
    expect(new Set(headers.map(({ commitment }) => Buffer.from(commitment).toString('hex'))).size).toBe(3);
  });

  describe('leaves of its key nothing behind', () => {
    it('when it is done, in one call or in several; the data key stays', () => {
      const { used } = engine.stats();
      sealMessage(randomBytes(50), options);
      const sealing = new MessageSealing(options);
      expect(engine.stats().used).toBe(used + 1);
      sealing.end();
      expect(engine.stats().used).toBe(used);
      sealMessage(randomBytes(50), options);
    });

    it('when it is closed in the middle, also twice', () => {
      const { used } = engine.stats();
      const sealing = new MessageSealing(options);
      sealing.update(randomBytes(50));
      sealing.close();
      sealing.close();
      expect(engine.stats().used).toBe(used);
    });

    it('when its header cannot be written', () => {
      const { used } = engine.stats();
      const [dataKey] = options.dataKeys;
      for (const change of [
        { dataKeys: [] },
        { dataKeys: [{ ...dataKey!, providerId: '\ud800' }] },
        { dataKeys: [{ ...dataKey!, ciphertext: new Uint8Array(65_536) }] },
        { context: Uint8Array.of(0, 0) },
        { context: Uint8Array.of(0, 1, 0, 1, 97) },
        { frameLength: 0 },
        { frameLength: 1.5 },
        { frameLength: 2 ** 32 },
      ]) {
        const changed = { ...options, ...change };
        expect([change, codeOf(() => new MessageSealing(changed))]).toEqual([change, 'INVALID_ARGUMENT']);
        expect([change, codeOf(() => sealMessage(BYTES, changed))]).toEqual([change, 'INVALID_ARGUMENT']);
        expect(engine.stats().used).toBe(used);
      }
    });

    it('when the tag of its header or a frame cannot be made', () => {
      const { used } = engine.stats();
      for (const step of ['sealHeader', 'sealFrames'] as const) {
        const spy = vi.spyOn(engine, step).mockImplementation(() => {
          throw new DekdError('INTERNAL', 'on purpose');
        });
        expect(codeOf(() => sealMessage(BYTES, options))).toBe('INTERNAL');
        if (step === 'sealHeader') {
          expect(codeOf(() => new MessageSealing(options))).toBe('INTERNAL');
        }
        expect(engine.stats().used).toBe(used);
        spy.mockRestore();
      }
    });
  });

  describe('after it was ended or closed', () => {
    it.each(['end', 'close'] as const)('by %s, gives no frames to anyone who goes on', (finish) => {
      const sealing = new MessageSealing(options);
      sealing.update(randomBytes(FRAME + 4));
      sealing[finish]();
      expect(codeOf(() => sealing.update(randomBytes(2 * FRAME)))).toBe('INTERNAL');
      expect(codeOf(() => sealing.end())).toBe('INTERNAL');
    });

    it.each(['end', 'close'] as const)('by %s, takes no plaintext without saying so', (finish) => {
      const sealing = new MessageSealing(options);
      sealing[finish]();
      expect(codeOf(() => sealing.update(randomBytes(FRAME - 1)))).toBe('INTERNAL');
      expect(codeOf(() => sealing.update(Buffer.from('x')))).toBe('INTERNAL');
    });

    it.each(['end', 'close'] as const)('by %s, has no plaintext left in memory', (finish) => {
      const sealFrames = vi.spyOn(engine, 'sealFrames');
      const sealing = new MessageSealing(options);
      sealing.update(Buffer.alloc(FRAME - 1, 0xaa));
      sealing.update(Buffer.alloc(FRAME - 1, 0xbb));
      const held = sealFrames.mock.calls[0]![1];
      expect(held.some((byte) => byte !== 0)).toBe(true);
      sealing[finish]();
      expect(held).toEqual(new Uint8Array(FRAME));
    });
  });
});

describe('numbers of frames', () => {
  it('stop before the mark of the final frame, and nothing is written then', () => {
    const state = newMessage(randomBytes(32), 1, 'sealFrames');
    const messages = new JsMessages({
      library: { gcmSeal: () => undefined },
      require: () => ({ message: state }),
    } as unknown as MessageHost<unknown>);
    const seal = (length: number, isLast: boolean) => {
      const output = new Uint8Array(length * 33 + (isLast ? 8 : 0));
      const code = codeOf(() => messages.sealFrames(1 as KeyHandle, new Uint8Array(length), isLast, output));
      return [code, output.some((byte) => byte !== 0)];
    };
    state.nextSequence = 0xffff_fffd;
    expect([seal(3, false), seal(3, true)]).toEqual([
      ['INVALID_ARGUMENT', false],
      ['INVALID_ARGUMENT', false],
    ]);
    expect([seal(1, false), seal(1, true)]).toEqual([
      [undefined, true],
      [undefined, true],
    ]);
  });
});

describe('a table that is full', () => {
  it('is said, and nothing is sealed', async () => {
    const under = await engineUnderTest('node');
    const engine = under.missing === undefined ? under.create(1) : undefined;
    const options = {
      engine: engine!,
      dataKey: dataKeyIn(engine!),
      dataKeys: [],
      context: new Uint8Array(0),
      required: new Uint8Array(0),
      frameLength: FRAME,
    };
    expect(codeOf(() => new MessageSealing(options))).toBe('RESOURCE_EXHAUSTED');
    expect(codeOf(() => sealMessage(BYTES, options))).toBe('RESOURCE_EXHAUSTED');
    engine!.close();
  });
});

function dataKeyIn(engine: Engine): KeyHandle {
  return engine.importSecret(Uint8Array.from(BYTES), DATA_KEY_USE);
}

function sealedInPieces(plaintext: Uint8Array, size: number, options: MessageSealingOptions): Buffer {
  const sealing = new MessageSealing(options);
  const sealed = [sealing.header];
  for (let at = 0; at < plaintext.length; at += size) {
    sealed.push(sealing.update(plaintext.subarray(at, at + size)));
  }
  return Buffer.concat([...sealed, sealing.end()]);
}

/** Bytes that each update gives for these pieces, and then the end. */
function lengthsGiven(pieces: readonly Uint8Array[]): number[] {
  let held = 0;
  const given = pieces.map(({ length }) => {
    const frames = Math.max(0, Math.ceil((held + length) / FRAME) - 1);
    held += length - frames * FRAME;
    return frames * SEALED_FRAME;
  });
  return [...given, held + 40];
}

/** The frames of a message: the number of each, and what the final one holds. */
function framesOf(message: Uint8Array): string[] {
  const body = Buffer.from(message.subarray(readMessageHeader(message)!.length));
  const frames: string[] = [];
  let at = 0;
  for (; body.readUInt32BE(at) !== 0xffffffff; at += SEALED_FRAME) {
    frames.push(`${body.readUInt32BE(at)}`);
  }
  const length = body.readUInt32BE(at + 20);
  expect(body.length - at).toBe(length + 40);
  return [...frames, `final ${body.readUInt32BE(at + 4)}: ${length}`];
}
