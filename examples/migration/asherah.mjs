// From data row records of Asherah, { "Key": { "Created", "Key", "ParentKeyMeta" }, "Data" }, to tokens.
//
//   node asherah.mjs --database postgres://… --table users --column record --to token --key customers \
//     --key-table encryption_key --master-key-file FILE | --aws-region eu-central-1 \
//     [--partition-column tenant] [--batch 500] [--dry-run]
//
// A record holds its own data row key, wrapped under the intermediate key of its partition; that is wrapped under the system key of
// the service, and that under a master key: a KMS key of AWS, or 32 bytes in hex (Asherah's static KMS). Intermediate and system
// keys are rows of the metastore, by id and time of creation. Every wrapped thing is AES-256-GCM: ciphertext, tag 16, nonce 12.
// The plaintext passes this process, and so do Asherah's keys: run it where you would run the application. Where Asherah's own
// library can be had, decrypt with that instead of `openRecord`.

import { createDecipheriv } from 'node:crypto';
import { readFileSync } from 'node:fs';
import pg from 'pg';
import { migrateTable, readOptions } from './table.mjs';

const options = readOptions({
  column: { type: 'string' },
  'key-table': { type: 'string', default: 'encryption_key' },
  'master-key-file': { type: 'string', optional: true },
  'aws-region': { type: 'string', optional: true },
});
if ((options['master-key-file'] === undefined) === (options['aws-region'] === undefined)) {
  console.error('either --master-key-file or --aws-region says what the system key is wrapped under');
  process.exit(2);
}

function open(key, wrapped) {
  const bytes = Buffer.from(wrapped, 'base64');
  const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(-12), { authTagLength: 16 });
  decipher.setAuthTag(bytes.subarray(-28, -12));
  return Buffer.concat([decipher.update(bytes.subarray(0, -28)), decipher.final()]);
}

/** The system key: under the static master key, or under a data key that AWS KMS wrapped once for each region. */
async function openSystemKey({ Key }) {
  if (options['master-key-file'] !== undefined) {
    return open(Buffer.from(readFileSync(options['master-key-file'], 'utf8').trim(), 'hex'), Key);
  }
  const { DecryptCommand, KMSClient } = await import('@aws-sdk/client-kms');
  const region = options['aws-region'];
  const { encryptedKey, kmsKeks } = JSON.parse(Buffer.from(Key, 'base64').toString());
  const kek = kmsKeks.find((each) => each.region === region);
  if (kek === undefined) {
    throw new Error(
      `the system key is wrapped for ${kmsKeks.map((each) => each.region).join(', ')}, not for ${region}`,
    );
  }
  const kms = new KMSClient({ region });
  const { Plaintext } = await kms.send(
    new DecryptCommand({ KeyId: kek.arn, CiphertextBlob: Buffer.from(kek.encryptedKek, 'base64') }),
  );
  kms.destroy();
  return open(Plaintext, encryptedKey);
}

const metastore = new pg.Client({ connectionString: options.database });
await metastore.connect();
const keys = new Map();

/** A key of the metastore, opened once, and the id of the one above it. */
function keyOf({ KeyId, Created }) {
  const id = `${KeyId} ${Created}`;
  if (!keys.has(id)) {
    keys.set(id, loadKey(KeyId, Created));
  }
  return keys.get(id);
}

async function loadKey(id, created) {
  const table = options['key-table'].split('.').map(pg.escapeIdentifier).join('.');
  // Some libraries write the time without, some with a zone; the record has it in seconds.
  const { rows } = await metastore.query(`SELECT key_record::text AS record FROM ${table} WHERE id = $1`, [id]);
  const record = rows.map((row) => JSON.parse(row.record)).find(({ Created }) => Created === created);
  if (record === undefined) {
    throw new Error(`the metastore has no key ${id} of ${new Date(created * 1000).toISOString()}`);
  }
  const { ParentKeyMeta: above } = record;
  const key = above ? open((await keyOf(above)).key, record.Key) : await openSystemKey(record);
  return { key, above: above?.KeyId ?? '' };
}

async function openRecord(row) {
  const record = row[options.column];
  const { Key, Data } = typeof record === 'string' ? JSON.parse(record) : record;
  const { KeyId } = Key.ParentKeyMeta;
  const { partition } = row.binding;
  const { key, above } = await keyOf(Key.ParentKeyMeta);
  // Nothing else binds a record to the partition of its row. The whole id counts, which ends as that of the system key does:
  // partitions may have `_` in them.
  if (partition !== undefined && KeyId !== `_IK_${partition}_${above.slice('_SK_'.length)}`) {
    throw new Error(`the record is of ${KeyId}, not of partition ${partition}`);
  }
  const dataRowKey = open(key, Key.Key);
  try {
    return open(dataRowKey, Data);
  } finally {
    dataRowKey.fill(0);
  }
}

await migrateTable(options, [options.column], async (dekd, rows) => {
  const opened = await Promise.all(
    rows.map((row) =>
      openRecord(row).then(
        (plaintext) => ({ ok: true, plaintext }),
        (error) => ({ ok: false, error }),
      ),
    ),
  );
  const items = rows.flatMap((row, index) =>
    opened[index].ok ? [{ index, data: opened[index].plaintext, ...row.binding }] : [],
  );
  const sealed = await dekd.encryptMany(items);
  const results = [...opened];
  for (const [i, { index, data }] of items.entries()) {
    results[index] = sealed[i];
    data.fill(0);
  }
  return results;
});
await metastore.end();
