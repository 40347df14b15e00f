import type { CallOptions } from '../client/index.ts';
import { DekdError } from '../errors.ts';
import { type BackfillOptions, backfill } from './pg/backfill.ts';
import {
  columnsOf,
  type PgQueryable,
  quoted,
  quotedTable,
  recordset,
  recordsOf,
  withIndexes,
} from './pg/statements.ts';
import type { Row as LooseRow, RowClient } from './row-cipher.ts';
import { type ColumnPath, cipherOf, type EncryptedTable, type TableDefinition, tableOf } from './table.ts';

export type { IndexDefinition, IndexOptions } from './index-lookup.ts';
export type { BackfillOptions, BackfillProgress } from './pg/backfill.ts';
export type { PgQueryable } from './pg/statements.ts';
export type { RowClient } from './row-cipher.ts';
export type { ColumnPath, EncryptedRow, EncryptedTable, IndexColumns, TableDefinition } from './table.ts';
export { encryptedTable } from './table.ts';

/** A table in PostgreSQL. A statement and a batch a call, whatever the number of rows. */
export interface PgTable<Row, P extends ColumnPath<Row>, X extends string = never> extends EncryptedTable<Row, P, X> {
  /**
   * Encrypts and inserts rows, which all name the same columns: the others get their defaults.
   * @returns how many were inserted
   */
  insert(db: PgQueryable, rows: readonly Partial<Row>[], options?: CallOptions): Promise<number>;
  /**
   * Encrypts and sets columns of the rows that their identity names, all the same ones.
   * @returns how many there were
   */
  update(db: PgQueryable, rows: readonly Partial<Row>[], options?: CallOptions): Promise<number>;
  /**
   * Runs a statement and decrypts the encrypted columns of what it returns, which are found by their own names, beside the
   * identity; any other column is given as it is. Values of the statement are sent as they are: to find rows by an
   * encrypted column keep a blind index.
   */
  query<R = Row>(db: PgQueryable, text: string, values?: readonly unknown[], options?: CallOptions): Promise<R[]>;
  /**
   * Encrypts a column that is there, `source`, into an encrypted and still empty one: 500 rows a statement, each for itself. An
   * interrupted call is made again and goes on where it was; rows that change meanwhile are read again. What the source holds
   * stays there, for the application to drop.
   * @returns rows encrypted
   */
  backfill(db: PgQueryable, source: string, target: keyof Row & string, options?: BackfillOptions): Promise<number>;
}

/** As `encryptedTable`, with statements of PostgreSQL. */
export function pgTable<Row extends object>(): <
  P extends ColumnPath<Row>,
  I extends keyof Row & string = never,
  X extends string = never,
>(
  dekd: RowClient,
  definition: TableDefinition<Row, P, I, X>,
) => PgTable<Row, P, X> {
  return <P extends ColumnPath<Row>, I extends keyof Row & string, X extends string>(
    dekd: RowClient,
    definition: TableDefinition<Row, P, I, X>,
  ) => {
    const cipher = cipherOf(dekd, definition);
    const name = quotedTable(definition.table);
    const table = tableOf<Row, P, X>(definition.table, cipher);

    async function send(
      db: PgQueryable,
      rows: readonly LooseRow[],
      options: CallOptions | undefined,
      statement: (columns: readonly string[]) => string,
    ): Promise<number> {
      const named = columnsOf(definition.table, rows);
      if (named.length === 0) {
        return 0;
      }
      const columns = withIndexes(cipher, named);
      const text = statement(columns);
      const sealed = await cipher.seal(rows, options);
      return (await db.query(text, [recordsOf(columns, rows, sealed)])).rowCount ?? 0;
    }

    function insertion(columns: readonly string[]): string {
      const list = columns.map(quoted).join(', ');
      return `INSERT INTO ${name} (${list}) SELECT ${list} FROM ${recordset(name)}`;
    }

    function change(columns: readonly string[]): string {
      const { identity } = cipher;
      const missing = identity.find((column) => !columns.includes(column));
      const changed = columns.filter((column) => !identity.includes(column));
      if (identity.length === 0 || missing !== undefined || changed.length === 0) {
        throw new DekdError(
          'INVALID_ARGUMENT',
          `update of ${definition.table} takes rows with ${missing ?? 'an identity'} and something to set`,
        );
      }
      const set = changed.map((column) => `${quoted(column)} = given.${quoted(column)}`).join(', ');
      const same = identity.map((column) => `old.${quoted(column)} = given.${quoted(column)}`).join(' AND ');
      return `UPDATE ${name} AS old SET ${set} FROM ${recordset(name)} AS given WHERE ${same}`;
    }

    return {
      ...table,
      insert: (db, rows, options) => send(db, rows as LooseRow[], options, insertion),
      update: (db, rows, options) => send(db, rows as LooseRow[], options, change),
      query: async <R>(
        db: PgQueryable,
        text: string,
        values: readonly unknown[] = [],
        options?: CallOptions,
      ): Promise<R[]> => {
        const { rows } = await db.query(text, [...values]);
        return (await table.decrypt(rows as never[], options)) as unknown[] as R[];
      },
      backfill: (db, source, target, options = {}) => backfill(db, definition.table, cipher, source, target, options),
    };
  };
}
