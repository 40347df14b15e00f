import { shake128 } from '@noble/hashes/sha3.js';
import { describe, expect, it } from 'vitest';
import type { Primitives } from '../../src/crypto/primitives.ts';
import { ENGINE_NAMES, engineUnderTest } from '../support/engines.ts';
import { hex, objectsIn, readVectors, textField, type VectorFile } from './vector-files.ts';

interface XaesCase {
  key: Uint8Array;
  nonce: Uint8Array;
  plaintext: Uint8Array;
  aad: Uint8Array;
  sealed: Uint8Array;
}

interface XaesVectors {
  cases: XaesCase[];
  /** SHAKE-128 over all ciphertexts of the 10,000 accumulated runs. */
  accumulated: string | undefined;
}

/** In the specification unquoted values are hexadecimal and quoted ones are ASCII. */
function value(text: string): Uint8Array {
  const quoted = /^"(.*)"$/.exec(text);
  return quoted === null ? hex(text) : new TextEncoder().encode(quoted[1]);
}

function vectorsOf(file: Extract<VectorFile, { text: string }>): XaesVectors {
  if (file.name.endsWith('.md')) {
    const cases = [
      ...file.text.matchAll(
        /^ {4}K: (.*)\n {4}N: (.*)\n[\s\S]*?Plaintext: (.*)\n {4}AAD: (.*)\n {4}Ciphertext: (.*)$/gm,
      ),
    ];
    return {
      cases: cases.map((match) => {
        const [key, nonce, plaintext, aad, sealed] = match.slice(1).map(value) as [
          Uint8Array,
          Uint8Array,
          Uint8Array,
          Uint8Array,
          Uint8Array,
        ];
        return { key, nonce, plaintext, aad, sealed };
      }),
      accumulated: /for 10 000 iterations is\s+([0-9a-f]{64})/.exec(file.text)?.[1],
    };
  }
  const vectors: XaesVectors = { cases: [], accumulated: undefined };
  for (const object of objectsIn(JSON.parse(file.text))) {
    const key = textField(object, 'key', 'K');
    const nonce = textField(object, 'nonce', 'iv', 'N');
    const ciphertext = textField(object, 'ct', 'ciphertext');
    if (key !== undefined && nonce !== undefined && ciphertext !== undefined) {
      const text = (...names: string[]): Uint8Array => {
        const field = textField(object, ...names) ?? '';
        return /^([0-9a-f]{2})*$/i.test(field) ? hex(field) : new TextEncoder().encode(field);
      };
      const sealed = hex(ciphertext + (textField(object, 'tag') ?? ''));
      const plaintext = text('pt', 'plaintext', 'msg');
      // Longer than plaintext and tag is the variant with a commitment appended, which is another scheme.
      if (sealed.length === plaintext.length + 16) {
        vectors.cases.push({ key: hex(key), nonce: text('nonce', 'iv', 'N'), plaintext, aad: text('aad'), sealed });
      }
    }
    for (const [field, hash] of Object.entries(object)) {
      if (/10[ _,]?000(?!\d|[ _,]0)/.test(field) && typeof hash === 'string' && /^[0-9a-f]{64}$/.test(hash)) {
        vectors.accumulated = hash;
      }
    }
  }
  return vectors;
}

/** The 10,000 runs of the specification: inputs from one SHAKE-128 stream, ciphertexts into another. */
function accumulate({ xaesSeal, xaesOpen }: Primitives): string {
  const stream = shake128.create({});
  const result = shake128.create({ dkLen: 32 });
  for (let run = 0; run < 10_000; run++) {
    const key = stream.xof(32);
    const nonce = stream.xof(24);
    const plaintext = stream.xof(stream.xof(1)[0]!);
    const aad = stream.xof(stream.xof(1)[0]!);
    const sealed = xaesSeal(key, nonce, aad, plaintext);
    result.update(sealed);
    if (run % 100 === 0) {
      expect(xaesOpen(key, nonce, aad, sealed)).toEqual(plaintext);
    }
  }
  return Buffer.from(result.digest()).toString('hex');
}

describe.each(ENGINE_NAMES)('XAES-256-GCM of the %s engine', async (name) => {
  const subject = await engineUnderTest(name);

  it('agrees with both cases of the specification', ({ skip }) => {
    const file = readVectors('xaes-256-gcm');
    if (file.missing !== undefined || subject.missing !== undefined) {
      return skip(file.missing ?? subject.missing);
    }
    const { xaesSeal, xaesOpen } = subject.primitives;
    const { cases } = vectorsOf(file);
    expect(cases.length).toBe(2);
    for (const { key, nonce, plaintext, aad, sealed } of cases) {
      expect(xaesSeal(key, nonce, aad, plaintext)).toEqual(sealed);
      expect(xaesOpen(key, nonce, aad, sealed)).toEqual(plaintext);
      expect(xaesOpen(key, nonce, new Uint8Array([...aad, 0]), sealed)).toBeUndefined();
    }
  });

  it('reaches the hash of the 10,000 accumulated runs', ({ skip }) => {
    const file = readVectors('xaes-256-gcm');
    if (file.missing !== undefined || subject.missing !== undefined) {
      return skip(file.missing ?? subject.missing);
    }
    const { accumulated } = vectorsOf(file);
    if (accumulated === undefined) {
      return skip(`${file.name} has no hash of the 10,000 accumulated runs`);
    }
    expect(accumulate(subject.primitives)).toBe(accumulated);
  });

  it('refuses nonces and keys of other sizes', ({ skip }) => {
    if (subject.missing !== undefined) {
      return skip(subject.missing);
    }
    const { xaesSeal, xaesOpen } = subject.primitives;
    const nothing = new Uint8Array(0);
    for (const [key, nonce] of [
      [32, 12],
      [32, 23],
      [32, 25],
      [16, 24],
      [33, 24],
    ] as const) {
      expect(() => xaesSeal(new Uint8Array(key), new Uint8Array(nonce), nothing, nothing)).toThrow(/bytes, not/);
      expect(() => xaesOpen(new Uint8Array(key), new Uint8Array(nonce), nothing, new Uint8Array(16))).toThrow(
        /bytes, not/,
      );
    }
  });
});
