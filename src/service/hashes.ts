/** Digests without a key, and which algorithms there are. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { DekdError } from '../errors.ts';

/** Digests that anybody can compute, by the name that `node:crypto` has for each. */
const DIGESTS = {
  'sha-256': { name: 'sha256', length: 32 },
  'sha-384': { name: 'sha384', length: 48 },
  'sha-512': { name: 'sha512', length: 64 },
  'sha3-256': { name: 'sha3-256', length: 32 },
  'sha3-384': { name: 'sha3-384', length: 48 },
  'sha3-512': { name: 'sha3-512', length: 64 },
} as const;

export type DigestAlgorithm = keyof typeof DIGESTS;

/** `hmac-sha-256` is computed in the agent, under a key that never leaves it; the others are checksums. */
export type HashAlgorithm = 'hmac-sha-256' | DigestAlgorithm;

export const KEYED = 'hmac-sha-256';

/** @throws UNSUPPORTED naming it and those there are */
export function checkAlgorithm(algorithm: unknown, operation: string): HashAlgorithm {
  if (algorithm === KEYED || (typeof algorithm === 'string' && Object.hasOwn(DIGESTS, algorithm))) {
    return algorithm as HashAlgorithm;
  }
  const shown = typeof algorithm === 'string' ? JSON.stringify(algorithm.slice(0, 64)) : typeof algorithm;
  throw new DekdError(
    'UNSUPPORTED',
    `${operation}: the algorithm ${shown} is not known; there are ${[KEYED, ...Object.keys(DIGESTS)].join(', ')}`,
  );
}

/** Lower hex. */
export function digestOf(algorithm: DigestAlgorithm, value: Uint8Array): string {
  return createHash(DIGESTS[algorithm].name).update(value).digest('hex');
}

/** Compared in constant time; what is no such digest at all is not equal. */
export function isDigestOf(algorithm: DigestAlgorithm, value: Uint8Array, hash: string): boolean {
  const { length } = DIGESTS[algorithm];
  if (!/^[0-9a-f]*$/i.test(hash) || hash.length !== 2 * length) {
    return false;
  }
  return timingSafeEqual(Buffer.from(digestOf(algorithm, value), 'hex'), Buffer.from(hash, 'hex'));
}

/** The UTF-8 of a text, or bytes as they are. @throws INVALID_ARGUMENT */
export function bytesOf(value: unknown): Uint8Array {
  if (value instanceof Uint8Array) {
    return value;
  }
  if (typeof value !== 'string') {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `a hash is of a text or of bytes, not of ${value === null ? 'null' : typeof value}`,
    );
  }
  if (!value.isWellFormed()) {
    throw new DekdError('INVALID_ARGUMENT', 'the text has a lone surrogate, which UTF-8 cannot carry');
  }
  return new TextEncoder().encode(value);
}
