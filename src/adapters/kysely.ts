import type { ColumnType, KyselyPlugin, QueryId, QueryResult, RootOperationNode, UnknownRow } from 'kysely';
import type { Ciphertext } from '../client/index.ts';
import { DekdError } from '../errors.ts';
import { QueryReading, type TableResult } from './kysely/query-reading.ts';
import type { AnyTable } from './table.ts';

export type { IndexDefinition, IndexOptions } from './index-lookup.ts';
export type { RowClient } from './row-cipher.ts';
export type { AnyTable, ColumnPath, EncryptedRow, EncryptedTable, IndexColumns, TableDefinition } from './table.ts';
export { encryptedTable } from './table.ts';

/** An encrypted column in the interface of a database: it is read as its value, and written as what `encrypt` made of it. */
export type EncryptedColumn<Value> = ColumnType<Value, Stored<Value>, Stored<Value>>;

type Stored<Value> =
  | Extract<Value, null | undefined>
  | (NonNullable<Value> extends readonly (infer Element)[]
      ? Ciphertext<NonNullable<Value>> | Ciphertext<Element>[]
      : Ciphertext<NonNullable<Value>>);

/**
 * Decrypts encrypted columns in the results of queries, one batch a table and result, and refuses with INVALID_ARGUMENT, before
 * anything is sent, what cannot be right: a condition, an order or an expression on an encrypted column (but `is null`), a
 * plaintext written to one, a ciphertext selected without the identity of its row, or anywhere but in the outermost `select` or
 * `returning`. Text of `sql` templates is not read.
 *
 * Kysely gives plugins no time to encrypt: write what `table.encrypt(rows)` gives.
 *
 * @param tables made by `encryptedTable`, under the names that the database knows them by
 */
export function encryptedTables(tables: readonly AnyTable[]): KyselyPlugin {
  const byName = new Map(tables.map((table) => [table.table, table]));
  const results = new WeakMap<QueryId, readonly TableResult[]>();
  return {
    transformQuery({ node, queryId }): RootOperationNode {
      results.set(queryId, new QueryReading(byName).read(node));
      return node;
    },
    async transformResult({ result, queryId }): Promise<QueryResult<UnknownRow>> {
      const parts = results.get(queryId) ?? [];
      if (parts.length === 0 || result.rows.length === 0) {
        return result;
      }
      const rows = result.rows.map((row) => ({ ...row }));
      await Promise.all(parts.map((part) => open(part, rows)));
      return { ...result, rows };
    },
  };
}

/** Decrypts what rows have of one table, in place. */
async function open({ table, outputs }: TableResult, rows: readonly Record<string, unknown>[]): Promise<void> {
  const names = [...table.encrypted].filter((column) => outputs.has(column));
  const members = new Map([...outputs].map(([column, output]) => [column, memberOf(rows[0]!, output)]));
  const given = rows.map((row) => Object.fromEntries([...members].map(([column, member]) => [column, row[member]])));
  const opened = (await table.decrypt(given as never[])) as Record<string, unknown>[];
  rows.forEach((row, index) => {
    for (const column of names) {
      row[members.get(column)!] = opened[index]![column];
    }
  });
}

/** The name that a result has for a column, which plugins between `snake_case` and `camelCase` may have changed. */
function memberOf(row: Record<string, unknown>, output: string): string {
  if (Object.hasOwn(row, output)) {
    return output;
  }
  const spelling = (name: string): string => name.replaceAll('_', '').toLowerCase();
  const [found, ...more] = Object.keys(row).filter((name) => spelling(name) === spelling(output));
  if (found === undefined || more.length > 0) {
    throw new DekdError(
      'UNSUPPORTED',
      `the result has no '${output}', which was selected: another plugin renames columns`,
    );
  }
  return found;
}
