import { copyFile, readFile } from 'node:fs/promises';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DataPurpose } from '../../src/keyring/keyring.ts';
import type { KeyRecord } from '../../src/keyring/record.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { SqliteKeystore } from '../../src/keystores/sqlite.ts';
import { Sandbox, until, type World } from './keyring-fixture.ts';

/** Rows that somebody else wrote: each is refused, and what is beside it goes on. */
describe('Keyring over rows that were changed outside of dekd', () => {
  let sandbox: Sandbox;
  let keystore: MemoryKeystore;
  let victim: Uint8Array;
  let bystander: Uint8Array;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
    keystore = new MemoryKeystore();
    const world = await sandbox.world({ keystore });
    victim = await world.sealed('victim', 'secret', 'p');
    bystander = await world.sealed('bystander', 'fine', 'p');
  });

  afterEach(() => sandbox.cleanUp());

  const row = async (token: Uint8Array) => (await keystore.retrieve(token.slice(2, 18)))!;

  async function edit(token: Uint8Array, change: (record: KeyRecord) => Partial<KeyRecord>): Promise<void> {
    const record = await row(token);
    await keystore.store({ ...record, ...change(record) }, { seq: record.seq });
  }

  async function expectRefused(world: World): Promise<void> {
    expect(await world.open(victim)).toBeUndefined();
    expect(await world.open(bystander)).toBe('fine');
    expect(world.events.filter(({ event }) => event === 'record-refused').length).toBeGreaterThan(0);
  }

  const edits: Record<string, (record: KeyRecord) => Partial<KeyRecord>> = {
    name: () => ({ name: 'other' }),
    partition: () => ({ partition: 'q' }),
    version: () => ({ version: 2 }),
    algorithm: () => ({ algorithm: 'esdk-0478' }),
    size: () => ({ size: 16 }),
    'state to another that opens': () => ({ state: 'deactivated' }),
    tenant: (record) => ({ owner: { ...record.owner, tenant: 't' } }),
    service: (record) => ({ owner: { ...record.owner, service: 's' } }),
    node: (record) => ({ owner: { ...record.owner, node: 'm' } }),
    created: (record) => ({ dates: { ...record.dates, created: 1 } }),
    activated: (record) => ({ dates: { ...record.dates, activated: 1 } }),
    'key context': () => ({ keyContext: { a: 'b' } }),
    seq: (record) => ({ seq: record.seq + 1n }),
    mac: (record) => ({ mac: flipped(record.mac) }),
    'wrapped bytes': (record) => ({ wrapped: flipped(record.wrapped) }),
    'wrapped bytes cut short': (record) => ({ wrapped: record.wrapped.slice(1) }),
  };
  for (const [field, change] of Object.entries(edits)) {
    it(`refuses a row whose ${field} was edited`, async () => {
      await edit(victim, change);
      await expectRefused(await sandbox.world({ keystore }));
    });
  }

  it('opens no token with a row that says it is no key for tokens', async () => {
    for (const change of [{ level: 3 }, { purpose: 'mac', algorithm: 'hmac-sha-256' }, { purpose: 'wrap' }] as const) {
      await edit(victim, () => change);
      const world = await sandbox.world({ keystore });
      expect(await world.open(victim)).toBeUndefined();
      expect(await world.open(bystander)).toBe('fine');
    }
  });

  it('refuses a flip anywhere in wrapped bytes and MAC', async () => {
    const world = await sandbox.world({ keystore });
    const original = await row(victim);
    for (let byte = 0; byte < original.wrapped.length; byte += 8) {
      await edit(victim, () => ({ wrapped: flipped(original.wrapped, byte) }));
      expect(await world.open(victim)).toBeUndefined();
    }
    for (let byte = 0; byte < original.mac.length; byte += 8) {
      await edit(victim, () => ({ wrapped: original.wrapped, mac: flipped(original.mac, byte) }));
      expect(await world.open(victim)).toBeUndefined();
    }
    await edit(victim, () => original);
    expect(await world.open(victim)).toBe('secret');
  });

  it('refuses wrapped bytes that two rows have swapped', async () => {
    const [a, b] = [await row(victim), await row(bystander)];
    await edit(victim, () => ({ wrapped: b.wrapped }));
    await edit(bystander, () => ({ wrapped: a.wrapped }));
    const world = await sandbox.world({ keystore });
    expect(await world.open(victim)).toBeUndefined();
    expect(await world.open(bystander)).toBeUndefined();
  });

  it('refuses a row that was put under the kid of another', async () => {
    const other = await row(bystander);
    const forged = new MemoryKeystore();
    for (const record of (await keystore.list({}, undefined, 100)).records) {
      const { kid } = record;
      await forged.store(record.name === 'victim' ? { ...other, kid, name: 'victim' } : record, { absent: true });
    }
    const world = await sandbox.world({ keystore: forged });
    expect(await world.open(victim)).toBeUndefined();
    expect(await world.open(bystander)).toBe('fine');
  });

  it('refuses a row that was injected with a key of the attacker, for sealing too', async () => {
    const foreign = await sandbox.world({ keyFile: sandbox.writeRoot('attacker.key') });
    const token = await foreign.sealed('injected', 'chosen', 'p');
    const [kek] = (await foreign.keystore.list({ level: 3 }, undefined, 1)).records;
    await keystore.store((await foreign.keystore.retrieve(token.slice(2, 18)))!, { absent: true });
    const world = await sandbox.world({ keystore });
    expect(await world.open(token)).toBeUndefined();
    await expect(world.sealed('injected', 'x', 'p')).rejects.toMatchObject({ code: 'KEYSTORE_UNAVAILABLE' });
    // With the attacker's KEK beside it the row is whole, but its root is none of ours.
    await keystore.store({ ...kek!, version: 2 }, { absent: true });
    await expect(world.open(token)).rejects.toMatchObject({ code: 'KMS_DENIED' });
    expect(await world.open(bystander)).toBe('fine');
  });

  it('honours a denial without a good MAC, cold and warm, and never takes it back without one', async () => {
    const warm = await sandbox.world({ keystore, refreshMs: 10 });
    expect(await warm.open(victim)).toBe('secret');
    const original = await row(victim);
    await edit(victim, () => ({ state: 'suspended' }));
    const cold = await sandbox.world({ keystore });
    await expect(cold.open(victim)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    await expect(cold.sealed('victim', 'x', 'p')).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    await until(() =>
      warm.open(victim).then(
        () => false,
        (error) => error.code === 'KEY_DISABLED',
      ),
    );
    await edit(victim, () => ({ state: 'deactivated' }));
    await new Promise((resolve) => setTimeout(resolve, 40));
    await expect(warm.open(victim)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    await expect(cold.keyring.enable('victim', 'p', undefined)).resolves.toMatchObject([{ state: 'deactivated' }]);
    await edit(victim, () => original);
    await until(() =>
      warm.open(victim).then(
        (text) => text === 'secret',
        () => false,
      ),
    );
  });

  it('takes no key for the one that a denied row said it was', async () => {
    for (const lie of [
      { name: 'stranger' },
      { partition: 'q' },
      { purpose: 'message', algorithm: 'esdk-0478' },
    ] as const) {
      const world = await sandbox.world({ keystore });
      const original = await row(victim);
      await edit(victim, () => ({ ...lie, state: 'suspended' }));
      await expect(world.open(victim)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
      await edit(victim, () => original);
      const { name, partition, purpose } = { ...original, ...lie };
      // The keystore shows the true row when it is asked for that of the lie.
      const { versions } = keystore;
      keystore.versions = async () => [original];
      await world.keyring
        .prepareSealing(name, partition, 'x', undefined, purpose as DataPurpose)
        .catch(() => undefined);
      keystore.versions = versions;
      const { keyring } = world;
      const taken = keyring.sealingFor(purpose as DataPurpose, name, partition);
      expect(taken).toBeUndefined();
      await world.sealed('victim', 'x', 'p');
      expect(keyring.opening(victim, 2)).toMatchObject({ name: 'victim', partition: 'p', purpose: 'seal' });
      expect(await world.open(victim)).toBe('secret');
    }
  });

  it('never takes an older row for the one in use, though its MAC is good', async () => {
    const world = await sandbox.world({ keystore, refreshMs: 5 });
    expect(await world.open(victim)).toBe('secret');
    const original = await row(victim);
    await world.keyring.disable('victim', 'p', undefined);
    await keystore.store(original, { seq: 2n });
    await new Promise((resolve) => setTimeout(resolve, 40));
    await expect(world.open(victim)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    expect(world.events.some(({ event }) => event === 'rollback-refused')).toBe(true);
  });

  it('never enables what was disabled without a good MAC', async () => {
    await edit(victim, (record) => ({ state: 'suspended', owner: { ...record.owner, node: 'm' } }));
    const world = await sandbox.world({ keystore });
    await expect(world.keyring.enable('victim', 'p', undefined)).rejects.toMatchObject({
      code: 'KEYSTORE_UNAVAILABLE',
      message: expect.stringContaining('MAC of the row does not match'),
    });
  });

  it('can still disable and destroy a row that is refused', async () => {
    await edit(victim, (record) => ({ owner: { ...record.owner, node: 'm' } }));
    const world = await sandbox.world({ keystore });
    await world.keyring.disable('victim', 'p', undefined);
    await expect(world.open(victim)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    await world.keyring.destroy('victim', 'p', undefined);
    expect((await row(victim)).wrapped.length).toBe(0);
  });

  it('goes on sealing and rotating beside a newer version that was injected', async () => {
    const foreign = await sandbox.world({ keyFile: sandbox.writeRoot('attacker.key') });
    const token = await foreign.sealed('bystander', 'chosen', 'p');
    await keystore.store({ ...(await foreign.keystore.retrieve(token.slice(2, 18)))!, version: 99 }, { absent: true });
    const world = await sandbox.world({ keystore });
    const key = await world.keyring.prepareSealing('bystander', 'p', 'x', undefined);
    expect(key.version).toBe(1);
    expect((await world.keyring.rotate({ name: 'bystander', partition: 'p', purpose: 'seal' })).version).toBe(100);
    expect((await world.keyring.prepareSealing('bystander', 'p', 'x', undefined)).version).toBe(100);
    expect(await world.open(bystander)).toBe('fine');
    expect(world.events.some(({ event, version }) => event === 'record-refused' && version === 99)).toBe(true);
  });

  it('disables the versions beside a row that is refused, and says so', async () => {
    const world = await sandbox.world({ keystore });
    await world.keyring.rotate({ name: 'victim', partition: 'p', purpose: 'seal' });
    const newer = await world.sealed('victim', 'new', 'p');
    await edit(newer, (record) => ({ mac: flipped(record.mac) }));
    const again = await sandbox.world({ keystore });
    expect(await again.open(victim)).toBe('secret');
    expect(await again.keyring.disable('victim', 'p', 1)).toMatchObject([{ version: 1, state: 'suspended' }]);
    await expect(again.open(victim)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    expect(await again.open(newer)).toBeUndefined();
  });

  it('makes no key under a KEK that is refused, and says KEYSTORE_UNAVAILABLE', async () => {
    const [kek] = (await keystore.list({ level: 3 }, undefined, 1)).records;
    await keystore.store({ ...kek!, mac: flipped(kek!.mac) }, { seq: kek!.seq });
    const world = await sandbox.world({ keystore });
    expect(world.events.map(({ event }) => event)).toEqual(['record-refused']);
    await expect(world.sealed('new', 'x')).rejects.toMatchObject({ code: 'KEYSTORE_UNAVAILABLE' });
    await expect(world.sealed('victim', 'x', 'p')).rejects.toMatchObject({ code: 'KEYSTORE_UNAVAILABLE' });
    expect(await world.open(victim)).toBeUndefined();
  });

  it('stops everything below a KEK that is denied', async () => {
    const world = await sandbox.world({ keystore, refreshMs: 10 });
    expect(await world.open(victim)).toBe('secret');
    const [kek] = (await keystore.list({ level: 3 }, undefined, 1)).records;
    await keystore.store({ ...kek!, state: 'suspended' }, { seq: kek!.seq });
    for (const token of [victim, bystander]) {
      await until(() =>
        world.open(token).then(
          (text) => text === undefined,
          (error) => error.code === 'KEY_DISABLED',
        ),
      );
    }
    await expect(world.sealed('victim', 'x', 'p')).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    await keystore.store(kek!, { seq: kek!.seq });
    await until(() =>
      world.open(victim).then(
        (text) => text === 'secret',
        () => false,
      ),
    );
  });
});

describe('Keyring over a keystore that was put back', () => {
  let sandbox: Sandbox;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
  });

  afterEach(() => sandbox.cleanUp());

  const request = { name: 'a', partition: '', purpose: 'seal' } as const;
  const open = async (options = {}) =>
    sandbox.world({
      keystore: await SqliteKeystore.open({ path: sandbox.path('keys.db') }),
      stateFolder: sandbox.path('state'),
      ...options,
    });

  it('refuses the older rows, until they are accepted, and serves the others', async () => {
    let world = await open();
    const other = await world.sealed('other', 'fine');
    const old = await world.sealed('a', 'old');
    await world.close();
    await copyFile(sandbox.path('keys.db'), sandbox.path('old.db'));
    world = await open();
    await world.keyring.rotate(request);
    const lost = await world.sealed('a', 'new');
    await world.close();
    await copyFile(sandbox.path('old.db'), sandbox.path('keys.db'));

    world = await open();
    expect(world.keyring.stats().rollback).toBe('detected');
    expect(await world.open(old)).toBeUndefined();
    await expect(world.sealed('a', 'x')).rejects.toMatchObject({ code: 'KEYSTORE_UNAVAILABLE' });
    await expect(world.keyring.rotate(request)).rejects.toMatchObject({
      code: 'KEYSTORE_UNAVAILABLE',
      message: expect.stringContaining('--accept-rollback'),
    });
    expect(await world.open(other)).toBe('fine');
    expect(world.events.some(({ event }) => event === 'rollback-refused')).toBe(true);

    const records: KeyRecord[] = [];
    for await (const record of world.keyring.exportRecords()) {
      records.push(record);
    }
    const refusal = await world.keyring.importRecords(records, { acceptRollback: false });
    expect(refusal.refused).toMatchObject([{ reason: expect.stringContaining('--accept-rollback') }]);
    const report = await world.keyring.importRecords(records, { acceptRollback: true });
    expect(report.refused).toEqual([]);
    expect(await world.open(old)).toBe('old');
    expect(await world.open(await world.sealed('a', 'again'))).toBe('again');
    expect(await world.open(lost)).toBeUndefined();
    await world.close();
    world = await open();
    expect(await world.open(old)).toBe('old');
  });

  it('makes no new first version of a key that is gone from the keystore', async () => {
    const world = await open();
    await world.sealed('a', 'x');
    await world.close();
    const empty = await open({ keystore: await SqliteKeystore.open({ path: sandbox.path('empty.db') }) });
    await expect(empty.sealed('a', 'x')).rejects.toMatchObject({ code: 'KEYSTORE_UNAVAILABLE' });
    expect((await empty.keystore.list({}, undefined, 10)).records).toEqual([]);
  });

  it('notices a row that was deleted', async () => {
    let world = await open();
    await world.sealed('a', 'x');
    await world.keyring.rotate(request);
    await world.close();
    const db = new DatabaseSync(sandbox.path('keys.db'));
    db.exec("DELETE FROM record WHERE name = 'a' AND version = 2");
    db.exec("UPDATE record SET state = 'active' WHERE name = 'a' AND version = 1");
    db.close();
    world = await open();
    await expect(world.sealed('a', 'x')).rejects.toMatchObject({ code: 'KEYSTORE_UNAVAILABLE' });
  });

  it('has written down what it saw before the key is used', async () => {
    let world = await open();
    const token = await world.sealed('a', 'x');
    await world.close();
    world = await open({ stateFolder: sandbox.path('another state') });
    expect(await world.open(token)).toBe('x');
    const seen = await readFile(sandbox.path('another state/high-water'), 'utf8');
    expect(seen).toContain(Buffer.from(token.slice(2, 18)).toString('hex'));
  });

  it('says that it notices nothing without a state folder', async () => {
    const world = await sandbox.world({ keystore: await SqliteKeystore.open({ path: sandbox.path('keys.db') }) });
    expect(world.keyring.stats().rollback).toBe('undetected');
    expect(world.events).toMatchObject([{ event: 'rollback-undetected' }]);
  });
});

function flipped(bytes: Uint8Array, at = 20): Uint8Array {
  const copy = bytes.slice();
  copy[at]! ^= 1;
  return copy;
}
