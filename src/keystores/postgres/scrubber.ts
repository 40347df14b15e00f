/** Destroys that come close together share one rewrite of the table. */
const GATHER_MS = 250;
/** The table is locked while it is rewritten: at most a tenth of the time. */
const REST = 10;
const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 5 * 60_000;

/** What one attempt came to. */
export type ScrubOutcome = 'done' | 'held' | 'too-large' | 'not-allowed' | 'failed';

const MEANING: Readonly<Record<Exclude<ScrubOutcome, 'done'>, string>> = {
  held: 'an old transaction of the server is not over',
  'too-large': 'the table is too large to be locked for it by the way',
  'not-allowed': 'the role lacks EXECUTE on the function scrub()',
  failed: 'the last attempt failed',
};

/**
 * Has the table rewritten some time after keys were destroyed, since only that takes their bytes off the server's files.
 * What is owed is counted in the database itself: an agent that dies leaves it to the next one.
 */
export class Scrubber {
  readonly #scrub: () => Promise<ScrubOutcome>;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #isOwed = false;
  #stopped = false;
  #last: ScrubOutcome = 'done';
  #restMs = GATHER_MS;
  #retryMs = FIRST_RETRY_MS;

  /** @param scrub makes one attempt, and never throws */
  constructor(scrub: () => Promise<ScrubOutcome>) {
    this.#scrub = scrub;
  }

  /** Why bytes of destroyed keys are still there; undefined when nothing is known to be in the way. */
  get obstacle(): string | undefined {
    return this.#last === 'done' ? undefined : MEANING[this.#last];
  }

  /** Says that there are bytes to be removed. */
  owe(): void {
    this.#isOwed = true;
    this.#schedule(this.#restMs);
  }

  /** Makes a last attempt when something is owed. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#running;
    if (this.#isOwed) {
      await this.#attempt();
    }
  }

  #schedule(afterMs: number): void {
    if (this.#stopped || this.#timer !== undefined || this.#running !== undefined) {
      return;
    }
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#running = this.#attempt().finally(() => {
        this.#running = undefined;
        if (this.#isOwed) {
          this.#schedule(this.#last === 'done' ? this.#restMs : this.#retryMs);
        }
      });
    }, afterMs);
    this.#timer.unref();
  }

  async #attempt(): Promise<void> {
    this.#isOwed = false;
    const begun = performance.now();
    this.#last = await this.#scrub();
    if (this.#last === 'done') {
      this.#restMs = Math.max(GATHER_MS, REST * (performance.now() - begun));
      this.#retryMs = FIRST_RETRY_MS;
      return;
    }
    this.#isOwed = true;
    this.#retryMs = Math.min(this.#retryMs * 2, LONGEST_RETRY_MS);
  }
}
