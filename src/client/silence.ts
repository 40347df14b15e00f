/** Notices that nothing is written to a file any more. */
import { DekdError } from '../errors.ts';
import type { PassTarget } from './file-ways.ts';

const LOOK_MS = 200;

export class Silence {
  readonly #target: PassTarget;
  readonly #limitMs: number;
  readonly #controller = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #length = 0;
  #since = performance.now();

  /** @param limitMs milliseconds after which `signal` is aborted, with DEADLINE_EXCEEDED */
  constructor(target: PassTarget, limitMs: number) {
    this.#target = target;
    this.#limitMs = limitMs;
    this.#timer = setInterval(() => void this.#look(), Math.min(LOOK_MS, limitMs));
    this.#timer.unref();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  end(): void {
    clearInterval(this.#timer);
  }

  async #look(): Promise<void> {
    const length = await this.#target.length().catch(() => this.#length);
    const now = performance.now();
    if (length !== this.#length) {
      this.#length = length;
      this.#since = now;
    } else if (now - this.#since > this.#limitMs) {
      this.#controller.abort(
        new DekdError('DEADLINE_EXCEEDED', `the agent has written nothing for ${this.#limitMs} ms (timeoutMs)`),
      );
    }
  }
}
