import type { Engine, KeyHandle } from '../../crypto/engine.ts';
import type { Root } from '../../custody/custody.ts';
import type { EncryptedDataKey } from '../../envelope/message-header.ts';

/** The name of the keystore among the recipients of a key. */
export const KEYSTORE_RECIPIENT = 'keystore';

/** The whole encryption context of a message, stored and required pairs together. */
export interface WholeContext {
  readonly pairs: Readonly<Record<string, string>>;
  /** Canonical bytes of the same. */
  readonly bytes: Uint8Array;
}

/** Whoever can open a message beside the keystore: a configured key, which no message chooses. */
export interface Recipient {
  /** In the configuration. */
  readonly name: string;
  /** The root whose provider is asked; undefined where the key is in the agent. */
  readonly root: Root | undefined;
  /** Whether this encrypted data key says that it is of exactly this recipient. */
  matches(copy: EncryptedDataKey): boolean;
  /**
   * Encrypts a data key, which stays the caller's until this settles.
   * @throws KMS_UNAVAILABLE, KMS_DENIED, RESOURCE_EXHAUSTED
   */
  wrap(dataKey: KeyHandle, context: WholeContext): Promise<EncryptedDataKey>;
  /**
   * Opens one that matches; the handle is the caller's.
   * @throws DECRYPTION_FAILED, KMS_UNAVAILABLE, KMS_DENIED, RESOURCE_EXHAUSTED
   */
  unwrap(copy: EncryptedDataKey, context: WholeContext): Promise<KeyHandle>;
}

/** The engine, and room in its table. */
export interface Table {
  readonly engine: Engine;
  /** Runs what takes slots; others give theirs up while the table is full. */
  room<T>(make: () => T): T;
  roomAsync<T>(make: () => Promise<T>): Promise<T>;
}

/** What the configuration says of one. */
export type RecipientSpec = { readonly name: string } & (
  | { readonly kind: 'root'; readonly root: string }
  | {
      readonly kind: 'raw-aes';
      /** Provider id of its encrypted data keys. */
      readonly namespace: string;
      readonly keyName: string;
      /** For RAW_AES_USE; taken over. */
      readonly key: KeyHandle;
    }
);
