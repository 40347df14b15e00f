import type { CallOptions, DekdClient, EncryptionContext, FieldCodec } from '../client/index.ts';
import { DekdError } from '../errors.ts';
import { type Identity, identityColumns, identityContext } from './identity.ts';
import { type IndexDefinition, type IndexOptions, indexedText, indexesOfAll, lookupIndex } from './index-lookup.ts';

/** A row, or the part of one that a statement names. */
export type Row = Readonly<Record<string, unknown>>;

/** How the columns of one table are encrypted. */
export interface RowBinding {
  /** Name of the table or model: the context has it under `kind`. */
  readonly name: string;
  readonly kind: 'table' | 'model';
  readonly key: string;
  readonly partition?: string | ((row: Row) => string) | undefined;
  /** Names of columns; `name[]` for one that is a list whose elements are encrypted one by one. */
  readonly columns: readonly string[];
  readonly identity: Identity;
  readonly context?: ((row: Row) => EncryptionContext) | undefined;
  readonly codecs?: Readonly<Record<string, FieldCodec<unknown> | string | undefined>> | undefined;
  /** By the column that holds the index. */
  readonly indexes?: Readonly<Record<string, IndexDefinition>> | undefined;
}

/**
 * Encrypts and decrypts columns of rows, a batch a call. NULL stays NULL, and a column that a row has not stays away: the
 * database, and whoever reads it, can tell whether there is a value.
 */
export interface RowCipher {
  /** Names of the encrypted columns. */
  readonly names: ReadonlySet<string>;
  /** Those that are lists. */
  readonly lists: ReadonlySet<string>;
  /** Columns of which the context is made. */
  readonly identity: readonly string[];
  /** Columns that hold indexes, and the encrypted ones that they are of. */
  readonly indexes: ReadonlyMap<string, string>;
  /** The encrypted columns of each row with the indexes of these, and nothing else of it. */
  seal(rows: readonly Row[], options?: CallOptions): Promise<Record<string, unknown>[]>;
  /**
   * The plaintexts of the encrypted columns of each row, and nothing else of it. Rejects for a value that does not open: none
   * is passed through.
   */
  open(rows: readonly Row[], options?: CallOptions): Promise<Record<string, unknown>[]>;
  /** What a column of indexes has where the encrypted one is `value`. */
  index(column: string, value: string, options?: IndexOptions): Promise<string>;
}

/** The part of a client that rows are encrypted with. */
export type RowClient = Pick<DekdClient, 'fields' | 'blindIndexMany'>;

