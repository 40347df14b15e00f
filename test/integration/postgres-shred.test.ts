import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import type { KeyRecord } from '../../src/keyring/record.ts';
import { PostgresKeystore } from '../../src/keystores/postgres.ts';
import { recordLike } from '../contract/keystore.contract.ts';
import { describeOwnServer, freshSchema, PostgresServer, settingsWith } from '../support/postgres.ts';

describeOwnServer('a destroyed key on PostgreSQL', () => {
  let server: PostgresServer;
  let schema: string;
  let keystore: PostgresKeystore;

  beforeAll(async () => {
    server = await PostgresServer.start();
  }, 60_000);

  afterAll(() => server?.stop());

  beforeEach(async () => {
    schema = freshSchema();
    keystore = await PostgresKeystore.open({ ...server.settings, schema });
  });

  afterEach(() => keystore.close());

  /** Stores keys, destroys the first and says which wrapped bytes that one had. */
  async function destroyOne(others = 20): Promise<Uint8Array> {
    const record = recordLike({ wrapped: new Uint8Array(randomBytes(73)) });
    await keystore.store(record, { absent: true });
    for (let version = 2; version <= others + 1; version++) {
      await keystore.store(recordLike({ version }), { absent: true });
    }
    await server.sql('CHECKPOINT');
    expect(filesWith(server, record.wrapped)).not.toEqual([]);
    await keystore.delete(tombstoneOf(record), { seq: 1n });
    return record.wrapped;
  }

  it('has its wrapped bytes in no file but the log, a moment after', async () => {
    const shredded = await destroyOne();
    await scrubbed(server, schema);
    await server.sql('CHECKPOINT');
    expect(filesWith(server, shredded)).toEqual([]);
    expect((await keystore.list({}, undefined, 100)).records.length).toBe(21);
    expect((await keystore.health()).detail).not.toContain('destroyed');
  });

  it('has them in no file either when the keystore is closed at once', async () => {
    const shredded = await destroyOne();
    await keystore.close();
    await server.sql('CHECKPOINT');
    expect(filesWith(server, shredded)).toEqual([]);
  });

  it('keeps them in freed room after a plain VACUUM, so that one is no proof', async () => {
    const records = Array.from({ length: 10 }, (_, index) => recordLike({ version: index + 1 }));
    for (const record of records) {
      await keystore.store(record, { absent: true });
    }
    await server.sql(`DELETE FROM "${schema}".record WHERE version > 5`);
    await server.sql(`VACUUM "${schema}".record`);
    await server.sql('CHECKPOINT');
    expect(filesWith(server, records.at(-1)!.wrapped)).not.toEqual([]);
  });

  it.each([
    ['can see it', 'pg_class'],
    ['has the table open', 'record'],
  ])('is owed while an old transaction %s, and gone after that', async (_why, table) => {
    const reader = await server.admin();
    await reader.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
    await reader.query(`SELECT 1 FROM ${table === 'record' ? `"${schema}".record` : table} LIMIT 1`);
    const shredded = await destroyOne();
    await expect.poll(async () => (await keystore.health()).detail, { timeout: 5000 }).toContain('an old transaction');
    expect(await owed(server, schema)).toBe(1);
    await server.sql('CHECKPOINT');
    expect(filesWith(server, shredded)).not.toEqual([]);
    await reader.query('COMMIT');
    await reader.end();
    await scrubbed(server, schema);
    await server.sql('CHECKPOINT');
    expect(filesWith(server, shredded)).toEqual([]);
  });

  it.each([
    ['when the one that destroyed it died', 1],
    ['when the database came from a dump of another server', 4_000_000_000],
  ])('is taken off the files by the next agent %s', async (_when, ahead) => {
    const shredded = await destroyOne();
    await scrubbed(server, schema);
    // As an agent leaves it that dies between the commit and the rewrite.
    await server.sql(`UPDATE "${schema}".store SET shredded = shredded + 1, shredded_before = '${ahead}'`);
    const next = await PostgresKeystore.open({ ...server.settings, schema });
    await scrubbed(server, schema);
    await next.close();
    expect(filesWith(server, shredded)).toEqual([]);
  });

  it('shares one rewrite with others that are destroyed at the same time', async () => {
    const records = Array.from({ length: 30 }, (_, index) => recordLike({ version: index + 1 }));
    for (const record of records) {
      await keystore.store(record, { absent: true });
    }
    const before = await relationFile(server, schema);
    for (const record of records) {
      await keystore.delete(tombstoneOf(record), { seq: 1n });
    }
    await scrubbed(server, schema);
    expect(Number(await relationFile(server, schema)) - Number(before)).toBeLessThan(40);
    await server.sql('CHECKPOINT');
    expect(records.flatMap(({ wrapped }) => filesWith(server, wrapped))).toEqual([]);
  });

  it('is said to be owed where the role may not ask for the rewrite', async () => {
    await server.sql(`DROP ROLE IF EXISTS plain; CREATE ROLE plain LOGIN`);
    await server.sql(
      `GRANT USAGE ON SCHEMA "${schema}" TO plain; GRANT SELECT ON "${schema}".store TO plain;
       GRANT UPDATE (shredded, shredded_before) ON "${schema}".store TO plain;
       GRANT SELECT, INSERT, UPDATE ON "${schema}".record TO plain;
       GRANT SELECT, INSERT, UPDATE, DELETE ON "${schema}".lease TO plain`,
    );
    const url = `postgres://plain@localhost:${server.port}/postgres?host=${server.folder}`;
    const plain = await PostgresKeystore.open(settingsWith({ url, schema, migrate: false }));
    const record = recordLike({});
    await plain.store(record, { absent: true });
    await plain.delete(tombstoneOf(record), { seq: 1n });
    await expect
      .poll(async () => (await plain.health()).detail)
      .toContain('1 destroyed keys are still in dead rows (the role lacks EXECUTE on the function scrub())');
    await server.sql(`GRANT EXECUTE ON FUNCTION "${schema}".scrub() TO plain`);
    await plain.close();
    expect(await owed(server, schema)).toBe(0);
  });
});

function tombstoneOf(record: KeyRecord): KeyRecord {
  return { ...record, state: 'destroyed', wrapped: new Uint8Array(0), seq: 2n };
}

async function owed(server: PostgresServer, schema: string): Promise<number> {
  const [row] = await server.sql<{ owed: string }>(`SELECT shredded - scrubbed AS owed FROM "${schema}".store`);
  return Number(row!.owed);
}

async function scrubbed(server: PostgresServer, schema: string): Promise<void> {
  for (let attempt = 0; (await owed(server, schema)) > 0; attempt++) {
    expect(attempt).toBeLessThan(100);
    await sleep(100);
  }
}

/** A rewrite gives the table another file; the numbers count up. */
async function relationFile(server: PostgresServer, schema: string): Promise<string> {
  const [row] = await server.sql<{ file: string }>(`SELECT pg_relation_filenode('"${schema}".record') AS file`);
  return row!.file;
}

/** Files of the cluster with these bytes; its write-ahead log is left out, which keeps what was written for a while. */
function filesWith(server: PostgresServer, bytes: Uint8Array): string[] {
  return readdirSync(server.data, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.parentPath.includes('pg_wal'))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => contentOf(path).includes(Buffer.from(bytes)));
}

/** The server may have removed it since it was listed. */
function contentOf(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      return Buffer.alloc(0);
    }
    throw error;
  }
}
