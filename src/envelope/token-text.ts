import { DekdError } from '../errors.ts';
import { lookAlike } from './token.ts';

/** What the string form of a token begins with; `.` is no character of base64url, so it is told apart exactly. */
export const TOKEN_TEXT_PREFIX = 'dk1.';

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
  // As strictBytes does, whose file every application would load for it. Only encoding again shows that nothing was skipped.
  if (token.toString('base64url') !== body) {
    throw new DekdError('MALFORMED', 'the string form of a token is not canonical base64url');
  }
  return new Uint8Array(token.buffer, token.byteOffset, token.length);
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
