import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BegunMessage, Engine, KeyHandle } from '../../src/crypto/engine.ts';
import {
  BODY_USE,
  DATA_KEY_INFO_LENGTH,
  DATA_KEY_USE,
  ENCRYPTED_DATA_KEY_LENGTH,
  MESSAGE_KEY_USE,
  RAW_AES_INFO_TAIL,
  RAW_AES_USE,
  SECRET_USE,
} from '../../src/crypto/engine.ts';
import { u32, u64 } from '../support/big-endian.ts';
import { type EngineUnderTest, importKey } from '../support/engines.ts';
import { codeOf } from '../support/refusal.ts';

const FRAME = 64;
const SEALED_FRAME = FRAME + 32;
const HEADER = Buffer.from('the bytes of a header');
const REQUIRED = Buffer.from('pairs that are not in it');
const NOTHING = new Uint8Array(0);

interface Sealed {
  readonly id: Uint8Array;
  readonly commitment: Uint8Array;
  readonly tag: Uint8Array;
  readonly body: Buffer;
}

/** What every engine does with messages of the AWS Encryption SDK. */
export function describeMessages(under: EngineUnderTest): void {
  describe(`messages of the ${under.name} engine`, () => {
    let engine: Engine;
    let bytes: Buffer;
    let dataKey: KeyHandle;

    beforeEach(({ skip }) => {
      if (under.missing !== undefined) {
        skip(under.missing);
      } else {
        engine = under.create();
        bytes = randomBytes(32);
        dataKey = importKey(engine, bytes, DATA_KEY_USE);
      }
    });

    afterEach(() => {
      engine?.close();
    });

    function begin(frameLength = FRAME): BegunMessage {
      return engine.beginMessage(dataKey, frameLength);
    }

    function sealAll(plaintext: Uint8Array, frameLength = FRAME): Sealed {
      const { message, id, commitment } = begin(frameLength);
      const tag = engine.sealHeader(message, HEADER, REQUIRED);
      const body = Buffer.alloc(lengthOf(plaintext.length, frameLength));
      engine.sealFrames(message, plaintext, true, body);
      engine.destroyKey(message);
      return { id, commitment, tag, body };
    }

    function reopen({ id, commitment, tag }: Omit<Sealed, 'body'>, frameLength = FRAME): KeyHandle {
      const message = engine.resumeMessage(dataKey, 0x0478, id, frameLength, commitment);
      expect(engine.verifyHeader(message, HEADER, REQUIRED, tag)).toBe(true);
      return message;
    }

    /** Opens `body` in one call; undefined when it is refused, and then the output is checked to be zeros. */
    function openAll(sealed: Omit<Sealed, 'body'>, body: Uint8Array, frameLength = FRAME) {
      const message = reopen(sealed, frameLength);
      const output = Buffer.alloc(body.length);
      const opened = engine.openFrames(message, body, output);
      engine.destroyKey(message);
      if (opened === undefined) {
        expect(output.equals(Buffer.alloc(body.length))).toBe(true);
        return undefined;
      }
      return { ...opened, plaintext: output.subarray(0, opened.produced) };
    }

    function bodyKeyOf(id: Uint8Array): Buffer {
      const label = Buffer.concat([Buffer.of(0x04, 0x78), Buffer.from('DERIVEKEY')]);
      return Buffer.from(hkdfSync('sha512', bytes, id, label, 32));
    }

    describe('keys', () => {
      it('are committed to as the AWS Encryption SDK does for a data key and an id of zeros', () => {
        const zeros = importKey(engine, new Uint8Array(32), DATA_KEY_USE);
        const commitment = Buffer.from('Qz2Df1nLfpvGM00VSv+DEQnGNy2Y+LWshYi/9++rplE=', 'base64');
        const { used } = engine.stats();
        const message = engine.resumeMessage(zeros, 0x0478, new Uint8Array(32), FRAME, commitment);
        // The tag under the known key of the body.
        const key = Buffer.from('qSmd3ox7r+cIeGmJhuguY3i5S/LMKVUYJGgWR7rhE6M=', 'base64');
        const tag = sealedWith(key, Buffer.alloc(12), HEADER, NOTHING);
        expect(engine.verifyHeader(message, HEADER, NOTHING, tag)).toBe(true);
        engine.destroyKey(message);
        commitment[0]! ^= 1;
        expect(codeOf(() => engine.resumeMessage(zeros, 0x0478, new Uint8Array(32), FRAME, commitment))).toBe(
          'DECRYPTION_FAILED',
        );
        expect(engine.stats().used).toBe(used);
      });

      it('are other ones in the signed suite, with the same commitment', () => {
        const sealed = sealAll(Buffer.from('x'));
        const message = engine.resumeMessage(dataKey, 0x0578, sealed.id, FRAME, sealed.commitment);
        expect(engine.verifyHeader(message, HEADER, REQUIRED, sealed.tag)).toBe(false);
      });

      it('do only what they are for', () => {
        const { message } = begin();
        const messageKey = engine.generateKey(MESSAGE_KEY_USE);
        const refused = [
          () => engine.beginMessage(messageKey, FRAME),
          () => engine.beginMessage(message, FRAME),
          () => engine.beginMessage(engine.generateKey(SECRET_USE), FRAME),
          () => engine.sealHeader(dataKey, HEADER, NOTHING),
          () => engine.wrapDataKey(dataKey, dataKey, NOTHING),
          () => engine.wrapDataKey(messageKey, messageKey, NOTHING),
          () => engine.importSecret(randomBytes(32), BODY_USE),
          () => engine.beginMessage(dataKey, 0),
          () => engine.beginMessage(dataKey, 2 ** 32),
          () => engine.resumeMessage(dataKey, 0x0478, new Uint8Array(16), FRAME, new Uint8Array(32)),
        ];
        expect(refused.map(codeOf)).toEqual(refused.map(() => 'INVALID_ARGUMENT'));
        engine.destroyKey(message);
        expect(codeOf(() => engine.sealHeader(message, HEADER, NOTHING))).toBe('INTERNAL');
      });

      it('come from what a provider unwrapped, which is zeros afterwards', () => {
        const given = Uint8Array.from(bytes);
        const imported = engine.importSecret(given, DATA_KEY_USE);
        expect(given).toEqual(new Uint8Array(32));
        expect(engine.kid(imported)).toEqual(engine.kid(dataKey));
        expect(Buffer.from(engine.exposeSecret(imported))).toEqual(bytes);
        const refused = Uint8Array.from(bytes);
        expect(codeOf(() => engine.importSecret(refused, MESSAGE_KEY_USE))).toBe('INVALID_ARGUMENT');
        expect(refused).toEqual(new Uint8Array(32));
      });
    });

    describe('bodies', () => {
      it('have the bytes that the format says, with the sequence number for a nonce', () => {
        const plaintext = randomBytes(FRAME + 3);
        const { id, commitment, tag, body } = sealAll(plaintext);
        const key = bodyKeyOf(id);
        expect(Buffer.from(commitment)).toEqual(Buffer.from(hkdfSync('sha512', bytes, id, 'COMMITKEY', 32)));
        expect(Buffer.from(tag)).toEqual(sealedWith(key, Buffer.alloc(12), Buffer.concat([HEADER, REQUIRED]), NOTHING));
        const first = Buffer.concat([nonceOf(1), frame(key, id, 'Frame', 1, plaintext.subarray(0, FRAME))]);
        const last = frame(key, id, 'Final Frame', 2, plaintext.subarray(FRAME));
        const expected = [u32(1), first, u32(0xffffffff), u32(2), nonceOf(2), u32(3), last];
        expect(body).toEqual(Buffer.concat(expected));
      });

      it.each([1, 16, FRAME, 1_000])('come back at every edge of frames of %i bytes', (frameLength) => {
        for (const length of [0, 1, frameLength - 1, frameLength, frameLength + 1, 3 * frameLength]) {
          const plaintext = randomBytes(length);
          const { body, ...sealed } = sealAll(plaintext, frameLength);
          const opened = openAll(sealed, body, frameLength);
          expect(opened).toMatchObject({ consumed: body.length, produced: length, final: true });
          expect(opened?.plaintext.equals(plaintext)).toBe(true);
        }
      });

      it('are sealed in several calls and opened in pieces of any size', () => {
        const plaintext = randomBytes(5 * FRAME + 9);
        const { message, id, commitment } = begin();
        const tag = engine.sealHeader(message, HEADER, REQUIRED);
        const parts: Buffer[] = [];
        for (const [from, to] of [
          [0, 1],
          [1, 1],
          [1, 4],
        ] as const) {
          const part = Buffer.alloc((to - from) * SEALED_FRAME);
          engine.sealFrames(message, plaintext.subarray(from * FRAME, to * FRAME), false, part);
          parts.push(part);
        }
        const rest = Buffer.alloc(lengthOf(FRAME + 9, FRAME));
        engine.sealFrames(message, plaintext.subarray(4 * FRAME), true, rest);
        const body = Buffer.concat([...parts, rest]);
        for (const piece of [1, 7, SEALED_FRAME - 1, SEALED_FRAME, SEALED_FRAME + 1, 1_000]) {
          const opening = reopen({ id, commitment, tag });
          let waiting = Buffer.alloc(0);
          let got = Buffer.alloc(0);
          let ended = false;
          for (let at = 0; at < body.length; at += piece) {
            expect(ended).toBe(false);
            waiting = Buffer.concat([waiting, body.subarray(at, at + piece)]);
            const output = Buffer.alloc(waiting.length);
            const opened = engine.openFrames(opening, waiting, output);
            got = Buffer.concat([got, output.subarray(0, opened!.produced)]);
            waiting = waiting.subarray(opened!.consumed);
            ended = opened!.final;
          }
          expect([ended, waiting.length, got.equals(plaintext)]).toEqual([true, 0, true]);
          engine.destroyKey(opening);
        }
      });

      it('are refused with any bit changed, and then nothing more is opened', () => {
        const { body, ...sealed } = sealAll(randomBytes(FRAME + 5));
        for (let bit = 0; bit < 8 * body.length; bit += under.name === 'noble' ? 7 : 1) {
          const changed = Buffer.from(body);
          changed[bit >> 3]! ^= 1 << (bit & 7);
          // A changed length can say that more is to come, which only the end of the message shows to be wrong.
          expect(openAll(sealed, changed)?.final ?? false).toBe(false);
        }
        const message = reopen(sealed);
        const changed = Buffer.from(body);
        changed[20]! ^= 1;
        expect(engine.openFrames(message, changed, Buffer.alloc(body.length))).toBeUndefined();
        expect(codeOf(() => engine.openFrames(message, body, Buffer.alloc(body.length)))).toBe('INVALID_ARGUMENT');
      });

      it('are refused with frames left out, repeated, exchanged or of another message', () => {
        const plaintext = randomBytes(3 * FRAME + 5);
        const { body, ...sealed } = sealAll(plaintext);
        const other = sealAll(plaintext);
        const part = (index: number, of = body) =>
          of.subarray(index * SEALED_FRAME, index === 3 ? of.length : (index + 1) * SEALED_FRAME);
        for (const order of [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 0, 1, 2, 3], [0, 2, 1, 3], [3], [0, 3]]) {
          expect([order, openAll(sealed, Buffer.concat(order.map((index) => part(index))))]).toEqual([
            order,
            undefined,
          ]);
        }
        const spliced = Buffer.concat([part(0), part(1, other.body), part(2), part(3)]);
        expect(openAll(sealed, spliced)).toBeUndefined();
      });

      it('that are cut off have no final frame, and what follows one is left alone', () => {
        const plaintext = randomBytes(2 * FRAME);
        const { body, ...sealed } = sealAll(plaintext);
        for (let length = 0; length < body.length; length++) {
          expect(openAll(sealed, body.subarray(0, length))).toMatchObject({ final: false });
        }
        const followed = openAll(sealed, Buffer.concat([body, Buffer.from('more')]));
        expect(followed).toMatchObject({ consumed: body.length, final: true });
      });

      it('that are not framed open once they are whole', () => {
        const { message, id, commitment } = begin();
        const tag = engine.sealHeader(message, HEADER, REQUIRED);
        const plaintext = randomBytes(100);
        const nonce = randomBytes(12);
        const aad = Buffer.concat([id, Buffer.from('AWSKMSEncryptionClient Single Block'), u32(1), u64(100n)]);
        const body = Buffer.concat([nonce, u64(100n), sealedWith(bodyKeyOf(id), nonce, aad, plaintext)]);
        const sealed = { id, commitment, tag };
        for (const length of [0, 5, 19, 20, body.length - 1]) {
          expect(openAll(sealed, body.subarray(0, length), 0)).toMatchObject({ consumed: 0, final: false });
        }
        const opened = openAll(sealed, body, 0);
        expect(opened).toMatchObject({ consumed: body.length, final: true });
        expect(opened?.plaintext.equals(plaintext)).toBe(true);
        for (const hostile of [2n ** 64n - 1n, 2n ** 63n, 2n ** 31n]) {
          expect(openAll(sealed, Buffer.concat([nonce, u64(hostile), body.subarray(20)]), 0)).toBeUndefined();
        }
        expect(codeOf(() => engine.seekFrame(reopen(sealed, 0), 1))).toBe('INVALID_ARGUMENT');
      });

      it('are read from any frame on, and no frame in the place of another', () => {
        const plaintext = randomBytes(4 * FRAME + 1);
        const { body, ...sealed } = sealAll(plaintext);
        const message = reopen(sealed);
        const output = Buffer.alloc(body.length);
        engine.seekFrame(message, 3);
        const third = body.subarray(2 * SEALED_FRAME, 3 * SEALED_FRAME);
        expect(engine.openFrames(message, third, output)).toMatchObject({ produced: FRAME, final: false });
        expect(output.subarray(0, FRAME).equals(plaintext.subarray(2 * FRAME, 3 * FRAME))).toBe(true);
        for (const sequence of [0, 0xffffffff, -1, 1.5, 2 ** 32 + 1]) {
          expect([sequence, codeOf(() => engine.seekFrame(message, sequence))]).toEqual([sequence, 'INVALID_ARGUMENT']);
        }
        engine.seekFrame(message, 2);
        expect(engine.openFrames(message, third, output)).toBeUndefined();
      });

      it('take whole frames only before the last, room of exactly the right size, and no output over the input', () => {
        const { message } = begin();
        engine.sealHeader(message, HEADER, REQUIRED);
        const plaintext = randomBytes(100);
        const length = lengthOf(100, FRAME);
        const both = Buffer.alloc(length);
        const refused = [
          () => engine.sealFrames(message, plaintext, false, Buffer.alloc(132)),
          () => engine.sealFrames(message, plaintext, true, Buffer.alloc(length - 1)),
          () => engine.sealFrames(message, plaintext, true, Buffer.alloc(length + 1)),
          () => engine.sealFrames(message, both.subarray(0, 100), true, both),
        ];
        expect(refused.map(codeOf)).toEqual(refused.map(() => 'INVALID_ARGUMENT'));
        engine.sealFrames(message, plaintext, true, both);
        const { body, ...sealed } = sealAll(plaintext);
        const opening = reopen(sealed);
        expect(codeOf(() => engine.openFrames(opening, body, Buffer.alloc(body.length - 1)))).toBe('INVALID_ARGUMENT');
        expect(codeOf(() => engine.openFrames(opening, body, body))).toBe('INVALID_ARGUMENT');
        expect(engine.openFrames(opening, body, Buffer.alloc(body.length))).toMatchObject({ final: true });
      });
    });

    describe('headers', () => {
      it('are bound with the pairs that are not in them, and nothing opens before that or after a refusal', () => {
        const { body, ...sealed } = sealAll(randomBytes(10));
        const resume = () => engine.resumeMessage(dataKey, 0x0478, sealed.id, FRAME, sealed.commitment);
        const open = (message: KeyHandle) => () => engine.openFrames(message, body, Buffer.alloc(body.length));
        const early = resume();
        expect(codeOf(open(early))).toBe('INVALID_ARGUMENT');
        expect(engine.verifyHeader(early, HEADER, NOTHING, sealed.tag)).toBe(false);
        expect(codeOf(open(early))).toBe('INVALID_ARGUMENT');
        const edited = Buffer.from(HEADER);
        edited[3]! ^= 1;
        expect(engine.verifyHeader(resume(), edited, REQUIRED, sealed.tag)).toBe(false);
        expect(engine.verifyHeader(resume(), HEADER, REQUIRED, sealed.tag.subarray(1))).toBe(false);
      });

      it('are sealed once and first, and a message seals or opens, never both', () => {
        const { message, id, commitment } = begin();
        const body = Buffer.alloc(lengthOf(0, FRAME));
        expect(codeOf(() => engine.sealFrames(message, NOTHING, true, body))).toBe('INVALID_ARGUMENT');
        const tag = engine.sealHeader(message, HEADER, REQUIRED);
        const opening = reopen({ id, commitment, tag });
        const refused = [
          () => engine.sealHeader(message, HEADER, REQUIRED),
          () => engine.verifyHeader(message, HEADER, REQUIRED, tag),
          () => engine.openFrames(message, body, Buffer.alloc(body.length)),
          () => engine.seekFrame(message, 1),
          () => engine.sealHeader(opening, HEADER, REQUIRED),
          () => engine.sealFrames(opening, NOTHING, true, body),
        ];
        expect(refused.map(codeOf)).toEqual(refused.map(() => 'INVALID_ARGUMENT'));
        engine.sealFrames(message, NOTHING, true, body);
        expect(codeOf(() => engine.sealFrames(message, NOTHING, true, body))).toBe('INVALID_ARGUMENT');
      });
    });

    describe('data keys', () => {
      const CONTEXT = Buffer.from('the serialised context of a message');
      let messageKey: KeyHandle;
      let secret: Buffer;

      beforeEach(() => {
        secret = randomBytes(32);
        messageKey = importKey(engine, secret, MESSAGE_KEY_USE);
      });

      function wrapped(): { info: Buffer; encrypted: Buffer } {
        const both = Buffer.from(engine.wrapDataKey(messageKey, dataKey, CONTEXT));
        expect(both.length).toBe(DATA_KEY_INFO_LENGTH + ENCRYPTED_DATA_KEY_LENGTH);
        return { info: both.subarray(0, DATA_KEY_INFO_LENGTH), encrypted: both.subarray(DATA_KEY_INFO_LENGTH) };
      }

      it('are wrapped in the layout of raw AES keyrings under a key of their epoch', () => {
        const { info, encrypted } = wrapped();
        const name = info.subarray(0, 57).toString();
        expect(name).toMatch(/^[0-9a-f]{32}\.[0-9a-f]{24}$/);
        expect(name.slice(0, 32)).toBe(Buffer.from(engine.kid(messageKey)).toString('hex'));
        expect([info.readUInt32BE(57), info.readUInt32BE(61)]).toEqual([128, 12]);
        const label = Buffer.concat([Buffer.from('dekd/v1/edk'), Buffer.from(name.slice(33), 'hex')]);
        const key = Buffer.from(hkdfSync('sha256', secret, '', label, 32));
        const decipher = createDecipheriv('aes-256-gcm', key, info.subarray(65));
        decipher.setAAD(CONTEXT).setAuthTag(encrypted.subarray(32));
        expect(Buffer.concat([decipher.update(encrypted.subarray(0, 32)), decipher.final()])).toEqual(bytes);
        const again = wrapped();
        expect(again.info.subarray(0, 57)).toEqual(info.subarray(0, 57));
        expect(again.info.subarray(65)).not.toEqual(info.subarray(65));
      });

      it('come back, and not with any bit changed, another context or another key', () => {
        const { info, encrypted } = wrapped();
        const again = engine.unwrapDataKey(messageKey, info, encrypted, CONTEXT);
        expect(engine.kid(again)).toEqual(engine.kid(dataKey));
        const { used } = engine.stats();
        const refuses = (i: Uint8Array, e: Uint8Array, context: Uint8Array = CONTEXT, key = messageKey) =>
          codeOf(() => engine.unwrapDataKey(key, i, e, context)) === 'DECRYPTION_FAILED';
        const changed = (of: Buffer, bit: number) => {
          const copy = Buffer.from(of);
          copy[bit >> 3]! ^= 1 << (bit & 7);
          return copy;
        };
        for (let bit = 0; bit < 8 * info.length; bit++) {
          expect([bit, refuses(changed(info, bit), encrypted)]).toEqual([bit, true]);
        }
        for (let bit = 0; bit < 8 * encrypted.length; bit++) {
          expect([bit, refuses(info, changed(encrypted, bit))]).toEqual([bit, true]);
        }
        expect(refuses(info, encrypted, NOTHING)).toBe(true);
        expect(refuses(info.subarray(1), encrypted)).toBe(true);
        expect(refuses(info, encrypted.subarray(1))).toBe(true);
        expect(engine.stats().used).toBe(used);
        expect(refuses(info, encrypted, CONTEXT, engine.generateKey(MESSAGE_KEY_USE))).toBe(true);
      });

      it('do not come back under a longer or shorter name, whatever of it is right', () => {
        const { info, encrypted } = wrapped();
        const [head, nonce] = [info.subarray(0, 65), info.subarray(65)];
        const names = [Buffer.alloc(0), nonce, head, Buffer.concat([head, Buffer.alloc(1), nonce])];
        const refused = names.map((name) => () => engine.unwrapDataKey(messageKey, name, encrypted, CONTEXT));
        expect(refused.map(codeOf)).toEqual(refused.map(() => 'DECRYPTION_FAILED'));
      });
    });

    describe('data keys under a raw AES key', () => {
      const CONTEXT = Buffer.from('the serialised context of a message');
      const NAME = Buffer.from('files-2026 é');
      let rawKey: KeyHandle;
      let secret: Buffer;

      beforeEach(() => {
        secret = randomBytes(32);
        rawKey = importKey(engine, secret, RAW_AES_USE);
      });

      function wrapped(): { info: Buffer; encrypted: Buffer } {
        const both = Buffer.from(engine.wrapDataKeyUnder(rawKey, NAME, dataKey, CONTEXT));
        expect(both.length).toBe(NAME.length + RAW_AES_INFO_TAIL + ENCRYPTED_DATA_KEY_LENGTH);
        return {
          info: both.subarray(0, -ENCRYPTED_DATA_KEY_LENGTH),
          encrypted: both.subarray(-ENCRYPTED_DATA_KEY_LENGTH),
        };
      }

      it('are sealed with that key itself, another nonce each time', () => {
        const { info, encrypted } = wrapped();
        expect(info.subarray(0, NAME.length)).toEqual(NAME);
        expect([info.readUInt32BE(NAME.length), info.readUInt32BE(NAME.length + 4)]).toEqual([128, 12]);
        expect(sealedWith(secret, info.subarray(-12), CONTEXT, bytes)).toEqual(encrypted);
        expect(wrapped().info.subarray(-12)).not.toEqual(info.subarray(-12));
      });

      it('come back, and not with another bit, name, context or key', () => {
        const { info, encrypted } = wrapped();
        const open = (
          i: Uint8Array,
          e: Uint8Array,
          name: Uint8Array = NAME,
          context: Uint8Array = CONTEXT,
          key = rawKey,
        ) => engine.unwrapDataKeyUnder(key, name, i, e, context);
        expect(engine.kid(open(info, encrypted))).toEqual(engine.kid(dataKey));
        const { used } = engine.stats();
        const changed = (of: Buffer, bit: number) => {
          const copy = Buffer.from(of);
          copy[bit >> 3]! ^= 1 << (bit & 7);
          return copy;
        };
        const refused: (() => KeyHandle)[] = [
          ...Array.from({ length: 8 * info.length }, (_, bit) => () => open(changed(info, bit), encrypted)),
          ...Array.from({ length: 8 * encrypted.length }, (_, bit) => () => open(info, changed(encrypted, bit))),
          () => open(info, encrypted, NAME.subarray(1)),
          () => open(Buffer.concat([NAME, NOTHING, info.subarray(NAME.length - 1)]), encrypted),
          () => open(NOTHING, encrypted),
          () => open(info, encrypted.subarray(1)),
          () => open(info, encrypted, NAME, NOTHING),
        ];
        expect(refused.map(codeOf)).toEqual(refused.map(() => 'DECRYPTION_FAILED'));
        expect(engine.stats().used).toBe(used);
        const other = engine.generateKey(RAW_AES_USE);
        expect(codeOf(() => open(info, encrypted, NAME, CONTEXT, other))).toBe('DECRYPTION_FAILED');
      });

      it('need a key that is for nothing else', () => {
        const messageKey = engine.generateKey(MESSAGE_KEY_USE);
        const refused = [
          () => engine.wrapDataKeyUnder(messageKey, NAME, dataKey, NOTHING),
          () => engine.wrapDataKeyUnder(dataKey, NAME, dataKey, NOTHING),
          () => engine.wrapDataKeyUnder(rawKey, NAME, rawKey, NOTHING),
          () => engine.wrapDataKey(rawKey, dataKey, NOTHING),
          () => engine.wrapKey(rawKey, 'label', dataKey, NOTHING),
          () => engine.mac(rawKey, '', NOTHING),
          () => engine.exposeSecret(rawKey),
          () => engine.importSecret(randomBytes(32), RAW_AES_USE),
        ];
        expect(refused.map(codeOf)).toEqual(refused.map(() => 'INVALID_ARGUMENT'));
      });
    });
  });
}

/** Bytes of a body. */
function lengthOf(plaintext: number, frameLength: number): number {
  const frames = plaintext === 0 ? 1 : Math.ceil(plaintext / frameLength);
  return plaintext + 32 * frames + 8;
}

function frame(key: Buffer, id: Uint8Array, text: string, sequence: number, plaintext: Buffer): Buffer {
  const aad = [id, Buffer.from(`AWSKMSEncryptionClient ${text}`), u32(sequence), u64(BigInt(plaintext.length))];
  return sealedWith(key, nonceOf(sequence), Buffer.concat(aad), plaintext);
}

function sealedWith(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Buffer {
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(aad);
  return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

function nonceOf(sequence: number): Buffer {
  return Buffer.concat([Buffer.alloc(8), u32(sequence)]);
}
