/** What keystores have to know of records in JavaScript. */
import type { KeyRecord } from '../keyring/record.ts';

/** What `updateMetadata` and `delete` may replace; the rest is fixed for the life of a version. */
export function mutablePart(record: KeyRecord): Partial<KeyRecord> {
  const { state, dates, seq, mac, revision, parent, wrapped } = record;
  return { state, dates, seq, mac, revision, parent, wrapped };
}

/** What all versions of one key have in common. */
export interface Family {
  readonly name: string;
  readonly partition: string;
  readonly purpose: string;
}

export function isSameFamily(a: Family, b: Family): boolean {
  return a.name === b.name && a.partition === b.partition && a.purpose === b.purpose;
}

/** Usage only grows: of two tellings the larger one is the newer. */
export function larger(value: bigint, stored: bigint | undefined): bigint {
  return stored !== undefined && stored > value ? stored : value;
}
