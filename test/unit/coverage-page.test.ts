/** docs/coverage.md against the tests: each file that it names is there, and has the titles that it quotes. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { problemsWithTests } from '../support/page-tests.ts';
import { ROOT } from '../support/source-copy.ts';

interface Row {
  readonly feature: string;
  readonly state: string;
}

const page = readFileSync(join(ROOT, 'docs/coverage.md'), 'utf8');
const rows: Row[] = Array.from(page.matchAll(/^\| (?!feature \||---)(.*?) \| (.*) \|$/gm), ([, feature, state]) => ({
  feature: feature!,
  state: state!,
}));

/**
 * What is to be covered: whole, what applications of two earlier systems have, and what concerns applications of three
 * others. Each as the page words it.
 */
const ASKED_FOR = [
  'encrypt and decrypt in context, text and bytes',
  'context mandatory and canonical',
  'cross-purpose replay blocked',
  'cross-purpose replay',
  '`generateHash`, `verifyHash` with an algorithm',
  'generateHash / verifyHash: keyed, in the agent, compared in constant time',
  '`encryptLargeData` beyond 4 KiB; object to JSON, compressed, encrypted',
  'large objects, JSON or bytes, compressed when asked for',
  'encryptObject and decryptObject by field',
  '`encryptObject`, `decryptObject` by field',
  'optional operations give a clear error; capabilities agree',
  'switch of the provider at run time, no downtime',
  'old provider reads while new writes, routed by the ciphertext and not by the default',
  're-encrypt on access, then drop the old provider',
  'provider chosen by one variable',
  'instances cached by configuration',
  'instances cached by configuration, `clearCache`',
  'connection pool: maximum, idle time-out, reuse, waiting counted',
  'clear cache',
  'Vault token and AppRole, secret id at run time',
  'pagination token helper',
  'session / refresh token protection',
  'API keys bound to service name',
  'file and wrapped DEK stored together',
  'local provider, development only, warns; id is the hash of the key',
  'AWS direct, AWS envelope, Transit',
  'data key cache cuts calls to the KMS',
  'provider-side rotation is transparent',
  // Envelopes that applications made themselves.
  'self-describing JSON envelope, read',
  'legacy plaintext pass-through: off, per key, counted, end date, nothing that looks encrypted',
  'idempotent encrypt, isEncrypted; attacker-shaped objects are encrypted',
  'keyring: many kids, one active; duplicate, short or unknown kid stops the start',
  'keygen',
  'missing key fails at start, no socket',
  'staged roll-out, N and N−1 in both orders; readers from before fail loudly',
  'migration on re-save, no schema change, counts',
  'one package shared by several services: the client alone, without agent, SDK or native code',
  'clients in other languages',
  // Rows for applications of the others.
  'a provider by name for each call, allowed by policy',
  'batch: one call for N items; mixed keys in one batch',
  'direct mode, no key in the agent, 50 calls at once',
  'Node streams with back-pressure, cancel, truncation always an error',
  'streams, constant memory, uploads that were cut leave nothing',
  'decrypt and re-encrypt: a failure still gives the plaintext',
  'key information: algorithm, versions, states',
  'typed errors, normalised across providers, no secret in a message',
  'storage transformer, after compression',
  'cache transformer',
  'typed fluent client, the same bytes as the plain interface',
  'disabled service is an error and never a pass-through',
  'error normalisation, rate limits with a delay',
  'keyed fingerprint for dedupe/audit, other in every tenant',
  'one-shot retrieval and expiry',
  'tenant and service isolation',
];

describe('docs/coverage.md', () => {
  it('names files that are there, with the titles that it quotes', () => {
    expect(rows.length).toBeGreaterThan(100);
    expect(rows.flatMap(({ feature, state }) => problemsWithTests(feature, state))).toEqual([]);
  });

  it('says of each row that it is tested, covered, declined or not yet, and names a test where it says tested', () => {
    expect(rows.filter(({ state }) => !/^(tested|covered|declined|not yet)\b/.test(state))).toEqual([]);
    const tested = rows.filter(({ state }) => state.startsWith('tested'));
    expect(tested.filter(({ state }) => !/`[\w./{},-]+\.(ts|txt)`/.test(state) && !/C\+\+ tests/.test(state))).toEqual(
      [],
    );
  });

  it('names a test for each of what applications are to have', () => {
    const tested = new Set(rows.filter(({ state }) => state.startsWith('tested')).map(({ feature }) => feature));
    expect(ASKED_FOR.filter((feature) => !tested.has(feature))).toEqual([]);
  });

  it('has each row once, in tables whose headings are there once', () => {
    const twice = (values: readonly string[]) => values.filter((value, at) => values.indexOf(value) !== at);
    expect(twice(rows.map(({ feature }) => feature))).toEqual([]);
    expect(twice(page.match(/^## .*$/gm) ?? [])).toEqual([]);
  });
});
