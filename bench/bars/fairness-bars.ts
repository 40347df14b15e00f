/** Bars of fairness: what a batch of a million values leaves to fifty small clients of the same agent. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AgentProcess } from '../support/agent-process.ts';
import { Clients } from '../support/clients.ts';
import { median } from '../support/interleave.ts';
import { type SmallCalls, SmallClients } from '../support/small-clients.ts';
import { type Bar, figure } from './bar.ts';

const SMALL_CLIENTS = 50;
const ROUNDS = 5;
const WARM_MS = 1_000;
/** Of the small clients by themselves; beside a batch they go on until it has ended. */
const IDLE_MS = 2_000;
/** Shorter than the batch: a stretch that lasts longer would count calls with nothing beside them. */
const BESIDE_MS = 1_000;
const LOOP_DELAY = fileURLToPath(new URL('../support/loop-delay.ts', import.meta.url));

interface Fairness {
  readonly rounds: readonly { readonly idle: SmallCalls; readonly beside: SmallCalls; readonly batchMs: number }[];
  /** Milliseconds that the agent's event loop was held up, over all rounds. */
  readonly delay: { readonly most: number; readonly p99: number };
}

let measured: Promise<Fairness> | undefined;

/** One run for all bars of this file. */
function fairness(): Promise<Fairness> {
  measured ??= measure();
  return measured;
}

async function measure(): Promise<Fairness> {
  const folder = mkdtempSync(join(tmpdir(), 'dekd-bench-loop-'));
  const file = join(folder, 'delay.json');
  const agent = await AgentProcess.start({ flags: ['--import', LOOP_DELAY], env: { DEKD_BENCH_LOOP: file } });
  const batch = await Clients.start(agent.socket, 'million', 1);
  const small = await SmallClients.start(agent.socket, SMALL_CLIENTS);
  const rounds: Fairness['rounds'][number][] = [];
  try {
    await small.callFor(WARM_MS);
    process.kill(agent.child.pid, 'SIGUSR2');
    for (let round = 0; round < ROUNDS; round++) {
      const idle = await small.callFor(IDLE_MS);
      const running = batch.calls(1);
      const beside = await small.callFor(BESIDE_MS);
      rounds.push({ idle, beside, batchMs: await running });
    }
  } finally {
    await batch.stop();
    await small.stop();
    await agent.stop();
  }
  const delay = JSON.parse(readFileSync(file, 'utf8')) as Fairness['delay'];
  rmSync(folder, { recursive: true, force: true });
  return { rounds, delay };
}

export const fairnessBars: readonly Bar[] = [
  {
    name: 'event loop of the agent held up by a batch of a million, ms',
    atMost: 50,
    async measure() {
      const { delay, rounds } = await fairness();
      const seconds = median(rounds.map(({ batchMs }) => batchMs)) / 1_000;
      return { ratio: delay.most, detail: `p99 ${figure(delay.p99)} ms; the batch took ${figure(seconds)} s` };
    },
  },
  {
    name: 'p99 of 50 small clients beside a batch of a million, against by themselves',
    atMost: 5,
    async measure() {
      const { rounds } = await fairness();
      const p99 = (pick: 'idle' | 'beside') => median(rounds.map((round) => round[pick].p99));
      return {
        ratio: median(rounds.map(({ idle, beside }) => beside.p99 / idle.p99)),
        detail: `${figure(p99('beside'))} µs against ${figure(p99('idle'))} µs`,
      };
    },
  },
  {
    name: 'calls of 50 small clients that failed beside a batch of a million',
    atMost: 0,
    async measure() {
      const { rounds } = await fairness();
      const all = rounds.flatMap(({ idle, beside }) => [idle, beside]);
      const calls = all.reduce((sum, each) => sum + each.calls, 0);
      const failed = all.reduce((sum, each) => sum + each.failed, 0);
      const reason = all.find((each) => each.reason !== undefined)?.reason;
      return { ratio: failed, detail: `of ${figure(calls)}${reason === undefined ? '' : `: ${reason}`}` };
    },
  },
];
