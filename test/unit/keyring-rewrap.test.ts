import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { KeyRecord } from '../../src/keyring/record.ts';
import type { RewrapPage, RewrapRequest } from '../../src/keyring/rewrap.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { FakeProvider } from '../support/fake-provider.ts';
import { durable, Sandbox, TENANTS, until, type World, type WorldOptions } from './keyring-fixture.ts';

const MOVE = { from: 'old', to: 'new', mode: 'move' } as const;

describe('records wrapped anew', () => {
  let sandbox: Sandbox;
  let keystore: MemoryKeystore;
  let old: FakeProvider;
  let next: FakeProvider;
  let world: World;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
    keystore = new MemoryKeystore();
    old = new FakeProvider('old');
    next = new FakeProvider('new');
    world = await open({ keystore, providers: [old, next], refreshMs: 3_600_000 });
  });

  afterEach(() => sandbox.cleanUp());

  describe('under another root', () => {
    it('keep version, material and everything below them; revision and seq rise by one', async () => {
      const token = await world.sealed('k', 'text', 'acme');
      const before = await rows();
      const page = await rewrap(world, MOVE);
      expect(page).toMatchObject({ examined: 1, moved: 1, done: 0, failed: [], cursor: undefined });
      const after = await rows();
      for (const [index, row] of after.entries()) {
        const was = before[index]!;
        if (row.level === 2) {
          expect(row.parent).toMatchObject({ reference: { root: 'new', resolvedId: 'fake:new' } });
          const { parent: _parent, mac: _mac, ...rest } = row;
          const { parent: _before, mac: _old, ...kept } = was;
          expect(rest).toEqual({ ...kept, revision: was.revision + 1, seq: was.seq + 1n });
        } else {
          expect(row).toEqual(was);
        }
      }
      // Nothing of it needs the old root any more.
      const later = await open({ keystore, providers: [new FakeProvider('new', 'fake:other')] });
      await expect(later.open(token)).rejects.toMatchObject({ code: 'KMS_DENIED' });
      const without = await open({ keystore, providers: [next] });
      expect(await without.open(token)).toBe('text');
    });

    it('change nothing when it is run again, and cost no call', async () => {
      await world.sealed('k', 'text', 'acme');
      await rewrap(world, MOVE);
      const before = await rows();
      const calls = next.keyCalls + old.keyCalls;
      expect(await rewrap(world, MOVE)).toMatchObject({ examined: 1, moved: 0, done: 1 });
      expect(await rows()).toEqual(before);
      expect(next.keyCalls + old.keyCalls).toBe(calls);
    });

    it('are counted by a dry run, which calls nobody and changes nothing', async () => {
      await world.sealed('k', 'text', 'acme');
      const before = await rows();
      const calls = next.keyCalls + old.keyCalls;
      expect(await rewrap(world, { ...MOVE, mode: 'dry-run' })).toMatchObject({ examined: 1, moved: 1, done: 0 });
      expect(await rows()).toEqual(before);
      expect(next.keyCalls + old.keyCalls).toBe(calls);
    });

    it('are proved to open by a verify pass, which counts what is left', async () => {
      await world.sealed('k', 'text', 'a');
      await world.sealed('k', 'text', 'b');
      await rewrap(world, { ...MOVE, partition: 'a' });
      expect(await rewrap(world, { ...MOVE, mode: 'verify' })).toMatchObject({ done: 1, left: 1, failed: [] });
      await rewrap(world, MOVE);
      expect(await rewrap(world, { ...MOVE, mode: 'verify' })).toMatchObject({ done: 2, left: 0, failed: [] });
      next.rotate();
      const [tenant] = (await rows()).filter(({ level }) => level === 2);
      await edit(tenant!, { parent: { ...tenant!.parent, wrappedSecret: new Uint8Array(73) } as KeyRecord['parent'] });
      const verified = await rewrap(world, { ...MOVE, mode: 'verify' });
      expect(verified).toMatchObject({ done: 1, left: 0, failed: [{ name: tenant!.name }] });
    });

    it('are told and left alone when their row was edited, and keep no other from moving', async () => {
      await world.sealed('k', 'text', 'a');
      await world.sealed('k', 'text', 'b');
      const [tenant] = (await rows()).filter(({ level }) => level === 2);
      await edit(tenant!, { dates: { ...tenant!.dates, created: 1 } });
      const page = await rewrap(world, MOVE);
      expect(page).toMatchObject({
        moved: 1,
        failed: [{ name: tenant!.name, reason: expect.stringContaining('MAC') }],
      });
      expect((await keystore.retrieve(tenant!.kid))?.parent).toMatchObject({ reference: { root: 'old' } });
    });

    it('are not written before they were seen to open under the new root', async () => {
      await world.sealed('k', 'text', 'a');
      const wrap = next.wrap.bind(next);
      next.wrap = async (secret, context, signal) =>
        wrap(
          secret.map((byte) => byte ^ 1),
          context,
          signal,
        );
      const before = await rows();
      expect((await rewrap(world, MOVE)).failed).toHaveLength(1);
      expect(await rows()).toEqual(before);
    });

    it('take tombstones with them, so that nothing names the old root', async () => {
      await world.sealed('k', 'text');
      const kek = (await rows()).find(({ level }) => level === 3)!;
      await world.keyring.rotate({ name: '.l3/default', partition: '', purpose: 'wrap' });
      await rewrap(world, { mode: 'move' });
      const destroyed = await shred(kek);
      expect(destroyed.state).toBe('destroyed');
      await rewrap(world, MOVE);
      const named = (await rows()).map(({ parent }) => (parent.kind === 'root' ? parent.reference.root : 'key'));
      expect(named).not.toContain('old');
    });

    it('end the page with a retryable error when a provider is silent, and go on from there', async () => {
      for (const partition of ['a', 'b', 'c', 'd']) {
        await world.sealed('k', partition, partition);
      }
      next.failureOfTenant.set('c', 'UNAVAILABLE');
      await expect(rewrap(world, MOVE)).rejects.toMatchObject({ code: 'KMS_UNAVAILABLE', retryable: true });
      next.failureOfTenant.clear();
      const page = await rewrap(world, MOVE);
      expect(page.moved + page.done).toBe(4);
      expect(page.done).toBeGreaterThan(0);
      expect((await rewrap(world, { ...MOVE, mode: 'verify' })).done).toBe(4);
    });

    it('come in pages in order of kid', async () => {
      const kids: string[] = [];
      for (let i = 0; i < 10; i++) {
        await world.sealed('k', 'x', `t${i}`);
      }
      let cursor: string | undefined;
      let pages = 0;
      do {
        const page = await world.keyring.rewrap({ ...MOVE, cursor, limit: 3 });
        kids.push(String(page.moved));
        cursor = page.cursor;
        pages++;
      } while (cursor !== undefined);
      expect(pages).toBeGreaterThan(3);
      expect(kids.map(Number).reduce((sum, moved) => sum + moved, 0)).toBe(10);
    });

    it.each([
      [{ from: 'old', to: 'old' }, /named twice/],
      [{ from: 'old', to: 'elsewhere' }, /no root "elsewhere"/],
      [{ from: 'gone', to: 'new' }, /no root "gone"/],
    ])('are refused for %o', async (names, expected) => {
      await expect(rewrap(world, { ...names, mode: 'move' })).rejects.toThrow(expected);
    });

    it('stop sealing where a newer version is active under that root already', async () => {
      await world.sealed('k', 'x');
      world.custody.setDefaultRoot('new');
      await world.sealed('other', 'x');
      const states = async () =>
        (await keystore.versions('.l3/default', '', 'wrap')).map(({ state, parent }) => [
          state,
          parent.kind === 'root' ? parent.reference.root : '',
        ]);
      expect(await states()).toEqual([
        ['active', 'old'],
        ['active', 'new'],
      ]);
      await rewrap(world, MOVE);
      expect(await states()).toEqual([
        ['deactivated', 'new'],
        ['active', 'new'],
      ]);
    });

    it('stop an older version that is active there when they come to it', async () => {
      await world.sealed('k', 'x');
      world.custody.setDefaultRoot('new');
      const token = await world.sealed('other', 'x');
      await rewrap(world, { from: 'new', to: 'old', mode: 'move' });
      const versions = await keystore.versions('.l3/default', '', 'wrap');
      expect(versions.map(({ state }) => state)).toEqual(['deactivated', 'active']);
      expect(versions.every(({ parent }) => parent.kind === 'root' && parent.reference.root === 'old')).toBe(true);
      const later = await open({ keystore, providers: [old] });
      expect(await later.open(token)).toBe('x');
    });
  });

  describe('beside other writers', () => {
    it('never lose a denial: one of the two writes is begun again', async () => {
      for (let i = 0; i < 20; i++) {
        await world.sealed('k', 'x', `t${i}`);
      }
      const other = await open({ keystore, providers: [old, next], refreshMs: 3_600_000 });
      const tenants = (await rows()).filter(({ level }) => level === 2);
      await Promise.all([
        rewrap(world, MOVE),
        ...tenants.map(({ name, partition }) => other.keyring.disable(name, partition, undefined)),
      ]);
      await rewrap(world, MOVE);
      for (const { kid } of tenants) {
        const row = await keystore.retrieve(kid);
        expect(row).toMatchObject({ state: 'suspended', revision: 2, seq: 3n, parent: { reference: { root: 'new' } } });
      }
    });

    it('refuse a stale writer: what was read before the move cannot be written after it', async () => {
      await world.sealed('k', 'x', 'acme');
      const stale = (await rows()).find(({ level }) => level === 2)!;
      await rewrap(world, MOVE);
      const write = {
        record: { ...stale, state: 'suspended' as const, seq: stale.seq + 1n },
        expect: { seq: stale.seq },
      };
      await expect(keystore.updateMetadata([write])).rejects.toMatchObject({ code: 'CONFLICT' });
    });

    it('fail no request of agents that load the same KEKs meanwhile', async () => {
      const state = mkdtempSync(join(tmpdir(), 'dekd-rewrap-'));
      try {
        // The high-water mark of this agent rises while it reads rows, so that it meets rows that are older than the mark.
        const busy = await open({ keystore: durable(keystore), providers: [old, next], stateFolder: state });
        const tokens: Uint8Array[] = [];
        for (let i = 0; i < 40; i++) {
          tokens.push(await busy.sealed('k', String(i), `t${i}`));
        }
        old.delayMs = 2;
        next.delayMs = 2;
        await busy.keyring.freeze({ name: '', partition: '' });
        await busy.keyring.thaw({ name: '', partition: '' });
        const opening = Promise.all(tokens.map((token) => busy.open(token)));
        await rewrap(busy, MOVE);
        expect(await opening).toEqual(tokens.map((_, index) => String(index)));
        expect(busy.events.filter(({ event }) => event === 'rollback-refused')).toEqual([]);
      } finally {
        rmSync(state, { recursive: true, force: true });
      }
    });

    it('are followed by agents that have them loaded, also where the old root is gone', async () => {
      const agent = await open({ keystore, providers: [old, next], refreshMs: 5 });
      const token = await agent.sealed('k', 'text', 'acme');
      await rewrap(world, MOVE);
      await until(async () => {
        await agent.sealed('k', 'more', 'acme');
        return agent.keyring.stats().watched === 1 && next.calls.unwrap > 0;
      });
      old.failure = 'KEY_DISABLED';
      expect(await agent.open(token)).toBe('text');
      expect(await agent.open(await agent.sealed('k2', 'new key', 'acme')).catch((error) => error.code)).toBe(
        'new key',
      );
    });

    it('leave an agent that does not know the new root with what it has loaded, and say so once', async () => {
      const behind = await open({ keystore, providers: [old], refreshMs: 5 });
      const token = await behind.sealed('k', 'text', 'acme');
      await rewrap(world, MOVE);
      await until(async () => {
        await behind.sealed('k', 'more', 'acme');
        return behind.events.some(({ event }) => event === 'moved-out-of-reach');
      });
      await sleep(40);
      expect(await behind.open(token)).toBe('text');
      expect(behind.events.filter(({ event }) => event === 'moved-out-of-reach')).toHaveLength(1);
    });
  });

  describe('under the newest material of their own root', () => {
    it('go there inside the provider, and only those that are behind', async () => {
      await world.sealed('k', 'a', 'a');
      old.rotate();
      const token = await world.sealed('k', 'b', 'b');
      expect(await rewrap(world, { mode: 'dry-run' })).toMatchObject({ moved: 1, failed: [] });
      const { rewrap: before } = old.calls;
      expect(await rewrap(world, { mode: 'move' })).toMatchObject({ moved: 1, failed: [] });
      // One to learn what is newest, one for the record that is behind.
      expect(old.calls.rewrap - before).toBe(2);
      expect(await rewrap(world, { mode: 'move' })).toMatchObject({ moved: 0, failed: [] });
      expect(await rewrap(world, { mode: 'verify' })).toMatchObject({ left: 0, failed: [] });
      expect(await world.open(token)).toBe('b');
      const versions = (await rows()).flatMap(({ parent }) =>
        parent.kind === 'root' ? [parent.reference.materialVersion] : [],
      );
      expect(new Set(versions)).toEqual(new Set(['2']));
    });

    it('learn of material that nobody has used yet', async () => {
      await world.sealed('k', 'a', 'a');
      old.rotate();
      expect(await rewrap(world, { mode: 'move' })).toMatchObject({ moved: 1 });
    });
  });

  describe('under the newest version of their KEK', () => {
    it('keep kid and material, and open for agents that hold them', async () => {
      const agent = await open({ keystore, providers: [old, next], refreshMs: 5 });
      const token = await agent.sealed('k', 'text');
      const before = (await rows()).find(({ level }) => level === 4)!;
      const rotated = await world.keyring.rotate({ name: '.l3/default', partition: '', purpose: 'wrap' });
      expect(rotated).toMatchObject({ version: 2, state: 'active' });
      expect(await rewrap(world, { name: 'k', mode: 'move' })).toMatchObject({ moved: 1, failed: [] });
      const after = (await keystore.retrieve(before.kid))!;
      expect(after.parent.kind === 'key' && Buffer.from(after.parent.kid).toString('hex')).toBe(rotated.kid);
      expect(after).toMatchObject({ version: 1, revision: 2, seq: before.seq + 1n, state: 'active' });
      expect(await rewrap(world, { name: 'k', mode: 'verify' })).toMatchObject({ done: 1, left: 0 });
      // The agent takes the row over as it is used, and the old KEK may be stopped without it noticing.
      await world.keyring.disable('.l3/default', '', 1);
      for (let i = 0; i < 20; i++) {
        expect(await agent.open(token)).toBe('text');
        await agent.sealed('k', 'more');
        await sleep(3);
      }
      const fresh = await open({ keystore, providers: [old, next] });
      expect(await fresh.open(token)).toBe('text');
    });
  });

  /** Each tenant in a tree of its own. */
  async function open(options: WorldOptions): Promise<World> {
    return sandbox.world({ placement: TENANTS, ...options });
  }

  async function rewrap(agent: World, request: Omit<RewrapRequest, 'limit'>): Promise<RewrapPage> {
    return agent.keyring.rewrap({ ...request, limit: 500 });
  }

  async function rows(): Promise<readonly KeyRecord[]> {
    return (await keystore.list({}, undefined, 1_000)).records;
  }

  /** What somebody does who writes the keystore without a key. */
  async function edit(row: KeyRecord, change: Partial<KeyRecord>): Promise<void> {
    await keystore.updateMetadata([{ record: { ...row, ...change }, expect: { seq: row.seq } }]);
  }

  async function shred(row: KeyRecord): Promise<KeyRecord> {
    await expect(world.keyring.destroy(row.name, row.partition, row.version)).rejects.toThrow(/minutes ago/);
    const now = (await keystore.retrieve(row.kid))!;
    const { engine, custody } = world;
    const { parent } = now;
    if (parent.kind !== 'root') {
      throw new Error('not under a root');
    }
    const { inState, withMac } = await import('../../src/keyring/record-check.ts');
    const root = custody.roots.get(parent.reference.root)!;
    const secret = await root.unwrap(parent.wrappedSecret, parent.reference, now.keyContext);
    const tombstone = withMac(engine, secret, inState(now, 'destroyed', 1_900_000_000_000));
    engine.destroyKey(secret);
    await keystore.delete(tombstone, { seq: now.seq });
    return tombstone;
  }
});
