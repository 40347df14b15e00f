import { uptime } from 'node:os';

/** Where the keyring gets the time; a test gives its own. */
export interface Clock {
  /** Wall clock, milliseconds since the epoch: read once at start. */
  wallMs(): number;
  /** Milliseconds since some fixed moment; never set back, and going on while the machine sleeps. */
  elapsedMs(): number;
}

/** The clock of the machine. */
export const systemClock: Clock = {
  wallMs: () => Date.now(),
  // CLOCK_BOOTTIME, which performance.now() is not.
  elapsedMs: () => uptime() * 1000,
};

/**
 * The time of day as the keyring reckons it: wall clock at start plus time elapsed, so that a clock that is set while the
 * agent runs makes no key due and none young again.
 */
export class SteadyClock {
  readonly #clock: Clock;
  readonly #start: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#start = clock.wallMs() - clock.elapsedMs();
  }

  /** Milliseconds since the epoch, whole. */
  now(): number {
    return Math.floor(this.#start + this.#clock.elapsedMs());
  }

  elapsedMs(): number {
    return this.#clock.elapsedMs();
  }
}
