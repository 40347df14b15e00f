import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DataKey } from '../../src/keyring/keyring.ts';
import { Sandbox } from '../unit/keyring-fixture.ts';

describe('10,000 keys in 1,024 slots', () => {
  let sandbox: Sandbox;

  beforeEach(async () => {
    sandbox = await Sandbox.make();
  });

  afterEach(() => sandbox.cleanUp());

  it("all work, and do not push out another caller's ten", async () => {
    const world = await sandbox.world({ capacity: 1024 });
    const load = (name: string, share: string): Promise<DataKey> =>
      world.keyring.prepareSealing(name, '', share, () => undefined);
    const ten = await Promise.all(Array.from({ length: 10 }, (_, i) => load(`ten-${i}`, 'quiet')));
    const tokens: Uint8Array[] = [];
    for (let i = 0; i < 10_000; i++) {
      tokens.push(world.seal(await load(`flood-${i}`, 'loud'), `value ${i}`));
    }
    for (const [i, token] of tokens.entries()) {
      expect(await world.open(token)).toBe(`value ${i}`);
    }
    const { reloads, known, loaded, table } = world.keyring.stats();
    expect(table.capacity).toBe(1024);
    expect(known).toBe(10_010);
    expect(loaded).toBeGreaterThan(1000);
    for (const key of ten) {
      key.handle();
    }
    expect(world.keyring.stats().reloads).toBe(reloads);
  });
});
