import { DekdError } from '../errors.ts';

/**
 * The token: C1 ‖ suite u8 ‖ kid 16 ‖ nonce 24 ‖ ciphertext ‖ tag 16. Its additional data is the first 18 bytes and
 * then the canonical encryption context.
 */

/** Never a byte of UTF-8, and no first byte of the message format, of JSON or of base64. */
export const TOKEN_FORMAT = 0xc1;
/** XAES-256-GCM (C2SP). */
export const SUITE_XAES_256_GCM = 0x01;
/** Reserved: AES-256-GCM with leased message budgets. */
export const SUITE_AES_256_GCM = 0x02;
/** Direct: encrypted by the provider of a root itself (`direct-token.ts`). */
export const SUITE_DIRECT = 0x10;

export const TOKEN_KID_OFFSET = 2;
export const KID_LENGTH = 16;
/** Format, suite and kid: the part of the head that is additional data. */
export const TOKEN_AAD_LENGTH = 18;
export const TOKEN_NONCE_OFFSET = 18;
export const TOKEN_NONCE_LENGTH = 24;
export const TOKEN_BODY_OFFSET = 42;
export const TOKEN_TAG_LENGTH = 16;
/** Bytes of a token around its plaintext, so also the length of the shortest. */
export const MIN_TOKEN_LENGTH = 58;

/**
 * Checks what can be checked of the token at `bytes[offset, +length)` without a key.
 * @returns its suite, always one this code can open.
 * @throws MALFORMED when it is no token or too short; UNSUPPORTED_VERSION for a suite that is not known.
 */
export function readTokenHead(
  bytes: Uint8Array,
  offset: number,
  length: number,
): typeof SUITE_XAES_256_GCM | typeof SUITE_DIRECT {
  if (length === 0 || bytes[offset] !== TOKEN_FORMAT) {
    throw notAToken(bytes, offset, length);
  }
  if (length === 1) {
    throw tooShort(length);
  }
  const suite = bytes[offset + 1]!;
  if (suite !== SUITE_XAES_256_GCM && suite !== SUITE_DIRECT) {
    throw unknownSuite(suite);
  }
  // What a provider makes is longer than a tag and a nonce, so the shortest token serves for both.
  if (length < MIN_TOKEN_LENGTH) {
    throw tooShort(length);
  }
  return suite;
}

/** The kid of a token whose head was read: a view, valid as long as `bytes`. */
export function tokenKid(bytes: Uint8Array, offset: number): Uint8Array {
  return bytes.subarray(offset + TOKEN_KID_OFFSET, offset + TOKEN_KID_OFFSET + KID_LENGTH);
}

function tooShort(length: number): DekdError {
  return new DekdError('MALFORMED', `a token has at least ${MIN_TOKEN_LENGTH} bytes, this one has ${length}`);
}

function unknownSuite(suite: number): DekdError {
  const hex = suite.toString(16).padStart(2, '0');
  const reserved = suite === SUITE_AES_256_GCM ? ', which is reserved' : '';
  return new DekdError('UNSUPPORTED_VERSION', `token suite ${hex}${reserved} is not supported`);
}

function notAToken(bytes: Uint8Array, offset: number, length: number): DekdError {
  const head = bytes.subarray(offset, offset + Math.min(length, 16));
  if (head.length === 0) {
    return new DekdError('MALFORMED', 'a token is not empty');
  }
  if (
    (head[0] === 0x02 && (head[1] === 0x04 || head[1] === 0x05) && head[2] === 0x78) ||
    (head[0] === 0x01 && head[1] === 0x80)
  ) {
    return new DekdError('MALFORMED', 'not a token: this is an AWS Encryption SDK message');
  }
  const known = lookAlike(String.fromCharCode(...head));
  return new DekdError('MALFORMED', `not a token: ${known ?? 'it does not begin with the byte c1'}`);
}

/** What base64 of a message begins with: version 1 (01 80 00 to 01 80 03), version 2 (02 04 78 and 02 05 78). */
const MESSAGE_BASE64 = ['AYA', 'AgR4', 'AgV4'];

/**
 * What a text looks like that came where a token or a message was wanted, for an error that helps; undefined when
 * nothing is recognised. Of base64 two characters are enough: a message may have begun to arrive.
 */
export function lookAlike(text: string): string | undefined {
  if (text.startsWith('dk1.')) {
    return 'this is the string form of a token, to be decrypted as text';
  }
  if (text.startsWith('dm1.')) {
    return 'this is a MAC, which is verified and not decrypted';
  }
  if (text.startsWith('vault:v')) {
    return 'this is a Vault Transit ciphertext';
  }
  if (MESSAGE_BASE64.some((start) => text.startsWith(start) || (text.length > 1 && start.startsWith(text)))) {
    return 'this is an AWS Encryption SDK message in base64';
  }
  if (/^\s*\{/.test(text)) {
    return 'this is JSON';
  }
  return undefined;
}
