import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DekdError } from '../../src/errors.ts';
import type { Placement } from '../../src/keyring/placement.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { FakeClock, Sandbox, until } from './keyring-fixture.ts';

const refuse = () => {
  throw new DekdError('PERMISSION_DENIED', 'creation is not allowed');
};

describe('Keyring', () => {
  let sandbox: Sandbox;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
  });

  afterEach(() => sandbox.cleanUp());

  it('creates a key on first use, seals and opens', async () => {
    const world = await sandbox.world();
    expect(world.keyring.sealing('customers', 'acme')).toBeUndefined();
    const token = await world.sealed('customers', 'hello', 'acme');
    expect(await world.open(token)).toBe('hello');
    expect(world.keyring.sealing('customers', 'acme')).toMatchObject({
      name: 'customers',
      partition: 'acme',
      version: 1,
    });
    expect(world.keyring.opening(token, 2)).toBe(world.keyring.sealing('customers', 'acme'));
  });

  it('opens after a restart what was sealed before it', async () => {
    const keystore = new MemoryKeystore();
    const token = await (await sandbox.world({ keystore })).sealed('customers', 'hello');
    const again = await sandbox.world({ keystore });
    expect(again.keyring.opening(token, 2)).toBeUndefined();
    expect(await again.open(token)).toBe('hello');
  });

  it('asks for leave to create only when there is no such key', async () => {
    const world = await sandbox.world();
    await expect(world.keyring.prepareSealing('a', '', 'x', refuse)).rejects.toMatchObject({
      code: 'PERMISSION_DENIED',
    });
    await expect(world.keyring.prepareSealing('a', '', 'x', undefined)).rejects.toMatchObject({
      code: 'KEY_NOT_FOUND',
    });
    expect((await world.keystore.list({ level: 4 }, undefined, 10)).records).toEqual([]);
    await world.sealed('a', 'x');
    expect((await world.keyring.prepareSealing('a', '', 'x', refuse)).version).toBe(1);
  });

  it('makes one key for any number of callers at once', async () => {
    const world = await sandbox.world();
    const keys = await Promise.all(
      Array.from({ length: 50 }, () => world.keyring.prepareSealing('a', '', 'x', () => undefined)),
    );
    expect(new Set(keys).size).toBe(1);
    expect((await world.keystore.list({ level: 4 }, undefined, 10)).records.length).toBe(1);
  });

  it('keeps names of a key apart by partition', async () => {
    const world = await sandbox.world();
    const acme = await world.keyring.prepareSealing('a', 'acme', 'x', () => undefined);
    const other = await world.keyring.prepareSealing('a', 'other', 'x', () => undefined);
    expect(acme.kid).not.toEqual(other.kid);
  });

  it('refuses names that are its own, and names and partitions out of bounds', async () => {
    const { keyring } = await sandbox.world();
    for (const name of ['', '.l3/default', '.hidden', 'a b', 'ä', 'a\n', 'x'.repeat(129)]) {
      await expect(keyring.prepareSealing(name, '', 'x', () => undefined)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
      await expect(keyring.create({ name, partition: '', purpose: 'seal' })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
      await expect(keyring.destroy(name, '', undefined)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    }
    for (const partition of ['x'.repeat(129), 'a\u0000', 'a\u202eb', '\ud800']) {
      await expect(keyring.prepareSealing('a', partition, 'x', () => undefined)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
    }
    await keyring.prepareSealing('A-z_0/9.', 'Füße 漢字', 'x', () => undefined);
  });

  it('puts a service KEK between the root and the data keys', async () => {
    const world = await sandbox.world({ service: 'billing' });
    await world.sealed('a', 'x', 'acme');
    const { records } = await world.keystore.list({}, undefined, 10);
    const levels = records.map(({ level, name, partition }) => [level, name, partition]).sort();
    expect(levels).toEqual([
      [3, '.l3/billing', ''],
      [4, 'a', 'acme'],
    ]);
    const [kek, key] = records.toSorted((a, b) => a.level - b.level);
    expect(kek?.parent).toMatchObject({ kind: 'root', reference: { root: 'local' } });
    expect(key?.parent).toEqual({ kind: 'key', kid: kek?.kid });
  });

  it('puts a tenant KEK under the root that its placement says, and no other partition below it', async () => {
    sandbox.writeRoot('tenants.key');
    const keystore = new MemoryKeystore();
    const placement: Placement = {
      levels: ['tenant', 'service'],
      rootOf: ({ tenant }) => (tenant.startsWith('t') ? 'tenants.key' : undefined),
    };
    const options = { keystore, placement, extraRoots: ['tenants.key'] };
    const world = await sandbox.world(options);
    const token = await world.sealed('a', 'x', 't1');
    await world.sealed('a', 'x', 't2');
    await world.sealed('a', 'x', 'other');
    const { records } = await keystore.list({}, undefined, 20);
    const tree = new Map(records.map((record) => [Buffer.from(record.kid).toString('hex'), record]));
    const path = (name: string, partition: string): string[] => {
      const steps: string[] = [];
      let record = records.find((candidate) => candidate.name === name && candidate.partition === partition);
      while (record !== undefined) {
        steps.push(`${record.name}@${record.partition}`);
        const { parent } = record;
        if (parent.kind === 'root') {
          steps.push(parent.reference.root);
        }
        record = parent.kind === 'key' ? tree.get(Buffer.from(parent.kid).toString('hex')) : undefined;
      }
      return steps;
    };
    expect(path('a', 't1')).toEqual(['a@t1', '.l3/default@t1', '.l2/t1@t1', 'tenants.key']);
    expect(path('a', 't2')).toEqual(['a@t2', '.l3/default@t2', '.l2/t2@t2', 'tenants.key']);
    expect(path('a', 'other')).toEqual(['a@other', '.l3/default@other', '.l2/other@other', 'local']);
    expect(await (await sandbox.world(options)).open(token)).toBe('x');
  });

  it('passes on what a definition says, the first that matches', async () => {
    const definitions = [
      { pattern: 'pan-*', keyContext: { environment: 'prod' }, requiredContext: ['field'] },
      { pattern: '*', requiredContext: ['table'] },
    ];
    const world = await sandbox.world({ definitions });
    const pan = await world.keyring.prepareSealing('pan-eu', '', 'x', () => undefined);
    expect(pan.requiredContext).toEqual(['field']);
    expect((await world.keyring.prepareSealing('other', '', 'x', () => undefined)).requiredContext).toEqual(['table']);
    expect({ ...(await world.keystore.retrieve(pan.kid))?.keyContext }).toEqual({ environment: 'prod' });
  });

  it('has one clear error at start for a keystore of another root key', async () => {
    const keystore = new MemoryKeystore();
    await (await sandbox.world({ keystore })).sealed('a', 'x');
    const start = sandbox.world({ keystore, keyFile: sandbox.writeRoot('other.key') });
    await expect(start).rejects.toMatchObject({
      code: 'KMS_DENIED',
      message: expect.stringMatching(
        /^the keystore was made under another root key \(local:.*: use that root, or an empty/,
      ),
    });
  });

  it('refuses a key that is listed as former but is not the one', async () => {
    const keystore = new MemoryKeystore();
    const world = await sandbox.world({ keystore });
    await world.sealed('a', 'x');
    const formerly = [world.custody.defaultRoot.description.resolvedId];
    const start = sandbox.world({ keystore: keystore, keyFile: sandbox.writeRoot('other.key'), formerly });
    await expect(start).rejects.toMatchObject({ code: 'KMS_DENIED' });
  });

  it('wipes every key it loaded when it is closed', async () => {
    const world = await sandbox.world();
    await world.sealed('a', 'x');
    await world.sealed('b', 'x');
    await world.keyring.close();
    expect(world.engine.stats().used).toBe(1);
    await world.custody.close();
    expect(world.engine.stats().used).toBe(0);
    await expect(world.keyring.prepareSealing('a', '', 'x', undefined)).rejects.toMatchObject({
      code: 'SHUTTING_DOWN',
    });
  });

  describe('states', () => {
    it('neither seals nor opens while disabled, and both again once enabled', async () => {
      const world = await sandbox.world();
      const old = await world.sealed('a', 'old');
      await world.keyring.rotate({ name: 'a', partition: '', purpose: 'seal' });
      const token = await world.sealed('a', 'new');
      await world.keyring.disable('a', '', undefined);
      expect(world.keyring.sealing('a', '')).toBeUndefined();
      await expect(world.keyring.prepareSealing('a', '', 'x', refuse)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
      for (const each of [old, token]) {
        expect(world.keyring.opening(each, 2)?.state).toBe('suspended');
        await expect(world.open(each)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
      }
      const states = (await world.keyring.enable('a', '', undefined)).map(({ version, state }) => [version, state]);
      expect(states).toEqual([
        [1, 'deactivated'],
        [2, 'active'],
      ]);
      expect(await world.open(old)).toBe('old');
      expect(await world.open(await world.sealed('a', 'again'))).toBe('again');
    });

    it('opens with what was rotated out or compromised, and never seals with it', async () => {
      const world = await sandbox.world();
      const first = await world.sealed('a', 'one');
      await world.keyring.rotate({ name: 'a', partition: '', purpose: 'seal' });
      const second = await world.sealed('a', 'two');
      expect(second.slice(2, 18)).not.toEqual(first.slice(2, 18));
      await world.keyring.markCompromised('a', '', 2);
      expect(await world.open(first)).toBe('one');
      expect(await world.open(second)).toBe('two');
      await expect(world.keyring.prepareSealing('a', '', 'x', refuse)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
      await world.keyring.rotate({ name: 'a', partition: '', purpose: 'seal' });
      expect((await world.keyring.prepareSealing('a', '', 'x', refuse)).version).toBe(3);
    });

    it('leaves a tombstone, whose key never opens and is not made anew by use', async () => {
      const keystore = new MemoryKeystore();
      const world = await sandbox.world({ keystore });
      const token = await world.sealed('a', 'x');
      const info = await world.keyring.destroy('a', '', undefined);
      expect(info).toMatchObject([{ version: 1, state: 'destroyed', destroyed: expect.any(String) }]);
      for (const each of [world, await sandbox.world({ keystore })]) {
        await expect(each.open(token)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
        const key = await each.keyring.prepareOpening(token.slice(2, 18), 'x');
        expect(key).toMatchObject({ name: 'a', state: 'destroyed' });
        await expect(each.sealed('a', 'x')).rejects.toMatchObject({ code: 'KEY_DISABLED' });
      }
      expect((await keystore.retrieve(token.slice(2, 18)))?.wrapped.length).toBe(0);
    });

    it('refuses steps that the life of a key does not have', async () => {
      const { keyring } = await sandbox.world();
      const request = { name: 'a', partition: '', purpose: 'seal' } as const;
      await expect(keyring.disable('a', '', undefined)).rejects.toMatchObject({ code: 'KEY_NOT_FOUND' });
      await expect(keyring.rotate(request)).rejects.toMatchObject({ code: 'KEY_NOT_FOUND' });
      await keyring.create(request);
      await expect(keyring.create(request)).rejects.toMatchObject({ code: 'CONFLICT' });
      await expect(keyring.create({ ...request, name: 'b', purpose: 'wrap' })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
      await keyring.disable('a', '', undefined);
      await expect(keyring.rotate(request)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
      await keyring.destroy('a', '', 1);
      await expect(keyring.enable('a', '', 1)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
      await expect(keyring.disable('a', '', 1)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
      await expect(keyring.destroy('a', '', 7)).rejects.toMatchObject({ code: 'KEY_NOT_FOUND' });
    });

    it('gives each purpose of a name its own versions', async () => {
      const { keyring } = await sandbox.world();
      await keyring.create({ name: 'a', partition: '', purpose: 'seal' });
      await keyring.create({ name: 'a', partition: '', purpose: 'mac' });
      await keyring.rotate({ name: 'a', partition: '', purpose: 'mac' });
      const versions = (await keyring.describe('a', '')).map(({ purpose, version, state }) => [
        purpose,
        version,
        state,
      ]);
      expect(versions).toEqual([
        ['seal', 1, 'active'],
        ['mac', 1, 'deactivated'],
        ['mac', 2, 'active'],
      ]);
    });
  });

  describe('rotation', () => {
    it('gives a new version when the active one is too old', async () => {
      const clock = new FakeClock();
      const rotation = { maxAgeMs: 1000 };
      const world = await sandbox.world({ clock, definitions: [{ pattern: '*', rotation }], refreshMs: 5 });
      const token = await world.sealed('a', 'x');
      clock.elapsed += 999;
      expect((await world.keyring.prepareSealing('a', '', 'x', refuse)).version).toBe(1);
      clock.elapsed += 1;
      await until(() => world.keyring.sealing('a', '') === undefined);
      expect((await world.keyring.prepareSealing('a', '', 'x', refuse)).version).toBe(2);
      expect(await world.open(token)).toBe('x');
    });

    it('is not moved by a wall clock that jumps', async () => {
      const clock = new FakeClock();
      const world = await sandbox.world({ clock, refreshMs: 5 });
      await world.sealed('a', 'x');
      clock.wall += 400 * 86_400_000;
      await new Promise((resolve) => setTimeout(resolve, 30));
      expect((await world.keyring.prepareSealing('a', '', 'x', refuse)).version).toBe(1);
    });

    it('gives a new version at the limit of messages and of bytes, and loses no use over a restart', async () => {
      for (const rotation of [{ maxMessages: 100 }, { maxBytes: 100 }]) {
        const world = await sandbox.world({ definitions: [{ pattern: '*', rotation }] });
        const key = await world.keyring.prepareSealing('a', '', 'x', () => undefined);
        for (let i = 0; i < 99; i++) {
          key.used(1, 1);
        }
        expect((await world.keyring.prepareSealing('a', '', 'x', refuse)).version).toBe(1);
        key.used(1, 1);
        expect(world.keyring.sealing('a', '')).toBeUndefined();
        expect((await world.keyring.prepareSealing('a', '', 'x', refuse)).version).toBe(2);
      }
    });

    it('counts what a process that died had set aside', async () => {
      const keystore = new MemoryKeystore();
      const definitions = [{ pattern: '*', rotation: { maxMessages: 2 ** 21 } }];
      const first = await sandbox.world({ keystore, definitions });
      (await first.keyring.prepareSealing('a', '', 'x', () => undefined)).used(2 ** 19, 1);
      const second = await sandbox.world({ keystore, definitions });
      const key = await second.keyring.prepareSealing('a', '', 'x', refuse);
      expect(key.version).toBe(1);
      key.used(2 ** 20 - 1, 1);
      expect((await second.keyring.prepareSealing('a', '', 'x', refuse)).version).toBe(1);
      key.used(1, 1);
      expect((await second.keyring.prepareSealing('a', '', 'x', refuse)).version).toBe(2);
    });

    it('stores a lease before the first use, and the next one while a quarter is left', async () => {
      const world = await sandbox.world();
      const key = await world.keyring.prepareSealing('a', '', 'x', () => undefined);
      expect(await world.keystore.leases()).toMatchObject([{ messages: 2n ** 20n }]);
      key.used(0.8 * 2 ** 20, 0);
      await until(async () => (await world.keystore.leases())[0]!.messages === 2n ** 21n);
      expect(world.keyring.sealing('a', '')).toBe(key);
    });

    it('goes on sealing with a key that is due while rotation fails', async () => {
      const keystore = new MemoryKeystore();
      const definitions = [{ pattern: '*', rotation: { maxMessages: 10 } }];
      const world = await sandbox.world({ keystore, definitions });
      const key = await world.keyring.prepareSealing('a', '', 'x', () => undefined);
      const store = keystore.store.bind(keystore);
      keystore.store = async () => {
        throw new DekdError('KEYSTORE_UNAVAILABLE', 'no space left');
      };
      key.used(10, 0);
      expect(await world.keyring.prepareSealing('a', '', 'x', refuse)).toBe(key);
      expect(world.events.some(({ event }) => event === 'rotation-failed')).toBe(true);
      keystore.store = store;
    });
  });

  describe('other agents on the keystore', () => {
    it('is told apart by none: what one makes the other opens', async () => {
      const keystore = new MemoryKeystore();
      const first = await sandbox.world({ keystore });
      const second = await sandbox.world({ keystore });
      expect(await second.open(await first.sealed('a', 'x'))).toBe('x');
      expect(await first.open(await second.sealed('b', 'y'))).toBe('y');
    });

    it('sees a rotation and a disable of the other within two refresh intervals of use, serving meanwhile', async () => {
      const keystore = new MemoryKeystore();
      const refreshMs = 20;
      const first = await sandbox.world({ keystore, refreshMs });
      const second = await sandbox.world({ keystore, refreshMs });
      const token = await second.sealed('a', 'x');
      await first.keyring.rotate({ name: 'a', partition: '', purpose: 'seal' });
      await until(async () => (await second.keyring.prepareSealing('a', '', 'x', refuse)).version === 2);
      expect(await second.open(token)).toBe('x');
      await first.keyring.disable('a', '', undefined);
      await until(() =>
        second.open(token).then(
          () => false,
          (error) => DekdError.is(error, 'KEY_DISABLED'),
        ),
      );
      await first.keyring.enable('a', '', undefined);
      await until(() =>
        second.open(token).then(
          (text) => text === 'x',
          () => false,
        ),
      );
    });

    describe('with intervals that the test counts', () => {
      beforeEach(() => {
        vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
      });

      afterEach(() => {
        vi.useRealTimers();
      });

      it('serves a row of the interval before while it is read again', async () => {
        const keystore = new MemoryKeystore();
        const first = await sandbox.world({ keystore });
        const second = await sandbox.world({ keystore, refreshMs: 1000 });
        const token = await second.sealed('a', 'x');
        await first.keyring.disable('a', '', undefined);
        expect(second.keyring.opening(token, 2)?.state).toBe('active');
        vi.advanceTimersByTime(1000);
        expect(second.keyring.opening(token, 2)?.state).toBe('active');
        await until(() => second.keyring.opening(token, 2)?.state === 'suspended');
        expect(second.keyring.sealing('a', '')).toBeUndefined();
      });

      it('never serves an idle key on a row older than that without asking', async () => {
        const keystore = new MemoryKeystore();
        const first = await sandbox.world({ keystore });
        const second = await sandbox.world({ keystore, refreshMs: 1000 });
        const token = await second.sealed('a', 'x');
        await first.keyring.disable('a', '', undefined);
        vi.advanceTimersByTime(2000);
        expect(second.keyring.opening(token, 2)).toBeUndefined();
        expect(second.keyring.sealing('a', '')).toBeUndefined();
        await expect(second.open(token)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
      });
    });

    it('takes up the version that a rotation which was cut short had left', async () => {
      const keystore = new MemoryKeystore();
      const world = await sandbox.world({ keystore });
      await world.sealed('a', 'x');
      const update = keystore.updateMetadata;
      keystore.updateMetadata = async () => {
        throw new DekdError('KEYSTORE_UNAVAILABLE', 'cut short');
      };
      const request = { name: 'a', partition: '', purpose: 'seal' } as const;
      await expect(world.keyring.rotate(request)).rejects.toMatchObject({ code: 'KEYSTORE_UNAVAILABLE' });
      keystore.updateMetadata = update;
      expect((await world.keyring.prepareSealing('a', '', 'x', refuse)).version).toBe(1);
      const left = (await keystore.versions('a', '', 'seal')).map(({ state }) => state);
      expect(left).toEqual(['active', 'pre-active']);
      expect((await world.keyring.rotate(request)).version).toBe(2);
      const rows = (await keystore.versions('a', '', 'seal')).map(({ state }) => state);
      expect(rows).toEqual(['deactivated', 'active']);
    });

    it('takes the rotation of the other for its own when it was slower', async () => {
      const keystore = new MemoryKeystore();
      const first = await sandbox.world({ keystore });
      const second = await sandbox.world({ keystore });
      await first.sealed('a', 'x');
      const request = { name: 'a', partition: '', purpose: 'seal' } as const;
      const update = keystore.updateMetadata.bind(keystore);
      keystore.updateMetadata = async (changes) => {
        keystore.updateMetadata = update;
        await second.keyring.rotate(request);
        return update(changes);
      };
      expect((await first.keyring.rotate(request)).version).toBe(2);
      const rows = (await keystore.versions('a', '', 'seal')).map(({ state }) => state);
      expect(rows).toEqual(['deactivated', 'active']);
    });

    it('goes on with what is known while the keystore does not answer', async () => {
      const keystore = new MemoryKeystore();
      const world = await sandbox.world({ keystore, refreshMs: 5 });
      const token = await world.sealed('a', 'x');
      const fail = async () => {
        throw new DekdError('KEYSTORE_UNAVAILABLE', 'down');
      };
      keystore.versions = fail;
      keystore.retrieve = fail;
      for (let i = 0; i < 5; i++) {
        await new Promise((resolve) => setTimeout(resolve, 12));
        expect(await world.open(token)).toBe('x');
        expect(await world.open(await world.sealed('a', 'y'))).toBe('y');
      }
      expect(world.events.some(({ event }) => event === 'refresh-failed')).toBe(true);
    });
  });

  describe('unknown kids', () => {
    it('looks each up at most once in a while, and no more than the share has tokens for', async () => {
      const keystore = new MemoryKeystore();
      const clock = new FakeClock();
      const world = await sandbox.world({ keystore, clock, missLimits: { perSecond: 10, burst: 20 } });
      let lookUps = 0;
      const retrieve = keystore.retrieve.bind(keystore);
      keystore.retrieve = (kid) => {
        lookUps++;
        return retrieve(kid);
      };
      const kid = (n: number) => new Uint8Array(16).fill(n);
      for (let i = 0; i < 5; i++) {
        expect(await world.keyring.prepareOpening(kid(1), 'a')).toBeUndefined();
      }
      expect(lookUps).toBe(1);
      for (let n = 2; n < 100; n++) {
        await world.keyring.prepareOpening(kid(n), 'a');
      }
      expect(lookUps).toBe(20);
      await world.keyring.prepareOpening(kid(200), 'b');
      expect(lookUps).toBe(21);
      clock.elapsed += 1000;
      for (let n = 100; n < 150; n++) {
        await world.keyring.prepareOpening(kid(n), 'a');
      }
      expect(lookUps).toBe(31);
    });

    it('never takes cold but real keys for a flood', async () => {
      const keystore = new MemoryKeystore();
      const world = await sandbox.world({ keystore });
      const tokens = await Promise.all(Array.from({ length: 300 }, (_, i) => world.sealed(`k${i}`, `v${i}`)));
      const cold = await sandbox.world({ keystore, missLimits: { perSecond: 1, burst: 40 } });
      const opened = await Promise.all(tokens.map((token) => cold.open(token)));
      expect(opened).toEqual(tokens.map((_, i) => `v${i}`));
    });
  });
});
