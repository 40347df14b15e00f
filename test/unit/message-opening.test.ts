import {
  createCipheriv,
  createECDH,
  createSign,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DATA_KEY_USE, type Engine, type KeyHandle } from '../../src/crypto/engine.ts';
import { DEFAULT_MESSAGE_LIMITS, type MessageHeader } from '../../src/envelope/message-header.ts';
import { DekdError, type ErrorCode } from '../../src/errors.ts';
import { MessageOpening, type MessageOpeningOptions, openMessage } from '../../src/operations/message-opening.ts';
import { field, u16, u32, u64 } from '../support/big-endian.ts';
import { engineUnderTest } from '../support/engines.ts';

const FRAME = 16;
const NOTHING = Buffer.alloc(0);
const DATA_KEY = randomBytes(32);
const REQUIRED = Buffer.from('the bytes of pairs that are not stored');
const PUBLIC_KEY = 'aws-crypto-public-key';
/** Where a header has the number of its data keys, when its context is the one that `Writer` writes by default. */
const COUNT_OFFSET = 37 + 2 + (2 + 'tenant'.length) + (2 + 'acme'.length);
const MIB = 1024 * 1024;
const signer = generateKeyPairSync('ec', { namedCurve: 'secp384r1' });

/** A message in its parts, written from the layout by other means than the code's. */
interface Message {
  /** Header body and tag. */
  readonly header: Buffer;
  readonly frames: readonly Buffer[];
  /** Length and bytes of the signature; empty in a message that is not signed. */
  readonly footer: Buffer;
  readonly plaintext: Buffer;
  readonly bytes: Buffer;
}

interface MessageFields {
  readonly suite: number;
  readonly pairs: readonly (readonly [string, string])[];
  readonly dataKeys: readonly string[];
  /** 0 for a body that is not framed. */
  readonly frameLength: number;
  readonly id: Buffer;
  readonly privateKey: KeyObject;
}

/** What comes of a message: what was given out, and the refusal. */
interface Outcome {
  readonly given: Buffer;
  readonly code: ErrorCode | undefined;
  readonly text: string;
}

const REFUSALS: ReadonlySet<ErrorCode> = new Set([
  'DECRYPTION_FAILED',
  'MALFORMED',
  'UNSUPPORTED_VERSION',
  'INVALID_ARGUMENT',
]);

/** Writes messages by the published format, with what makes a body of them. */
class Writer {
  readonly header: Buffer;
  readonly #id: Buffer;
  readonly #key: Buffer;

