/** One behind the other, in new bytes. */
export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Lower hex. */
export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}

/**
 * What a text encodes, in memory of its own or of the pool of Buffer; undefined for a text that no encoder writes: white space,
 * the other alphabet or case, padding that is missing or too much, bits left over. Buffer skips what it does not know: only
 * encoding again shows that nothing was skipped.
 */
export function strictBytes(text: string, encoding: 'hex' | 'base64' | 'base64url'): Uint8Array | undefined {
  const bytes = Buffer.from(text, encoding);
  return bytes.toString(encoding) === text ? bytes : undefined;
}
