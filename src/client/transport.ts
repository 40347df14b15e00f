/**
 * Calls over a channel that is opened when the first is made and again whenever it is lost.
 *
 * Calls of one tick leave together. What was lost with a connection is sent again until its deadline when sending twice
 * does no harm; what is not idempotent rejects. One timer serves all deadlines.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { DekdError } from '../errors.ts';
import { Channel, type Exchange } from './channel.ts';
import { type Linkable, LinkedSet } from './outstanding.ts';
import type { CallTrace } from './tracing.ts';

const BACKOFF_MIN_MS = 5;
const BACKOFF_MAX_MS = 500;
export const GREETING_TIMEOUT_MS = 5_000;
/** The longest timer there is; a longer one would fire at once. */
const MAX_TIMER_MS = 0x7fffffff;

/** Something to be sent and answered. */
export interface Call extends Exchange, Linkable {
  /** By the monotonic clock, in milliseconds. */
  readonly deadline: number;
  /** Whether it may be sent again after a connection was lost. */
  readonly isIdempotent: boolean;
  /** Settled by an answer, its deadline or its signal. */
  readonly isDone: boolean;
  reject(error: unknown): void;
  /** Calls that may share a frame: the operation's number; 0 never shares. */
  sharing: number;
  /** For spans: what is asked, by its number or by its field in the request, and of how many values. */
  readonly operation?: number;
  readonly fields?: object;
  readonly binding?: { readonly key: string };
  readonly from?: number;
  readonly to?: number;
  /** The span, while there is one. */
  trace?: CallTrace | undefined;
  /** Whether it is a step of something that `hold` was called for, which a closing transport still takes. */
  readonly isStep: boolean;
}

/** How calls become frames; the client's knowledge, kept out of the transport. */
export interface Sender<C extends Call> {
  /** Puts the calls on the channel: all of one `sharing`, or a single one. Throws to reject them. */
  send(channel: Channel, calls: C[]): void;
}

export interface TransportOptions {
  /** Names the socket; asked before every connection. Throws DekdError. */
  readonly socket: () => string | Promise<string>;
  /** What is shown; asked before every connection. Throws DekdError. */
  readonly token?: (() => Uint8Array | undefined) | undefined;
  /** Rejects at once when nobody answers, instead of trying until the deadline. */
  readonly failFast?: boolean | undefined;
  /** Is done with a connection before anything is sent on it. Never rejects. */
  readonly prepare?: ((channel: Channel) => Promise<void>) | undefined;
  /** Begins the span of a call. */
  readonly trace?: ((call: Call) => void) | undefined;
}

export class Transport<C extends Call> {
  readonly #options: TransportOptions;
  readonly #sender: Sender<C>;
  #channel: Channel | undefined;
  #queue: C[] = [];
  /** Sent and not answered: for deadlines only, swept lazily. */
  #sent = new LinkedSet<C>();
  #scheduled = false;
  #connecting = false;
  #closed = false;
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #idleWaiters: (() => void)[] = [];
  /** What has begun and takes several calls, one after the other. */
  #held = 0;
  /** Connections in a row that were lost before they answered anything: the next attempt waits accordingly. */
  #losses = 0;
  #maxPayload: number | undefined;

  constructor(options: TransportOptions, sender: Sender<C>) {
    this.#options = options;
    this.#sender = sender;
  }

  /** Largest plaintext of one request, as the agent last said; undefined before the first connection. */
  get maxPayload(): number | undefined {
    return this.#maxPayload;
  }

  submit(call: C): void {
    if (this.#closed && !(call.isStep && this.#held > 0)) {
      call.reject(closed());
      return;
    }
    this.#options.trace?.(call);
    this.#queue.push(call);
    if (call.deadline < this.#timerAt) {
      this.#arm(call.deadline);
    }
    this.#schedule();
  }

  /** The deadline of a call that was submitted before has moved. */
  watch(call: C): void {
    if (call.deadline < this.#timerAt) {
      this.#arm(call.deadline);
    }
  }

  /** Takes a lost call back into the queue, or rejects it. */
  resubmit(call: C, error: DekdError): void {
    this.#sent.delete(call);
    if (call.isDone) {
      return;
    }
    // What the agent refuses for good it would refuse again.
    if (!call.isIdempotent || !error.retryable || this.#closed || this.#options.failFast === true) {
      call.reject(error);
      return;
    }
    this.#queue.push(call);
    this.#schedule();
  }

  /**
   * Lets work that takes several calls finish although the transport is closed meanwhile. It says by what is returned that
   * it has ended. @throws AGENT_UNAVAILABLE when the transport is closed already
   */
  hold(): () => void {
    if (this.#closed) {
      throw closed();
    }
    this.#held += 1;
    return () => {
      this.#held -= 1;
      this.#wake();
    };
  }

  /** Called by every call once it is settled. @param failure what it rejects with; undefined for none */
  settled(call: C, failure: unknown): void {
    call.trace?.end(failure);
    this.#sent.delete(call);
    this.#wake();
  }

