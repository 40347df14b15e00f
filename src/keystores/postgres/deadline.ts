/** When one operation has to be over, whatever it waits for. The clock is monotonic. */
export class Deadline {
  readonly totalMs: number;
  readonly #at: number;
  #passed = false;

  constructor(totalMs: number) {
    this.totalMs = totalMs;
    this.#at = performance.now() + totalMs;
  }

  /** Milliseconds left; 0 once it has passed. */
  get remainingMs(): number {
    return Math.max(0, this.#at - performance.now());
  }

  /** True from the first alarm on: timers may ring a fraction of a millisecond early, and nobody is to doubt them. */
  get passed(): boolean {
    return this.#passed || this.remainingMs === 0;
  }

  /** Calls `ring` when it passes. @returns what takes the alarm back */
  alarm(ring: () => void): () => void {
    const timer = setTimeout(() => {
      this.#passed = true;
      ring();
    }, this.remainingMs);
    return () => clearTimeout(timer);
  }
}
