/** Bars of the socket: one client connection to an agent in another process, beside a bare echo or work in process. */
import { randomBytes } from 'node:crypto';
import { inFlight } from '../../src/cli/bench/in-flight.ts';
import { connect, type DekdClient } from '../../src/client/index.ts';
import { AgentProcess } from '../support/agent-process.ts';
import { Clients } from '../support/clients.ts';
import { Echo } from '../support/echo.ts';
import { InProcess } from '../support/in-process.ts';
import { compare, median, OVER_SOCKET, percentile, type Work } from '../support/interleave.ts';
import { onOneCore } from '../support/one-core.ts';
import { BINDING, calls, SCENARIOS, type ScenarioName } from '../support/scenarios.ts';
import { type Bar, figure, type Measured } from './bar.ts';

/** What a 64-byte encrypt is on the wire, its length prefix included: the echo carries as much. */
const FRAME_64 = 112;
const WARM_CALLS = 5_000;
const CALLS_A_TURN = 400;
const TURNS = 10;

/** An agent and a client of it, for as long as `body` runs. */
async function withAgent<T>(body: (client: DekdClient, pid: number) => Promise<T>): Promise<T> {
  const agent = await AgentProcess.start();
  const client = connect({ socket: agent.socket, lane: false });
  try {
    return await body(client, agent.child.pid);
  } finally {
    await client.close();
    await agent.stop();
  }
}

/** The same with an echo server beside it. */
function withEcho<T>(body: (client: DekdClient, echo: Echo, pids: number[]) => Promise<T>): Promise<T> {
  return withAgent(async (client, pid) => {
    const echo = await Echo.start();
    try {
      return await body(client, echo, [pid, echo.pid]);
    } finally {
      await echo.stop();
    }
  });
}

/** One call after the other, each awaited; the microseconds of each go into `samples`. */
async function awaited(count: number, operation: () => Promise<unknown>, samples: number[]): Promise<void> {
  for (let i = 0; i < count; i++) {
    const begun = performance.now();
    await operation();
    samples.push((performance.now() - begun) * 1_000);
  }
}

function roundTrip(): Promise<Measured> {
  return withEcho((client, echo, pids) => onOneCore(pids, () => compareRoundTrips(client, echo)));
}

async function compareRoundTrips(client: DekdClient, echo: Echo): Promise<Measured> {
  const data = randomBytes(64);
  const frame = randomBytes(FRAME_64);
  const encrypt = () => client.encrypt(data, BINDING);
  const send = () => echo.send(frame);
  await awaited(WARM_CALLS, encrypt, []);
  await awaited(WARM_CALLS, send, []);
  const rounds: { subject: number; baseline: number }[] = [];
  for (let round = 0; round < OVER_SOCKET.rounds; round++) {
    const subject: number[] = [];
    const baseline: number[] = [];
    for (let turn = 0; turn < TURNS; turn++) {
      await awaited(CALLS_A_TURN, encrypt, subject);
      await awaited(CALLS_A_TURN, send, baseline);
    }
    rounds.push({ subject: percentile(subject, 0.5), baseline: percentile(baseline, 0.5) });
  }
  const subject = median(rounds.map((round) => round.subject));
  const baseline = median(rounds.map((round) => round.baseline));
  return {
    ratio: median(rounds.map((round) => round.subject / round.baseline)),
    detail: `p50 ${figure(subject)} µs against ${figure(baseline)} µs`,
  };
}

export function inProcess(size: number): Work {
  const data = randomBytes(size);
  const application = new InProcess();
  application.check(data);
  return (count) => {
    for (let i = 0; i < count; i++) {
      application.seal(data);
    }
  };
}

/**
 * The client works in a process of its own, as the baseline does in this one: an application uses the one or the other,
 * and neither shall pay for the garbage of the other.
 */
export async function againstInProcess(
  name: ScenarioName,
  baseline: (size: number) => Work = inProcess,
): Promise<Measured> {
  const { items, size } = SCENARIOS[name];
  const agent = await AgentProcess.start();
  const clients = await Clients.start(agent.socket, name, 1);
  try {
    const compared = await compare((count) => clients.calls(count), baseline(size), OVER_SOCKET);
    const detail = `${figure(compared.subject * items)}/s against ${figure(compared.baseline)}/s`;
    return { ratio: compared.ratio * items, detail };
  } finally {
    await clients.stop();
    await agent.stop();
  }
}

function againstEcho(name: ScenarioName): Promise<Measured> {
  const { width, size } = SCENARIOS[name];
  return withEcho(async (client, echo) => {
    const bytes = randomBytes(size);
    const { ratio, subject, baseline } = await compare(
      await calls(client, SCENARIOS[name]),
      (count) => inFlight(width, count, () => echo.send(bytes)),
      OVER_SOCKET,
    );
    return { ratio, detail: `${figure(subject)} MiB/s against ${figure(baseline)} MiB/s` };
  });
}

export const socketBars: readonly Bar[] = [
  { name: 'one awaited 64 B encrypt, p50 against a bare Node echo', atMost: 1.3, measure: roundTrip },
  {
    name: '64 B encrypt, many in flight on one connection, against in process',
    atLeast: 2.5,
    measure: () => againstInProcess('in-flight'),
  },
  {
    name: 'batch of 1,000 × 64 B, items/s against in process',
    atLeast: 15,
    measure: () => againstInProcess('batch'),
  },
  {
    name: '1 MiB over the socket against a bare Node echo, one at a time',
    atLeast: 0.8,
    measure: () => againstEcho('mebibyte'),
  },
  {
    name: '1 MiB over the socket against a bare Node echo, four in flight',
    atLeast: 0.8,
    measure: () => againstEcho('mebibyte-in-flight'),
  },
];
