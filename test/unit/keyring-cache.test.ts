import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DataKey } from '../../src/keyring/keyring.ts';
import { Sandbox, type World } from './keyring-fixture.ts';

describe('Keyring over a full key table', () => {
  let sandbox: Sandbox;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
  });

  afterEach(() => sandbox.cleanUp());

  async function keys(world: World, share: string, count: number, partition: (i: number) => string = () => '') {
    const made: DataKey[] = [];
    for (let i = 0; i < count; i++) {
      made.push(await world.keyring.prepareSealing(`${share}-${i}`, partition(i), share, () => undefined));
    }
    return made;
  }

  /** How many of `keys` are asked for without being unwrapped again. */
  function stillLoaded(world: World, of: readonly DataKey[]): number {
    return of.filter((key) => {
      const { reloads } = world.keyring.stats();
      key.handle();
      return world.keyring.stats().reloads === reloads;
    }).length;
  }

  it('works with many more keys than slots, and not one fails', async () => {
    const world = await sandbox.world({ capacity: 128 });
    const made = await keys(world, 'a', 1500);
    const tokens = made.map((key, i) => world.seal(key, `value ${i}`));
    const opened = await Promise.all(tokens.map((token) => world.open(token)));
    expect(opened).toEqual(tokens.map((_, i) => `value ${i}`));
    const stats = world.keyring.stats();
    expect(stats.known).toBe(1500);
    expect(stats.loaded).toBeLessThanOrEqual(126);
    expect(stats.evictions).toBeGreaterThanOrEqual(1500 - 126);
  });

  it("leaves another share's ten alone when one share loads hundreds, in one partition or in many", async () => {
    for (const partition of [() => '', (i: number) => `p${i}`]) {
      const world = await sandbox.world({ capacity: 64 });
      const ten = await keys(world, 'quiet', 10);
      await keys(world, 'loud', 500, partition);
      expect(stillLoaded(world, ten)).toBe(10);
    }
  });

  it('leaves the ten of another partition alone when one partition of the same share loads hundreds', async () => {
    const world = await sandbox.world({ capacity: 64 });
    const ten = await keys(world, 'a', 10, () => 'quiet');
    const loud: DataKey[] = [];
    for (let i = 0; i < 500; i++) {
      loud.push(await world.keyring.prepareSealing(`k${i}`, 'loud', 'a', () => undefined));
    }
    expect(stillLoaded(world, ten)).toBe(10);
  });

  it('evicts the least recently used of a share', async () => {
    const world = await sandbox.world({ capacity: 16 });
    const made = await keys(world, 'a', 14);
    made[0]!.handle();
    await keys(world, 'b', 1);
    expect(stillLoaded(world, [made[0]!])).toBe(1);
    expect(stillLoaded(world, [made[1]!])).toBe(0);
  });

  it('evicts the least recently used of partitions that hold one key each', async () => {
    const world = await sandbox.world({ capacity: 16 });
    const made = await keys(world, 'a', 14, (i) => `p${i}`);
    made[0]!.handle();
    await keys(world, 'b', 1);
    expect(stillLoaded(world, [made[0]!])).toBe(1);
    expect(stillLoaded(world, [made[1]!])).toBe(0);
  });

  it('serves many tenants, whose KEKs alone are more than the slots', async () => {
    sandbox.writeRoot('tenants.key');
    const world = await sandbox.world({
      capacity: 24,
      placement: { levels: ['tenant', 'service'], rootOf: () => 'tenants.key' },
      extraRoots: ['tenants.key'],
    });
    const tokens: Uint8Array[] = [];
    for (let i = 0; i < 60; i++) {
      tokens.push(await world.sealed('a', `value ${i}`, `tenant-${i}`));
    }
    for (const [i, token] of tokens.entries()) {
      expect(await world.open(token)).toBe(`value ${i}`);
    }
    expect(await Promise.all(tokens.map((token) => world.open(token)))).toEqual(tokens.map((_, i) => `value ${i}`));
  });

  it('forgets the rows of keys evicted longest ago, and finds them again in the keystore', async () => {
    const world = await sandbox.world({ capacity: 16, maxKnownKeys: 40 });
    const tokens: Uint8Array[] = [];
    for (let i = 0; i < 200; i++) {
      tokens.push(await world.sealed(`k${i}`, `value ${i}`));
    }
    expect(world.keyring.stats().known).toBeLessThanOrEqual(41);
    for (const [i, token] of tokens.entries()) {
      expect(await world.open(token)).toBe(`value ${i}`);
    }
  });

  it('keeps the count of a key that it forgot', async () => {
    const definitions = [{ pattern: '*', rotation: { maxMessages: 100 } }];
    const world = await sandbox.world({ capacity: 16, maxKnownKeys: 20, definitions });
    const key = await world.keyring.prepareSealing('a', '', 'x', () => undefined);
    key.used(60, 0);
    await keys(world, 'x', 60);
    expect(world.keyring.sealing('a', '') === undefined).toBe(true);
    const again = await world.keyring.prepareSealing('a', '', 'x', undefined);
    again.used(60, 0);
    expect((await world.keyring.prepareSealing('a', '', 'x', undefined)).version).toBe(2);
  });

  it('leaves no slot taken by operations that fail', async () => {
    const world = await sandbox.world({ capacity: 16 });
    const token = await world.sealed('a', 'x');
    await world.keyring.destroy('a', '', undefined);
    const { used } = world.engine.stats();
    for (let i = 0; i < 50; i++) {
      await world.keyring.prepareOpening(token.slice(2, 18), 'x');
      await world.keyring.prepareSealing('a', '', 'x', undefined).catch(() => undefined);
      await world.keyring.create({ name: 'a', partition: '', purpose: 'seal' }).catch(() => undefined);
    }
    expect(world.engine.stats().used).toBe(used);
  });
});
