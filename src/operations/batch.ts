/**
 * Batches: one pass that decides on each item, one engine call for all of them.
 *
 * A pass may find keys that are not loaded. Then nothing has been written yet: the keys are loaded and the pass starts
 * over, so that the engine call always sees handles taken in the same synchronous stretch.
 */
import { ROW, ROW_STATUS, ROW_WORDS } from '../crypto/engine.ts';
import { checkContext } from '../envelope/context.ts';
import { DekdError, withoutStacks } from '../errors.ts';
import type { DataKey } from '../keyring/keyring.ts';
import type { OperationsEnvironment, Outcome } from './environment.ts';
import { checkPayload } from './limits.ts';
import { Loaded, type Missing } from './loading.ts';
import type { Caller, ItemFailure, ItemVisitor, ManyRequest, Output } from './request.ts';

/** What an item counts towards the payload limit beside its bytes and its own context. */
const ITEM_ALLOWANCE = 80;
/** Tag and length of one value in the reply, at their longest. */
const VALUE_HEAD = 6;

/** The table of the batch under way: operations are synchronous once their keys are loaded, so one serves all. */
let rows = new Uint32Array(1024 * ROW_WORDS);

function rowsFor(count: number): Uint32Array {
  if (rows.length < count * ROW_WORDS) {
    rows = new Uint32Array(count * ROW_WORDS * 2);
  }
  return rows;
}

function overLimit(count: number, weight: number, maxPayload: number): DekdError {
  return new DekdError(
    'INVALID_ARGUMENT',
    `batch of ${count} items counts ${weight} bytes, over maxPayload of ${maxPayload}: send smaller batches`,
  );
}

/**
 * Before anything is made for each item: a frame holds many more empty items than count towards the limit.
 * @throws INVALID_ARGUMENT
 */
export function checkCount({ count }: ManyRequest, maxPayload: number): void {
  if (count * ITEM_ALLOWANCE > maxPayload + ITEM_ALLOWANCE) {
    throw overLimit(count, count * ITEM_ALLOWANCE, maxPayload);
  }
}

/** What the items of a batch count towards the limit, and how much room their values take. */
export class Weighing implements ItemVisitor {
  /** Bytes of the values in the reply, with their heads. */
  bound = 0;
  /** Bytes of data of all items. */
  dataBytes = 0;
  #weight = 0;
  #firstLength = 0;
  #count = 0;
  readonly #request: ManyRequest;
  /** What a value is longer than its data, and what its plaintext is shorter than them. */
  readonly #growth: number;
  readonly #overhead: number;

  constructor(request: ManyRequest, growth: number, overhead: number) {
    this.#request = request;
    this.#growth = growth;
    this.#overhead = overhead;
  }

