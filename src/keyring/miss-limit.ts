import { Turns } from './turns.ts';

/** Look-ups of kids that are not there, for each share. */
export interface MissLimits {
  readonly perSecond: number;
  readonly burst: number;
}

const DEFAULT_LIMITS: MissLimits = { perSecond: 100, burst: 200 };
/** Look-ups in progress at once; more wait, so that many cold but real kids are not taken for a flood. */
const CONCURRENCY = 32;
const REMEMBERED = 4096;
/** Another agent may have made the key since; its tokens travel slower than this. */
const REMEMBER_MS = 2000;
const MAX_SHARES = 1024;

interface Bucket {
  tokens: number;
  filledAt: number;
}

/**
 * Bounds what callers can make the keystore do with made-up kids. Only a look-up that finds nothing costs a token, each
 * share has its own tokens, and what was not found is remembered for a moment.
 */
export class MissLimit {
  readonly #limits: MissLimits;
  readonly #elapsedMs: () => number;
  readonly #buckets = new Map<string, Bucket>();
  readonly #misses = new Map<string, number>();
  readonly #turns = new Turns(CONCURRENCY);

  constructor(elapsedMs: () => number, limits: MissLimits = DEFAULT_LIMITS) {
    this.#elapsedMs = elapsedMs;
    this.#limits = limits;
  }

  /** `lookUp`'s result, or undefined without looking when `id` was missed lately or the share has no tokens left. */
  async find<T>(id: string, share: string, lookUp: () => Promise<T | undefined>): Promise<T | undefined> {
    if (this.#isRemembered(id)) {
      return undefined;
    }
    return this.#turns.run(() => this.#lookUp(id, share, lookUp));
  }

  /** Forgets what was not there: rows were added. */
  clear(): void {
    this.#misses.clear();
  }

  async #lookUp<T>(id: string, share: string, lookUp: () => Promise<T | undefined>): Promise<T | undefined> {
    if (!this.#take(share)) {
      return undefined;
    }
    let found: T | undefined;
    try {
      found = await lookUp();
    } catch (error) {
      this.#giveBack(share);
      throw error;
    }
    if (found === undefined) {
      this.#remember(id);
    } else {
      this.#giveBack(share);
    }
    return found;
  }

  #isRemembered(id: string): boolean {
    const until = this.#misses.get(id);
    return until !== undefined && this.#elapsedMs() < until;
  }

  #remember(id: string): void {
    this.#misses.delete(id);
    this.#misses.set(id, this.#elapsedMs() + REMEMBER_MS);
    trim(this.#misses, REMEMBERED);
  }

  #take(share: string): boolean {
    const bucket = this.#bucket(share);
    if (bucket.tokens < 1) {
      return false;
    }
    bucket.tokens--;
    return true;
  }

  #giveBack(share: string): void {
    const bucket = this.#bucket(share);
    bucket.tokens = Math.min(bucket.tokens + 1, this.#limits.burst);
  }

  #bucket(share: string): Bucket {
    const now = this.#elapsedMs();
    let bucket = this.#buckets.get(share);
    if (bucket === undefined) {
      bucket = { tokens: this.#limits.burst, filledAt: now };
      this.#buckets.set(share, bucket);
      trim(this.#buckets, MAX_SHARES);
    } else {
      const earned = ((now - bucket.filledAt) / 1000) * this.#limits.perSecond;
      bucket.tokens = Math.min(bucket.tokens + earned, this.#limits.burst);
      bucket.filledAt = now;
    }
    return bucket;
  }
}

/** Drops the entries that were added first. */
function trim(map: Map<string, unknown>, limit: number): void {
  for (const id of map.keys()) {
    if (map.size <= limit) {
      return;
    }
    map.delete(id);
  }
}
