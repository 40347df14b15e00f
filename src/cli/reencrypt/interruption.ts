import { warn } from '../terminal.ts';

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** A first signal lets what is under way come to its end, a second one is the end of the process. */
export class Interruption implements Disposable {
  readonly #abort = new AbortController();
  readonly #interrupt = (): void => {
    warn('stopping after this batch; press it again to stop at once');
    this.#abort.abort();
    this[Symbol.dispose]();
  };

  constructor() {
    for (const signal of SIGNALS) {
      process.once(signal, this.#interrupt);
    }
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  [Symbol.dispose](): void {
    for (const signal of SIGNALS) {
      process.off(signal, this.#interrupt);
    }
  }
}
