/** Two ways of doing the same work, compared. */
import { type Effort, interleave, median, type Work } from '../../src/cli/bench/interleave.ts';

export { type Effort, interleave, median, percentile, type Work } from '../../src/cli/bench/interleave.ts';

export const IN_PROCESS: Effort = { rounds: 5, turns: 9, turnMs: 20, warmMs: 300 };
/** Longer turns: a run of calls in flight begins and ends with few of them under way. */
export const OVER_SOCKET: Effort = { rounds: 5, turns: 5, turnMs: 100, warmMs: 1_500 };

export interface Comparison {
  /** Median over the rounds of the subject's rate by the baseline's. */
  readonly ratio: number;
  /** Operations per second, medians over the rounds. */
  readonly subject: number;
  readonly baseline: number;
}

/** How much faster `subject` is than `baseline`, per operation. */
export async function compare(subject: Work, baseline: Work, effort: Effort): Promise<Comparison> {
  const rounds = await interleave([subject, baseline], effort);
  return {
    ratio: median(rounds.map(([a, b]) => a! / b!)),
    subject: median(rounds.map(([a]) => a!)),
    baseline: median(rounds.map(([, b]) => b!)),
  };
}
