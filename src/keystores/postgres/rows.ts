import { DekdError } from '../../errors.ts';
import type { KeyRecord, UsageLease } from '../../keyring/record.ts';
import {
  bytesIn,
  type Column,
  columnsOf,
  type NumberCells,
  type RowCell,
  recordFrom,
  textIn,
} from '../record-columns.ts';

/** What a row has: bytea as bytes of its own, everything else as PostgreSQL writes it. */
export type Cell = string | Uint8Array | null;
export type Row = Readonly<Record<string, Cell>>;

/** OID of bytea (pg_type.dat). */
const BYTEA = 17;

/**
 * Reads cells in the text format. The driver's own parsers are shared by everything in the process and can be replaced by
 * any of it; and its numbers would round what has 64 bits.
 */
export const CELL_TYPES = {
  getTypeParser: (oid: number) => (oid === BYTEA ? parseBytea : (text: string) => text),
};

/** Nothing is thrown for what is no number: the MAC of the row says so. */
const NUMBERS: NumberCells = {
  whole: (cell) => Number(textIn(cell)),
  unsigned,
};

/**
 * The record by column. Bytes are copied: statements are sent later, and may be sent again.
 * @throws INVALID_ARGUMENT as `storable` does
 */
export function valuesOf(record: KeyRecord): Readonly<Record<Column, Cell>> {
  const columns = Object.entries(columnsOf(record)).map(([column, value]) => [column, cellOf(value)]);
  return Object.fromEntries(columns) as Record<Column, Cell>;
}

export function recordOf(row: Row): KeyRecord {
  return recordFrom(row, NUMBERS);
}

export function leaseOf(row: Row): UsageLease {
  return {
    kid: bytesIn(row.kid),
    holder: textIn(row.holder),
    messages: unsigned(row.messages),
    bytes: unsigned(row.bytes),
  };
}

/** @throws INVALID_ARGUMENT: a text column takes all of Unicode but NUL, and half a surrogate pair is not Unicode. */
export function storable(value: string): string {
  if (value.includes('\0') || !value.isWellFormed()) {
    throw new DekdError('INVALID_ARGUMENT', 'PostgreSQL stores no NUL and no half of a surrogate pair in a text');
  }
  return value;
}

function cellOf(value: string | number | bigint | Uint8Array | null): Cell {
  if (value === null) {
    return null;
  }
  if (value instanceof Uint8Array) {
    return value.slice();
  }
  return typeof value === 'string' ? storable(value) : value.toString();
}

/** The hex format, which each session asks for. */
function parseBytea(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text.slice('\\x'.length), 'hex'));
}

function unsigned(cell: RowCell): bigint {
  const digits = textIn(cell);
  return /^\d{1,20}$/.test(digits) ? BigInt.asUintN(64, BigInt(digits)) : 0n;
}
