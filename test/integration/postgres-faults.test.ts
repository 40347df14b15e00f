import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { PostgresSettings } from '../../src/config/config.ts';
import type { KeyRecord } from '../../src/keyring/record.ts';
import { PostgresKeystore } from '../../src/keystores/postgres.ts';
import { plain, recordLike } from '../contract/keystore.contract.ts';
import { describeOwnServer, freshSchema, PostgresServer } from '../support/postgres.ts';
import { PostgresProxy } from '../support/postgres-proxy.ts';

describeOwnServer('the keystore on PostgreSQL, through a connection that breaks', () => {
  let server: PostgresServer;
  let proxy: PostgresProxy;
  let settings: PostgresSettings;
  /** Straight to the server, to see what is there. */
  let witness: PostgresKeystore;
  let keystore: PostgresKeystore;

  beforeAll(async () => {
    server = await PostgresServer.start();
  }, 60_000);

  afterAll(() => server?.stop());

  beforeEach(async () => {
    proxy = await PostgresProxy.start(join(server.folder, `.s.PGSQL.${server.port}`));
    const schema = freshSchema();
    settings = {
      ...server.settings,
      schema,
      url: `postgres://postgres@127.0.0.1:${proxy.port}/postgres`,
      connections: 1,
      timeout: 2000,
    };
    witness = await PostgresKeystore.open({ ...server.settings, schema });
    keystore = await PostgresKeystore.open(settings);
  });

  afterEach(async () => {
    await proxy.stop();
    await keystore.close();
    await witness.close();
  });

  const first = recordLike({});
  const second = recordLike({ version: 2, state: 'pre-active' });
  const firstLater: KeyRecord = { ...first, state: 'deactivated', seq: 2n };
  const secondLater: KeyRecord = { ...second, state: 'active', seq: 2n };
  const tombstone: KeyRecord = { ...first, state: 'destroyed', wrapped: new Uint8Array(0), seq: 2n };
  const replaced: KeyRecord = { ...first, revision: 7, seq: 2n };
  const both = [first, second];
  const writes = [
    {
      name: 'an insert',
      before: [second],
      after: both,
      write: () => keystore.store(first, { absent: true }),
    },
    {
      name: 'a replacement',
      before: both,
      after: [replaced, second],
      write: () => keystore.store(replaced, { seq: 1n }),
    },
    {
      name: 'a change of two records',
      before: both,
      after: [firstLater, secondLater],
      write: () =>
        keystore.updateMetadata([
          { record: secondLater, expect: { seq: 1n } },
          { record: firstLater, expect: { seq: 1n } },
        ]),
    },
    {
      name: 'a destroy',
      before: both,
      after: [tombstone, second],
      write: () => keystore.delete(tombstone, { seq: 1n }),
    },
  ];

  for (const { name, before, after, write } of writes) {
    for (const thenRefuse of [false, true]) {
      const rest = thenRefuse ? 'and no other can be made' : 'and another can be made';
      it(`does all or nothing of ${name} when the connection is cut at any request, ${rest}`, async () => {
        let done = false;
        for (let n = 1; !done; n++) {
          for (const when of ['before', 'after'] as const) {
            for (const record of [first, second]) {
              await server.sql(`DELETE FROM "${settings.schema}".record WHERE kid = $1`, [Buffer.from(record.kid)]);
            }
            for (const record of before) {
              await witness.store(record, { absent: true });
            }
            proxy.heal();
            await keystore.leases();
            proxy.cutAt(n, when, { thenRefuse });
            const outcome = await write().then(
              () => undefined,
              (error: unknown) => error,
            );
            done = !proxy.hasCut;
            const found = (await witness.versions('customers', '', 'seal')).map(plain);
            if (outcome === undefined) {
              expect(found).toEqual(after.map(plain));
              // Where nothing could be done again, it was written because nothing was cut, or the answer did not matter.
              expect(thenRefuse && !done).toBe(false);
            } else {
              expect(outcome).toMatchObject({ code: 'KEYSTORE_UNAVAILABLE' });
              expect([before.map(plain), after.map(plain)]).toContainEqual(found);
            }
          }
        }
        proxy.heal();
        await keystore.leases();
      });
    }
  }

  it('says that it is not known whether something was written only when the commit itself is cut', async () => {
    const said: string[] = [];
    for (let n = 1; n <= 3; n++) {
      proxy.heal();
      await keystore.leases();
      proxy.cutAt(n, 'after', { thenRefuse: true });
      const error = (await keystore
        .store(recordLike({ version: n }), { absent: true })
        .catch((e: unknown) => e)) as Error;
      said.push(/not known/.test(error.message) ? 'not known' : 'not written');
    }
    expect(said).toEqual(['not written', 'not written', 'not known']);
    expect((await witness.versions('customers', '', 'seal')).map((record) => record.version)).toEqual([3]);
  });

  it('ends an operation at its deadline when the connection is half open, and then makes another', async () => {
    proxy.freeze();
    const begun = performance.now();
    await expect(keystore.retrieve(first.kid)).rejects.toMatchObject({
      code: 'KEYSTORE_UNAVAILABLE',
      message: expect.stringContaining('did not answer in 2000 ms'),
    });
    expect(performance.now() - begun).toBeLessThan(2500);
    proxy.heal();
    expect(await keystore.retrieve(first.kid)).toBeUndefined();
  });

  it('ends an operation at its deadline when a server takes the connection and says nothing', async () => {
    proxy.heal();
    proxy.freeze();
    const begun = performance.now();
    await expect(PostgresKeystore.open({ ...settings, timeout: 300 })).rejects.toMatchObject({
      code: 'KEYSTORE_UNAVAILABLE',
      message: expect.stringContaining('did not answer in 300 ms'),
    });
    expect(performance.now() - begun).toBeLessThan(1500);
    await expect.poll(() => proxy.connections, { timeout: 3000 }).toBeLessThanOrEqual(1);
  });

  it('closes in half a second over a half-open connection', async () => {
    proxy.freeze();
    const begun = performance.now();
    await keystore.close();
    expect(performance.now() - begun).toBeLessThan(1000);
  });

  it('counts waiting for a connection towards the deadline', async () => {
    proxy.freeze();
    const stuck = keystore.retrieve(first.kid).catch(() => undefined);
    await sleep(500);
    const begun = performance.now();
    const queued = Array.from({ length: 5 }, () => keystore.retrieve(first.kid));
    const results = await Promise.allSettled(queued);
    expect(performance.now() - begun).toBeLessThan(2500);
    expect(results.every(({ status }) => status === 'rejected')).toBe(true);
    await stuck;
    proxy.heal();
    await keystore.retrieve(first.kid);
    expect(proxy.connections).toBe(1);
  });

  it('makes at most as many connections as configured, and uses them again', async () => {
    const wide = await PostgresKeystore.open({ ...settings, connections: 3 });
    const before = proxy.connections;
    await Promise.all(
      Array.from({ length: 60 }, (_, index) => wide.store(recordLike({ version: index + 1 }), { absent: true })),
    );
    expect(proxy.connections - before).toBeLessThanOrEqual(3);
    await wide.close();
    await expect.poll(() => proxy.connections).toBeLessThanOrEqual(before);
  });
});

