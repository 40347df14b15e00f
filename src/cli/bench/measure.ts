/** Puts ways of encrypting values of one size beside each other. */
import { type Effort, interleave, median, percentile } from './interleave.ts';
import type { Way } from './way.ts';

export const NORMAL: Effort = { rounds: 5, turns: 3, turnMs: 40, warmMs: 250 };
export const QUICK: Effort = { rounds: 3, turns: 1, turnMs: 20, warmMs: 150 };
/** Calls that are timed one by one, as far as they fit into so many turns. */
const TIMED_CALLS = 2_000;
const TIMED_TURNS = 5;

/** What one way did with values of one size. */
export interface Figures {
  /** Bytes of plaintext in one value. */
  readonly size: number;
  readonly name: string;
  readonly of: Way['of'];
  /** Values in one call, and calls under way at once. */
  readonly items: number;
  readonly inFlight: number;
  /** Values a second by the baseline's: the median over the rounds. */
  readonly ratio: number;
  /** The same by the fastest way of the user's own; absent without one. */
  readonly ratioToOwn?: number;
  readonly valuesPerSecond: number;
  readonly bytesPerSecond: number;
  /** Microseconds of one call, where each was timed by itself. */
  readonly p50Micros?: number;
  readonly p99Micros?: number;
}

/** @param ways one of them the baseline */
export async function measure(size: number, ways: readonly Way[], effort: Effort): Promise<Figures[]> {
  const rounds = (
    await interleave(
      ways.map(({ work }) => work),
      effort,
    )
  ).map((rates) => rates.map((rate, i) => rate * ways[i]!.width * ways[i]!.items));
  const rateOf = (index: number) => median(rounds.map((rates) => rates[index]!));
  const ratioTo = (index: number, other: number) => median(rounds.map((rates) => rates[index]! / rates[other]!));
  const baseline = ways.findIndex((way) => way.of === 'baseline');
  const own = ways
    .flatMap((way, index) => (way.of === 'own' ? [index] : []))
    .sort((a, b) => rateOf(b) - rateOf(a))
    .at(0);
  const figures: Figures[] = [];
  for (const [index, { name, of, items, width, call }] of ways.entries()) {
    const valuesPerSecond = rateOf(index);
    figures.push({
      size,
      name,
      of,
      items,
      inFlight: width,
      ratio: ratioTo(index, baseline),
      ...(own === undefined ? {} : { ratioToOwn: ratioTo(index, own) }),
      valuesPerSecond,
      bytesPerSecond: valuesPerSecond * size,
      ...(call === undefined ? {} : await latencies(call, effort)),
    });
  }
  return figures;
}

async function latencies(
  call: () => Promise<unknown>,
  effort: Effort,
): Promise<Pick<Figures, 'p50Micros' | 'p99Micros'>> {
  const samples: number[] = [];
  const until = performance.now() + TIMED_TURNS * effort.turnMs;
  while (samples.length < TIMED_CALLS && (performance.now() < until || samples.length === 0)) {
    const begun = performance.now();
    await call();
    samples.push((performance.now() - begun) * 1_000);
  }
  return { p50Micros: percentile(samples, 0.5), p99Micros: percentile(samples, 0.99) };
}
