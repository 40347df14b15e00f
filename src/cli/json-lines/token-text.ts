/**
 * The text form of a token as a JSON string, written and read in place: a batch makes no JavaScript string per value.
 *
 * Text is `dk1.` and base64url without padding (RFC 4648 section 5). Reading is strict: one token has one text.
 */

const QUOTE = 0x22;
/** `"dk1.` */
const HEAD = Buffer.from('"dk1.', 'latin1');
const ALPHABET = Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_', 'latin1');
const NOT_A_DIGIT = 0xff;
const DIGIT = new Uint8Array(256).fill(NOT_A_DIGIT);
for (const [value, byte] of ALPHABET.entries()) {
  DIGIT[byte] = value;
}

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
    out[to] = ALPHABET[bits >>> 18]!;
    out[to + 1] = ALPHABET[(bits >>> 12) & 63]!;
    out[to + 2] = ALPHABET[(bits >>> 6) & 63]!;
    out[to + 3] = ALPHABET[bits & 63]!;
    from += 3;
    to += 4;
  }
  const rest = token.length - whole;
  if (rest > 0) {
    const bits = (token[from]! << 16) | (rest === 2 ? token[from + 1]! << 8 : 0);
    out[to++] = ALPHABET[bits >>> 18]!;
    out[to++] = ALPHABET[(bits >>> 12) & 63]!;
    if (rest === 2) {
      out[to++] = ALPHABET[(bits >>> 6) & 63]!;
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
  let from = start + HEAD.length;
  const last = end - 1;
  const digits = last - from;
  const rest = digits % 4;
  if (rest === 1) {
    return -1;
  }
  let to = at;
  let seen = 0;
  for (const whole = last - rest; from < whole; from += 4) {
    const a = DIGIT[bytes[from]!]!;
    const b = DIGIT[bytes[from + 1]!]!;
    const c = DIGIT[bytes[from + 2]!]!;
    const d = DIGIT[bytes[from + 3]!]!;
    seen |= a | b | c | d;
    out[to] = (a << 2) | (b >>> 4);
    out[to + 1] = (b << 4) | (c >>> 2);
    out[to + 2] = (c << 6) | d;
    to += 3;
  }
  if (rest > 0) {
    const a = DIGIT[bytes[from]!]!;
    const b = DIGIT[bytes[from + 1]!]!;
    const c = rest === 3 ? DIGIT[bytes[from + 2]!]! : 0;
    seen |= a | b | c;
    // Bits past the last byte must be zero, else two texts would name one token.
    if ((rest === 2 ? b & 15 : c & 3) !== 0) {
      return -1;
    }
    out[to++] = (a << 2) | (b >>> 4);
    if (rest === 3) {
      out[to++] = (b << 4) | (c >>> 2);
    }
  }
  // Digits are below 64, so only a byte outside the alphabet sets the two high bits.
  return (seen & 0xc0) === 0 ? to - at : -1;
}
