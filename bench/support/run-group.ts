/** Measures a group with tinybench: five rounds, in each of which every subject has its turn. */
import { Bench } from 'tinybench';
import type { Group, Subject } from './group.ts';
import { median } from './interleave.ts';

export interface Pace {
  readonly rounds: number;
  /** Milliseconds of one subject's turn in a round. */
  readonly turnMs: number;
  readonly warmMs: number;
}

export const NORMAL: Pace = { rounds: 5, turnMs: 100, warmMs: 300 };
export const QUICK: Pace = { rounds: 3, turnMs: 30, warmMs: 60 };

export interface Row {
  readonly group: string;
  readonly name: string;
  /** Values a second. */
  readonly rate: number;
  readonly bytesPerSecond: number;
  /** Microseconds of one call, where each was timed by itself. */
  readonly p50?: number;
  readonly p99?: number;
  readonly p999?: number;
  /** Median over the rounds of this rate by the baseline's. */
  readonly ratio: number;
  readonly isBaseline: boolean;
}

/** Milliseconds that one iteration takes at least, so that the clock costs nothing. */
const ITERATION_MS = 2;
/** The same for work in flight, whose beginning and end, with little of it under way, must not weigh. */
const FLIGHT_MS = 20;

/** Calls before those that are timed one by one: what the side before has left behind is not theirs. */
const SETTLING_CALLS = 16;

/** What one subject did in one round. */
interface Turn {
  readonly rate: number;
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
}

export async function runGroup(group: Group, pace: Pace): Promise<Row[]> {
  const { subjects, close } = await group.open();
  try {
    const warmed: Warm[] = [];
    for (const subject of subjects) {
      warmed.push(await warm(subject, pace.warmMs));
    }
    const rounds: Turn[][] = [];
    for (let round = 0; round < pace.rounds; round++) {
      const bench = new Bench({ time: pace.turnMs, iterations: 1, warmup: false, throws: true });
      for (const [i, subject] of subjects.entries()) {
        const { count, isAsync } = warmed[i]!;
        bench.add(subject.name, () => subject.work(count), {
          async: isAsync,
          ...(subject.prepare !== undefined && { beforeEach: subject.prepare }),
          ...(subject.latency === true && { beforeAll: async () => void (await subject.work(SETTLING_CALLS)) }),
        });
      }
      await bench.run();
      rounds.push(bench.tasks.map((task, i) => turnOf(task.result, subjects[i]!, warmed[i]!.count)));
    }
    return subjects.map((subject, i) => rowOf(group, subjects, subject, rounds, i));
  } finally {
    await close?.();
  }
}

interface Warm {
  /** Calls in one iteration. */
  readonly count: number;
  readonly isAsync: boolean;
}

/** Works for about `milliseconds`, until all code is compiled and an iteration is long enough. */
async function warm(subject: Subject, milliseconds: number): Promise<Warm> {
  const until = performance.now() + milliseconds;
  let count = 1;
  let isAsync = false;
  do {
    subject.prepare?.();
    const begun = performance.now();
    const pending = subject.work(count);
    isAsync = pending instanceof Promise;
    await pending;
    if (subject.prepare === undefined && performance.now() - begun < (isAsync ? FLIGHT_MS : ITERATION_MS)) {
      count *= 2;
    }
  } while (performance.now() < until);
  return { count: subject.latency === true || subject.prepare !== undefined ? 1 : count, isAsync };
}

function turnOf(result: Bench['tasks'][number]['result'], { items = 1 }: Subject, count: number): Turn {
  if (!('latency' in result) || result.latency === undefined) {
    throw new Error('a subject was not measured');
  }
  const { mean, p50, p99, p999 } = result.latency;
  return { rate: (1_000 * count * items) / mean, p50: p50 * 1_000, p99: p99 * 1_000, p999: p999 * 1_000 };
}

function rowOf(group: Group, subjects: readonly Subject[], subject: Subject, rounds: Turn[][], index: number): Row {
  const baseline = subjects.findIndex(({ name }) => name === group.baseline);
  const over = (pick: (turns: Turn[]) => number) => median(rounds.map(pick));
  const rate = over((turns) => turns[index]!.rate);
  return {
    group: group.name,
    name: subject.name,
    rate,
    bytesPerSecond: rate * subject.bytes,
    ...(subject.latency === true && {
      p50: over((turns) => turns[index]!.p50),
      p99: over((turns) => turns[index]!.p99),
      p999: over((turns) => turns[index]!.p999),
    }),
    ratio: over((turns) => turns[index]!.rate / turns[baseline]!.rate),
    isBaseline: index === baseline,
  };
}
