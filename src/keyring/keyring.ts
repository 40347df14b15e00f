import type { KeyHandle, KeyTableStats, Purpose } from '../crypto/engine.ts';
import type { DirectKey } from './direct-keys.ts';
import type { Freeze } from './freezes.ts';
import type { KeyDefinitions } from './key-definition.ts';
import type { KekName } from './key-name.ts';
import type { MessageRecipients } from './recipients/message-recipients.ts';
import type { KeyRecord, KeyState } from './record.ts';
import type { RewrapPage, RewrapRequest } from './rewrap.ts';
import type { WatchLimits } from './root-watch.ts';
import type { TenantDestruction } from './tenants.ts';

/** What a data key that is loaded is for: `seal` is tokens. A name has its own versions for each. */
export type DataPurpose = Exclude<Purpose, 'wrap'>;

/**
 * A data key that is loaded, as the operations use it. Identity is stable while the version is loaded; the handle is
 * not: it is asked for right before use, in the same synchronous stretch as the engine call.
 */
export interface DataKey {
  readonly kid: Uint8Array;
  readonly name: string;
  readonly partition: string;
  readonly purpose: DataPurpose;
  readonly version: number;
  readonly state: KeyState;
  /** Context names that every call with this key must carry. */
  readonly requiredContext: readonly string[];
  /** What the version was made for, as its record says. */
  readonly keyContext: Readonly<Record<string, string>>;
  /**
   * The handle, valid until control returns to the event loop, or until the handle of another key takes its slot because
   * the table is full: the engine then reports it as stale (`ROW_STATUS.staleKey`), and the row is run again with a new
   * handle. Marks the key as recently used; when it had been evicted, unwraps the cached wrapped row again, synchronously.
   * @throws KEY_DISABLED, RESOURCE_EXHAUSTED.
   */
  handle(): KeyHandle;
  /** Counts use towards rotation by messages and by bytes of plaintext. */
  used(messages: number, bytes: number): void;
}

/** On whose behalf a key is loaded: slots are shared fairly between shares, and within one between its partitions. */
export type Share = string;

export interface CreateRequest {
  readonly name: string;
  readonly partition: string;
  readonly purpose: Purpose;
}

/** Name of the root that a caller chose for a key; empty where the caller leaves it to routes and the default root. */
export type ChosenRoot = string;

/** What `keys list` and `keys show` print: everything of a record but wrapped bytes and MAC. */
export interface KeyInfo {
  readonly kid: string;
  readonly name: string;
  readonly partition: string;
  readonly level: number;
  readonly version: number;
  readonly revision: number;
  readonly algorithm: string;
  readonly purpose: string;
  readonly state: KeyState;
  readonly parent: string;
  /** Name of the root at the top of its tree; undefined when a key above it is not in the keystore. */
  readonly root: string | undefined;
  readonly created: string;
  readonly activated: string | undefined;
  readonly deactivated: string | undefined;
  readonly destroyed: string | undefined;
  readonly messages: string;
  readonly bytes: string;
  readonly seq: string;
}

export interface KeyringStats {
  readonly table: KeyTableStats;
  /** Data keys known, loaded in the table, and evicted to wrapped form. */
  readonly known: number;
  readonly loaded: number;
  readonly evictions: number;
  readonly reloads: number;
  /** Keys put into the table, reloads not counted. */
  readonly loads: number;
  /** Uses of keys that were there, and of those that had to be looked up, made or rotated first. */
  readonly hits: number;
  readonly misses: number;
  /** `detected` with a state folder, else `undetected`: nothing outside the keystore remembers. */
  readonly rollback: 'detected' | 'undetected';
  /** KEKs under providers in the table, and milliseconds since the one proved longest ago was proved. */
  readonly watched: number;
  readonly oldestProofMs: number | undefined;
}

export interface ImportReport {
  readonly imported: number;
  readonly unchanged: number;
  readonly refused: readonly { readonly kid: string; readonly reason: string }[];
}

