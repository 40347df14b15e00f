import { describe, expect, it } from 'vitest';
import { keyIdOf } from '../../src/client/index.ts';
import { encodeContext } from '../../src/envelope/context.ts';
import { encodeMessageHeader } from '../../src/envelope/message-header.ts';
import { encodeTokenText } from '../../src/envelope/token-text.ts';
import { codeOf } from '../support/refusal.ts';

const KID = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex');
const HEX = KID.toString('hex');

function token(suite = 1): Uint8Array {
  return Buffer.concat([Buffer.from([0xc1, suite]), KID, Buffer.alloc(24 + 16)]);
}

function header(...names: [providerId: string, info: string][]): Uint8Array {
  const dataKeys = names.map(([providerId, info]) => ({
    providerId,
    providerInfo: Buffer.from(info, 'latin1'),
    ciphertext: new Uint8Array(48),
  }));
  const body = encodeMessageHeader({
    messageId: new Uint8Array(32),
    context: encodeContext({}),
    dataKeys,
    frameLength: 4096,
    commitment: new Uint8Array(32),
  });
  return Buffer.concat([body, Buffer.alloc(16)]);
}

describe('the id of the key version that made a ciphertext', () => {
  it('is read from a token, as bytes and as text, direct or not', () => {
    expect(keyIdOf(token())).toBe(HEX);
    expect(keyIdOf(encodeTokenText(token()))).toBe(HEX);
    expect(keyIdOf(token(0x10))).toBe(HEX);
  });

  it('is read from the header of a message, whoever else can open it, and is none without the keystore', () => {
    const own: [string, string] = ['dekd', `${HEX}.${'00'.repeat(12)}`];
    expect(keyIdOf(header(['aws-kms', 'arn:aws:kms:x'], own))).toBe(HEX);
    expect(keyIdOf(Buffer.concat([header(own), Buffer.from('whatever follows')]))).toBe(HEX);
    expect(keyIdOf(header(['aws-kms', 'arn:aws:kms:x']))).toBeUndefined();
    expect(keyIdOf(header(['dekd', 'not of ours']))).toBeUndefined();
  });

  it('is asked in vain of anything else', () => {
    const own = header(['dekd', `${HEX}.${'00'.repeat(12)}`]);
    for (const [given, code] of [
      [new Uint8Array(0), 'MALFORMED'],
      [token().subarray(0, 20), 'MALFORMED'],
      [own.subarray(0, 60), 'MALFORMED'],
      [token(2), 'UNSUPPORTED_VERSION'],
      ['plain', 'MALFORMED'],
      [undefined, 'INVALID_ARGUMENT'],
    ] as const) {
      expect(
        codeOf(() => keyIdOf(given as string)),
        String(given),
      ).toBe(code);
    }
  });
});
