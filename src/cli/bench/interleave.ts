/** Comparing ways of doing the same work on a machine that is not quiet. */

/** Does `count` operations. */
export type Work = (count: number) => unknown;

export interface Effort {
  readonly rounds: number;
  /** Turns each side has in one round. */
  readonly turns: number;
  /** Milliseconds of one turn. */
  readonly turnMs: number;
  /** Milliseconds that each side works before anything is counted, so that all code of all processes is compiled. */
  readonly warmMs: number;
}

/** Operations that take about `turnMs`; finding out takes as long or longer. */
async function calibrate(work: Work, turnMs: number): Promise<number> {
  for (let count = 1; ; ) {
    const taken = await timed(work, count);
    if (taken >= turnMs / 2) {
      return Math.max(1, Math.round((count * turnMs) / taken));
    }
    count = Math.max(count + 1, Math.min(count * 8, Math.ceil((count * turnMs) / Math.max(taken, 0.001))));
  }
}

async function timed(work: Work, count: number): Promise<number> {
  const begun = performance.now();
  const pending = work(count);
  // Awaiting what is no promise would add a turn of the event loop to synchronous work.
  if (pending instanceof Promise) {
    await pending;
  }
  return performance.now() - begun;
}

/**
 * Lets the sides take turns (A B A B …), so that whatever else the machine does falls on all of them alike.
 * @returns for every round, operations per second of every side
 */
export async function interleave(sides: readonly Work[], effort: Effort): Promise<number[][]> {
  const counts: number[] = [];
  for (const side of sides) {
    await calibrate(side, effort.warmMs);
    counts.push(await calibrate(side, effort.turnMs));
  }
  const rounds: number[][] = [];
  for (let round = 0; round < effort.rounds; round++) {
    const taken: number[][] = sides.map(() => []);
    for (let turn = 0; turn < effort.turns; turn++) {
      for (const [i, side] of sides.entries()) {
        taken[i]!.push(await timed(side, counts[i]!));
      }
    }
    // Of the median turn: one that another process interrupted says nothing about either side.
    rounds.push(taken.map((milliseconds, i) => (counts[i]! * 1_000) / median(milliseconds)));
  }
  return rounds;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The value below which the share `p` (0 to 1) of `values` lies. */
export function percentile(values: readonly number[], p: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))] ?? Number.NaN;
}
