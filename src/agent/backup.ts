/** Export and import over the admin socket, a page at a time: wrapped records only. */

import { DekdError } from '../errors.ts';
import type { Keyring } from '../keyring/keyring.ts';
import type { KeyRecord } from '../keyring/record.ts';
import type { Keystore } from '../keystores/keystore.ts';
import { decodeRecord, encodeRecord } from '../keystores/record-codec.ts';

const PAGE_LIMIT = 500;

export interface BackupPage {
  readonly records: readonly unknown[];
  /** Given back for the next page; absent at the end. */
  readonly cursor: string | undefined;
}

export class Backup {
  readonly #keystore: Keystore;
  readonly #keyring: Keyring;

  constructor(keystore: Keystore, keyring: Keyring) {
    this.#keystore = keystore;
    this.#keyring = keyring;
  }

  async page(cursor: string | undefined, limit: number): Promise<BackupPage> {
    const page = await this.#keystore.list({}, cursor, Math.min(limit, PAGE_LIMIT));
    return { records: page.records.map(encodeRecord), cursor: page.cursor };
  }

  /** @throws INVALID_ARGUMENT when the bytes are not records of an export */
  async restore(json: Uint8Array, acceptRollback: boolean): Promise<unknown> {
    return this.#keyring.importRecords(readRecords(json), { acceptRollback });
  }
}

function readRecords(json: Uint8Array): KeyRecord[] {
  let records: unknown;
  try {
    records = JSON.parse(Buffer.from(json).toString('utf8'));
  } catch (error) {
    throw new DekdError('INVALID_ARGUMENT', 'the records are not JSON', { cause: error });
  }
  if (!Array.isArray(records)) {
    throw new DekdError('INVALID_ARGUMENT', 'the records are not a list');
  }
  return records.map(decodeRecord);
}
