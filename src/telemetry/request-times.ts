/** How long requests take, by what was asked and how it travelled. */
import { COUNTED_OPERATIONS, type CountedOperation } from './counters.ts';
import { Histogram } from './histogram.ts';
import { type Observation, type Observer, REQUEST_FORMS, type RequestForm } from './observation.ts';

export interface RequestTime {
  readonly operation: CountedOperation;
  readonly form: RequestForm;
  readonly histogram: Histogram;
}

const FORM = Object.fromEntries(REQUEST_FORMS.map((form, index) => [form, index])) as Record<RequestForm, number>;
const OPERATION = Object.fromEntries(
  COUNTED_OPERATIONS.map((operation, index) => [operation, index * REQUEST_FORMS.length]),
) as Record<CountedOperation, number>;
const CELLS = COUNTED_OPERATIONS.length * REQUEST_FORMS.length;

/**
 * From when the frame of a request had arrived whole until its answer was handed to the socket. What arrived in one chunk
 * and had not to wait leaves together, so that one look at the clock is enough for all of it.
 */
export class RequestTimes implements Observer {
  readonly wantsContexts = false;
  readonly #times: (Histogram | undefined)[] = new Array(CELLS).fill(undefined);
  /** Answered, and not left yet: how many, by cell, and which cells those are. */
  readonly #waiting = new Float64Array(CELLS);
  readonly #cells: number[] = [];
  #arrived = 0;

  answered({ operation, form, arrived }: Observation): void {
    const cell = OPERATION[operation] + FORM[form];
    if (this.#cells.length > 0 && arrived !== this.#arrived) {
      this.#record(cell, performance.now() - arrived, 1);
      return;
    }
    this.#arrived = arrived;
    if (this.#waiting[cell] === 0) {
      this.#cells.push(cell);
    }
    this.#waiting[cell] = this.#waiting[cell]! + 1;
  }

  left(): void {
    if (this.#cells.length === 0) {
      return;
    }
    const took = performance.now() - this.#arrived;
    for (const cell of this.#cells) {
      this.#record(cell, took, this.#waiting[cell]!);
      this.#waiting[cell] = 0;
    }
    this.#cells.length = 0;
  }

  /** Those that have happened. */
  all(): RequestTime[] {
    return this.#times.flatMap((histogram, cell) =>
      histogram === undefined
        ? []
        : [
            {
              operation: COUNTED_OPERATIONS[Math.floor(cell / REQUEST_FORMS.length)]!,
              form: REQUEST_FORMS[cell % REQUEST_FORMS.length]!,
              histogram,
            },
          ],
    );
  }

  #record(cell: number, milliseconds: number, times: number): void {
    this.#times[cell] ??= new Histogram();
    this.#times[cell].record(milliseconds / 1000, times);
  }
}
