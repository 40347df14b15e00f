import type { KeyHandle } from '../crypto/engine.ts';
import type { Keystore } from '../keystores/keystore.ts';
import type {
  ProviderCapabilities,
  ProviderDescription,
  ProviderHealth,
  RootReference,
  WrappedSecret,
} from '../providers/provider.ts';

/** One configured root as the keyring sees it, whichever process its provider runs in. */
export interface Root {
  readonly name: string;
  readonly description: ProviderDescription;
  /** Resolved ids that records may still name although the configuration has moved on (`roots.X.formerly`). */
  readonly formerly: readonly string[];
  readonly capabilities: ProviderCapabilities;
  wrap(secret: KeyHandle, context: Uint8Array): Promise<WrappedSecret>;
  unwrap(wrapped: Uint8Array, reference: RootReference, context: Uint8Array): Promise<KeyHandle>;
  health(depth: 'cheap' | 'deep'): Promise<ProviderHealth>;
}

/**
 * Who holds providers and keystores. `inline` runs them in the agent (local root, embedded keystores); a process of
 * their own is the other implementation, and everything above this interface is the same code for both.
 */
export interface Custody {
  /** Configured roots by name. */
  readonly roots: ReadonlyMap<string, Root>;
  /** The root under which new records are made. */
  readonly defaultRoot: Root;
  readonly keystore: Keystore;
  close(): Promise<void>;
}
