import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { KeyState } from '../../src/keyring/record.ts';
import { inState, withMac } from '../../src/keyring/record-check.ts';
import { canBecome, checkTransition } from '../../src/keyring/states.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { Sandbox, type World } from './keyring-fixture.ts';

const STATES: readonly KeyState[] = ['pre-active', 'active', 'suspended', 'deactivated', 'compromised', 'destroyed'];

/** From each state, in the order of STATES: y where NIST SP 800-57 part 1 leads there, d our one addition. */
const MATRIX: Readonly<Record<KeyState, string>> = {
  'pre-active': '-y--yy',
  active: '--yyyy',
  suspended: '-y-yyy',
  deactivated: '--d-yy',
  compromised: '-----y',
  destroyed: '------',
};

/** What a version in each state does for a caller, and what an operator's command makes of it; `!` is a refusal. */
const TABLE: readonly (readonly [KeyState, Outcome])[] = [
  ['active', { seals: true, opens: true, disable: 'suspended', enable: 'active', compromise: 'compromised' }],
  ['suspended', { seals: false, opens: false, disable: 'suspended', enable: 'active', compromise: 'compromised' }],
  [
    'deactivated',
    { seals: false, opens: true, disable: 'suspended', enable: 'deactivated', compromise: 'compromised' },
  ],
  ['compromised', { seals: false, opens: true, disable: '!', enable: '!', compromise: 'compromised' }],
  ['pre-active', { seals: false, opens: false, disable: '!', enable: '!', compromise: 'compromised' }],
  ['destroyed', { seals: false, opens: false, disable: '!', enable: '!', compromise: '!' }],
];

interface Outcome {
  readonly seals: boolean;
  readonly opens: boolean;
  readonly disable: string;
  readonly enable: string;
  readonly compromise: string;
}

describe('transitions between key states', () => {
  const pairs = STATES.flatMap((from) => STATES.map((to, index) => [from, to, MATRIX[from][index]!] as const));

  it.each(pairs)('from %s to %s: %s', (from, to, mark) => {
    expect(canBecome(from, to)).toBe(mark !== '-');
    const step = () => checkTransition(from, to);
    if (mark === '-') {
      expect(step).toThrow(`is ${from} cannot become ${to}`);
    } else {
      expect(step).not.toThrow();
    }
  });

  it('are 36 pairs', () => {
    expect(pairs).toHaveLength(36);
  });
});

describe('a key version in each state', () => {
  let sandbox: Sandbox;
  let keystore: MemoryKeystore;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
    keystore = new MemoryKeystore();
  });

  afterEach(() => sandbox.cleanUp());

  it.each(TABLE)('%s allows %o', async (state, expected) => {
    const { token, world } = await inA(state);
    expect(await succeeds(world.sealed('k', 'new'))).toBe(expected.seals);
    expect(await opens(world, token)).toBe(expected.opens);
    for (const command of ['disable', 'enable', 'compromise'] as const) {
      const again = await inA(state);
      const { keyring } = again.world;
      const work = command === 'compromise' ? keyring.markCompromised('k', '', 1) : keyring[command]('k', '', 1);
      const result = await work.then(
        ([info]) => info!.state,
        () => '!',
      );
      expect([command, result]).toEqual([command, expected[command]]);
      const [row] = await keystore.versions('k', '', 'seal');
      expect(row!.state).toBe(result === '!' ? state : result);
    }
    const last = await inA(state);
    expect(await last.world.keyring.destroy('k', '', 1)).toMatchObject([{ state: 'destroyed' }]);
    expect(await opens(last.world, last.token)).toBe(false);
  });

  it('compromised opens, as the standard allows; a freeze is what stops that too', async () => {
    const { token, world } = await inA('compromised');
    expect(await opens(world, token)).toBe(true);
    await world.keyring.freeze({ name: 'k', partition: '' });
    expect(await opens(world, token)).toBe(false);
    await world.keyring.thaw({ name: 'k', partition: '' });
    expect(await opens(world, token)).toBe(true);
  });

  /** A key whose only version is in `state`, with a token of it from before, and an agent that has seen nothing yet. */
  async function inA(state: KeyState): Promise<{ token: Uint8Array; world: World }> {
    keystore = new MemoryKeystore();
    const maker = await sandbox.world({ keystore });
    const token = await maker.sealed('k', 'x');
    const [row] = await keystore.versions('k', '', 'seal');
    const kek = await keystore.retrieve(row!.parent.kind === 'key' ? row!.parent.kid : row!.kid);
    if (kek?.parent.kind === 'root' && state !== 'active') {
      const { wrappedSecret, reference } = kek.parent;
      const { engine } = maker;
      const secret = await maker.custody.defaultRoot.unwrap(wrappedSecret, reference, kek.keyContext);
      const { unwrapRecord } = await import('../../src/keyring/record-check.ts');
      const handle = unwrapRecord(engine, secret, kek);
      const next = withMac(engine, handle, inState(row!, state, 1_900_000_000_000));
      await keystore.updateMetadata([{ record: next, expect: { seq: row!.seq } }]);
    }
    return { token, world: await sandbox.world({ keystore }) };
  }
});

async function succeeds(work: Promise<unknown>): Promise<boolean> {
  return work.then(
    () => true,
    () => false,
  );
}

async function opens(world: World, token: Uint8Array): Promise<boolean> {
  return world.open(token).then(
    (text) => text === 'x',
    () => false,
  );
}
