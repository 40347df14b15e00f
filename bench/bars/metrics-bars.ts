/** Bars of observation: an agent that measures beside one that does not. */
import { randomBytes } from 'node:crypto';
import { connect } from '../../src/client/index.ts';
import { AgentProcess } from '../support/agent-process.ts';
import { Clients } from '../support/clients.ts';
import { compare, median, OVER_SOCKET, percentile } from '../support/interleave.ts';
import { onOneCore } from '../support/one-core.ts';
import { BINDING, type ScenarioName } from '../support/scenarios.ts';
import { type Bar, figure, type Measured } from './bar.ts';

const OFF = { env: { DEKD_METRICS_ENABLED: 'false' } };
const WARM_CALLS = 5_000;
const CALLS_A_TURN = 400;
const TURNS = 10;

/** Both agents, for as long as `body` runs. */
async function withBoth<T>(body: (on: AgentProcess, off: AgentProcess) => Promise<T>): Promise<T> {
  const on = await AgentProcess.start();
  const off = await AgentProcess.start(OFF);
  try {
    return await body(on, off);
  } finally {
    await on.stop();
    await off.stop();
  }
}

function roundTrip(): Promise<Measured> {
  return withBoth((on, off) =>
    onOneCore([on.child.pid, off.child.pid], async () => {
      const data = randomBytes(64);
      await using subject = connect({ socket: on.socket, lane: false });
      await using baseline = connect({ socket: off.socket, lane: false });
      const timed = async (client: typeof subject, count: number, samples: number[]): Promise<void> => {
        for (let i = 0; i < count; i++) {
          const begun = performance.now();
          await client.encrypt(data, BINDING);
          samples.push((performance.now() - begun) * 1_000);
        }
      };
      await timed(subject, WARM_CALLS, []);
      await timed(baseline, WARM_CALLS, []);
      const rounds: [number, number][] = [];
      for (let round = 0; round < OVER_SOCKET.rounds; round++) {
        const measured: number[] = [];
        const plain: number[] = [];
        for (let turn = 0; turn < TURNS; turn++) {
          await timed(subject, CALLS_A_TURN, measured);
          await timed(baseline, CALLS_A_TURN, plain);
        }
        rounds.push([percentile(measured, 0.5), percentile(plain, 0.5)]);
      }
      const p50 = (side: 0 | 1) => figure(median(rounds.map((round) => round[side])));
      return {
        ratio: median(rounds.map(([a, b]) => a / b)),
        detail: `p50 ${p50(0)} µs against ${p50(1)} µs`,
      };
    }),
  );
}

function throughput(scenario: ScenarioName): Promise<Measured> {
  return withBoth(async (on, off) => {
    const subject = await Clients.start(on.socket, scenario, 1);
    const baseline = await Clients.start(off.socket, scenario, 1);
    try {
      const compared = await compare(
        (count) => subject.calls(count),
        (count) => baseline.calls(count),
        OVER_SOCKET,
      );
      const detail = `${figure(compared.subject)} calls/s against ${figure(compared.baseline)} calls/s`;
      return { ratio: compared.ratio, detail };
    } finally {
      await subject.stop();
      await baseline.stop();
    }
  });
}

export const metricsBars: readonly Bar[] = [
  { name: 'metrics on against off, one awaited 64 B encrypt, p50', atMost: 1.1, measure: roundTrip },
  {
    name: 'metrics on against off, 64 B encrypt, many in flight',
    atLeast: 0.95,
    measure: () => throughput('in-flight'),
  },
  {
    name: 'metrics on against off, batch of 1,000 × 64 B',
    atLeast: 0.95,
    measure: () => throughput('batch'),
  },
];
