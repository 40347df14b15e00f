/**
 * The MAC as it is stored: C0 ‖ suite u8 ‖ kid 16 ‖ HMAC 32, so that it says which version of its key made it and still
 * verifies when that is no longer the newest.
 */
import { strictBytes } from '../bytes.ts';
import { DekdError } from '../errors.ts';
import { KID_LENGTH } from './token.ts';

/** Never a byte of UTF-8, and not the first of a token. */
export const MAC_FORMAT = 0xc0;
/** HMAC-SHA-256. */
export const SUITE_HMAC_SHA_256 = 0x01;
/** Format, suite and kid; the kid lies where that of a token does. */
export const MAC_HEAD_LENGTH = 2 + KID_LENGTH;
export const STORED_MAC_LENGTH = MAC_HEAD_LENGTH + 32;

/** What the string form of a MAC begins with. */
export const MAC_TEXT_PREFIX = 'dm1.';

/** Whether `bytes[offset, +length)` has the form of a MAC. None of that is secret. */
export function isMac(bytes: Uint8Array, offset: number, length: number): boolean {
  return length === STORED_MAC_LENGTH && bytes[offset] === MAC_FORMAT && bytes[offset + 1] === SUITE_HMAC_SHA_256;
}

/** Writes the head of a MAC of the key with this kid. */
export function writeMacHead(kid: Uint8Array, target: Uint8Array, offset: number): void {
  target[offset] = MAC_FORMAT;
  target[offset + 1] = SUITE_HMAC_SHA_256;
  target.set(kid, offset + 2);
}

/** The string form: `dm1.` and base64url without padding (RFC 4648 section 5). */
export function encodeMacText(mac: Uint8Array): string {
  return MAC_TEXT_PREFIX + Buffer.from(mac.buffer, mac.byteOffset, mac.byteLength).toString('base64url');
}

/**
 * The MAC in its string form, a fresh copy; undefined for every other text, which is what somebody sends who has none. One
 * MAC has one string, so padding, white space, the other alphabet and bits left over make another text of it.
 * @throws INVALID_ARGUMENT for what is no string: a mistake of the caller
 */
export function decodeMacText(text: string): Uint8Array | undefined {
  if (typeof text !== 'string') {
    throw new DekdError('INVALID_ARGUMENT', `the string form of a MAC is a string, not ${typeof text}`);
  }
  const body = text.startsWith(MAC_TEXT_PREFIX) ? text.slice(MAC_TEXT_PREFIX.length) : '';
  const mac = strictBytes(body, 'base64url');
  return mac?.length === STORED_MAC_LENGTH ? new Uint8Array(mac) : undefined;
}
