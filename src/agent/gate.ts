/**
 * What rules want of a call beside the right to it: that its caller has quota left, and that its context has certain names. Callers
 * without such rules never come here.
 */
import { checkContext, contextNames } from '../envelope/context.ts';
import type { Caller, ItemVisitor, OperationName } from '../operations/request.ts';
import type { RequestReader } from '../protocol/request-reader.ts';
import { kindOf } from './request-kinds.ts';

/** Keys of one batch that are told apart; with more, they count together as one. */
const MAX_KEYS = 1024;

/**
 * Charges the request to its caller's quotas, and counts it as in work.
 * @param request read as far as its operation says
 * @returns what ends its being in work; undefined when nothing bounds that
 * @throws RESOURCE_EXHAUSTED, PERMISSION_DENIED; nothing is charged then
 */
export function admit(caller: Caller, request: RequestReader): (() => void) | undefined {
  const { operation, form } = kindOf(request.operation);
  if (form === 'command') {
    return undefined;
  }
  const right = operation as OperationName;
  // With `anyKey` no key is named: it counts with each that the caller could mean.
  const key = request.anyKey ? '' : request.key;
  const { partition } = request;
  if (form === 'batch') {
    return admitBatch(caller, request, right);
  }
  checkNames(caller, request.frame, right, key, partition, request.contextOffset, request.contextLength);
  const end = caller.begin(right, key, partition);
  try {
    // Bytes of streams are paced as they come, those of files when they are known.
    const bytes = form === 'lane' ? request.input.length : form === 'value' ? request.dataLength : 0;
    caller.charge({ operation: right, key, partition, items: 1, bytes });
  } catch (error) {
    end?.();
    throw error;
  }
  return end;
}

function admitBatch(caller: Caller, request: RequestReader, right: OperationName): (() => void) | undefined {
  const items = new BatchItems(caller, request, right);
  request.visitItems(items);
  return items.admit();
}

interface KeyLoad {
  readonly key: string;
  readonly partition: string;
  items: number;
  bytes: number;
}

class BatchItems implements ItemVisitor {
  readonly #caller: Caller;
  readonly #request: RequestReader;
  readonly #right: OperationName;
  readonly #loads = new Map<string, KeyLoad>();
  #last: KeyLoad | undefined;
  /** Of the first item that may not be: a visit must not throw. */
  #refusal: unknown;

  constructor(caller: Caller, request: RequestReader, right: OperationName) {
    this.#caller = caller;
    this.#request = request;
    this.#right = right;
  }

  item(
    _dataOffset: number,
    dataLength: number,
    contextOffset: number,
    contextLength: number,
    key: string | undefined,
    partition: string | undefined,
  ): void {
    const request = this.#request;
    const ownKey = request.anyKey ? '' : (key ?? request.key);
    const ownPartition = partition ?? request.partition;
    try {
      checkNames(this.#caller, request.frame, this.#right, ownKey, ownPartition, contextOffset, contextLength);
    } catch (error) {
      this.#refusal ??= error;
    }
    const load = this.#loadOf(ownKey, ownPartition);
    load.items += 1;
    load.bytes += dataLength;
  }

  /**
   * Charges all of it, and counts the batch as in work once for each of its keys.
   * @returns what ends that
   * @throws RESOURCE_EXHAUSTED; PERMISSION_DENIED for the whole batch when one item lacks a name in its context. What was taken for
   * other keys before a refusal stays taken
   */
  admit(): (() => void) | undefined {
    if (this.#refusal !== undefined) {
      throw this.#refusal;
    }
    const ends: (() => void)[] = [];
    const end = (): void => {
      for (const each of ends) {
        each();
      }
    };
    try {
      for (const load of this.#loads.values()) {
        const ended = this.#caller.begin(this.#right, load.key, load.partition);
        if (ended !== undefined) {
          ends.push(ended);
        }
        this.#caller.charge({ operation: this.#right, ...load });
      }
    } catch (error) {
      end();
      throw error;
    }
    return ends.length === 0 ? undefined : end;
  }

  #loadOf(key: string, partition: string): KeyLoad {
    if (this.#last?.key === key && this.#last.partition === partition) {
      return this.#last;
    }
    const id = this.#loads.size < MAX_KEYS ? `${key}\0${partition}` : '';
    let load = this.#loads.get(id);
    if (load === undefined) {
      load = id === '' ? { key: '', partition: '', items: 0, bytes: 0 } : { key, partition, items: 0, bytes: 0 };
      this.#loads.set(id, load);
    }
    this.#last = load;
    return load;
  }
}

function checkNames(
  caller: Caller,
  frame: Uint8Array,
  right: OperationName,
  key: string,
  partition: string,
  offset: number,
  length: number,
): void {
  // Indexes, and envelopes that are only opened, have no context.
  if (right !== 'blindIndex' && right !== 'openLegacy') {
    caller.checkContext(right, key, partition, () => {
      checkContext(frame, offset, length);
      return contextNames(frame, offset, length);
    });
  }
}
