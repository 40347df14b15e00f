import type { Keystore } from '../keystores/keystore.ts';
import type { KeyRecord } from './record.ts';
import { sameBytes } from './record-check.ts';

const PAGE = 1_000;

/** How many keys that are not destroyed hang directly under the KEK of this kid. Reads the whole keystore. */
export async function countChildren(keystore: Keystore, kid: Uint8Array): Promise<number> {
  let children = 0;
  let cursor: string | undefined;
  do {
    const page = await keystore.list({}, cursor, PAGE);
    children += page.records.filter((record) => isChild(record, kid)).length;
    cursor = page.cursor;
  } while (cursor !== undefined);
  return children;
}

function isChild({ parent, state }: KeyRecord, kid: Uint8Array): boolean {
  return parent.kind === 'key' && state !== 'destroyed' && sameBytes(parent.kid, kid);
}
