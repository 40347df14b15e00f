import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { DekdError } from '../../src/errors.ts';
import type { KeyRecord } from '../../src/keyring/record.ts';
import { BundleKeystore } from '../../src/keystores/bundle.ts';
import { writeExport } from '../../src/keystores/export-document.ts';
import type { Keystore, ListFilter } from '../../src/keystores/keystore.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { encodeRecord } from '../../src/keystores/record-codec.ts';
import { type Placement, RoutedKeystore, type RouteKey } from '../../src/keystores/routed.ts';
import { SqliteKeystore } from '../../src/keystores/sqlite.ts';
import { plain, recordLike } from '../contract/keystore.contract.ts';
import { KeystoreSpy } from '../support/spy-keystore.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const record = recordLike({});
const suspended: KeyRecord = { ...record, state: 'suspended', seq: 2n };
const tombstone: KeyRecord = { ...record, state: 'destroyed', wrapped: new Uint8Array(0), seq: 2n };

describe('RoutedKeystore', () => {
  let a: MemoryKeystore;
  let b: MemoryKeystore;
  let c: MemoryKeystore;

  beforeEach(() => {
    [a, b, c] = [new MemoryKeystore(), new MemoryKeystore(), new MemoryKeystore()];
  });

  const over = (
    parts: Readonly<Record<string, Keystore>>,
    route: (key: RouteKey) => Placement | undefined,
  ): RoutedKeystore => new RoutedKeystore({ keystores: new Map(Object.entries(parts)), route });
  const moving = (parts: Readonly<Record<string, Keystore>> = { a, b }) =>
    over(parts, () => ({ keystore: 'b', former: ['a'] }));

  it('puts L2 and L3 into one keystore, L4 into another and one tenant into a third', async () => {
    const db = await SqliteKeystore.open({ path: join(temporaryFolder(), 'c.db') });
    onTestFinished(() => db.close());
    const routed = over({ a, b, c: db }, ({ level, partition, name }) => {
      const tenant = name.startsWith('.l2/') ? name.slice('.l2/'.length) : partition;
      return { keystore: tenant === 'x' ? 'c' : level === 4 ? 'b' : 'a', former: [] };
    });
    const kek = { purpose: 'wrap', algorithm: 'hkdf-sha-256' } as const;
    const records = [
      recordLike({ ...kek, name: '.l2/acme', partition: 'acme', level: 2 }),
      recordLike({ ...kek, name: '.l3/default', level: 3 }),
      recordLike({ partition: 'acme' }),
      recordLike({}),
      recordLike({ ...kek, name: '.l2/x', partition: 'x', level: 2 }),
      recordLike({ ...kek, name: '.l3/default', partition: 'x', level: 3 }),
      recordLike({ partition: 'x' }),
    ];
    for (const each of records) {
      await routed.store(each, { absent: true });
    }
    expect(await kidsOf(a)).toEqual(kids(records.slice(0, 2)));
    expect(await kidsOf(b)).toEqual(kids(records.slice(2, 4)));
    expect(await kidsOf(db)).toEqual(kids(records.slice(4)));
    for (const each of records) {
      expect(plain(await routed.retrieve(each.kid))).toEqual(plain(each));
      expect((await routed.versions(each.name, each.partition, each.purpose)).map(plain)).toEqual([plain(each)]);
    }
    expect(await kidsOf(routed)).toEqual(kids(records));
    expect(routed.kind).toBe('routed (a: memory, b: memory, c: sqlite)');
  });

  it('refuses what no route matches, naming the key', async () => {
    const routed = over({ a }, ({ name }) => (name === 'known' ? { keystore: 'a', former: [] } : undefined));
    const lost = recordLike({ name: 'orders', partition: 'acme' });
    const refusal = { code: 'INVALID_ARGUMENT', message: expect.stringMatching(/no route matches key orders.*"acme"/) };
    await expect(routed.store(lost, { absent: true })).rejects.toMatchObject(refusal);
    await expect(routed.versions('orders', 'acme', 'seal')).rejects.toMatchObject(refusal);
    await expect(routed.updateMetadata([{ record: lost, expect: { seq: 1n } }])).rejects.toMatchObject(refusal);
    expect(await kidsOf(a)).toEqual([]);
    const misnamed = over({ a }, () => ({ keystore: 'z', former: [] }));
    await expect(misnamed.store(lost, { absent: true })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: 'a route names keystore z; there are a',
    });
  });

  it('changes records of two keystores one after the other only', async () => {
    const routed = over({ a, b }, ({ partition }) => ({ keystore: partition === '' ? 'a' : 'b', former: [] }));
    const other = recordLike({ partition: 'p' });
    await routed.store(record, { absent: true });
    await routed.store(other, { absent: true });
    const changes = [record, other].map((each) => ({ record: { ...each, seq: 2n }, expect: { seq: 1n } }));
    await expect(routed.updateMetadata(changes)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('keystores a and b'),
    });
    expect([(await a.retrieve(record.kid))?.seq, (await b.retrieve(other.kid))?.seq]).toEqual([1n, 1n]);
  });

  describe('while records move', () => {
    it('reads what lies in the former keystore, and makes nothing that is there already', async () => {
      const routed = moving();
      await a.store(record, { absent: true });
      expect(plain(await routed.retrieve(record.kid))).toEqual(plain(record));
      const next = recordLike({ version: 2, state: 'pre-active' });
      await routed.store(next, { absent: true });
      expect(await kidsOf(b)).toEqual(kids([next]));
      expect((await routed.versions('customers', '', 'seal')).map(plain)).toEqual([record, next].map(plain));
      for (const again of [recordLike({}), recordLike({ kid: record.kid, version: 9 })]) {
        await expect(routed.store(again, { absent: true })).rejects.toMatchObject({ code: 'CONFLICT' });
      }
      expect(await kidsOf(b)).toEqual(kids([next]));
    });

    it('moves a record when it is written, and decides the write in its new home', async () => {
      const routed = moving();
      await a.store(record, { absent: true });
      const next = recordLike({ version: 2, state: 'pre-active' });
      await b.store(next, { absent: true });
      await expect(routed.updateMetadata([{ record: suspended, expect: { seq: 7n } }])).rejects.toMatchObject({
        code: 'CONFLICT',
      });
      await routed.updateMetadata([
        { record: { ...next, state: 'active', seq: 2n }, expect: { seq: 1n } },
        { record: { ...record, state: 'deactivated', seq: 2n }, expect: { seq: 1n } },
      ]);
      expect((await b.versions('customers', '', 'seal')).map(({ state }) => state)).toEqual(['deactivated', 'active']);
      expect((await a.retrieve(record.kid))?.seq).toBe(1n);
      expect((await routed.versions('customers', '', 'seal')).map(({ state }) => state)).toEqual([
        'deactivated',
        'active',
      ]);
      expect((await routed.retrieve(record.kid))?.state).toBe('deactivated');
    });

    it('honours a denial written to the former keystore by an agent that has the older configuration', async () => {
      const routed = moving();
      await a.store(record, { absent: true });
      await routed.bringHome(record);
      expect((await routed.retrieve(record.kid))?.state).toBe('active');
      await over({ a }, () => ({ keystore: 'a', former: [] })).updateMetadata([
        { record: suspended, expect: { seq: 1n } },
      ]);
      expect((await routed.retrieve(record.kid))?.state).toBe('suspended');
      expect((await routed.versions('customers', '', 'seal'))[0]?.state).toBe('suspended');
      expect(await listed(routed, { state: 'active' })).toEqual([]);
      expect(await listed(routed, { state: 'suspended' })).toEqual(kids([record]));
      await expect(routed.updateMetadata([{ record: suspended, expect: { seq: 1n } }])).rejects.toMatchObject({
        code: 'CONFLICT',
      });
      await routed.updateMetadata([{ record: { ...record, seq: 3n }, expect: { seq: 2n } }]);
      expect((await routed.retrieve(record.kid))?.state).toBe('active');
    });

    it('fails no read and loses no write while all records move under load, and then needs no former keystore', async () => {
      const records = Array.from({ length: 60 }, (_, i) => recordLike({ name: `key-${i}` }));
      for (const each of records) {
        await a.store(each, { absent: true });
      }
      const [one, two] = [moving(), moving()];
      let isMoving = true;
      let reads = 0;
      const reading = (async () => {
        while (isMoving) {
          const each = records[reads++ % records.length]!;
          expect((await two.retrieve(each.kid))?.kid).toEqual(each.kid);
          expect(await two.versions(each.name, '', 'seal')).toHaveLength(1);
          await new Promise(setImmediate);
        }
      })();
      let won = 0;
      for (const each of records.slice(0, 40)) {
        const writes = [one, two].map((routed, i) =>
          routed.updateMetadata([{ record: { ...each, seq: 2n, revision: 2 + i }, expect: { seq: 1n } }]),
        );
        won += (await Promise.allSettled(writes)).filter(({ status }) => status === 'fulfilled').length;
      }
      for (const each of records) {
        await Promise.all([one.bringHome(each), two.bringHome(each)]);
      }
      isMoving = false;
      await reading;
      expect(won).toBe(40);
      expect(reads).toBeGreaterThan(0);
      expect((await kidsOf(b)).length).toBe(60);
      const moved = over({ b }, () => ({ keystore: 'b', former: [] }));
      for (const [i, each] of records.entries()) {
        expect((await moved.retrieve(each.kid))?.seq).toBe(i < 40 ? 2n : 1n);
      }
    });

    it('moves out of a bundle that only serves', async () => {
      const path = join(temporaryFolder(), 'bundle.json');
      for await (const piece of writeExport([encodeRecord(record)])) {
        appendFileSync(path, piece);
      }
      const bundle = await BundleKeystore.open({ path });
      const routed = moving({ a: bundle, b });
      await routed.updateMetadata([{ record: suspended, expect: { seq: 1n } }]);
      expect((await routed.retrieve(record.kid))?.state).toBe('suspended');
      await expect(routed.delete({ ...tombstone, seq: 3n }, { seq: 2n })).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        message: expect.stringMatching(/destroyed in keystore b, but a may still hold.*read-only/),
      });
      expect((await routed.retrieve(record.kid))?.state).toBe('destroyed');
    });
  });

  describe('delete', () => {
    it('shreds every copy, also one in a keystore of no route', async () => {
      const routed = moving({ a, b, c });
      for (const part of [a, b, c]) {
        await part.store(record, { absent: true });
      }
      await routed.delete(tombstone, { seq: 1n });
      for (const part of [a, b, c]) {
        expect(plain(await part.retrieve(record.kid))).toEqual(plain(tombstone));
      }
    });

    it('shreds nothing that it does not win at home', async () => {
      const routed = moving();
      await a.store(record, { absent: true });
      await expect(routed.delete(tombstone, { seq: 5n })).rejects.toMatchObject({ code: 'CONFLICT' });
      expect((await a.retrieve(record.kid))?.wrapped.length).toBe(73);
    });

    it('says which copy is left when a keystore fails, and a second one finishes', async () => {
      const failing = failingOn(c, 'delete');
      const routed = over({ b, c: failing.keystore }, () => ({ keystore: 'b', former: [] }));
      await b.store(record, { absent: true });
      await c.store(record, { absent: true });
      await expect(routed.delete(tombstone, { seq: 1n })).rejects.toMatchObject({
        code: 'KEYSTORE_UNAVAILABLE',
        message: expect.stringMatching(/destroyed in keystore b, but c may still hold/),
      });
      expect((await routed.retrieve(record.kid))?.state).toBe('destroyed');
      failing.heal();
      await expect(routed.delete(tombstone, { seq: 1n })).rejects.toMatchObject({ code: 'CONFLICT' });
      expect((await c.retrieve(record.kid))?.wrapped.length).toBe(0);
    });

    it('does not shred on the word of another keystore', async () => {
      const routed = moving();
      await b.store(record, { absent: true });
      await a.store({ ...tombstone, seq: 99n }, { absent: true });
      await routed.retrieve(record.kid);
      await routed.versions('customers', '', 'seal');
      await routed.list({}, undefined, 10);
      expect((await b.retrieve(record.kid))?.wrapped.length).toBe(73);
    });
  });

  describe('retrieve', () => {
    const byPartition = ({ partition }: RouteKey): Placement => ({
      keystore: partition === '' ? 'a' : 'b',
      former: [],
    });

    it('asks the keystore that it remembers, and only that', async () => {
      const spies = [new KeystoreSpy(), new KeystoreSpy()];
      const routed = over({ a: spies[0]!.watch(a), b: spies[1]!.watch(b) }, byPartition);
      const other = recordLike({ partition: 'p' });
      await b.store(other, { absent: true });
      for (let i = 0; i < 5; i++) {
        expect(await routed.retrieve(other.kid)).toBeDefined();
      }
      expect(spies.map(({ calls }) => calls.get('retrieve'))).toEqual([1, 5]);
    });

    it('finds a record while a keystore that may not have it fails, and fails when nobody else has it', async () => {
      const failing = failingOn(a, 'retrieve');
      const routed = over({ a: failing.keystore, b }, byPartition);
      const other = recordLike({ partition: 'p' });
      await b.store(other, { absent: true });
      expect(plain(await routed.retrieve(other.kid))).toEqual(plain(other));
      await expect(routed.retrieve(record.kid)).rejects.toMatchObject({ code: 'KEYSTORE_UNAVAILABLE' });
      failing.heal();
      expect(await routed.retrieve(record.kid)).toBeUndefined();
    });

    it('waits for no keystore that cannot override what is found', async () => {
      const hanging = new Proxy(b, {
        get: (target, property) =>
          property === 'retrieve' ? () => new Promise(() => undefined) : Reflect.get(target, property, target),
      });
      const routed = over({ a, b: hanging }, byPartition);
      await a.store(record, { absent: true });
      expect(plain(await routed.retrieve(record.kid))).toEqual(plain(record));
    });

    it('takes a record from its own keystore, whatever another says about its kid', async () => {
      const forged = { ...record, partition: 'p', state: 'active' as const, seq: 99n };
      const planted = { ...record, seq: 99n };
      await a.store(record, { absent: true });
      for (const lie of [forged, planted]) {
        b = new MemoryKeystore();
        await b.store(lie, { absent: true });
        const routed = over({ a, b }, byPartition);
        expect(plain(await routed.retrieve(record.kid))).toEqual(plain(record));
        expect(plain(await routed.retrieve(record.kid))).toEqual(plain(record));
        expect((await routed.list({}, undefined, 10)).records.map(plain)).toEqual([plain(record)]);
      }
    });
  });

  it('tells no versions while a keystore that may have newer ones fails', async () => {
    await b.store(record, { absent: true });
    const routed = moving({ a: failingOn(a, 'versions').keystore, b });
    await expect(routed.versions('customers', '', 'seal')).rejects.toMatchObject({ code: 'KEYSTORE_UNAVAILABLE' });
    await expect(routed.store(recordLike({ version: 2 }), { absent: true })).rejects.toMatchObject({
      code: 'KEYSTORE_UNAVAILABLE',
    });
  });

  it('lists every record of all keystores once, in the order of kids, in pages of any size', async () => {
    const records = Array.from({ length: 40 }, (_, i) => recordLike({ name: `key-${i}`, level: i % 2 === 0 ? 4 : 3 }));
    const routed = over({ a, b, c }, ({ level }) => ({ keystore: level === 4 ? 'b' : 'c', former: ['a'] }));
    for (const [i, each] of records.entries()) {
      await (i % 3 === 0 ? a : i % 2 === 0 ? b : c).store(each, { absent: true });
      if (i % 6 === 0) {
        await b.store({ ...each, state: 'suspended', seq: 2n }, { absent: true });
      }
    }
    const sorted = kids(records);
    const isSuspended = kids(records.filter((_, i) => i % 6 === 0));
    for (const limit of [1, 2, 7, 39, 40, 41]) {
      expect(await listed(routed, {}, limit)).toEqual(sorted);
      expect(await listed(routed, { state: 'suspended' }, limit)).toEqual(isSuspended);
      expect(await listed(routed, { state: 'active', level: 4 }, limit)).toEqual(
        kids(records.filter((_, i) => i % 2 === 0 && i % 6 !== 0)),
      );
    }
    for (const cursor of ['x', Buffer.from('{}').toString('base64url'), Buffer.from('null').toString('base64url')]) {
      await expect(routed.list({}, cursor, 10)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    }
  });

  it('keeps leases with their record, and counts the larger of two', async () => {
    const routed = moving();
    await b.store(record, { absent: true });
    const { kid } = record;
    await a.storeLease({ kid, holder: 'h', messages: 5n, bytes: 1n });
    await routed.storeLease({ kid, holder: 'h', messages: 3n, bytes: 9n });
    expect(await routed.leases()).toEqual([{ kid, holder: 'h', messages: 5n, bytes: 9n }]);
    expect(await b.leases()).toEqual([{ kid, holder: 'h', messages: 3n, bytes: 9n }]);
  });

  it('is as healthy and as durable as its worst part, and says which that is', async () => {
    const routed = moving();
    expect(routed.capabilities()).toEqual({ durable: false, writable: true, watch: false });
    expect(await routed.health()).toMatchObject({ ok: true });
    await a.close();
    expect(await routed.health()).toMatchObject({ ok: false, detail: expect.stringMatching(/^a: .*; b: /) });
  });
});

