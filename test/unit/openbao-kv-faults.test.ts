import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { KeyRecord } from '../../src/keyring/record.ts';
import type { Keystore } from '../../src/keystores/keystore.ts';
import type { VaultClient } from '../../src/vault/client.ts';
import { VaultError } from '../../src/vault/vault-error.ts';
import { plain, recordLike } from '../contract/keystore.contract.ts';
import { formsOf } from '../support/spy-keystore.ts';
import { StandInKv } from '../support/vault-server/kv.ts';
import { KvPlace } from '../support/vault-server/kv-place.ts';

/** What becomes of the n-th request, and of those after it. */
const FAULTS = {
  'is not sent': { isDone: false, isLast: false },
  'loses its answer': { isDone: true, isLast: false },
  'is not sent, and the process dies': { isDone: false, isLast: true },
  'loses its answer, and the process dies': { isDone: true, isLast: true },
} as const;

type Fault = (typeof FAULTS)[keyof typeof FAULTS];

const first = recordLike({});
const next = recordLike({ version: 2, state: 'pre-active' });
const made = recordLike({ version: 3, state: 'pre-active' });
const tombstone: KeyRecord = { ...first, state: 'destroyed', wrapped: new Uint8Array(0), seq: 2n };

interface Operation {
  readonly run: (keystore: Keystore) => Promise<void>;
  readonly before: readonly KeyRecord[];
  readonly after: readonly KeyRecord[];
  /** Wrapped bytes that must be nowhere once it is done, or once it is undone. */
  readonly goneAfter?: readonly KeyRecord[];
  readonly goneBefore?: readonly KeyRecord[];
}

const rotated = [
  { ...first, state: 'deactivated' as const, seq: 2n },
  { ...next, state: 'active' as const, seq: 2n },
];
const renamed: KeyRecord = { ...next, name: 'clients', version: 7, seq: 2n };
const rewrapped: KeyRecord = { ...first, wrapped: recordLike({}).wrapped, revision: 2, seq: 2n };

const OPERATIONS: Readonly<Record<string, Operation>> = {
  'a creation': {
    run: (keystore) => keystore.store(made, { absent: true }),
    before: [first, next],
    after: [first, next, made],
    goneBefore: [made],
  },
  'a rotation': {
    run: (keystore) => keystore.updateMetadata(rotated.map((record) => ({ record, expect: { seq: 1n } }))),
    before: [first, next],
    after: rotated,
  },
  'a rewrap': {
    run: (keystore) => keystore.updateMetadata([{ record: rewrapped, expect: { seq: 1n } }]),
    before: [first, next],
    after: [rewrapped, next],
    goneAfter: [first],
  },
  'a replacement under another name': {
    run: (keystore) => keystore.store(renamed, { seq: 1n }),
    before: [first, next],
    after: [first, renamed],
  },
  'a deletion': {
    run: (keystore) => keystore.delete(tombstone, { seq: 1n }),
    before: [first, next],
    after: [tombstone, next],
    goneAfter: [first],
  },
};

