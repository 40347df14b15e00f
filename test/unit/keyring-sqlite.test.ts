import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { KeyRecord } from '../../src/keyring/record.ts';
import { SqliteKeystore } from '../../src/keystores/sqlite.ts';
import { recordLike } from '../contract/keystore.contract.ts';
import { Sandbox } from './keyring-fixture.ts';

describe('SqliteKeystore', () => {
  let sandbox: Sandbox;
  let path: string;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
    path = sandbox.path('keys.db');
  });

  afterEach(() => sandbox.cleanUp());

  it('makes its files readable for their owner only', async () => {
    const keystore = await SqliteKeystore.open({ path });
    await keystore.store(recordLike({}), { absent: true });
    for (const file of [path, `${path}-wal`, `${path}-shm`]) {
      expect(statSync(file).mode & 0o777).toBe(0o600);
    }
    await keystore.close();
  });

  it('keeps a write-ahead log', async () => {
    const keystore = await SqliteKeystore.open({ path });
    await keystore.close();
    const db = new DatabaseSync(path);
    expect(db.prepare('PRAGMA journal_mode').get()).toEqual({ journal_mode: 'wal' });
    db.close();
  });

  it('has a clear error with the remedy for a file that is damaged, cut short or no database', async () => {
    const keystore = await SqliteKeystore.open({ path });
    for (let version = 1; version <= 100; version++) {
      await keystore.store(recordLike({ version }), { absent: true });
    }
    await keystore.close();
    const whole = readFileSync(path);
    const remedy =
      /^keystore .*keys\.db is damaged .*: restore it from a backup, or move it away and run dekd keys import/;
    writeFileSync(
      path,
      whole.map((byte, i) => (i > 4096 && i < 4200 ? byte ^ 0xff : byte)),
    );
    await expect(SqliteKeystore.open({ path })).rejects.toMatchObject({
      code: 'KEYSTORE_UNAVAILABLE',
      message: expect.stringMatching(remedy),
    });
    writeFileSync(path, whole);
    truncateSync(path, whole.length - 4096);
    await expect(SqliteKeystore.open({ path })).rejects.toThrow(remedy);
    writeFileSync(path, 'no database at all, but long enough to have a header of its own, or so it seems. '.repeat(20));
    await expect(SqliteKeystore.open({ path })).rejects.toThrow(remedy);
    writeFileSync(path, whole);
    await (await SqliteKeystore.open({ path })).close();
  });

  it('refuses a newer schema and another program, and changes neither', async () => {
    await (await SqliteKeystore.open({ path })).close();
    const db = new DatabaseSync(path);
    db.exec('PRAGMA user_version = 7');
    db.close();
    await expect(SqliteKeystore.open({ path })).rejects.toMatchObject({
      code: 'UNSUPPORTED_VERSION',
      message: expect.stringMatching(
        /has schema 7, and this dekd knows up to 1: upgrade dekd, or run dekd keys export/,
      ),
    });
    const foreign = new DatabaseSync(sandbox.path('foreign.db'));
    foreign.exec('CREATE TABLE t (a)');
    foreign.close();
    await expect(SqliteKeystore.open({ path: sandbox.path('foreign.db') })).rejects.toThrow(/of another program/);
  });

  it('says which uid must be able to write, when the file cannot be made', async () => {
    writeFileSync(sandbox.path('file'), '');
    await expect(SqliteKeystore.open({ path: sandbox.path('file/keys.db') })).rejects.toMatchObject({
      code: 'KEYSTORE_UNAVAILABLE',
      message: expect.stringContaining('cannot be made'),
    });
  });

  it('waits for another writer without blocking, and gives up in time', async () => {
    const keystore = await SqliteKeystore.open({ path, busyMs: 150 });
    const db = new DatabaseSync(path);
    db.exec('BEGIN IMMEDIATE');
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const stuck = keystore.store(recordLike({}), { absent: true });
    await expect(stuck).rejects.toMatchObject({
      code: 'KEYSTORE_UNAVAILABLE',
      message: expect.stringContaining('was locked by another process for 150 ms'),
    });
    clearInterval(timer);
    expect(turns).toBeGreaterThan(5);
    const waiting = keystore.store(recordLike({}), { absent: true });
    setTimeout(() => db.exec('ROLLBACK'), 30);
    await waiting;
    db.close();
    await keystore.close();
  });

  it('leaves no wrapped bytes of a destroyed key in any of its files', async () => {
    const keystore = await SqliteKeystore.open({ path });
    const records: KeyRecord[] = [];
    for (let version = 1; version <= 300; version++) {
      const record = recordLike({ version });
      records.push(record);
      await keystore.store(record, { absent: true });
    }
    for (const record of records.filter((_, i) => i % 10 === 0)) {
      expect(holders(record.wrapped)).not.toEqual([]);
      await keystore.delete({ ...record, state: 'destroyed', wrapped: new Uint8Array(0), seq: 2n }, { seq: 1n });
      expect(holders(record.wrapped)).toEqual([]);
    }
    expect(await keystore.health()).toMatchObject({ ok: true });
    await keystore.close();
  });

  it('clears copies that SQLite left in free pages', async () => {
    const keystore = await SqliteKeystore.open({ path });
    const record = recordLike({});
    await keystore.store(record, { absent: true });
    const careless = new DatabaseSync(path);
    careless.exec('CREATE TABLE spare (bytes BLOB)');
    careless.prepare('INSERT INTO spare VALUES (?)').run(record.wrapped);
    careless.exec('DROP TABLE spare');
    careless.close();
    await keystore.delete({ ...record, state: 'destroyed', wrapped: new Uint8Array(0), seq: 2n }, { seq: 1n });
    expect(holders(record.wrapped)).toEqual([]);
    expect((await keystore.retrieve(record.kid))?.state).toBe('destroyed');
    await keystore.close();
  });

  it('says that destroyed bytes are left while a reader holds the log, and clears them at the next chance', async () => {
    const keystore = await SqliteKeystore.open({ path, busyMs: 50 });
    const [first, second] = [recordLike({}), recordLike({ version: 2 })];
    await keystore.store(first, { absent: true });
    await keystore.store(second, { absent: true });
    const reader = new DatabaseSync(path);
    reader.exec('BEGIN');
    reader.prepare('SELECT count(*) FROM record').get();
    await keystore.delete({ ...first, state: 'destroyed', wrapped: new Uint8Array(0), seq: 2n }, { seq: 1n });
    expect(await keystore.health()).toMatchObject({ ok: false, detail: expect.stringContaining('1 destroyed keys') });
    reader.exec('COMMIT');
    reader.close();
    await keystore.delete({ ...second, state: 'destroyed', wrapped: new Uint8Array(0), seq: 2n }, { seq: 1n });
    expect(await keystore.health()).toMatchObject({ ok: true });
    expect([...holders(first.wrapped), ...holders(second.wrapped)]).toEqual([]);
    await keystore.close();
  });

  it('fails typed when there is no space, reads on, and writes again once there is', async () => {
    const keystore = await SqliteKeystore.open({ path });
    await keystore.store(recordLike({}), { absent: true });
    await keystore.close();
    const db = new DatabaseSync(path);
    const pages = Number(db.prepare('PRAGMA page_count').get()!.page_count);
    db.close();
    const exec = DatabaseSync.prototype.exec;
    const limited = await SqliteKeystore.open({ path });
    let full = true;
    DatabaseSync.prototype.exec = function (sql: string) {
      if (sql === 'BEGIN IMMEDIATE') {
        exec.call(this, `PRAGMA max_page_count = ${full ? pages : 1_000_000}`);
      }
      exec.call(this, sql);
    };
    try {
      let stored = 1;
      const fill = async () => {
        for (; stored < 500; stored++) {
          await limited.store(recordLike({ version: stored + 1 }), { absent: true });
        }
      };
      await expect(fill()).rejects.toMatchObject({
        code: 'KEYSTORE_UNAVAILABLE',
        message: expect.stringContaining('no space left'),
      });
      expect((await limited.versions('customers', '', 'seal')).length).toBe(stored);
      full = false;
      await limited.store(recordLike({ version: 1000 }), { absent: true });
    } finally {
      DatabaseSync.prototype.exec = exec;
    }
    await limited.close();
  });

  it('writes nothing more after an I/O error of a commit, and acknowledges nothing', async () => {
    const keystore = await SqliteKeystore.open({ path });
    const record = recordLike({});
    await keystore.store(record, { absent: true });
    const exec = DatabaseSync.prototype.exec;
    DatabaseSync.prototype.exec = function (sql: string) {
      if (sql === 'COMMIT') {
        throw Object.assign(new Error('disk I/O error'), { errcode: 1034 });
      }
      exec.call(this, sql);
    };
    const lost = recordLike({ version: 2 });
    try {
      await expect(keystore.store(lost, { absent: true })).rejects.toMatchObject({ code: 'KEYSTORE_UNAVAILABLE' });
    } finally {
      DatabaseSync.prototype.exec = exec;
    }
    await expect(keystore.store(lost, { absent: true })).rejects.toThrow(/is read-only after an I\/O error/);
    expect((await keystore.health()).ok).toBe(false);
    expect(await keystore.retrieve(lost.kid)).toBeUndefined();
    expect((await keystore.retrieve(record.kid))?.version).toBe(1);
    await keystore.close();
  });

  it('keeps the sum of the leases of a record that seals no more', async () => {
    const keystore = await SqliteKeystore.open({ path });
    const [record, other] = [recordLike({}), recordLike({ version: 2 })];
    await keystore.store(record, { absent: true });
    await keystore.store(other, { absent: true });
    for (const { kid } of [record, other]) {
      for (const holder of ['a', 'b', 'c']) {
        await keystore.storeLease({ kid, holder, messages: 5n, bytes: 7n });
      }
    }
    await keystore.updateMetadata([{ record: { ...record, state: 'deactivated', seq: 2n }, expect: { seq: 1n } }]);
    const leases = await keystore.leases();
    const of = (kid: Uint8Array) => leases.filter((lease) => Buffer.compare(lease.kid, kid) === 0);
    expect(of(record.kid)).toMatchObject([{ holder: '', messages: 15n, bytes: 21n }]);
    expect(of(other.kid).length).toBe(3);
    await keystore.close();
  });

  it('hides no row beside one that holds nonsense', async () => {
    const keystore = await SqliteKeystore.open({ path });
    const record = recordLike({ version: 2 });
    await keystore.store(recordLike({}), { absent: true });
    await keystore.store(record, { absent: true });
    const db = new DatabaseSync(path);
    db.exec(
      "UPDATE record SET level = 99, size = -1, seq = -1, created = 9223372036854775807, key_context = '{', wrapped = x'' " +
        'WHERE version = 1',
    );
    db.close();
    const rows = await keystore.versions('customers', '', 'seal');
    expect(rows.map(({ version }) => version)).toEqual([1, 2]);
    expect((await keystore.list({}, undefined, 10)).records.length).toBe(2);
    await keystore.close();
  });

  function holders(bytes: Uint8Array): string[] {
    return [path, `${path}-wal`].filter((file) => readFileSync(file).includes(Buffer.from(bytes)));
  }
});

