import type { EncryptionContext } from '../client/index.ts';
import { DekdError } from '../errors.ts';

/** UUIDs with upper-case digits: a column of type uuid gives them back in lower case. */
const UPPER_CASE_UUID = /^(?=.*[A-F])[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/;

/**
 * Columns that say which row it is. `false` is said, never assumed: without an identity, whoever can write to the database can
 * move values from row to row.
 */
export type Identity = string | readonly string[] | false;

/** @throws INVALID_ARGUMENT when nothing was said */
export function identityColumns(table: string, identity: Identity | undefined): readonly string[] {
  if (identity === false) {
    return [];
  }
  const names = typeof identity === 'string' ? [identity] : [...(identity ?? [])];
  if (names.length === 0 || !names.every((name) => typeof name === 'string' && name !== '')) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `${table} names no identity: without one values can be moved from row to row; 'identity: false' says that this is meant`,
    );
  }
  return names;
}

/** Identity columns of a row as context values. @throws INVALID_ARGUMENT when one is missing, or might come back spelled otherwise */
export function identityContext(
  table: string,
  columns: readonly string[],
  row: Readonly<Record<string, unknown>>,
): EncryptionContext {
  return Object.fromEntries(columns.map((column) => [column, identityText(`${table}.${column}`, row[column])]));
}

/** Same text, same row: whatever of string, integer and bigint it was given as. */
function identityText(name: string, value: unknown): string {
  if (typeof value === 'string') {
    if (UPPER_CASE_UUID.test(value)) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `${name} is a UUID in upper case, which a database may give back in lower case: write it in lower case`,
      );
    }
    return value;
  }
  if (typeof value === 'bigint' || (typeof value === 'number' && Number.isSafeInteger(value))) {
    return String(value);
  }
  throw new DekdError(
    'INVALID_ARGUMENT',
    value === null || value === undefined
      ? `${name} is not known, and encrypted values are bound to it: give it when you write, select it when you read`
      : `${name} is neither string nor integer: values cannot be bound to it`,
  );
}
