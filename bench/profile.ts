/**
 * Where the time of one kind of call goes, in the client and in the agent.
 *
 *   node bench/profile.ts SCENARIO
 */
import { globSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MIB, SCENARIOS, type ScenarioName } from './support/scenarios.ts';
import { table } from './support/table.ts';

interface Profile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

const SHOWN = 25;
const WORK_MS = 6_000;

/** Beside calls: messages of 64 MiB, made by one stream, and made and opened again by two. */
const STREAMS = { stream: false, 'stream-both': true } as const;

const scenario = process.argv[2] as ScenarioName | keyof typeof STREAMS;
if (!Object.hasOwn(SCENARIOS, scenario) && !Object.hasOwn(STREAMS, scenario)) {
  const names = [...Object.keys(SCENARIOS), ...Object.keys(STREAMS)];
  process.stderr.write(`usage: node bench/profile.ts SCENARIO, one of ${names.join(', ')}\n`);
  process.exit(2);
}
const folder = fileURLToPath(new URL(`out/profiles/${scenario}`, import.meta.url));
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
process.env.DEKD_BENCH_PROFILE = folder;

// After the variable is set: children are given their flags by it.
const { AgentProcess, ensureDist } = await import('./support/agent-process.ts');
const { Clients } = await import('./support/clients.ts');
const { StreamClients } = await import('./support/stream-clients.ts');
ensureDist();
const agent = await AgentProcess.start();
const { calls, stop } = await callers();
let count = 1;
let taken = await calls(count);
while (taken < WORK_MS / 4) {
  count *= 2;
  taken = await calls(count);
}
count = Math.round((count * WORK_MS) / taken);
taken = await calls(count);
await stop();
await agent.stop();
process.stdout.write(`${scenario}: ${Math.round((count * 1_000) / taken)} calls/s while profiled\n`);
for (const file of globSync('*.cpuprofile', { cwd: folder }).sort()) {
  summarise(basename(file, '.cpuprofile'), JSON.parse(readFileSync(join(folder, file), 'utf8')) as Profile);
}

interface Callers {
  /** @returns the milliseconds that so many calls, or streams one after the other, took */
  calls(count: number): Promise<number>;
  stop(): Promise<void>;
}

async function callers(): Promise<Callers> {
  if (scenario in SCENARIOS) {
    const clients = await Clients.start(agent.socket, scenario as ScenarioName, 1);
    return { calls: (count) => clients.calls(count), stop: () => clients.stop() };
  }
  const clients = await StreamClients.start(agent.socket);
  const both = STREAMS[scenario as keyof typeof STREAMS];
  return {
    calls: (count) => clients.pass({ streams: 1, bytes: count * 64 * MIB, both }),
    stop: () => clients.stop(),
  };
}

/** Prints the functions by the time spent in themselves, idle time left out. */
function summarise(name: string, { nodes, samples, timeDeltas }: Profile): void {
  const places = new Map(nodes.map(({ id, callFrame }) => [id, placeOf(callFrame)]));
  const self = new Map<string, number>();
  let busy = 0;
  let all = 0;
  for (const [i, sample] of samples.entries()) {
    const place = places.get(sample)!;
    const taken = timeDeltas[i] ?? 0;
    all += taken;
    if (place !== '(idle)') {
      busy += taken;
      self.set(place, (self.get(place) ?? 0) + taken);
    }
  }
  const rows = [...self]
    .sort((a, b) => b[1] - a[1])
    .slice(0, SHOWN)
    .map(([place, taken]) => [`${((100 * taken) / busy).toFixed(1)} %`, place]);
  const share = ((100 * busy) / all).toFixed(0);
  process.stdout.write(`\n${name}: busy ${share} % of ${(all / 1e6).toFixed(1)} s\n${table(['', ''], rows, [0])}\n`);
}

function placeOf({ functionName, url, lineNumber }: Profile['nodes'][number]['callFrame']): string {
  const name = functionName === '' ? '(anonymous)' : functionName;
  return url === ''
    ? name
    : `${name}  ${url.replace(/^.*\/(?=(?:src|dist|bench|node_modules)\/)/, '')}:${lineNumber + 1}`;
}