describeOwnServer('the keystore on a PostgreSQL server in trouble', () => {
  let server: PostgresServer;
  let keystore: PostgresKeystore;
  let schema: string;

  beforeAll(async () => {
    // A day of these would go by before the log is written, unless a session asks for it.
    server = await PostgresServer.start({ synchronous_commit: 'off', wal_writer_delay: '10s' });
  }, 60_000);

  afterAll(() => server?.stop());

  beforeEach(async () => {
    schema = freshSchema();
    keystore = await PostgresKeystore.open({ ...server.settings, schema, timeout: 2000 });
  });

  afterEach(() => keystore.close());

  it('has what it confirmed after a SIGKILL of all processes, though synchronous_commit is off', async () => {
    const records = Array.from({ length: 20 }, (_, index) => recordLike({ version: index + 1 }));
    for (const record of records) {
      await keystore.store(record, { absent: true });
    }
    await server.kill();
    await server.restart();
    expect((await keystore.versions('customers', '', 'seal')).map(plain)).toEqual(records.map(plain));
  });

  it('does not end with an idle connection, says so while the server is down, and works within a second of its return', async () => {
    await Promise.all([1, 2, 3, 4].map(() => keystore.leases()));
    await server.kill();
    await sleep(50);
    await expect(keystore.leases()).rejects.toMatchObject({
      code: 'KEYSTORE_UNAVAILABLE',
      message: expect.stringMatching(/cannot be reached: (nothing listens|no socket)/),
    });
    expect((await keystore.health()).ok).toBe(false);
    await server.restart();
    const begun = performance.now();
    await keystore.store(recordLike({}), { absent: true });
    expect(performance.now() - begun).toBeLessThan(1000);
    const [row] = await server.sql<{ n: string }>(
      `SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'dekd'`,
    );
    expect(Number(row!.n)).toBe(1);
  });

  it('does a write again whose connection an administrator ended before it', async () => {
    await keystore.store(recordLike({}), { absent: true });
    await server.sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dekd'`);
    await keystore.store(recordLike({ version: 2 }), { absent: true });
    expect((await keystore.versions('customers', '', 'seal')).length).toBe(2);
  });

  it('gives up on a row that somebody holds, and has written nothing', async () => {
    const record = recordLike({});
    await keystore.store(record, { absent: true });
    const admin = await server.admin();
    await admin.query('BEGIN');
    await admin.query(`SELECT 1 FROM "${schema}".record FOR UPDATE`);
    await expect(
      keystore.updateMetadata([{ record: { ...record, state: 'suspended', seq: 2n }, expect: { seq: 1n } }]),
    ).rejects.toMatchObject({
      code: 'KEYSTORE_UNAVAILABLE',
      message: expect.stringContaining('did not finish in time'),
    });
    await admin.query('COMMIT');
    await admin.end();
    expect((await keystore.retrieve(record.kid))?.state).toBe('active');
  });

  it('does not confirm what no synchronous standby has, whoever ends the wait', async () => {
    await server.sql(`ALTER SYSTEM SET synchronous_standby_names = 'nobody'`);
    await server.sql('SELECT pg_reload_conf()');
    try {
      await expect
        .poll(async () => (await server.sql<{ n: string }>('SHOW synchronous_standby_names'))[0])
        .toEqual({ synchronous_standby_names: 'nobody' });
      await expect(keystore.store(recordLike({}), { absent: true })).rejects.toMatchObject({
        code: 'KEYSTORE_UNAVAILABLE',
        message: expect.stringContaining('what was written is not known: read again'),
      });
      // Cancelled by an administrator, the server reports success, with a warning.
      const cancelled = keystore.store(recordLike({ version: 2 }), { absent: true }).catch((error: unknown) => error);
      await expect
        .poll(() =>
          server.sql(`SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'dekd'`),
        )
        .not.toEqual([]);
      await server.sql(`SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`);
      expect(await cancelled).toMatchObject({
        code: 'KEYSTORE_UNAVAILABLE',
        message: expect.stringContaining('no synchronous standby has confirmed it'),
      });
    } finally {
      await server.sql('ALTER SYSTEM RESET synchronous_standby_names');
      await server.sql('SELECT pg_reload_conf()');
    }
    // They are there all the same: read again, as the messages say.
    expect((await keystore.versions('customers', '', 'seal')).length).toBe(2);
  });

  it('never deadlocks with another that changes the same records in another order', async () => {
    const records = Array.from({ length: 8 }, (_, index) => recordLike({ version: index + 1 }));
    for (const record of records) {
      await keystore.store(record, { absent: true });
    }
    const other = await PostgresKeystore.open({ ...server.settings, schema });
    const changes = records.map((record) => ({ record: { ...record, seq: 1n }, expect: { seq: 1n } }));
    const results = await Promise.allSettled(
      Array.from({ length: 60 }, (_, index) =>
        index % 2 === 0 ? keystore.updateMetadata(changes) : other.updateMetadata(changes.toReversed()),
      ),
    );
    await other.close();
    expect(results.filter(({ status }) => status === 'rejected')).toEqual([]);
    const [row] = await server.sql<{ deadlocks: string }>(
      `SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'`,
    );
    expect(row!.deadlocks).toBe('0');
  });

  it('does a write again that a deadlock with somebody else undid', async () => {
    const record = recordLike({});
    await keystore.store(record, { absent: true });
    const admin = await server.admin();
    // Fails like the loser of a deadlock, once.
    await admin.query(`
      CREATE SEQUENCE "${schema}".once;
      CREATE FUNCTION "${schema}".lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF nextval('"${schema}".once') = 1 THEN RAISE EXCEPTION 'x' USING ERRCODE = '40P01'; END IF; RETURN NEW; END $$;
      CREATE TRIGGER lose BEFORE UPDATE ON "${schema}".record FOR EACH ROW EXECUTE FUNCTION "${schema}".lose();`);
    await admin.end();
    await keystore.updateMetadata([{ record: { ...record, state: 'suspended', seq: 2n }, expect: { seq: 1n } }]);
    expect((await keystore.retrieve(record.kid))?.state).toBe('suspended');
  });

  describe('with a connection of its own for each failure', () => {
    const refusals = [
      {
        name: 'a database that is not there',
        url: (s: PostgresServer) => at(s, 'postgres', 'nowhere'),
        says: 'has no such database',
      },
      {
        name: 'a role without connections left',
        url: (s: PostgresServer) => at(s, 'crowded', 'postgres'),
        says: 'too many connections',
      },
      {
        name: 'a role that is not there',
        url: (s: PostgresServer) => at(s, 'nobody', 'postgres'),
        says: 'refused the login',
      },
    ];
    for (const { name, url, says } of refusals) {
      it(`names ${name}`, async () => {
        await server.sql('DROP ROLE IF EXISTS crowded; CREATE ROLE crowded LOGIN CONNECTION LIMIT 0');
        await expect(PostgresKeystore.open({ ...server.settings, url: url(server) })).rejects.toMatchObject({
          code: 'KEYSTORE_UNAVAILABLE',
          message: expect.stringContaining(says),
        });
      });
    }
  });
});

function at(server: PostgresServer, user: string, database: string): string {
  return `postgres://${user}@localhost:${server.port}/${database}?host=${server.folder}`;
}
