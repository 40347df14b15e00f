import { DekdError } from '../errors.ts';
import { lookAlike } from './token.ts';

/** What the string form of a token begins with; `.` is no character of base64url, so it is told apart exactly. */
export const TOKEN_TEXT_PREFIX = 'dk1.';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const NOT_A_DIGIT = 64;
const DIGIT = new Uint8Array(128).fill(NOT_A_DIGIT);
for (let value = 0; value < ALPHABET.length; value++) {
  DIGIT[ALPHABET.charCodeAt(value)] = value;
}

/** The string form of a token: `dk1.` and base64url without padding (RFC 4648 section 5). */
export function encodeTokenText(token: Uint8Array): string {
  return TOKEN_TEXT_PREFIX + bufferOf(token).toString('base64url');
}

/**
 * The token in its string form; a fresh copy. Strict: one token has one string, so padding, white space, the other
 * alphabet and bits left over are refused. The token itself is checked by who opens it.
 * @throws MALFORMED.
 */
export function decodeTokenText(text: string): Uint8Array {
  if (typeof text !== 'string') {
    throw new DekdError('INVALID_ARGUMENT', `the string form of a token is a string, not ${typeof text}`);
  }
  if (!text.startsWith(TOKEN_TEXT_PREFIX)) {
    const known = lookAlike(text);
    throw new DekdError('MALFORMED', `not a token: ${known ?? `it does not begin with ${TOKEN_TEXT_PREFIX}`}`);
  }
  const body = text.slice(TOKEN_TEXT_PREFIX.length);
  const token = Buffer.from(body, 'base64url');
  // Buffer skips what it does not know; only encoding again shows that nothing was skipped.
  if (token.toString('base64url') !== body) {
    throw new DekdError('MALFORMED', 'the string form of a token is not canonical base64url');
  }
  return new Uint8Array(token.buffer, token.byteOffset, token.length);
}

/**
 * Reads the string form of a token, which begins with the prefix, into `out`, which has the length that the text says. As
 * strict as `decodeTokenText`, and without a call into the runtime.
 * @returns false for any other text; what is in `out` is then of no meaning
 */
export function readTokenText(text: string, out: Uint8Array): boolean {
  const { length } = text;
  const rest = (length - TOKEN_TEXT_PREFIX.length) % 4;
  const whole = length - rest;
  let from = TOKEN_TEXT_PREFIX.length;
  let to = 0;
  let seen = 0;
  for (; from < whole; from += 4) {
    const a = digit(text, from);
    const b = digit(text, from + 1);
    const c = digit(text, from + 2);
    const d = digit(text, from + 3);
    seen |= a | b | c | d;
    out[to] = (a << 2) | (b >>> 4);
    out[to + 1] = (b << 4) | (c >>> 2);
    out[to + 2] = (c << 6) | d;
    to += 3;
  }
  if (rest === 1) {
    return false;
  }
  if (rest > 0) {
    const a = digit(text, from);
    const b = digit(text, from + 1);
    const c = rest === 3 ? digit(text, from + 2) : 0;
    seen |= a | b | c;
    // Bits past the last byte must be zero, else two texts would name one token.
    if ((rest === 2 ? b & 15 : c & 3) !== 0) {
      return false;
    }
    out[to++] = (a << 2) | (b >>> 4);
    if (rest === 3) {
      out[to++] = (b << 4) | (c >>> 2);
    }
  }
  return seen < 64;
}

/** The value of a digit of base64url, 64 for anything else. */
function digit(text: string, at: number): number {
  const unit = text.charCodeAt(at);
  return unit < 128 ? DIGIT[unit]! : NOT_A_DIGIT;
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
