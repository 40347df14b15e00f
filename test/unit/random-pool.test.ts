import { describe, expect, it } from 'vitest';
import { RandomPool } from '../../src/crypto/random-pool.ts';

/** A source that counts up, and remembers how much was asked for and where it wrote. */
function counter(): { source: (target: Uint8Array) => void; asked: number[]; targets: Uint8Array[] } {
  let next = 1;
  const asked: number[] = [];
  const targets: Uint8Array[] = [];
  return {
    asked,
    targets,
    source(target) {
      asked.push(target.length);
      targets.push(target);
      for (let i = 0; i < target.length; i++) {
        target[i] = (next++ % 255) + 1;
      }
    },
  };
}

describe('RandomPool', () => {
  it('draws ahead once for many small draws and never gives a byte twice', () => {
    const { source, asked } = counter();
    const pool = new RandomPool(source, true);
    const bytes: number[] = [];
    for (let i = 0; i < 170; i++) {
      const target = new Uint8Array(24);
      pool.fill(target);
      bytes.push(...target);
    }
    expect(asked).toEqual([4096]);
    expect(bytes).toEqual(Array.from({ length: 170 * 24 }, (_, i) => ((i + 1) % 255) + 1));
    pool.fill(new Uint8Array(24));
    expect(asked).toEqual([4096, 4096]);
  });

  it('wipes each byte as it is handed out, and the rest when told to', () => {
    const { source, targets } = counter();
    const pool = new RandomPool(source, true);
    pool.fill(new Uint8Array(24));
    expect(targets[0]!.subarray(0, 24)).toEqual(new Uint8Array(24));
    expect(targets[0]!.subarray(24).every((byte) => byte !== 0)).toBe(true);
    pool.wipe();
    expect(targets[0]!.every((byte) => byte === 0)).toBe(true);
    pool.fill(new Uint8Array(1));
    expect(targets).toHaveLength(2);
  });

  it('keeps nothing between draws when nothing may be drawn ahead', () => {
    const { source, asked } = counter();
    const pool = new RandomPool(source, false);
    pool.fill(new Uint8Array(24));
    pool.fill(new Uint8Array(24));
    expect(asked).toEqual([24, 24]);
  });

  it('fills more than it holds, and keys, straight from the source', () => {
    const { source, asked } = counter();
    const pool = new RandomPool(source, true);
    pool.fill(new Uint8Array(5000));
    pool.fillDirect(new Uint8Array(32));
    expect(asked).toEqual([5000, 32]);
  });
});
