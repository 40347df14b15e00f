/** Resident memory of agent and clients over time, while one kind of work follows the other. */
import { setTimeout as sleep } from 'node:timers/promises';
import { figure } from '../bars/bar.ts';
import { AgentProcess } from '../support/agent-process.ts';
import { Clients } from '../support/clients.ts';
import { lineChart } from '../support/line-chart.ts';
import { MemoryTrack } from '../support/memory-track.ts';
import type { Pace } from '../support/run-group.ts';
import { MIB, type ScenarioName } from '../support/scenarios.ts';
import { StreamClients } from '../support/stream-clients.ts';
import type { Chapter, Findings } from './chapter.ts';

const SAYS = `One agent, looked at twenty times a second (VmRSS), while a client process of each kind has its turn. *Idle* is
without any client. The client of the streams holds both ends of each: it makes messages and has them opened again.`;

/** Calls between two looks at the clock. */
const CALLS: Partial<Record<ScenarioName, number>> = { 'in-flight': 8_192, batch: 64, 'mebibyte-in-flight': 64 };

interface Phase {
  readonly name: string;
  readonly from: number;
}

async function overTime({ turnMs }: Pace): Promise<Findings> {
  // Long enough to see whether memory comes back, and whether it goes on growing.
  const phaseMs = turnMs * 40;
  const agent = await AgentProcess.start();
  const streams = await StreamClients.start(agent.socket);
  const clients: { readonly name: string; readonly scenario: ScenarioName; readonly of: Clients }[] = [];
  for (const [name, scenario] of [
    ['64 B in flight', 'in-flight'],
    ['batches of 1,000', 'batch'],
    ['1 MiB in flight', 'mebibyte-in-flight'],
  ] as const) {
    clients.push({ name, scenario, of: await Clients.start(agent.socket, scenario, 1) });
  }
  const track = new MemoryTrack([agent.child.pid, streams.pid]);
  const phases: Phase[] = [];
  const phase = async (name: string, work: () => Promise<unknown>): Promise<void> => {
    process.stderr.write(`  memory: ${name} …\n`);
    phases.push({ name, from: track.seconds });
    await work();
  };
  const during = async (work: () => Promise<unknown>): Promise<void> => {
    const until = performance.now() + phaseMs;
    do {
      await work();
    } while (performance.now() < until);
  };
  try {
    await phase('idle', () => sleep(phaseMs));
    for (const { name, scenario, of } of clients) {
      await phase(name, () => during(() => of.calls(CALLS[scenario]!)));
    }
    await phase('one stream', () => during(() => streams.pass({ streams: 1, bytes: 64 * MIB, both: true })));
    await phase('100 streams', () => during(() => streams.pass({ streams: 50, bytes: 4 * MIB, both: true })));
    await phase('idle again', () => sleep(phaseMs));
    track.stop();
  } finally {
    await Promise.all([streams, ...clients.map(({ of }) => of)].map((each) => each.stop()));
    await agent.stop();
  }
  return findingsOf(track, phases);
}

function findingsOf(track: MemoryTrack, phases: readonly Phase[]): Findings {
  const series = ['agent', 'client of the streams'].map((name, i) => ({
    name,
    points: track.samples.map(({ at, resident }) => [at, resident[i]! / MIB] as const),
  }));
  const rows = phases.map(({ name, from }, i) => {
    const to = phases[i + 1]?.from ?? Number.POSITIVE_INFINITY;
    const cells = series.map(({ points }) => {
      const within = points.filter(([at]) => at >= from && at < to).map(([, resident]) => resident);
      return `${figure(Math.max(...within))} / ${figure(within.at(-1)!)}`;
    });
    return [name, ...cells];
  });
  const title = 'Resident memory, MiB';
  return {
    says: SAYS,
    tables: [{ title: 'MiB at most / at the end of the phase', heads: ['', ...series.map(({ name }) => name)], rows }],
    charts: [
      {
        name: 'resident',
        alt: `${title}, over time: ${phases.map(({ name }) => name).join(', ')}`,
        svg: lineChart({
          title,
          series,
          phases,
          x: { label: 'seconds', isLogarithmic: false, format: String },
          y: { label: 'MiB', isLogarithmic: false, format: String },
        }),
      },
    ],
  };
}

export const chapters: readonly Chapter[] = [{ name: 'memory', title: 'Memory over time', measure: overTime }];
