// Wrote the vectors of one release, once: `node test/vectors/golden/make.mjs v1`. It refuses a folder that is there. What
// a release wrote is never written again; a new format gets a folder of its own beside the old ones, which stay.

import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import {
  AlgorithmSuiteIdentifier,
  buildClient,
  CommitmentPolicy,
  RawAesKeyringNode,
  RawAesWrappingSuiteIdentifier,
} from '@aws-crypto/client-node';
import { connect } from '../../../src/client/index.ts';
import { primitives } from '../../../src/crypto/node.ts';
import { encodeContext } from '../../../src/envelope/context.ts';
import { encodeMacText } from '../../../src/envelope/mac.ts';
import { encodeMessageHeader } from '../../../src/envelope/message-header.ts';
import { encodeTokenText } from '../../../src/envelope/token-text.ts';
import {
  ApiKeys,
  OneShotSecrets,
  PaginationTokens,
  RefreshTokens,
  Sessions,
  ThirdPartyKeys,
} from '../../../src/helpers/index.ts';
import { writeExport } from '../../../src/keystores/export-document.ts';
import { startGoldenAgent } from '../../support/golden-agent.ts';
import { goldenCalls } from '../../support/golden-calls.ts';
import { legacySealed } from '../../support/legacy-vectors.ts';
import { RawClient } from '../../support/raw-client.ts';
import { startRecordingProxy } from '../../support/recording-proxy.ts';

const [name] = process.argv.slice(2);
const folder = join(import.meta.dirname, name ?? '');
if (name === undefined || !/^v\d+$/.test(name) || existsSync(folder)) {
  console.error('node test/vectors/golden/make.mjs vN, of which there is no folder yet');
  process.exit(2);
}
mkdirSync(folder);
const write = (file, value) => writeFileSync(join(folder, file), `${JSON.stringify(value, null, 1)}\n`);
const base64 = (bytes) => Buffer.from(bytes).toString('base64');
const secret = () => base64(randomBytes(32));

const keys = {
  root: secret(),
  partner: secret(),
  kms: { id: randomUUID(), materialId: randomBytes(32).toString('hex'), key: secret() },
  transit: secret(),
  legacy: { v1: secret() },
};
write('keys.json', keys);
const golden = await startGoldenAgent({ keys });
const dekd = connect({ socket: golden.agent.socket });

// ── tokens ──
const tokens = [];
async function token(title, plaintext, options) {
  const text = encodeTokenText(await dekd.encrypt(plaintext, options));
  tokens.push({ name: title, ...options, text, plaintext: base64(plaintext) });
}
await token('a value', Buffer.from('4111 1111 1111 1111'), {
  key: 'customers',
  partition: 'acme',
  context: { field: 'pan', row: '4711' },
});
await token('nothing', Buffer.alloc(0), { key: 'customers' });
await token('a byte', Buffer.of(0), { key: 'customers', partition: 'acme' });
for (const size of [15, 16, 17, 255, 256, 1000, 4096]) {
  await token(`${size} bytes`, randomBytes(size), { key: 'customers', context: { size: String(size) } });
}
await token('names that sort by bytes', Buffer.from('é'), {
  key: 'customers',
  context: { é: '\u{1f600}', Z: '', a: 'ß' },
});
await token('another partition', Buffer.from('globex'), { key: 'customers', partition: 'globex' });
await token('a root in AWS KMS', Buffer.from('cloud'), { key: 'cloud-a', context: { row: '1' } });
await token('a value that AWS KMS itself encrypted', Buffer.from('direct'), { key: 'direct-a', context: { row: '1' } });
await token('a root in Vault Transit', Buffer.from('transit'), { key: 'transit-a', context: { row: '1' } });
const batch = await dekd.encryptMany(
  [Buffer.from('one'), Buffer.alloc(0), { data: Buffer.from('three'), key: 'orders', context: { row: '3' } }],
  { key: 'customers', context: { row: 'shared' } },
);
for (const [index, result] of batch.entries()) {
  const options =
    index === 2 ? { key: 'orders', context: { row: '3' } } : { key: 'customers', context: { row: 'shared' } };
  tokens.push({
    name: `item ${index} of a batch`,
    ...options,
    text: encodeTokenText(result.value),
    plaintext: base64(['one', '', 'three'][index]),
  });
}
await rotate('customers', 'acme', 'seal');
await token('a value under the second version', Buffer.from('rotated'), {
  key: 'customers',
  partition: 'acme',
  context: { row: '1' },
});
write('tokens.json', tokens);