describe('OpenbaoKvKeystore', () => {
  let place: KvPlace;

  beforeEach(async () => {
    place = await KvPlace.start('openbao');
  });

  afterEach(() => place.stop());

  for (const [fault, how] of Object.entries(FAULTS)) {
    for (const [name, operation] of Object.entries(OPERATIONS)) {
      it(`leaves ${name} done or undone when the n-th request ${fault}`, async () => {
        let failures = 0;
        const behind = await place.client({ connections: 3 });
        const keystore = await place.open();
        for (const record of operation.before) {
          await keystore.store(record, { absent: true });
        }
        const prepared = new StandInKv();
        prepared.restore(place.engine);
        for (let n = 1; ; n++) {
          place.engine.restore(prepared);
          const client = failing(behind, how);
          const faulty = await place.open(client);
          client.failAt(n);
          const error = await operation.run(faulty).then(
            () => undefined,
            (reason: unknown) => reason,
          );
          if (!client.hasFailed()) {
            expect(error).toBeUndefined();
            break;
          }
          failures += 1;
          if (error !== undefined) {
            expect(error, `request ${n}`).toMatchObject({ code: 'KEYSTORE_UNAVAILABLE' });
          }
          const reopened = await place.open();
          const rows = (await reopened.list({}, undefined, 100)).records;
          const isDone = JSON.stringify(shown(rows)) === JSON.stringify(shown(operation.after));
          expect(shown(rows), `request ${n}`).toEqual(shown(isDone ? operation.after : operation.before));
          expect(isDone || error !== undefined, `request ${n} was lost without an error`).toBe(true);
          expect(orphans(place), `request ${n}`).toEqual([]);
          expect(rows.filter(({ state }) => state === 'active').length).toBeLessThanOrEqual(1);
          for (const each of new Set(rows.map((row) => row.name))) {
            const versions = await reopened.versions(each, '', 'seal');
            expect(shown(versions)).toEqual(shown(rows.filter((row) => row.name === each)));
          }
          for (const { wrapped } of (isDone ? operation.goneAfter : operation.goneBefore) ?? []) {
            expect(holds(place, wrapped), `request ${n}`).toBe(false);
          }
          if (!isDone) {
            await operation.run(reopened);
            expect(shown((await reopened.list({}, undefined, 100)).records)).toEqual(shown(operation.after));
          }
          await reopened.close();
        }
        await Promise.all([keystore.close(), behind.close()]);
        expect(failures).toBeGreaterThan(4);
      });
    }
  }

  it('shows what it was until a change is committed, and what it is from then on, whoever finishes it', async () => {
    const keystore = await place.open();
    await keystore.store(first, { absent: true });
    await keystore.store(next, { absent: true });
    const client = failing(await place.client({ connections: 3 }), FAULTS['is not sent, and the process dies']);
    const dying = await place.open(client);
    const states: string[] = [];
    client.failAt(Number.POSITIVE_INFINITY, async () => {
      states.push((await keystore.versions('customers', '', 'seal')).map(({ state }) => state).join());
    });
    await dying.updateMetadata(rotated.map((record) => ({ record, expect: { seq: 1n } })));
    expect([...new Set(states)]).toEqual(['active,pre-active', 'deactivated,active']);
    expect(orphans(place)).toEqual([]);
    await keystore.close();
    await client.end();
  });

  it('takes a writer for dead after a while, and that writer learns that it lost', async () => {
    const keystore = await place.open();
    await keystore.store(first, { absent: true });
    await keystore.store(next, { absent: true });
    const client = failing(await place.client({ connections: 3 }), FAULTS['is not sent, and the process dies']);
    const slow = await place.open(client);
    const suspended: KeyRecord = { ...first, state: 'suspended', seq: 2n };
    client.failAt(Number.POSITIVE_INFINITY, async (path, body) => {
      const { data } = (body ?? {}) as { data?: { state?: string } };
      if (path.includes('/intents/') && data?.state === 'committed') {
        await keystore.updateMetadata([{ record: suspended, expect: { seq: 1n } }]);
      }
    });
    await expect(slow.updateMetadata(rotated.map((record) => ({ record, expect: { seq: 1n } })))).rejects.toMatchObject(
      { code: 'CONFLICT' },
    );
    expect(shown(await keystore.versions('customers', '', 'seal'))).toEqual(shown([suspended, next]));
    expect(orphans(place)).toEqual([]);
    await keystore.close();
    await client.end();
  });

  it('lets a writer that is slow, but alive, go on', async () => {
    const keystore = await place.open(undefined, 10_000);
    await keystore.store(first, { absent: true });
    await keystore.store(next, { absent: true });
    const client = failing(await place.client({ connections: 3 }), FAULTS['is not sent, and the process dies']);
    const slow = await place.open(client, 10_000);
    let other: Promise<void> | undefined;
    client.failAt(Number.POSITIVE_INFINITY, async (path, body) => {
      const { data } = (body ?? {}) as { data?: { state?: string } };
      if (path.includes('/intents/') && data?.state === 'committed') {
        other = keystore.updateMetadata([{ record: { ...first, state: 'suspended', seq: 2n }, expect: { seq: 1n } }]);
        other.catch(() => undefined);
        await sleep(50);
      }
    });
    await slow.updateMetadata(rotated.map((record) => ({ record, expect: { seq: 1n } })));
    await expect(other).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(shown(await keystore.versions('customers', '', 'seal'))).toEqual(shown(rotated));
    await keystore.close();
    await client.end();
  });

  it('reads all versions again when some were read before a rotation and some after it', async () => {
    const keystore = await place.open();
    await keystore.store(first, { absent: true });
    await keystore.store(next, { absent: true });
    const client = failing(await place.client({ connections: 3 }), FAULTS['is not sent, and the process dies']);
    const reader = await place.open(client);
    let rotation: Promise<void> | undefined;
    client.failAt(Number.POSITIVE_INFINITY, async (path) => {
      if (path.endsWith(Buffer.from(next.kid).toString('hex')) && rotation === undefined) {
        // The row beside it was asked for at the same time, and is read by then.
        await sleep(30);
        rotation = keystore.updateMetadata(rotated.map((record) => ({ record, expect: { seq: 1n } })));
        await rotation;
      }
    });
    expect(shown(await reader.versions('customers', '', 'seal'))).toEqual(shown(rotated));
    expect(rotation).toBeDefined();
    await keystore.close();
    await client.end();
  });

  it('drops a mark that arrives after its change was given up', async () => {
    const keystore = await place.open();
    await keystore.store(first, { absent: true });
    const path = `dekd/rows/${Buffer.from(first.kid).toString('hex')}`;
    const row = place.engine.current(path) as { value: unknown };
    const late = {
      value: row.value,
      pending: { intent: 'gone', next: { ...(row.value as object), state: 'suspended' } },
    };
    const client = await place.client();
    await client.request('POST', `secret/data/${path}`, { data: late, options: { cas: 2 } });
    expect((await keystore.retrieve(first.kid))?.state).toBe('active');
    expect(orphans(place)).toEqual([]);
    await keystore.close();
    await client.close();
  });
});

