/** What an operation is given and where it puts its result; the agent implements both over frames. */
import type { DekdError } from '../errors.ts';
import type { UsedKey } from '../telemetry/observation.ts';

/** On envelopes that applications made themselves, before. */
export type LegacyOperation = 'openLegacy' | 'migrateLegacy';
export type OperationName =
  | 'encrypt'
  | 'decrypt'
  | 'reencrypt'
  | 'keyInfo'
  | 'hmac'
  | 'verifyHmac'
  | 'blindIndex'
  | LegacyOperation;

/** What makes a key that is not there. */
export type CreatingName = Extract<OperationName, 'encrypt' | 'hmac' | 'blindIndex'>;

/** One value and its binding, by offset into `frame`. Views stay intact while referenced; nothing is written to them. */
export interface ValueRequest {
  readonly id: number;
  readonly frame: Uint8Array;
  readonly key: string;
  readonly partition: string;
  /** Name of the root that was chosen, where something is sealed; empty for none. */
  readonly root: string;
  readonly anyKey: boolean;
  readonly contextOffset: number;
  readonly contextLength: number;
  readonly dataOffset: number;
  readonly dataLength: number;
  /** A copy that outlives the call, in `memory` when it is given: the original is reused for the next request. */
  copy(memory?: Buffer): ValueRequest;
}

/**
 * Takes the items of a batch in order; `undefined` means the item does not say and the call's value holds. A MAC has no
 * bytes where none was said.
 */
export interface ItemVisitor {
  item(
    dataOffset: number,
    dataLength: number,
    contextOffset: number,
    contextLength: number,
    key: string | undefined,
    partition: string | undefined,
    macOffset?: number,
    macLength?: number,
    root?: string | undefined,
  ): void;
}

export interface ManyRequest extends ValueRequest {
  readonly count: number;
  visitItems(visitor: ItemVisitor): void;
  /**
   * Visits the next `count` items; `position` is 0 at first and then what the call before returned.
   */
  visitSome(visitor: ItemVisitor, position: number, count: number): number;
  copy(memory?: Buffer): ManyRequest;
}

/** A value, and what is to be its MAC. */
export interface VerifyRequest extends ValueRequest {
  readonly macOffset: number;
  readonly macLength: number;
  copy(memory?: Buffer): VerifyRequest;
}

/** Values for an index, which all lie in one place; items have data only. */
export interface IndexRequest extends ManyRequest {
  readonly table: string;
  readonly column: string;
  /** Fingerprints are asked for, which lie in no place. */
  readonly isFingerprint: boolean;
  copy(memory?: Buffer): IndexRequest;
}

export interface ItemFailure {
  readonly index: number;
  readonly error: DekdError;
}

/** The reply under construction. `buffer` changes with every call that reserves: read it after, not before. */
export interface Output {
  readonly buffer: Uint8Array;
  /** Opens a reply of one value; returns the offset in `buffer` at which its `length` bytes go. */
  reserveValue(id: number, length: number): number;
  /** Takes the reply opened last back and wipes it. */
  rewind(): void;
  /** Opens a reply of many values that take at most `bound` bytes with their heads. */
  beginMany(id: number, bound: number): void;
  manyValue(length: number): number;
  endMany(failures: readonly ItemFailure[]): void;
  /** Notes which version of a key does the work of the request `id`; of a batch, that of its first item. */
  keyUsed(id: number, key: UsedKey): void;
  /** Whose requests these are: owners of large ones take turns. */
  readonly owner: object;
  /**
   * A reply to the request `id` that is made while others are written.
   * @param bytes what the work on it holds: beyond some MiB the owner's requests are no longer read
   */
  detach(id: number, bytes: number, memory: ReplyMemory): DetachedOutput;
}

/** Where a reply lies until it is sent. */
export interface ReplyMemory {
  /** At least `size` bytes. */
  take(size: number): Buffer;
  /** Takes memory back and wipes the first `used` bytes. */
  give(memory: Buffer, used: number): void;
}

/** One reply, under construction for longer than a call; `buffer` stays the same once the reply was opened. */
export interface DetachedOutput extends Omit<Output, 'owner' | 'detach'> {
  /** False once the request was cancelled, has passed its deadline or lost its client. */
  readonly isWanted: boolean;
  /** Hands the reply over; its memory comes back when it was sent. */
  send(): void;
  /** Wipes what was written and gives the memory back. */
  discard(): void;
}

/** So many values of one key, and their bytes. */
export interface CallerLoad {
  readonly operation: OperationName;
  /** Empty for any key. */
  readonly key: string;
  readonly partition: string;
  readonly items: number;
  readonly bytes: number;
}

/** Who asks, as policy sees them. Every method is answered from a cache after the first time. */
export interface Caller {
  /** On whose account keys are loaded. */
  readonly share: string;
  /** Primary group, and the socket that the caller came through: for who is told of requests. */
  readonly gid?: number | undefined;
  readonly socket?: string | undefined;
  /** @throws PERMISSION_DENIED, the same for "not allowed" and "no such key" */
  authorize(operation: OperationName, key: string, partition: string): void;
  /** Names of what rules grant on the key. */
  rights(key: string, partition: string): readonly string[];
  /** @throws PERMISSION_DENIED, the same for "not allowed" and "no such root" */
  authorizeRoot(operation: OperationName, key: string, partition: string, root: string): void;
  allowsRoot(operation: OperationName, key: string, partition: string, root: string): boolean;
  /** Whether the root may be chosen for some key. */
  maySomewhere(root: string): boolean;
  allows(operation: OperationName | 'anyKey', key: string, partition: string): boolean;
  /** Whether the operation is granted for this key on envelopes of the legacy key `kid`. */
  allowsLegacy(operation: LegacyOperation, key: string, partition: string, kid: string): boolean;
  /**
   * Checks and counts the right to create a key on first use.
   * @param by what uses it, `encrypt` unless given. @throws PERMISSION_DENIED, RESOURCE_EXHAUSTED
   */
  authorizeCreate(key: string, partition: string, by?: CreatingName): void;
  /** Whether a rule lets this caller create the key. */
  mayCreate(key: string, partition: string, by?: CreatingName): boolean;
  /** Whether a rule of this caller has a quota or wants context names: nobody else's calls are asked about those. */
  readonly isGated: boolean;
  /** Charges so many values of one key, and their bytes, to the caller's quotas; an empty key is any. @throws RESOURCE_EXHAUSTED */
  charge(load: CallerLoad): void;
  /** Counts a request as in work. @returns what ends that; undefined when nothing bounds it @throws RESOURCE_EXHAUSTED */
  begin(operation: OperationName, key: string, partition: string): (() => void) | undefined;
  /** Takes bytes that were had already. @returns 0, or in how many milliseconds more may be had */
  owe(operation: OperationName, key: string, partition: string, bytes: number): number;
  /** @param names of the context of a call, asked for when a rule wants some. @throws PERMISSION_DENIED, and what `names` throws */
  checkContext(operation: OperationName, key: string, partition: string, names: () => readonly string[]): void;
  /** Counts values for an index against the caller's quota. @throws RESOURCE_EXHAUSTED */
  chargeIndex(key: string, partition: string, values: number): void;
}