  item(_dataOffset: number, dataLength: number, contextOffset: number, contextLength: number): void {
    const plaintext = dataLength - this.#overhead;
    this.#firstLength = this.#count++ === 0 ? plaintext : this.#firstLength;
    this.#weight +=
      Math.max(0, plaintext) + ITEM_ALLOWANCE + (contextOffset === this.#request.contextOffset ? 0 : contextLength);
    this.bound += VALUE_HEAD + Math.max(0, dataLength + this.#growth);
    this.dataBytes += dataLength;
  }

  /** @throws INVALID_ARGUMENT when the items together are over the limit */
  check(maxPayload: number): void {
    checkWeight(this.#count, this.#firstLength, this.#weight, maxPayload);
  }
}

function checkWeight(count: number, firstLength: number, weight: number, maxPayload: number): void {
  if (count === 1) {
    // One value at the limit must fit whether it travels alone or as an item, whatever its context.
    checkPayload(firstLength, maxPayload);
  } else if (weight > maxPayload + ITEM_ALLOWANCE) {
    throw overLimit(count, weight, maxPayload);
  }
}

/** Runs what writes to the reply that was just opened; when it fails, no half of a reply stays behind. */
export function undoing(output: Output, write: () => void): void {
  try {
    write();
  } catch (error) {
    output.rewind();
    throw error;
  }
}

/** Answers a request of one value with bytes that are there already, and wipes those. */
export function writeValue(output: Output, id: number, value: Uint8Array): void {
  const at = output.reserveValue(id, value.length);
  output.buffer.set(value, at);
  value.fill(0);
}

/** Shared bookkeeping of one pass over the items. */
export abstract class Pass implements ItemVisitor {
  readonly env: OperationsEnvironment;
  readonly caller: Caller;
  readonly request: ManyRequest;
  readonly table: Uint32Array;
  readonly keys: (DataKey | undefined)[] = [];
  readonly failures = new Map<number, DekdError>();
  readonly missing: Missing = new Map();
  /** Values that are there already, because the provider of a root made them. */
  readonly values = new Map<number, Uint8Array>();
  count = 0;
  /** Whether an item is direct: its value comes from the provider, and has the length it has. */
  hasDirect = false;
  /** Bytes of the values in the reply, with their heads. */
  bound = 0;
  #weight = 0;
  #lastContextOffset = -1;
  #lastContextLength = -1;

  /** @param table for the rows of this pass; unless given, that of the whole batch under way */
  constructor(env: OperationsEnvironment, caller: Caller, request: ManyRequest, table?: Uint32Array) {
    this.env = env;
    this.caller = caller;
    this.request = request;
    if (table === undefined) {
      checkCount(request, env.maxPayload);
    }
    this.table = table ?? rowsFor(request.count);
  }

  /** Decides on one item; throws to fail it. Returns the handle for its row. */
  protected abstract decide(
    dataOffset: number,
    dataLength: number,
    contextOffset: number,
    contextLength: number,
    key: string,
    partition: string,
    root: string,
  ): number;
  /** Bytes of the item's value, from the bytes of its data. */
  protected abstract valueLength(dataLength: number): number;
  /** Plaintext bytes, which is what the limit counts. */
  protected abstract plaintextLength(dataLength: number): number;

  item(
    dataOffset: number,
    dataLength: number,
    contextOffset: number,
    contextLength: number,
    key: string | undefined,
    partition: string | undefined,
    _macOffset?: number,
    _macLength?: number,
    root?: string,
  ): void {
    const { request, table } = this;
    const index = this.count++;
    const row = index * ROW_WORDS;
    const ownContext = contextOffset === request.contextOffset ? 0 : contextLength;
    this.#weight += Math.max(0, this.plaintextLength(dataLength)) + ITEM_ALLOWANCE + ownContext;
    table[row + ROW.contextOffset] = contextOffset;
    table[row + ROW.contextLength] = contextLength;
    table[row + ROW.dataOffset] = dataOffset;
    table[row + ROW.dataLength] = dataLength;
    try {
      if (contextOffset !== this.#lastContextOffset || contextLength !== this.#lastContextLength) {
        checkContext(request.frame, contextOffset, contextLength);
        this.#lastContextOffset = contextOffset;
        this.#lastContextLength = contextLength;
      }
      const name = key ?? request.key;
      const tenant = partition ?? request.partition;
      const under = root ?? request.root;
      table[row + ROW.key] = this.decide(dataOffset, dataLength, contextOffset, contextLength, name, tenant, under);
      const value = this.values.get(index);
      table[row + ROW.status] = value === undefined ? ROW_STATUS.ok : ROW_STATUS.skip;
      this.bound += VALUE_HEAD + (value?.length ?? this.valueLength(dataLength));
    } catch (error) {
      this.fail(index, DekdError.from(error));
    }
  }

  fail(index: number, error: DekdError): void {
    this.failures.set(index, error);
    this.table[index * ROW_WORDS + ROW.status] = ROW_STATUS.skip;
    this.bound += VALUE_HEAD;
  }

  /**
   * For an item whose value somebody else makes: that is under way until the next pass, which finds it. Returns no handle.
   * @throws what making it threw
   */
  protected made(loaded: Loaded, make: () => Promise<Uint8Array>): number {
    const index = this.count - 1;
    this.hasDirect = true;
    const id = `value ${index}`;
    const value = loaded.value(id);
    if (value === undefined) {
      this.missing.set(id, make);
    } else {
      this.values.set(index, value);
    }
    return 0;
  }

  /** Puts the values that were made into their places. */
  writeMade(output: Output): void {
    for (const [index, value] of this.values) {
      output.buffer.set(value, this.table[index * ROW_WORDS + ROW.outOffset]!);
      value.fill(0);
    }
  }

  /** @throws INVALID_ARGUMENT when the items together are over the limit */
  checkWeight(): void {
    checkWeight(this.count, this.plaintextLength(this.table[ROW.dataLength]!), this.#weight, this.env.maxPayload);
  }

  /** Gives each row its place in the reply. */
  place(output: Output): void {
    output.beginMany(this.request.id, this.bound);
    this.placeRows(output);
  }

  /** The same in a reply that is open. */
  placeRows(output: Pick<Output, 'manyValue'>): void {
    const { table } = this;
    for (let index = 0, row = 0; index < this.count; index++, row += ROW_WORDS) {
      const skipped = table[row + ROW.status] === ROW_STATUS.skip;
      const length = skipped ? (this.values.get(index)?.length ?? 0) : this.valueLength(table[row + ROW.dataLength]!);
      table[row + ROW.outOffset] = output.manyValue(length);
    }
  }

  /** Counts use, once for each run of items with the same key. */
  countUse(): void {
    const { table } = this;
    let run: DataKey | undefined;
    let messages = 0;
    let bytes = 0;
    for (let index = 0, row = 0; index < this.count; index++, row += ROW_WORDS) {
      if (table[row + ROW.status] !== ROW_STATUS.ok) {
        continue;
      }
      const key = this.keys[index];
      if (key !== run) {
        run?.used(messages, bytes);
        run = key;
        messages = 0;
        bytes = 0;
      }
      messages += 1;
      bytes += table[row + ROW.dataLength]!;
      this.countVolume(table[row + ROW.dataLength]!);
    }
    run?.used(messages, bytes);
  }

  /** Counts bytes of plaintext that were worked on. */
  protected countVolume(bytes: number): void {
    this.env.volume.bytesSealed += bytes;
  }

  finish(output: Output): void {
    const failures: ItemFailure[] = [];
    if (this.failures.size > 0) {
      for (const index of [...this.failures.keys()].sort((a, b) => a - b)) {
        failures.push({ index, error: this.failures.get(index)! });
      }
    }
    const [key] = this.keys;
    if (key !== undefined && !this.failures.has(0)) {
      output.keyUsed(this.request.id, key);
    }
    output.endMany(failures);
  }
}

/** Rows whose key was evicted by another key of the same batch: more distinct keys than the table has slots. */
export function staleRows(pass: Pass): number[] {
  const stale: number[] = [];
  for (let index = 0, row = 0; index < pass.count; index++, row += ROW_WORDS) {
    if (pass.table[row + ROW.status] === ROW_STATUS.staleKey) {
      stale.push(index);
    }
  }
  return stale;
}

/** Seals the rows whose key had left the table, under handles asked for anew. A key that was stopped fails its row. */
export function sealStale(env: OperationsEnvironment, pass: Pass, input: Uint8Array, target: Uint8Array): void {
  const { table } = pass;
  for (const index of staleRows(pass)) {
    const row = index * ROW_WORDS;
    try {
      env.engine.seal(
        pass.keys[index]!.handle(),
        input,
        table[row + ROW.contextOffset]!,
        table[row + ROW.contextLength]!,
        table[row + ROW.dataOffset]!,
        table[row + ROW.dataLength]!,
        target,
        table[row + ROW.outOffset]!,
      );
      table[row + ROW.status] = ROW_STATUS.ok;
    } catch (error) {
      pass.fail(index, DekdError.from(error));
    }
  }
}

/** One pass: undefined when the reply is written, else what has to be loaded before the next. */
export type PassRun = (loaded: Loaded, request: ManyRequest) => Missing | undefined;

/** Runs passes until one finds every key it needs; each id is loaded once at most. */
export function runPasses(request: ManyRequest, run: PassRun): Outcome {
  const loaded = new Loaded();
  const missing = withoutStacks(() => run(loaded, request));
  return missing === undefined ? undefined : continuePasses(loaded, missing, request.copy(), run);
}

/** A batch whose values are placed in the reply first: `write` then works on the rows, in the same synchronous stretch. */
export function runAtOnce<P extends Pass>(
  request: ManyRequest,
  output: Output,
  passOf: (request: ManyRequest, loaded: Loaded) => P,
  write: (pass: P, frame: Uint8Array) => void,
): Outcome {
  return runPasses(request, (loaded, kept) => {
    const pass = passOf(kept, loaded);
    kept.visitItems(pass);
    pass.checkWeight();
    if (pass.missing.size > 0) {
      return pass.missing;
    }
    pass.place(output);
    undoing(output, () => {
      write(pass, kept.frame);
      pass.finish(output);
    });
    return undefined;
  });
}

async function continuePasses(loaded: Loaded, first: Missing, request: ManyRequest, run: PassRun): Promise<void> {
  let missing: Missing | undefined = first;
  while (missing !== undefined) {
    await loaded.load(missing);
    missing = withoutStacks(() => run(loaded, request));
  }
}