/** Versions of named keys over a custody: which one seals, which one opens, and their whole life. */
export interface Keyring {
  /**
   * Takes over what a configuration that was read again says: known keys follow from the next call on, versions that are made
   * from now on have the new key contexts. Roots that were added are followed too. Synchronous: no call sees half of it.
   */
  reconfigure(settings: { readonly definitions: KeyDefinitions; readonly watch: WatchLimits }): void;
  /**
   * The version that seals now, when it is already known and due for nothing; else undefined: await `prepareSealing`. One
   * version under each root that callers chose seals for them.
   */
  sealing(name: string, partition: string, root?: ChosenRoot): DataKey | undefined;
  /** The same of the version for a purpose: what makes MACs or computes indexes counts as sealing. */
  sealingFor(purpose: DataPurpose, name: string, partition: string, root?: ChosenRoot): DataKey | undefined;
  /**
   * Loads the sealing version of a purpose, single-flight per (name, partition, purpose); creates the key when there is
   * none and `create` says so (called only then; it throws to refuse). Rotates when the key is due.
   * Under a root that was chosen, a version is made as soon as the key has one anywhere: that is no creation.
   * @param purpose `seal` unless given
   * @throws KEY_NOT_FOUND, KEY_DISABLED, KMS_UNAVAILABLE, KMS_DENIED, KEYSTORE_UNAVAILABLE, CONFLICT; INVALID_ARGUMENT
   * for any purpose but `seal` of a name that is direct, and for a root that is not configured.
   */
  prepareSealing(
    name: string,
    partition: string,
    share: Share,
    create: (() => void) | undefined,
    purpose?: DataPurpose,
    root?: ChosenRoot,
  ): Promise<DataKey>;
  /**
   * The version with the kid at `bytes[offset, +16)`, when it is already known. Of any purpose: who asks looks at
   * `purpose`. In any state: a version that must not be used says so in `state`, and `handle()` throws KEY_DISABLED.
   */
  opening(bytes: Uint8Array, offset: number): DataKey | undefined;
  /** Looks the kid up in the keystore, rate-limited for unknown ones; undefined when there is none or its row is refused. */
  prepareOpening(kid: Uint8Array, share: Share): Promise<DataKey | undefined>;
  /**
   * Runs `make`, which takes slots of the engine's table for keys of its own, as those of a message in work; data keys
   * give theirs up while the table is full. So `make` asks for handles itself, and may run again.
   * @throws RESOURCE_EXHAUSTED, and what `make` throws.
   */
  room<T>(make: () => T): T;
  /** Data keys of messages for others than the keystore, and what a name's recipients are. */
  readonly recipients: Pick<MessageRecipients, 'rulesFor' | 'seal' | 'open'>;
  /** The key to encrypt with when it is direct: the provider encrypts each value itself. @throws KEY_DISABLED */
  directSealing(name: string, partition: string, root?: ChosenRoot): DirectKey | undefined;
  /** The direct key of this name that made the token with this reference. @throws KEY_DISABLED */
  directOpening(reference: Uint8Array, name: string, partition: string): DirectKey | undefined;
  /** What is known of a key for `keyInfo`, every version. */
  describe(name: string, partition: string): Promise<readonly KeyInfo[]>;

  create(request: CreateRequest): Promise<KeyInfo>;
  rotate(request: CreateRequest): Promise<KeyInfo>;
  /** `rotate`, and what sealed until now becomes compromised in the same write. */
  rotateCompromised(request: CreateRequest): Promise<KeyInfo>;
  /**
   * Makes `key`, which was made elsewhere and stays the caller's, the next version of a KEK; the same key again changes nothing.
   * @param expectKid lower hex; another key is refused
   */
  importKek(kek: KekName, key: KeyHandle, expectKid: string | undefined): Promise<KeyInfo>;
  /** Wraps a page of records anew: under another root, or under the newest material of their own parent. */
  rewrap(request: RewrapRequest): Promise<RewrapPage>;
  /** Wipes every key below a root, or below all: each is unwrapped again when it is next used. */
  wipe(root: string | undefined): void;
  /** Disables versions that `rotation.keep` and `rotation.grace` have done with. Runs by itself too. @returns how many */
  retire(): Promise<number>;
  /**
   * `disable` suspends, `enable` makes a suspended version active again. No version means all of the name; here and
   * below, no purpose means every purpose.
   */
  disable(name: string, partition: string, version: number | undefined, purpose?: Purpose): Promise<readonly KeyInfo[]>;
  enable(name: string, partition: string, version: number | undefined, purpose?: Purpose): Promise<readonly KeyInfo[]>;
  markCompromised(name: string, partition: string, version: number, purpose?: Purpose): Promise<readonly KeyInfo[]>;
  /** Shreds the wrapped bytes for good; leaves a tombstone. */
  destroy(name: string, partition: string, version: number | undefined, purpose?: Purpose): Promise<readonly KeyInfo[]>;
  list(
    filter: { name?: string; partition?: string },
    cursor: string | undefined,
    limit: number,
  ): Promise<{ keys: readonly KeyInfo[]; cursor: string | undefined }>;
  /** Every record, wrapped; the document `import` and keystore `bundle` read. */
  exportRecords(): AsyncIterable<KeyRecord>;
  /** Checks each record under its parent before it is stored; what is there already is left. */
  importRecords(records: Iterable<KeyRecord>, options: { acceptRollback: boolean }): Promise<ImportReport>;
  /** Makes and loads the KEKs of a tenant. @throws INVALID_ARGUMENT where tenants have no tree of their own */
  prepareTenant(tenant: string): Promise<readonly KeyInfo[]>;
  /** Shreds keys of a tenant, as many as one call may; again until none is left. */
  destroyTenant(tenant: string): Promise<TenantDestruction>;
  /**
   * Stops every use of the keys that match, at once, and until they are thawed; with neither name nor partition every key is
   * wiped. @returns what is frozen now
   */
  freeze(freeze: Freeze): Promise<readonly Freeze[]>;
  /** @throws INVALID_ARGUMENT when there is no such freeze */
  thaw(freeze: Freeze): Promise<readonly Freeze[]>;
  freezes(): readonly Freeze[];
  /** Name of the root under which a key's next version hangs for callers who choose none. @throws INVALID_ARGUMENT */
  rootOf(name: string, partition: string): string;
  /** Whether keys of this name are direct: their provider encrypts each value itself. */
  isDirect(name: string): boolean;
  /** Context names that every call with a key of this name must carry, whether or not there is such a key. */
  requiredContext(name: string): readonly string[];
  stats(): KeyringStats;
  /** Milliseconds since the oldest version that seals was made, by name of the key, of the keys that are known. */
  sealingAges(): ReadonlyMap<string, number>;
  /** Milliseconds since the KEK below each root that was proved longest ago was proved, by name of the root. */
  proofAges(): ReadonlyMap<string, number>;
  close(): Promise<void>;
}
