/**
 * The package's front door: the client with its types, the one error, and the contracts that an adapter for a keystore
 * or a provider of root keys is written against. The agent is started with the command, `dekd run`; it has no interface
 * in JavaScript, because the process that holds keys should hold nothing else.
 */
export * from './client/index.ts';
export type { Algorithm, KeyHandle, Purpose } from './crypto/engine.ts';
export type { KeyDates, KeyLevel, KeyParent, KeyRecord, KeyState, UsageLease } from './keyring/record.ts';
export type {
  Expectation,
  Keystore,
  KeystoreCapabilities,
  KeystoreHealth,
  ListFilter,
  ListPage,
} from './keystores/keystore.ts';
export type {
  KeyContext,
  Provider,
  ProviderCapabilities,
  ProviderDescription,
  ProviderHealth,
  RootReference,
  WrappedSecret,
} from './providers/provider.ts';
