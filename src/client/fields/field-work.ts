/** The work on rows: its code is read by the first call, since many clients never make one. */
import type { Caller } from '../caller.ts';
import type { CallOptions } from '../types.ts';
import { codecOf } from './codecs.ts';
import type { AnyCodec, CheckedDefinition } from './definition.ts';
import type { FieldBatch, FieldCall, Row } from './field-batch.ts';
import { Opening } from './opening.ts';
import { fieldPairsOf, RowBinding } from './row-binding.ts';
import type { Holder } from './row-walk.ts';
import { Sealing } from './sealing.ts';
import { Slab } from './slab.ts';

/** Batches of one call under way at once. */
const IN_FLIGHT = 4;

/** A value of a row, of which only what the context is made of has to be there. */
export interface ValueOfRow {
  readonly value: unknown;
  readonly row: Row;
}

/** `isSingle` is whether there is one row, which then has no number in errors. Everything throws DekdError. */
export class FieldWork {
  readonly #caller: Caller;
  readonly #definition: CheckedDefinition;
  readonly #pairs: readonly Uint8Array[];
  readonly #codecs: readonly (AnyCodec | undefined)[];

  constructor(caller: Caller, definition: CheckedDefinition) {
    this.#caller = caller;
    this.#definition = definition;
    this.#pairs = fieldPairsOf(definition);
    this.#codecs = definition.codecs.map((choice) => choice && codecOf(choice));
  }

  sealRows(rows: readonly Row[], isSingle: boolean, options: CallOptions): Promise<Row[]> {
    const call = this.#call(isSingle, options);
    return this.#rows(rows, () => new Sealing(call));
  }

  /** @param isWanted by index of the path; undefined for all */
  openRows(
    rows: readonly Row[],
    isSingle: boolean,
    options: CallOptions,
    isWanted: readonly boolean[] | undefined,
  ): Promise<Row[]> {
    const call = this.#call(isSingle, options);
    return this.#rows(rows, () => new Opening(call, isWanted));
  }

  /** What the values of one field become, in order. */
  sealValues(
    field: number,
    values: readonly ValueOfRow[],
    isSingle: boolean,
    options: CallOptions,
  ): Promise<unknown[]> {
    const call = this.#call(isSingle, options);
    return this.#values(field, values, () => new Sealing(call));
  }

  /** What the tokens of one field were, in order. */
  openValues(
    field: number,
    values: readonly ValueOfRow[],
    isSingle: boolean,
    options: CallOptions,
  ): Promise<unknown[]> {
    const call = this.#call(isSingle, options);
    return this.#values(field, values, () => new Opening(call, undefined));
  }

  async #rows(rows: readonly Row[], begin: () => FieldBatch): Promise<Row[]> {
    const copies: Row[] = new Array(rows.length);
    await inBatches(rows.length, begin, (batch, index) => {
      copies[index] = batch.addRow(rows[index]!, index);
    });
    return copies;
  }

  async #values(field: number, values: readonly ValueOfRow[], begin: () => FieldBatch): Promise<unknown[]> {
    const results: unknown[] = values.map((each) => each?.value);
    await inBatches(values.length, begin, (batch, index) => {
      batch.addValue(results[index], values[index]?.row as Row, results as unknown as Holder, index, field);
    });
    return results;
  }

  #call(isSingle: boolean, options: CallOptions): FieldCall {
    options.signal?.throwIfAborted();
    const slab = new Slab();
    return {
      caller: this.#caller,
      definition: this.#definition,
      binding: new RowBinding(this.#definition, this.#pairs, slab),
      codecs: this.#codecs,
      slab,
      isSingle,
      options,
      deadline: this.#caller.deadline(options),
    };
  }
}

/**
 * Fills batches one after the other and runs a few of them at once, so that this side prepares the next while the agent works
 * on those before, and other work of the process gets its turn between two.
 * @throws what failed first, in the order of the rows
 */
async function inBatches(
  count: number,
  begin: () => FieldBatch,
  add: (batch: FieldBatch, index: number) => void,
): Promise<void> {
  const running: Promise<void>[] = [];
  let next = 0;
  try {
    while (next < count) {
      const batch = begin();
      while (next < count && !batch.isFull) {
        add(batch, next++);
      }
      const run = batch.run();
      // Awaited in its turn below; until then a rejection is not unhandled.
      run.catch(() => {});
      running.push(run);
      if (next < count) {
        await new Promise((resolve) => setImmediate(resolve));
        await running[running.length - IN_FLIGHT];
      }
    }
  } finally {
    for (const run of running) {
      await run;
    }
  }
}
