/** Values for indexes: made the same, sent together by key and column, and shortened to what a column holds. */

import { setTimeout as sleep } from 'node:timers/promises';
import { hex } from '../bytes.ts';
import { DekdError } from '../errors.ts';
import { OPERATION } from '../protocol/request-reader.ts';
import { checkKey, checkPartition, utf8Of } from './arguments.ts';
import type { Caller } from './caller.ts';
import { PartCall, partition } from './calls.ts';
import { normalised, normaliserOf } from './normalise.ts';
import type { IndexPlace, WireBinding, WireItem } from './requests.ts';
import type {
  BlindIndexItem,
  CallOptions,
  FingerprintOptions,
  ManyBlindIndexOptions,
  ManyResult,
  Normalisation,
  TextResult,
} from './types.ts';

const DEFAULT_BITS = 128;
const MIN_BITS = 16;
const MAX_BITS = 256;
const MAX_PLACE_NAME = 255;
/** What every agent takes in one request, however it is configured. */
const SMALLEST_PAYLOAD = 4096;
/**
 * Values that are asked for at once: less than a second's quota, so that one who looks a single value up beside a large batch
 * gets his turn.
 */
const PART_VALUES = 500;
const NO_CONTEXT = new Uint8Array(0);

type Normaliser = (text: string) => string;

/** Values that go to the agent together. */
interface Group {
  readonly binding: WireBinding;
  readonly items: WireItem[];
  /** Position of each value in the batch, and bytes of its result. */
  readonly positions: number[];
  readonly lengths: number[];
}

/**
 * One result per value, in order.
 * @param waits for what the quota does not give at once, until the deadline
 * @throws DekdError when the whole call failed
 */
export async function indexValues(
  caller: Caller,
  values: readonly BlindIndexItem[],
  options: ManyBlindIndexOptions,
  waits: boolean,
): Promise<TextResult[]> {
  options?.signal?.throwIfAborted();
  if (!Array.isArray(values)) {
    throw new DekdError('INVALID_ARGUMENT', 'values is an array of strings, of bytes, or of { value, … }');
  }
  const results: TextResult[] = new Array(values.length);
  const groups = new Map<string, Group>();
  const normalisers = new Map<Normalisation, Normaliser>();
  for (let i = 0; i < values.length; i++) {
    const given = values[i] as BlindIndexItem;
    const isValue = typeof given !== 'object' || given === null || given instanceof Uint8Array;
    const item = isValue ? { value: given } : given;
    const { group, length, normalise } = indexOf(groups, normalisers, item, options);
    checkValue(item.value, normalise);
    try {
      group.items.push(itemOf(item.value, normalise));
    } catch (error) {
      // Of this value alone: it cannot be made the same as others.
      results[i] = { ok: false, error: DekdError.from(error) };
      continue;
    }
    group.positions.push(i);
    group.lengths.push(length);
  }
  const deadline = caller.deadline(options);
  for (const group of groups.values()) {
    const done = await passGroup(caller, group, deadline, options, waits);
    done.forEach((result, index) => {
      results[group.positions[index]!] = result.ok
        ? { ok: true, value: hex(result.value.subarray(0, group.lengths[index])) }
        : result;
    });
  }
  return results;
}

export async function fingerprintOf(
  caller: Caller,
  value: Uint8Array | string,
  options: FingerprintOptions,
): Promise<TextResult> {
  options?.signal?.throwIfAborted();
  const binding: WireBinding = {
    key: checkKey(options?.key),
    partition: checkPartition(options.partition),
    context: NO_CONTEXT,
    anyKey: false,
    place: 'nowhere',
  };
  checkValue(value, undefined);
  const group: Group = { binding, items: [itemOf(value, undefined)], positions: [0], lengths: [MAX_BITS / 8] };
  const [result] = await passGroup(caller, group, caller.deadline(options), options, false);
  return result!.ok ? { ok: true, value: hex(result!.value) } : result!;
}

/** @throws what became of the only value */
export function textOf(result: TextResult): string {
  if (!result.ok) {
    throw result.error;
  }
  return result.value;
}

