import type { KeyRecord, UsageLease } from '../keyring/record.ts';

/** What must be true of the stored record for a write to happen. */
export type Expectation = { readonly absent: true } | { readonly seq: bigint };

export interface KeystoreCapabilities {
  /** Rows survive this process. */
  readonly durable: boolean;
  /** `store`, `updateMetadata` and `delete` work. */
  readonly writable: boolean;
  readonly watch: boolean;
}

export interface KeystoreHealth {
  readonly ok: boolean;
  readonly detail: string;
}

export interface ListFilter {
  readonly name?: string;
  readonly partition?: string;
  readonly level?: 2 | 3 | 4;
  readonly purpose?: string;
  readonly state?: string;
}

export interface ListPage {
  readonly records: readonly KeyRecord[];
  /** Passed to the next `list`; undefined at the end. Opaque. */
  readonly cursor: string | undefined;
}

/**
 * Persistence of *wrapped* keys. It never sees key bytes and decides nothing: rows are data, checked by the keyring.
 *
 * Unique: kid; (name, partition, purpose, version). Throws DekdError with CONFLICT (a lost compare-and-set or a broken
 * uniqueness; nothing was written), KEYSTORE_UNAVAILABLE (I/O; whether it was written is not known, so read again),
 * KEY_NOT_FOUND (update or delete of an absent kid), UNSUPPORTED (a read-only keystore). Anything else becomes INTERNAL.
 */
export interface Keystore {
  readonly kind: string;
  /** Which store this is, of those kinds that can tell: another one in its place is refused, also an empty one. */
  readonly identity?: string | undefined;
  /** Inserts (`absent`) or replaces (`seq` equals the stored one) a record. Resolves once durable. */
  store(record: KeyRecord, expect: Expectation): Promise<void>;
  retrieve(kid: Uint8Array): Promise<KeyRecord | undefined>;
  /** Every version of one name, partition and purpose, oldest first. */
  versions(name: string, partition: string, purpose: string): Promise<readonly KeyRecord[]>;
  /**
   * Replaces state, dates, seq, MAC, revision, parent and wrapped bytes of several records at once, all or none: each
   * must still have the `seq` expected. Used for rotation, where one record becomes active as another stops being so.
   */
  updateMetadata(changes: readonly { readonly record: KeyRecord; readonly expect: Expectation }[]): Promise<void>;
  /** Shreds the wrapped bytes and leaves the tombstone given (state destroyed, empty `wrapped`). */
  delete(tombstone: KeyRecord, expect: Expectation): Promise<void>;
  /** In order of kid; `limit` at most 1,000. */
  list(filter: ListFilter, cursor: string | undefined, limit: number): Promise<ListPage>;
  /**
   * Usage leases: rows of their own, last write wins upwards (a smaller value never replaces a larger one). Those of a
   * record that seals no more may be summed up in one row without a holder.
   */
  leases(): Promise<readonly UsageLease[]>;
  storeLease(lease: UsageLease): Promise<void>;
  /** Of several keystores as one: copies a record to where its route says. @returns whether it lay elsewhere */
  bringHome?(record: KeyRecord): Promise<boolean>;
  health(): Promise<KeystoreHealth>;
  capabilities(): KeystoreCapabilities;
  close(): Promise<void>;
}
