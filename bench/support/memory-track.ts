/** Resident memory of processes, looked at again and again while something else happens. */
import { readFileSync } from 'node:fs';

const EVERY_MS = 50;

export interface MemorySample {
  /** Seconds from the start. */
  readonly at: number;
  /** Bytes of each process, in the order given. */
  readonly resident: readonly number[];
}

export class MemoryTrack {
  readonly samples: MemorySample[] = [];
  readonly #pids: readonly number[];
  readonly #begun = performance.now();
  readonly #timer: NodeJS.Timeout;

  constructor(pids: readonly number[]) {
    this.#pids = pids;
    this.#timer = setInterval(() => this.#look(), EVERY_MS);
  }

  get seconds(): number {
    return (performance.now() - this.#begun) / 1_000;
  }

  /** Most that one process had, of the samples from `from` to `to` (0 to 1 of all of them). */
  most(index: number, from = 0, to = 1): number {
    const { length } = this.samples;
    const part = this.samples.slice(Math.floor(from * length), Math.max(1, Math.ceil(to * length)));
    return Math.max(...part.map(({ resident }) => resident[index]!));
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#look();
  }

  #look(): void {
    try {
      this.samples.push({ at: this.seconds, resident: this.#pids.map(residentBytes) });
    } catch {
      // One of them has ended, which whoever works with it will hear of.
      clearInterval(this.#timer);
    }
  }
}

/** As the kernel counts it. */
export function residentBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}
