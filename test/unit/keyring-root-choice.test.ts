import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hex } from '../../src/bytes.ts';
import type { DataKey } from '../../src/keyring/keyring.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { FakeProvider } from '../support/fake-provider.ts';
import { durable, FakeClock, Sandbox, TENANTS, until, type World, type WorldOptions } from './keyring-fixture.ts';

const SEAL = { name: 'k', partition: '', purpose: 'seal' } as const;

describe('a root that a caller chooses', () => {
  let sandbox: Sandbox;
  let keystore: MemoryKeystore;
  let clock: FakeClock;
  let a: FakeProvider;
  let b: FakeProvider;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
    keystore = new MemoryKeystore();
    clock = new FakeClock();
    a = new FakeProvider('a');
    b = new FakeProvider('b');
  });

  afterEach(() => sandbox.cleanUp());

  function open(options: WorldOptions = {}): Promise<World> {
    return sandbox.world({ keystore, clock, providers: [a, b], ...options });
  }

  function key(world: World, root = '', name = 'k', partition = '', create = true): Promise<DataKey> {
    const known = world.keyring.sealing(name, partition, root);
    return known === undefined
      ? world.keyring.prepareSealing(name, partition, 'x', create ? () => undefined : undefined, 'seal', root)
      : Promise.resolve(known);
  }

  async function sealed(world: World, text: string, root = '', name = 'k', partition = ''): Promise<Uint8Array> {
    return world.seal(await key(world, root, name, partition), text);
  }

  async function rootAbove(token: Uint8Array): Promise<string> {
    let row = (await keystore.retrieve(token.slice(2, 18)))!;
    while (row.parent.kind === 'key') {
      row = (await keystore.retrieve(row.parent.kid))!;
    }
    return row.parent.reference.root;
  }

  async function versions(): Promise<[number, string][]> {
    return (await keystore.versions('k', '', 'seal')).map(({ version, state }) => [version, state]);
  }

  it('has a sealing version of its own, and every version opens whatever is chosen', async () => {
    const world = await open();
    const own = await sealed(world, 'own');
    const chosen = await sealed(world, 'chosen', 'b');
    expect(await rootAbove(own)).toBe('a');
    expect(await rootAbove(chosen)).toBe('b');
    expect(await versions()).toEqual([
      [1, 'active'],
      [2, 'active'],
    ]);
    for (let i = 0; i < 3; i++) {
      expect((await key(world)).version).toBe(1);
      expect((await key(world, 'b')).version).toBe(2);
    }
    const fresh = await open();
    expect(await fresh.open(own)).toBe('own');
    expect(await fresh.open(chosen)).toBe('chosen');
    expect((await key(fresh, 'b')).version).toBe(2);
    expect((await key(fresh)).version).toBe(1);
    expect(fresh.keyring.sealing('k', '', 'b')?.version).toBe(2);
  });

  it('shares the version of callers who name none, where that hangs under it', async () => {
    const world = await open();
    expect((await key(world)).version).toBe(1);
    expect((await key(world, 'a')).version).toBe(1);
    const fresh = await open();
    expect((await key(fresh, 'a')).version).toBe(1);
    expect(await versions()).toHaveLength(1);
  });

  it('makes the key where it is the first to want it, with the right to create, and is not what others then get', async () => {
    const world = await open();
    await expect(key(world, 'b', 'k', '', false)).rejects.toMatchObject({ code: 'KEY_NOT_FOUND' });
    const first = await sealed(world, 'x', 'b');
    expect(await rootAbove(first)).toBe('b');
    // No creation any more.
    const own = world.seal(await key(world, '', 'k', '', false), 'y');
    expect(await rootAbove(own)).toBe('a');
    expect(await versions()).toEqual([
      [1, 'active'],
      [2, 'active'],
    ]);
  });

  it('makes no key twice: callers who name other roots find it made, whenever they began to look', async () => {
    let wait: Promise<void> | undefined;
    const slow = new Proxy(keystore, {
      get(target, name) {
        const value = Reflect.get(target, name, target) as unknown;
        if (name !== 'versions') {
          return typeof value === 'function' ? value.bind(target) : value;
        }
        return async (...args: Parameters<MemoryKeystore['versions']>) => {
          const rows = await target.versions(...args);
          // Nothing was there when they looked, and has been made before they go on.
          await (args[0] === 'k' && rows.length === 0 ? wait : undefined);
          return rows;
        };
      },
    });
    const world = await open({ keystore: durable(slow), stateFolder: sandbox.folder });
    for (const [first, second] of [
      ['', 'b'],
      ['b', 'a'],
    ] as const) {
      let go = (): void => undefined;
      wait = new Promise((resolve) => {
        go = resolve;
      });
      const late = key(world, second, 'k', first);
      await new Promise((resolve) => setImmediate(resolve));
      wait = undefined;
      const early = await key(world, first, 'k', first);
      go();
      expect((await late).version).toBe(2);
      expect(early.version).toBe(1);
    }
  });

  it('makes a key under the root of its route a key as any other', async () => {
    const world = await open();
    const first = await sealed(world, 'x', 'a');
    expect(await rootAbove(first)).toBe('a');
    expect((await key(world)).version).toBe(1);
    expect(await versions()).toHaveLength(1);
  });

  it('is one version a root for tenants, for messages, and for 64 callers of 4 agents that all want both at once', async () => {
    const agents = await Promise.all([open(), open(), open(), open()].map((world) => world));
    const found = await Promise.all(
      Array.from({ length: 64 }, async (_, i) => {
        const world = agents[i % 4]!;
        const root = ['', 'a', 'b'][i % 3]!;
        const made = await world.keyring.prepareSealing('k', 't', 'x', () => undefined, 'message', root);
        return [root === 'b' ? 'b' : 'a', hex(made.kid)] as [string, string];
      }),
    );
    const byRoot = Map.groupBy(found, ([root]) => root);
    for (const root of ['a', 'b']) {
      expect(new Set(byRoot.get(root)!.map(([, kid]) => kid)).size).toBe(1);
    }
    expect((await keystore.versions('k', 't', 'message')).filter(({ state }) => state === 'active')).toHaveLength(2);
    const tenants = await open({ placement: TENANTS });
    const token = await sealed(tenants, 'x', 'b', 'other', 'acme');
    expect(await rootAbove(token)).toBe('b');
    expect(await tenants.open(token)).toBe('x');
  });

  it('costs no call an error while 64 callers choose and keys rotate', async () => {
    const definitions = [{ pattern: '*', rotation: { maxMessages: 40 } }];
    const agents = [await open({ definitions, refreshMs: 20 }), await open({ definitions, refreshMs: 20 })];
    const tokens: [string, Uint8Array][] = [];
    await Promise.all(
      Array.from({ length: 64 }, async (_, caller) => {
        const world = agents[caller % 2]!;
        const root = ['', 'a', 'b'][caller % 3]!;
        for (let i = 0; i < 20; i++) {
          tokens.push([root === 'b' ? 'b' : 'a', await sealed(world, 'x', root)]);
          await new Promise((resolve) => setImmediate(resolve));
        }
      }),
    );
    const fresh = await open();
    for (const [root, token] of tokens) {
      expect(await rootAbove(token)).toBe(root);
      expect(await fresh.open(token)).toBe('x');
    }
    const active = (await keystore.versions('k', '', 'seal')).filter(({ state }) => state === 'active');
    expect(active).toHaveLength(2);
    expect((await keystore.versions('k', '', 'seal')).length).toBeGreaterThan(4);
  });

  it('has its version rotated by itself, and by an operator with all others', async () => {
    const definitions = [{ pattern: '*', rotation: { maxMessages: 3 } }];
    const world = await open({ definitions });
    await sealed(world, 'own');
    for (let i = 0; i < 4; i++) {
      await sealed(world, 'x', 'b');
    }
    expect(await versions()).toEqual([
      [1, 'active'],
      [2, 'deactivated'],
      [3, 'active'],
    ]);
    expect(await world.keyring.rotate(SEAL)).toMatchObject({ version: 4, root: 'a' });
    expect(await versions()).toEqual([
      [1, 'deactivated'],
      [2, 'deactivated'],
      [3, 'deactivated'],
      [4, 'active'],
    ]);
    expect((await key(world, 'b')).version).toBe(5);
    expect((await key(world)).version).toBe(4);
    await world.keyring.rotateCompromised(SEAL);
    expect((await versions()).slice(3)).toEqual([
      [4, 'compromised'],
      [5, 'compromised'],
      [6, 'active'],
    ]);
    expect((await key(world, 'b')).version).toBe(7);
  });

  it('stops with the key that is disabled, and goes on when it is enabled', async () => {
    const world = await open();
    await sealed(world, 'x');
    const token = await sealed(world, 'y', 'b');
    await world.keyring.disable('k', '', undefined);
    await expect(key(world, 'b')).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    await expect(key(world, 'a')).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    const other = await open();
    await expect(key(other, 'b')).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    await world.keyring.enable('k', '', undefined);
    expect(await versions()).toEqual([
      [1, 'active'],
      [2, 'active'],
    ]);
    expect((await key(world, 'b')).version).toBe(2);
    expect(await world.open(token)).toBe('y');
    // Disabled for those alone who choose this root.
    await world.keyring.disable('k', '', 2);
    await expect(key(world, 'b')).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    expect((await key(world)).version).toBe(1);
  });

  it('is never made for a key that is stopped as a whole', async () => {
    const world = await open();
    await sealed(world, 'x');
    await world.keyring.disable('k', '', undefined);
    await expect(key(world, 'b')).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    await world.keyring.enable('k', '', undefined);
    await world.keyring.destroy('k', '', undefined);
    await expect(key(world, 'b')).rejects.toMatchObject({ code: 'KEY_DISABLED' });
  });

  it('keeps others going while it is silent: they seal, and are rotated', async () => {
    const world = await open();
    await sealed(world, 'x');
    await sealed(world, 'y', 'b');
    const fresh = await open();
    fresh.keyring.wipe('b');
    b.failure = 'UNAVAILABLE';
    await expect(key(fresh, 'b')).rejects.toMatchObject({ code: 'KMS_UNAVAILABLE' });
    expect((await key(fresh)).version).toBe(1);
    expect((await fresh.keyring.rotate(SEAL)).version).toBe(3);
    expect((await key(fresh)).version).toBe(3);
    expect(fresh.events.map(({ event }) => event)).toContain('rotation-failed');
    await expect(fresh.keyring.rotateCompromised(SEAL)).rejects.toMatchObject({ code: 'KMS_UNAVAILABLE' });
    // What is warm goes on.
    expect((await key(world, 'b')).version).toBe(2);
  });

  it('is refused where it is not configured', async () => {
    const world = await open();
    await sealed(world, 'x');
    await expect(key(world, 'nowhere')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(key(world, 'nowhere', 'new')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(await keystore.versions('new', '', 'seal')).toEqual([]);
  });

  it('gets another version once the tree of the first was moved to another root', async () => {
    const world = await open({ refreshMs: 20 });
    const beside = await open({ refreshMs: 20 });
    const old = await sealed(world, 'old', 'b');
    await sealed(beside, 'x', 'b');
    await sealed(world, 'own');
    await beside.keyring.rewrap({ from: 'b', to: 'a', limit: 100, mode: 'move' });
    expect(await rootAbove(old)).toBe('a');
    await until(async () => (await key(world, 'b')).version === 3);
    expect(await rootAbove(await sealed(world, 'new', 'b'))).toBe('b');
    expect(await rootAbove(await sealed(beside, 'new', 'b'))).toBe('b');
    expect(await world.open(old)).toBe('old');
    expect((await key(world, 'a')).version).toBe(2);
  });

  it('is found by an agent that has not seen yet that the tree was moved there', async () => {
    const world = await open();
    await sealed(world, 'x');
    const beside = await open();
    await beside.keyring.rewrap({ from: 'a', to: 'b', limit: 100, mode: 'move' });
    expect((await key(world, 'b')).version).toBe(1);
    expect(await rootAbove(await sealed(world, 'y', 'b'))).toBe('b');
  });

  it('stays what its keys hang under when all keys go to their newest parents', async () => {
    const world = await open();
    const chosen = await sealed(world, 'x', 'b');
    const own = await sealed(world, 'y');
    world.custody.setDefaultRoot('b');
    await sealed(world, 'z', '', 'makes-a-tree');
    world.custody.setDefaultRoot('a');
    await world.keyring.rewrap({ limit: 100, mode: 'move' });
    expect(await rootAbove(chosen)).toBe('b');
    expect(await rootAbove(own)).toBe('a');
  });

  it('keeps the newest of each line when old versions are retired', async () => {
    const definitions = [{ pattern: '*', rotation: { keep: 1, graceMs: 0 } }];
    const world = await open({ definitions });
    await sealed(world, 'x', 'b');
    for (let i = 0; i < 3; i++) {
      await world.keyring.rotate(SEAL).catch(() => undefined);
      await sealed(world, 'x');
    }
    clock.wall += 1;
    await world.keyring.retire();
    const states = await versions();
    // The line of b has no successor: what was sealed last there opens.
    expect(states[0]).toEqual([1, 'deactivated']);
    expect(states.filter(([, state]) => state === 'suspended').length).toBeGreaterThan(0);
    expect((await key(world, 'b')).version).toBe(states.length + 1);
  });

  it('is bound to the record: a row that claims another root is refused', async () => {
    const world = await open();
    await sealed(world, 'own');
    const chosen = await sealed(world, 'x', 'b');
    const row = (await keystore.retrieve(chosen.slice(2, 18)))!;
    expect({ ...row.keyContext }).toEqual({ 'dekd-root': 'b' });
    expect((await key(world, 'b')).keyContext).toEqual({});
    const forged = { ...row, keyContext: {}, seq: row.seq + 1n };
    await keystore.updateMetadata([{ record: forged, expect: { seq: row.seq } }]);
    const fresh = await open();
    expect((await key(fresh)).version).toBe(1);
    expect(await fresh.open(chosen)).toBeUndefined();
    expect(fresh.events.map(({ event }) => event)).toContain('record-refused');
  });
});
