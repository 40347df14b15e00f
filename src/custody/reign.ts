import type { CustodianProcess } from './custodian-process.ts';

/** Part of its life after which calls go to a successor: the rest is for starting that, and for calls in flight. */
const HANDOVER_AT = 2 / 3;
/** It is busy when there was a call in the last such part of its life. */
const BUSY_WITHIN = 1 / 6;

export interface ReignOptions {
  readonly process: CustodianProcess;
  readonly idleMs: number;
  /** From its first plaintext to its end. */
  readonly lifeMs: number;
  /** In which it must be gone when it was told to end. */
  readonly endMs: number;
  /** It had no call for `idleMs`. */
  readonly onIdle: () => void;
  /** A successor is due. */
  readonly onDue: () => void;
}

/** A custodian while it is the one that calls go to, and until its process is gone: when its time is over. */
export class Reign {
  readonly process: CustodianProcess;
  /** Roots whose logins end with it, instead of going on to its successor. */
  readonly forget = new Set<string>();
  readonly #options: ReignOptions;
  #isOver = false;
  #calledAt = performance.now();
  #idle: NodeJS.Timeout | undefined;
  #due: NodeJS.Timeout | undefined;
  #last: NodeJS.Timeout | undefined;

  constructor(options: ReignOptions) {
    this.#options = options;
    this.process = options.process;
  }

  /** Whether a successor is worth having before anybody asks. */
  get isBusy(): boolean {
    return this.process.inFlight > 0 || performance.now() - this.#calledAt < this.#options.lifeMs * BUSY_WITHIN;
  }

  /** A call is about to be made. @param revealing whether a caller's key material is in its memory from then on */
  called(revealing: boolean): void {
    this.#calledAt = performance.now();
    clearTimeout(this.#idle);
    if (revealing && this.#last === undefined) {
      const { lifeMs, onDue } = this.#options;
      this.#due = setTimeout(onDue, lifeMs * HANDOVER_AT).unref();
      this.#last = setTimeout(() => this.process.kill('its time was over', false), lifeMs).unref();
    }
  }

  /** It has fewer calls than before, or none yet. */
  answered(): void {
    if (this.process.inFlight > 0) {
      return;
    }
    if (this.#isOver) {
      this.#end();
    } else {
      clearTimeout(this.#idle);
      this.#idle = setTimeout(this.#options.onIdle, this.#options.idleMs).unref();
    }
  }

  /** It gets no call any more, and ends when it has none; at once with `now`, and then calls in flight fail. */
  retire(now: boolean): void {
    this.#isOver = true;
    clearTimeout(this.#idle);
    clearTimeout(this.#due);
    if (now || this.process.inFlight === 0) {
      this.#end();
    }
  }

  /** Its process is gone. */
  finished(): void {
    clearTimeout(this.#idle);
    clearTimeout(this.#due);
    clearTimeout(this.#last);
  }

  #end(): void {
    void this.process.end([...this.forget], this.#options.endMs);
  }
}
