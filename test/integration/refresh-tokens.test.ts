import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import type { DekdClient } from '../../src/client/types.ts';
import { type RefreshTokenStore, RefreshTokens } from '../../src/helpers/index.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { ApplicationTable } from '../support/application-table.ts';
import { formsFound } from '../support/canary.ts';
import { describeDatabase } from '../support/postgres.ts';

interface Subject {
  readonly user: string;
}

const NOT_VALID = { name: 'DekdError', code: 'DECRYPTION_FAILED', message: 'the refresh token is not valid' };
const DAY = 86_400_000;
const SESSION = 'device-1';

let agent: TestAgent;
let dekd: DekdClient;
let time = 1_790_000_000_000;
beforeAll(async () => {
  agent = await startTestAgent();
  dekd = connect({ socket: agent.socket });
});
afterAll(async () => {
  await dekd.close();
  await agent.stop();
});

/** A store in memory that does what the contract asks for, in one turn each. */
class MemoryFamilies implements RefreshTokenStore {
  readonly generations = new Map<string, number>();
  readonly reported: string[] = [];
  async begin(family: string): Promise<void> {
    this.generations.set(family, 0);
  }
  async advance(family: string, generation: number): Promise<boolean> {
    const isCurrent = this.generations.get(family) === generation;
    if (isCurrent) {
      this.generations.set(family, generation + 1);
    }
    return isCurrent;
  }
  async reused(family: string): Promise<void> {
    this.reported.push(family);
    this.generations.delete(family);
  }
}

let store: MemoryFamilies;
beforeEach(() => {
  store = new MemoryFamilies();
});

function tokens(client: DekdClient = dekd, kind = 'web'): RefreshTokens<Subject> {
  return new RefreshTokens<Subject>(client, {
    key: 'refresh',
    kind,
    store,
    ttlMs: DAY,
    familyTtlMs: 3 * DAY,
    now: () => time,
  });
}

describe('a refresh token', () => {
  it('is taken for the next one, of the same family, with what is in it', async () => {
    const first = await tokens().begin(SESSION, { user: 'u1' });
    const second = await tokens().rotate(first.token, SESSION);
    const third = await tokens().rotate(second.token, SESSION);
    expect([second.content, third.content]).toEqual([{ user: 'u1' }, { user: 'u1' }]);
    expect(new Set([first.family, second.family, third.family]).size).toBe(1);
    expect(new Set([first.token, second.token, third.token]).size).toBe(3);
    expect(encodeURIComponent(third.token)).toBe(third.token);
    expect(store.reported).toEqual([]);
  });

  it('that was used ends its family, and the store is told', async () => {
    const first = await tokens().begin(SESSION, { user: 'u1' });
    const second = await tokens().rotate(first.token, SESSION);
    await expect(tokens().rotate(first.token, SESSION)).rejects.toMatchObject(NOT_VALID);
    expect(store.reported).toEqual([first.family]);
    await expect(tokens().rotate(second.token, SESSION)).rejects.toMatchObject(NOT_VALID);
  });

  it('of another session, kind or tenant is none, and tells the store nothing', async () => {
    const { token, family } = await tokens().begin(SESSION, { user: 'u1' });
    await expect(tokens().rotate(token, 'device-2')).rejects.toMatchObject(NOT_VALID);
    for (const session of ['', 'x'.repeat(100_000), '\ud800', undefined as never]) {
      await expect(tokens().rotate(token, session)).rejects.toMatchObject(NOT_VALID);
    }
    await expect(tokens(dekd, 'mobile').rotate(token, SESSION)).rejects.toMatchObject(NOT_VALID);
    await expect(tokens().rotate(token, SESSION, { partition: 'acme' })).rejects.toMatchObject({
      code: expect.stringMatching(/DECRYPTION_FAILED|PERMISSION_DENIED/),
    });
    await expect(tokens().rotate(`${token}A`, SESSION)).rejects.toMatchObject(NOT_VALID);
    expect(store.reported).toEqual([]);
    expect(store.generations.get(family)).toBe(0);
  });

  it('is not used up by an agent that is down', async () => {
    const { token, family } = await tokens().begin(SESSION, { user: 'u1' });
    const nobody = connect({ socket: '/nowhere/agent.sock', timeoutMs: 50 });
    await expect(tokens(nobody).rotate(token, SESSION)).rejects.toMatchObject({ code: 'AGENT_UNAVAILABLE' });
    // One that goes between opening the token and making the next.
    const half = { decryptText: dekd.decryptText.bind(dekd), encryptText: nobody.encryptText.bind(nobody) };
    await expect(tokens(half as DekdClient).rotate(token, SESSION)).rejects.toMatchObject({
      code: 'AGENT_UNAVAILABLE',
    });
    expect(store.generations.get(family)).toBe(0);
    expect((await tokens().rotate(token, SESSION)).content).toEqual({ user: 'u1' });
    await nobody.close();
  });

  it('expires by itself, and with its family however often it is rotated', async () => {
    const begun = time;
    let { token } = await tokens().begin(SESSION, { user: 'u1' });
    time += DAY;
    await expect(tokens().rotate(token, SESSION)).rejects.toMatchObject({ code: 'EXPIRED' });
    time = begun;
    for (let hours = 0; hours < 71; hours++) {
      time += DAY / 24;
      ({ token } = await tokens().rotate(token, SESSION));
    }
    time += DAY / 24;
    await expect(tokens().rotate(token, SESSION)).rejects.toMatchObject({ code: 'EXPIRED' });
    expect(store.reported).toEqual([]);
    time = begun;
  });
});

describeDatabase('refresh tokens over PostgreSQL', () => {
  const table = new ApplicationTable(
    'families',
    'family text PRIMARY KEY, generation int NOT NULL, ends timestamptz NOT NULL',
  );

  const reported: string[] = [];
  const rows: RefreshTokenStore = {
    begin: (family, endsAt) =>
      table.pool.query(`INSERT INTO ${table.name} VALUES ($1, 0, $2)`, [family, new Date(endsAt)]),
    advance: async (family, generation) => {
      const moved = `UPDATE ${table.name} SET generation = generation + 1 WHERE family = $1 AND generation = $2`;
      return (await table.pool.query(moved, [family, generation])).rowCount === 1;
    },
    reused: async (family) => void reported.push(family),
  };

  it('give one winner among 64 that use the same token, and report the others', async () => {
    const made = new RefreshTokens<Subject>(dekd, { key: 'refresh', kind: 'web', store: rows });
    const { token, family } = await made.begin(SESSION, { user: 'canary-of-the-subject' });
    const racers = await Promise.allSettled(Array.from({ length: 64 }, () => made.rotate(token, SESSION)));
    const won = racers.filter(({ status }) => status === 'fulfilled');
    expect(won).toHaveLength(1);
    expect(
      racers.filter(({ status }) => status === 'rejected').map((each) => (each as PromiseRejectedResult).reason),
    ).toEqual(Array.from({ length: 63 }, () => expect.objectContaining(NOT_VALID)));
    expect(reported).toEqual(Array.from({ length: 63 }, () => family));
    const held = JSON.stringify(await table.rows());
    expect(formsFound(Buffer.from(held), 'canary-of-the-subject')).toEqual([]);
    expect(held).not.toContain(token);
  });
});
