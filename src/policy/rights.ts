/** What rules grant, as bits of one number. */
import type { Operation } from '../config/config.ts';

/** What makes a key that is not there. */
export type CreatingOperation = Extract<Operation, 'encrypt' | 'hmac' | 'blindIndex'>;

export const BITS = {
  encrypt: 1,
  decrypt: 2,
  reencrypt: 4,
  anyKey: 8,
  keyInfo: 16,
  hmac: 64,
  verifyHmac: 128,
  blindIndex: 256,
  openLegacy: 1 << 20,
  migrateLegacy: 1 << 21,
} as const satisfies Record<Operation, number>;
export const CREATE_BIT = 32;
/** Some rule that grants an operation on the key has a quota. */
export const METERED_BIT = 1 << 28;
/** Some rule that grants an operation on the key wants context names. */
export const CONTEXT_BIT = 1 << 29;
