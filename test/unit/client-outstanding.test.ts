import { describe, expect, it } from 'vitest';
import { IdTable, type Linkable, LinkedSet } from '../../src/client/outstanding.ts';

const LAST_ID = 4_294_967_295;

describe('IdTable', () => {
  it('gives ids that go up, wrap to 1, and are never 0', () => {
    const table = new IdTable<string>(LAST_ID - 1);
    const ids = [table.add('a'), table.add('b'), table.add('c')];
    expect(ids).toEqual([LAST_ID - 1, LAST_ID, 1]);
    expect(ids.map((id) => table.get(id))).toEqual(['a', 'b', 'c']);
  });

  it('skips those in flight, across the wrap too', () => {
    const table = new IdTable<string>(1);
    expect([table.add('one'), table.add('two')]).toEqual([1, 2]);
    const wrapping = new IdTable<string>(LAST_ID);
    wrapping.add('last');
    wrapping.add('one');
    wrapping.delete(LAST_ID);
    for (let i = 0; i < 10_000; i++) {
      const id = wrapping.add('other');
      expect(id === 1 || id === 0).toBe(false);
      expect(wrapping.delete(id)).toBe(true);
    }
    expect(wrapping.get(1)).toBe('one');
  });

  it('finds each of thousands in flight, and stays small beside one answer that is long in coming', () => {
    const table = new IdTable<number>();
    const slow = table.add(-1);
    const ids = Array.from({ length: 5_000 }, (_, i) => table.add(i));
    expect(new Set(ids).size).toBe(5_000);
    expect(ids.every((id, i) => table.get(id) === i)).toBe(true);
    expect(table.size).toBe(5_001);
    for (const id of ids) {
      expect(table.delete(id)).toBe(true);
      expect(table.delete(id)).toBe(false);
    }
    expect(table.get(slow)).toBe(-1);
    expect(table.drain()).toEqual([-1]);
    expect(table.size).toBe(0);
    expect(table.get(slow)).toBeUndefined();
  });
});

describe('LinkedSet', () => {
  const member = (name: string) =>
    ({ name, isListed: false, previous: undefined, next: undefined }) as Linkable & { name: string };

  it('holds each member once, in whatever order they come and go', () => {
    const set = new LinkedSet<Linkable & { name: string }>();
    const [a, b, c] = [member('a'), member('b'), member('c')];
    for (const one of [a, b, c, a]) {
      set.add(one);
    }
    expect(set.size).toBe(3);
    expect(
      set
        .members()
        .map(({ name }) => name)
        .sort(),
    ).toEqual(['a', 'b', 'c']);
    set.delete(b);
    set.delete(b);
    expect(
      set
        .members()
        .map(({ name }) => name)
        .sort(),
    ).toEqual(['a', 'c']);
    set.delete(c);
    set.delete(a);
    expect(set.size).toBe(0);
    expect([a, b, c].every(({ previous, next }) => previous === undefined && next === undefined)).toBe(true);
    set.add(b);
    expect(set.members()).toEqual([b]);
  });
});
