/** Batches: cut into parts that fit into a frame each, a few of them under way at once. */
import { DekdError } from '../errors.ts';
import { OPERATION } from '../protocol/request-reader.ts';
import { checkBytes, checkKey, checkPartition, checkRoot, contexts } from './arguments.ts';
import type { Caller } from './caller.ts';
import { PartCall, partition } from './calls.ts';
import type { WireBinding, WireItem } from './requests.ts';
import type { CallOptions, ManyItem, ManyOptions, ManyResult } from './types.ts';

/** Parts of one batch under way at once: enough to keep both sides busy, few enough to bound memory. */
const PARTS_IN_FLIGHT = 4;
/** What every agent takes in one request, however it is configured. */
const SMALLEST_PAYLOAD = 4096;

/**
 * One result per item, in order.
 * @param operation one of `OPERATION` that takes many
 * @throws DekdError when the whole call failed
 */
export async function passBatch(
  caller: Caller,
  operation: number,
  items: readonly ManyItem[],
  options: ManyOptions,
  anyKey: boolean,
): Promise<ManyResult[]> {
  options.signal?.throwIfAborted();
  const deadline = caller.deadline(options);
  const { binding, wire } = batchOf(operation, items, options, anyKey);
  return passItems(caller, operation, binding, wire, options, deadline);
}

/**
 * The same of items as they go onto the wire.
 * @param deadline by the monotonic clock
 */
export async function passItems(
  caller: Caller,
  operation: number,
  binding: WireBinding,
  wire: readonly WireItem[],
  options: CallOptions,
  deadline: number,
): Promise<ManyResult[]> {
  const { transport } = caller;
  const release = transport.hold();
  try {
    let ends = partition(operation, wire, transport.maxPayload ?? SMALLEST_PAYLOAD);
    if (ends.length > 1 && transport.maxPayload === undefined) {
      // How to cut it only the agent can say.
      await caller.ping(options);
      ends = partition(operation, wire, transport.maxPayload ?? SMALLEST_PAYLOAD);
    }
    if (ends.length === 1) {
      return await part(caller, operation, binding, wire, 0, wire.length, deadline, options.signal);
    }
    let next = 0;
    const parts: ManyResult[][] = new Array(ends.length);
    const worker = async (): Promise<void> => {
      while (next < ends.length) {
        const index = next++;
        const from = index === 0 ? 0 : ends[index - 1]!;
        try {
          parts[index] = await part(caller, operation, binding, wire, from, ends[index]!, deadline, options.signal);
        } catch (error) {
          // Nobody waits for the rest any more.
          next = ends.length;
          throw error;
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(PARTS_IN_FLIGHT, ends.length) }, worker));
    const results: ManyResult[] = [];
    for (const done of parts) {
      for (const result of done) {
        results.push(result);
      }
    }
    return results;
  } finally {
    release();
  }
}

function part(
  caller: Caller,
  operation: number,
  binding: WireBinding,
  items: readonly WireItem[],
  from: number,
  to: number,
  deadline: number,
  signal: AbortSignal | undefined,
): Promise<ManyResult[]> {
  return new Promise((resolve, reject) => {
    const call = new PartCall(caller.transport, operation, binding, items, from, to, deadline, signal, resolve, reject);
    caller.transport.submit(call);
  });
}

/** A batch as it goes onto the wire. @throws INVALID_ARGUMENT */
export function batchOf(
  operation: number,
  items: readonly ManyItem[],
  options: ManyOptions,
  anyKey: boolean,
): { readonly binding: WireBinding; readonly wire: WireItem[] } {
  const binding = {
    key: options.key === undefined ? '' : checkKey(options.key),
    partition: checkPartition(options.partition),
    context: contexts.bytesOf(options.context),
    anyKey,
    root: choosesRoot(operation) ? checkRoot(options.root) : undefined,
  };
  return { binding, wire: wireItems(items, binding, operation) };
}

/** Under which root a token is, it says itself: only what encrypts chooses one. */
function choosesRoot(operation: number): boolean {
  return operation === OPERATION.encryptMany || operation === OPERATION.reencryptMany;
}

function wireItems(items: readonly ManyItem[], binding: WireBinding, operation: number): WireItem[] {
  if (!Array.isArray(items)) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      'items is an array of bytes or of { data, key?, partition?, context?, root? }',
    );
  }
  const wire: WireItem[] = new Array(items.length);
  for (let i = 0; i < items.length; i++) {
    const item = items[i] as ManyItem;
    if (item instanceof Uint8Array) {
      wire[i] = new BareItem(item);
    } else {
      checkBytes(item?.data, i);
      wire[i] = {
        data: item.data,
        key: item.key === undefined ? undefined : checkKey(item.key),
        partition: item.partition === undefined ? undefined : checkPartition(item.partition),
        context: item.context === undefined ? undefined : contexts.bytesOf(item.context),
        root: choosesRoot(operation) ? checkRoot(item.root) : undefined,
      };
    }
    if (binding.key === '' && !binding.anyKey && wire[i]!.key === undefined) {
      throw new DekdError('INVALID_ARGUMENT', `item ${i} has no key, and neither has the call`);
    }
  }
  return wire;
}

/** An item that is only bytes: a class, so that a batch of them has one shape. */
class BareItem implements WireItem {
  readonly data: Uint8Array;
  readonly key: string | undefined = undefined;
  readonly partition: string | undefined = undefined;
  readonly context: Uint8Array | undefined = undefined;
  readonly root: string | undefined = undefined;

  constructor(data: Uint8Array) {
    this.data = data;
  }
}
