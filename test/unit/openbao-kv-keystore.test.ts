import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { KeyRecord } from '../../src/keyring/record.ts';
import { type OpenbaoKvKeystore, openOpenbaoKv } from '../../src/keystores/openbao-kv.ts';
import { MemorySessionKeeper } from '../../src/providers/session-keeper.ts';
import { plain, recordLike } from '../contract/keystore.contract.ts';
import { formsOf } from '../support/spy-keystore.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { type EngineRequest, noContent, notFound, ok } from '../support/vault-server/engine.ts';
import { settingsFor, tokenOf } from '../support/vault-server/fixture.ts';
import { kvPolicy } from '../support/vault-server/kv.ts';
import { KvPlace } from '../support/vault-server/kv-place.ts';

describe('OpenbaoKvKeystore', () => {
  let place: KvPlace;
  let keystore: OpenbaoKvKeystore;

  beforeEach(async () => {
    place = await KvPlace.start('openbao');
    keystore = await place.open();
  });

  afterEach(async () => {
    await keystore.close();
    await place.stop();
  });

  const row = ({ kid }: KeyRecord) => `dekd/rows/${Buffer.from(kid).toString('hex')}`;

  it('puts no name and no partition into a path', async () => {
    for (const partition of ['acme/../../sys', 'ACME', '🔑', '__proto__', '%2f']) {
      await keystore.store(recordLike({ name: 'a/b.c', partition }), { absent: true });
    }
    expect(
      place.engine.paths().filter((path) => !/^dekd\/(schema|[a-z]+\/[0-9a-f]+(\/[a-z]+\/\d{16})?)$/.test(path)),
    ).toEqual([]);
    expect(
      place.vault.requests.every(({ path }) => /^(secret\/(data|metadata|destroy)\/dekd\/|auth\/)/.test(path)),
    ).toBe(true);
  });

  it('needs no more than the ten versions of a path that a mount keeps by default', async () => {
    const records = Array.from({ length: 12 }, (_, index) => recordLike({ version: index + 1 }));
    for (const record of records) {
      await keystore.store(record, { absent: true });
    }
    for (let seq = 2n; seq <= 40n; seq++) {
      await keystore.updateMetadata(
        records.map((record) => ({ record: { ...record, seq }, expect: { seq: seq - 1n } })),
      );
    }
    const versions = await keystore.versions('customers', '', 'seal');
    expect(versions.map(plain)).toEqual(records.map((record) => plain({ ...record, seq: 40n })));
    expect(place.engine.settings.maxVersions).toBe(0);
  });

  it('works on a mount that demands check-and-set and keeps one version', async () => {
    place.engine.settings.casRequired = true;
    place.engine.settings.maxVersions = 1;
    const record = recordLike({});
    const other = recordLike({ version: 2 });
    await keystore.store(record, { absent: true });
    await keystore.store(other, { absent: true });
    await keystore.updateMetadata(
      [record, other].map((each) => ({ record: { ...each, seq: 2n }, expect: { seq: 1n } })),
    );
    expect((await keystore.versions('customers', '', 'seal')).map(({ seq }) => seq)).toEqual([2n, 2n]);
  });

  it('destroys wrapped bytes that a rewrap replaced, and keeps those of a change of state', async () => {
    const record = recordLike({});
    await keystore.store(record, { absent: true });
    await keystore.updateMetadata([{ record: { ...record, state: 'suspended', seq: 2n }, expect: { seq: 1n } }]);
    expect(holds(place, record.wrapped)).toBe(true);
    const rewrapped = { ...record, wrapped: recordLike({}).wrapped, revision: 2, seq: 3n };
    await keystore.updateMetadata([{ record: rewrapped, expect: { seq: 2n } }]);
    expect(holds(place, record.wrapped)).toBe(false);
    expect(holds(place, rewrapped.wrapped)).toBe(true);
  });

  it('does not take a write whose answer was lost for one that another writer won', async () => {
    const record = recordLike({});
    await keystore.store(record, { absent: true });
    place.vault.misbehave(`secret/data/${row(record)}`, { kind: 'slow', ms: 0 });
    place.vault.misbehave(`secret/data/${row(record)}`, { kind: 'lost-answer' });
    await keystore.updateMetadata([{ record: { ...record, seq: 2n }, expect: { seq: 1n } }]);
    expect((await keystore.retrieve(record.kid))?.seq).toBe(2n);
  });

  it('says so when a write is refused for another reason than its version', async () => {
    const record = recordLike({});
    const refusal = { status: 400, body: { errors: ['no'] } };
    place.vault.misbehave(/secret\/data\/dekd\/intents/, { kind: 'answer', reply: refusal });
    await expect(keystore.store(record, { absent: true })).rejects.toMatchObject({ code: 'KEYSTORE_UNAVAILABLE' });
  });

  it('ends a record that somebody deleted in the engine, and takes its version for free', async () => {
    const record = recordLike({});
    await keystore.store(record, { absent: true });
    const client = await place.client();
    place.vault.policies.set('dekd', { 'secret/*': ['delete', 'read', 'update', 'create', 'list'] });
    await client.request('DELETE', `secret/data/${row(record)}`);
    await client.close();
    expect(await keystore.retrieve(record.kid)).toBeUndefined();
    expect(await keystore.versions('customers', '', 'seal')).toEqual([]);
    expect((await keystore.list({}, undefined, 10)).records).toEqual([]);
    const other = recordLike({});
    await keystore.store(other, { absent: true });
    expect((await keystore.versions('customers', '', 'seal')).map(plain)).toEqual([plain(other)]);
    await expect(keystore.store(record, { absent: true })).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  it('passes over a row that is none or that was copied to another kid, serves those beside it, and says so', async () => {
    const [good, edited, copied] = [recordLike({ version: 1 }), recordLike({ version: 2 }), recordLike({ version: 3 })];
    for (const record of [good, edited, copied]) {
      await keystore.store(record, { absent: true });
    }
    expect((await keystore.health()).ok).toBe(true);
    const client = await place.client();
    await client.request('POST', `secret/data/${row(edited)}`, { data: { value: { state: 'active' } } });
    await client.request('POST', `secret/data/${row(copied)}`, { data: place.engine.current(row(good)) });
    await client.request('POST', 'secret/data/dekd/rows/README.txt', { data: { value: 'not ours' } });
    await client.close();
    expect((await keystore.list({}, undefined, 10)).records.map(plain)).toEqual([plain(good)]);
    expect((await keystore.versions('customers', '', 'seal')).map(plain)).toEqual([plain(good)]);
    expect(await keystore.retrieve(copied.kid)).toBeUndefined();
    expect(await keystore.health()).toMatchObject({ ok: false, detail: expect.stringContaining('2 rows') });
    await expect(keystore.store(recordLike({ version: 2 }), { absent: true })).rejects.toMatchObject({
      code: 'CONFLICT',
    });
  });

  it('is not held up by marks and intents that nobody of ours wrote', async () => {
    const records = Array.from({ length: 4 }, (_, index) => recordLike({ version: index + 1 }));
    for (const record of records) {
      await keystore.store(record, { absent: true });
    }
    const client = await place.client();
    for (const [index, pending] of [{ intent: '../../sys' }, 'x', null, { intent: 'gone', next: null }].entries()) {
      const path = row(records[index]!);
      const { value } = place.engine.current(path) as { value: unknown };
      await client.request('POST', `secret/data/${path}`, { data: { value, pending } });
    }
    const intents = [
      { state: 'committed', paths: ['../x', 7, row(records[0]!).slice('dekd/'.length)], shred: ['a//b'] },
      { state: 5 },
      { paths: 'x' },
    ];
    for (const [index, intent] of intents.entries()) {
      await client.request('POST', `secret/data/dekd/intents/planted-${index}`, { data: intent });
    }
    await client.close();
    const other = await place.open();
    expect((await other.versions('customers', '', 'seal')).map(plain)).toEqual(records.map(plain));
    const changed = { ...records[0]!, seq: 2n };
    await other.updateMetadata([{ record: changed, expect: { seq: 1n } }]);
    expect((await keystore.retrieve(changed.kid))?.seq).toBe(2n);
    expect(place.engine.paths().filter((path) => path.includes('intents'))).toEqual([]);
    await other.close();
  });

  it('names the limit of the engine when a row does not fit into an entry', async () => {
    const record = recordLike({ keyContext: { note: 'x'.repeat(600 * 1024) } });
    await expect(keystore.store(record, { absent: true })).rejects.toMatchObject({
      code: 'KEYSTORE_UNAVAILABLE',
      message: expect.stringContaining('larger than an entry of secret may be'),
    });
    expect((await keystore.list({}, undefined, 10)).records).toEqual([]);
  });

  it('gives up at its deadline when the server takes a request and never answers', async () => {
    const impatient = await place.open(await place.client({ timeout: 100 }));
    place.vault.misbehave(/secret\/data\/dekd\/rows/, { kind: 'hang' });
    await expect(impatient.retrieve(recordLike({}).kid)).rejects.toMatchObject({
      code: 'KEYSTORE_UNAVAILABLE',
      message: expect.stringContaining('did not answer in time'),
    });
    await impatient.close();
  });

  it('is unavailable with a token that was revoked, and does not say which', async () => {
    const [token] = place.vault.tokens.live().filter(({ policies }) => policies.includes('dekd'));
    place.vault.tokens.revokeId(token!.id);
    const error = await keystore.retrieve(recordLike({}).kid).catch((reason: Error) => reason);
    expect(error).toMatchObject({ code: 'KEYSTORE_UNAVAILABLE' });
    expect(JSON.stringify([(error as Error).message, (error as Error).stack])).not.toContain(token!.id);
  });

  it('sums up the oldest leases of a key when there are too many, and never loses use', async () => {
    const kid = new Uint8Array(randomBytes(16));
    for (let holder = 0; holder < 510; holder++) {
      await keystore.storeLease({ kid, holder: `agent-${holder}`, messages: 2n ** 20n, bytes: 1000n });
    }
    const leases = await keystore.leases();
    expect(leases.length).toBe(500);
    expect(leases.reduce((sum, { messages }) => sum + messages, 0n)).toBe(510n * 2n ** 20n);
    expect(leases.reduce((sum, { bytes }) => sum + bytes, 0n)).toBe(510_000n);
  });

  it('refuses a newer schema with the commands to go on', async () => {
    const client = await place.client();
    await client.request('POST', 'secret/data/dekd/schema', { data: { format: 'dekd-keystore', version: 2 } });
    await expect(place.open()).rejects.toMatchObject({
      code: 'UNSUPPORTED_VERSION',
      message: expect.stringMatching(/schema 2.*upgrade dekd.*dekd keys export.*dekd keys import/),
    });
    await client.request('POST', 'secret/data/dekd/schema', { data: { password: 'x' } });
    await expect(place.open()).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('kv.prefix'),
    });
    await client.close();
  });

  it('refuses an engine of version 1, and leaves nothing there', async () => {
    const secrets = new Map<string, unknown>();
    place.vault.mount('secret', {
      handle: ({ operation, path, body }: EngineRequest) => {
        if (operation === 'read') {
          return secrets.has(path) ? ok(secrets.get(path) as Record<string, unknown>) : notFound();
        }
        if (operation === 'delete') {
          secrets.delete(path);
        } else {
          secrets.set(path, body);
        }
        return noContent();
      },
    });
    place.vault.policies.set('dekd', { 'secret/*': ['create', 'read', 'update', 'delete'] });
    await expect(place.open()).rejects.toMatchObject({
      code: 'KEYSTORE_UNAVAILABLE',
      message: expect.stringMatching(/mount secret is a key-value engine of version 1/),
    });
    expect(secrets.size).toBe(0);
  });

  it('refuses a mount that deletes keys after a time', async () => {
    place.engine.settings.deleteVersionAfter = 3_600_000;
    place.kv.prefix = 'dekd/new';
    await expect(place.open()).rejects.toMatchObject({
      code: 'KEYSTORE_UNAVAILABLE',
      message: expect.stringContaining('delete_version_after'),
    });
    await keystore.store(recordLike({}), { absent: true });
    expect(await keystore.health()).toMatchObject({
      ok: false,
      detail: expect.stringContaining('delete_version_after'),
    });
  });

  it('refuses a mount or prefix that is not safe in a path', async () => {
    for (const kv of [
      { mount: 'a b', prefix: 'dekd' },
      { mount: 'secret', prefix: '../sys' },
    ]) {
      await expect(openOpenbaoKv(settingsFor(place.vault.address), kv)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(/kv\.(mount|prefix) must be/),
      });
    }
  });

  it('names the mount when there is no engine at it, also when it goes away later', async () => {
    place.vault.engines.delete('secret');
    const missing = { code: 'KEYSTORE_UNAVAILABLE', message: expect.stringContaining('at mount secret') };
    await expect(place.open()).rejects.toMatchObject(missing);
    await expect(keystore.retrieve(recordLike({}).kid)).rejects.toMatchObject(missing);
  });

  it('names path and capabilities when its policy lacks something', async () => {
    const record = recordLike({});
    const lacking: [string, RegExp, () => Promise<unknown>][] = [
      [
        'secret/data/dekd/*',
        /path "secret\/data\/dekd\/\*".*create, read, update/,
        () => keystore.retrieve(record.kid),
      ],
      [
        'secret/metadata/dekd/*',
        /path "secret\/metadata\/dekd\/\*".*list, delete/,
        () => keystore.list({}, undefined, 9),
      ],
      [
        'secret/destroy/dekd/*',
        /path "secret\/destroy\/dekd\/\*".*update/,
        async () => {
          await keystore.store(record, { absent: true });
          await keystore.delete({ ...record, state: 'destroyed', wrapped: new Uint8Array(0), seq: 2n }, { seq: 1n });
          await place.open();
        },
      ],
    ];
    for (const [path, message, use] of lacking) {
      place.vault.policies.set('dekd', { ...kvPolicy(), [path]: [] });
      await expect(use()).rejects.toMatchObject({
        code: 'KEYSTORE_UNAVAILABLE',
        message: expect.stringMatching(message),
      });
    }
  });

  it('is unavailable, and says why, while the server is sealed, throttles, fails or does not answer', async () => {
    const { kid } = recordLike({});
    const path = /secret\/data/;
    const faults = [
      { kind: 'answer', reply: { status: 429, body: { errors: ['slow'] }, headers: { 'retry-after': '7' } } },
      { kind: 'answer', reply: { status: 500, body: { errors: ['x'] } } },
      { kind: 'raw', status: 200, body: '<html>' },
      { kind: 'reset' },
      { kind: 'half-close' },
    ] as const;
    for (const fault of faults) {
      place.vault.misbehave(path, fault);
      await expect(keystore.retrieve(kid)).rejects.toMatchObject({ code: 'KEYSTORE_UNAVAILABLE', retryable: true });
    }
    place.vault.misbehave(path, faults[0]);
    await expect(keystore.retrieve(kid)).rejects.toMatchObject({ retryAfterMs: 7000 });
    place.vault.state = 'sealed';
    await expect(keystore.retrieve(kid)).rejects.toMatchObject({ message: expect.stringContaining('sealed') });
    expect(await keystore.health()).toMatchObject({ ok: false, detail: expect.stringContaining('sealed') });
    place.vault.state = 'active';
    expect(await keystore.health()).toMatchObject({ ok: true });
  });

  it('keeps its login for the next process, and ends for itself alone when it is closed', async () => {
    const tokenFile = join(temporaryFolder(), 'token');
    const token = tokenOf(place.vault);
    writeFileSync(tokenFile, token);
    const settings = settingsFor(place.vault.address, { auth: { method: 'token', tokenFile } });
    const keeper = new MemorySessionKeeper();
    const one = await openOpenbaoKv(settings, place.kv, keeper);
    const two = await openOpenbaoKv(settings, place.kv);
    expect(await two.retrieve(recordLike({}).kid)).toBeUndefined();
    await one.close();
    await two.close();
    expect(keeper.load()?.length).toBeGreaterThan(0);
    expect(place.vault.tokens.revoked).toEqual([]);
    await expect(one.retrieve(recordLike({}).kid)).rejects.toMatchObject({ code: 'KEYSTORE_UNAVAILABLE' });
    const wrong = { ...settings, auth: { method: 'token', tokenFile: join(tokenFile, 'no') } } as const;
    await expect(openOpenbaoKv(wrong, place.kv)).rejects.toSatisfy(
      (error: Error) => /openbao-kv/.test(error.message) && !error.message.includes(token),
    );
  });
});

function holds({ engine }: KvPlace, bytes: Uint8Array): boolean {
  const dump = Buffer.from(engine.dump());
  return formsOf(bytes).some((form) => dump.includes(form));
}
