import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { KeyRecord } from '../../src/keyring/record.ts';
import type { Keystore } from '../../src/keystores/keystore.ts';

export interface KeystoreUnderTest {
  readonly keystore: Keystore;
  /** A second keystore over the same rows, where rows outlive one keystore. */
  readonly reopen?: () => Promise<Keystore>;
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
  });
}

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

async function states(keystore: Keystore): Promise<string[]> {
  return (await keystore.versions('customers', '', 'seal')).map((record) => record.state);
}

function bytes(length: number): Uint8Array {
  return new Uint8Array(randomBytes(length));
}

function hex(value: Uint8Array): string {
  return Buffer.from(value).toString('hex');
}
