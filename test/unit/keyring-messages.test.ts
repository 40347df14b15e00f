import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DATA_KEY_INFO_LENGTH, DATA_KEY_USE } from '../../src/crypto/engine.ts';
import { DekdError } from '../../src/errors.ts';
import type { DataKey } from '../../src/keyring/keyring.ts';
import type { KeyRecord } from '../../src/keyring/record.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { SqliteKeystore } from '../../src/keystores/sqlite.ts';
import { FakeProvider } from '../support/fake-provider.ts';
import { FakeClock, Sandbox, TENANTS, until, type World } from './keyring-fixture.ts';

const refuse = () => {
  throw new DekdError('PERMISSION_DENIED', 'creation is not allowed');
};
const MESSAGE = { name: 'a', partition: '', purpose: 'message' } as const;
const NOTHING = new Uint8Array(0);

describe('keys for messages', () => {
  let sandbox: Sandbox;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
  });

  afterEach(() => sandbox.cleanUp());

  function prepared(world: World, create: (() => void) | undefined = () => undefined, name = 'a'): Promise<DataKey> {
    return world.keyring.prepareSealing(name, '', 'caller', create, 'message');
  }

  /** A data key wrapped under the message key, which begins with the kid in hex. */
  async function wrapped(world: World, create?: () => void): Promise<Uint8Array> {
    const key = await prepared(world, create);
    const dataKey = world.keyring.room(() => world.engine.generateKey(DATA_KEY_USE));
    try {
      key.used(1, 0);
      return world.engine.wrapDataKey(key.handle(), dataKey, NOTHING);
    } finally {
      world.engine.destroyKey(dataKey);
    }
  }

  const kidOf = (bytes: Uint8Array) =>
    new Uint8Array(Buffer.from(Buffer.from(bytes.subarray(0, 32)).toString(), 'hex'));

  /** Unwraps it again. @returns the version; undefined when no key has its kid */
  async function unwrapped(world: World, bytes: Uint8Array): Promise<number | undefined> {
    const kid = kidOf(bytes);
    const key = world.keyring.opening(kid, 0) ?? (await world.keyring.prepareOpening(kid, 'caller'));
    if (key === undefined) {
      return undefined;
    }
    const info = bytes.subarray(0, DATA_KEY_INFO_LENGTH);
    const encrypted = bytes.subarray(DATA_KEY_INFO_LENGTH);
    const dataKey = world.keyring.room(() => world.engine.unwrapDataKey(key.handle(), info, encrypted, NOTHING));
    world.engine.destroyKey(dataKey);
    return key.version;
  }

  async function states(world: World): Promise<unknown> {
    return (await world.keyring.describe('a', '')).map(({ purpose, version, state }) => [purpose, version, state]);
  }

  it('are made on first use, with versions of their own beside those for tokens', async () => {
    const world = await sandbox.world();
    await world.sealed('a', 'x');
    await world.keyring.rotate({ ...MESSAGE, purpose: 'seal' });
    expect(world.keyring.sealingFor('message', 'a', '')).toBeUndefined();
    const key = await prepared(world);
    expect(key).toMatchObject({ name: 'a', partition: '', purpose: 'message', version: 1, state: 'active' });
    expect(world.keyring.sealingFor('message', 'a', '')).toBe(key);
    const seal = await world.keyring.prepareSealing('a', '', 'caller', refuse);
    expect(seal).toMatchObject({ purpose: 'seal', version: 2 });
    expect(world.keyring.sealing('a', '')).toBe(seal);
    expect(await states(world)).toEqual([
      ['seal', 1, 'deactivated'],
      ['seal', 2, 'active'],
      ['message', 1, 'active'],
    ]);
    const row = await world.keystore.retrieve(key.kid);
    expect(row).toMatchObject({ level: 4, algorithm: 'esdk-0478', parent: { kind: 'key' } });
  });

  it('are made with leave, which a key for tokens of that name does not give', async () => {
    const world = await sandbox.world();
    await world.sealed('a', 'x');
    await expect(prepared(world, refuse)).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
    await expect(world.keyring.prepareSealing('a', '', 'x', undefined, 'message')).rejects.toMatchObject({
      code: 'KEY_NOT_FOUND',
    });
    expect(await states(world)).toEqual([['seal', 1, 'active']]);
    await prepared(world);
    expect((await prepared(world, refuse)).version).toBe(1);
  });

  it('are made once for any number of callers, who ask for the other purpose at the same time', async () => {
    const world = await sandbox.world();
    const versions = vi.spyOn(world.keystore, 'versions');
    const keys = await Promise.all(
      Array.from({ length: 60 }, (_, i) =>
        world.keyring.prepareSealing('a', '', 'x', () => undefined, i % 2 === 0 ? 'message' : 'seal'),
      ),
    );
    expect(new Set(keys).size).toBe(2);
    expect(keys.every(({ purpose }, i) => purpose === (i % 2 === 0 ? 'message' : 'seal'))).toBe(true);
    expect((await world.keystore.list({ level: 4 }, undefined, 10)).records.length).toBe(2);
    // Once to see that there is none, and once to load it.
    expect(versions.mock.calls.filter(([, , purpose]) => purpose === 'message').length).toBe(2);
  });

  it('are found by kid after a restart, and say that they are for messages', async () => {
    const keystore = new MemoryKeystore();
    const bytes = await wrapped(await sandbox.world({ keystore }));
    const again = await sandbox.world({ keystore });
    expect(await unwrapped(again, bytes)).toBe(1);
    expect(again.keyring.opening(kidOf(bytes), 0)).toMatchObject({ name: 'a', purpose: 'message' });
    expect(again.keyring.sealing('a', '')).toBeUndefined();
  });

  it('carry the key context of their record, and the names that a call needs', async () => {
    const definitions = [{ pattern: 'a', keyContext: { environment: 'prod' }, requiredContext: ['table'] }];
    const key = await prepared(await sandbox.world({ definitions }));
    expect({ ...key.keyContext }).toEqual({ environment: 'prod' });
    expect(key.requiredContext).toEqual(['table']);
  });

  it('are none for a name that is direct', async () => {
    const world = await sandbox.world({ definitions: [{ pattern: 'a', direct: true }] });
    await expect(prepared(world)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining("'a' is direct"),
    });
    expect((await world.keystore.list({ level: 4 }, undefined, 10)).records).toEqual([]);
    await prepared(world, () => undefined, 'b');
  });

  it('are rotated without those for tokens, and these without them, in this agent at once', async () => {
    const world = await sandbox.world();
    const token = await world.sealed('a', 'x');
    const bytes = await wrapped(world);
    await world.keyring.rotate(MESSAGE);
    expect(world.keyring.opening(kidOf(bytes), 0)?.state).toBe('deactivated');
    expect(world.keyring.sealingFor('message', 'a', '')).toBeUndefined();
    expect((await prepared(world, refuse)).version).toBe(2);
    expect(world.keyring.sealing('a', '')?.version).toBe(1);
    await world.keyring.rotate({ ...MESSAGE, purpose: 'seal' });
    expect(world.keyring.sealingFor('message', 'a', '')?.version).toBe(2);
    expect(await unwrapped(world, bytes)).toBe(1);
    expect(await world.open(token)).toBe('x');
    await world.keyring.rotateCompromised(MESSAGE);
    expect(await states(world)).toEqual([
      ['seal', 1, 'deactivated'],
      ['seal', 2, 'active'],
      ['message', 1, 'deactivated'],
      ['message', 2, 'compromised'],
      ['message', 3, 'active'],
    ]);
  });

  it('are disabled, compromised and destroyed without those for tokens, and these without them', async () => {
    const world = await sandbox.world();
    const { keyring } = world;
    const token = await world.sealed('a', 'x');
    const bytes = await wrapped(world);
    await keyring.disable('a', '', undefined, 'message');
    expect(keyring.sealingFor('message', 'a', '')).toBeUndefined();
    expect(keyring.opening(kidOf(bytes), 0)?.state).toBe('suspended');
    await expect(unwrapped(world, bytes)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    await expect(prepared(world, refuse)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    expect(await world.open(token)).toBe('x');
    expect(keyring.sealing('a', '')).toBeDefined();
    await keyring.enable('a', '', 1, 'message');
    await keyring.disable('a', '', 1, 'seal');
    await expect(world.open(token)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    expect(await unwrapped(world, bytes)).toBe(1);
    await keyring.markCompromised('a', '', 1, 'message');
    await keyring.destroy('a', '', 1, 'message');
    await expect(unwrapped(world, bytes)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    expect(await states(world)).toEqual([
      ['seal', 1, 'suspended'],
      ['message', 1, 'destroyed'],
    ]);
    await keyring.enable('a', '', 1, 'seal');
    expect(await world.open(token)).toBe('x');
    await expect(keyring.destroy('a', '', 1, 'mac')).rejects.toMatchObject({ code: 'KEY_NOT_FOUND' });
    await expect(keyring.destroy('a', '', 1, 'wrap')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  it('are stopped with those for tokens when no purpose is said', async () => {
    const world = await sandbox.world();
    const token = await world.sealed('a', 'x');
    const bytes = await wrapped(world);
    await world.keyring.disable('a', '', undefined);
    await expect(world.open(token)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    await expect(unwrapped(world, bytes)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
  });

  it('are not touched by their number alone where those for tokens have the same, and nothing else is', async () => {
    const world = await sandbox.world();
    const { keyring } = world;
    await world.sealed('a', 'x');
    await wrapped(world);
    for (const change of [keyring.disable, keyring.enable, keyring.markCompromised, keyring.destroy]) {
      await expect(change.call(keyring, 'a', '', 1)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(/seal, message.*--purpose/),
      });
    }
    expect(await states(world)).toEqual([
      ['seal', 1, 'active'],
      ['message', 1, 'active'],
    ]);
    await keyring.destroy('a', '', 1, 'message');
    await keyring.destroy('a', '', 1);
    expect(await states(world)).toEqual([
      ['seal', 1, 'destroyed'],
      ['message', 1, 'destroyed'],
    ]);
  });

  it('are stopped by a freeze in the same turn, and back after a thaw', async () => {
    const world = await sandbox.world();
    const bytes = await wrapped(world);
    void world.keyring.freeze({ name: 'a', partition: '' });
    expect(world.keyring.sealingFor('message', 'a', '')).toBeUndefined();
    expect(world.keyring.opening(kidOf(bytes), 0)).toBeUndefined();
    await expect(prepared(world)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    await expect(unwrapped(world, bytes)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    await world.keyring.thaw({ name: 'a', partition: '' });
    expect(await unwrapped(world, bytes)).toBe(1);
    expect((await prepared(world, refuse)).version).toBe(1);
  });

  it('get a new version when they are due, by age and by messages, and those for tokens do not', async () => {
    const clock = new FakeClock();
    const definitions = [{ pattern: '*', rotation: { maxAgeMs: 1000, maxMessages: 100 } }];
    const world = await sandbox.world({ clock, definitions, refreshMs: 5 });
    const first = await prepared(world);
    clock.elapsed += 500;
    await world.sealed('a', 'x');
    first.used(99, 0);
    expect((await prepared(world, refuse)).version).toBe(1);
    first.used(1, 0);
    expect(world.keyring.sealingFor('message', 'a', '')).toBeUndefined();
    expect((await prepared(world, refuse)).version).toBe(2);
    clock.elapsed += 999;
    await world.keyring.rotate({ ...MESSAGE, purpose: 'seal' });
    expect((await prepared(world, refuse)).version).toBe(2);
    clock.elapsed += 1;
    await until(() => world.keyring.sealingFor('message', 'a', '') === undefined);
    expect((await prepared(world, refuse)).version).toBe(3);
    expect((await world.keyring.prepareSealing('a', '', 'x', refuse)).version).toBe(2);
  });

  it('are counted in leases of their own, over a restart too', async () => {
    const keystore = new MemoryKeystore();
    const definitions = [{ pattern: '*', rotation: { maxMessages: 2 ** 21 } }];
    const world = await sandbox.world({ keystore, definitions });
    const key = await prepared(world);
    expect(await keystore.leases()).toMatchObject([{ kid: key.kid, messages: 2n ** 20n }]);
    key.used(2 ** 19, 0);
    await world.sealed('a', 'x');
    expect((await keystore.leases()).length).toBe(2);
    const next = await sandbox.world({ keystore, definitions });
    const again = await prepared(next, refuse);
    again.used(2 ** 20, 0);
    expect((await prepared(next, refuse)).version).toBe(2);
    expect((await next.keyring.prepareSealing('a', '', 'x', refuse)).version).toBe(1);
  });

  it('have old versions disabled where the definition says so', async () => {
    const definitions = [{ pattern: '*', rotation: { keep: 1, graceMs: 0 } }];
    const world = await sandbox.world({ definitions });
    const token = await world.sealed('a', 'x');
    const bytes = await wrapped(world);
    await world.keyring.rotate(MESSAGE);
    await world.keyring.rotate(MESSAGE);
    expect(await world.keyring.retire()).toBe(1);
    expect(world.keyring.opening(kidOf(bytes), 0)?.state).toBe('suspended');
    expect(await world.open(token)).toBe('x');
  });

  it('give up their slots and come back, without the keystore', async () => {
    const world = await sandbox.world({ capacity: 16 });
    const bytes = await wrapped(world);
    const { versions, retrieve } = world.keystore;
    for (let i = 0; i < 30; i++) {
      await world.sealed(`k${i}`, 'x');
    }
    const { reloads } = world.keyring.stats();
    const silent = async () => expect.unreachable('the keystore was asked');
    Object.assign(world.keystore, { versions: silent, retrieve: silent });
    expect(await unwrapped(world, bytes)).toBe(1);
    expect(world.keyring.sealingFor('message', 'a', '')?.version).toBe(1);
    expect(world.keyring.stats().reloads).toBe(reloads + 1);
    Object.assign(world.keystore, { versions, retrieve });
  });

  it('are found again, with their count, once they were forgotten', async () => {
    const definitions = [{ pattern: '*', rotation: { maxMessages: 100 } }];
    const world = await sandbox.world({ capacity: 16, maxKnownKeys: 20, definitions });
    const bytes = await wrapped(world);
    (await prepared(world, refuse)).used(60, 0);
    for (let i = 0; i < 60; i++) {
      await world.sealed(`k${i}`, 'x');
    }
    expect(world.keyring.sealingFor('message', 'a', '')).toBeUndefined();
    expect(world.keyring.opening(kidOf(bytes), 0)).toBeUndefined();
    expect(await unwrapped(world, bytes)).toBe(1);
    (await prepared(world, refuse)).used(40, 0);
    expect((await prepared(world, refuse)).version).toBe(2);
  });

  it('are wrapped anew with their KEK, and unwrap as before', async () => {
    const keystore = new MemoryKeystore();
    const world = await sandbox.world({ keystore });
    const bytes = await wrapped(world);
    const { kid } = await world.keyring.rotate({ name: '.l3/default', partition: '', purpose: 'wrap' });
    expect(await world.keyring.rewrap({ limit: 10, mode: 'move' })).toMatchObject({ moved: 1, failed: [] });
    const row = await keystore.retrieve(kidOf(bytes));
    expect(row?.parent.kind === 'key' && Buffer.from(row.parent.kid).toString('hex')).toBe(kid);
    expect(await unwrapped(world, bytes)).toBe(1);
    expect(await unwrapped(await sandbox.world({ keystore }), bytes)).toBe(1);
    await wrapped(world, refuse);
  });

  it('are shredded with their tenant, and come back with an export', async () => {
    const keystore = new MemoryKeystore();
    const world = await sandbox.world({ keystore, placement: TENANTS });
    const key = await world.keyring.prepareSealing('a', 't', 'x', () => undefined, 'message');
    const bytes = await wrapped(world);
    const records: KeyRecord[] = [];
    for await (const record of world.keyring.exportRecords()) {
      records.push(record);
    }
    const other = await sandbox.world({ placement: TENANTS });
    expect(await other.keyring.importRecords(records, { acceptRollback: false })).toMatchObject({ refused: [] });
    expect(await unwrapped(other, bytes)).toBe(1);
    await world.keyring.destroyTenant('t');
    expect(world.keyring.sealingFor('message', 'a', 't')).toBeUndefined();
    expect(world.keyring.opening(key.kid, 0)?.state).toBe('destroyed');
    expect(await unwrapped(world, bytes)).toBe(1);
  });

  it('are not made anew when they are gone from the keystore', async () => {
    const stateFolder = sandbox.path('state');
    const path = sandbox.path('keys.db');
    const first = await sandbox.world({ keystore: await SqliteKeystore.open({ path }), stateFolder });
    await prepared(first);
    await first.close();
    const db = new DatabaseSync(path);
    db.exec("DELETE FROM record WHERE purpose = 'message'");
    db.close();
    const next = await sandbox.world({ keystore: await SqliteKeystore.open({ path }), stateFolder });
    await expect(prepared(next)).rejects.toMatchObject({ code: 'KEYSTORE_UNAVAILABLE' });
    // Nothing was seen of one for tokens.
    await next.sealed('a', 'x');
  });

  it('are refused when their row says that they are for tokens, and the other way round', async () => {
    const keystore = new MemoryKeystore();
    const world = await sandbox.world({ keystore });
    const token = await world.sealed('token', 'x');
    const bytes = await wrapped(world);
    const swaps = [
      [token.slice(2, 18), { purpose: 'message', algorithm: 'esdk-0478' }],
      [kidOf(bytes), { purpose: 'seal', algorithm: 'xaes-256-gcm' }],
    ] as const;
    for (const [kid, use] of swaps) {
      const row = (await keystore.retrieve(kid))!;
      await keystore.store({ ...row, ...use }, { seq: row.seq });
    }
    const next = await sandbox.world({ keystore });
    expect(await next.open(token)).toBeUndefined();
    expect(await unwrapped(next, bytes)).toBeUndefined();
    expect(next.events.filter(({ event }) => event === 'record-refused').length).toBe(2);
  });

  it('are no others that a keystore shows in their place, though their MAC is good', async () => {
    const keystore = new MemoryKeystore();
    const world = await sandbox.world({ keystore });
    await world.sealed('a', 'x');
    await world.keyring.create({ ...MESSAGE, purpose: 'mac' });
    const versions = keystore.versions.bind(keystore);
    for (const purpose of ['seal', 'mac'] as const) {
      keystore.versions = async (name, partition) => versions(name, partition, purpose);
      const next = await sandbox.world({ keystore });
      await expect(prepared(next, refuse)).rejects.toBeInstanceOf(DekdError);
      expect(next.keyring.sealingFor('message', 'a', '')).toBeUndefined();
    }
  });

  describe('with another agent on the keystore, and intervals that the test counts', () => {
    beforeEach(() => {
      vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    });

    afterEach(() => {
      vi.useRealTimers();
    });

    it('follow its rotation and its disable, serving meanwhile', async () => {
      const keystore = new MemoryKeystore();
      const other = await sandbox.world({ keystore });
      const world = await sandbox.world({ keystore, refreshMs: 1000 });
      const bytes = await wrapped(world);
      await world.sealed('a', 'x');
      await other.keyring.rotate(MESSAGE);
      vi.advanceTimersByTime(1000);
      expect(world.keyring.sealingFor('message', 'a', '')?.version).toBe(1);
      await until(() => world.keyring.sealingFor('message', 'a', '')?.version !== 1);
      expect((await prepared(world, refuse)).version).toBe(2);
      expect(world.keyring.sealing('a', '')?.version).toBe(1);
      await other.keyring.disable('a', '', undefined, 'message');
      vi.advanceTimersByTime(1000);
      expect(world.keyring.opening(kidOf(bytes), 0)?.state).toBe('deactivated');
      await until(() => world.keyring.opening(kidOf(bytes), 0)?.state === 'suspended');
      await expect(prepared(world, refuse)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
      expect(world.keyring.sealing('a', '')?.version).toBe(1);
    });

    it('are served on no row that is older than that', async () => {
      const keystore = new MemoryKeystore();
      const other = await sandbox.world({ keystore });
      const world = await sandbox.world({ keystore, refreshMs: 1000 });
      const bytes = await wrapped(world);
      await other.keyring.disable('a', '', undefined, 'message');
      vi.advanceTimersByTime(2000);
      expect(world.keyring.sealingFor('message', 'a', '')).toBeUndefined();
      expect(world.keyring.opening(kidOf(bytes), 0)).toBeUndefined();
      await expect(unwrapped(world, bytes)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    });

    it('go on while the keystore does not answer', async () => {
      const keystore = new MemoryKeystore();
      const world = await sandbox.world({ keystore, refreshMs: 1000 });
      const bytes = await wrapped(world);
      const down = async () => {
        throw new DekdError('KEYSTORE_UNAVAILABLE', 'down');
      };
      Object.assign(keystore, { versions: down, retrieve: down });
      vi.advanceTimersByTime(5000);
      expect(world.keyring.sealingFor('message', 'a', '')).toBeUndefined();
      expect((await prepared(world, refuse)).version).toBe(1);
      expect(world.keyring.sealingFor('message', 'a', '')?.version).toBe(1);
      expect(await unwrapped(world, bytes)).toBe(1);
    });

    it('seal no more, and open on, when the provider of their root was silent for coast.encrypt', async () => {
      const clock = new FakeClock();
      const provider = new FakeProvider('kms');
      const watch = { coastEncryptMs: 60_000, coastDecryptMs: 3_600_000, withinMs: 30_000, strict: false };
      const world = await sandbox.world({ providers: [provider], clock, watch });
      const bytes = await wrapped(world);
      provider.failure = 'TIMEOUT';
      for (let second = 0; second < 70; second++) {
        clock.elapsed += 1000;
        vi.advanceTimersByTime(1000);
        await new Promise((resolve) => setImmediate(resolve));
        await unwrapped(world, bytes);
      }
      expect(world.keyring.sealingFor('message', 'a', '')).toBeUndefined();
      await expect(prepared(world, refuse)).rejects.toMatchObject({ code: 'KMS_UNAVAILABLE' });
      expect(await unwrapped(world, bytes)).toBe(1);
      provider.failure = 'KEY_DISABLED';
      await until(async () => {
        clock.elapsed += 1000;
        vi.advanceTimersByTime(1000);
        return world.keyring.opening(kidOf(bytes), 0) === undefined;
      });
      await expect(unwrapped(world, bytes)).rejects.toMatchObject({ code: 'KMS_DENIED' });
    });
  });
});
