const MINUTE_MS = 60_000;
const MINUTES = 60;

/** Counts calls, and those of the last hour by the minute. */
export class CallMeter {
  readonly #elapsedMs: () => number;
  readonly #perMinute = new Uint32Array(MINUTES);
  #minute = 0;
  calls = 0;
  failures = 0;
  #answeredAt: number | undefined;

  constructor(elapsedMs: () => number) {
    this.#elapsedMs = elapsedMs;
  }

  get lastHour(): number {
    this.#turn();
    return this.#perMinute.reduce((sum, count) => sum + count, 0);
  }

  get sinceAnswerMs(): number | undefined {
    return this.#answeredAt === undefined ? undefined : this.#elapsedMs() - this.#answeredAt;
  }

  called(): void {
    this.#turn();
    this.calls++;
    this.#perMinute[this.#minute % MINUTES]!++;
  }

  answered(): void {
    this.#answeredAt = this.#elapsedMs();
  }

  failed(): void {
    this.failures++;
  }

  #turn(): void {
    const now = Math.floor(this.#elapsedMs() / MINUTE_MS);
    const empty = Math.min(now - this.#minute, MINUTES);
    for (let back = 0; back < empty; back++) {
      this.#perMinute[(now - back) % MINUTES] = 0;
    }
    this.#minute = now;
  }
}
