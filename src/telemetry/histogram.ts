/** How long things take: counts in fixed buckets, which add up over processes and time as quantiles do not. */

/** Upper bounds in seconds: a request from memory takes tens of microseconds, one that waits for a KMS seconds. */
export const BUCKETS: readonly number[] = [
  0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10,
];

export class Histogram {
  /** By bucket, not cumulative; the last is above every bound. */
  readonly counts = new Float64Array(BUCKETS.length + 1);
  /** Seconds. */
  sum = 0;

  /** Takes `times` things that took as long each. */
  record(seconds: number, times = 1): void {
    let bucket = 0;
    while (bucket < BUCKETS.length && seconds > BUCKETS[bucket]!) {
      bucket++;
    }
    this.counts[bucket] = this.counts[bucket]! + times;
    this.sum += seconds * times;
  }

  get count(): number {
    return this.counts.reduce((sum, count) => sum + count, 0);
  }
}

/**
 * The value below which a share of what was counted lies, by linear interpolation in its bucket; undefined for nothing.
 * @param counts as of a Histogram, or the difference of two
 */
export function quantile(counts: ArrayLike<number>, share: number): number | undefined {
  const all = Array.from(counts);
  const total = all.reduce((sum, count) => sum + count, 0);
  if (total <= 0) {
    return undefined;
  }
  const wanted = total * share;
  let below = 0;
  for (const [bucket, count] of all.entries()) {
    if (count > 0 && below + count >= wanted) {
      const from = bucket === 0 ? 0 : BUCKETS[bucket - 1]!;
      const to = BUCKETS[bucket] ?? from;
      return from + ((to - from) * (wanted - below)) / count;
    }
    below += count;
  }
  return BUCKETS.at(-1);
}
