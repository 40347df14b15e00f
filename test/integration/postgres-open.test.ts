import { execFileSync } from 'node:child_process';
import { chownSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { PostgresSettings } from '../../src/config/config.ts';
import { PostgresKeystore } from '../../src/keystores/postgres.ts';
import { plain, recordLike } from '../contract/keystore.contract.ts';
import { describeOwnServer, freshSchema, PostgresServer, settingsWith } from '../support/postgres.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

describeOwnServer('PostgresKeystore.open', () => {
  let server: PostgresServer;
  let schema: string;
  let settings: PostgresSettings;

  beforeAll(async () => {
    server = await PostgresServer.start();
  }, 60_000);

  afterAll(() => server?.stop());

  beforeEach(() => {
    schema = freshSchema();
    settings = { ...server.settings, schema };
  });

  describe('and the tables', () => {
    it('makes them once when eight agents start together', async () => {
      const keystores = await Promise.all(Array.from({ length: 8 }, () => PostgresKeystore.open(settings)));
      expect(new Set(keystores.map(({ identity }) => identity)).size).toBe(1);
      await Promise.all(
        keystores.map((keystore, index) => keystore.store(recordLike({ version: index + 1 }), { absent: true })),
      );
      expect((await keystores[0]!.versions('customers', '', 'seal')).length).toBe(8);
      await Promise.all(keystores.map((keystore) => keystore.close()));
    });

    it('finds them again, rows and identity', async () => {
      const record = recordLike({ seq: 2n ** 64n - 1n });
      const first = await PostgresKeystore.open(settings);
      await first.store(record, { absent: true });
      await first.close();
      const second = await PostgresKeystore.open({ ...settings, migrate: false });
      expect(second.identity).toBe(first.identity);
      expect(plain(await second.retrieve(record.kid))).toEqual(plain(record));
      await second.close();
    });

    it('makes nothing without migrate, and says what to do', async () => {
      await expect(PostgresKeystore.open({ ...settings, migrate: false })).rejects.toMatchObject({
        code: 'UNSUPPORTED_VERSION',
        message: expect.stringContaining('start it once with keystore.postgres.migrate: true'),
      });
      expect(await server.sql('SELECT 1 FROM pg_namespace WHERE nspname = $1', [schema])).toEqual([]);
    });

    it('refuses newer ones, with the command, and leaves them alone', async () => {
      await (await PostgresKeystore.open(settings)).close();
      await server.sql(`UPDATE "${schema}".store SET version = 99`);
      await expect(PostgresKeystore.open(settings)).rejects.toMatchObject({
        code: 'UNSUPPORTED_VERSION',
        message: expect.stringMatching(/version 99.*upgrade dekd, or run dekd keys export/),
      });
    });

    it('refuses newer ones on a later connection too', async () => {
      const keystore = await PostgresKeystore.open(settings);
      await server.sql(`UPDATE "${schema}".store SET version = 99`);
      await server.sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dekd'`);
      await expect(keystore.leases()).rejects.toMatchObject({ code: 'UNSUPPORTED_VERSION' });
      await keystore.close();
    });

    it.each([
      ['record', 'CREATE TABLE "SCHEMA".record (vinyl text)'],
      ['store', 'CREATE TABLE "SCHEMA".store (shelf text)'],
    ])('leaves alone a schema in which another program has a table %s', async (_table, sql) => {
      await server.sql(`CREATE SCHEMA "${schema}"`);
      await server.sql(sql.replace('SCHEMA', schema));
      await expect(PostgresKeystore.open(settings)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining('another program'),
      });
      const tables = await server.sql('SELECT 1 FROM pg_tables WHERE schemaname = $1', [schema]);
      expect(tables.length).toBe(1);
    });

    it('works for a role without any right to change the schema', async () => {
      const owner = await PostgresKeystore.open(settings);
      await server.sql(
        'DROP ROLE IF EXISTS runner; CREATE ROLE runner LOGIN; REVOKE CREATE ON DATABASE postgres FROM PUBLIC',
      );
      await server.sql(grants(schema, 'runner'));
      const runner = await PostgresKeystore.open({ ...settings, url: urlFor(server, 'runner'), migrate: false });
      const record = recordLike({});
      await runner.store(record, { absent: true });
      await runner.storeLease({ kid: record.kid, holder: 'a', messages: 2n ** 63n, bytes: 2n });
      await runner.storeLease({ kid: record.kid, holder: 'b', messages: 2n ** 63n, bytes: 3n });
      await runner.updateMetadata([{ record: { ...record, state: 'deactivated', seq: 2n }, expect: { seq: 1n } }]);
      // More than 64 bits hold is told as the most that they hold.
      expect(await runner.leases()).toEqual([{ kid: record.kid, holder: '', messages: 2n ** 64n - 1n, bytes: 5n }]);
      await runner.delete({ ...record, state: 'destroyed', wrapped: new Uint8Array(0), seq: 3n }, { seq: 2n });
      await runner.close();
      expect((await owner.health()).detail).not.toContain('destroyed');
      await owner.close();
    });

    it('says what a role lacks', async () => {
      await (await PostgresKeystore.open(settings)).close();
      await server.sql('DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN');
      const url = urlFor(server, 'stranger');
      for (const migrate of [true, false]) {
        await expect(PostgresKeystore.open({ ...settings, url, migrate })).rejects.toMatchObject({
          code: 'KEYSTORE_UNAVAILABLE',
          message: expect.stringContaining('does not let the role do this'),
        });
      }
      await expect(PostgresKeystore.open({ ...settings, url, schema: freshSchema() })).rejects.toMatchObject({
        code: 'KEYSTORE_UNAVAILABLE',
        message: expect.stringContaining('may not make or change the tables'),
      });
    });

    it('is not led astray by objects of the same name in front of them', async () => {
      await server.sql(`
        CREATE OR REPLACE FUNCTION public.hashtext(text) RETURNS integer LANGUAGE sql AS 'SELECT 1/0';
        ALTER ROLE postgres SET search_path = public, pg_catalog`);
      try {
        const keystore = await PostgresKeystore.open(settings);
        await keystore.store(recordLike({}), { absent: true });
        await keystore.close();
      } finally {
        await server.sql('ALTER ROLE postgres RESET search_path; DROP FUNCTION public.hashtext(text)');
      }
    });

    it('keeps any Unicode text but NUL, and orders and tells names apart by their bytes', async () => {
      const keystore = await PostgresKeystore.open(settings);
      const names = ['ａ', 'é', 'e\u0301', 'Z', 'a', '\u{10ffff}', "'; DROP TABLE record; --", '\u0001'];
      for (const partition of names) {
        await keystore.store(recordLike({ partition }), { absent: true });
      }
      for (const partition of names) {
        expect((await keystore.versions('customers', partition, 'seal')).map((record) => record.partition)).toEqual([
          partition,
        ]);
      }
      for (const partition of ['\0', '\ud800']) {
        await expect(keystore.store(recordLike({ partition }), { absent: true })).rejects.toMatchObject({
          code: 'INVALID_ARGUMENT',
        });
      }
      await keystore.close();
    });
  });

  describe('and the server', () => {
    it('refuses a replica, and takes it once it is promoted', async () => {
      const owner = await PostgresKeystore.open(settings);
      await owner.store(recordLike({}), { absent: true });
      const replica = await server.startReplica();
      try {
        await expect(PostgresKeystore.open({ ...replica.settings, schema })).rejects.toMatchObject({
          code: 'KEYSTORE_UNAVAILABLE',
          message: expect.stringContaining('is a replica: name the primary'),
        });
        await expect.poll(async () => (await replica.sql(`SELECT 1 FROM "${schema}".record`)).length).toBe(1);
        await replica.sql('SELECT pg_promote()');
        const promoted = await PostgresKeystore.open({ ...replica.settings, schema }, { identity: owner.identity });
        expect((await promoted.versions('customers', '', 'seal')).length).toBe(1);
        await promoted.close();
      } finally {
        await replica.stop();
        await owner.close();
      }
    }, 30_000);

    it('refuses a role that is read-only, at start and later', async () => {
      await server.sql('CREATE ROLE reader LOGIN SUPERUSER');
      const url = urlFor(server, 'reader');
      const keystore = await PostgresKeystore.open({ ...settings, url, timeout: 500 });
      await server.sql('ALTER ROLE reader SET default_transaction_read_only = on');
      await expect(PostgresKeystore.open({ ...settings, url })).rejects.toMatchObject({
        code: 'KEYSTORE_UNAVAILABLE',
        message: expect.stringContaining('is read-only'),
      });
      // The session that there is was writable when it began; this is how one looks whose server changed under it.
      await server.sql(
        `CREATE FUNCTION "${schema}".sorry() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '25006'; END $$;
         CREATE TRIGGER sorry BEFORE INSERT ON "${schema}".record EXECUTE FUNCTION "${schema}".sorry()`,
      );
      await expect(keystore.store(recordLike({}), { absent: true })).rejects.toMatchObject({
        code: 'KEYSTORE_UNAVAILABLE',
        message: expect.stringContaining('set default_transaction_read_only to off'),
      });
      await keystore.close();
    });

    it('never says "no such key" of a server that came back empty or with another keystore', async () => {
      const record = recordLike({});
      const keystore = await PostgresKeystore.open(settings);
      await keystore.store(record, { absent: true });
      const { identity } = keystore;
      await server.sql(`ALTER SCHEMA "${schema}" RENAME TO "${schema}_gone"`);
      await endSessions(server);
      await expect(keystore.retrieve(record.kid)).rejects.toMatchObject({
        code: 'KEYSTORE_UNAVAILABLE',
        message: expect.stringContaining('is empty and not the one that was opened'),
      });
      await expect(PostgresKeystore.open(settings, { identity })).rejects.toMatchObject({
        code: 'KEYSTORE_UNAVAILABLE',
      });
      expect(await server.sql('SELECT 1 FROM pg_namespace WHERE nspname = $1', [schema])).toEqual([]);
      const other = await PostgresKeystore.open(settings);
      await endSessions(server);
      await expect(keystore.retrieve(record.kid)).rejects.toMatchObject({
        code: 'KEYSTORE_UNAVAILABLE',
        message: expect.stringContaining('is another keystore and not the one'),
      });
      expect((await keystore.health()).ok).toBe(false);
      await other.close();
      await server.sql(`DROP SCHEMA "${schema}" CASCADE; ALTER SCHEMA "${schema}_gone" RENAME TO "${schema}"`);
      expect(plain(await keystore.retrieve(record.kid))).toEqual(plain(record));
      await keystore.close();
    });

    it('warns in its health of a server that may forget', async () => {
      const careless = await PostgresServer.start({ fsync: 'off', full_page_writes: 'off' });
      const keystore = await PostgresKeystore.open(careless.settings);
      const { ok, detail } = await keystore.health();
      await keystore.close();
      await careless.stop();
      expect(ok).toBe(true);
      expect(detail).toContain('fsync is off on the server');
      expect(detail).toContain('full_page_writes is off on the server');
    });

    it('refuses a database that cannot hold Unicode', async () => {
      await server.sql(`CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0`);
      const url = urlFor(server, 'postgres', 'latin');
      await expect(PostgresKeystore.open({ ...settings, url })).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        message: expect.stringContaining("make the database with ENCODING 'UTF8'"),
      });
    });
  });

  describe('and the login', () => {
    beforeAll(async () => {
      await server?.sql(`CREATE ROLE guarded LOGIN PASSWORD 'first'; GRANT CREATE ON DATABASE postgres TO guarded`);
    });

    it('reads the password again for each connection, so that a rotated one works', async () => {
      const passwordFile = join(temporaryFolder(), 'password');
      writeFileSync(passwordFile, 'first\n');
      const keystore = await PostgresKeystore.open(overTcp(server, schema, { passwordFile }));
      await server.sql(`ALTER ROLE guarded PASSWORD 'second'`);
      writeFileSync(passwordFile, 'second');
      await endSessions(server);
      await keystore.store(recordLike({}), { absent: true });
      await keystore.close();
      await server.sql(`ALTER ROLE guarded PASSWORD 'first'`);
    });

    it('tells a wrong, an empty and a missing password apart, and shows none', async () => {
      const passwordFile = join(temporaryFolder(), 'password');
      const open = () => PostgresKeystore.open(overTcp(server, schema, { passwordFile, timeout: 1000 }));
      await expect(open()).rejects.toThrow(/passwordFile .* cannot be read \(ENOENT\)/);
      writeFileSync(passwordFile, '\n');
      await expect(open()).rejects.toThrow(/passwordFile .* is empty/);
      writeFileSync(passwordFile, 'hunter2');
      const error = await open().catch((reason: unknown) => reason);
      expect(error).toMatchObject({
        code: 'KEYSTORE_UNAVAILABLE',
        message: expect.stringContaining('refused the login'),
      });
      expect(String(error)).not.toContain('hunter2');
      // And none of the attempts left a connection behind.
      expect(await server.sql(`SELECT 1 FROM pg_stat_activity WHERE usename = 'guarded'`)).toEqual([]);
    });

    it('says that there has to be a password where none is configured', async () => {
      await expect(PostgresKeystore.open(overTcp(server, schema, {}))).rejects.toMatchObject({
        code: 'KEYSTORE_UNAVAILABLE',
        message: expect.stringMatching(/check passwordFile|refused the login/),
      });
    });

    it('verifies certificate and name, and gives no password to a server that it does not know', async () => {
      const folder = temporaryFolder();
      const passwordFile = join(folder, 'password');
      writeFileSync(passwordFile, 'first');
      const caFile = join(folder, 'ca.pem');
      await expect(
        PostgresKeystore.open(overTcp(server, schema, { passwordFile, tls: 'verify-full' })),
      ).rejects.toThrow(/it has no TLS/);

      await useCertificate(server, folder, 'IP:127.0.0.1');
      writeFileSync(caFile, readFileSync(join(folder, 'cert.pem')));
      const secure = overTcp(server, schema, { passwordFile, caFile, tls: 'verify-full' });
      const keystore = await PostgresKeystore.open(secure);
      const [row] = await server.sql<{ version: string }>(
        `SELECT s.version FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.usename = 'guarded' AND s.ssl`,
      );
      expect(row?.version).toBe('TLSv1.3');
      await keystore.close();
      await expectDeadline(server, secure);
      await expect(PostgresKeystore.open({ ...secure, caFile: undefined })).rejects.toThrow(
        /name its authority in caFile/,
      );

      await useCertificate(server, folder, 'DNS:other.example');
      writeFileSync(caFile, readFileSync(join(folder, 'cert.pem')));
      await expect(PostgresKeystore.open(secure)).rejects.toThrow(/certificate is for another name/);
      await expect(PostgresKeystore.open({ ...secure, caFile: join(folder, 'nowhere') })).rejects.toThrow(
        /caFile .* cannot be read/,
      );
    });
  });
});

