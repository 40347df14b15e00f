/** Calls to services behind the agent: how many, how they ended, how long they took. */
import { Histogram } from './histogram.ts';

/** One call that has ended. All three names are of closed sets or of the configuration: they become labels. */
export interface EndedCall {
  /** Name of the root or the keystore. */
  readonly target: string;
  readonly operation: string;
  /** `ok` or the code of the failure. */
  readonly outcome: string;
  readonly milliseconds: number;
}

export interface CallTime {
  readonly target: string;
  readonly operation: string;
  readonly outcomes: ReadonlyMap<string, number>;
  readonly histogram: Histogram;
}

export class CallTimes {
  readonly #times = new Map<string, CallTime & { readonly outcomes: Map<string, number> }>();

  ended({ target, operation, outcome, milliseconds }: EndedCall): void {
    const id = `${operation} ${target}`;
    let time = this.#times.get(id);
    if (time === undefined) {
      time = { target, operation, outcomes: new Map(), histogram: new Histogram() };
      this.#times.set(id, time);
    }
    time.outcomes.set(outcome, (time.outcomes.get(outcome) ?? 0) + 1);
    time.histogram.record(milliseconds / 1000);
  }

  all(): CallTime[] {
    return [...this.#times.values()];
  }
}
