import type { SQLOutputValue } from 'node:sqlite';
import type { KeyRecord, UsageLease } from '../keyring/record.ts';
import { bytesIn, columnsOf, type NumberCells, recordFrom, textIn } from './record-columns.ts';

type Row = Record<string, SQLOutputValue>;

/** Integers of 64 bits have a sign in SQLite, so the upper half of unsigned ones is kept as negative numbers. */
const NUMBERS: NumberCells = {
  whole: (cell) => Number(cell ?? 0),
  unsigned: (cell) => BigInt.asUintN(64, cell as bigint),
};

/** The record as named values of a statement. */
export function valuesOf(record: KeyRecord) {
  return { ...columnsOf(record), seq: BigInt.asIntN(64, record.seq) };
}

export function recordOf(row: Row): KeyRecord {
  return recordFrom(row, NUMBERS);
}

export function leaseOf(row: Row): UsageLease {
  return {
    kid: bytesIn(row.kid),
    holder: textIn(row.holder),
    messages: row.messages as bigint,
    bytes: row.bytes as bigint,
  };
}
