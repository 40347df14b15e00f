/** Base64url without padding (RFC 4648 section 5), read in place: a batch makes no JavaScript string a value. */

/** ASCII of the digits, by their value. */
export const BASE64URL_DIGITS: Uint8Array = Buffer.from(
  'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_',
  'latin1',
);
const NOT_A_DIGIT = 0xff;
const VALUE = new Uint8Array(256).fill(NOT_A_DIGIT);
for (const [value, byte] of BASE64URL_DIGITS.entries()) {
  VALUE[byte] = value;
}

/**
 * Reads the digits at `[start, end)` of `bytes`, and writes what they say at `out[at]`, which may be where they are. Strict:
 * some bytes have one text.
 *
 * @returns how many bytes they are, or -1 when it is no base64url
 */
export function readBase64url(bytes: Uint8Array, start: number, end: number, out: Uint8Array, at: number): number {
  let from = start;
  const rest = (end - start) % 4;
  if (rest === 1) {
    return -1;
  }
  let to = at;
  let seen = 0;
  for (const whole = end - rest; from < whole; from += 4) {
    const a = VALUE[bytes[from]!]!;
    const b = VALUE[bytes[from + 1]!]!;
    const c = VALUE[bytes[from + 2]!]!;
    const d = VALUE[bytes[from + 3]!]!;
    seen |= a | b | c | d;
    out[to] = (a << 2) | (b >>> 4);
    out[to + 1] = (b << 4) | (c >>> 2);
    out[to + 2] = (c << 6) | d;
    to += 3;
  }
  if (rest > 0) {
    const a = VALUE[bytes[from]!]!;
    const b = VALUE[bytes[from + 1]!]!;
    const c = rest === 3 ? VALUE[bytes[from + 2]!]! : 0;
    seen |= a | b | c;
    // Bits past the last byte must be zero, else two texts would say the same.
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
