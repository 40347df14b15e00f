import { DekdError } from '../../errors.ts';
import type { Row, RowCipher } from '../row-cipher.ts';

/** A Pool, a Client or a client of a pool of `pg`; anything else that has its `query`. */
export interface PgQueryable {
  query(text: string, values?: unknown[]): Promise<{ readonly rows: unknown[]; readonly rowCount: number | null }>;
}

export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** `users`, `app.users`. */
export function quotedTable(name: string): string {
  return name.split('.').map(quoted).join('.');
}

/** Rows as the one parameter of a statement, which has at most 65,535 of them, read with the types of the table's columns. */
export function recordset(table: string): string {
  return `json_populate_recordset(NULL::${table}, $1::json)`;
}

/** Columns that rows name, all the same ones: another set would be set to NULL where a default is meant. */
export function columnsOf(table: string, rows: readonly Row[]): string[] {
  const named = (row: Row): string[] => Object.keys(row).filter((column) => row[column] !== undefined);
  const [first, ...more] = rows;
  if (first === undefined) {
    return [];
  }
  const columns = named(first);
  const known = new Set(columns);
  for (const row of more) {
    const others = named(row);
    if (others.length !== columns.length || !others.every((column) => known.has(column))) {
      throw new DekdError('INVALID_ARGUMENT', `rows of one statement for ${table} name the same columns`);
    }
  }
  return columns;
}

/** The columns, and those with the indexes of any of them. */
export function withIndexes({ indexes }: RowCipher, columns: readonly string[]): string[] {
  return [...new Set([...columns, ...[...indexes].flatMap(([column, of]) => (columns.includes(of) ? [column] : []))])];
}

/** The parameter of `recordset`: of each row the columns, the encrypted ones as `sealed` has them. */
export function recordsOf(columns: readonly string[], rows: readonly Row[], sealed: readonly Row[]): string {
  const records = rows.map((row, index) =>
    Object.fromEntries(columns.map((column) => [column, jsonOf(sealed[index]![column] ?? row[column])])),
  );
  return JSON.stringify(records);
}

/** A value as its column reads it out of JSON. */
function jsonOf(value: unknown): unknown {
  if (typeof value === 'bigint' || (typeof value === 'number' && !Number.isFinite(value))) {
    return String(value);
  }
  if (value instanceof Uint8Array) {
    return `\\x${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')}`;
  }
  return Array.isArray(value) ? value.map(jsonOf) : value;
}
