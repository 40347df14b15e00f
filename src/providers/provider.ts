import type { KeyHandle } from '../crypto/engine.ts';

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
  /** The wrapped 32-byte secret W, opaque to everything but the provider. */
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
  /** The provider can move a wrapped secret to newer material without revealing it. */
  readonly serverRewrap: boolean;
}

export interface ProviderHealth {
  readonly ok: boolean;
  readonly detail: string;
}

/**
 * What wraps the 32-byte secret W that every record under a root has. A provider sees W and the key context only.
 *
 * Every method may throw DekdError with KMS_UNAVAILABLE (retryable: silence is never a refusal), KMS_DENIED (an explicit
 * refusal) or DECRYPTION_FAILED (the wrapped bytes, the key or the context do not match); anything else becomes INTERNAL.
 */
export interface Provider {
  readonly root: string;
  /** Reaches the root key and resolves it. Called once at start, before anything else. */
  describe(): Promise<ProviderDescription>;
  /** Wraps W. `secret` stays the caller's. `context` is the key context (canonical bytes, as in docs/formats.md). */
  wrap(secret: KeyHandle, context: Uint8Array): Promise<WrappedSecret>;
  /** Unwraps into the engine's key table; the caller owns and destroys the handle. */
  unwrap(wrapped: Uint8Array, reference: RootReference, context: Uint8Array): Promise<KeyHandle>;
  /** `cheap` costs no call that is paid for; `deep` proves wrap and unwrap. */
  health(depth: 'cheap' | 'deep'): Promise<ProviderHealth>;
  capabilities(): ProviderCapabilities;
  close(): Promise<void>;
}
