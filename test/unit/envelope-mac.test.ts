import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeMacText,
  encodeMacText,
  isMac,
  MAC_HEAD_LENGTH,
  STORED_MAC_LENGTH,
  writeMacHead,
} from '../../src/envelope/mac.ts';
import { type MacLabel, MacScopeMemo, macScope } from '../../src/envelope/mac-scope.ts';
import { decodeTokenText } from '../../src/envelope/token-text.ts';

const LABELS: readonly MacLabel[] = ['dekd/v1/hmac', 'dekd/v1/index', 'dekd/v1/fingerprint'];

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

describe('macScope', () => {
  it('is length, label, and each name behind its length', () => {
    const expected = Buffer.concat([
      Buffer.of(0, 13 + 3 + 4 + 2 + 3),
      Buffer.from('dekd/v1/index'),
      Buffer.from('\0\x01k', 'latin1'),
      Buffer.from('\0\x02é'),
      Buffer.from('\0\0', 'latin1'),
      Buffer.from('\0\x01c', 'latin1'),
    ]);
    expect(hexOf(macScope('dekd/v1/index', ['k', 'é', '', 'c']))).toBe(hexOf(expected));
  });

  it('has labels of which none begins another, and none the label of key ids, nor that begins one of them', () => {
    for (const one of [...LABELS, 'dekd/v1/kid']) {
      for (const other of [...LABELS, 'dekd/v1/kid']) {
        expect(one !== other && one.startsWith(other), `${one} and ${other}`).toBe(false);
      }
    }
  });

  it('differs wherever label or names differ, also when a border between two names moves', () => {
    const names = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', '\0', '\x01', 'é'), maxLength: 3 }), {
      minLength: 2,
      maxLength: 4,
    });
    const scope = fc.tuple(fc.constantFrom(...LABELS), names);
    fc.assert(
      fc.property(scope, scope, ([label, one], [otherLabel, other]) => {
        const isSame = label === otherLabel && JSON.stringify(one) === JSON.stringify(other);
        expect(hexOf(macScope(label, one)) === hexOf(macScope(otherLabel, other))).toBe(isSame);
      }),
      { numRuns: 5_000 },
    );
    expect(hexOf(macScope('dekd/v1/index', ['ab', 'c', 't', 'x']))).not.toBe(
      hexOf(macScope('dekd/v1/index', ['a', 'bc', 't', 'x'])),
    );
  });

  it('refuses names that no key has, before they are sent to an engine', () => {
    expect(() => macScope('dekd/v1/hmac', ['x'.repeat(65_536), ''])).toThrow(/no key and no partition/);
    expect(() => macScope('dekd/v1/hmac', ['x'.repeat(40_000), 'y'.repeat(40_000)])).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
  });

  it('is remembered by what it says', () => {
    const memo = new MacScopeMemo();
    const first = memo.scope('dekd/v1/hmac', 'k', 'p');
    expect(memo.scope('dekd/v1/hmac', 'k', 'p')).toBe(first);
    expect(hexOf(memo.scope('dekd/v1/hmac', 'kp', ''))).toBe(hexOf(macScope('dekd/v1/hmac', ['kp', ''])));
    expect(hexOf(memo.scope('dekd/v1/fingerprint', 'kp', ''))).toBe(hexOf(macScope('dekd/v1/fingerprint', ['kp', ''])));
    expect(hexOf(memo.scope('dekd/v1/hmac', 'k', 'p'))).toBe(hexOf(first));
  });
});

describe('the stored form of a MAC', () => {
  const kid = Buffer.alloc(16, 7);
  const mac = new Uint8Array(STORED_MAC_LENGTH).fill(9);
  writeMacHead(kid, mac, 0);

  it('is C0, suite 01, the kid and 32 bytes, and begins as no token and no UTF-8 does', () => {
    expect(hexOf(mac)).toBe(`c001${'07'.repeat(16)}${'09'.repeat(32)}`);
    expect([STORED_MAC_LENGTH, MAC_HEAD_LENGTH]).toEqual([50, 18]);
    expect(() => new TextDecoder('utf-8', { fatal: true }).decode(mac.subarray(0, 2))).toThrow();
  });

  it('given for a token is called what it is', () => {
    expect(() => decodeTokenText(encodeMacText(mac))).toThrow(
      expect.objectContaining({ code: 'MALFORMED', message: expect.stringContaining('this is a MAC') }),
    );
  });

  it('is told by first byte, suite and exact length', () => {
    expect(isMac(mac, 0, 50)).toBe(true);
    for (const length of [0, 1, 49, 51]) {
      expect(isMac(mac, 0, length)).toBe(false);
    }
    for (const at of [0, 1]) {
      const changed = mac.slice();
      changed[at]! ^= 1;
      expect(isMac(changed, 0, 50)).toBe(false);
    }
  });

  it('comes back from its text, of which there is one', () => {
    for (let i = 0; i < 100; i++) {
      const bytes = new Uint8Array(randomBytes(STORED_MAC_LENGTH));
      const text = encodeMacText(bytes);
      expect(text).toMatch(/^dm1\.[A-Za-z0-9_-]{67}$/);
      expect(decodeMacText(text)).toEqual(bytes);
    }
    const text = encodeMacText(mac);
    // The last character has bits left over: others of the same bytes are other texts.
    const last = text.at(-1)!;
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    const sameBytes = alphabet[alphabet.indexOf(last) + 1]!;
    for (const other of [
      '',
      'dm1.',
      text.slice(4),
      `dk1.${text.slice(4)}`,
      `${text}=`,
      ` ${text}`,
      `${text} `,
      `${text.slice(0, -1)}${sameBytes}`,
      `${text.slice(0, -1)}`,
      `${text}AA`,
      text.replace(/^dm1\.w/, 'dm1.w\n'),
      text.toUpperCase(),
    ]) {
      expect(decodeMacText(other), other).toBeUndefined();
    }
    expect(() => decodeMacText(7 as never)).toThrow(/is a string, not number/);
  });
});
