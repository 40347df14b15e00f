/** Typed fields: named values of rows, encrypted and decrypted in batches. */
import type { Caller } from '../caller.ts';
import type { CallOptions } from '../types.ts';
import { type AnyDefinition, type CheckedDefinition, checkDefinition, invalid } from './definition.ts';
import type { Row } from './field-batch.ts';
import type { FieldWork, ValueOfRow } from './field-work.ts';
import type { FieldPath, Fields, FieldsDefinition } from './types.ts';

type OpeningOptions = CallOptions & { readonly only?: readonly string[] | undefined };

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
  #work: FieldWork | undefined;

  constructor(caller: Caller, definition: CheckedDefinition) {
    this.#caller = caller;
    this.#definition = definition;
  }

  get paths(): readonly string[] {
    return this.#definition.paths;
  }

  async encrypt(row: Row, options: CallOptions = {}): Promise<Row> {
    return (await (await this.work()).sealRows([row], true, options))[0]!;
  }

  async encryptMany(rows: readonly Row[], options: CallOptions = {}): Promise<Row[]> {
    return (await this.work()).sealRows(checkArray(rows), false, options);
  }

  async decrypt(row: Row, options: OpeningOptions = {}): Promise<Row> {
    return (await (await this.work()).openRows([row], true, options, this.#wanted(options.only)))[0]!;
  }

  async decryptMany(rows: readonly Row[], options: OpeningOptions = {}): Promise<Row[]> {
    return (await this.work()).openRows(checkArray(rows), false, options, this.#wanted(options.only));
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

  async work(): Promise<FieldWork> {
    this.#work ??= new (await import('./field-work.ts')).FieldWork(this.#caller, this.#definition);
    return this.#work;
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
    return (await (await this.#fields.work()).sealValues(this.#field, [{ value, row }], true, options))[0];
  }

  async encryptMany(values: readonly ValueOfRow[], options: CallOptions = {}): Promise<unknown[]> {
    return (await this.#fields.work()).sealValues(this.#field, checkArray(values), false, options);
  }

  async decrypt(value: unknown, row: Row, options: CallOptions = {}): Promise<unknown> {
    return (await (await this.#fields.work()).openValues(this.#field, [{ value, row }], true, options))[0];
  }

  async decryptMany(values: readonly ValueOfRow[], options: CallOptions = {}): Promise<unknown[]> {
    return (await this.#fields.work()).openValues(this.#field, checkArray(values), false, options);
  }
}

function checkArray<E>(array: readonly E[]): readonly E[] {
  if (!Array.isArray(array)) {
    throw invalid('rows are given as an array');
  }
  return array;
}
