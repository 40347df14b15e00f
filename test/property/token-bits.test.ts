import { randomBytes, randomInt } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { Engine, KeyHandle } from '../../src/crypto/engine.ts';
import { TOKEN_OVERHEAD } from '../../src/crypto/engine.ts';
import { encodeContext } from '../../src/envelope/context.ts';
import { readTokenHead, tokenKid } from '../../src/envelope/token.ts';
import { decodeTokenText, encodeTokenText } from '../../src/envelope/token-text.ts';
import { DekdError, decryptionFailed, type ErrorCode } from '../../src/errors.ts';
import { ENGINE_NAMES, engineUnderTest } from '../support/engines.ts';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const TOKEN_LENGTH = 64 + TOKEN_OVERHEAD;
const CONTEXT = encodeContext({ table: 'cards', field: 'pan', row: '4711' });

interface Holder {
  engine: Engine;
  key: KeyHandle;
  kid: string;
}

/** What stands between bytes and plaintext below the agent: head, look-up of the kid, engine. */
function open({ engine, key, kid }: Holder, token: Uint8Array, context: Uint8Array): Uint8Array {
  readTokenHead(token, 0, token.length);
  if (Buffer.from(tokenKid(token, 0)).toString('hex') !== kid) {
    throw decryptionFailed('unknown key');
  }
  const plain = new Uint8Array(token.length - TOKEN_OVERHEAD).fill(0xee);
  const input = new Uint8Array(Buffer.concat([context, token]));
  if (!engine.open(key, input, 0, context.length, context.length, token.length, plain, 0)) {
    if (plain.some((byte) => byte !== 0)) {
      throw new Error('bytes of a token that did not open were released');
    }
    throw decryptionFailed('does not authenticate');
  }
  return plain;
}

function codeOf(action: () => unknown): ErrorCode | 'opened' {
  try {
    action();
    return 'opened';
  } catch (error) {
    if (DekdError.is(error)) {
      return error.code;
    }
    throw error;
  }
}

function codeForByte(index: number): ErrorCode {
  return index === 0 ? 'MALFORMED' : index === 1 ? 'UNSUPPORTED_VERSION' : 'DECRYPTION_FAILED';
}

/** What a change of one character of the string form must lead to, from the bits it carries. */
function codeForCharacter(index: number, before: string, after: string): ErrorCode {
  const body = index - 'dk1.'.length;
  const value = ALPHABET.indexOf(after);
  if (body < 0 || value < 0) {
    return 'MALFORMED';
  }
  const changed = ALPHABET.indexOf(before) ^ value;
  const first = Math.clz32(changed) - 26;
  const last = 31 - Math.clz32(changed & -changed);
  const firstByte = Math.floor((body * 6 + first) / 8);
  const lastByte = Math.floor((body * 6 + 5 - last) / 8);
  // Bits after the last byte must be zero: a text that has them set is not the one text of any token.
  return lastByte >= TOKEN_LENGTH ? 'MALFORMED' : codeForByte(firstByte);
}

