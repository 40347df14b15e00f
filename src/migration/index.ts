/** From what applications encrypted themselves, before, to tokens: one stage after the other. */
export { credentials } from './credentials.ts';
export { type LegacyParts, legacyEnvelope } from './envelope.ts';
export type * from './types.ts';
