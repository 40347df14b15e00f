import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { DataKey, DataPurpose } from '../../src/keyring/keyring.ts';
import { FakeClock, Sandbox, type World } from './keyring-fixture.ts';

const DAY = 86_400_000;

describe('keys for MACs and indexes', () => {
  let sandbox: Sandbox;
  let clock: FakeClock;

  beforeEach(async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    sandbox = await Sandbox.make();
    clock = new FakeClock();
  });

  afterEach(async () => {
    await sandbox.cleanUp();
    vi.useRealTimers();
  });

  function prepared(world: World, purpose: DataPurpose, name = 'a'): Promise<DataKey> {
    return world.keyring.prepareSealing(name, '', 'caller', () => undefined, purpose);
  }

  async function versions(world: World): Promise<unknown> {
    const all = await world.keyring.describe('a', '');
    return all.map(({ purpose, version, state }) => [purpose, version, state].join(' ')).sort();
  }

  it('are made on first use, each purpose by itself, with another key for each', async () => {
    const world = await sandbox.world();
    const keys = [];
    for (const purpose of ['seal', 'message', 'mac', 'index'] as const) {
      expect(world.keyring.sealingFor(purpose, 'a', '')).toBeUndefined();
      const key = await prepared(world, purpose);
      expect(key).toMatchObject({ name: 'a', purpose, version: 1, state: 'active' });
      expect(world.keyring.sealingFor(purpose, 'a', '')).toBe(key);
      keys.push(key);
    }
    expect(new Set(keys.map(({ kid }) => Buffer.from(kid).toString('hex'))).size).toBe(4);
    expect(await versions(world)).toEqual(['index 1 active', 'mac 1 active', 'message 1 active', 'seal 1 active']);
    const data = new Uint8Array(3);
    expect(world.engine.mac(keys[2]!.handle(), '', data)).not.toEqual(world.engine.mac(keys[3]!.handle(), '', data));
  });

  it('for MACs are rotated by age and by messages like any; those for indexes by neither, nor by a schedule', async () => {
    const rotation = { maxAgeMs: 90 * DAY, maxMessages: 10 };
    const world = await sandbox.world({ clock, definitions: [{ pattern: '*', rotation }] });
    await prepared(world, 'mac');
    const index = await prepared(world, 'index');
    clock.elapsed += 91 * DAY;
    vi.advanceTimersByTime(60_000);
    expect(world.keyring.sealingFor('mac', 'a', '')).toBeUndefined();
    const mac = await prepared(world, 'mac');
    expect(mac.version).toBe(2);
    expect((await prepared(world, 'index')).version).toBe(1);
    mac.used(10, 0);
    index.used(10, 0);
    expect((await prepared(world, 'mac')).version).toBe(3);
    expect((await prepared(world, 'index')).version).toBe(1);
    index.used(10_000_000, 1);
    expect((await prepared(world, 'index')).version).toBe(1);
    expect(await versions(world)).toEqual(['index 1 active', 'mac 1 deactivated', 'mac 2 deactivated', 'mac 3 active']);
  });

  it('for an index are not rotated by hand either, and not in an emergency; what to do instead is said', async () => {
    const world = await sandbox.world();
    await prepared(world, 'index');
    const request = { name: 'a', partition: '', purpose: 'index' } as const;
    for (const rotate of [
      () => world.keyring.rotate(request),
      () => world.keyring.rotateCompromised(request),
      () => world.keyring.rotate({ ...request, name: 'none' }),
    ]) {
      await expect(rotate()).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining('second column under a key of another name'),
      });
    }
    expect(await versions(world)).toEqual(['index 1 active']);
    await world.keyring.rotate({ ...request, purpose: 'seal' }).catch(() => undefined);
    await prepared(world, 'mac');
    await world.keyring.rotate({ ...request, purpose: 'mac' });
    expect((await prepared(world, 'mac')).version).toBe(2);
  });

  it('say of an index whose key is stopped for good that it is to be made anew, and not that the key is to be rotated', async () => {
    const world = await sandbox.world();
    await prepared(world, 'index');
    await world.keyring.markCompromised('a', '', 1, 'index');
    await expect(prepared(world, 'index')).rejects.toMatchObject({
      code: 'KEY_DISABLED',
      message: expect.stringContaining('make the index anew under another name'),
    });
  });

  it('are not there for a name whose provider encrypts each value', async () => {
    const world = await sandbox.world({ definitions: [{ pattern: 'a', direct: true }] });
    for (const [purpose, what] of [
      ['mac', 'MACs'],
      ['index', 'indexes'],
    ] as const) {
      await expect(prepared(world, purpose)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining(`no key for ${what}`),
      });
    }
  });
});
