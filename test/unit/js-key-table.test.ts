import { describe, expect, it } from 'vitest';
import type { KeyHandle } from '../../src/crypto/engine.ts';
import { JsKeyTable, type KeyEntry } from '../../src/crypto/js-key-table.ts';
import { DekdError } from '../../src/errors.ts';

const BYTES = new Uint8Array(32).fill(7);

function entry(key: string): KeyEntry<string> {
  return {
    key,
    use: { algorithm: 'xaes-256-gcm', purpose: 'seal' },
    kid: new Uint8Array(16),
    mask: new Uint8Array(16).fill(9),
  };
}

describe('JsKeyTable', () => {
  it('gives handles that fit a word of a batch table and are never 0', () => {
    const table = new JsKeyTable<string>(3, () => undefined);
    for (let i = 0; i < 1000; i++) {
      const handle = table.add(entry('a'), BYTES);
      expect(new Uint32Array([handle])[0]).toBe(handle);
      expect(handle).not.toBe(0);
      table.remove(handle);
    }
  });

  it('wipes key and mask once, when the key leaves', () => {
    const wiped: string[] = [];
    const table = new JsKeyTable<string>(2, (key) => wiped.push(key));
    const first = entry('first');
    const handle = table.add(first, BYTES);
    table.add(entry('second'), BYTES);
    table.remove(handle);
    table.remove(handle);
    expect(wiped).toEqual(['first']);
    expect(first.mask).toEqual(new Uint8Array(16));
    table.removeAll();
    table.removeAll();
    expect(wiped).toEqual(['first', 'second']);
    expect(table.stats()).toEqual({ capacity: 2, used: 0, created: 2, destroyed: 2 });
  });

  it('uses the slot freed longest ago, so that handles come back late', () => {
    const table = new JsKeyTable<string>(4, () => undefined);
    const handles = [1, 2, 3, 4].map((n) => table.add(entry(String(n)), BYTES));
    table.remove(handles[2]!);
    table.remove(handles[0]!);
    expect(table.add(entry('x'), BYTES) & 3).toBe(2);
    expect(table.add(entry('y'), BYTES) & 3).toBe(0);
    expect(() => table.add(entry('z'), BYTES)).toThrow('all 4 slots are used');
  });

  it('starts a slot again at generation 1 after its last, never at 0', () => {
    // 16 slot bits leave 16 for the generation: the only size at which all of them can be walked through quickly.
    const table = new JsKeyTable<string>(65_536, () => undefined);
    const others = Array.from({ length: 65_535 }, () => table.add(entry('other'), BYTES));
    let handle = table.add(entry('last'), BYTES);
    expect(others[0]! & 0xffff).toBe(0);
    for (let generation = 1; generation <= 65_535; generation++) {
      expect(handle >>> 16).toBe(generation);
      table.remove(handle);
      handle = table.add(entry('last'), BYTES);
    }
    expect(handle >>> 16).toBe(1);
    expect(table.get(handle).key).toBe('last');
  });

  it('finds nothing under numbers that are no handles', () => {
    const table = new JsKeyTable<string>(3, () => undefined);
    const handle = table.add(entry('a'), BYTES);
    for (const number of [0, 3, -1, handle + 0.5, handle + 2 ** 32, -handle, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(table.find(number)).toBeUndefined();
      expect(() => table.get(number as KeyHandle)).toThrow(DekdError);
    }
  });

  it.each([0, -1, 1.5, 65_537, Number.NaN])('refuses a capacity of %d', (capacity) => {
    expect(() => new JsKeyTable<string>(capacity, () => undefined)).toThrow('outside 1 to 65536');
  });
});
