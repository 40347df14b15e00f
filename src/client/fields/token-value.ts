import { MIN_TOKEN_LENGTH, TOKEN_FORMAT } from '../../envelope/token.ts';
import { readTokenText, TOKEN_TEXT_PREFIX } from '../../envelope/token-text.ts';
import type { Slab } from './slab.ts';

const SHORTEST = TOKEN_TEXT_PREFIX.length + Math.ceil((MIN_TOKEN_LENGTH * 4) / 3);

/** The bytes of what has the form of a token; undefined for everything that is none, whoever looks. */
export function tokenIn(value: unknown, slab: Slab): Uint8Array | undefined {
  if (typeof value !== 'string' || value.length < SHORTEST || !value.startsWith(TOKEN_TEXT_PREFIX)) {
    return undefined;
  }
  const room = slab.take(Math.floor(((value.length - TOKEN_TEXT_PREFIX.length) * 3) / 4));
  return readTokenText(value, room) && room[0] === TOKEN_FORMAT ? room : undefined;
}
