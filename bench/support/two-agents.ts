/** Two agents that differ in one setting, side by side. */
import { randomBytes } from 'node:crypto';
import { connect, type DekdClient } from '../../src/client/index.ts';
import { type AgentOptions, AgentProcess } from './agent-process.ts';
import { Clients } from './clients.ts';
import { type Comparison, compare, median, OVER_SOCKET, percentile } from './interleave.ts';
import { onOneCore } from './one-core.ts';
import { BINDING, type ScenarioName } from './scenarios.ts';

const WARM_CALLS = 5_000;
const CALLS_A_TURN = 400;
const TURNS = 10;

/** Both agents, for as long as `body` runs. */
async function withBoth<T>(
  options: readonly [AgentOptions, AgentOptions],
  body: (subject: AgentProcess, baseline: AgentProcess) => Promise<T>,
): Promise<T> {
  const [subject, baseline] = [await AgentProcess.start(options[0]), await AgentProcess.start(options[1])];
  try {
    return await body(subject, baseline);
  } finally {
    await subject.stop();
    await baseline.stop();
  }
}

/** One awaited 64-byte encrypt: microseconds at the median, of the subject and of the baseline, and their ratio. */
export function compareRoundTrips(subject: AgentOptions, baseline: AgentOptions): Promise<Comparison> {
  return withBoth([subject, baseline], (one, other) =>
    onOneCore([one.child.pid, other.child.pid], async () => {
      const data = randomBytes(64);
      await using first = connect({ socket: one.socket, lane: false });
      await using second = connect({ socket: other.socket, lane: false });
      const timed = async (client: DekdClient, count: number, samples: number[]): Promise<void> => {
        for (let i = 0; i < count; i++) {
          const begun = performance.now();
          await client.encrypt(data, BINDING);
          samples.push((performance.now() - begun) * 1_000);
        }
      };
      await timed(first, WARM_CALLS, []);
      await timed(second, WARM_CALLS, []);
      const rounds: [number, number][] = [];
      for (let round = 0; round < OVER_SOCKET.rounds; round++) {
        const [a, b]: [number[], number[]] = [[], []];
        for (let turn = 0; turn < TURNS; turn++) {
          await timed(first, CALLS_A_TURN, a);
          await timed(second, CALLS_A_TURN, b);
        }
        rounds.push([percentile(a, 0.5), percentile(b, 0.5)]);
      }
      return {
        ratio: median(rounds.map(([a, b]) => a / b)),
        subject: median(rounds.map(([a]) => a)),
        baseline: median(rounds.map(([, b]) => b)),
      };
    }),
  );
}

/** Calls a second. */
export function compareThroughput(
  subject: AgentOptions,
  baseline: AgentOptions,
  scenario: ScenarioName,
): Promise<Comparison> {
  return withBoth([subject, baseline], async (one, other) => {
    const first = await Clients.start(one.socket, scenario, 1);
    const second = await Clients.start(other.socket, scenario, 1);
    try {
      return await compare(
        (count) => first.calls(count),
        (count) => second.calls(count),
        OVER_SOCKET,
      );
    } finally {
      await first.stop();
      await second.stop();
    }
  });
}
