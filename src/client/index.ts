/** The light client: no native code, no SDK; `connect` is where to begin. */
export { DekdError, ERROR_CODES, type ErrorCode } from '../errors.ts';
export type * from './bench-module.ts';
export { connect } from './client.ts';
export type * from './types.ts';
