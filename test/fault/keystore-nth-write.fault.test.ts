import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DekdError } from '../../src/errors.ts';
import type { Keystore } from '../../src/keystores/keystore.ts';
import { MemoryKeystore } from '../../src/keystores/memory.ts';
import { Sandbox, type World } from '../unit/keyring-fixture.ts';

const WRITES = ['store', 'updateMetadata', 'delete', 'storeLease'] as const;
const SEAL = { name: 'a', partition: '', purpose: 'seal' } as const;

/** A keystore whose n-th write fails, before it is done or after: the caller cannot tell. */
class FailingKeystore extends MemoryKeystore {
  writes = 0;
  failAt = 0;
  mode: 'before' | 'after' = 'before';

  constructor() {
    super();
    for (const method of WRITES) {
      const write = this[method].bind(this) as (...args: unknown[]) => Promise<void>;
      (this as unknown as Record<string, unknown>)[method] = async (...args: unknown[]) => {
        this.writes++;
        const fails = this.writes === this.failAt;
        if (!fails || this.mode === 'after') {
          await write(...args);
        }
        if (fails) {
          throw new DekdError('KEYSTORE_UNAVAILABLE', 'the disk is on fire');
        }
      };
    }
  }

  override capabilities() {
    return { ...super.capabilities(), durable: true };
  }
}

describe('the keyring when the n-th keystore write fails', () => {
  let sandbox: Sandbox;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
  });

  afterEach(() => sandbox.cleanUp());

  for (const mode of ['before', 'after'] as const) {
    it(`loses nothing that was acknowledged and leaves one active version (${mode} the write was done)`, async () => {
      for (let n = 1; ; n++) {
        const keystore = new FailingKeystore();
        keystore.mode = mode;
        keystore.failAt = n;
        const stateFolder = sandbox.path(`state-${n}`);
        const world = await sandbox.world({ keystore, stateFolder });
        const tokens = await live(world);
        const { used } = world.engine.stats();
        expect(used).toBeLessThanOrEqual(10);
        expect(world.keyring.stats().loaded).toBeLessThanOrEqual(used - 2);
        await expectSound(world, keystore, tokens);
        const again = await sandbox.world({ keystore, stateFolder });
        await expectSound(again, keystore, tokens);
        await again.close();
        expect(again.engine.stats().used).toBe(0);
        if (keystore.writes < n) {
          expect(n).toBeGreaterThan(8);
          return;
        }
      }
    });
  }

  /** A life with every kind of write; what fails is tried once more, as a person would. */
  async function live(world: World): Promise<Map<Uint8Array, string>> {
    const tokens = new Map<Uint8Array, string>();
    const sealed = async (text: string) => {
      tokens.set(await twice(() => world.sealed('a', text)), text);
    };
    await sealed('one');
    for (const text of ['two', 'three']) {
      const before = (await world.keystore.versions('a', '', 'seal')).findLast(({ state }) => state === 'active');
      const { version } = await twice(() => world.keyring.rotate(SEAL));
      expect(version).toBeGreaterThan(before!.version);
      await sealed(text);
    }
    await twice(() => world.keyring.disable('a', '', undefined));
    await expect(world.sealed('a', 'x')).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    await twice(() => world.keyring.enable('a', '', undefined));
    await sealed('four');
    await twice(() => world.keyring.create({ ...SEAL, name: 'b' })).catch((error: unknown) => {
      // The first attempt was written although it failed.
      expect(DekdError.is(error, 'CONFLICT')).toBe(true);
    });
    await twice(() => world.keyring.destroy('b', '', undefined));
    return tokens;
  }

  async function expectSound(world: World, keystore: Keystore, tokens: Map<Uint8Array, string>): Promise<void> {
    for (const [token, text] of tokens) {
      expect(await world.open(token)).toBe(text);
    }
    const rows = await keystore.versions('a', '', 'seal');
    expect(rows.filter(({ state }) => state === 'active').length).toBe(1);
    expect((await keystore.versions('b', '', 'seal')).map(({ state }) => state)).toEqual(['destroyed']);
    expect(await world.open(await world.sealed('a', 'still'))).toBe('still');
  }
});

async function twice<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!DekdError.is(error, 'KEYSTORE_UNAVAILABLE')) {
      throw error;
    }
    return work();
  }
}
