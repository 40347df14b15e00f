import type { KeyHandle, KeyUse } from '../crypto/engine.ts';
import type { ProviderCode } from './provider-error.ts';

/** Names and texts bound to a wrapped key: what a KMS sees and audits. Few values, none of them secret. */
export type KeyContext = Readonly<Record<string, string>>;

/** Which root key wrapped something: stored beside the wrapped bytes, used for unwrap, never a choice of its own. */
export interface RootReference {
  /** Name of the root in the configuration. */
  readonly root: string;
  /** The key the provider resolved the configured id to (an ARN, a hash), so that a moved alias strands nothing. */
  readonly resolvedId: string;
  /** Version of the key material where the provider has one, else empty. */
  readonly materialVersion: string;
}

export interface WrappedSecret {
  /** The wrapped 32-byte secret W, or a direct ciphertext: opaque to everything but the provider. */
  readonly wrapped: Uint8Array;
  readonly reference: RootReference;
}

export interface ProviderDescription {
  readonly kind: string;
  readonly resolvedId: string;
  readonly materialVersion: string;
  /** Lines a person must see at start (for example: a local root protects nothing from a reader of the node). */
  readonly warnings: readonly string[];
}

export interface ProviderCapabilities {
  /** The provider authenticates the key context itself. */
  readonly nativeContext: boolean;
  /** `rewrap` works: a wrapped secret moves to newer material without being revealed. */
  readonly serverRewrap: boolean;
  /** Longest plaintext of `encrypt`, in bytes; 0 when there is no direct mode. */
  readonly directLimit: number;
  /** Replies name the version of the key material, so that `rewrap` can tell what is left to do. */
  readonly versioned: boolean;
}

export interface ProviderHealth {
  readonly ok: boolean;
  readonly detail: string;
  /** When it is not: what a call would fail with. */
  readonly code?: ProviderCode;
}

/** What every provider has, whoever holds the secret W. */
interface ProviderCommon {
  readonly root: string;
  capabilities(): ProviderCapabilities;
  /** Resolves when connections are closed, sessions ended and tokens revoked. Later calls fail with UNAVAILABLE. */
  close(): Promise<void>;
}

/**
 * A root key that lies in a service or a device. Its library sees the 32-byte secret W in bytes and leaves copies of it
 * behind, so it runs in a custodian (or, where the configuration accepts that, in the agent).
 *
 * Every method throws ProviderError and nothing else. `signal` carries the deadline and cancellation of the one call: it
 * is honoured also while waiting for a connection (TIMEOUT when it was aborted with a TimeoutError, else CANCELLED).
 */
export interface Provider extends ProviderCommon {
  /** Reaches the root key and resolves it; tells unreachable, missing, denied and disabled apart. Before anything else. */
  describe(signal: AbortSignal): Promise<ProviderDescription>;
  /** Wraps W (32 bytes, the caller's to wipe) under the newest material of the root key. */
  wrap(secret: Uint8Array, context: KeyContext, signal: AbortSignal): Promise<WrappedSecret>;
  /**
   * Unwraps with the key that `reference` names, which the caller has checked against the configuration; never with an
   * alias. @returns bytes that are the caller's to wipe; the caller checks their length.
   */
  unwrap(wrapped: Uint8Array, reference: RootReference, context: KeyContext, signal: AbortSignal): Promise<Uint8Array>;
  /** Moves W to the newest material of the configured root key inside the service. Absent without `serverRewrap`. */
  rewrap?(
    wrapped: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<WrappedSecret>;
  /** Direct mode: the service itself encrypts, at most `directLimit` bytes. Absent when that is 0. */
  encrypt?(plaintext: Uint8Array, context: KeyContext, signal: AbortSignal): Promise<WrappedSecret>;
  decrypt?(
    ciphertext: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<Uint8Array>;
  /** `cheap` costs no call that is paid for or counted against a quota of cryptography; `deep` proves wrap and unwrap. */
  health(depth: 'cheap' | 'deep', signal: AbortSignal): Promise<ProviderHealth>;
  /** As `close`, and leaves the login valid for whoever goes on with it. Absent where there is none to keep. */
  closeKeepingSession?(): Promise<void>;
}

/**
 * A root that takes and gives keys by handle, so that W never leaves the engine's table on this side: a local root key
 * itself, or a `Provider` behind custody.
 *
 * Every method may throw DekdError with KMS_UNAVAILABLE (retryable: silence is never a refusal), KMS_DENIED (an explicit
 * refusal), DECRYPTION_FAILED (the wrapped bytes, the key or the context do not match), INVALID_ARGUMENT or UNSUPPORTED;
 * the ProviderError behind it is its `cause`. Anything else becomes INTERNAL. `signal` as in `Provider`.
 */
export interface HandleProvider extends ProviderCommon {
  describe(signal: AbortSignal): Promise<ProviderDescription>;
  /** Wraps W, or a data key: what is for SECRET_USE or DATA_KEY_USE. `secret` stays the caller's. */
  wrap(secret: KeyHandle, context: KeyContext, signal: AbortSignal): Promise<WrappedSecret>;
  /** Unwraps into the engine's key table, for SECRET_USE unless `use` is DATA_KEY_USE; the caller owns and destroys the handle. */
  unwrap(
    wrapped: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
    use?: KeyUse,
  ): Promise<KeyHandle>;
  /** @throws UNSUPPORTED without `serverRewrap`. */
  rewrap(
    wrapped: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<WrappedSecret>;
  /** Direct mode. @throws UNSUPPORTED when `directLimit` is 0. */
  encrypt(plaintext: Uint8Array, context: KeyContext, signal: AbortSignal): Promise<WrappedSecret>;
  decrypt(
    ciphertext: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<Uint8Array>;
  health(depth: 'cheap' | 'deep', signal: AbortSignal): Promise<ProviderHealth>;
}
