import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { KeyRecord } from '../../src/keyring/record.ts';
import type { Keystore, ListFilter } from '../../src/keystores/keystore.ts';
import { formsOf } from '../support/spy-keystore.ts';

export interface KeystoreUnderTest {
  readonly keystore: Keystore;
  /** A second keystore over the same rows, where rows outlive one keystore; also while the first is open. */
  readonly reopen?: () => Promise<Keystore>;
  /** Everything that the back end holds, in whatever form it holds it. */
  readonly dump?: () => Promise<Uint8Array>;
  readonly cleanUp: () => Promise<void>;
}

/** What every writable keystore does, whatever it is made of. */
export function keystoreContract(name: string, open: () => Promise<KeystoreUnderTest>): void {
  describe(`keystore contract: ${name}`, () => {
    let under: KeystoreUnderTest;
    let keystore: Keystore;

    beforeEach(async () => {
      under = await open();
      keystore = under.keystore;
    });

    afterEach(async () => {
      await keystore.close();
      await under.cleanUp();
    });

    it('returns every field of a record as it was stored', async () => {
      const underKey = recordLike({ name: 'a.b/c_d-e', partition: 'Füße 漢字 🔑', seq: 2n ** 63n + 5n });
      const underRoot = recordLike({
        level: 3,
        purpose: 'wrap',
        algorithm: 'hkdf-sha-256',
        name: '.l3/default',
        parent: {
          kind: 'root',
          reference: { root: 'local', resolvedId: 'local:00', materialVersion: 'm1' },
          wrappedSecret: bytes(73),
        },
        keyContext: context({ service: 'default', __proto_: 'x' }),
      });
      await keystore.store(underKey, { absent: true });
      await keystore.store(underRoot, { absent: true });
      expect(plain(await keystore.retrieve(underKey.kid))).toEqual(plain(underKey));
      expect(plain(await keystore.retrieve(underRoot.kid))).toEqual(plain(underRoot));
    });

    it('returns undefined for a kid that is not there', async () => {
      expect(await keystore.retrieve(bytes(16))).toBeUndefined();
    });

    it('keeps its own copy of the bytes it is given', async () => {
      const record = recordLike({});
      const wrapped = record.wrapped.slice();
      await keystore.store(record, { absent: true });
      record.wrapped.fill(0);
      expect((await keystore.retrieve(record.kid))?.wrapped).toEqual(wrapped);
    });

    it('refuses a second record with the same kid', async () => {
      const record = recordLike({});
      await keystore.store(record, { absent: true });
      const other = recordLike({ kid: record.kid, name: 'other' });
      await expect(keystore.store(other, { absent: true })).rejects.toMatchObject({ code: 'CONFLICT' });
    });

    it('refuses a second record with the same name, partition, purpose and version, and only then', async () => {
      await keystore.store(recordLike({}), { absent: true });
      await expect(keystore.store(recordLike({}), { absent: true })).rejects.toMatchObject({ code: 'CONFLICT' });
      await keystore.store(recordLike({ version: 2 }), { absent: true });
      await keystore.store(recordLike({ partition: 'other' }), { absent: true });
      await keystore.store(recordLike({ purpose: 'mac', algorithm: 'hmac-sha-256' }), { absent: true });
    });

    it('replaces a record only when it has the seq expected', async () => {
      const record = recordLike({});
      await keystore.store(record, { absent: true });
      const next = { ...record, seq: 2n, revision: 2 };
      await expect(keystore.store(next, { seq: 7n })).rejects.toMatchObject({ code: 'CONFLICT' });
      await keystore.store(next, { seq: 1n });
      expect((await keystore.retrieve(record.kid))?.revision).toBe(2);
      await expect(keystore.store(recordLike({ name: 'new' }), { seq: 1n })).rejects.toMatchObject({
        code: 'CONFLICT',
      });
    });

    it('lists the versions of one name, oldest first, and no other', async () => {
      for (const version of [10, 2, 1]) {
        await keystore.store(recordLike({ version }), { absent: true });
      }
      await keystore.store(recordLike({ partition: 'other' }), { absent: true });
      const versions = await keystore.versions('customers', '', 'seal');
      expect(versions.map((record) => record.version)).toEqual([1, 2, 10]);
      expect(await keystore.versions('Customers', '', 'seal')).toEqual([]);
    });

    it('changes the metadata of several records, or of none', async () => {
      const first = recordLike({});
      const second = recordLike({ version: 2, state: 'pre-active' });
      await keystore.store(first, { absent: true });
      await keystore.store(second, { absent: true });
      const changes = [
        { record: { ...second, state: 'active' as const, seq: 2n }, expect: { seq: 1n } },
        { record: { ...first, state: 'deactivated' as const, seq: 2n }, expect: { seq: 9n } },
      ];
      await expect(keystore.updateMetadata(changes)).rejects.toMatchObject({ code: 'CONFLICT' });
      expect(await states(keystore)).toEqual(['active', 'pre-active']);
      await keystore.updateMetadata([changes[0]!, { ...changes[1]!, expect: { seq: 1n } }]);
      expect(await states(keystore)).toEqual(['deactivated', 'active']);
    });

    it('changes nothing but metadata, parent and wrapped bytes', async () => {
      const record = recordLike({});
      await keystore.store(record, { absent: true });
      const changed: KeyRecord = {
        ...record,
        name: 'renamed',
        state: 'suspended',
        seq: 2n,
        mac: bytes(32),
        revision: 3,
        wrapped: bytes(73),
        parent: { kind: 'key', kid: bytes(16) },
        dates: { created: 1, activated: 2, deactivated: 3, destroyed: 4 },
      };
      await keystore.updateMetadata([{ record: changed, expect: { seq: 1n } }]);
      expect(plain(await keystore.retrieve(record.kid))).toEqual(plain({ ...changed, name: record.name }));
    });

    it('says KEY_NOT_FOUND when it is to change or delete what is not there', async () => {
      const record = recordLike({});
      const change = { record, expect: { seq: 1n } };
      await expect(keystore.updateMetadata([change])).rejects.toMatchObject({ code: 'KEY_NOT_FOUND' });
      await expect(keystore.delete(record, { seq: 1n })).rejects.toMatchObject({ code: 'KEY_NOT_FOUND' });
    });

    it('leaves a tombstone without wrapped bytes', async () => {
      const record = recordLike({});
      await keystore.store(record, { absent: true });
      const tombstone: KeyRecord = { ...record, state: 'destroyed', wrapped: new Uint8Array(0), seq: 2n };
      await expect(keystore.delete(tombstone, { seq: 4n })).rejects.toMatchObject({ code: 'CONFLICT' });
      await keystore.delete(tombstone, { seq: 1n });
      const stored = await keystore.retrieve(record.kid);
      expect(stored?.state).toBe('destroyed');
      expect(stored?.wrapped.length).toBe(0);
    });

    it('lists all records once, page by page, in the order of their kids', async () => {
      const kids: string[] = [];
      for (let version = 1; version <= 25; version++) {
        const record = recordLike({ version });
        kids.push(hex(record.kid));
        await keystore.store(record, { absent: true });
      }
      const listed: string[] = [];
      let cursor: string | undefined;
      do {
        const page = await keystore.list({}, cursor, 10);
        expect(page.records.length).toBeLessThanOrEqual(10);
        listed.push(...page.records.map((record) => hex(record.kid)));
        cursor = page.cursor;
      } while (cursor !== undefined);
      expect(listed).toEqual(kids.sort());
    });

    it('lists what a filter says, and ends without an empty page', async () => {
      await keystore.store(recordLike({ name: 'a' }), { absent: true });
      await keystore.store(recordLike({ name: 'b', partition: 'p', state: 'suspended' }), { absent: true });
      await keystore.store(recordLike({ name: 'b', partition: 'q', level: 3, purpose: 'wrap' }), { absent: true });
      const names = async (filter: Parameters<Keystore['list']>[0]) =>
        (await keystore.list(filter, undefined, 100)).records.map((record) => record.name + record.partition).sort();
      expect(await names({ name: 'b' })).toEqual(['bp', 'bq']);
      expect(await names({ partition: '' })).toEqual(['a']);
      expect(await names({ level: 3 })).toEqual(['bq']);
      expect(await names({ purpose: 'wrap' })).toEqual(['bq']);
      expect(await names({ state: 'suspended' })).toEqual(['bp']);
      expect((await keystore.list({ name: 'b' }, undefined, 2)).cursor).toBeUndefined();
    });

    it('refuses a page of none or of more than 1,000', async () => {
      for (const limit of [0, 1001, 1.5]) {
        await expect(keystore.list({}, undefined, limit)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
      }
    });

    it('raises leases and never lowers them', async () => {
      const kid = bytes(16);
      await keystore.storeLease({ kid, holder: 'a', messages: 10n, bytes: 100n });
      await keystore.storeLease({ kid, holder: 'a', messages: 5n, bytes: 200n });
      await keystore.storeLease({ kid, holder: 'b', messages: 2n ** 50n, bytes: 1n });
      const leases = (await keystore.leases()).map((lease) => ({ ...lease, kid: hex(lease.kid) }));
      expect(leases.sort((x, y) => x.holder.localeCompare(y.holder))).toEqual([
        { kid: hex(kid), holder: 'a', messages: 10n, bytes: 200n },
        { kid: hex(kid), holder: 'b', messages: 2n ** 50n, bytes: 1n },
      ]);
    });

    it('lets one of many writers win', async () => {
      const record = recordLike({});
      await keystore.store(record, { absent: true });
      const writers = Array.from({ length: 20 }, (_, i) =>
        keystore.updateMetadata([{ record: { ...record, revision: i + 2, seq: 2n }, expect: { seq: 1n } }]),
      );
      const results = await Promise.allSettled(writers);
      expect(results.filter((result) => result.status === 'fulfilled').length).toBe(1);
    });

    it('keeps every partition apart from every other, whatever its text', async () => {
      const records = ODD_PARTITIONS.map((partition) => recordLike({ partition, owner: ownerOf(partition) }));
      for (const record of records) {
        await keystore.store(record, { absent: true });
      }
      for (const record of records) {
        expect(plain(await keystore.retrieve(record.kid))).toEqual(plain(record));
        const { name, partition, purpose } = record;
        expect((await keystore.versions(name, partition, purpose)).map(plain)).toEqual([plain(record)]);
        expect((await keystore.list({ partition }, undefined, 10)).records.map(plain)).toEqual([plain(record)]);
      }
    });

    it('returns key context and owner with any text in them, and the largest dates', async () => {
      const record = recordLike({
        owner: { tenant: '"; --', service: '\\', node: 'a\tb 🔑' },
        dates: { created: Number.MAX_SAFE_INTEGER, activated: 1, deactivated: 2, destroyed: 3 },
        keyContext: context({ ['__proto__']: 'x', constructor: 'y', 'a b': '', é: '\u2029"' }),
      });
      await keystore.store(record, { absent: true });
      const stored = (await keystore.retrieve(record.kid))!;
      expect(plain(stored)).toEqual(plain(record));
      expect(Object.getPrototypeOf(stored.keyContext)).toBeNull();
      expect(Object.keys(stored.keyContext).sort()).toEqual(['__proto__', 'a b', 'constructor', 'é']);
    });

    it('compares seq with all of its 64 bits', async () => {
      const seqs = [2n ** 53n + 1n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 63n + 1n, 2n ** 64n - 1n];
      let record = recordLike({ seq: 2n ** 53n });
      await keystore.store(record, { absent: true });
      for (const seq of seqs) {
        const change = { ...record, seq };
        for (const near of [record.seq - 1n, record.seq + 1n]) {
          await expect(keystore.updateMetadata([{ record: change, expect: { seq: near } }])).rejects.toMatchObject({
            code: 'CONFLICT',
          });
        }
        await keystore.updateMetadata([{ record: change, expect: { seq: record.seq } }]);
        record = change;
        expect((await keystore.retrieve(record.kid))?.seq).toBe(seq);
      }
    });

    it('loses no version and no record over 50 versions and 50 metadata writes', async () => {
      const records: KeyRecord[] = [];
      for (let version = 1; version <= 50; version++) {
        records.push(recordLike({ version }));
        await keystore.store(records.at(-1)!, { absent: true });
      }
      const [first] = records;
      for (let seq = 2n; seq <= 51n; seq++) {
        const record = { ...first!, seq, revision: Number(seq) };
        await keystore.updateMetadata([{ record, expect: { seq: seq - 1n } }]);
        records[0] = record;
      }
      expect((await keystore.versions('customers', '', 'seal')).map(plain)).toEqual(records.map(plain));
    });

    it('lets one of many creations of a version win, also from two keystores over the same rows', async () => {
      await withSecond(async (second) => {
        const made = Array.from({ length: 10 }, () => recordLike({}));
        const outcomes = await Promise.allSettled(
          made.map((record, i) => (i % 2 === 0 ? keystore : second).store(record, { absent: true })),
        );
        expect(winnersOf(outcomes)).toHaveLength(1);
        const [stored] = await keystore.versions('customers', '', 'seal');
        expect(plain(stored)).toEqual(plain(made[winnersOf(outcomes)[0]!]));
        expect((await keystore.list({}, undefined, 100)).records).toHaveLength(1);
      });
    });

    it('lets one of many rotations win, also from two keystores over the same rows', async () => {
      await withSecond(async (second) => {
        const first = recordLike({});
        const next = recordLike({ version: 2, state: 'pre-active' });
        await keystore.store(first, { absent: true });
        await keystore.store(next, { absent: true });
        const outcomes = await Promise.allSettled(
          Array.from({ length: 8 }, (_, i) =>
            (i % 2 === 0 ? keystore : second).updateMetadata([
              { record: { ...next, state: 'active', seq: 2n, revision: i + 2 }, expect: { seq: 1n } },
              { record: { ...first, state: 'deactivated', seq: 2n, revision: i + 2 }, expect: { seq: 1n } },
            ]),
          ),
        );
        expect(winnersOf(outcomes)).toHaveLength(1);
        const rows = await second.versions('customers', '', 'seal');
        const revision = winnersOf(outcomes)[0]! + 2;
        expect(rows.map(({ state, revision: each }) => [state, each])).toEqual([
          ['deactivated', revision],
          ['active', revision],
        ]);
      });
    });

    it('shows two records that change together both before or both after', async () => {
      await withSecond(async (second) => {
        let rows = [recordLike({}), recordLike({ version: 2, state: 'deactivated' })] as const;
        for (const row of rows) {
          await keystore.store(row, { absent: true });
        }
        let isWriting = true;
        const seen = new Set<string>();
        const reading = (async () => {
          while (isWriting) {
            seen.add((await second.versions('customers', '', 'seal')).map(({ state }) => state).join());
            await new Promise(setImmediate);
          }
        })();
        for (let turn = 0; turn < 10; turn++) {
          const [one, two] = rows;
          rows = [
            { ...one, state: two.state, seq: one.seq + 1n },
            { ...two, state: one.state, seq: two.seq + 1n },
          ];
          await keystore.updateMetadata([
            { record: rows[0], expect: { seq: one.seq } },
            { record: rows[1], expect: { seq: two.seq } },
          ]);
        }
        isWriting = false;
        await reading;
        expect([...seen].filter((states) => !['active,deactivated', 'deactivated,active'].includes(states))).toEqual(
          [],
        );
      });
    });

    it('ends a second delete with CONFLICT, and keeps the tombstone', async () => {
      const record = recordLike({});
      await keystore.store(record, { absent: true });
      const tombstone: KeyRecord = { ...record, state: 'destroyed', wrapped: new Uint8Array(0), seq: 2n };
      await keystore.delete(tombstone, { seq: 1n });
      await expect(keystore.delete(tombstone, { seq: 1n })).rejects.toMatchObject({ code: 'CONFLICT' });
      expect(plain(await keystore.retrieve(record.kid))).toEqual(plain(tombstone));
      await expect(keystore.store(recordLike({ kid: record.kid }), { absent: true })).rejects.toMatchObject({
        code: 'CONFLICT',
      });
      await expect(keystore.store(recordLike({}), { absent: true })).rejects.toMatchObject({ code: 'CONFLICT' });
    });

    it('holds nothing of the wrapped bytes of a deleted record any more', async () => {
      const { dump } = under;
      if (dump === undefined) {
        return;
      }
      const record = recordLike({ level: 3, name: '.l3/default', purpose: 'wrap', algorithm: 'hkdf-sha-256' });
      const kept = recordLike({});
      await keystore.store(record, { absent: true });
      await keystore.store(kept, { absent: true });
      const rewrapped = { ...record, wrapped: bytes(73), seq: 2n, revision: 2 };
      await keystore.updateMetadata([{ record: rewrapped, expect: { seq: 1n } }]);
      expect(holds(await dump(), rewrapped.wrapped)).toBe(true);
      const tombstone: KeyRecord = { ...rewrapped, state: 'destroyed', wrapped: new Uint8Array(0), seq: 3n };
      await keystore.delete(tombstone, { seq: 2n });
      const left = await dump();
      expect(holds(left, record.wrapped)).toBe(false);
      expect(holds(left, rewrapped.wrapped)).toBe(false);
      expect(holds(left, kept.wrapped)).toBe(true);
    });

    it('lists 300 records by any filter as they are, while others are written', async () => {
      const records = Array.from({ length: 300 }, (_, i) =>
        recordLike({
          name: `key-${i % 7}`,
          partition: ['', 'acme', 'ümlaut'][i % 3]!,
          version: i + 1,
          level: ([2, 3, 4] as const)[i % 3]!,
          purpose: (['seal', 'wrap', 'mac'] as const)[i % 3]!,
          state: (['active', 'suspended', 'deactivated', 'compromised'] as const)[i % 4]!,
        }),
      );
      for (let start = 0; start < records.length; start += 25) {
        await Promise.all(records.slice(start, start + 25).map((record) => keystore.store(record, { absent: true })));
      }
      const filters: ListFilter[] = [
        {},
        { name: 'key-3' },
        { partition: '' },
        { partition: 'ümlaut', state: 'active' },
        { level: 3, purpose: 'wrap' },
        { name: 'key-1', state: 'compromised', level: 4 },
        { purpose: 'index' },
      ];
      let isListing = true;
      let written = 0;
      const writing = (async () => {
        while (isListing) {
          await keystore.store(recordLike({ name: 'noise', version: ++written }), { absent: true });
          await new Promise(setImmediate);
        }
      })();
      for (const filter of filters) {
        const listed = (await allOf(keystore, filter, 61)).filter(({ name }) => name !== 'noise');
        const expected = records.filter((record) =>
          Object.entries(filter).every(([field, value]) => record[field as keyof KeyRecord] === value),
        );
        expect(listed.map((record) => hex(record.kid))).toEqual(expected.map((record) => hex(record.kid)).sort());
      }
      isListing = false;
      await writing;
      expect(written).toBeGreaterThan(0);
    });

    it('is healthy while open and refuses everything once closed', async () => {
      expect((await keystore.health()).ok).toBe(true);
      await keystore.close();
      await expect(keystore.retrieve(bytes(16))).rejects.toMatchObject({ code: 'KEYSTORE_UNAVAILABLE' });
      await expect(keystore.store(recordLike({}), { absent: true })).rejects.toMatchObject({
        code: 'KEYSTORE_UNAVAILABLE',
      });
    });

    it('has its rows again after it was closed, when it says that they are durable', async () => {
      const record = recordLike({});
      await keystore.store(record, { absent: true });
      expect(keystore.capabilities().durable).toBe(under.reopen !== undefined);
      if (under.reopen !== undefined) {
        await keystore.close();
        keystore = await under.reopen();
        expect(plain(await keystore.retrieve(record.kid))).toEqual(plain(record));
      }
    });

    /** Lends a second keystore over the same rows, or the same one where there is no other. */
    async function withSecond(use: (second: Keystore) => Promise<void>): Promise<void> {
      const second = await under.reopen?.();
      try {
        await use(second ?? keystore);
      } finally {
        await second?.close();
      }
    }
  });
}

/** Texts that are a partition and that a path, a quotation or a comparison could take for something else. */
const ODD_PARTITIONS: readonly string[] = [
  '',
  ' ',
  'a',
  'A',
  'a ',
  'a/b',
  'a/../b',
  '..',
  '.',
  '/',
  '%2e%2e',
  '%',
  '__proto__',
  "o'hara",
  '"quoted"',
  '\\',
  ';DROP TABLE record',
  '🔑',
  'Füße',
  'Fu\u0308ße',
  'é'.repeat(128),
  'x'.repeat(128),
];

/** A record of the right shape with random bytes; `changes` over it. */
export function recordLike(changes: Partial<KeyRecord>): KeyRecord {
  return {
    kid: bytes(16),
    name: 'customers',
    partition: '',
    level: 4,
    version: 1,
    revision: 1,
    algorithm: 'xaes-256-gcm',
    purpose: 'seal',
    size: 32,
    state: 'active',
    owner: { tenant: '', service: 'default', node: 'n' },
    dates: { created: 1_700_000_000_000, activated: 1_700_000_000_001, deactivated: 0, destroyed: 0 },
    parent: { kind: 'key', kid: bytes(16) },
    wrapped: bytes(73),
    keyContext: context({}),
    seq: 1n,
    mac: bytes(32),
    ...changes,
  };
}

/** A record with its binary in hex, for comparisons that show what differs. */
export function plain(record: KeyRecord | undefined): unknown {
  return JSON.parse(
    JSON.stringify(record ?? null, (_key, value: unknown) =>
      value instanceof Uint8Array ? hex(value) : typeof value === 'bigint' ? value.toString() : value,
    ),
  );
}

function context(pairs: Record<string, string>): Record<string, string> {
  return Object.assign(Object.create(null), pairs);
}

function ownerOf(tenant: string): KeyRecord['owner'] {
  return { tenant, service: 'default', node: 'n' };
}

/** Which of `outcomes` were reached; every other must be a lost compare-and-set. */
function winnersOf(outcomes: readonly PromiseSettledResult<unknown>[]): number[] {
  const lost = outcomes.filter((outcome) => outcome.status === 'rejected');
  expect(lost.map(({ reason }) => (reason as { code?: string }).code)).toEqual(lost.map(() => 'CONFLICT'));
  return outcomes.flatMap(({ status }, index) => (status === 'fulfilled' ? [index] : []));
}

/** Every record that `filter` names, in pages of `limit`. */
async function allOf(keystore: Keystore, filter: ListFilter, limit: number): Promise<KeyRecord[]> {
  const records: KeyRecord[] = [];
  let cursor: string | undefined;
  do {
    const page = await keystore.list(filter, cursor, limit);
    records.push(...page.records);
    cursor = page.cursor;
  } while (cursor !== undefined);
  return records;
}

/** Whether `bytes` are in `dump`, raw or in a text form. */
function holds(dump: Uint8Array, bytes: Uint8Array): boolean {
  const held = Buffer.from(dump);
  return formsOf(bytes).some((form) => held.includes(form));
}

async function states(keystore: Keystore): Promise<string[]> {
  return (await keystore.versions('customers', '', 'seal')).map((record) => record.state);
}

function bytes(length: number): Uint8Array {
  return new Uint8Array(randomBytes(length));
}

function hex(value: Uint8Array): string {
  return Buffer.from(value).toString('hex');
}
