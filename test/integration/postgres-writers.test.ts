import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { DekdError } from '../../src/errors.ts';
import type { KeyRecord } from '../../src/keyring/record.ts';
import { PostgresKeystore } from '../../src/keystores/postgres.ts';
import { recordLike } from '../contract/keystore.contract.ts';
import { type DatabaseAccess, describeDatabase, dropSchema, freshSchema, startDatabase } from '../support/postgres.ts';

const WRITERS = 8;
const DURATION_MS = 4000;

describeDatabase('eight keystores over the same rows of PostgreSQL', () => {
  let database: DatabaseAccess;

  beforeAll(async () => {
    database = await startDatabase();
  }, 60_000);

  afterAll(() => database?.stop());

  it('create and rotate one key while connections are killed: unique versions, one active, nothing confirmed is lost', async () => {
    const settings = { ...database.settings, schema: freshSchema(), connections: 2 };
    const keystores = await Promise.all(Array.from({ length: WRITERS }, () => PostgresKeystore.open(settings)));
    await keystores[0]!.store(recordLike({ version: 1 }), { absent: true });
    const until = performance.now() + DURATION_MS;
    /** Kids of versions whose write was confirmed, and of those that were confirmed to be active once. */
    const created = new Set<string>();
    const activated = new Set<string>();
    const seen = new Set<string>();

    async function write(keystore: PostgresKeystore): Promise<void> {
      while (performance.now() < until) {
        try {
          await rotate(keystore);
        } catch (error) {
          expect(DekdError.is(error, 'CONFLICT') || DekdError.is(error, 'KEYSTORE_UNAVAILABLE')).toBe(true);
          seen.add((error as DekdError).code);
        }
      }
    }

    async function rotate(keystore: PostgresKeystore): Promise<void> {
      const versions = await keystore.versions('customers', '', 'seal');
      const active = versions.filter(({ state }) => state === 'active');
      expect(active.length).toBe(1);
      const next = recordLike({ version: versions.at(-1)!.version + 1, state: 'pre-active' });
      await keystore.store(next, { absent: true });
      created.add(kidOf(next));
      const old = active[0]!;
      await keystore.updateMetadata([
        { record: { ...next, state: 'active', seq: next.seq + 1n }, expect: { seq: next.seq } },
        { record: { ...old, state: 'deactivated', seq: old.seq + 1n }, expect: { seq: old.seq } },
      ]);
      activated.add(kidOf(next));
    }

    let killed = 0;
    async function kill(): Promise<void> {
      const admin = await database.admin();
      while (performance.now() < until) {
        await sleep(randomInt(5, 60));
        const { rowCount } = await admin.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE application_name = 'dekd' AND datname = current_database() ORDER BY random() LIMIT 1`,
        );
        killed += rowCount ?? 0;
      }
      await admin.end();
    }

    await Promise.all([...keystores.map(write), kill()]);
    const versions = await keystores[0]!.versions('customers', '', 'seal');
    await Promise.all(keystores.map((keystore) => keystore.close()));
    await dropSchema(database, settings.schema);

    expect(versions.map(({ version }) => version)).toEqual(versions.map((_, index) => index + 1));
    expect(versions.filter(({ state }) => state === 'active').length).toBe(1);
    const byKid = new Map(versions.map((record) => [kidOf(record), record]));
    expect([...created].filter((kid) => !byKid.has(kid))).toEqual([]);
    expect([...activated].filter((kid) => byKid.get(kid)!.state === 'pre-active')).toEqual([]);
    // It was what it says: kills hit, rotations raced, and both came through.
    expect(killed).toBeGreaterThan(20);
    expect(activated.size).toBeGreaterThan(20);
    expect([...seen]).toContain('CONFLICT');
  });
});

function kidOf(record: KeyRecord): string {
  return Buffer.from(record.kid).toString('hex');
}
