import { MIN_TOKEN_LENGTH, TOKEN_FORMAT } from '../../envelope/token.ts';
import { TOKEN_TEXT_PREFIX } from '../../envelope/token-text.ts';
import type { Slab } from './slab.ts';

/** The bytes of what has the form of a token; undefined for everything that is none, whoever looks. */
export function tokenIn(value: unknown, slab: Slab): Uint8Array | undefined {
  if (typeof value !== 'string' || !value.startsWith(TOKEN_TEXT_PREFIX)) {
    return undefined;
  }
  const token = slab.base64url(value, TOKEN_TEXT_PREFIX.length);
  return token !== undefined && token.length >= MIN_TOKEN_LENGTH && token[0] === TOKEN_FORMAT ? token : undefined;
}