function kids(records: readonly KeyRecord[]): string[] {
  return records.map(({ kid }) => Buffer.from(kid).toString('hex')).sort();
}

async function kidsOf(keystore: Keystore): Promise<string[]> {
  return kids((await keystore.list({}, undefined, 1000)).records);
}

/** Kids in the order in which pages of `limit` have them. */
async function listed(keystore: Keystore, filter: ListFilter, limit = 10): Promise<string[]> {
  const found: string[] = [];
  let cursor: string | undefined;
  do {
    const page = await keystore.list(filter, cursor, limit);
    expect(page.records.length).toBeLessThanOrEqual(limit);
    found.push(...page.records.flatMap((each) => kids([each])));
    cursor = page.cursor;
  } while (cursor !== undefined);
  return found;
}

/** `keystore` with one method that fails until it is healed. */
function failingOn(keystore: Keystore, method: keyof Keystore): { keystore: Keystore; heal(): void } {
  let isFailing = true;
  return {
    heal: () => {
      isFailing = false;
    },
    keystore: new Proxy(keystore, {
      get: (target, property) => {
        const value: unknown = Reflect.get(target, property, target);
        if (property === method && isFailing) {
          return async () => {
            throw new DekdError('KEYSTORE_UNAVAILABLE', 'it is away');
          };
        }
        return typeof value === 'function' ? value.bind(target) : value;
      },
    }),
  };
}