describe.each(ENGINE_NAMES)('a token of 64 bytes in the %s engine', async (name) => {
  const subject = await engineUnderTest(name);

  function withToken(
    skip: (note: string) => void,
    check: (holder: Holder, token: Uint8Array, data: Uint8Array) => void,
  ): void {
    if (subject.missing !== undefined) {
      skip(subject.missing);
      return;
    }
    const engine = subject.create();
    const key = engine.generateKey({ algorithm: 'xaes-256-gcm', purpose: 'seal' });
    const data = new Uint8Array(randomBytes(64));
    const token = new Uint8Array(TOKEN_LENGTH);
    engine.seal(key, new Uint8Array(Buffer.concat([CONTEXT, data])), 0, CONTEXT.length, CONTEXT.length, 64, token, 0);
    const holder = { engine, key, kid: Buffer.from(engine.kid(key)).toString('hex') };
    expect(open(holder, token, CONTEXT)).toEqual(data);
    check(holder, token, data);
    engine.close();
  }

  it('is refused with any one bit flipped, with the code for that bit', ({ skip }) => {
    withToken(skip, (holder, token) => {
      const codes: string[] = [];
      const expected: string[] = [];
      for (let bit = 0; bit < TOKEN_LENGTH * 8; bit++) {
        const changed = token.slice();
        changed[bit >> 3]! ^= 0x80 >> (bit & 7);
        codes.push(`${bit} ${codeOf(() => open(holder, changed, CONTEXT))}`);
        expected.push(`${bit} ${codeForByte(bit >> 3)}`);
      }
      expect(codes).toEqual(expected);
    });
  });

  it('is refused by the engine alone with any one bit flipped, head included', ({ skip }) => {
    withToken(skip, ({ engine, key }, token) => {
      for (let bit = 0; bit < TOKEN_LENGTH * 8; bit++) {
        const input = new Uint8Array([...token, ...CONTEXT]);
        input[bit >> 3]! ^= 0x80 >> (bit & 7);
        const plain = new Uint8Array(64).fill(0xee);
        const opened = engine.open(key, input, TOKEN_LENGTH, CONTEXT.length, 0, TOKEN_LENGTH, plain, 0);
        if (opened || plain.some((byte) => byte !== 0)) {
          throw new Error(`bit ${bit} flipped: opened, or bytes released`);
        }
      }
    });
  });

  it('is refused in its string form with any one bit flipped, with the code for that bit', ({ skip }) => {
    withToken(skip, (holder, token) => {
      const text = encodeTokenText(token);
      const codes: string[] = [];
      const expected: string[] = [];
      for (let bit = 0; bit < text.length * 8; bit++) {
        const at = bit >> 3;
        const after = String.fromCharCode(text.charCodeAt(at) ^ (0x80 >> (bit & 7)));
        const changed = text.slice(0, at) + after + text.slice(at + 1);
        codes.push(`${bit} ${codeOf(() => open(holder, decodeTokenText(changed), CONTEXT))}`);
        expected.push(`${bit} ${codeForCharacter(at, text[at]!, after)}`);
      }
      expect(codes).toEqual(expected);
      expect(new Set(codes.map((line) => line.split(' ')[1]))).toEqual(
        new Set(['MALFORMED', 'UNSUPPORTED_VERSION', 'DECRYPTION_FAILED']),
      );
    });
  });

  it('is refused with any one bit of the context flipped', ({ skip }) => {
    withToken(skip, (holder, token) => {
      for (let bit = 0; bit < CONTEXT.length * 8; bit++) {
        const changed = CONTEXT.slice();
        changed[bit >> 3]! ^= 0x80 >> (bit & 7);
        expect(codeOf(() => open(holder, token, changed))).toBe('DECRYPTION_FAILED');
      }
    });
  });

  it('of a MiB is refused with any one of its bits flipped, and leaves zeros', ({ skip }) => {
    if (subject.missing !== undefined) {
      return skip(subject.missing);
    }
    const engine = subject.create();
    const key = engine.generateKey({ algorithm: 'xaes-256-gcm', purpose: 'seal' });
    const size = 1024 * 1024;
    const length = size + TOKEN_OVERHEAD;
    const token = new Uint8Array(length);
    engine.seal(key, new Uint8Array(randomBytes(size)), 0, 0, 0, size, token, 0);
    const plain = new Uint8Array(size);
    // Pure JavaScript takes 100 times as long.
    const flips = Number(process.env.DEKD_FLIPS ?? (name === 'noble' ? 4 : 100));
    for (let flip = 0; flip < flips; flip++) {
      const bit = randomInt(length * 8);
      token[bit >> 3]! ^= 1 << (bit & 7);
      plain[randomInt(size)] = 0x55;
      expect(engine.open(key, token, 0, 0, 0, length, plain, 0), `bit ${bit}`).toBe(false);
      expect(Buffer.compare(plain, Buffer.alloc(size)), `bit ${bit}`).toBe(0);
      token[bit >> 3]! ^= 1 << (bit & 7);
    }
    expect(engine.open(key, token, 0, 0, 0, length, plain, 0)).toBe(true);
    engine.close();
  });

  it('opens under the equal context only', ({ skip }) => {
    withToken(skip, (holder, token, data) => {
      expect(open(holder, token, encodeContext({ row: '4711', field: 'pan', table: 'cards' }))).toEqual(data);
      for (const context of [
        {},
        { table: 'cards', field: 'pan' },
        { table: 'cards', field: 'pan', row: '4712' },
        { table: 'cards', field: 'cvv', row: '4711' },
        { table: 'card', field: 'spa', row: 'n4711' },
        { table: 'cards', field: 'pan', row: '4711', extra: '' },
        { table: 'pan', field: 'cards', row: '4711' },
        { Table: 'cards', field: 'pan', row: '4711' },
      ] as Record<string, string>[]) {
        expect(codeOf(() => open(holder, token, encodeContext(context)))).toBe('DECRYPTION_FAILED');
      }
    });
  });
});
