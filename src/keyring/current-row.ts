import type { Keystore } from '../keystores/keystore.ts';
import type { KeyRecord } from './record.ts';
import { RecordRefused } from './record-check.ts';

const MAX_ATTEMPTS = 16;

/**
 * Runs `work` with a row, and again with the newer one when the row was written since it was read. A write of this agent
 * raises the high-water mark as soon as it is stored, so that a row read just before looks older than it may be.
 */
export async function withCurrentRow<T>(
  keystore: Keystore,
  row: KeyRecord,
  work: (row: KeyRecord) => Promise<T>,
): Promise<T> {
  let current = row;
  for (let attempt = 1; ; attempt++) {
    try {
      return await work(current);
    } catch (error) {
      if (!isRollback(error) || attempt === MAX_ATTEMPTS) {
        throw error;
      }
      const now = await keystore.retrieve(current.kid);
      if (now === undefined || now.seq === current.seq) {
        throw error;
      }
      current = now;
    }
  }
}

export function isRollback(error: unknown): error is RecordRefused {
  return error instanceof RecordRefused && error.isRollback;
}
