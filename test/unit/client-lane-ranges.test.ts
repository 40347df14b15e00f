import { describe, expect, it } from 'vitest';
import { LaneRanges, rounded } from '../../src/client/lane-ranges.ts';

describe('ranges of a region', () => {
  it('never lie over each other, and are all there again once all came back', () => {
    const size = 64 * 1024;
    const ranges = new LaneRanges(size);
    let seed = 1;
    const random = (below: number): number => {
      seed = (seed * 48_271) % 0x7fffffff;
      return seed % below;
    };
    const held: { offset: number; length: number }[] = [];
    for (let i = 0; i < 20_000; i++) {
      if (random(2) === 0) {
        const length = random(4_000);
        const offset = ranges.take(length);
        if (offset !== undefined) {
          const end = offset + rounded(length);
          expect(end).toBeLessThanOrEqual(size);
          expect(held.every((other) => other.offset >= end || other.offset + rounded(other.length) <= offset)).toBe(
            true,
          );
          held.push({ offset, length });
        }
      } else if (held.length > 0) {
        const [{ offset, length }] = held.splice(random(held.length), 1) as [{ offset: number; length: number }];
        ranges.give(offset, length);
      }
    }
    for (const { offset, length } of held) {
      ranges.give(offset, length);
    }
    expect(ranges.take(size)).toBe(0);
  });

  it('are refused when there is no room, and begin on the border of a line of the cache', () => {
    const ranges = new LaneRanges(1024);
    expect([ranges.take(1), ranges.take(65), ranges.take(0)]).toEqual([0, 64, 192]);
    expect(ranges.take(1024 - 255)).toBeUndefined();
    expect(ranges.take(1024 - 256)).toBe(256);
  });
});
