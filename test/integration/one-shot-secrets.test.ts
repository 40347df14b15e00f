import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import type { DekdClient } from '../../src/client/types.ts';
import { OneShotSecrets, type OneShotStore } from '../../src/helpers/index.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { ApplicationTable } from '../support/application-table.ts';
import { formsFound } from '../support/canary.ts';
import { describeDatabase } from '../support/postgres.ts';
import { describeRedis, RedisServer } from '../support/redis.ts';

const SECRET = 'the password is "correct horse", zoë';
const NOT_VALID = { name: 'DekdError', code: 'DECRYPTION_FAILED', message: 'the one-shot secret is not valid' };
const RACERS = 64;

let agent: TestAgent;
let dekd: DekdClient;
let nobody: DekdClient;
let time = Date.now();
beforeAll(async () => {
  agent = await startTestAgent();
  dekd = connect({ socket: agent.socket });
  nobody = connect({ socket: '/nowhere/agent.sock', timeoutMs: 50 });
});
afterAll(async () => {
  await nobody.close();
  await dekd.close();
  await agent.stop();
});

function secrets(store: OneShotStore, client = dekd): OneShotSecrets {
  return new OneShotSecrets(client, { key: 'one-shot', store, now: () => time });
}

/** What holds of every store that keeps the contract; `dump` is all that it has. */
function keepsSecrets(storeOf: () => OneShotStore, dump: () => Promise<Uint8Array>): void {
  it('gives a secret once', async () => {
    const id = await secrets(storeOf()).keep(SECRET);
    expect(id).toMatch(/^[\w-]{43}$/);
    expect(await secrets(storeOf()).take(id)).toBe(SECRET);
    await expect(secrets(storeOf()).take(id)).rejects.toMatchObject(NOT_VALID);
  });

  it('gives it to one of 64 that ask at once, every time', async () => {
    for (let round = 0; round < 10; round++) {
      const id = await secrets(storeOf()).keep(SECRET);
      const racers = await Promise.allSettled(Array.from({ length: RACERS }, () => secrets(storeOf()).take(id)));
      const given = racers.filter((each) => each.status === 'fulfilled').map(({ value }) => value);
      expect(given).toEqual([SECRET]);
      for (const each of racers) {
        if (each.status === 'rejected') {
          expect(each.reason).toMatchObject(NOT_VALID);
        }
      }
    }
  });

  it('has nothing of the secret and its link, in any form', async () => {
    const ids = await Promise.all(Array.from({ length: 20 }, () => secrets(storeOf()).keep(SECRET)));
    const held = await dump();
    expect(held.length).toBeGreaterThan(20 * 100);
    expect([SECRET, 'correct horse', ...ids].flatMap((text) => formsFound(held, text))).toEqual([]);
    for (const id of ids) {
      await secrets(storeOf()).take(id);
    }
  });

  it('keeps it when the agent is down, and gives it afterwards', async () => {
    const id = await secrets(storeOf()).keep(SECRET);
    await expect(secrets(storeOf(), nobody).take(id)).rejects.toMatchObject({ code: 'AGENT_UNAVAILABLE' });
    expect(await secrets(storeOf()).take(id)).toBe(SECRET);
  });

  it('keeps it when it is asked for wrongly, and when its time is over', async () => {
    const id = await secrets(storeOf()).keep(SECRET);
    const other = new OneShotSecrets(dekd, { key: 'other', store: storeOf() });
    await other.keep('x');
    await expect(other.take(id)).rejects.toMatchObject(NOT_VALID);
    await expect(
      secrets(storeOf()).take(id.replace(/^./, (first) => (first === 'A' ? 'B' : 'A'))),
    ).rejects.toMatchObject(NOT_VALID);
    for (const none of ['', 'x'.repeat(5000), undefined as never, 7 as never]) {
      await expect(secrets(storeOf()).take(none)).rejects.toMatchObject(NOT_VALID);
    }
    const begun = time;
    time += 3_601_000;
    await expect(secrets(storeOf()).take(id)).rejects.toMatchObject({ code: 'EXPIRED' });
    time = begun;
    expect(await secrets(storeOf()).take(id)).toBe(SECRET);
  });
}

describeDatabase('a one-shot secret in PostgreSQL', () => {
  const table = new ApplicationTable(
    'secrets',
    'lookup text PRIMARY KEY, sealed text NOT NULL, expires timestamptz NOT NULL',
  );

  const store: OneShotStore = {
    put: (lookup, sealed, expiresAt) =>
      table.pool.query(`INSERT INTO ${table.name} VALUES ($1, $2, $3)`, [lookup, sealed, new Date(expiresAt)]),
    load: async (lookup) =>
      (await table.pool.query<{ sealed: string }>(`SELECT sealed FROM ${table.name} WHERE lookup = $1`, [lookup]))
        .rows[0]?.sealed,
    consume: async (lookup) =>
      (await table.pool.query(`DELETE FROM ${table.name} WHERE lookup = $1`, [lookup])).rowCount === 1,
  };

  keepsSecrets(
    () => store,
    async () => Buffer.from(JSON.stringify(await table.rows())),
  );
});

describeRedis('a one-shot secret in Redis', () => {
  let server: RedisServer;
  let redis: Redis;
  beforeAll(async () => {
    server = await RedisServer.start();
    redis = server.client();
  });
  afterAll(() => server.stop());

  const store: OneShotStore = {
    put: (lookup, sealed, expiresAt) => redis.set(`secret:${lookup}`, sealed, 'PXAT', expiresAt),
    load: (lookup) => redis.get(`secret:${lookup}`),
    consume: async (lookup) => (await redis.del(`secret:${lookup}`)) === 1,
  };

  keepsSecrets(
    () => store,
    () => server.dump(),
  );

  it('goes by itself when its time is over', async () => {
    // Those that tests before have left live longer.
    const others = new Set(await redis.keys('secret:*'));
    const id = await new OneShotSecrets(dekd, { key: 'one-shot', store, ttlMs: 1000 }).keep(SECRET);
    const [name] = (await redis.keys('secret:*')).filter((each) => !others.has(each));
    const left = await redis.pttl(name!);
    expect(left).toBeGreaterThan(0);
    expect(left).toBeLessThanOrEqual(2000);
    await expect(secrets(store).take(id)).resolves.toBe(SECRET);
  });
});

describe('a one-shot secret', () => {
  it('is not given to whose store did not say that it was he who took it', async () => {
    const held = new Map<string, string>();
    for (const answer of [false, undefined, 1, 'true', { rowCount: 1 }]) {
      const store: OneShotStore = {
        put: async (lookup, sealed) => held.set(lookup, sealed),
        load: async (lookup) => held.get(lookup),
        consume: async () => answer as boolean,
      };
      const id = await secrets(store).keep(SECRET);
      await expect(secrets(store).take(id)).rejects.toMatchObject(NOT_VALID);
    }
  });

  it('passes on what its store fails with, and is still there', async () => {
    const held = new Map<string, string>();
    const lost = new Error('the database went away');
    const store: OneShotStore = {
      put: async (lookup, sealed) => held.set(lookup, sealed),
      load: async (lookup) => held.get(lookup),
      consume: async () => {
        throw lost;
      },
    };
    const id = await secrets(store).keep(SECRET);
    await expect(secrets(store).take(id)).rejects.toBe(lost);
    expect(held.size).toBe(1);
  });
});
