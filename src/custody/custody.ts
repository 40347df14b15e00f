import type { RootConfig } from '../config/config.ts';
import type { KeyHandle, KeyUse } from '../crypto/engine.ts';
import type { Keystore } from '../keystores/keystore.ts';
import type {
  KeyContext,
  ProviderCapabilities,
  ProviderDescription,
  ProviderHealth,
  RootReference,
  WrappedSecret,
} from '../providers/provider.ts';
import type { BreakerState } from './breaker.ts';

/** How a root has answered, for health and metrics. */
export interface RootStanding {
  readonly breaker: BreakerState;
  /** Milliseconds since the provider last answered, by success or by refusal; undefined before the first answer. */
  readonly sinceAnswerMs: number | undefined;
  /** Calls in all, those that failed, and those of the last hour. */
  readonly calls: number;
  readonly failures: number;
  readonly callsLastHour: number;
}

/** A call to a provider that has ended. */
export interface RootCall {
  readonly root: string;
  readonly operation: 'wrap' | 'unwrap' | 'rewrap' | 'encrypt' | 'decrypt' | 'health';
  /** `ok`, or the code of what failed. */
  readonly outcome: string;
  readonly milliseconds: number;
}

/**
 * One configured root as the keyring sees it, whichever process its provider runs in. Each call has a deadline, counts
 * towards the breaker, and fails at once while that is open.
 *
 * Throws DekdError as `HandleProvider` says.
 */
export interface Root {
  readonly name: string;
  /** Resolved when the agent started, and again when a reply names another key: an alias was moved. */
  readonly description: ProviderDescription;
  /** Resolved ids that records may still name although the configuration has moved on (`roots.X.formerly`). */
  readonly formerly: readonly string[];
  readonly capabilities: ProviderCapabilities;
  /** Other resolved ids that this root has had, and that its records may name. */
  earlierIds(): readonly string[];
  /** Whether the provider is a service or a device, which may be silent or refuse; a local root is neither. */
  readonly remote: boolean;
  wrap(secret: KeyHandle, context: KeyContext): Promise<WrappedSecret>;
  /** @param use of the key that was wrapped: SECRET_USE unless it is DATA_KEY_USE */
  unwrap(wrapped: Uint8Array, reference: RootReference, context: KeyContext, use?: KeyUse): Promise<KeyHandle>;
  rewrap(wrapped: Uint8Array, reference: RootReference, context: KeyContext): Promise<WrappedSecret>;
  encrypt(plaintext: Uint8Array, context: KeyContext): Promise<WrappedSecret>;
  decrypt(ciphertext: Uint8Array, reference: RootReference, context: KeyContext): Promise<Uint8Array>;
  health(depth: 'cheap' | 'deep'): Promise<ProviderHealth>;
  standing(): RootStanding;
  /** Calls `listener` whenever the provider answers again after it did not. */
  onReturn(listener: () => void): void;
}

/** A process with providers or keystores in it, for health. */
export interface CustodianStanding {
  readonly role: 'provider' | 'keystore';
  /** 0 while there is none. */
  readonly pid: number;
  readonly started: number;
  readonly crashes: number;
}

/** What a configuration that was read again says of roots. */
export interface RootsChange {
  readonly added: readonly RootConfig[];
  readonly removed: readonly string[];
  /** Undefined where the configuration says what it said: a default that was set by command stays. */
  readonly defaultRoot: string | undefined;
}

/** Roots that are reached and not yet there; exactly one of the two is called, once. */
export interface PreparedRoots {
  commit(): void;
  abandon(): Promise<void>;
}

/**
 * Who holds providers and keystores. `inline` runs them in the agent, `process` in processes of their own; everything
 * above this interface is the same code for both.
 */
export interface Custody {
  /** Configured roots by name. */
  readonly roots: ReadonlyMap<string, Root>;
  /** The root under which new records are made, where no route says another. */
  readonly defaultRoot: Root;
  readonly keystore: Keystore;
  /** Makes another root the default from the next wrap on. @throws INVALID_ARGUMENT naming the roots there are. */
  setDefaultRoot(name: string): void;
  /**
   * Reaches roots that are to be added; everything is as it was until `commit` of what it resolves with. Keys below roots that
   * are removed are for the caller to wipe.
   * @throws as opening the custody does
   */
  prepareRoots(change: RootsChange): Promise<PreparedRoots>;
  /** Forgets what was cached of a root, or of all: clients, logins, sessions. The next call begins anew. */
  clear(name: string | undefined): Promise<void>;
  custodians(): readonly CustodianStanding[];
  close(): Promise<void>;
}
