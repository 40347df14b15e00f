import { strictBytes } from '../../bytes.ts';

/** `vault:vN:BASE64`, as Transit of both Vault and OpenBao writes it. N is a key version, from 1. */
const FORM = /^vault:v([1-9][0-9]{0,8}):([A-Za-z0-9+/]+={0,2})$/;
/** Nonce and tag of the shortest suite. */
const MIN_SEALED_LENGTH = 12 + 16;

export interface TransitCiphertext {
  /** What goes to the server. */
  readonly text: string;
  readonly version: number;
}

/**
 * Undefined for what Transit never wrote, so that it is refused before the network. Stricter than the server, which takes
 * version 0 for 1 and passes over line breaks and spare bits: two texts would open that differ.
 */
export function parseCiphertext(bytes: Uint8Array): TransitCiphertext | undefined {
  const text = Buffer.from(bytes).toString('latin1');
  const parts = FORM.exec(text);
  if (parts === null) {
    return undefined;
  }
  const sealed = strictBytes(parts[2]!, 'base64');
  if (sealed === undefined || sealed.length < MIN_SEALED_LENGTH) {
    return undefined;
  }
  return { text, version: Number(parts[1]) };
}