// ── messages ──
const messages = [];
function message(title, bytes, entry) {
  const file = `message-${messages.length}.bin`;
  writeFileSync(join(folder, file), bytes);
  messages.push({ name: title, file, ...entry });
}
const sealed = (data, options) => buffer(Readable.from([data]).pipe(dekd.encryptStream(options)));
const digest = (bytes) => createHash('sha256').update(bytes).digest('hex');
for (const [frameLength, size] of [
  [1, 5],
  [16, 0],
  [16, 48],
  [16, 50],
  [4096, 10_000],
  [65_536, 70_000],
]) {
  const data = randomBytes(size);
  const options = { key: 'files', partition: 'acme', context: { row: '7' } };
  message(`${size} bytes in frames of ${frameLength}`, await sealed(data, { ...options, frameLength }), {
    ...options,
    sha256: digest(data),
  });
}
for (const key of ['files-kms', 'files-raw', 'files-transit', 'files-all']) {
  const data = randomBytes(300);
  message(`recipients of ${key}`, await sealed(data, { key, frameLength: 100 }), { key, sha256: digest(data) });
}
for (const compression of [false, 'gzip', 'zstd']) {
  const value = { rows: Array.from({ length: 200 }, (_, id) => ({ id, name: `name ${id}` })) };
  const options = { key: 'large', context: { row: '1' } };
  message(`a large object, compression ${compression}`, await dekd.encryptLarge(value, { ...options, compression }), {
    ...options,
    json: value,
  });
  const bytes = Buffer.alloc(30_000, 'compressible ');
  message(`large bytes, compression ${compression}`, await dekd.encryptLarge(bytes, { ...options, compression }), {
    ...options,
    sha256: digest(bytes),
  });
}
const stock = buildClient(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT);
for (const [title, suiteId] of [
  ['of the AWS Encryption SDK', AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY],
  [
    'of the AWS Encryption SDK, signed',
    AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY_ECDSA_P384,
  ],
]) {
  const keyring = new RawAesKeyringNode({
    keyNamespace: 'acme',
    keyName: 'files-2026',
    unencryptedMasterKey: new Uint8Array(Buffer.from(keys.partner, 'base64')),
    wrappingSuite: RawAesWrappingSuiteIdentifier.AES256_GCM_IV12_TAG16_NO_PADDING,
  });
  const data = randomBytes(500);
  const { result } = await stock.encrypt(keyring, data, {
    suiteId,
    frameLength: 128,
    encryptionContext: { 'dekd-key': 'files-raw' },
  });
  message(title, result, { key: 'files-raw', sha256: digest(data) });
}
write('messages.json', messages);

// ── MACs, indexes, fingerprints ──
const macs = [];
for (const [data, options] of [
  ['hello', { key: 'customers', partition: 'acme', context: { row: '4711' } }],
  ['', { key: 'customers' }],
]) {
  macs.push({ data, options, mac: await dekd.hmacText(data, options) });
}
const index = { key: 'customers', partition: 'acme', table: 'users', column: 'email' };
write('hashes.json', {
  macs,
  index: { value: 'ada@example.org', options: index, hex: await dekd.blindIndex('ada@example.org', index) },
  fingerprint: {
    value: 'hunter2',
    options: { key: 'customers' },
    hex: await dekd.fingerprint('hunter2', { key: 'customers' }),
  },
});

// ── helpers and fields ──
const now = () => 1_790_000_000_000;
const store = new Map();
const oneShot = new OneShotSecrets(dekd, {
  key: 'one-shot',
  now,
  store: {
    put: async (lookup, text) => store.set(lookup, text),
    load: async (lookup) => store.get(lookup),
    consume: async () => true,
  },
});
const families = { begin: async () => {}, advance: async () => true, reused: async () => {} };
const refresh = new RefreshTokens(dekd, { key: 'refresh', kind: 'web', now, store: families });
const session = await new Sessions(dekd, { key: 'sessions', kind: 'web', now }).begin({ user: 'u1' });
const refreshed = await refresh.begin(session.id, { user: 'u1' });
const secretId = await oneShot.keep('the secret');
write('helpers.json', {
  now: now(),
  pagination: {
    token: await new PaginationTokens(dekd, { key: 'pages', kind: 'invoices', bindTo: ['user'], now }).issue(
      { after: 7 },
      { context: { user: 'u1' } },
    ),
  },
  session: { ...session, content: { user: 'u1' } },
  apiKey: await new ApiKeys(dekd, { key: 'api-keys' }).issue('billing'),
  thirdParty: {
    sealed: await new ThirdPartyKeys(dekd, { key: 'third-party' }).seal('sk_live_1', 'stripe'),
    apiKey: 'sk_live_1',
  },
  oneShot: { id: secretId, stored: [...store], secret: 'the secret' },
  refresh: { token: refreshed.token, session: session.id, content: { user: 'u1' } },
});
const row = { id: 'u1', email: 'ada@example.org', born: 1815, cards: [{ pan: '4111', expiry: null }], tags: ['a'] };
const fields = {
  key: 'customers',
  partition: 'acme',
  fields: ['email', 'born', 'cards[].pan', 'cards[].expiry', 'tags[]'],
};
write('fields.json', {
  fields,
  row,
  stored: await dekd
    .fields()({ ...fields, context: ({ id }) => ({ user: id }) })
    .encrypt(row),
});