/** A server process that is stopped keeps its connection, and TLS in between changes nothing about the deadline. */
async function expectDeadline(server: PostgresServer, settings: PostgresSettings): Promise<void> {
  const keystore = await PostgresKeystore.open({ ...settings, timeout: 400 });
  const [row] = await server.sql<{ pid: number }>(`SELECT pid FROM pg_stat_activity WHERE usename = 'guarded'`);
  process.kill(row!.pid, 'SIGSTOP');
  const begun = performance.now();
  await expect(keystore.leases()).rejects.toThrow(/did not answer in 400 ms/);
  expect(performance.now() - begun).toBeLessThan(800);
  process.kill(row!.pid, 'SIGCONT');
  expect(await keystore.leases()).toEqual([]);
  await keystore.close();
}

/** What docs/keys.md tells an operator to grant. */
function grants(schema: string, role: string): string {
  return `
    GRANT USAGE ON SCHEMA ${schema} TO ${role};
    GRANT SELECT, INSERT, UPDATE ON ${schema}.record TO ${role};
    GRANT SELECT, INSERT, UPDATE, DELETE ON ${schema}.lease TO ${role};
    GRANT SELECT, UPDATE (shredded, shredded_before) ON ${schema}.store TO ${role};
    GRANT EXECUTE ON FUNCTION ${schema}.scrub() TO ${role};`;
}

