import type { Keystore, ListFilter } from '../keystores/keystore.ts';
import type { KeyRecord } from './record.ts';

const PAGE = 500;

/** Every record that `filter` lets through, in order of kid. @throws KEYSTORE_UNAVAILABLE */
export async function* allRecords(keystore: Keystore, filter: ListFilter): AsyncGenerator<KeyRecord> {
  let cursor: string | undefined;
  do {
    const page = await keystore.list(filter, cursor, PAGE);
    yield* page.records;
    cursor = page.cursor;
  } while (cursor !== undefined);
}
