/** Callers remembered before those that have used nothing lately are forgotten. */
const MAX_CALLERS = 1024;

interface Bucket {
  /** What may still be taken, in thousandths; below zero after more was taken at once than a second holds. */
  level: number;
  /** When that was so. */
  at: number;
}

/**
 * How much of something each caller may still have, at so much a second: a token bucket for each, which is full at first and
 * holds a second's worth.
 *
 * What is asked for at once is given whole or not at all. More than the bucket holds is given when it is full, and paid for by
 * the time after: the rate over time is kept, and no size is refused for good.
 */
export class Quotas {
  readonly perSecond: number;
  readonly #now: () => number;
  readonly #buckets = new Map<string, Bucket>();

  /** @param now milliseconds of a clock that never goes back */
  constructor(perSecond: number, now: () => number) {
    this.perSecond = perSecond;
    this.#now = now;
  }

  /** Takes `count` for this caller. @returns 0, or in how many milliseconds that much can be had, and takes nothing */
  take(caller: string, count: number): number {
    const bucket = this.#bucketOf(caller);
    const waitMs = this.#waitOf(bucket, count);
    if (waitMs === 0) {
      bucket.level -= count * 1000;
    }
    return waitMs;
  }

  /** The same, and takes nothing in any case. */
  wait(caller: string, count: number): number {
    return this.#waitOf(this.#bucketOf(caller), count);
  }

  #waitOf({ level }: Bucket, count: number): number {
    const wanted = Math.min(count, this.perSecond) * 1000;
    return level < wanted ? Math.max(1, Math.ceil((wanted - level) / this.perSecond)) : 0;
  }

  /** Takes `count` that was had already. @returns 0, or in how many milliseconds something can be had again */
  owe(caller: string, count: number): number {
    const bucket = this.#bucketOf(caller);
    bucket.level -= count * 1000;
    return bucket.level > 0 ? 0 : Math.max(1, Math.ceil(-bucket.level / this.perSecond));
  }

  #bucketOf(caller: string): Bucket {
    const at = this.#now();
    let bucket = this.#buckets.get(caller);
    if (bucket === undefined) {
      this.#forgetIdle(at);
      bucket = { level: this.perSecond * 1000, at };
      this.#buckets.set(caller, bucket);
    }
    bucket.level = this.#levelOf(bucket, at);
    bucket.at = at;
    return bucket;
  }

  #levelOf(bucket: Bucket, at: number): number {
    return Math.min(this.perSecond * 1000, bucket.level + (at - bucket.at) * this.perSecond);
  }

  /** A full bucket says nothing that a new one would not. */
  #forgetIdle(at: number): void {
    if (this.#buckets.size < MAX_CALLERS) {
      return;
    }
    for (const [caller, bucket] of this.#buckets) {
      if (this.#levelOf(bucket, at) >= this.perSecond * 1000) {
        this.#buckets.delete(caller);
      }
    }
  }
}
