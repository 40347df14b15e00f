/** The encryption service: everything an application does with ciphertexts, under one object; over the client. */
export { DekdError, ERROR_CODES, type ErrorCode } from '../errors.ts';
export { EncryptionService } from './encryption-service.ts';
export type { Environment } from './environment.ts';
export type { DigestAlgorithm, HashAlgorithm } from './hashes.ts';
export type * from './types.ts';
