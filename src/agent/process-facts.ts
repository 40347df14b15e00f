/** What the process itself can say: time, memory, descriptors, and how late its event loop is. */
import { readdirSync, readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { Histogram } from '../telemetry/histogram.ts';

const TIMER_MS = 100;

export interface ProcessFacts {
  readonly cpuSeconds: number;
  readonly residentBytes: number;
  /** Undefined where the system does not say. */
  readonly openFiles: number | undefined;
  readonly maxFiles: number | undefined;
  /** Milliseconds since the epoch. */
  readonly started: number;
  /** Seconds in which the event loop was busy. */
  readonly activeSeconds: number;
}

export function processFacts(): ProcessFacts {
  const { user, system } = process.cpuUsage();
  return {
    cpuSeconds: (user + system) / 1e6,
    residentBytes: process.memoryUsage.rss(),
    openFiles: openFiles(),
    maxFiles: maxFiles(),
    started: performance.timeOrigin,
    activeSeconds: performance.eventLoopUtilization().active / 1000,
  };
}

function openFiles(): number | undefined {
  try {
    // One of them is the folder that is being read.
    return readdirSync('/proc/self/fd').length - 1;
  } catch {
    return undefined;
  }
}

/** The soft limit of open files. */
function maxFiles(): number | undefined {
  try {
    const line = readFileSync('/proc/self/limits', 'utf8').match(/^Max open files\s+(\d+)/m);
    return line === null ? undefined : Number(line[1]);
  } catch {
    return undefined;
  }
}

/**
 * How late a timer is. It runs from the first question on, and ends when nobody has asked for a while: an agent that nobody
 * watches is not woken ten times a second.
 */
export class LoopDelay {
  readonly #histogram = new Histogram();
  #timer: NodeJS.Timeout | undefined;
  #askedAt = 0;

  histogram(): Histogram {
    this.#askedAt = performance.now();
    this.#timer ??= this.#start();
    return this.#histogram;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #start(): NodeJS.Timeout {
    let due = performance.now() + TIMER_MS;
    return setInterval(() => {
      const now = performance.now();
      this.#histogram.record(Math.max(0, now - due) / 1000);
      due = now + TIMER_MS;
      if (now - this.#askedAt > FORGOTTEN_MS) {
        this.close();
      }
    }, TIMER_MS).unref();
  }
}

/** Longer than any sensible interval of scraping. */
const FORGOTTEN_MS = 300_000;
