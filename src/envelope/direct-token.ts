import { createHash } from 'node:crypto';
import { encodeContext } from './context.ts';
import { KID_LENGTH, SUITE_DIRECT, TOKEN_AAD_LENGTH, TOKEN_FORMAT } from './token.ts';

/**
 * The direct token: C1 ‖ suite 10 ‖ reference 16 ‖ what the provider made of SHA-256(AAD) ‖ plaintext. Providers bind few
 * values and show them to whoever reads their trail, so the record's context is bound by its digest, inside.
 */

/** Bytes in front of what the provider made. */
export const DIRECT_HEAD_LENGTH = TOKEN_AAD_LENGTH;
/** Bytes in front of the plaintext inside. */
export const DIRECT_DIGEST_LENGTH = 32;

/**
 * Says which key of which root made a token, in the place where others have a kid (`tokenKid`): the first half of SHA-256 of the
 * canonical names.
 */
export function directReference(root: string, key: string, partition: string): Uint8Array {
  const names = partition === '' ? { root, key } : { root, key, partition };
  return new Uint8Array(createHash('sha256').update(encodeContext(names)).digest().subarray(0, KID_LENGTH));
}

/** SHA-256 of the head and the canonical context. */
export function directDigest(reference: Uint8Array, context: Uint8Array): Uint8Array {
  return createHash('sha256').update(headOf(reference)).update(context).digest();
}

/** The token around what the provider made; a fresh copy. */
export function directToken(reference: Uint8Array, made: Uint8Array): Uint8Array {
  const token = new Uint8Array(DIRECT_HEAD_LENGTH + made.length);
  token.set(headOf(reference));
  token.set(made, DIRECT_HEAD_LENGTH);
  return token;
}

function headOf(reference: Uint8Array): Uint8Array {
  return Uint8Array.of(TOKEN_FORMAT, SUITE_DIRECT, ...reference);
}
