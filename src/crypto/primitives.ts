import { DekdError } from '../errors.ts';

/**
 * The raw primitives under an engine, with the caller's own key and nonce. Published vectors need them; nothing an
 * application can import leads here, and no `Engine` method takes a nonce.
 */
export interface Primitives {
  /** AES-256-GCM with a 96-bit nonce and a 128-bit tag. @returns ciphertext ‖ tag. @throws INVALID_ARGUMENT on other sizes. */
  aesGcmSeal(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Uint8Array;
  /** The reverse; undefined when the tag does not match or `sealed` is shorter than a tag. */
  aesGcmOpen(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Uint8Array | undefined;
  /** XAES-256-GCM (C2SP) with a 192-bit nonce. @returns ciphertext ‖ tag. */
  xaesSeal(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Uint8Array;
  xaesOpen(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Uint8Array | undefined;
  /** HKDF-SHA-256 (RFC 5869). @throws INVALID_ARGUMENT when `length` is over 8,160 bytes. */
  hkdfSha256(ikm: Uint8Array, salt: Uint8Array, info: Uint8Array, length: number): Uint8Array;
  /** HMAC-SHA-256 (RFC 2104), all 32 bytes. */
  hmacSha256(key: Uint8Array, data: Uint8Array): Uint8Array;
}

export const KEY_LENGTH = 32;
export const GCM_NONCE_LENGTH = 12;
export const XAES_NONCE_LENGTH = 24;
export const TAG_LENGTH = 16;
/** RFC 5869 2.3: at most 255 blocks of the hash. */
export const HKDF_MAX_LENGTH = 255 * 32;

/** @throws INVALID_ARGUMENT unless key and nonce have exactly these lengths in bytes. */
export function checkKeyAndNonce(key: Uint8Array, nonce: Uint8Array, nonceLength: number): void {
  if (key.length !== KEY_LENGTH) {
    throw new DekdError('INVALID_ARGUMENT', `key has ${key.length} bytes, not ${KEY_LENGTH}`);
  }
  if (nonce.length !== nonceLength) {
    throw new DekdError('INVALID_ARGUMENT', `nonce has ${nonce.length} bytes, not ${nonceLength}`);
  }
}

/** @throws INVALID_ARGUMENT when HKDF-SHA-256 cannot give that many bytes. */
export function checkHkdfLength(length: number): void {
  if (!Number.isInteger(length) || length < 1 || length > HKDF_MAX_LENGTH) {
    throw new DekdError('INVALID_ARGUMENT', `hkdf output of ${length} bytes is outside 1 to ${HKDF_MAX_LENGTH}`);
  }
}