  #wake(): void {
    if (this.#idleWaiters.length > 0 && this.#isIdle) {
      for (const wake of this.#idleWaiters.splice(0)) {
        wake();
      }
    }
  }

  get #isIdle(): boolean {
    return this.#held === 0 && this.#sent.size === 0 && this.#queue.every(({ isDone }) => isDone);
  }

  cancel(id: number): void {
    this.#channel?.cancel(id);
  }

  /** The same for a call that must hear when the agent has done with it, which it always says. */
  cancelKeeping(id: number): void {
    this.#channel?.cancelKeeping(id);
  }

  /** The connection, while there is one. */
  get channel(): Channel | undefined {
    return this.#channel;
  }

  /** Lets calls in flight finish, then closes; what could go on for ever is ended. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const call of [...this.#sent.members(), ...this.#queue]) {
      if (call.repeats === true) {
        call.reject(closed());
      }
    }
    this.#queue = this.#queue.filter((call) => !call.isDone);
    if (!this.#isIdle) {
      await new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
    }
    clearTimeout(this.#timer);
    this.#channel?.close();
    this.#channel = undefined;
  }

  #schedule(): void {
    if (!this.#scheduled) {
      this.#scheduled = true;
      // nextTick runs after the promise jobs of this tick, so that everybody they wake up joins the same frame.
      process.nextTick(() => {
        this.#scheduled = false;
        this.#drain();
      });
    }
  }

  #drain(): void {
    const channel = this.#channel;
    if (channel === undefined || !channel.isOpen) {
      this.#connect();
      return;
    }
    const queue = this.#queue;
    this.#queue = [];
    let from = 0;
    while (from < queue.length) {
      const first = queue[from]!;
      let to = from + 1;
      if (first.sharing !== 0) {
        while (to < queue.length && queue[to]!.sharing === first.sharing) {
          to++;
        }
      }
      this.#send(channel, from === 0 && to === queue.length ? queue : queue.slice(from, to));
      from = to;
    }
    channel.flush();
  }

  #send(channel: Channel, calls: C[]): void {
    const live: C[] = [];
    for (const call of calls) {
      if (!call.isDone) {
        this.#sent.add(call);
        live.push(call);
      }
    }
    if (live.length === 0) {
      return;
    }
    // Of a traced call, which is alone.
    channel.writer.traceparent = live[0]!.trace?.traceparent;
    try {
      this.#sender.send(channel, live);
    } catch (error) {
      for (const call of live) {
        call.reject(error);
      }
    }
    channel.writer.traceparent = undefined;
  }

  #connect(): void {
    if (this.#connecting || this.#queue.length === 0) {
      return;
    }
    this.#connecting = true;
    void this.#connectUntilDone().finally(() => {
      this.#connecting = false;
    });
  }

  async #connectUntilDone(): Promise<void> {
    for (let attempt = this.#losses; ; attempt++) {
      if (attempt > 0) {
        await sleep(backOffMs(attempt));
      }
      this.#queue = this.#queue.filter((call) => !call.isDone);
      if (this.#queue.length === 0) {
        return;
      }
      try {
        const path = await this.#options.socket();
        const channel: Channel = await Channel.open(
          path,
          this.#options.token?.(),
          GREETING_TIMEOUT_MS,
          (hasAnswered) => {
            this.#losses = hasAnswered ? 0 : this.#losses + 1;
            if (this.#channel === channel) {
              this.#channel = undefined;
            }
          },
        );
        if (this.#closed && this.#queue.every(({ isDone }) => isDone)) {
          channel.close();
          return;
        }
        await this.#options.prepare?.(channel);
        if (channel.isOpen) {
          this.#channel = channel;
          this.#maxPayload = channel.limits.maxPayload;
          this.#lastFailure = undefined;
          this.#schedule();
          return;
        }
      } catch (error) {
        const failure = DekdError.from(error);
        if (!failure.retryable || this.#options.failFast === true) {
          for (const call of this.#queue.splice(0)) {
            call.reject(failure);
          }
          return;
        }
        this.#lastFailure = failure;
      }
    }
  }

  #lastFailure: DekdError | undefined;

  #arm(at: number): void {
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(() => this.#sweep(), Math.min(MAX_TIMER_MS, Math.max(0, at - performance.now()) + 1));
    this.#timer.unref();
  }

  /** Rejects what is past its deadline and sleeps until the next one. */
  #sweep(): void {
    const now = performance.now();
    let next = Number.POSITIVE_INFINITY;
    const queued = new Set(this.#queue);
    for (const call of [...this.#sent.members(), ...queued]) {
      if (call.isDone) {
        continue;
      }
      if (call.deadline <= now) {
        call.reject(queued.has(call) && this.#lastFailure !== undefined ? this.#lastFailure : deadlineExceeded());
      } else {
        next = Math.min(next, call.deadline);
      }
    }
    this.#timerAt = Number.POSITIVE_INFINITY;
    if (next < Number.POSITIVE_INFINITY) {
      this.#arm(next);
    }
  }
}

/** How long to wait before a connection is tried again, after so many that came to nothing. */
export function backOffMs(attempts: number): number {
  const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** (attempts - 1));
  return ceiling / 2 + Math.random() * (ceiling / 2);
}

function closed(): DekdError {
  return new DekdError('AGENT_UNAVAILABLE', 'the client was closed');
}

/**
 * Settles as `work`, or before it: with the reason of `signal`, or with DEADLINE_EXCEEDED at `deadline`, by the monotonic clock.
 * @param late takes what comes of the work when nobody waits for it any more
 */
export function within<T>(
  work: Promise<T>,
  deadline: number,
  signal: AbortSignal | undefined,
  late: (result: T) => void = () => {},
): Promise<T> {
  return new Promise((resolve, reject) => {
    let isOver = false;
    const end = (settle: () => void): void => {
      isOver = true;
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      settle();
    };
    const onAbort = (): void => end(() => reject(signal!.reason));
    const left = Math.min(MAX_TIMER_MS, Math.max(0, deadline - performance.now()));
    const timer = setTimeout(() => end(() => reject(deadlineExceeded())), left);
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) {
      onAbort();
    }
    work.then(
      (result) => (isOver ? late(result) : end(() => resolve(result))),
      (error: unknown) => isOver || end(() => reject(error)),
    );
  });
}

export function deadlineExceeded(): DekdError {
  return new DekdError('DEADLINE_EXCEEDED', 'the deadline of the call has passed (timeoutMs)');
}
