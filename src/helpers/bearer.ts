/** Names that open a door to whoever has them: session ids, links to secrets. Stores and contexts are given their hash only. */
import { createHash, randomBytes } from 'node:crypto';
import { DekdError } from '../errors.ts';
import type { Purpose } from './binding.ts';

/** Of 32 random bytes: no guessing, so that a plain hash of it tells nobody anything. */
export const BEARER_BYTES = 32;

const MAX_LENGTH = 1024;

/** 43 characters of base64url. */
export function newBearer(): string {
  return randomBytes(BEARER_BYTES).toString('base64url');
}

/** Under which name a store keeps what belongs to a bearer. @throws INVALID_ARGUMENT unless it is a text of 1 to 1,024 characters */
export function lookupOf(purpose: Purpose, bearer: string): string {
  if (!isBearer(bearer)) {
    throw new DekdError('INVALID_ARGUMENT', `an id is a text of 1 to ${MAX_LENGTH} characters`);
  }
  return createHash('sha256').update(`dekd/v1/helpers/${purpose}\0${bearer}`).digest('base64url');
}

/** What strangers send may be anything. */
export function isBearer(bearer: unknown): bearer is string {
  return typeof bearer === 'string' && bearer !== '' && bearer.length <= MAX_LENGTH;
}
