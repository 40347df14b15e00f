import type { Keystore } from '../keystores/keystore.ts';
import { allRecords } from './listing.ts';
import { sameBytes } from './record-check.ts';

/** How many keys that are not destroyed hang directly under the KEK of this kid. Reads the whole keystore. */
export async function countChildren(keystore: Keystore, kid: Uint8Array): Promise<number> {
  let children = 0;
  for await (const { parent, state } of allRecords(keystore, {})) {
    if (parent.kind === 'key' && state !== 'destroyed' && sameBytes(parent.kid, kid)) {
      children++;
    }
  }
  return children;
}