  constructor(fields: Partial<MessageFields> = {}) {
    const { suite = 0x0478, pairs = [['tenant', 'acme']], dataKeys = ['wrapped'], frameLength = FRAME } = fields;
    this.#id = fields.id ?? randomBytes(32);
    const label = Buffer.concat([u16(suite), Buffer.from('DERIVEKEY')]);
    this.#key = Buffer.from(hkdfSync('sha512', DATA_KEY, this.#id, label, 32));
    const context = pairs.length === 0 ? NOTHING : Buffer.concat([u16(pairs.length), ...pairs.flat().map(field)]);
    const body = Buffer.concat([
      Buffer.of(0x02),
      u16(suite),
      this.#id,
      u16(context.length),
      context,
      u16(dataKeys.length),
      ...dataKeys.flatMap((dataKey) => [field('ns'), field('info'), field(dataKey)]),
      Buffer.of(frameLength === 0 ? 1 : 2),
      u32(frameLength),
      Buffer.from(hkdfSync('sha512', DATA_KEY, this.#id, 'COMMITKEY', 32)),
    ]);
    this.header = Buffer.concat([body, this.#sealed(Buffer.alloc(12), Buffer.concat([body, REQUIRED]), NOTHING)]);
  }

  frame(sequence: number, plaintext: Buffer, nonce = nonceOf(sequence)): Buffer {
    return Buffer.concat([u32(sequence), nonce, this.#body('Frame', sequence, plaintext, nonce)]);
  }

  finalFrame(sequence: number, plaintext: Buffer, nonce = nonceOf(sequence)): Buffer {
    const head = Buffer.concat([u32(0xffffffff), u32(sequence), nonce, u32(plaintext.length)]);
    return Buffer.concat([head, this.#body('Final Frame', sequence, plaintext, nonce)]);
  }

  singleBlock(plaintext: Buffer, nonce = randomBytes(12)): Buffer {
    return Buffer.concat([nonce, u64(BigInt(plaintext.length)), this.#body('Single Block', 1, plaintext, nonce)]);
  }

  #body(text: string, sequence: number, plaintext: Buffer, nonce: Buffer): Buffer {
    const kind = Buffer.from(`AWSKMSEncryptionClient ${text}`);
    return this.#sealed(
      nonce,
      Buffer.concat([this.#id, kind, u32(sequence), u64(BigInt(plaintext.length))]),
      plaintext,
    );
  }

  #sealed(nonce: Buffer, aad: Buffer, plaintext: Buffer): Buffer {
    const cipher = createCipheriv('aes-256-gcm', this.#key, nonce).setAAD(aad);
    return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  }
}

const plain = messageOf(randomBytes(2 * FRAME + 5));
const exact = messageOf(randomBytes(3 * FRAME));
const empty = messageOf(NOTHING);
const single = messageOf(randomBytes(50), { frameLength: 0 });
const signed = signedOf(randomBytes(2 * FRAME + 5));
const signedSingle = signedOf(randomBytes(50), { frameLength: 0 });
const unsigned = { plain, exact, empty, single };
const messages = { ...unsigned, signed, signedSingle };

describe.each(['node', 'native'] as const)('a message opened by the %s engine', async (name) => {
  const under = await engineUnderTest(name);
  let engine: Engine;
  let base: MessageOpeningOptions;

  beforeEach(({ skip }) => {
    if (under.missing !== undefined) {
      return skip(under.missing);
    }
    engine = under.create();
    base = { engine, dataKeyOf: async () => dataKeyIn(engine), requiredOf: () => REQUIRED };
  });

  afterEach(() => {
    engine?.close();
  });

  /** Opens a message that comes in these pieces, and sees that no key is left of it. */
  async function outcomeOf(pieces: Iterable<Uint8Array>, change: Partial<MessageOpeningOptions> = {}) {
    const { used } = engine.stats();
    const opening = new MessageOpening({ ...base, ...change });
    const given: Uint8Array[] = [];
    const refusal = await refusalOf(async () => {
      for (const piece of pieces) {
        given.push(await opening.push(piece));
      }
      given.push(opening.end());
    });
    if (engine.stats().used !== used) {
      throw new Error('a key is left');
    }
    return { given: Buffer.concat(given), code: refusal?.code, text: refusal?.message ?? '' } satisfies Outcome;
  }

  /** The refusal of `bytes`, in one piece and in small ones: it is the same, and nothing was given out. */
  async function refused(bytes: Uint8Array, change: Partial<MessageOpeningOptions> = {}) {
    const whole = await outcomeOf([bytes], change);
    for (const size of [1, 37]) {
      const { code, text } = await outcomeOf(inPieces(bytes, size), change);
      expect([size, code, text]).toEqual([size, whole.code, whole.text]);
    }
    expect(whole.given.length).toBe(0);
    return whole;
  }

  describe('cut in any way', () => {
    it.each(Object.keys(messages) as (keyof typeof messages)[])('gives the same plaintext: %s', async (which) => {
      const { bytes, plaintext } = messages[which];
      expect((await openMessage(bytes, base)).length).toBe(plaintext.length);
      for (let size = 1; size <= bytes.length; size += size < 60 ? 1 : 41) {
        const { given, text } = await outcomeOf(inPieces(bytes, size));
        if (text !== '' || !given.equals(plaintext)) {
          expect.fail(`pieces of ${size}: ${text} after ${given.length} bytes`);
        }
      }
      for (let cut = 0; cut <= bytes.length; cut += which.startsWith('signed') ? 7 : 1) {
        const pieces = [bytes.subarray(0, cut), NOTHING, bytes.subarray(cut)];
        const { given, text } = await outcomeOf(pieces);
        if (text !== '' || !given.equals(plaintext)) {
          expect.fail(`cut at ${cut}: ${text} after ${given.length} bytes`);
        }
      }
    });

    it('gives out the plaintext of a frame with the piece that makes it whole, never before', async () => {
      for (const message of Object.values(unsigned)) {
        for (const size of [1, 7, FRAME + 32, 100]) {
          const opening = new MessageOpening(base);
          let given = 0;
          for (let at = 0; at < message.bytes.length; at += size) {
            given += (await opening.push(message.bytes.subarray(at, at + size))).length;
            expect([size, at, given]).toEqual([size, at, wholeIn(message, at + size).length]);
          }
          expect(opening.end().length).toBe(0);
        }
      }
    });

    it('gives memory that is the caller’s, and keeps none that it was given', async () => {
      const opening = new MessageOpening(base);
      const given: Buffer[] = [];
      for (const piece of inPieces(plain.bytes, 29)) {
        const lent = Uint8Array.from(piece);
        const plaintext = await opening.push(lent);
        given.push(Buffer.from(plaintext));
        lent.fill(0xff);
        plaintext.fill(0xff);
      }
      opening.end();
      expect(Buffer.concat(given).equals(plain.plaintext)).toBe(true);
    });

    it('says its header once that is verified', async () => {
      const opening = new MessageOpening(base);
      await opening.push(plain.header.subarray(0, -1));
      expect(opening.header).toBeUndefined();
      await opening.push(plain.header.subarray(-1));
      expect(opening.header).toMatchObject({ suite: 0x0478, frameLength: FRAME, length: plain.header.length });
      await opening.push(Buffer.concat(plain.frames));
      opening.end();
      expect(opening.header).toMatchObject({ length: plain.header.length });
      const forged = new MessageOpening(base);
      await refusalOf(() => forged.push(withBit(plain.bytes, 8 * plain.header.length - 1)));
      expect(forged.header).toBeUndefined();
    });
  });

  it('of another writer, with an empty final frame or nonces of its own, opens as well', async () => {
    const { header, frames } = messageOf(randomBytes(2 * FRAME), { id: Buffer.alloc(32, 1) });
    const odd = new Writer({ id: Buffer.alloc(32, 1) });
    const full = [odd.frame(1, Buffer.alloc(FRAME, 1), randomBytes(12)), odd.frame(2, Buffer.alloc(FRAME, 2))];
    const bytes = Buffer.concat([header, ...full, odd.finalFrame(3, NOTHING, randomBytes(12))]);
    const { given, code } = await outcomeOf(inPieces(bytes, 31));
    expect([code, given.toString('hex')]).toEqual([undefined, '01'.repeat(FRAME) + '02'.repeat(FRAME)]);
    expect((await outcomeOf([header, ...frames])).code).toBeUndefined();
  });

  describe('cut short', () => {
    it.each(Object.keys(messages) as (keyof typeof messages)[])(
      'at any byte is never complete, and gives out whole frames only: %s',
      async (which) => {
        const message = messages[which];
        const { header, footer, bytes } = message;
        for (let length = 0; length < bytes.length; length++) {
          for (const pieces of [[bytes.subarray(0, length)], inPieces(bytes.subarray(0, length), 29)]) {
            const { given, code, text } = await outcomeOf(pieces);
            const missing =
              length < header.length ? 'header' : length < bytes.length - footer.length ? 'final frame' : 'signature';
            const isSaid = text.startsWith(`the message is cut short: its ${missing} `);
            if (code !== 'MALFORMED' || !isSaid || !given.equals(wholeIn(message, length))) {
              expect.fail(`cut at ${length}: ${code}, ${text}, after ${given.length} bytes`);
            }
          }
        }
      },
    );

    it('in a signed message gives out whole frames when asked to, and is said at the end', async () => {
      for (let length = 0; length < signed.bytes.length; length++) {
        const pieces = inPieces(signed.bytes.subarray(0, length), 13);
        const { given, code } = await outcomeOf(pieces, { allowUnverifiedSignature: true });
        expect([length, code, given]).toEqual([length, 'MALFORMED', framesIn(signed, length)]);
      }
    });

    it('is a refusal of openMessage too', async () => {
      for (const { bytes } of Object.values(messages)) {
        await expect(openMessage(bytes.subarray(0, -1), base)).rejects.toMatchObject({ code: 'MALFORMED' });
      }
      expect(engine.stats().used).toBe(0);
    });
  });

  describe('changed', () => {
    it.each(Object.keys(messages) as (keyof typeof messages)[])(
      'in any bit is refused, and gives out nothing from the changed frame on: %s',
      async (which) => {
        const message = messages[which];
        // Less of a signed message, for which a point is looked for on the curve each time.
        const step = which === 'plain' || which === 'single' ? 1 : which.startsWith('signed') ? 29 : 7;
        for (let bit = 0; bit < 8 * message.bytes.length; bit += step) {
          const { given, code } = await outcomeOf(inPieces(withBit(message.bytes, bit), 17));
          if (!given.equals(wholeIn(message, bit >> 3)) || !REFUSALS.has(code!)) {
            expect.fail(`bit ${bit}: ${code} after ${given.length} bytes`);
          }
        }
      },
    );

    it('in any bit gives out nothing when it comes in one piece', async () => {
      for (let bit = 0; bit < 8 * plain.bytes.length; bit += 3) {
        const opening = new MessageOpening(base);
        let given = NOTHING;
        const refusal = await refusalOf(async () => {
          given = Buffer.from(await opening.push(withBit(plain.bytes, bit)));
          opening.end();
        });
        const isBegun = given.length <= 2 * FRAME && given.equals(plain.plaintext.subarray(0, given.length));
        if (!isBegun || !REFUSALS.has(refusal!.code)) {
          expect.fail(`bit ${bit}: ${refusal?.code} after ${given.length} bytes`);
        }
      }
    });

    it('in the order of its frames is refused', async () => {
      const message = messageOf(randomBytes(4 * FRAME + 3));
      for (const order of ['02134', '1234', '0234', '0134', '0124', '4', '04', '00123', '001234', '01233', '43210']) {
        const frames = [...order].map((index) => message.frames[Number(index)]!);
        const { given, code } = await outcomeOf(inPieces(Buffer.concat([message.header, ...frames]), 11));
        expect([order, code]).toEqual([order, 'DECRYPTION_FAILED']);
        expect(given.equals(message.plaintext.subarray(0, given.length))).toBe(true);
        expect(given.length).toBe(FRAME * [...order].findIndex((index, at) => Number(index) !== at));
      }
    });

    it('by frames of another message under the same data key is refused', async () => {
      const other = messageOf(randomBytes(2 * FRAME + 5));
      for (let place = 0; place < 3; place++) {
        const frames = plain.frames.map((frame, index) => (index === place ? other.frames[index]! : frame));
        const { given, code } = await outcomeOf([plain.header, ...frames]);
        expect([place, code, given]).toEqual([place, 'DECRYPTION_FAILED', plain.plaintext.subarray(0, place * FRAME)]);
      }
      expect((await refused(Buffer.concat([other.header, ...plain.frames]))).code).toBe('DECRYPTION_FAILED');
    });

    it('by a header that says something else is refused before any frame', async () => {
      const id = randomBytes(32);
      const written = messageOf(plain.plaintext, { id });
      for (const change of [
        { dataKeys: ['another'] },
        { dataKeys: ['wrapped', 'another'] },
        { pairs: [['tenant', 'other']] as const },
        { pairs: [] },
        { frameLength: FRAME + 1 },
        { frameLength: FRAME - 1 },
        { frameLength: 0 },
      ]) {
        const other = messageOf(plain.plaintext, { id, ...change });
        const edited = Buffer.concat([other.header.subarray(0, -16), written.header.subarray(-16), ...written.frames]);
        expect([change, (await refused(edited)).code]).toEqual([change, 'DECRYPTION_FAILED']);
      }
    });

    it('to the other suite, with the public key that this needs, is refused', async () => {
      const id = randomBytes(32);
      const other = signedOf(plain.plaintext, { id });
      const own = messageOf(plain.plaintext, { id });
      const edited = Buffer.concat([other.header.subarray(0, -16), own.header.subarray(-16), ...own.frames]);
      expect((await refused(edited)).code).toBe('DECRYPTION_FAILED');
    });

    it('by bytes behind it is refused, whether they come with it or later', async () => {
      for (const message of Object.values(messages)) {
        for (const more of [Buffer.of(0), Buffer.alloc(300), message.bytes]) {
          for (const pieces of [[Buffer.concat([message.bytes, more])], [message.bytes, more]]) {
            const { code, text, given } = await outcomeOf(pieces);
            expect([code, text]).toEqual(['MALFORMED', `${more.length} bytes follow the end of the message`]);
            expect(given).toEqual(pieces.length === 2 ? wholeIn(message, message.bytes.length) : NOTHING);
          }
        }
      }
    });

    it('in the number of a frame is refused when that has come, however it is cut', async () => {
      for (const [index, place] of [
        [0, 0],
        [1, 3],
        [2, 0],
        [2, 7],
      ] as const) {
        const frames = plain.frames.map((frame, at) => (at === index ? withBit(frame, 8 * place) : frame));
        const length = plain.header.length + index * (FRAME + 32) + 24;
        const begun = Buffer.concat([plain.header, ...frames]).subarray(0, length);
        for (const size of [1, 17, length]) {
          const { code, given } = await outcomeOf(inPieces(begun, size));
          expect([index, place, size, code]).toEqual([index, place, size, 'DECRYPTION_FAILED']);
          expect(given.length).toBe(size === length ? 0 : index * FRAME);
        }
      }
    });

    it('in the pairs that it does not store is refused', async () => {
      for (const required of [NOTHING, REQUIRED.subarray(1), Buffer.concat([REQUIRED, REQUIRED])]) {
        expect((await refused(plain.bytes, { requiredOf: () => required })).code).toBe('DECRYPTION_FAILED');
      }
    });
  });

  describe('with lengths that mean harm', () => {
    const untouched = vi.fn(async () => dataKeyIn(engine));
    beforeEach(() => {
      untouched.mockClear();
    });

    it('in the header is refused by its limit, before anyone is asked for the data key', async () => {
      const limits = { ...DEFAULT_MESSAGE_LIMITS, maxHeader: 2_000 };
      const huge = new Writer({ frameLength: 0xffffffff }).header;
      const many = Buffer.from(plain.header);
      many.writeUInt16BE(65_535, COUNT_OFFSET);
      const wide = new Writer({ dataKeys: ['x'.repeat(1_500), 'x'.repeat(600)] }).header;
      for (const [header, limit] of [
        [huge, 'maxFrameLength'],
        [many, 'maxDataKeys'],
        [wide, 'maxHeader'],
      ] as const) {
        const { code, text } = await refused(header.subarray(0, 3_000), { dataKeyOf: untouched, limits });
        expect([code, text.includes(limit)]).toEqual(['INVALID_ARGUMENT', true]);
      }
      // The count is refused when it has come, with none of what it counts.
      const { code } = await outcomeOf([many.subarray(0, COUNT_OFFSET + 2)], { dataKeyOf: untouched });
      expect(code).toBe('INVALID_ARGUMENT');
      expect(untouched).not.toHaveBeenCalled();
    });

    it('takes the limits that it is given', async () => {
      const limits = { ...DEFAULT_MESSAGE_LIMITS, maxFrameLength: FRAME };
      expect((await outcomeOf([plain.bytes], { limits })).code).toBeUndefined();
      expect((await refused(plain.bytes, { limits: { ...limits, maxFrameLength: FRAME - 1 } })).code).toBe(
        'INVALID_ARGUMENT',
      );
      expect((await outcomeOf([single.bytes], { limits: { ...limits, maxFrameLength: 50 } })).code).toBeUndefined();
      expect((await refused(single.bytes, { limits: { ...limits, maxFrameLength: 49 } })).text).toContain(
        'body of 50 bytes in one piece is over maxFrameLength of 49',
      );
    });

    it('in a final frame is refused when its head has come', async () => {
      const writer = new Writer();
      const first = writer.frame(1, Buffer.alloc(FRAME));
      for (const length of [FRAME + 1, 65_536, 0x7fffffff, 0xffffffff]) {
        const final = Buffer.concat([u32(0xffffffff), u32(2), nonceOf(2), u32(length)]);
        for (const pieces of [
          [writer.header, first, final],
          inPieces(Buffer.concat([writer.header, first, final]), 1),
        ]) {
          const { given, code } = await outcomeOf(pieces);
          expect([length, code, given.length]).toEqual([length, 'DECRYPTION_FAILED', FRAME]);
        }
      }
    });

    it('in a body that is not framed is refused when its head has come', async () => {
      const { header } = new Writer({ frameLength: 0 });
      for (const length of [2n ** 63n, 2n ** 64n - 1n, 2n ** 53n + 1n, 2n ** 31n, 16n * 1024n * 1024n + 1n]) {
        const { code, text } = await refused(Buffer.concat([header, nonceOf(1), u64(length)]));
        expect([length, code, text]).toEqual([
          length,
          'INVALID_ARGUMENT',
          `body of ${length} bytes in one piece is over maxFrameLength of 16777216`,
        ]);
      }
    });

    it('takes memory for what has come, not for what is said to come', async () => {
      const most = DEFAULT_MESSAGE_LIMITS.maxFrameLength;
      const begun = [
        new Writer({ frameLength: most }).header,
        Buffer.concat([new Writer({ frameLength: most }).header, u32(1), nonceOf(1), Buffer.alloc(1_000)]),
        Buffer.concat([new Writer({ frameLength: most }).header, u32(0xffffffff), u32(1), nonceOf(1), u32(most)]),
        Buffer.concat([new Writer({ frameLength: 0 }).header, nonceOf(1), u64(BigInt(most)), Buffer.alloc(1_000)]),
        new Writer({ dataKeys: ['x'.repeat(60_000)] }).header.subarray(0, 200),
      ];
      for (const bytes of begun) {
        for (const size of [1, bytes.length]) {
          const opening = new MessageOpening(base);
          const before = process.memoryUsage().arrayBuffers;
          for (const piece of inPieces(bytes, size)) {
            await opening.push(piece);
          }
          expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(MIB);
          opening.close();
        }
      }
    });
  });

  describe('with its data key', () => {
    it('asks for it once, when the header is whole, and shows it the header', async () => {
      let come = 0;
      const asked: number[] = [];
      const dataKeyOf = vi.fn(async (_: MessageHeader) => {
        asked.push(come);
        return dataKeyIn(engine);
      });
      function* counted(bytes: Uint8Array) {
        for (const byte of bytes) {
          come++;
          yield Uint8Array.of(byte);
        }
      }
      expect((await outcomeOf(counted(plain.bytes), { dataKeyOf })).code).toBeUndefined();
      expect(asked).toEqual([plain.header.length]);
      expect(dataKeyOf.mock.calls[0]![0]).toMatchObject({ suite: 0x0478, frameLength: FRAME });
      await outcomeOf([plain.bytes], { dataKeyOf });
      expect(asked.length).toBe(2);
    });

    it('throws what keeps it from coming, as it is, and is over', async () => {
      const error = new DekdError('KMS_UNAVAILABLE', 'on purpose');
      const dataKeyOf = vi.fn(async () => {
        throw error;
      });
      const opening = new MessageOpening({ ...base, dataKeyOf });
      await expect(opening.push(plain.bytes)).rejects.toBe(error);
      await expect(opening.push(plain.bytes)).rejects.toBe(error);
      expect(() => opening.end()).toThrow(error);
      expect(dataKeyOf).toHaveBeenCalledTimes(1);
    });

    it('throws what keeps the required pairs from coming, and leaves no key', async () => {
      const error = new DekdError('INVALID_ARGUMENT', 'on purpose');
      const requiredOf = () => {
        throw error;
      };
      const opening = new MessageOpening({ ...base, requiredOf });
      await expect(opening.push(plain.bytes)).rejects.toBe(error);
      expect(engine.stats().used).toBe(0);
    });

    it('that is another one is refused, and destroyed like the right one', async () => {
      const dataKeyOf = async () => engine.generateKey(DATA_KEY_USE);
      for (const { bytes } of Object.values(messages)) {
        expect((await refused(bytes, { dataKeyOf })).code).toBe('DECRYPTION_FAILED');
      }
    });

    it('that is for something else is refused and destroyed', async () => {
      const dataKeyOf = async () => engine.generateKey({ algorithm: 'esdk-0478', purpose: 'message' });
      expect((await outcomeOf([plain.bytes], { dataKeyOf })).code).toBe('INVALID_ARGUMENT');
      expect((await outcomeOf([plain.bytes], { dataKeyOf: async () => 0 as KeyHandle })).code).toBe('INTERNAL');
    });
  });

  describe('that is over', () => {
    it.each([
      ['not a message', Buffer.from('not a message'), 'MALFORMED'],
      ['a frame that was changed', withBit(plain.bytes, 8 * (plain.header.length + 20)), 'DECRYPTION_FAILED'],
      ['bytes behind it', Buffer.concat([plain.bytes, Buffer.of(1)]), 'MALFORMED'],
    ] as const)('by %s throws the same error from then on', async (_, bytes, code) => {
      const opening = new MessageOpening(base);
      const first = await refusalOf(() => opening.push(bytes));
      expect(first!.code).toBe(code);
      for (const more of [NOTHING, plain.bytes, Buffer.of(1)]) {
        await expect(opening.push(more)).rejects.toBe(first);
        expect(await refusalOf(async () => opening.end())).toBe(first);
      }
      opening.close();
      await expect(opening.push(plain.bytes)).rejects.toBe(first);
    });

    it('because it was cut short throws the same error from then on', async () => {
      const opening = new MessageOpening(base);
      await opening.push(plain.bytes.subarray(0, -1));
      const first = await refusalOf(async () => opening.end());
      expect(first!.code).toBe('MALFORMED');
      await expect(opening.push(plain.bytes.subarray(-1))).rejects.toBe(first);
      expect(await refusalOf(async () => opening.end())).toBe(first);
    });

    it('because it was closed in the middle leaves no key', async () => {
      for (let length = 0; length <= signed.bytes.length; length += 23) {
        for (const { bytes } of [plain, single, signed]) {
          const opening = new MessageOpening(base);
          await opening.push(bytes.subarray(0, length));
          opening.close();
          opening.close();
          expect(engine.stats().used).toBe(0);
        }
      }
    });

    it('because it was closed in the middle is refused from then on, and asks for no data key', async () => {
      for (const { bytes } of [plain, single, signed]) {
        for (let length = 0; length < bytes.length; length += 23) {
          const dataKeyOf = vi.fn(base.dataKeyOf);
          const opening = new MessageOpening({ ...base, dataKeyOf });
          await opening.push(bytes.subarray(0, length));
          opening.close();
          dataKeyOf.mockClear();
          const refusal = await refusalOf(() => opening.push(bytes.subarray(length)));
          expect([length, refusal?.code]).toEqual([length, 'CANCELLED']);
          expect(await refusalOf(async () => opening.end())).toBe(refusal);
          expect(dataKeyOf).not.toHaveBeenCalled();
          expect(engine.stats().used).toBe(0);
        }
      }
    });

    it('because it was closed when all had come has no clean end', async () => {
      for (const { bytes } of [signed, signedSingle]) {
        const opening = new MessageOpening(base);
        await opening.push(bytes);
        opening.close();
        expect((await refusalOf(async () => opening.end()))?.code).toBe('CANCELLED');
      }
    });

    it('because it was ended ends once', async () => {
      const opening = new MessageOpening(base);
      await opening.push(signed.bytes);
      expect(Buffer.from(opening.end()).equals(signed.plaintext)).toBe(true);
      expect((await refusalOf(async () => opening.end()))?.code).toBe('INTERNAL');
    });

    it('because it was closed while its data key was awaited leaves no key', async () => {
      const opening = new MessageOpening(base);
      const pushed = refusalOf(() => opening.push(plain.bytes.subarray(0, -1)));
      opening.close();
      await pushed;
      expect(engine.stats().used).toBe(0);
    });
  });

  describe('that is signed', () => {
    it('gives out nothing before its signature is verified, and then all of it', async () => {
      for (const { bytes, plaintext } of [signed, signedSingle, signedOf(NOTHING)]) {
        const opening = new MessageOpening(base);
        for (const piece of inPieces(bytes, 1)) {
          expect((await opening.push(piece)).length).toBe(0);
        }
        expect(Buffer.from(opening.end()).equals(plaintext)).toBe(true);
        expect(Buffer.from(await openMessage(bytes, base)).equals(plaintext)).toBe(true);
      }
    });

    it('by another key, or over other bytes, is refused', async () => {
      const other = generateKeyPairSync('ec', { namedCurve: 'secp384r1' }).privateKey;
      expect((await refused(signedOf(signed.plaintext, { privateKey: other }).bytes)).code).toBe('DECRYPTION_FAILED');
      const body = Buffer.concat([signed.header, ...signed.frames]);
      for (const over of [body.subarray(1), body.subarray(0, -1), Buffer.concat(signed.frames), signed.header]) {
        const wrong = Buffer.concat([body, footerOf(over, signer.privateKey)]);
        expect((await refused(wrong)).code).toBe('DECRYPTION_FAILED');
      }
    });

    it('by what is no signature is refused', async () => {
      const body = Buffer.concat([signed.header, ...signed.frames]);
      const signature = signed.footer.subarray(2);
      let shortest = signature;
      while (shortest.length > 103) {
        shortest = footerOf(body, signer.privateKey).subarray(2);
      }
      for (const [footer, code] of [
        [Buffer.of(0, 0), 'MALFORMED'],
        [u16(105), 'MALFORMED'],
        [u16(0xffff), 'MALFORMED'],
        [field(Buffer.concat([signature, Buffer.alloc(104 - signature.length), Buffer.of(0)])), 'MALFORMED'],
        [field(Buffer.concat([shortest, Buffer.of(0)])), 'DECRYPTION_FAILED'],
        [Buffer.concat([u16(signature.length - 1), signature.subarray(0, -1)]), 'DECRYPTION_FAILED'],
        [Buffer.concat([u16(1), Buffer.of(0)]), 'DECRYPTION_FAILED'],
        [Buffer.concat([u16(8), Buffer.from('3006020100020100', 'hex')]), 'DECRYPTION_FAILED'],
        [Buffer.concat([u16(96), Buffer.alloc(96, 1)]), 'DECRYPTION_FAILED'],
      ] as const) {
        const refusal = await refused(Buffer.concat([body, footer]));
        expect([footer.toString('hex'), refusal.code]).toEqual([footer.toString('hex'), code]);
      }
    });

    it('with no point of the curve for a public key is refused, before anyone is asked for the data key', async () => {
      const dataKeyOf = vi.fn(base.dataKeyOf);
      for (const publicKey of badPublicKeys()) {
        const { code, text } = await refused(signedOf(signed.plaintext, {}, publicKey).bytes, { dataKeyOf });
        expect([publicKey, code, text]).toEqual([
          publicKey,
          'MALFORMED',
          'malformed message header: its public key is no point of P-384',
        ]);
      }
      expect(dataKeyOf).not.toHaveBeenCalled();
    });

    it('without a public key is refused, and one that is not signed with one', async () => {
      const dataKeyOf = vi.fn(base.dataKeyOf);
      const without = messageOf(signed.plaintext, { suite: 0x0578 });
      const withOne = messageOf(plain.plaintext, { pairs: [[PUBLIC_KEY, pointOf(signer.publicKey)]] });
      expect(await refused(without.bytes, { dataKeyOf })).toMatchObject({
        code: 'MALFORMED',
        text: 'malformed message header: its suite is signed and it stores no public key',
      });
      expect(await refused(withOne.bytes, { dataKeyOf })).toMatchObject({
        code: 'MALFORMED',
        text: 'malformed message header: its suite is not signed and it stores a public key',
      });
      expect(dataKeyOf).not.toHaveBeenCalled();
    });

    it('gives frames out as they come when it may, and refuses at the end all the same', async () => {
      const change = { allowUnverifiedSignature: true, maxHeldBack: 0 };
      const opening = new MessageOpening({ ...base, ...change });
      let given = 0;
      for (const [at, piece] of [...inPieces(signed.bytes, 1)].entries()) {
        given += (await opening.push(piece)).length;
        expect([at, given]).toEqual([at, framesIn(signed, at + 1).length]);
      }
      expect(opening.end().length).toBe(0);
      const wrong = await outcomeOf(inPieces(withBit(signed.bytes, 8 * signed.bytes.length - 1), 17), change);
      expect([wrong.code, wrong.given.equals(signed.plaintext)]).toEqual(['DECRYPTION_FAILED', true]);
      const missing = await outcomeOf([signed.header, ...signed.frames], change);
      expect([missing.code, missing.given.equals(signed.plaintext)]).toEqual(['MALFORMED', true]);
    });

    it('is held back up to a limit', async () => {
      const { length } = signed.plaintext;
      expect((await outcomeOf(inPieces(signed.bytes, 17), { maxHeldBack: length })).code).toBeUndefined();
      const { code, text } = await refused(signed.bytes, { maxHeldBack: length - 1 });
      expect(code).toBe('INVALID_ARGUMENT');
      expect(text).toContain(`this one is over ${length - 1} bytes: allowUnverifiedSignature gives it out`);
    });

    it('is held back up to 16 MiB unless it is given another limit', async () => {
      const over = messageOf(Buffer.alloc(16 * MIB + 1), { suite: 0x0578, pairs: signedPairs(), frameLength: MIB });
      expect((await refusalOf(() => openMessage(over.bytes, base)))?.code).toBe('INVALID_ARGUMENT');
    });

    it('may have a signature as long as they get', async () => {
      let longest = signedOf(signed.plaintext);
      while (longest.footer.length < 2 + 104) {
        longest = signedOf(signed.plaintext);
      }
      expect((await outcomeOf(inPieces(longest.bytes, 50))).code).toBeUndefined();
    });

    it('holds back bytes, and keeps nothing of pieces that bring none', async () => {
      const opening = new MessageOpening(base);
      const begun = [new Writer({ suite: 0x0578, pairs: signedPairs(), frameLength: MIB }).header, u32(1), nonceOf(1)];
      await opening.push(Buffer.concat(begun));
      const piece = Buffer.of(0);
      const before = heapUsed();
      for (let i = 0; i < 40_000; i++) {
        await opening.push(piece);
      }
      expect(heapUsed() - before).toBeLessThan(MIB);
      opening.close();
    });

    it('wipes what it held back when it is refused or closed', async () => {
      const outputs = outputsOf(engine);
      const wrong = withBit(signed.bytes, 8 * signed.bytes.length - 1);
      for (const bytes of [signed.bytes.subarray(0, -1), wrong]) {
        const opening = new MessageOpening(base);
        await refusalOf(async () => {
          for (const piece of inPieces(bytes, FRAME)) {
            await opening.push(piece);
          }
        });
        opening.close();
        expect(outputs.length).toBeGreaterThanOrEqual(3);
        expect(outputs.splice(0).every(isZero)).toBe(true);
      }
    });

    it('wipes what the refused piece itself brought', async () => {
      const outputs = outputsOf(engine);
      const wrong = withBit(signed.bytes, 8 * signed.bytes.length - 1);
      expect((await outcomeOf([wrong])).code).toBe('DECRYPTION_FAILED');
      expect(outputs.splice(0).map(isZero)).toEqual([true]);
      expect((await outcomeOf([signed.bytes], { maxHeldBack: 1 })).code).toBe('INVALID_ARGUMENT');
      expect(outputs.splice(0).map(isZero)).toEqual([true]);
      expect((await outcomeOf([Buffer.concat([plain.bytes, Buffer.of(0)])])).code).toBe('MALFORMED');
      expect(outputs.splice(0).map(isZero)).toEqual([true]);
    });
  });
});

function messageOf(plaintext: Buffer, fields: Partial<MessageFields> = {}): Message {
  const { frameLength = FRAME, suite = 0x0478, privateKey = signer.privateKey } = fields;
  const writer = new Writer(fields);
  const frames: Buffer[] = [];
  if (frameLength === 0) {
    frames.push(writer.singleBlock(plaintext));
  } else {
    const last = Math.max(0, Math.ceil(plaintext.length / frameLength) - 1);
    for (let i = 0; i < last; i++) {
      frames.push(writer.frame(i + 1, plaintext.subarray(i * frameLength, (i + 1) * frameLength)));
    }
    frames.push(writer.finalFrame(last + 1, plaintext.subarray(last * frameLength)));
  }
  const unsigned = Buffer.concat([writer.header, ...frames]);
  const footer = suite === 0x0578 ? footerOf(unsigned, privateKey) : NOTHING;
  return { header: writer.header, frames, footer, plaintext, bytes: Buffer.concat([unsigned, footer]) };
}

function signedOf(plaintext: Buffer, fields: Partial<MessageFields> = {}, publicKey?: string): Message {
  return messageOf(plaintext, { suite: 0x0578, pairs: signedPairs(publicKey), ...fields });
}

function signedPairs(publicKey = pointOf(signer.publicKey)): [string, string][] {
  return [
    [PUBLIC_KEY, publicKey],
    ['tenant', 'acme'],
  ];
}

function footerOf(bytes: Uint8Array, privateKey: KeyObject): Buffer {
  return field(createSign('sha384').update(bytes).sign(privateKey));
}

/** The compressed point of a public key, in base64. */
function pointOf(key: KeyObject): string {
  const { x, y } = key.export({ format: 'jwk' });
  const odd = Buffer.from(y!, 'base64url').at(-1)! & 1;
  return Buffer.concat([Buffer.of(2 + odd), Buffer.from(x!, 'base64url')]).toString('base64');
}

function badPublicKeys(): string[] {
  const good = Buffer.from(pointOf(signer.publicKey), 'base64');
  const begun = (first: number) => Buffer.concat([Buffer.of(first), good.subarray(1)]).toString('base64');
  const offCurve = Array.from({ length: 20 }, (_, x) => Buffer.concat([Buffer.of(2), Buffer.alloc(47), Buffer.of(x)]));
  const p256 = createECDH('prime256v1').generateKeys('base64', 'compressed');
  const p384 = createECDH('secp384r1').generateKeys('base64', 'uncompressed');
  return [
    '',
    'AAAA',
    'not base64',
    Buffer.alloc(49).toString('base64'),
    Buffer.alloc(49, 0xff).toString('base64'),
    Buffer.concat([Buffer.of(2), Buffer.alloc(48, 0xff)]).toString('base64'),
    begun(0),
    begun(1),
    begun(4),
    begun(5),
    ` ${good.toString('base64')}`,
    `${good.toString('base64')}\n`,
    good.toString('base64url').replace(/=+$/, ''),
    good.toString('base64').replace(/=+$/, ''),
    good.toString('hex'),
    good.subarray(0, -1).toString('base64'),
    Buffer.concat([good, Buffer.of(0)]).toString('base64'),
    offCurve.find((point) => !isOnCurve(point))!.toString('base64'),
    p256,
    p384,
  ];
}

function isOnCurve(point: Buffer): boolean {
  const x = BigInt(`0x${point.subarray(1).toString('hex')}`);
  const p = 2n ** 384n - 2n ** 128n - 2n ** 96n + 2n ** 32n - 1n;
  const b = 0xb3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aefn;
  const square = (x ** 3n - 3n * x + b) % p;
  return powerOf(square, (p - 1n) / 2n, p) === 1n;
}

function powerOf(base: bigint, exponent: bigint, modulus: bigint): bigint {
  let result = 1n;
  for (let factor = base % modulus, rest = exponent; rest > 0n; rest >>= 1n, factor = (factor * factor) % modulus) {
    result = rest & 1n ? (result * factor) % modulus : result;
  }
  return result;
}

/** The plaintext that may be given out when so many bytes of a message have come. */
function wholeIn(message: Message, length: number): Buffer {
  return message.footer.length > 0 ? NOTHING : framesIn(message, length);
}

/** The plaintext of the frames that are whole in so many bytes of a message. */
function framesIn({ header, frames, plaintext }: Message, length: number): Buffer {
  let end = header.length;
  let whole = 0;
  for (const frame of frames) {
    end += frame.length;
    whole += end <= length ? 1 : 0;
  }
  return whole === frames.length ? plaintext : plaintext.subarray(0, whole * FRAME);
}

/** Where the engine puts plaintext, from now on. */
function outputsOf(engine: Engine): Uint8Array[] {
  const outputs: Uint8Array[] = [];
  const openFrames = engine.openFrames.bind(engine);
  vi.spyOn(engine, 'openFrames').mockImplementation((message, body, output) => {
    outputs.push(output);
    return openFrames(message, body, output);
  });
  return outputs;
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

/** Bytes of the heap that are reachable. */
function heapUsed(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  return process.memoryUsage().heapUsed;
}

function* inPieces(bytes: Uint8Array, size: number): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) {
    yield bytes.subarray(at, at + size);
  }
}

function withBit(bytes: Uint8Array, bit: number): Buffer {
  const changed = Buffer.from(bytes);
  changed[bit >> 3]! ^= 1 << (bit & 7);
  return changed;
}

function dataKeyIn(engine: Engine): KeyHandle {
  return engine.importSecret(Uint8Array.from(DATA_KEY), DATA_KEY_USE);
}

/** The DekdError that `work` throws. */
async function refusalOf(work: () => Promise<unknown>): Promise<DekdError | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    if (!(error instanceof DekdError)) {
      throw error;
    }
    return error;
  }
}

function nonceOf(sequence: number): Buffer {
  return Buffer.concat([Buffer.alloc(8), u32(sequence)]);
}
