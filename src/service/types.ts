import type {
  CallOptions,
  ConnectOptions,
  DekdClient,
  EncryptionContext,
  EncryptLargeOptions,
  FieldPath,
  FieldsDefinition,
  RootDescription,
} from '../client/index.ts';

/** Where the agent is: an own connection, which services of the same settings share, or a client that stays the caller's. */
export type ServiceConnection =
  | { readonly client: DekdClient; readonly connection?: undefined }
  | { readonly client?: undefined; readonly connection?: ConnectOptions | undefined };

/** What every call of a service has in common; a call may say otherwise. */
export type ServiceOptions = ServiceConnection & {
  readonly key: string;
  /** The tenant; absent means none. */
  readonly partition?: string | undefined;
  /** Pairs that every call is bound to beside its own. */
  readonly context?: EncryptionContext | undefined;
  /** Name of the root that new values go under; absent leaves it to the agent. `setProvider` changes it. */
  readonly root?: string | undefined;
  /** `false`: every operation rejects with SERVICE_DISABLED. Nothing ever passes through unencrypted. */
  readonly enabled?: boolean | undefined;
  /** Told of re-encryptions on access that failed, where the call has no `onReencryptFailed`; default: a process warning. */
  readonly onReencryptFailed?: ((failure: ReencryptFailure) => void) | undefined;
};

/** What a call says beside the value; what it does not say comes from the service. */
export interface ServiceCallOptions extends CallOptions {
  readonly key?: string | undefined;
  readonly partition?: string | undefined;
  readonly context?: EncryptionContext | undefined;
}

/** A re-encryption on access that failed. The plaintext was returned all the same, and the old ciphertext still opens. */
export interface ReencryptFailure {
  readonly operation: string;
  readonly key: string;
  readonly partition: string;
  /** `reencrypt`: the agent did not make the new value. `store`: the callback failed that was to store it. */
  readonly step: 'reencrypt' | 'store';
  /** What the agent said, or whatever the callback threw. */
  readonly error: unknown;
}

/** Re-encrypts what was read when it is under an older version of its key, or under another root than the service's. */
export interface OnAccessOptions<Stored> {
  /**
   * Given the ciphertext that should take the place of the one that was read: replace it in your store, best only where it
   * still is the one that was read. Awaited. What it throws is told, and does not fail the call.
   */
  readonly onReencrypted?: ((next: Stored, previous: Stored) => unknown) | undefined;
  readonly onReencryptFailed?: ((failure: ReencryptFailure) => void) | undefined;
}

export type ServiceDecryptOptions<Stored> = ServiceCallOptions & OnAccessOptions<Stored>;

export interface LargeDataOptions extends ServiceCallOptions {
  /** As of `encryptLarge`: off unless given, because lengths of compressed values tell of what is in them. */
  readonly compression?: EncryptLargeOptions['compression'];
}

export type LargeDataDecryptOptions = ServiceDecryptOptions<Uint8Array> & {
  /** Bytes that the value may have; default 268,435,456. */
  readonly maxOutput?: number | undefined;
};

/** Of `encryptObject`: how values that are no JSON are written, and what arrays and null become. */
export type ObjectOptions<T, P extends FieldPath<T>> = ServiceCallOptions &
  Pick<FieldsDefinition<T, P>, 'codecs' | 'nulls' | 'bindPositions'>;

/** The same for paths that are known at run time only. */
export interface AnyObjectOptions extends ServiceCallOptions {
  readonly codecs?: Readonly<Record<string, unknown>> | undefined;
  readonly nulls?: 'encrypt' | 'keep' | undefined;
  readonly bindPositions?: boolean | undefined;
}

/** Root that a service may be switched to. */
export type Provider = RootDescription;

export interface SetProviderOptions extends CallOptions {
  /** Pairs that the key requires, where the service's own lack them: the new root is tried out before the switch. */
  readonly context?: EncryptionContext | undefined;
}

/** What a service can do, by the names of its methods; with arguments where only some are possible. */
export type Capability =
  | 'encrypt'
  | 'decrypt'
  | 'reencrypt'
  | 'encryptLargeData'
  | 'decryptLargeData'
  | 'reencryptLargeData'
  | 'encryptObject'
  | 'decryptObject'
  | 'generateHash'
  | 'verifyHash'
  | 'setProvider'
  | 'keyInfo';