function urlFor(server: PostgresServer, user: string, database = 'postgres'): string {
  return `postgres://${user}@localhost:${server.port}/${database}?host=${server.folder}`;
}

function overTcp(server: PostgresServer, schema: string, changes: Partial<PostgresSettings>): PostgresSettings {
  return settingsWith({ url: `postgres://guarded@127.0.0.1:${server.port}/postgres`, schema, ...changes });
}

async function endSessions(server: PostgresServer): Promise<void> {
  await server.sql(`SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE application_name = 'dekd'`);
}

/** Gives the server a certificate that signs itself, for one subject alternative name. */
async function useCertificate(server: PostgresServer, folder: string, name: string): Promise<void> {
  const [key, certificate] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-days',
      '2',
      '-subj',
      '/CN=db',
    ].concat(['-addext', `subjectAltName=${name}`, '-keyout', key, '-out', certificate]),
    { stdio: 'ignore' },
  );
  const { uid, gid } = statSync(server.data);
  for (const [from, to] of [
    [key, 'server.key'],
    [certificate, 'server.crt'],
  ] as const) {
    const path = join(server.data, to);
    writeFileSync(path, readFileSync(from), { mode: 0o600 });
    chownSync(path, uid, gid);
  }
  await server.sql('ALTER SYSTEM SET ssl = on');
  await server.sql('SELECT pg_reload_conf()');
  await expect.poll(async () => (await server.sql<{ ssl: string }>('SHOW ssl'))[0]?.ssl).toBe('on');
  // The postmaster has reloaded before it forks the process that says so, but loads the files only now and then.
  await new Promise((resolve) => setTimeout(resolve, 200));
}
