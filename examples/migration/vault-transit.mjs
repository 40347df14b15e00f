// From ciphertexts of Vault's or OpenBao's Transit (vault:v1:…) to tokens: a batch is one call to Transit and one to the agent.
//
//   VAULT_ADDR=https://… VAULT_TOKEN=… node vault-transit.mjs --database postgres://… --table users --column email \
//     --transit-key app --to email_token --key customers [--mount transit] [--partition-column tenant] [--batch 500] [--dry-run]
//
// The token of Vault needs `update` on MOUNT/decrypt/KEY and nothing else. The plaintext passes this process, so run it where
// you would run the application. For a derived key, and for values with associated_data, complete `itemOf`.

import { migrateTable, readOptions } from './table.mjs';

const TIMEOUT_MS = 30_000;

const options = readOptions({
  column: { type: 'string' },
  'transit-key': { type: 'string' },
  mount: { type: 'string', default: 'transit' },
});
const { VAULT_ADDR, VAULT_TOKEN, VAULT_NAMESPACE } = process.env;
if (!VAULT_ADDR || !VAULT_TOKEN) {
  console.error('VAULT_ADDR and VAULT_TOKEN say where Vault is and who asks');
  process.exit(2);
}

function itemOf(row) {
  // { ciphertext, context: base64 } for a derived key; { ciphertext, associated_data: base64 } where it was encrypted so.
  return { ciphertext: row[options.column] };
}

/** One result a row, in order: { ok: true, plaintext } or { ok: false, error }. Throws when Vault answers none of them. */
async function decryptByTransit(rows) {
  const path = [options.mount, 'decrypt', encodeURIComponent(options['transit-key'])].join('/');
  const response = await fetch(new URL(`/v1/${path}`, VAULT_ADDR), {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'x-vault-token': VAULT_TOKEN,
      'x-vault-request': 'true',
      ...(VAULT_NAMESPACE && { 'x-vault-namespace': VAULT_NAMESPACE }),
    },
    body: JSON.stringify({ batch_input: rows.map(itemOf) }),
    // A token of Vault goes to no other host.
    redirect: 'error',
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const answer = await response.json().catch(() => ({}));
  // A batch in which some items failed is answered with 400 and a result each.
  const results = answer.data?.batch_results;
  if (!Array.isArray(results) || results.length !== rows.length) {
    throw new Error(`Transit answered ${response.status}: ${answer.errors?.join('; ') ?? 'nothing that can be read'}`);
  }
  return results.map(({ plaintext, error }) =>
    error || plaintext === undefined
      ? { ok: false, error: new Error(error || 'Transit gave no plaintext') }
      : { ok: true, plaintext: Buffer.from(plaintext, 'base64') },
  );
}

await migrateTable(options, [options.column], async (dekd, rows) => {
  const opened = await decryptByTransit(rows);
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
