import { describe, expect, it } from 'vitest';
import { ENGINE_NAMES, engineUnderTest } from '../support/engines.ts';
import { hex, readVectors } from './vector-files.ts';

interface HkdfTest {
  tcId: number;
  ikm: string;
  salt: string;
  info: string;
  size: number;
  okm: string;
  result: 'valid' | 'invalid';
}

interface MacTest {
  tcId: number;
  key: string;
  msg: string;
  tag: string;
  result: 'valid' | 'invalid';
}

describe.each(ENGINE_NAMES)('HKDF-SHA-256 and HMAC-SHA-256 of the %s engine', async (name) => {
  const subject = await engineUnderTest(name);

  it('agrees with Wycheproof on all 86 HKDF cases, RFC 5869 among them', ({ skip }) => {
    const file = readVectors('wycheproof-hkdf-sha256');
    if (file.missing !== undefined || subject.missing !== undefined) {
      return skip(file.missing ?? subject.missing);
    }
    const { hkdfSha256 } = subject.primitives;
    let count = 0;
    for (const group of (JSON.parse(file.text) as { testGroups: { tests: HkdfTest[] }[] }).testGroups) {
      for (const test of group.tests) {
        const derive = (): Uint8Array => hkdfSha256(hex(test.ikm), hex(test.salt), hex(test.info), test.size);
        if (test.result === 'valid') {
          expect(derive(), `tcId ${test.tcId}`).toEqual(hex(test.okm));
        } else {
          expect(derive, `tcId ${test.tcId}`).toThrow(/hkdf output of \d+ bytes is outside/);
        }
        count++;
      }
    }
    expect(count).toBe(86);
  });

  it('agrees with Wycheproof on all 174 HMAC cases, truncated tags among them', ({ skip }) => {
    const file = readVectors('wycheproof-hmac-sha256');
    if (file.missing !== undefined || subject.missing !== undefined) {
      return skip(file.missing ?? subject.missing);
    }
    const { hmacSha256 } = subject.primitives;
    let count = 0;
    for (const group of (JSON.parse(file.text) as { testGroups: { tagSize: number; tests: MacTest[] }[] }).testGroups) {
      for (const test of group.tests) {
        const tag = hmacSha256(hex(test.key), hex(test.msg)).subarray(0, group.tagSize / 8);
        const agrees = Buffer.from(tag).toString('hex') === test.tag;
        expect(agrees, `tcId ${test.tcId}`).toBe(test.result === 'valid');
        count++;
      }
    }
    expect(count).toBe(174);
  });
});
