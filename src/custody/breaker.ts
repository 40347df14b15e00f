/** Consecutive failures that open the breaker. */
const FAILURES = 5;
/** How long it stays open when nothing shows earlier that the service is back. */
const OPEN_MS = 30_000;
/** How often a cheap look is taken while it is open. */
const LOOK_MS = 3_000;

export type BreakerState = 'closed' | 'open' | 'half-open';

export interface BreakerOptions {
  readonly elapsedMs: () => number;
  /** A look that costs nothing: whether the service answers. */
  readonly look: () => Promise<boolean>;
  /** Told of every change of state. */
  readonly onChange: (state: BreakerState) => void;
}

/**
 * Keeps calls from a service that does not answer. After five failures in a row it is open for 30 s, in which calls fail at
 * once; every 3 s a cheap look is taken, and one that succeeds half-opens it. Then one call is let through, and what
 * comes of it closes or opens it again. One breaker for each root, which is one key at one service: the outage of one
 * stops no other.
 *
 * Our own and not a library's because of the look: those that were found open by time only.
 */
export class Breaker {
  readonly #options: BreakerOptions;
  #state: BreakerState = 'closed';
  #failures = 0;
  #openUntil = 0;
  #probing = false;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: BreakerOptions) {
    this.#options = options;
  }

  get state(): BreakerState {
    return this.#state;
  }

  /** Milliseconds after which another call makes sense; 0 when one may be made now. Takes the place of the one probe. */
  enter(): number {
    if (this.#state === 'closed') {
      return 0;
    }
    const left = this.#openUntil - this.#options.elapsedMs();
    if (this.#state === 'open') {
      if (left > 0) {
        return Math.min(left, LOOK_MS);
      }
      this.#become('half-open');
    }
    if (this.#probing) {
      return LOOK_MS;
    }
    this.#probing = true;
    return 0;
  }

  /** A call that `enter` let through was answered: also by a refusal, which is an answer. */
  succeeded(): void {
    this.#failures = 0;
    this.#probing = false;
    if (this.#state !== 'closed') {
      this.#become('closed');
    }
  }

  /** It was not answered. */
  failed(): void {
    this.#failures++;
    this.#probing = false;
    if (this.#state === 'half-open' || this.#failures >= FAILURES) {
      this.#openUntil = this.#options.elapsedMs() + OPEN_MS;
      if (this.#state !== 'open') {
        this.#become('open');
      }
    }
  }

  /** It ended without saying anything of the service: the caller's own fault, or a call that was cancelled. */
  abandoned(): void {
    this.#probing = false;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #become(state: BreakerState): void {
    this.#state = state;
    clearTimeout(this.#timer);
    if (state === 'open' && !this.#closed) {
      this.#lookLater();
    }
    this.#options.onChange(state);
  }

  #lookLater(): void {
    // Agents that lost the same service at the same moment must not all come back at the same moment.
    this.#timer = setTimeout(() => void this.#look(), LOOK_MS * (0.75 + Math.random() / 2));
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    const answers = await this.#options.look().catch(() => false);
    if (this.#closed || this.#state !== 'open') {
      return;
    }
    if (answers) {
      this.#become('half-open');
    } else {
      this.#lookLater();
    }
  }
}
