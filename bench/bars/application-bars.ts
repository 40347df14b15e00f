/** Bars of what applications have beside the client: calls that block, and agents for their tests. */
import { randomBytes } from 'node:crypto';
import { connect, connectSync, type DekdClient, type DekdSyncClient } from '../../src/client/index.ts';
import { AgentProcess } from '../support/agent-process.ts';
import { median, OVER_SOCKET, percentile } from '../support/interleave.ts';
import { residentBytes } from '../support/memory-track.ts';
import { BINDING, MIB } from '../support/scenarios.ts';
import { type Bar, figure, type Measured } from './bar.ts';

const WARM_CALLS = 5_000;
const CALLS_A_TURN = 400;
const TURNS = 10;

/** Microseconds of each of `count` calls. */
function blocking(client: DekdSyncClient, data: Uint8Array, count: number, samples: number[]): void {
  for (let i = 0; i < count; i++) {
    const begun = performance.now();
    client.encrypt(data, BINDING);
    samples.push((performance.now() - begun) * 1_000);
  }
}

async function awaited(client: DekdClient, data: Uint8Array, count: number, samples: number[]): Promise<void> {
  for (let i = 0; i < count; i++) {
    const begun = performance.now();
    await client.encrypt(data, BINDING);
    samples.push((performance.now() - begun) * 1_000);
  }
}

async function roundTrips(): Promise<Measured> {
  const agent = await AgentProcess.start();
  const asynchronous = connect({ socket: agent.socket, lane: false });
  const data = randomBytes(64);
  await awaited(asynchronous, data, WARM_CALLS, []);
  const without = residentBytes(process.pid);
  const synchronous = connectSync({ socket: agent.socket });
  try {
    blocking(synchronous, data, WARM_CALLS, []);
    const memory = residentBytes(process.pid) - without;
    const rounds: { subject: number; baseline: number }[] = [];
    for (let round = 0; round < OVER_SOCKET.rounds; round++) {
      const subject: number[] = [];
      const baseline: number[] = [];
      for (let turn = 0; turn < TURNS; turn++) {
        blocking(synchronous, data, CALLS_A_TURN, subject);
        await awaited(asynchronous, data, CALLS_A_TURN, baseline);
      }
      rounds.push({ subject: percentile(subject, 0.5), baseline: percentile(baseline, 0.5) });
    }
    const subject = median(rounds.map((round) => round.subject));
    const baseline = median(rounds.map((round) => round.baseline));
    return {
      ratio: median(rounds.map((round) => round.subject / round.baseline)),
      detail: `p50 ${figure(subject)} µs against ${figure(baseline)} µs; its thread has ${figure(memory / MIB)} MiB`,
    };
  } finally {
    synchronous.close();
    await asynchronous.close();
    await agent.stop();
  }
}

/** Milliseconds until a test has an agent that answers. */
async function testAgentStart(): Promise<Measured> {
  // As applications have it, from dist/.
  const { createTestAgent } = (await import(
    new URL('../../dist/testkit/index.js', import.meta.url).href
  )) as typeof import('../../src/testkit/index.ts');
  const taken: number[] = [];
  for (let i = 0; i < 7; i++) {
    const begun = performance.now();
    const agent = await createTestAgent();
    taken.push(performance.now() - begun);
    await agent.close();
  }
  return { ratio: median(taken), detail: taken.map((ms) => figure(ms)).join(', ') };
}

export const applicationBars: readonly Bar[] = [
  { name: 'one 64 B encrypt of connectSync, p50 against an awaited one', atMost: 1.5, measure: roundTrips },
  { name: 'createTestAgent, ms', atMost: 200, measure: testAgentStart },
];
