import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { KeyRecord } from '../../src/keyring/record.ts';
import type { Keystore } from '../../src/keystores/keystore.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { FakeProvider } from '../support/fake-provider.ts';
import { durable, Sandbox, TENANTS, type World } from './keyring-fixture.ts';

/** What an agent did with the rows that an attacker has changed. */
interface Outcome {
  /** Whether a token from before still opens. */
  readonly opens: boolean;
  /** kid that new values are sealed under; undefined when none are. */
  readonly seals: string | undefined;
}

interface Attack {
  readonly title: string;
  /** Changes rows; `rows` are all there are. @returns them all as they are to be */
  readonly change: (rows: readonly KeyRecord[], attacker: readonly KeyRecord[]) => readonly KeyRecord[];
  /** Refused keys may not open; that is a denial, and allowed. Sealing under a key of the attacker's choice never is. */
  readonly opens: boolean;
  readonly seals: boolean;
}

const isKey = (row: KeyRecord): boolean => row.level === 4 && row.name === 'a';
const isKek = (row: KeyRecord): boolean => row.level === 3 && row.partition === '';

function each(match: (row: KeyRecord) => boolean, change: (row: KeyRecord) => Partial<KeyRecord>) {
  return (rows: readonly KeyRecord[]): readonly KeyRecord[] =>
    rows.map((row) => (match(row) ? { ...row, ...change(row) } : row));
}

/** A row under a root whose reference says something else. */
function referring(changes: Partial<{ root: string; resolvedId: string; materialVersion: string }>) {
  return each(isKek, (row) => ({
    parent:
      row.parent.kind === 'root' ? { ...row.parent, reference: { ...row.parent.reference, ...changes } } : row.parent,
  }));
}

const ATTACKS: readonly Attack[] = [
  { title: 'leaves everything as it is', change: (rows) => rows, opens: true, seals: true },
  {
    title: 'points the KEK at another key of the same provider',
    change: referring({ resolvedId: 'arn:aws:kms:eu-central-1:666666666666:key/attacker' }),
    opens: false,
    seals: false,
  },
  {
    title: 'points the KEK at a root that is not configured',
    change: referring({ root: 'x' }),
    opens: false,
    seals: false,
  },
  {
    title: "points the KEK at a configured root of somebody else's",
    change: referring({ root: 'other', resolvedId: 'fake:other' }),
    opens: false,
    seals: false,
  },
  {
    title: 'says another version of the material, which chooses nothing',
    change: referring({ materialVersion: '99' }),
    opens: true,
    seals: true,
  },
  {
    title: "puts the attacker's own tree in the place of the KEK",
    change: (rows, attacker) => {
      const theirs = attacker.find(isKek)!;
      return rows.map((row) => (isKek(row) ? { ...theirs, kid: row.kid } : row));
    },
    opens: false,
    seals: false,
  },
  {
    title: "adds the attacker's key as a newer active version",
    change: (rows, attacker) => [...rows, ...attacker.map((row) => ({ ...row, version: row.version + 1 }))],
    opens: true,
    seals: true,
  },
  {
    title: "puts the attacker's whole keystore in the place of this one",
    change: (_rows, attacker) => attacker,
    opens: false,
    seals: false,
  },
  {
    title: 'calls a disabled version active',
    change: each(
      (row) => row.name === 'off',
      () => ({ state: 'active' }),
    ),
    opens: true,
    seals: true,
  },
  { title: 'calls the key destroyed', change: each(isKey, () => ({ state: 'destroyed' })), opens: false, seals: false },
  { title: 'calls the KEK suspended', change: each(isKek, () => ({ state: 'suspended' })), opens: false, seals: false },
  {
    title: 'gives the key another name, so that it is found under it',
    change: each(isKey, () => ({ name: 'b' })),
    opens: false,
    seals: false,
  },
  {
    title: 'gives the key to a partition',
    change: each(isKey, () => ({ partition: 'p' })),
    opens: false,
    seals: false,
  },
  {
    title: 'renames the key context',
    change: each(isKey, () => ({ keyContext: { tenant: 'x' } })),
    opens: false,
    seals: false,
  },
  {
    title: 'gives the key another owner',
    change: each(isKey, (row) => ({ owner: { ...row.owner, tenant: 'x' } })),
    opens: false,
    seals: false,
  },
  {
    title: 'makes the key old, or young',
    change: each(isKey, (row) => ({ dates: { ...row.dates, activated: 1 } })),
    opens: false,
    seals: false,
  },
  {
    title: 'raises seq without a MAC',
    change: each(isKey, (row) => ({ seq: row.seq + 9n })),
    opens: false,
    seals: false,
  },
  {
    title: 'says another purpose',
    change: each(isKey, () => ({ purpose: 'mac', algorithm: 'hmac-sha-256' })),
    opens: false,
    seals: false,
  },
  { title: 'says another level', change: each(isKey, () => ({ level: 3 })), opens: false, seals: false },
  {
    title: 'swaps the wrapped bytes of two keys',
    change: (rows) => {
      const [a, off] = ['a', 'off'].map((name) => rows.find((row) => row.name === name && row.level === 4)!);
      return rows.map((row) =>
        row === a ? { ...row, wrapped: off!.wrapped } : row === off ? { ...row, wrapped: a!.wrapped } : row,
      );
    },
    opens: false,
    seals: false,
  },
  {
    title: 'makes the KEK its own parent',
    change: each(isKek, (row) => ({ parent: { kind: 'key', kid: row.kid } })),
    opens: false,
    seals: false,
  },
  {
    title: 'makes two KEKs the parents of each other',
    change: (rows) => {
      const kek = rows.find(isKek)!;
      const twin = { ...kek, kid: kek.kid.toReversed(), version: 2 };
      return [
        ...rows.filter((row) => row !== kek),
        { ...kek, parent: { kind: 'key', kid: twin.kid } },
        { ...twin, parent: { kind: 'key', kid: kek.kid } },
      ];
    },
    opens: false,
    seals: false,
  },
  {
    title: 'hangs the key under itself',
    change: each(isKey, (row) => ({ parent: { kind: 'key', kid: row.kid } })),
    opens: false,
    seals: false,
  },
  {
    title: 'hangs the key directly under the root',
    change: (rows) => {
      const kek = rows.find(isKek)!;
      return rows.map((row) => (isKey(row) ? { ...row, parent: kek.parent } : row));
    },
    opens: false,
    seals: false,
  },
  {
    title: 'gives the KEK a direct ciphertext for its secret, whose content its maker knows',
    change: each(isKek, (row) => ({
      parent: row.parent.kind === 'root' ? { ...row.parent, wrappedSecret: planted! } : row.parent,
    })),
    opens: false,
    seals: false,
  },
  {
    title: 'empties every field it can',
    change: each(isKey, () => ({ wrapped: new Uint8Array(0), mac: new Uint8Array(0) })),
    opens: false,
    seals: false,
  },
  { title: 'hides the key', change: (rows) => rows.filter((row) => !isKey(row)), opens: false, seals: false },
  { title: 'hides the KEK', change: (rows) => rows.filter((row) => !isKek(row)), opens: false, seals: false },
];