/** @throws INVALID_ARGUMENT for a binding that says nothing, or too little */
export function rowCipher(dekd: RowClient, binding: RowBinding): RowCipher {
  const { name: table, kind, partition, context, codecs, indexes = {} } = binding;
  const { names, lists } = columnNames(table, binding.columns);
  const identity = identityColumns(table, binding.identity);
  const own = identity.find((name) => names.has(name));
  if (own !== undefined) {
    throw new DekdError('INVALID_ARGUMENT', `${table}.${own} is encrypted, and cannot say which row it is`);
  }
  for (const [column, { of }] of Object.entries(indexes)) {
    if (!names.has(of) || lists.has(of) || names.has(column) || identity.includes(column)) {
      throw new DekdError('INVALID_ARGUMENT', `${table}.${column} is to be the index of an encrypted column of texts`);
    }
  }
  const indexed = Object.entries(indexes);
  // biome-ignore lint/suspicious/noExplicitAny: rows of any table
  const fields = dekd.fields<any>()({
    key: binding.key,
    partition: typeof partition === 'function' ? (row) => partition(picked(identity, row)) : partition,
    fields: binding.columns,
    context: (row) => {
      const bound = identityContext(table, identity, row);
      return context === undefined ? { [kind]: table, ...bound } : context(picked(identity, row));
    },
    // What is written is plaintext, whatever it looks like; and a writer needs no right to decrypt.
    idempotent: false,
    ...(codecs === undefined ? {} : { codecs: codecs as never }),
  });

  /** Gives `work` what there is of each row, and what its context is made of. */
  async function over(
    rows: readonly Row[],
    work: (some: Row[]) => Promise<readonly Row[]>,
  ): Promise<Record<string, unknown>[]> {
    const results = rows.map((): Record<string, unknown> => ({}));
    const at: number[] = [];
    const given: Row[] = [];
    rows.forEach((row, index) => {
      const present = [...names].filter((column) => isThere(row[column]));
      if (present.length > 0) {
        // Said here, where it is an error of its own and not that of a context function.
        identityContext(table, identity, row);
      } else if (!identity.every((column) => isThere(row[column]))) {
        return;
      }
      at.push(index);
      given.push(picked([...identity, ...present], row));
    });
    const done: readonly Row[] = given.length === 0 ? [] : await work(given);
    done.forEach((row, place) => {
      for (const column of names) {
        if (given[place]![column] !== undefined) {
          results[at[place]!]![column] = row[column];
        }
      }
    });
    return results;
  }

  /** The indexes of what each row has; NULL where that is NULL. */
  async function indexesOf(rows: readonly Row[], options: CallOptions): Promise<Record<string, unknown>[]> {
    const found = rows.map((): Record<string, unknown> => ({}));
    const places: [Record<string, unknown>, string][] = [];
    const items = rows.flatMap((row, at) =>
      indexed.flatMap(([column, { of, ...index }]) => {
        const value = row[of];
        if (value === undefined && isThere(row[column])) {
          throw new DekdError('INVALID_ARGUMENT', `${table}.${column} is the index of '${of}', and is written with it`);
        }
        if (!isThere(value)) {
          if (value === null) {
            found[at]![column] = null;
          }
          return [];
        }
        places.push([found[at]!, column]);
        const tenant = typeof partition === 'function' ? partition(picked(identity, row)) : partition;
        return [{ ...index, partition: tenant, table, column: of, value: indexedText(`${table}.${of}`, value) }];
      }),
    );
    const done = await indexesOfAll(dekd, items, options);
    done.forEach((index, place) => {
      const [row, column] = places[place]!;
      row[column] = index;
    });
    return found;
  }

  async function seal(rows: readonly Row[], options: CallOptions = {}): Promise<Record<string, unknown>[]> {
    const [sealed, found] = await Promise.all([
      over(rows, (some) => fields.encryptMany(some, options)),
      indexed.length === 0 ? undefined : indexesOf(rows, options),
    ]);
    return found === undefined ? sealed : sealed.map((row, index) => ({ ...row, ...found[index] }));
  }

  return {
    names,
    lists,
    identity,
    indexes: new Map(indexed.map(([column, { of }]) => [column, of])),
    seal,
    open: (rows, options) => over(rows, (some) => fields.decryptMany(some, options)),
    index: (column, value, options) =>
      lookupIndex(dekd, { name: table, of: 'row', partition, indexes }, column, value, options),
  };
}

function columnNames(table: string, columns: readonly string[]): Pick<RowCipher, 'names' | 'lists'> {
  const names = new Set<string>();
  const lists = new Set<string>();
  for (const path of columns) {
    const name = path.replace(/\[\]$/, '');
    if (name === '' || /[.[\]]/.test(name) || names.has(name)) {
      throw new DekdError('INVALID_ARGUMENT', `${table}: columns are named once, as name or name[], not as '${path}'`);
    }
    names.add(name);
    if (name !== path) {
      lists.add(name);
    }
  }
  if (names.size === 0) {
    throw new DekdError('INVALID_ARGUMENT', `${table} names no column to encrypt`);
  }
  return { names, lists };
}

function isThere(value: unknown): boolean {
  return value !== null && value !== undefined;
}

function picked(names: readonly string[], row: Row): Row {
  return Object.fromEntries(names.map((name) => [name, row[name]]));
}
