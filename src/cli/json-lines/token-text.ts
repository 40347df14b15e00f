/**
 * The text form of a token as a JSON string, written and read in place: a batch makes no JavaScript string per value.
 *
 * Text is `dk1.` and base64url without padding (RFC 4648 section 5). Reading is strict: one token has one text.
 */
import { BASE64URL_DIGITS, readBase64url } from '../../envelope/base64url.ts';

const QUOTE = 0x22;
/** `"dk1.` */
const HEAD = Buffer.from('"dk1.', 'latin1');

/** Bytes of the JSON string for a token of `length` bytes, quotes included. */
export function quotedTokenLength(length: number): number {
  return HEAD.length + Math.ceil((length * 4) / 3) + 1;
}

/** Writes `"dk1.…"` at `out[at]`; returns the offset after it. */
export function writeQuotedToken(out: Uint8Array, at: number, token: Uint8Array): number {
  let to = at;
  for (let index = 0; index < HEAD.length; index += 1) {
    out[to++] = HEAD[index]!;
  }
  const whole = token.length - (token.length % 3);
  let from = 0;
  while (from < whole) {
    const bits = (token[from]! << 16) | (token[from + 1]! << 8) | token[from + 2]!;
    out[to] = BASE64URL_DIGITS[bits >>> 18]!;
    out[to + 1] = BASE64URL_DIGITS[(bits >>> 12) & 63]!;
    out[to + 2] = BASE64URL_DIGITS[(bits >>> 6) & 63]!;
    out[to + 3] = BASE64URL_DIGITS[bits & 63]!;
    from += 3;
    to += 4;
  }
  const rest = token.length - whole;
  if (rest > 0) {
    const bits = (token[from]! << 16) | (rest === 2 ? token[from + 1]! << 8 : 0);
    out[to++] = BASE64URL_DIGITS[bits >>> 18]!;
    out[to++] = BASE64URL_DIGITS[(bits >>> 12) & 63]!;
    if (rest === 2) {
      out[to++] = BASE64URL_DIGITS[(bits >>> 6) & 63]!;
    }
  }
  out[to++] = QUOTE;
  return to;
}

/** Whether the JSON text at `[start, end)` is a string that begins with `dk1.`, written without escapes. */
export function looksLikeToken(bytes: Uint8Array, start: number, end: number): boolean {
  if (end - start <= HEAD.length) {
    return false;
  }
  for (let index = 0; index < HEAD.length; index += 1) {
    if (bytes[start + index] !== HEAD[index]) {
      return false;
    }
  }
  return true;
}

/**
 * Reads the JSON string at `[start, end)` of `bytes`, which `looksLikeToken`, and writes the token at `out[at]`.
 *
 * @returns the length of the token, or -1 when the text is not strict base64url.
 */
export function readQuotedToken(bytes: Uint8Array, start: number, end: number, out: Uint8Array, at: number): number {
  return readBase64url(bytes, start + HEAD.length, end - 1, out, at);
}
