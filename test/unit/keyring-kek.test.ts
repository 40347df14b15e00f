import { openSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hex } from '../../src/bytes.ts';
import type { KeyRecord } from '../../src/keyring/record.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { FakeProvider } from '../support/fake-provider.ts';
import { FakeClock, Sandbox, TENANTS, type World, type WorldOptions } from './keyring-fixture.ts';

const KEK = { name: '.l3/default', partition: '', purpose: 'wrap' } as const;

describe('KEKs', () => {
  let sandbox: Sandbox;
  let keystore: MemoryKeystore;
  let clock: FakeClock;
  let world: World;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
    keystore = new MemoryKeystore();
    clock = new FakeClock();
    world = await open();
  });

  afterEach(() => sandbox.cleanUp());

  describe('when another root becomes the default', () => {
    it('get their next version there: every new key hangs under the new root, and every old one opens', async () => {
      const providers = [new FakeProvider('a'), new FakeProvider('b')];
      const agent = await open({ providers });
      const before = [await agent.sealed('k', 'old'), await agent.sealed('k', 'old', 'acme')];
      agent.custody.setDefaultRoot('b');
      const after = [
        await agent.sealed('new', 'new'),
        await agent.sealed('new', 'new', 'acme'),
        await agent.sealed('new', 'new', 'fresh'),
      ];
      await agent.keyring.rotate({ name: 'k', partition: '', purpose: 'seal' });
      const rotated = await agent.sealed('k', 'rotated');
      for (const token of [...after, rotated]) {
        expect(await rootAbove(token)).toBe('b');
      }
      for (const token of before) {
        expect(await rootAbove(token)).toBe('a');
        expect(await agent.open(token)).toBe('old');
      }
      expect(await agent.open(rotated)).toBe('rotated');
    });

    it('cost no request anything: 64 callers seal while the default goes back and forth', async () => {
      const agent = await open({ providers: [new FakeProvider('a'), new FakeProvider('b')] });
      let isOver = false;
      const tokens: Uint8Array[] = [];
      const callers = Array.from({ length: 64 }, async (_, caller) => {
        for (let i = 0; !isOver; i++) {
          tokens.push(await agent.sealed(`k${caller}-${i % 5}`, 'x', i % 2 === 0 ? '' : `t${caller % 4}`));
          await new Promise((resolve) => setImmediate(resolve));
        }
      });
      for (let i = 0; i < 10; i++) {
        agent.custody.setDefaultRoot(i % 2 === 0 ? 'b' : 'a');
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      isOver = true;
      await Promise.all(callers);
      for (const token of tokens) {
        expect(await agent.open(token)).toBe('x');
      }
      const versions = await keystore.versions('.l3/default', '', 'wrap');
      expect(versions.map(({ version, state }) => [version, state])).toEqual([
        [1, 'active'],
        [2, 'active'],
      ]);
    });

    it('are not rotated in turns by agents that disagree about the default', async () => {
      const providers = (): FakeProvider[] => [a, b];
      const [a, b] = [new FakeProvider('a'), new FakeProvider('b')];
      const one = await open({ providers: providers() });
      const two = await open({ providers: providers() });
      two.custody.setDefaultRoot('b');
      for (let i = 0; i < 5; i++) {
        await one.sealed(`one${i}`, 'x');
        await two.sealed(`two${i}`, 'x');
      }
      expect(await keystore.versions('.l3/default', '', 'wrap')).toHaveLength(2);
    });

    it('are not made anew where the operator stopped them', async () => {
      const agent = await open({ providers: [new FakeProvider('a'), new FakeProvider('b')] });
      await agent.sealed('k', 'x');
      await agent.keyring.disable('.l3/default', '', undefined);
      agent.custody.setDefaultRoot('b');
      await expect(agent.sealed('other', 'x')).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    });
  });

  describe('that are rotated', () => {
    it('wrap new keys with the new version, and open old ones with the old', async () => {
      const old = await world.sealed('k', 'old');
      expect(await world.keyring.rotate(KEK)).toMatchObject({ version: 2, state: 'active', level: 3 });
      const made = await world.sealed('other', 'new');
      expect(await parentVersion(old)).toBe(1);
      expect(await parentVersion(made)).toBe(2);
      const fresh = await open();
      expect(await fresh.open(old)).toBe('old');
      expect(await states()).toEqual(['deactivated', 'active']);
    });

    it('are one of each version however many agents rotate at once', async () => {
      await world.sealed('k', 'x');
      const agents = await Promise.all(Array.from({ length: 4 }, () => open()));
      const made = await Promise.all(agents.map((agent) => agent.keyring.rotate(KEK)));
      expect((await states()).filter((state) => state === 'active')).toHaveLength(1);
      expect(new Set(made.map(({ version }) => version)).size).toBeLessThanOrEqual(4);
      expect((await (await open()).sealed('k2', 'y')).length).toBeGreaterThan(0);
    });

    it('are those of a tenant by its name, and nothing else begins with a dot', async () => {
      await world.sealed('k', 'x', 'acme');
      expect(await world.keyring.rotate({ name: '.l2/acme', partition: 'acme', purpose: 'wrap' })).toMatchObject({
        level: 2,
        version: 2,
      });
      for (const [name, partition] of [
        ['.l2/acme', 'other'],
        ['.l2/', ''],
        ['.l4/x', ''],
        ['.l3/', ''],
        ['.l3/.x', ''],
      ] as const) {
        await expect(world.keyring.rotate({ name, partition, purpose: 'wrap' })).rejects.toMatchObject({
          code: 'INVALID_ARGUMENT',
        });
      }
      await expect(world.keyring.rotate({ ...KEK, purpose: 'seal' })).rejects.toThrow(/purpose .* is wrap/);
      await expect(world.keyring.create({ ...KEK, name: '.l3/new' })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
      expect(await world.keyring.describe('.l2/acme', 'acme')).toHaveLength(2);
    });

    it('in an emergency leave the version before compromised, in the one write that makes the new one seal', async () => {
      const token = await world.sealed('k', 'x');
      const writes = spyOnWrites();
      await world.keyring.rotateCompromised({ name: 'k', partition: '', purpose: 'seal' });
      expect(writes.at(-1)!.map(({ version, state }) => [version, state])).toEqual([
        [2, 'active'],
        [1, 'compromised'],
      ]);
      await world.keyring.rotateCompromised(KEK);
      expect(await states()).toEqual(['compromised', 'active']);
      expect(await world.open(token)).toBe('x');
      expect((await world.sealed('k', 'y')).length).toBeGreaterThan(0);
    });

    it('leave what sealed compromised also when another agent rotates at the same moment', async () => {
      await world.sealed('k', 'x');
      const other = await open();
      const key = { name: 'k', partition: '', purpose: 'seal' } as const;
      await Promise.all([world.keyring.rotateCompromised(key), other.keyring.rotate(key)]);
      const [first] = await keystore.versions('k', '', 'seal');
      expect(first!.state).toBe('compromised');
    });
  });

  it('of one root are wiped with all below, and nobody notices but its provider', async () => {
    const [a, b] = [new FakeProvider('a'), new FakeProvider('b')];
    const agent = await open({ providers: [a, b] });
    const under = await agent.sealed('k', 'a');
    agent.custody.setDefaultRoot('b');
    const other = await agent.sealed('new', 'b');
    const { used } = agent.engine.stats();
    agent.keyring.wipe('a');
    expect(agent.engine.stats().used).toBe(used - 2);
    const calls = [a.keyCalls, b.keyCalls];
    expect(await agent.open(under)).toBe('a');
    expect(await agent.open(other)).toBe('b');
    expect([a.keyCalls, b.keyCalls]).toEqual([calls[0]! + 1, calls[1]]);
    agent.keyring.wipe(undefined);
    expect(agent.engine.stats().used).toBe(used - 4);
    expect((await agent.sealed('k', 'again')).length).toBeGreaterThan(0);
  });

  describe('that are to be destroyed', () => {
    it('are refused while keys hang under them, with how many', async () => {
      await world.sealed('a', 'x');
      const token = await world.sealed('b', 'x');
      await world.keyring.rotate(KEK);
      clock.elapsed += 600_000;
      await expect(world.keyring.destroy(KEK.name, '', 1)).rejects.toThrow(/2 keys hang under version 1/);
      await world.keyring.rewrap({ mode: 'move', limit: 100 });
      expect(await world.keyring.destroy(KEK.name, '', 1)).toMatchObject([{ version: 1, state: 'destroyed' }]);
      expect(await (await open()).open(token)).toBe('x');
    });

    it('are refused while they wrap, and for as long as an agent may not know that they stopped', async () => {
      await world.sealed('a', 'x');
      await expect(world.keyring.destroy(KEK.name, '', undefined)).rejects.toThrow(/one version at a time/);
      await expect(world.keyring.destroy(KEK.name, '', 1)).rejects.toThrow(/is active: rotate/);
      await world.keyring.rotate(KEK);
      await world.keyring.rewrap({ mode: 'move', limit: 100 });
      await expect(world.keyring.destroy(KEK.name, '', 1)).rejects.toThrow(/less than 10 minutes ago/);
    });
  });

  describe('that are brought', () => {
    const SERVICE = { name: '.l3/default', level: 3, tenant: '' } as const;

    it('wrap new keys from then on, and are the same key for every agent', async () => {
      const old = await world.sealed('k', 'old');
      const [kid, imported] = await bring('own.key');
      expect(imported).toMatchObject({ kid, version: 2, state: 'active' });
      expect(await states()).toEqual(['deactivated', 'active']);
      const token = await world.sealed('new', 'new');
      expect(await parentVersion(token)).toBe(2);
      const fresh = await open();
      expect(await fresh.open(token)).toBe('new');
      expect(await fresh.open(old)).toBe('old');
    });

    it('change nothing the second time', async () => {
      await world.sealed('k', 'x');
      const [, first] = await bring('own.key');
      const [, second] = await bring('own.key', false);
      expect(second).toEqual(first);
      expect(await states()).toEqual(['deactivated', 'active']);
    });

    it('can be the first version, and then there is no other', async () => {
      const [kid] = await bring('own.key');
      const token = await world.sealed('k', 'x');
      expect((await keystore.versions('.l3/default', '', 'wrap')).map((row) => hex(row.kid))).toEqual([kid]);
      expect(await (await open()).open(token)).toBe('x');
    });

    it('are refused under another kid than was expected, under another name, and once they stopped', async () => {
      await world.sealed('k', 'x');
      sandbox.writeRoot('own.key');
      const key = read('own.key');
      const kid = hex(world.engine.kid(key));
      await expect(world.keyring.importKek(SERVICE, key, '00'.repeat(16))).rejects.toThrow(/nothing was imported/);
      expect(await states()).toEqual(['active']);
      await world.keyring.importKek(SERVICE, key, kid.toUpperCase());
      const tenant = { name: '.l2/acme', level: 2, tenant: 'acme' } as const;
      await expect(world.keyring.importKek(tenant, key, undefined)).rejects.toThrow(/one key has one name/);
      await world.keyring.rotate(KEK);
      await expect(world.keyring.importKek(SERVICE, key, undefined)).rejects.toThrow(/already, and deactivated/);
    });

    it('are refused when they are the root key itself', async () => {
      const key = read('root.key');
      await expect(world.keyring.importKek(SERVICE, key, undefined)).rejects.toThrow(/a root key cannot wrap itself/);
    });

    /** @returns the kid of the key in the file, and what the import said */
    async function bring(file: string, isNew = true) {
      if (isNew) {
        sandbox.writeRoot(file);
      }
      const key = read(file);
      try {
        return [hex(world.engine.kid(key)), await world.keyring.importKek(SERVICE, key, undefined)] as const;
      } finally {
        world.engine.destroyKey(key);
      }
    }

    function read(file: string) {
      return world.engine.readRootKey(openSync(sandbox.path(file), 'r'));
    }
  });

  async function open(options: WorldOptions = {}): Promise<World> {
    return sandbox.world({
      keystore,
      clock,
      refreshMs: 3_600_000,
      placement: TENANTS,
      ...options,
    });
  }

  async function states(): Promise<string[]> {
    return (await keystore.versions('.l3/default', '', 'wrap')).map(({ state }) => state);
  }

  /** The row of the KEK above the key of a token. */
  async function above(token: Uint8Array): Promise<KeyRecord> {
    const row = (await keystore.retrieve(token.slice(2, 18)))!;
    return row.parent.kind === 'key' ? (await keystore.retrieve(row.parent.kid))! : row;
  }

  async function parentVersion(token: Uint8Array): Promise<number> {
    return (await above(token)).version;
  }

  async function rootAbove(token: Uint8Array): Promise<string> {
    let row = await above(token);
    while (row.parent.kind === 'key') {
      row = (await keystore.retrieve(row.parent.kid))!;
    }
    return row.parent.reference.root;
  }

  function spyOnWrites(): (readonly KeyRecord[])[] {
    const writes: (readonly KeyRecord[])[] = [];
    const update = keystore.updateMetadata.bind(keystore);
    keystore.updateMetadata = async (changes) => {
      await update(changes);
      writes.push(changes.map(({ record }) => record));
    };
    return writes;
  }
});
