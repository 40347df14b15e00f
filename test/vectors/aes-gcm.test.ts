import { describe, expect, it } from 'vitest';
import type { Primitives } from '../../src/crypto/primitives.ts';
import { ENGINE_NAMES, engineUnderTest } from '../support/engines.ts';
import { hex, objectsIn, readVectors, textField, type VectorFile } from './vector-files.ts';

interface AeadGroup {
  keySize: number;
  ivSize: number;
  tagSize: number;
  tests: {
    tcId: number;
    key: string;
    iv: string;
    aad: string;
    msg: string;
    ct: string;
    tag: string;
    result: 'valid' | 'invalid';
  }[];
}

interface GcmCase {
  key: string;
  nonce: string;
  plaintext: string;
  aad: string;
  ciphertext: string;
  tag: string;
}

const RUST_CASE =
  /TestVector \{\s*key: (.*?),\s*nonce: (.*?),\s*plaintext: (.*?),\s*aad: (.*?),\s*ciphertext: (.*?),\s*tag: (.*?),\s*\}/gs;

/** The hexadecimal in `&hex!("…")`, possibly over several lines; `b""` is empty. */
function rustBytes(source: string): string {
  const text = [...source.matchAll(/"([^"]*)"/g)].map((match) => match[1]).join('');
  if (!/^(&hex!\(|b"")/.test(source) || !/^[0-9a-f]*$/.test(text)) {
    throw new Error(`not a literal of bytes: ${source.slice(0, 40)}`);
  }
  return text;
}

function casesOf(file: Extract<VectorFile, { text: string }>): GcmCase[] {
  if (file.name.endsWith('.rs')) {
    return [...file.text.matchAll(RUST_CASE)].map((match) => {
      const [key, nonce, plaintext, aad, ciphertext, tag] = match.slice(1).map(rustBytes) as [
        string,
        string,
        string,
        string,
        string,
        string,
      ];
      return { key, nonce, plaintext, aad, ciphertext, tag };
    });
  }
  if (file.name.endsWith('.rsp')) {
    return responseCases(file.text);
  }
  const cases: GcmCase[] = [];
  for (const object of objectsIn(JSON.parse(file.text))) {
    const key = textField(object, 'key', 'Key');
    const nonce = textField(object, 'iv', 'nonce', 'IV');
    const ciphertext = textField(object, 'ct', 'ciphertext', 'CT');
    const tag = textField(object, 'tag', 'Tag');
    if (key === undefined || nonce === undefined || ciphertext === undefined || tag === undefined) {
      continue;
    }
    const plaintext = textField(object, 'pt', 'msg', 'plaintext', 'PT') ?? '';
    cases.push({ key, nonce, plaintext, ciphertext, tag, aad: textField(object, 'aad', 'AAD') ?? '' });
  }
  return cases;
}

/** NIST's own form: `Key = …` lines a case, `[IVlen = …]` lines a group. Only 96-bit IVs and 128-bit tags. */
function responseCases(text: string): GcmCase[] {
  const cases: GcmCase[] = [];
  for (const block of text.split(/\r?\n\r?\n/)) {
    const field = (name: string): string | undefined =>
      block.match(new RegExp(`^${name} = ?([0-9a-f]*)\\s*$`, 'm'))?.[1];
    const [key, nonce, tag] = [field('Key'), field('IV'), field('Tag')];
    if (key !== undefined && nonce?.length === 24 && tag?.length === 32) {
      const [plaintext, aad, ciphertext] = [field('PT') ?? '', field('AAD') ?? '', field('CT') ?? ''];
      cases.push({ key, nonce, plaintext, aad, ciphertext, tag });
    }
  }
  return cases;
}

function refusal(action: () => unknown): string | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    return (error as { code?: string }).code;
  }
}

describe.each(ENGINE_NAMES)('AES-256-GCM of the %s engine', async (name) => {
  const subject = await engineUnderTest(name);
  const primitivesOr = (skip: (note: string) => void): Primitives => {
    if (subject.missing !== undefined) {
      skip(subject.missing);
      throw new Error(subject.missing);
    }
    return subject.primitives;
  };

  it('agrees with Wycheproof on all 66 cases with 256-bit key and 96-bit IV, and refuses the other 250', ({ skip }) => {
    const file = readVectors('wycheproof-aes-gcm');
    if (file.missing !== undefined) {
      return skip(file.missing);
    }
    const { aesGcmSeal, aesGcmOpen } = primitivesOr(skip);
    let agreed = 0;
    let refused = 0;
    for (const group of (JSON.parse(file.text) as { testGroups: AeadGroup[] }).testGroups) {
      expect(group.tagSize).toBe(128);
      for (const { tcId, result, ...test } of group.tests) {
        const [key, iv, aad, msg, ct, tag] = [test.key, test.iv, test.aad, test.msg, test.ct, test.tag].map(hex) as [
          Uint8Array,
          Uint8Array,
          Uint8Array,
          Uint8Array,
          Uint8Array,
          Uint8Array,
        ];
        const sealed = new Uint8Array([...ct, ...tag]);
        if (group.keySize !== 256 || group.ivSize !== 96) {
          expect(
            refusal(() => aesGcmSeal(key, iv, aad, msg)),
            `tcId ${tcId}`,
          ).toBe('INVALID_ARGUMENT');
          expect(
            refusal(() => aesGcmOpen(key, iv, aad, sealed)),
            `tcId ${tcId}`,
          ).toBe('INVALID_ARGUMENT');
          refused++;
          continue;
        }
        const opened = aesGcmOpen(key, iv, aad, sealed);
        if (result === 'valid') {
          expect(opened, `tcId ${tcId}`).toEqual(msg);
          expect(aesGcmSeal(key, iv, aad, msg), `tcId ${tcId}`).toEqual(sealed);
        } else {
          expect(opened, `tcId ${tcId}`).toBeUndefined();
        }
        agreed++;
      }
    }
    expect({ agreed, refused }).toEqual({ agreed: 66, refused: 250 });
  });

  it('agrees with NIST CAVP on 375 of 375 cases', ({ skip }) => {
    const file = readVectors('cavp-gcm-256');
    if (file.missing !== undefined) {
      return skip(file.missing);
    }
    const { aesGcmSeal, aesGcmOpen } = primitivesOr(skip);
    const cases = casesOf(file);
    expect(cases.length).toBe(375);
    cases.forEach((test, index) => {
      const key = hex(test.key);
      const nonce = hex(test.nonce);
      const aad = hex(test.aad);
      const sealed = hex(test.ciphertext + test.tag);
      expect(aesGcmSeal(key, nonce, aad, hex(test.plaintext)), `case ${index}`).toEqual(sealed);
      expect(aesGcmOpen(key, nonce, aad, sealed), `case ${index}`).toEqual(hex(test.plaintext));
      sealed[sealed.length - 1]! ^= 1;
      expect(aesGcmOpen(key, nonce, aad, sealed), `case ${index}`).toBeUndefined();
    });
  });
});
