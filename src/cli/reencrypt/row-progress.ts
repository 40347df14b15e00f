import { count } from '../terminal.ts';

const INTERVAL_MS = 500;

/** Rows so far, of this process or of all of them. */
export interface RowCounts {
  readonly examined: number;
  readonly moved: number;
  readonly failed: number;
}

/** One line on standard error, written over at a terminal, one a line in JSON. */
export class RowProgress {
  readonly #json: boolean;
  readonly #expected: number;
  #begun: { readonly at: number; readonly examined: number } | undefined;
  #shownAt = 0;
  #isShown = false;

  /** @param expected rows in all, about */
  constructor(json: boolean, expected: number) {
    this.#json = json;
    this.#expected = expected;
  }

  /** Whether it is time for another line: what it says may have to be asked for. */
  get isDue(): boolean {
    return (this.#json || process.stderr.isTTY === true) && performance.now() - this.#shownAt >= INTERVAL_MS;
  }

  show({ examined, moved, failed }: RowCounts, waitsFor = ''): void {
    const now = performance.now();
    this.#shownAt = now;
    if (this.#begun === undefined || examined < this.#begun.examined) {
      // The rate is that since this process looks on: what was done before took another time.
      this.#begun = { at: now, examined };
    }
    const seconds = (now - this.#begun.at) / 1_000;
    const rate = seconds > 0 ? (examined - this.#begun.examined) / seconds : 0;
    const secondsLeft = rate > 0 ? Math.max(0, this.#expected - examined) / rate : undefined;
    if (this.#json) {
      const progress = { examined, expected: this.#expected, moved, failed, rate: Math.round(rate), secondsLeft };
      process.stderr.write(`${JSON.stringify({ progress })}\n`);
      return;
    }
    this.#isShown = true;
    process.stderr.write(`\r\u001b[K${progressText(examined, this.#expected, rate, secondsLeft)}${waitsFor}`);
  }

  clear(): void {
    if (this.#isShown) {
      this.#isShown = false;
      process.stderr.write('\r\u001b[K');
    }
  }
}

/** `12,000 of about 100,000 rows  12 %  30,000/s  3 s left` */
export function progressText(
  examined: number,
  expected: number,
  rate: number,
  secondsLeft: number | undefined,
): string {
  const share = expected > 0 ? `  ${Math.min(100, Math.floor((examined / expected) * 100))} %` : '';
  const left = secondsLeft === undefined ? '' : `  ${timeLeft(secondsLeft)} left`;
  return `${count(examined)} of about ${count(expected)} rows${share}  ${count(rate)}/s${left}`;
}

function timeLeft(seconds: number): string {
  const whole = Math.ceil(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
