// From columns that an application sealed itself with node:crypto (AES-256-GCM, iv of 12 bytes, tag of 16, no additional data) to
// tokens. The agent has the key (legacy.keys of its configuration), this script has not, and sees no plaintext.
//
//   node node-crypto-columns.mjs --database postgres://… --table users --kid v1 --iv iv --ciphertext ciphertext --tag tag \
//     --to email_token --key customers [--partition-column tenant] [--batch 500] [--dry-run]
//
// Where tag or iv are kept in the same column, before or behind the ciphertext, change `partsOf`.

import { legacyEnvelope } from 'dekd/migration';
import { migrateTable, readOptions } from './table.mjs';

const options = readOptions({
  kid: { type: 'string' },
  iv: { type: 'string' },
  ciphertext: { type: 'string' },
  tag: { type: 'string' },
});

function partsOf(row) {
  return { kid: options.kid, iv: row[options.iv], ciphertext: row[options.ciphertext], tag: row[options.tag] };
}

await migrateTable(options, [options.ciphertext, options.iv, options.tag], async (dekd, rows) => {
  const results = new Array(rows.length);
  const items = [];
  for (const [index, row] of rows.entries()) {
    try {
      items.push({ index, data: legacyEnvelope(partsOf(row)), ...row.binding });
    } catch (error) {
      results[index] = { ok: false, error };
    }
  }
  const made = await dekd.migrateLegacy(items);
  for (const [i, { index }] of items.entries()) {
    results[index] = made[i];
  }
  return results;
});
