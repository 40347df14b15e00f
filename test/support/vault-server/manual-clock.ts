import type { VaultClock } from '../../../src/vault/vault-clock.ts';

/** A clock that a test moves; what falls due meanwhile runs in its order, with the promises it left. */
export class ManualClock implements VaultClock {
  #now = 0;
  readonly #tasks = new Set<{ readonly at: number; readonly task: () => void }>();

  now(): number {
    return this.#now;
  }

  schedule(ms: number, task: () => void): () => void {
    const entry = { at: this.#now + ms, task };
    this.#tasks.add(entry);
    return () => this.#tasks.delete(entry);
  }

  get pending(): number {
    return this.#tasks.size;
  }

  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      const next = [...this.#tasks].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) {
        break;
      }
      this.#tasks.delete(next);
      this.#now = Math.max(this.#now, next.at);
      next.task();
      await settled();
    }
    this.#now = end;
    await settled();
  }
}

/** Lets promises that are ready run, several deep. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