// ── envelopes of applications from before ──
const cipherKey = Buffer.from(keys.legacy.v1, 'base64');
write('legacy.json', {
  envelope: legacySealed({ user: 'ada', password: 'x' }, 'v1', cipherKey),
  value: { user: 'ada', password: 'x' },
});

// ── the wire ──
const proxy = await startRecordingProxy(golden.agent.socket);
const recorded = connect({ socket: proxy.path });
const values = tokens.slice(0, 4).map(({ name: _, ...value }) => value);
const answers = await goldenCalls(recorded, values);
await recorded.close();
await proxy.stop();
write('frames.json', { values, answers, frames: proxy.frames });

// ── what writers write, with what they would draw given ──
const key = Uint8Array.from({ length: 32 }, (_, i) => i);
const nonce = Uint8Array.from({ length: 24 }, (_, i) => 100 + i);
const text = (string) => new TextEncoder().encode(string);
const field = (string) => Buffer.concat([Buffer.of(text(string).length), text(string)]);
const kid = Buffer.from(
  primitives.hmacSha256(key, Buffer.concat([text('dekd/v1/kid'), field('xaes-256-gcm'), field('seal')])),
).subarray(0, 16);
const head = Buffer.concat([Buffer.of(0xc1, 1), kid]);
const context = { table: 'cards', row: '4711', é: '' };
const aad = Buffer.concat([head, encodeContext(context)]);
const plaintext = Buffer.from('written with a given nonce');
const given = Buffer.concat([head, nonce, primitives.xaesSeal(key, nonce, aad, plaintext)]);
const header = {
  messageId: Uint8Array.from({ length: 32 }, (_, i) => 200 - i),
  context: encodeContext({ purpose: 'files' }),
  dataKeys: [
    { providerId: 'dekd', providerInfo: new Uint8Array(77).fill(0x30), ciphertext: new Uint8Array(48).fill(7) },
  ],
  frameLength: 65_536,
  commitment: new Uint8Array(32).fill(9),
};
const hex = (bytes) => Buffer.from(bytes).toString('hex');
write('writer.json', {
  token: {
    key: hex(key),
    nonce: hex(nonce),
    context,
    plaintext: hex(plaintext),
    kid: hex(kid),
    token: hex(given),
    text: encodeTokenText(given),
  },
  context: { pairs: context, hex: hex(encodeContext(context)) },
  header: {
    messageId: hex(header.messageId),
    context: hex(header.context),
    dataKeys: header.dataKeys.map((each) => ({
      providerId: each.providerId,
      providerInfo: hex(each.providerInfo),
      ciphertext: hex(each.ciphertext),
    })),
    frameLength: header.frameLength,
    commitment: hex(header.commitment),
    hex: hex(encodeMessageHeader(header)),
  },
  mac: { bytes: hex(new Uint8Array(50).fill(0xc0)), text: encodeMacText(new Uint8Array(50).fill(0xc0)) },
});

// ── the keystore, as a database and as an export ──
const records = [];
const operator = await RawClient.greeted(golden.agent.admin);
for (let cursor = ''; ; ) {
  const { document } = await operator.ask({ admin: { export: { cursor, limit: 100 } } });
  const page = JSON.parse(Buffer.from(document).toString());
  records.push(...page.records);
  cursor = page.cursor ?? '';
  if (cursor === '') {
    break;
  }
}
operator.destroy();
let exported = '';
for await (const piece of writeExport(records)) {
  exported += piece;
}
writeFileSync(join(folder, 'export.json'), exported);
await dekd.close();
await golden.agent.agent.close();
copyFileSync(join(golden.folder, 'keys'), join(folder, 'keys.sqlite'));
await golden.stop();
process.exit(0);

async function rotate(keyName, partition, purpose) {
  const operator = await RawClient.greeted(golden.agent.admin);
  const { error } = await operator.ask({ admin: { rotate: { name: keyName, partition, purpose } } });
  operator.destroy();
  if (error) {
    throw new Error(error.message);
  }
}