/** Where a value belongs, and what is done to it. @throws INVALID_ARGUMENT */
function indexOf(
  groups: Map<string, Group>,
  normalisers: Map<Normalisation, Normaliser>,
  item: Exclude<BlindIndexItem, string | Uint8Array>,
  options: ManyBlindIndexOptions,
): { group: Group; length: number; normalise: Normaliser | undefined } {
  const key = checkKey(item?.key ?? options?.key);
  const tenant = checkPartition(item.partition ?? options.partition);
  const place = {
    table: checkPlace('table', item.table ?? options.table),
    column: checkPlace('column', item.column ?? options.column),
  };
  const length = checkBits(item.bits ?? options.bits ?? DEFAULT_BITS) / 8;
  const normalisation = item.normalise ?? options.normalise;
  let normalise: Normaliser | undefined;
  if (normalisation !== undefined) {
    normalise = normalisers.get(normalisation) ?? normaliserOf(normalisation);
    normalisers.set(normalisation, normalise);
  }
  return { group: groupFor(groups, key, tenant, place), length, normalise };
}

function groupFor(groups: Map<string, Group>, key: string, tenant: string, place: IndexPlace): Group {
  const id = JSON.stringify([key, tenant, place.table, place.column]);
  let group = groups.get(id);
  if (group === undefined) {
    const binding = { key, partition: tenant, context: NO_CONTEXT, anyKey: false, place };
    group = { binding, items: [], positions: [], lengths: [] };
    groups.set(id, group);
  }
  return group;
}

function checkValue(value: unknown, normalise: Normaliser | undefined): void {
  if (typeof value === 'string') {
    return;
  }
  if (!(value instanceof Uint8Array)) {
    throw new DekdError('INVALID_ARGUMENT', `value is ${value === null ? 'null' : typeof value}, not text or bytes`);
  }
  if (normalise !== undefined) {
    throw new DekdError('INVALID_ARGUMENT', 'normalise is for text, and this value is bytes');
  }
}

/** @throws INVALID_ARGUMENT for text that has no bytes, or nothing left */
function itemOf(value: Uint8Array | string, normalise: Normaliser | undefined): WireItem {
  const text = typeof value === 'string' && normalise !== undefined ? normalised(value, normalise) : value;
  const data = typeof text === 'string' ? utf8Of(text) : text;
  return { data, key: undefined, partition: undefined, context: undefined };
}

function checkPlace(what: 'table' | 'column', name: unknown): string {
  if (typeof name !== 'string' || name === '' || !name.isWellFormed() || Buffer.byteLength(name) > MAX_PLACE_NAME) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `${what} is a name of 1 to ${MAX_PLACE_NAME} bytes: it says which index this is`,
    );
  }
  return name;
}

function checkBits(bits: number): number {
  if (!Number.isInteger(bits) || bits < MIN_BITS || bits > MAX_BITS || bits % 8 !== 0) {
    throw new DekdError('INVALID_ARGUMENT', `bits is ${bits}; it is ${MIN_BITS} to ${MAX_BITS}, in steps of 8`);
  }
  return bits;
}

/** Sends the parts of a group one after the other, each when the quota gives it. */
async function passGroup(
  caller: Caller,
  { binding, items }: Group,
  deadline: number,
  options: CallOptions,
  waits: boolean,
): Promise<ManyResult[]> {
  const { maxPayload } = caller.transport;
  let ends = partition(OPERATION.blindIndex, items, maxPayload ?? SMALLEST_PAYLOAD);
  if (ends.length > 1 && maxPayload === undefined) {
    // How to cut it only the agent can say.
    await caller.ping(options);
    ends = partition(OPERATION.blindIndex, items, caller.transport.maxPayload ?? SMALLEST_PAYLOAD);
  }
  const results: ManyResult[] = [];
  let from = 0;
  for (const end of ends) {
    while (from < end) {
      const to = Math.min(end, from + PART_VALUES);
      const done = await passPart(caller, binding, items, from, to, deadline, options.signal, waits);
      for (const result of done) {
        results.push(result);
      }
      from = to;
    }
  }
  return results;
}

async function passPart(
  caller: Caller,
  binding: WireBinding,
  items: readonly WireItem[],
  from: number,
  to: number,
  deadline: number,
  signal: AbortSignal | undefined,
  waits: boolean,
): Promise<ManyResult[]> {
  for (;;) {
    try {
      return await new Promise((resolve, reject) => {
        const { transport } = caller;
        const { blindIndex } = OPERATION;
        transport.submit(
          new PartCall(transport, blindIndex, binding, items, from, to, deadline, signal, resolve, reject),
        );
      });
    } catch (error) {
      const waitMs = DekdError.is(error, 'RESOURCE_EXHAUSTED') ? error.retryAfterMs : undefined;
      if (!waits || waitMs === undefined || performance.now() + waitMs >= deadline) {
        throw error;
      }
      await sleep(waitMs, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
      signal?.throwIfAborted();
    }
  }
}
