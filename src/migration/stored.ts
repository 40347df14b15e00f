/** What a value in a column is: a token in the envelope of this package, an envelope from before, or neither. */

import { hasLegacyShape, type LegacyShape, OWN_KID } from '../envelope/legacy.ts';
import { TOKEN_TEXT_PREFIX } from '../envelope/token-text.ts';
import type { StoredCredentials } from './types.ts';

/** By its shape alone: whether it is what it looks like, only the agent can say. */
export type Shape =
  | { readonly kind: 'token'; readonly token: string }
  | { readonly kind: 'legacy'; readonly envelope: LegacyShape }
  /** Neither, but it says `__enc`, or begins like a token. */
  | { readonly kind: 'lookalike' }
  | { readonly kind: 'other' };

/** @param value as a driver gives it: an object, or the JSON text of one */
export function shapeOf(value: unknown): Shape {
  if (typeof value === 'string') {
    return shapeOfText(value);
  }
  if (hasLegacyShape(value)) {
    const { kid, iv, ct } = value;
    if (kid !== OWN_KID) {
      return { kind: 'legacy', envelope: { __enc: 1, kid, iv, ct } };
    }
    return iv === '' && ct.startsWith(TOKEN_TEXT_PREFIX) ? { kind: 'token', token: ct } : { kind: 'lookalike' };
  }
  return saysEncrypted(value) ? { kind: 'lookalike' } : { kind: 'other' };
}

/**
 * The token in an envelope that fits where one from before did. Readers from before take it for one of theirs whose kid they do
 * not have, and fail: another `__enc` they might let through as plaintext.
 */
export function stored(token: string): StoredCredentials {
  return { __enc: 1, kid: OWN_KID, iv: '', ct: token };
}

function shapeOfText(text: string): Shape {
  const trimmed = text.trimStart();
  if (trimmed.startsWith(TOKEN_TEXT_PREFIX)) {
    return { kind: 'lookalike' };
  }
  if (trimmed.startsWith('{')) {
    try {
      // Not by looking for the name in the text, where it may be written with escapes.
      return shapeOf(JSON.parse(trimmed));
    } catch {
      return trimmed.includes('__enc') ? { kind: 'lookalike' } : { kind: 'other' };
    }
  }
  return { kind: 'other' };
}

function saysEncrypted(value: unknown): boolean {
  return typeof value === 'object' && value !== null && '__enc' in value;
}
