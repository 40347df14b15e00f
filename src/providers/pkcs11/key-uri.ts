/** RFC 7512: a key on a token as a URI, which is the resolved id of a root. */
import type { KeyTemplate, Token, TokenKey } from './cryptoki.ts';

const PREFIX = 'pkcs11:';

/**
 * The same key has the same URI at every start, always in this order. Slot numbers are left out: they change when a reader
 * is plugged in.
 */
export function keyUri({ label, serial }: Token, key: Pick<TokenKey, 'label' | 'id'>): string {
  const parts = [
    `token=${encoded(Buffer.from(label, 'utf8'))}`,
    `serial=${encoded(Buffer.from(serial, 'utf8'))}`,
    ...(key.label === '' ? [] : [`object=${encoded(Buffer.from(key.label, 'utf8'))}`]),
    ...(key.id === '' ? [] : [`id=${encodedId(key.id)}`]),
    'type=secret-key',
  ];
  return PREFIX + parts.join(';');
}

/**
 * What to look for on the configured token. Which token a stored URI names does not matter: whether it may be used was
 * decided before, and a key restored to another device keeps its label and id.
 * @returns undefined for what is no URI of a secret key, or names none.
 */
export function keyOfUri(uri: string): KeyTemplate | undefined {
  if (!uri.startsWith(PREFIX)) {
    return undefined;
  }
  const found = new Map<string, Buffer>();
  for (const part of uri.slice(PREFIX.length).split(';')) {
    const at = part.indexOf('=');
    const value = at < 0 ? undefined : decoded(part.slice(at + 1));
    const name = part.slice(0, at);
    if (value === undefined || found.has(name)) {
      return undefined;
    }
    found.set(name, value);
  }
  const label = found.get('object')?.toString('utf8');
  const id = found.get('id')?.toString('hex');
  const isKey = found.get('type')?.toString('latin1') === 'secret-key';
  return isKey && (label !== undefined || id !== undefined) ? { label, id } : undefined;
}

function encoded(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => {
    const character = String.fromCharCode(byte);
    return /[A-Za-z0-9._~-]/.test(character) ? character : escaped(byte);
  }).join('');
}

/** An id is binary: all of it is escaped, as RFC 7512 recommends. */
function encodedId(hex: string): string {
  return Array.from(Buffer.from(hex, 'hex'), escaped).join('');
}

function escaped(byte: number): string {
  return `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
}

function decoded(text: string): Buffer | undefined {
  if (!/^(?:[^%]|%[0-9A-Fa-f]{2})*$/.test(text)) {
    return undefined;
  }
  const latin = text.replace(/%(..)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return Buffer.from(latin, 'latin1');
}
