import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { KeyDefinition } from '../../src/keyring/key-definition.ts';
import type { KeyRecord } from '../../src/keyring/record.ts';
import { outdated } from '../../src/keyring/retirement.ts';
import type { Keystore } from '../../src/keystores/keystore.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { SqliteKeystore } from '../../src/keystores/sqlite.ts';
import { FakeClock, Sandbox, type World, type WorldOptions } from './keyring-fixture.ts';

const DAY = 86_400_000;
const KEEP_FIVE: KeyDefinition = { pattern: '*', rotation: { maxAgeMs: 90 * DAY, keep: 5, graceMs: 30 * DAY } };

describe('rotation policy', () => {
  let sandbox: Sandbox;
  let clock: FakeClock;
  let keystore: Keystore;

  beforeEach(async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    sandbox = await Sandbox.make();
    clock = new FakeClock();
    keystore = new MemoryKeystore();
  });

  afterEach(async () => {
    await sandbox.cleanUp();
    vi.useRealTimers();
  });

  it('rotates at 90 days, keeps 5, disables the others after the grace, and destroys none', async () => {
    const world = await open({ definitions: [KEEP_FIVE] });
    const tokens: Uint8Array[] = [];
    for (let version = 1; version <= 9; version++) {
      tokens.push(await world.sealed('k', `version ${version}`));
      await world.keyring.retire();
      later(90 * DAY);
    }
    expect(await states()).toEqual([...Array(3).fill('suspended'), ...Array(5).fill('deactivated'), 'active']);
    for (const [index, token] of tokens.entries()) {
      const opened = await world.open(token).catch((error: { code: string }) => error.code);
      expect(opened).toBe(index < 3 ? 'KEY_DISABLED' : `version ${index + 1}`);
    }
    // Nothing is gone: it takes one command to have it back.
    await world.keyring.enable('k', '', 1);
    expect(await world.open(tokens[0]!)).toBe('version 1');
    expect((await keystore.versions('k', '', 'seal')).every(({ wrapped }) => wrapped.length > 0)).toBe(true);
  });

  it('leaves versions alone whose grace is not over, and keys of which nothing is said', async () => {
    const world = await open({ definitions: [{ ...KEEP_FIVE, pattern: 'k', rotation: { keep: 1, graceMs: DAY } }] });
    for (const name of ['k', 'other']) {
      await world.sealed(name, 'x');
      for (let i = 0; i < 3; i++) {
        await world.keyring.rotate({ name, partition: '', purpose: 'seal' });
      }
    }
    clock.elapsed += DAY - 1;
    expect(await world.keyring.retire()).toBe(0);
    clock.elapsed += 1;
    expect(await world.keyring.retire()).toBe(2);
    expect(await states('k')).toEqual(['suspended', 'suspended', 'deactivated', 'active']);
    expect(await states('other')).toEqual(['deactivated', 'deactivated', 'deactivated', 'active']);
    expect(await world.keyring.retire()).toBe(0);
    expect(world.events.filter(({ event }) => event === 'version-retired').map(({ version }) => version)).toEqual([
      2, 1,
    ]);
  });

  it('looks for old versions by itself, once an hour', async () => {
    const world = await open({ definitions: [{ pattern: '*', rotation: { keep: 1, graceMs: 0 } }] });
    await world.sealed('k', 'x');
    for (let i = 0; i < 2; i++) {
      await world.keyring.rotate({ name: 'k', partition: '', purpose: 'seal' });
    }
    vi.advanceTimersByTime(3_600_000 - 30_000);
    await turn();
    expect(await states()).toEqual(['deactivated', 'deactivated', 'active']);
    vi.advanceTimersByTime(30_000);
    await turn();
    expect(await states()).toEqual(['suspended', 'deactivated', 'active']);
  });

  it('comes to the same by any number of agents at once', async () => {
    const definitions: KeyDefinition[] = [{ pattern: '*', rotation: { keep: 1, graceMs: 0 } }];
    const worlds = await Promise.all(Array.from({ length: 8 }, () => open({ definitions })));
    await worlds[0]!.sealed('k', 'x');
    for (let i = 0; i < 4; i++) {
      await worlds[i]!.keyring.rotate({ name: 'k', partition: '', purpose: 'seal' });
    }
    const retired = await Promise.all(worlds.map(({ keyring }) => keyring.retire()));
    expect(retired.reduce((sum, count) => sum + count, 0)).toBe(3);
    expect(await states()).toEqual(['suspended', 'suspended', 'suspended', 'deactivated', 'active']);
  });

  it('never disables what was sealed last: without a version that seals, none is disabled', () => {
    const limits = { maxAgeMs: 1, maxMessages: 1, maxBytes: 1, schedule: undefined, keep: 1, graceMs: 0 };
    const row = (version: number, state: string) =>
      ({
        version,
        state,
        keyContext: {},
        dates: { created: 1, activated: 1, deactivated: 2, destroyed: 0 },
      }) as KeyRecord;
    const old = [row(1, 'deactivated'), row(2, 'deactivated'), row(3, 'deactivated')];
    expect(outdated([...old, row(4, 'suspended')], limits, 10)).toEqual([]);
    expect(outdated([...old, row(4, 'pre-active')], limits, 10)).toEqual([]);
    expect(outdated([...old, row(4, 'active')], limits, 10).map(({ version }) => version)).toEqual([2, 1]);
    // One that is newer than the sealing one stays, and one that is compromised counts among those that open.
    expect(outdated([row(1, 'deactivated'), row(2, 'active'), row(3, 'deactivated')], limits, 10)).toEqual([]);
    const compromised = [row(1, 'compromised'), row(2, 'deactivated'), row(3, 'compromised'), row(4, 'active')];
    expect(outdated(compromised, limits, 10).map(({ version }) => version)).toEqual([2]);
  });

  describe('by a schedule', () => {
    const schedule = '0 3 1 * *';
    const definitions: KeyDefinition[] = [{ pattern: '*', rotation: { schedule, maxAgeMs: Number.POSITIVE_INFINITY } }];

    it('replaces a version that was made before the last time it names, and none made since', async () => {
      clock.wall = Date.parse('2026-05-31T12:00Z');
      const world = await open({ definitions });
      await world.sealed('k', 'x');
      later(Date.parse('2026-06-01T02:59Z') - clock.wall);
      await world.sealed('k', 'x');
      expect(await states()).toEqual(['active']);
      later(60_000);
      await world.sealed('k', 'x');
      expect(await states()).toEqual(['deactivated', 'active']);
      later(20 * DAY);
      await world.sealed('k', 'x');
      expect(await states()).toEqual(['deactivated', 'active']);
    });

    it('makes up at start for a time that passed while no agent ran', async () => {
      clock.wall = Date.parse('2026-05-31T12:00Z');
      await (await open({ definitions })).sealed('k', 'x');
      const fresh = new FakeClock();
      fresh.wall = Date.parse('2026-06-20T12:00Z');
      await (await open({ definitions, clock: fresh })).sealed('k', 'x');
      expect(await states()).toEqual(['deactivated', 'active']);
    });

    it.each(['memory', 'memory whose answers take their time', 'sqlite'])(
      'rotates once by 8 agents that all find the key due: %s',
      async (kind) => {
        const path = sandbox.path('keys.db');
        const store = async () =>
          kind === 'sqlite' ? SqliteKeystore.open({ path }) : kind === 'memory' ? keystore : unhurried(keystore);
        clock.wall = Date.parse('2026-05-31T12:00Z');
        const worlds = await Promise.all(
          Array.from({ length: 8 }, async () => open({ definitions, keystore: await store() })),
        );
        for (let round = 1; round <= 3; round++) {
          for (const key of ['a', 'b', 'c']) {
            await Promise.all(worlds.map((world) => world.sealed(key, 'x')));
          }
          const rows = await worlds[0]!.keystore.versions('a', '', 'seal');
          expect(rows.map(({ state }) => state)).toEqual([...Array(round - 1).fill('deactivated'), 'active']);
          clock.elapsed += 31 * DAY;
          vi.advanceTimersByTime(60_000);
        }
      },
    );

    it('is refused at start when it is none', async () => {
      await expect(open({ definitions: [{ pattern: '*', rotation: { schedule: '0 0 31 2 *' } }] })).rejects.toThrow(
        /names no time/,
      );
    });
  });

  async function open(options: WorldOptions): Promise<World> {
    return sandbox.world({ keystore, clock, ...options });
  }

  /** Time passes, and with it the refresh interval in which a key is found due. */
  function later(ms: number): void {
    clock.elapsed += ms;
    vi.advanceTimersByTime(60_000);
  }

  async function turn(): Promise<void> {
    for (let i = 0; i < 20; i++) {
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
  }

  async function states(name = 'k'): Promise<string[]> {
    return (await keystore.versions(name, '', 'seal')).map(({ state }) => state);
  }
});

/** Each look at the versions of a key takes another time, so that agents meet each other half-way through a rotation. */
function unhurried(keystore: Keystore): Keystore {
  return new Proxy(keystore, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== 'function') {
        return value;
      }
      const method = value.bind(target) as (...values: unknown[]) => Promise<unknown>;
      return name === 'versions'
        ? async (...values: unknown[]) => {
            await sleep(Math.random() * 8);
            return method(...values);
          }
        : method;
    },
  });
}
