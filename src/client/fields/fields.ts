/** Typed fields: named values of rows, encrypted and decrypted in batches. */
import type { Caller } from '../caller.ts';
import type { CallOptions } from '../types.ts';
import { type AnyDefinition, type CheckedDefinition, checkDefinition, invalid } from './definition.ts';
import type { FieldBatch, FieldCall, Row } from './field-batch.ts';
import { Opening } from './opening.ts';
import { fieldPairsOf, RowBinding } from './row-binding.ts';
import type { Holder } from './row-walk.ts';
import { Sealing } from './sealing.ts';
import { Slab } from './slab.ts';
import type { FieldPath, Fields, FieldsDefinition } from './types.ts';

/** Batches of one call under way at once. */
const IN_FLIGHT = 4;

type OpeningOptions = CallOptions & { readonly only?: readonly string[] | undefined };
interface ValueOfRow {
  readonly value: unknown;
  readonly row: Row;
}

/** @throws INVALID_ARGUMENT for a definition that says something impossible */
export function defineFields<T, P extends FieldPath<T>>(
  caller: Caller,
  definition: FieldsDefinition<T, P>,
): Fields<T, P> {
  return new RowFields(caller, checkDefinition(definition as unknown as AnyDefinition)) as unknown as Fields<T, P>;
}

/** `Fields` without its types, which only the compiler has. */
class RowFields {
  readonly #caller: Caller;
  readonly #definition: CheckedDefinition;
  readonly #pairs: readonly Uint8Array[];

  constructor(caller: Caller, definition: CheckedDefinition) {
    this.#caller = caller;
    this.#definition = definition;
    this.#pairs = fieldPairsOf(definition);
  }

  get paths(): readonly string[] {
    return this.#definition.paths;
  }

  async encrypt(row: Row, options: CallOptions = {}): Promise<Row> {
    return (await this.#encrypt([row], true, options))[0]!;
  }

  async encryptMany(rows: readonly Row[], options: CallOptions = {}): Promise<Row[]> {
    return this.#encrypt(checkArray(rows), false, options);
  }

  async decrypt(row: Row, options: OpeningOptions = {}): Promise<Row> {
    return (await this.#decrypt([row], true, options))[0]!;
  }

  async decryptMany(rows: readonly Row[], options: OpeningOptions = {}): Promise<Row[]> {
    return this.#decrypt(checkArray(rows), false, options);
  }

  column(path: string): Column {
    const field = this.#definition.paths.indexOf(path);
    if (field < 0) {
      throw invalid('column takes one of the paths of the fields');
    }
    if (this.#definition.bindsPositions && path.includes('[]')) {
      throw invalid(`the elements of '${path}' are bound to their positions, which a value alone has not`);
    }
    return new Column(this, path, field);
  }

  /** What the values of one field become, in order. */
  async sealValues(
    field: number,
    values: readonly ValueOfRow[],
    isSingle: boolean,
    options: CallOptions,
  ): Promise<unknown[]> {
    const call = this.#call(isSingle, options);
    return this.#values(field, values, () => new Sealing(call));
  }

  /** What the tokens of one field were, in order. */
  async openValues(
    field: number,
    values: readonly ValueOfRow[],
    isSingle: boolean,
    options: CallOptions,
  ): Promise<unknown[]> {
    const call = this.#call(isSingle, options);
    return this.#values(field, values, () => new Opening(call, undefined));
  }

  #encrypt(rows: readonly Row[], isSingle: boolean, options: CallOptions): Promise<Row[]> {
    const call = this.#call(isSingle, options);
    return this.#rows(rows, () => new Sealing(call));
  }

  #decrypt(rows: readonly Row[], isSingle: boolean, options: OpeningOptions): Promise<Row[]> {
    const call = this.#call(isSingle, options);
    const isWanted = this.#wanted(options.only);
    return this.#rows(rows, () => new Opening(call, isWanted));
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
      slab,
      isSingle,
      options,
      deadline: this.#caller.deadline(options),
    };
  }

  #wanted(only: readonly string[] | undefined): boolean[] | undefined {
    if (only === undefined) {
      return undefined;
    }
    const { paths } = this.#definition;
    if (!Array.isArray(only) || !only.every((path) => paths.includes(path))) {
      throw invalid('only is an array of paths of the fields');
    }
    return paths.map((path) => only.includes(path));
  }
}

/** `FieldColumn` without its types. */
class Column {
  readonly path: string;
  readonly #fields: RowFields;
  readonly #field: number;

  constructor(fields: RowFields, path: string, field: number) {
    this.#fields = fields;
    this.path = path;
    this.#field = field;
  }

  async encrypt(value: unknown, row: Row, options: CallOptions = {}): Promise<unknown> {
    return (await this.#fields.sealValues(this.#field, [{ value, row }], true, options))[0];
  }

  async encryptMany(values: readonly ValueOfRow[], options: CallOptions = {}): Promise<unknown[]> {
    return this.#fields.sealValues(this.#field, checkArray(values), false, options);
  }

  async decrypt(value: unknown, row: Row, options: CallOptions = {}): Promise<unknown> {
    return (await this.#fields.openValues(this.#field, [{ value, row }], true, options))[0];
  }

  async decryptMany(values: readonly ValueOfRow[], options: CallOptions = {}): Promise<unknown[]> {
    return this.#fields.openValues(this.#field, checkArray(values), false, options);
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

function checkArray<E>(array: readonly E[]): readonly E[] {
  if (!Array.isArray(array)) {
    throw invalid('rows are given as an array');
  }
  return array;
}
