import { hex } from '../bytes.ts';
import type { KeyHandle, Purpose } from '../crypto/engine.ts';
import type { Root } from '../custody/custody.ts';
import { DekdError } from '../errors.ts';
import type { DekCache, PartitionSlots } from './dek-cache.ts';
import type { KeyRules } from './key-definition.ts';
import type { DataKey, DataPurpose, Share } from './keyring.ts';
import type { KeyRecord, KeyState } from './record.ts';
import { contextWithoutLine } from './root-line.ts';
import type { UsageLedger } from './rotation.ts';
import { canOpen } from './states.ts';

/** No slot: the key is not in the engine's table. */
export const NO_SLOT = 0;

/** All known versions of one name in one partition for one purpose and in one line, for sealing and opening. */
export interface KeyFamily {
  readonly name: string;
  readonly partition: string;
  readonly purpose: DataPurpose;
  /** Name of the root that callers chose; empty for those who name none. */
  readonly line: string;
  /** Replaced when the configuration is read again. */
  rules: KeyRules;
  readonly keys: Map<number, LoadedKey>;
  /** Kept loaded although nobody uses it: it was asked for at start. */
  isPrewarmed: boolean;
  /** The version that seals, when it is known. */
  active: LoadedKey | undefined;
}

/** A KEK, in the table or not. Pinned while it has live children: loaded keys, or an operation in progress. */
export class Kek {
  record: KeyRecord;
  readonly id: string;
  /** Another root once the secret was moved there. */
  parent: Root | Kek;
  slot: KeyHandle | typeof NO_SLOT = NO_SLOT;
  /** Loaded children; at 0 the slot may be taken. */
  live = 0;
  /** Generation in which the row was last compared with the keystore. */
  checked = 0;

  constructor(record: KeyRecord, parent: Root | Kek) {
    this.record = record;
    this.id = hex(record.kid);
    this.parent = parent;
  }

  /** The KEK above, or this one, that hangs directly under a root. */
  get anchor(): Kek {
    return this.parent instanceof Kek ? this.parent.anchor : this;
  }

  /** Directly under a root: loading it again costs a call to the provider. */
  get isUnderRoot(): boolean {
    return !(this.parent instanceof Kek);
  }
}

/**
 * One version of a data key that the agent knows. The fields below are plain because the hot path reads them; they are
 * written by the keyring, the cache and the ledger only.
 */
export class LoadedKey implements DataKey {
  readonly kid: Uint8Array;
  readonly name: string;
  readonly partition: string;
  readonly purpose: DataPurpose;
  readonly version: number;
  /** Of the family's rules. */
  requiredContext: readonly string[];
  readonly family: KeyFamily;
  state: KeyState;
  record: KeyRecord;
  /** Undefined for a row that is denied and was never loaded. */
  parent: Kek | undefined;
  /** Whether state and parent allow the key to open. */
  usable: boolean;
  /** Whether it seals right now: active, with a lease, due for nothing. */
  sealable = false;
  /** Generation in which the row was last compared with the keystore. */
  checked = 0;

  // ── the cache's ───────────────────────────────────────────────────────────────────────────────────────────────
  slot: KeyHandle | typeof NO_SLOT = NO_SLOT;
  share: Share;
  slots: PartitionSlots | undefined = undefined;
  newer: LoadedKey | undefined = undefined;
  older: LoadedKey | undefined = undefined;

  // ── the index's: the kid as four words, and the next key whose first word is the same ───────────────────────────
  readonly word0: number;
  readonly word1: number;
  readonly word2: number;
  readonly word3: number;
  next: LoadedKey | undefined = undefined;

  // ── the ledger's ──────────────────────────────────────────────────────────────────────────────────────────────
  messages = 0;
  bytes = 0;
  /** Use that is set aside in the keystore; none before the first lease. */
  leasedMessages = 0;
  leasedBytes = 0;
  /** Use at which the next lease is taken. */
  renewAtMessages = Number.POSITIVE_INFINITY;
  renewAtBytes = Number.POSITIVE_INFINITY;
  renewing: Promise<void> | undefined = undefined;

  readonly #cache: DekCache;
  readonly #ledger: UsageLedger;

  constructor(
    record: KeyRecord,
    family: KeyFamily,
    parent: Kek | undefined,
    share: Share,
    cache: DekCache,
    ledger: UsageLedger,
  ) {
    this.kid = record.kid;
    this.name = record.name;
    this.partition = record.partition;
    this.purpose = family.purpose;
    this.version = record.version;
    this.requiredContext = family.rules.requiredContext;
    this.family = family;
    this.state = record.state;
    this.record = record;
    this.parent = parent;
    this.usable = parent !== undefined && canOpen(record.state);
    this.share = share;
    this.word0 = wordAt(record.kid, 0);
    this.word1 = wordAt(record.kid, 4);
    this.word2 = wordAt(record.kid, 8);
    this.word3 = wordAt(record.kid, 12);
    this.#cache = cache;
    this.#ledger = ledger;
  }

  get keyContext(): Readonly<Record<string, string>> {
    return contextWithoutLine(this.record.keyContext);
  }

  /** Name of the root that it hangs under now; undefined for one that was never loaded. */
  get rootName(): string | undefined {
    const parent = this.parent?.anchor.parent;
    return parent instanceof Kek ? undefined : parent?.name;
  }

  handle(): KeyHandle {
    if (this.slot !== NO_SLOT) {
      this.#cache.touch(this);
      return this.slot;
    }
    return this.#cache.reload(this);
  }

  used(messages: number, bytes: number): void {
    this.messages += messages;
    this.bytes += bytes;
    if (this.messages >= this.renewAtMessages || this.bytes >= this.renewAtBytes) {
      this.#ledger.renewSoon(this);
    }
  }
}

/** Whether keys of this purpose are loaded. */
export function isDataPurpose(purpose: Purpose): purpose is DataPurpose {
  return purpose !== 'wrap';
}

/** Big-endian, as a signed 32-bit integer. */
export function wordAt(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 24) | (bytes[offset + 1]! << 16) | (bytes[offset + 2]! << 8) | bytes[offset + 3]!;
}

/** What a caller that a rule admits is told when a version exists and must not be used. */
export function keyDisabled({ name, version, state }: LoadedKey): DekdError {
  const why = canOpen(state) ? 'stopped, as is the key that wraps it' : state;
  return new DekdError('KEY_DISABLED', `key ${name} version ${version} is ${why}`);
}
