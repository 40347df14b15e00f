import type { CallOptions, Ciphertext, EncryptionContext, FieldCodec } from '../client/index.ts';
import type { IndexDefinition, IndexOptions } from './index-lookup.ts';
import { type Row as LooseRow, type RowBinding, type RowCipher, type RowClient, rowCipher } from './row-cipher.ts';

type Name<Row> = keyof Row & string;

/** Columns of `Row`: `email`, or `notes[]` where the elements of a list are encrypted one by one. */
export type ColumnPath<Row> = {
  [K in Name<Row>]: K | (NonNullable<Row[K]> extends readonly unknown[] ? `${K}[]` : never);
}[Name<Row>];

/** `Row` as the database has it. */
export type EncryptedRow<Row, P extends ColumnPath<Row>> = {
  [K in keyof Row]: K extends P
    ? Ciphertext<NonNullable<Row[K]>> | Extract<Row[K], null | undefined>
    : K extends string
      ? `${K}[]` extends P
        ? NonNullable<Row[K]> extends readonly (infer Element)[]
          ? Ciphertext<Element>[] | Extract<Row[K], null | undefined>
          : never
        : Row[K]
      : Row[K];
};

/** How the columns of one table are encrypted. */
export interface TableDefinition<
  Row,
  P extends ColumnPath<Row>,
  I extends Name<Row> = Name<Row>,
  X extends string = string,
> {
  /** Its name, `users` or `app.users`. It is in the context of every value: after a rename the old name goes on being bound. */
  readonly table: string;
  readonly key: string;
  /** The tenant; a function gets the identity columns of the row. */
  readonly partition?: string | ((row: Pick<Row, I>) => string) | undefined;
  readonly columns: readonly P[];
  /**
   * Columns that say which row it is, known before it is written and never changed: values are bound to table, column and
   * these, so that none can be moved to another row. `false` binds to table and column only.
   */
  readonly identity: I | readonly I[] | false;
  /** The context to bind to, instead of `{ table, …identity }`; gets the identity columns of the row. */
  readonly context?: ((row: Pick<Row, I>) => EncryptionContext) | undefined;
  /** Blind indexes of encrypted columns, by the column that holds them. */
  readonly indexes?: { readonly [Column in X]: IndexDefinition<P & Name<Row>> } | undefined;
  /** For values that are no JSON, by path: dates, bigints, bytes. */
  // biome-ignore lint/suspicious/noExplicitAny: the codec of a path says what its values are
  readonly codecs?: { readonly [Path in P]?: FieldCodec<any> | 'date' | 'bigint' | 'bytes' } | undefined;
}

/** One table with encrypted columns. Calls make one batch, whatever the number of rows; rows given are never changed. */
export interface EncryptedTable<Row, P extends ColumnPath<Row>, X extends string = never> {
  readonly table: string;
  /** Names of the encrypted columns. */
  readonly encrypted: ReadonlySet<string>;
  readonly identity: readonly string[];
  /**
   * Rows, or parts of rows with their identity, with ciphertexts for what is to be encrypted, and the indexes of it; NULL stays
   * NULL.
   */
  encrypt(rows: readonly Row[], options?: CallOptions): Promise<(EncryptedRow<Row, P> & IndexColumns<X>)[]>;
  encrypt<K extends keyof Row>(
    rows: readonly Pick<Row, K>[],
    options?: CallOptions,
  ): Promise<(Pick<EncryptedRow<Row, P>, K> & IndexColumns<X>)[]>;
  /**
   * The reverse, for rows and for parts of rows with their identity; other columns are given as they are. Rejects with
   * DECRYPTION_FAILED or MALFORMED for a value that does not open: none is passed through.
   */
  decrypt(rows: readonly EncryptedRow<Row, P>[], options?: CallOptions): Promise<Row[]>;
  decrypt<K extends keyof Row>(
    rows: readonly Pick<EncryptedRow<Row, P>, K>[],
    options?: CallOptions,
  ): Promise<Pick<Row, K>[]>;
  /**
   * What a column of indexes has in the rows whose encrypted column is `value`: to filter by. Rejects with
   * RESOURCE_EXHAUSTED and `retryAfterMs` over the quota.
   */
  index(column: X, value: string, options?: IndexOptions): Promise<string>;
}

/** Columns of indexes, in the rows that have what they are of. */
export type IndexColumns<X extends string> = { readonly [Column in X]?: string | null };

/** Not typed, for what decrypts whole results. */
export interface AnyTable {
  readonly table: string;
  readonly encrypted: ReadonlySet<string>;
  readonly identity: readonly string[];
  decrypt(rows: readonly never[], options?: CallOptions): Promise<unknown[]>;
}

/**
 * `encryptedTable<User>()(dekd, { table: 'users', key: 'customers', columns: ['email', 'notes[]'], identity: 'id' })`.
 * Throws INVALID_ARGUMENT for a definition without columns, or that does not say what identifies a row.
 */
export function encryptedTable<Row extends object>(): <
  P extends ColumnPath<Row>,
  I extends Name<Row> = never,
  X extends string = never,
>(
  dekd: RowClient,
  definition: TableDefinition<Row, P, I, X>,
) => EncryptedTable<Row, P, X> {
  return (dekd, definition) => tableOf(definition.table, cipherOf(dekd, definition));
}

/** @internal */
export function cipherOf<Row, P extends ColumnPath<Row>, I extends Name<Row>, X extends string>(
  dekd: RowClient,
  definition: TableDefinition<Row, P, I, X>,
): RowCipher {
  return rowCipher(dekd, { ...definition, name: definition.table, kind: 'table' } as unknown as RowBinding);
}

/** @internal */
export function tableOf<Row, P extends ColumnPath<Row>, X extends string>(
  table: string,
  cipher: RowCipher,
): EncryptedTable<Row, P, X> {
  const merged = (rows: readonly LooseRow[], done: readonly LooseRow[]): LooseRow[] =>
    rows.map((row, index) => ({ ...row, ...done[index] }));
  return {
    table,
    encrypted: cipher.names,
    identity: cipher.identity,
    index: (column, value, options) => cipher.index(column, value, options),
    encrypt: async (rows: readonly unknown[], options?: CallOptions) =>
      merged(rows as LooseRow[], await cipher.seal(rows as LooseRow[], options)) as never,
    decrypt: async (rows: readonly unknown[], options?: CallOptions) =>
      merged(rows as LooseRow[], await cipher.open(rows as LooseRow[], options)) as never,
  };
}
