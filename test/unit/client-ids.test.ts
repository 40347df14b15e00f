import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IdTable } from '../../src/client/outstanding.ts';

const LAST = 4_294_967_295;

describe('ids of requests', () => {
  it('find what waits under them, and nothing else, whatever order it is answered in', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: LAST }),
        fc.array(fc.oneof(fc.constant(-1), fc.nat(200)), { maxLength: 400 }),
        (first, steps) => {
          const table = new IdTable<number>(first);
          const model = new Map<number, number>();
          for (const [i, step] of steps.entries()) {
            if (step === -1 || model.size === 0) {
              const id = table.add(i);
              expect(id).toBeGreaterThan(0);
              expect(id).toBeLessThanOrEqual(LAST);
              expect(model.has(id)).toBe(false);
              model.set(id, i);
            } else {
              const id = [...model.keys()][step % model.size]!;
              expect(table.get(id)).toBe(model.get(id));
              expect(table.delete(id)).toBe(true);
              expect(table.delete(id)).toBe(false);
              expect(table.get(id)).toBeUndefined();
              model.delete(id);
            }
            expect(table.size).toBe(model.size);
          }
          expect(table.get(0)).toBeUndefined();
          expect(table.drain().sort((a, b) => a - b)).toEqual([...model.values()].sort((a, b) => a - b));
          expect(table.size).toBe(0);
        },
      ),
      { numRuns: 200 },
    );
  });
});
