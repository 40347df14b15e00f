/** The light client: no SDK, and native code only where it shares memory with an agent; `connect` is where to begin. */
export { DekdError, type DekdErrorOptions, ERROR_CODES, type ErrorCode } from '../errors.ts';
export type * from './bench-module.ts';
export { connect } from './client.ts';
export type * from './fields/types.ts';
export { keyIdOf } from './key-id.ts';
export { connectSync } from './sync/connect-sync.ts';
export type * from './sync/types.ts';
export type * from './types.ts';
