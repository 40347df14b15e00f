/** Helpers for what applications do with secrets, each a page over the client. */
export { ApiKeys, type ApiKeysOptions, type IssuedApiKey, type MacClient, type StoredApiKey } from './api-keys.ts';
export type { BoundArgument, BoundOptions, HelperOptions } from './binding.ts';
export {
  type BatchClient,
  type CacheTime,
  CacheTransformer,
  type CacheTransformerOptions,
  type RedisCommands,
} from './cache-transformer.ts';
export { OneShotSecrets, type OneShotSecretsOptions, type OneShotStore } from './one-shot-secrets.ts';
export { PaginationTokens, type PaginationTokensOptions } from './pagination-tokens.ts';
export {
  type RefreshedToken,
  type RefreshTokenStore,
  RefreshTokens,
  type RefreshTokensOptions,
} from './refresh-tokens.ts';
export { Sessions, type SessionsOptions, type StoredSession } from './sessions.ts';
export {
  type ObjectStore,
  StorageTransformer,
  type StorageTransformerOptions,
  type StreamClient,
} from './storage-transformer.ts';
export { ThirdPartyKeys } from './third-party-keys.ts';
export type { TextClient, TimedOptions } from './timed-values.ts';
