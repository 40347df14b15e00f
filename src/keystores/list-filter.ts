import { DekdError } from '../errors.ts';
import type { KeyRecord } from '../keyring/record.ts';
import type { ListFilter } from './keystore.ts';

export const MAX_LIST_LIMIT = 1000;

/** @throws INVALID_ARGUMENT unless `limit` is 1 to 1,000. */
export function checkLimit(limit: number): void {
  if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LIST_LIMIT) {
    throw new DekdError('INVALID_ARGUMENT', `limit must be 1 to ${MAX_LIST_LIMIT}`);
  }
}

/** Whether `record` has every value that `filter` gives. */
export function matches(record: KeyRecord, filter: ListFilter): boolean {
  return (
    (filter.name === undefined || record.name === filter.name) &&
    (filter.partition === undefined || record.partition === filter.partition) &&
    (filter.level === undefined || record.level === filter.level) &&
    (filter.purpose === undefined || record.purpose === filter.purpose) &&
    (filter.state === undefined || record.state === filter.state)
  );
}
