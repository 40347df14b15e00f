import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { KeyRecord } from '../../src/keyring/record.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { FakeProvider } from '../support/fake-provider.ts';
import { Sandbox, TENANTS, type World } from './keyring-fixture.ts';

describe('a tenant', () => {
  let sandbox: Sandbox;
  let keystore: MemoryKeystore;
  let provider: FakeProvider;
  let world: World;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
    keystore = new MemoryKeystore();
    provider = new FakeProvider('kms');
    world = await sandbox.world({ keystore, providers: [provider], placement: TENANTS });
  });

  afterEach(() => sandbox.cleanUp());

  it('is prepared once, and then its first key costs no call to the provider', async () => {
    const made = await world.keyring.prepareTenant('acme');
    expect(made.map(({ name }) => name)).toEqual(['.l2/acme', '.l3/default']);
    const { keyCalls } = provider;
    await world.sealed('a', 'x', 'acme');
    await world.keyring.prepareTenant('acme');
    expect(provider.keyCalls).toBe(keyCalls);
    expect((await keystore.versions('.l2/acme', 'acme', 'wrap')).length).toBe(1);
  });

  it('that is destroyed opens nothing any more, here and in another agent, and no other tenant is touched', async () => {
    const token = await world.sealed('a', 'x', 'acme');
    const second = await world.sealed('b', 'x', 'acme');
    const other = await world.sealed('a', 'y', 'other');
    const none = await world.sealed('a', 'z');
    expect(await world.keyring.destroyTenant('acme')).toEqual({ destroyed: 4, left: 0 });
    const cold = await sandbox.world({ keystore, providers: [provider], placement: TENANTS });
    for (const agent of [world, cold]) {
      await expect(agent.open(token).then((text) => text ?? Promise.reject(new Error('none')))).rejects.toBeDefined();
      await expect(agent.open(second).then((text) => text ?? Promise.reject(new Error('none')))).rejects.toBeDefined();
      expect(await agent.open(other)).toBe('y');
      expect(await agent.open(none)).toBe('z');
      await expect(agent.sealed('a', 'x', 'acme')).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    }
    const { records } = await keystore.list({ partition: 'acme' }, undefined, 100);
    expect(records.map(({ state, wrapped }) => `${state} ${wrapped.length}`)).toEqual(Array(4).fill('destroyed 0'));
  });

  it('is destroyed again without harm, and from where a destruction was cut short', async () => {
    for (let i = 0; i < 60; i++) {
      await world.sealed(`k${i}`, 'x', 'acme');
    }
    const first = await world.keyring.destroyTenant('acme');
    expect(first).toEqual({ destroyed: 50, left: 12 });
    expect(await world.keyring.destroyTenant('acme')).toEqual({ destroyed: 12, left: 0 });
    expect(await world.keyring.destroyTenant('acme')).toEqual({ destroyed: 0, left: 0 });
  });

  it('has no key that another tenant or another service can open, whatever the rows say', async () => {
    const token = await world.sealed('a', 'x', 'acme');
    await world.sealed('a', 'y', 'other');
    const [row] = await keystore.versions('a', 'acme', 'seal');
    const [otherKek] = await keystore.versions('.l3/default', 'other', 'wrap');
    // A hostile keystore hangs the key under the KEK of another tenant.
    await keystore.updateMetadata([
      { record: { ...row!, parent: { kind: 'key', kid: otherKek!.kid } }, expect: { seq: row!.seq } },
    ]);
    const cold = await sandbox.world({ keystore, providers: [provider], placement: TENANTS });
    expect(await cold.open(token)).toBeUndefined();
  });

  it('that is destroyed goes with an export, into a keystore that is empty and into one that has it', async () => {
    await world.sealed('a', 'x', 'acme');
    const token = await world.sealed('a', 'y');
    await world.keyring.destroyTenant('acme');
    const records: KeyRecord[] = [];
    for await (const record of world.keyring.exportRecords()) {
      records.push(record);
    }
    const again = await world.keyring.importRecords(records, { acceptRollback: false });
    expect(again).toEqual({ imported: 0, unchanged: 5, refused: [] });
    const empty = await sandbox.world({ providers: [provider], placement: TENANTS });
    expect(await empty.keyring.importRecords(records, { acceptRollback: false })).toEqual({
      imported: 5,
      unchanged: 0,
      refused: [],
    });
    expect(await empty.open(token)).toBe('y');
    await expect(empty.sealed('a', 'x', 'acme')).rejects.toMatchObject({ code: 'KEY_DISABLED' });
  });

  it('has a name, and a tree only where levels have one', async () => {
    await expect(world.keyring.prepareTenant('')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    const flat = await sandbox.world({ providers: [new FakeProvider('kms')] });
    await expect(flat.keyring.destroyTenant('acme')).rejects.toThrow(/hierarchy.levels has no tenant/);
  });

  it('hangs as deep as levels say, and a depth that was changed moves nothing', async () => {
    const deep = await world.sealed('a', 'deep', 'acme');
    const tenantOnly = await sandbox.world({
      keystore,
      providers: [provider],
      placement: { levels: ['tenant'], rootOf: () => undefined },
    });
    const shallow = await tenantOnly.sealed('b', 'shallow', 'acme');
    const flat = await sandbox.world({
      keystore,
      providers: [provider],
      placement: { levels: ['service'], rootOf: () => undefined },
    });
    const flattest = await flat.sealed('c', 'flat', 'acme');
    const { records } = await keystore.list({ partition: 'acme' }, undefined, 100);
    const parentOf = (name: string): string => {
      const { parent } = records.find((record) => record.name === name)!;
      return parent.kind === 'root' ? parent.reference.root : Buffer.from(parent.kid).toString('hex');
    };
    const kidOf = async (name: string, tenant: string): Promise<string> =>
      Buffer.from((await keystore.versions(name, tenant, 'wrap'))[0]!.kid).toString('hex');
    expect(parentOf('a')).toBe(await kidOf('.l3/default', 'acme'));
    expect(parentOf('b')).toBe(await kidOf('.l2/acme', 'acme'));
    expect(parentOf('c')).toBe(await kidOf('.l3/default', ''));
    for (const agent of [world, tenantOnly, flat]) {
      expect([await agent.open(deep), await agent.open(shallow), await agent.open(flattest)]).toEqual([
        'deep',
        'shallow',
        'flat',
      ]);
    }
  });

  it('goes to the root that its route names, by tenant and by key, and no route is an error', async () => {
    const eu = new FakeProvider('eu');
    const us = new FakeProvider('us');
    const routed = await sandbox.world({
      providers: [eu, us],
      placement: {
        levels: ['tenant', 'service'],
        rootOf({ tenant, key }) {
          if (tenant === 'nowhere') {
            throw Object.assign(new Error('no route'), { code: 'INVALID_ARGUMENT' });
          }
          return tenant.startsWith('us-') || key === 'us-only' ? 'us' : 'eu';
        },
      },
    });
    const tokens = [
      await routed.sealed('a', '1', 'us-1'),
      await routed.sealed('a', '2', 'de-1'),
      await routed.sealed('us-only', '3', 'de-1'),
      await routed.sealed('us-only', '4'),
      await routed.sealed('a', '5'),
    ];
    expect([eu.calls.wrap, us.calls.wrap]).toEqual([2, 3]);
    expect(await Promise.all(tokens.map((token) => routed.open(token)))).toEqual(['1', '2', '3', '4', '5']);
    await expect(routed.sealed('a', 'x', 'nowhere')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});