let planted: Uint8Array | undefined;

describe('a hostile keystore', () => {
  let sandbox: Sandbox;
  let provider: FakeProvider;
  let attackers: FakeProvider;
  let elsewhere: FakeProvider;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
    provider = new FakeProvider('kms');
    attackers = new FakeProvider('other');
    // As a key of their own account: the same name, and another id.
    elsewhere = new FakeProvider('kms', 'fake:attacker');
  });

  afterEach(() => sandbox.cleanUp());

  async function rowsOf(keystore: Keystore): Promise<readonly KeyRecord[]> {
    return (await keystore.list({}, undefined, 1_000)).records;
  }

  async function filled(rows: readonly KeyRecord[]): Promise<Keystore> {
    const keystore = new MemoryKeystore();
    for (const row of rows) {
      await keystore.store(row, { absent: true });
    }
    return keystore;
  }

  async function outcomeOf(world: World, token: Uint8Array): Promise<Outcome> {
    const opened = await world.open(token).catch(() => undefined);
    // The right to create is there: a key that vanished must not be made anew behind the operator's back either.
    const sealed = await world.sealed('a', 'new').catch(() => undefined);
    return { opens: opened === 'before', seals: sealed && Buffer.from(sealed.slice(2, 18)).toString('hex') };
  }

  for (const attack of ATTACKS) {
    it(`that ${attack.title}: ${attack.opens ? 'opens' : 'opens nothing'}, ${attack.seals ? 'seals under the right key' : 'seals nothing'}`, async () => {
      const stateFolder = sandbox.path('state');
      const providers = [provider, attackers];
      const first = await sandbox.world({ providers, placement: TENANTS });
      const token = await first.sealed('a', 'before');
      await first.sealed('off', 'x');
      await first.keyring.disable('off', '', undefined);
      const rows = await rowsOf(first.keystore);
      // The agent has seen this state, as a durable keystore would have had it remember.
      const seen = await sandbox.world({
        keystore: durable(await filled(rows)),
        providers,
        placement: TENANTS,
        stateFolder,
      });
      expect(await seen.open(token)).toBe('before');
      await seen.keyring.prepareSealing('a', '', 'x', undefined);

      // The attacker has a root and keys of their own, and may ask this agent's provider to encrypt directly.
      const theirs = await sandbox.world({ providers: [elsewhere] });
      await theirs.sealed('a', 'theirs');
      const made = await provider.encrypt(new Uint8Array(32), { 'dekd-use': 'direct' }, AbortSignal.timeout(1_000));
      planted = made.wrapped;

      const changed = attack.change(rows, await rowsOf(theirs.keystore));
      const keystore = durable(await filled(changed));
      const world = await sandbox
        .world({ keystore, providers, placement: TENANTS, stateFolder })
        .catch((error: unknown) => error);
      const right = rows.find(isKey)!;
      if (world instanceof Error) {
        // Refusing to start is a denial too, and says why.
        expect([attack.opens, attack.seals]).toEqual([false, false]);
        expect(world).toMatchObject({ code: expect.stringMatching(/^(KMS_DENIED|KEYSTORE_UNAVAILABLE)$/) });
        return;
      }
      const outcome = await outcomeOf(world as World, token);
      expect(outcome.opens).toBe(attack.opens);
      expect(outcome.seals).toBe(attack.seals ? Buffer.from(right.kid).toString('hex') : undefined);
      // Whatever it is called now, what was disabled seals and opens nothing.
      await expect((world as World).sealed('off', 'x')).rejects.toBeDefined();
    });
  }
});