interface FailingClient extends VaultClient {
  /** The n-th request from now on fails; `watch` is called before each. */
  failAt(n: number, watch?: (path: string, body: unknown) => Promise<void>): void;
  hasFailed(): boolean;
  /** Closes the client behind it, which a dead process does not. */
  end(): Promise<void>;
}

function failing(client: VaultClient, { isDone, isLast }: Fault): FailingClient {
  let left = Number.POSITIVE_INFINITY;
  let failed = false;
  let watch: ((path: string, body: unknown) => Promise<void>) | undefined;
  return {
    settings: client.settings,
    logins: 0,
    health: () => client.health(),
    close: async () => undefined,
    closeKeepingSession: async () => undefined,
    end: () => client.close(),
    failAt: (n, watcher) => {
      left = n;
      watch = watcher;
    },
    hasFailed: () => failed,
    request: async (method, path, body, options) => {
      await watch?.(path, body);
      left -= 1;
      if (left > 0 || (failed && !isLast)) {
        return client.request(method, path, body, options);
      }
      if (isDone && !failed) {
        await client.request(method, path, body, options).catch(() => undefined);
      }
      failed = true;
      throw new VaultError('UNAVAILABLE', 'the connection broke', { ambiguous: isDone });
    },
  };
}

/** Whatever of the place is not as it should be when nobody is in the middle of anything. */
function orphans({ engine }: KvPlace): string[] {
  const found: string[] = [];
  const kids = new Map<string, string>();
  const claims = new Map<string, string>();
  for (const path of engine.paths()) {
    const entry = engine.current(path) as { value?: Record<string, unknown> | null; pending?: unknown };
    if (path.startsWith('dekd/intents/') || entry.pending !== undefined) {
      found.push(path);
    }
    const { value } = entry;
    if (typeof value !== 'object' || value === null) {
      continue;
    }
    const family = JSON.stringify([value.name, value.partition, value.purpose, value.version]);
    (path.startsWith('dekd/rows/') ? kids : claims).set(String(value.kid), family);
  }
  const differing = [...kids].filter(([kid, family]) => claims.get(kid) !== family);
  return [...found, ...differing.map(([kid]) => kid), ...[...claims.keys()].filter((kid) => !kids.has(kid))];
}

function shown(records: readonly KeyRecord[]): unknown[] {
  return records.map((record) => JSON.stringify(plain(record))).sort();
}

function holds({ engine }: KvPlace, bytes: Uint8Array): boolean {
  const dump = Buffer.from(engine.dump());
  return formsOf(bytes).some((form) => dump.includes(form));
}
