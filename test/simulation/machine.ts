/**
 * The world's clock and its one thread: what is to happen, when, and in which process.
 *
 * Time is virtual and stands still while code runs. An event is taken, its code runs until nothing of it is left to do at
 * once, and then the next one is taken. So everything that can happen in between two awaits is an event, and the order of
 * events depends on the seed alone. An event belongs to a process; the events of a dead process never happen, which is
 * how a process is killed in the middle of whatever it does.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { createHash } from 'node:crypto';
import { SeededRandom } from './random.ts';

/** A process of the world: an agent from its start to its end. */
export interface SimProcess {
  readonly name: string;
  alive: boolean;
}

interface Event {
  readonly at: number;
  readonly order: number;
  readonly owner: SimProcess | null;
  readonly run: () => void;
  cancelled: boolean;
}

/** What `setTimeout` and its sisters give while a machine runs. */
export class SimTimer {
  event: Event | undefined;

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  hasRef(): boolean {
    return false;
  }

  close(): this {
    if (this.event !== undefined) {
      this.event.cancelled = true;
    }
    return this;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

const realImmediate = setImmediate;
const TRACE_KEPT = 400;
/** 2027-01-15, the wall clock at the start of every world. */
const EPOCH_MS = 1_800_000_000_000;

export class Machine {
  /** Milliseconds that go by while the machine is awake: CLOCK_MONOTONIC. */
  now = 1_000_000;
  /** Milliseconds slept on top: what CLOCK_BOOTTIME counts and no timer does. */
  slept = 0;
  /** Milliseconds by which the wall clock was set. */
  wallOffset = 0;
  /** Draws keys, nonces and jitter of the program under test. */
  readonly bytes: SeededRandom;
  /** Draws latencies and failures. */
  readonly chances: SeededRandom;
  readonly trace: string[] = [];
  readonly #keepTrace: boolean;
  readonly #hash = createHash('sha256');
  readonly #queue = new EventQueue();
  readonly #context = new AsyncLocalStorage<SimProcess>();
  #order = 0;
  events = 0;

  constructor(seed: number, keepTrace: boolean) {
    this.bytes = new SeededRandom(seed, 1);
    this.chances = new SeededRandom(seed, 2);
    this.#keepTrace = keepTrace;
  }

  get bootMs(): number {
    return this.now + this.slept;
  }

  get wallMs(): number {
    return EPOCH_MS + this.bootMs + this.wallOffset;
  }

  /** The process whose code runs; null when it is that of no agent. */
  get process(): SimProcess | null {
    return this.#context.getStore() ?? null;
  }

  /** Runs code as that of a process. */
  as<T>(owner: SimProcess, work: () => T): T {
    return this.#context.run(owner, work);
  }

  /** Adds a line to the trace, and to its hash. */
  note(line: string): void {
    const whole = `${this.now.toFixed(3)} ${line}`;
    this.#hash.update(whole).update('\n');
    this.trace.push(whole);
    if (!this.#keepTrace && this.trace.length > 2 * TRACE_KEPT) {
      this.trace.splice(0, TRACE_KEPT);
    }
  }

  /** SHA-256 of the trace so far. */
  digest(): string {
    return this.#hash.copy().digest('hex');
  }

  /** @param owner whose event it is; that of the code which asks for it unless given */
  after(ms: number, run: () => void, owner: SimProcess | null = this.process): Event {
    const event = { at: this.now + Math.max(0, ms), order: this.#order++, owner, run, cancelled: false };
    this.#queue.push(event);
    return event;
  }

  timer(ms: number, run: () => void, repeats: boolean): SimTimer {
    const timer = new SimTimer();
    const owner = this.process;
    // As Node: less than 1 is 1.
    const delay = Number.isFinite(ms) && ms >= 1 ? ms : 1;
    const arm = (): void => {
      timer.event = this.after(
        delay,
        () => {
          if (repeats) {
            arm();
          }
          run();
        },
        owner,
      );
    };
    arm();
    return timer;
  }

  /**
   * Something that is done elsewhere: `effect` happens after `before` milliseconds, and its result is there after `back`
   * more. Between the two the caller may die.
   */
  elsewhere<T>(before: number, back: number, effect: () => T | Promise<T>): Promise<T> {
    const owner = this.process;
    return new Promise((resolve, reject) => {
      this.after(before, () => {
        let result: Promise<T>;
        try {
          result = Promise.resolve(effect());
        } catch (error) {
          result = Promise.reject(error);
        }
        result.then(
          (value) => this.after(back, () => resolve(value), owner),
          (error: unknown) => this.after(back, () => reject(error), owner),
        );
      });
    });
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }

  /** Takes events until `done` settles. @throws what it rejects with; an error when nothing is left that could happen */
  async run<T>(done: Promise<T>): Promise<T> {
    let isOver = false;
    const over = (): void => {
      isOver = true;
    };
    done.then(over, over);
    await settled();
    while (!isOver) {
      const event = this.#queue.pop();
      if (event === undefined) {
        throw new Error('nothing is left that could happen, and something is waited for');
      }
      if (event.cancelled || event.owner?.alive === false) {
        continue;
      }
      this.now = Math.max(this.now, event.at);
      this.events++;
      if (event.owner === null) {
        this.#context.exit(event.run);
      } else {
        this.#context.run(event.owner, event.run);
      }
      await settled();
    }
    return done;
  }
}

/** Resolves when no job of a promise and no tick is left. */
function settled(): Promise<void> {
  return new Promise((resolve) => realImmediate(resolve));
}

/** By time, and what was asked for first among those of one time. */
class EventQueue {
  readonly #heap: Event[] = [];

  push(event: Event): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (!isBefore(event, heap[above]!)) {
        break;
      }
      heap[at] = heap[above]!;
      at = above;
    }
    heap[at] = event;
  }

  pop(): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || heap.length === 0) {
      return first;
    }
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= heap.length) {
        break;
      }
      if (below + 1 < heap.length && isBefore(heap[below + 1]!, heap[below]!)) {
        below++;
      }
      if (!isBefore(heap[below]!, last!)) {
        break;
      }
      heap[at] = heap[below]!;
      at = below;
    }
    heap[at] = last!;
    return first;
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