describe('two keyrings on one sqlite file', () => {
  let sandbox: Sandbox;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
  });

  afterEach(() => sandbox.cleanUp());

  const agent = async (stateFolder: string) =>
    sandbox.world({
      keystore: await SqliteKeystore.open({ path: sandbox.path('keys.db') }),
      stateFolder: sandbox.path(stateFolder),
    });

  it('set use aside in one row for each state folder, which restarts add to', async () => {
    for (let start = 1; start <= 3; start++) {
      const world = await agent('a');
      await world.keyring.prepareSealing('k', '', 'x', () => undefined);
      const leases = await world.keystore.leases();
      expect(leases.map(({ messages }) => messages)).toEqual([BigInt(start) * 2n ** 20n]);
      await world.keyring.close();
      await world.keystore.close();
    }
    const beside = await agent('b');
    await beside.keyring.prepareSealing('k', '', 'x', () => undefined);
    expect((await beside.keystore.leases()).length).toBe(2);
  });

  it('make one KEK and one first version when they create at once', async () => {
    const agents = await Promise.all([agent('a'), agent('b')]);
    const keys = await Promise.all(
      agents.flatMap(({ keyring }) =>
        Array.from({ length: 10 }, (_, i) => keyring.prepareSealing(`k${i % 5}`, '', 'x', () => undefined)),
      ),
    );
    expect(new Set(keys.map(({ kid }) => Buffer.from(kid).toString('hex'))).size).toBe(5);
    expect((await agents[0]!.keystore.list({}, undefined, 100)).records.length).toBe(6);
  });

  it('leave unique versions and one active when they rotate at once, and open what the other sealed', async () => {
    const agents = await Promise.all([agent('a'), agent('b')]);
    const request = { name: 'a', partition: '', purpose: 'seal' } as const;
    await agents[0]!.keyring.create(request);
    const tokens: Uint8Array[] = [];
    for (let round = 0; round < 10; round++) {
      const rotated = await Promise.all(agents.map(({ keyring }) => keyring.rotate(request)));
      expect(rotated.every(({ version }) => version > round)).toBe(true);
      tokens.push(...(await Promise.all(agents.map((each) => each.sealed('a', 'x')))));
      const rows = await agents[0]!.keystore.versions('a', '', 'seal');
      expect(rows.filter(({ state }) => state === 'active').length).toBe(1);
      expect(new Set(rows.map(({ version }) => version)).size).toBe(rows.length);
    }
    for (const token of tokens) {
      expect(await Promise.all(agents.map((each) => each.open(token)))).toEqual(['x', 'x']);
    }
  });
});
