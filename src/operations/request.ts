/** What an operation is given and where it puts its result; the agent implements both over frames. */
import type { DekdError } from '../errors.ts';

export type OperationName = 'encrypt' | 'decrypt' | 'reencrypt' | 'keyInfo';

/** One value and its binding, by offset into `frame`. Views stay intact while referenced; nothing is written to them. */
export interface ValueRequest {
  readonly id: number;
  readonly frame: Uint8Array;
  readonly key: string;
  readonly partition: string;
  readonly anyKey: boolean;
  readonly contextOffset: number;
  readonly contextLength: number;
  readonly dataOffset: number;
  readonly dataLength: number;
  /** A copy that outlives the call: the original is reused for the next request. */
  copy(): ValueRequest;
}

/** Takes the items of a batch in order; `undefined` means the item does not say and the call's value holds. */
export interface ItemVisitor {
  item(
    dataOffset: number,
    dataLength: number,
    contextOffset: number,
    contextLength: number,
    key: string | undefined,
    partition: string | undefined,
  ): void;
}

export interface ManyRequest extends ValueRequest {
  readonly count: number;
  visitItems(visitor: ItemVisitor): void;
  copy(): ManyRequest;
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
}

/** Who asks, as policy sees them. Every method is answered from a cache after the first time. */
export interface Caller {
  /** On whose account keys are loaded. */
  readonly share: string;
  /** @throws PERMISSION_DENIED, the same for "not allowed" and "no such key" */
  authorize(operation: OperationName, key: string, partition: string): void;
  allows(operation: OperationName | 'anyKey', key: string, partition: string): boolean;
  /** Checks and counts the right to create a key on first use. @throws PERMISSION_DENIED, RESOURCE_EXHAUSTED */
  authorizeCreate(key: string, partition: string): void;
  /** Whether a rule lets this caller create the key. */
  mayCreate(key: string, partition: string): boolean;
}
