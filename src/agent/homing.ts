/** The admin command that empties former keystores: records that nobody writes have to be fetched. */
import { DekdError } from '../errors.ts';
import type { Keystore } from '../keystores/keystore.ts';

const PAGE_LIMIT = 200;

export interface HomingPage {
  readonly examined: number;
  readonly moved: number;
  readonly failed: readonly { readonly name: string; readonly reason: string }[];
  /** Given back for the next page; absent at the end. */
  readonly cursor: string | undefined;
}

/**
 * Copies a page of records to the keystores that their routes name, where they lie elsewhere. Running it again does no harm.
 * @throws UNSUPPORTED where there is one keystore only, so that nothing can lie elsewhere
 */
export async function bringHome(
  keystore: Keystore,
  cursor: string | undefined,
  limit: number | undefined,
): Promise<HomingPage> {
  if (keystore.bringHome === undefined) {
    throw new DekdError('UNSUPPORTED', 'there is one keystore: keystores and routes of the configuration name more');
  }
  const page = await keystore.list({}, cursor, Math.min(limit || PAGE_LIMIT, PAGE_LIMIT));
  let moved = 0;
  const failed: { name: string; reason: string }[] = [];
  for (const record of page.records) {
    try {
      moved += (await keystore.bringHome(record)) ? 1 : 0;
    } catch (error) {
      if (DekdError.is(error, 'KEYSTORE_UNAVAILABLE')) {
        throw error;
      }
      failed.push({ name: record.name, reason: DekdError.from(error).message });
    }
  }
  return { examined: page.records.length, moved, failed, cursor: page.cursor };
}
