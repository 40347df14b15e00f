import { is } from 'drizzle-orm';
import { Column } from 'drizzle-orm/column';
import { customType as pgType } from 'drizzle-orm/pg-core';
import { customType as sqliteType } from 'drizzle-orm/sqlite-core';
import type { Ciphertext, DekdSyncClient, JsonValue } from '../client/index.ts';
import { DekdError } from '../errors.ts';

export type { IndexDefinition, IndexOptions } from './index-lookup.ts';
export type { RowClient } from './row-cipher.ts';
export type { ColumnPath, EncryptedRow, EncryptedTable, IndexColumns, TableDefinition } from './table.ts';
export { encryptedTable } from './table.ts';

/** The part of a synchronous client that columns are encrypted with. */
export type ColumnClient = Pick<DekdSyncClient, 'encryptText' | 'decryptText'>;

/** What every value of a column is bound to. A hook of a column is not told the row: values can be moved from row to row. */
export interface ColumnBinding {
  readonly key: string;
  readonly partition?: string | undefined;
  /** Name of the table; after a rename the old one goes on being bound. */
  readonly table: string;
  /** Name of the column in the database, and what is bound, as `field` of the context. */
  readonly column: string;
  readonly timeoutMs?: number | undefined;
}

/** The hooks of one column: a round trip for each value, during which nothing else runs in this thread. */
interface ColumnHooks<Value> {
  toDriver(value: Value): string;
  fromDriver(stored: string): Value;
}

// json has no equality, order or hash in PostgreSQL: a filter on a ciphertext is an error there, and never an empty answer.
const PG_TYPE = 'json';

/** A column of text for PostgreSQL; its type there is `json`, with the token as a JSON text, so that no filter compares it. */
export function encryptedText(dekd: ColumnClient, binding: ColumnBinding) {
  return pgColumn(binding.column, textHooks(dekd, binding));
}

/** The same for any value that JSON can carry. */
export function encryptedJson<Value extends JsonValue>(dekd: ColumnClient, binding: ColumnBinding) {
  return pgColumn(binding.column, jsonHooks<Value>(dekd, binding));
}

/** A column of text for SQLite. `refuseFilters` keeps it out of conditions. */
export function sqliteEncryptedText(dekd: ColumnClient, binding: ColumnBinding) {
  return sqliteColumn(binding.column, textHooks(dekd, binding));
}

/** The same for any value that JSON can carry. */
export function sqliteEncryptedJson<Value extends JsonValue>(dekd: ColumnClient, binding: ColumnBinding) {
  return sqliteColumn(binding.column, jsonHooks<Value>(dekd, binding));
}

/**
 * A column for PostgreSQL that holds ciphertexts made elsewhere, by `encryptedTable`: bound to their row, in batches and without
 * blocking. Its type is `json` as that of `encryptedText` is.
 */
export function ciphertextColumn<Value>(column: string) {
  return pgType<{ data: Ciphertext<Value>; driverData: string }>({
    dataType: () => PG_TYPE,
    toDriver: (token) => JSON.stringify(tokenText(token)),
    fromDriver: (stored) => storedToken(stored) as unknown as Ciphertext<Value>,
  })(column);
}

/**
 * Makes the encrypted columns of a table refuse to be compared with a value, by `eq`, `inArray`, `gt` and the like: they throw
 * INVALID_ARGUMENT where SQLite would find nothing. It takes the columns as members of the table; the callbacks of relational
 * queries have others.
 * @returns the table
 */
export function refuseFilters<Table extends object>(table: Table): Table {
  const members = table as Record<string, unknown>;
  for (const [name, column] of Object.entries(members)) {
    if (is(column, Column) && OWN_HOOKS.has((column as { mapTo?: unknown }).mapTo)) {
      members[name] = new Proxy(column, {
        // Writes take the columns from the table's own list; conditions are made of its members.
        get: (target, member) =>
          member === 'mapToDriverValue' ? () => refused(name) : Reflect.get(target, member, target),
      });
    }
  }
  return table;
}

/** The hooks of encrypted columns, by which these are known again. */
const OWN_HOOKS = new WeakSet<object>() as { has(value: unknown): boolean; add(value: object): unknown };

function pgColumn<Value>(column: string, hooks: ColumnHooks<Value>) {
  const toDriver = (value: Value): string => JSON.stringify(hooks.toDriver(value));
  OWN_HOOKS.add(toDriver);
  return pgType<{ data: Value; driverData: string }>({
    dataType: () => PG_TYPE,
    toDriver,
    fromDriver: (stored) => hooks.fromDriver(storedToken(stored)),
  })(column);
}

function sqliteColumn<Value>(column: string, hooks: ColumnHooks<Value>) {
  OWN_HOOKS.add(hooks.toDriver);
  return sqliteType<{ data: Value; driverData: string }>({ dataType: () => 'text', ...hooks })(column);
}

function textHooks(dekd: ColumnClient, binding: ColumnBinding): ColumnHooks<string> {
  return hooksOf(dekd, binding, (value): value is string => typeof value === 'string', 'a string');
}

function jsonHooks<Value extends JsonValue>(dekd: ColumnClient, binding: ColumnBinding): ColumnHooks<Value> {
  return hooksOf(dekd, binding, (value): value is Value => value !== undefined, 'what JSON can carry');
}

/** The plaintext is the JSON text of the value, and the context has `field`, as with typed fields: each opens the other's. */
function hooksOf<Value>(
  dekd: ColumnClient,
  { key, partition, table, column, timeoutMs }: ColumnBinding,
  isValue: (value: unknown) => value is Value,
  kind: string,
): ColumnHooks<Value> {
  const name = `${table}.${column}`;
  const options = { key, partition, context: { table, field: column }, timeoutMs };
  return {
    toDriver: (value) => {
      const text: string | undefined = isValue(value) ? JSON.stringify(value) : undefined;
      if (text === undefined) {
        throw new DekdError('INVALID_ARGUMENT', `${name} takes ${kind}, not ${typeof value}`);
      }
      return dekd.encryptText(text, options);
    },
    fromDriver: (stored) => {
      const value: unknown = JSON.parse(dekd.decryptText(stored, options));
      if (!isValue(value)) {
        throw new DekdError('MALFORMED', `${name} holds the ciphertext of something else than ${kind}`);
      }
      return value;
    },
  };
}

/** A driver gives json parsed, or as the text that it is. */
function storedToken(stored: unknown): string {
  const token: unknown = typeof stored === 'string' && stored.startsWith('"') ? JSON.parse(stored) : stored;
  return tokenText(token);
}

/** @throws MALFORMED, before anything that is no token is written or passed on */
function tokenText(token: unknown): string {
  if (typeof token !== 'string' || !token.startsWith('dk1.')) {
    throw new DekdError('MALFORMED', 'the column takes and holds ciphertexts: this is none');
  }
  return token;
}

function refused(name: string): never {
  throw new DekdError(
    'INVALID_ARGUMENT',
    `'${name}' is encrypted and cannot be filtered by: for equality keep a blind index in a column of its own`,
  );
}
