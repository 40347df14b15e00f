import { randomBytes } from 'node:crypto';
import { availableParallelism, cpus } from 'node:os';
import type { PingReply } from '../../client/types.ts';
import type { Engine } from '../../crypto/engine.ts';
import { loadEngine } from '../../crypto/load.ts';
import { clientWays, engineWay, inProcessWay } from '../bench/dekd-ways.ts';
import type { Effort } from '../bench/interleave.ts';
import { type Figures, measure, NORMAL, QUICK } from '../bench/measure.ts';
import { OwnModule } from '../bench/own-module.ts';
import type { Way } from '../bench/way.ts';
import { usageError } from '../exit.ts';
import { openPrivateStage, openStage, type Stage } from '../private-agent.ts';
import { byteSize, type CommandLine, count, printResult, table, warn } from '../terminal.ts';

const MIB = 1024 * 1024;

export interface BenchOptions {
  readonly against?: string;
  readonly key: string;
  /** Bytes of plaintext, as `--sizes` was read. */
  readonly sizes: readonly number[];
  readonly private?: boolean;
  readonly quick?: boolean;
}

/** Measures on this machine what an application would get, beside what it has without dekd. */
export async function bench(line: CommandLine, given: Record<string, unknown>): Promise<void> {
  const options = given as unknown as BenchOptions;
  const own = options.against === undefined ? undefined : await OwnModule.load(options.against);
  await using stage =
    options.private === true
      ? await openPrivateStage(line)
      : await openStage(line, 'no agent is running; measuring with a private one');
  const { maxPayload } = stage.limits;
  const tooLarge = options.sizes.find((size) => size > maxPayload);
  if (tooLarge !== undefined) {
    throw usageError(
      `a value of ${tooLarge} bytes is over this agent's limit of ${maxPayload}`,
      'name smaller --sizes',
    );
  }
  const agent = await stage.client.ping();
  const engine = await sameEngine(agent);
  if (!line.json) {
    process.stdout.write(`${heading(agent, stage)}\n`);
  }
  let figures: Figures[];
  try {
    await own?.setup();
    figures = await measureAll(stage, options, engine, own);
  } catch (error) {
    // What went wrong first is what is told.
    await own?.teardown().catch(() => {});
    throw error;
  } finally {
    engine?.close();
  }
  await own?.teardown();
  printResult(
    line,
    { agent, private: stage.isPrivate, machine: machine(), effort: effortOf(options), figures },
    READING,
  );
}

function effortOf({ quick }: BenchOptions): Effort {
  return quick === true ? QUICK : NORMAL;
}

/** Measures size after size, and prints the table of each as soon as there is one. */
async function measureAll(
  { client, line }: Stage,
  options: BenchOptions,
  engine: Engine | undefined,
  own: OwnModule | undefined,
): Promise<Figures[]> {
  const figures: Figures[] = [];
  for (const size of options.sizes) {
    const data = randomBytes(size);
    const ways: Way[] = [
      inProcessWay(data),
      ...(engine === undefined ? [] : [engineWay(engine, data)]),
      ...(await clientWays(client, options.key, data)),
      ...((await own?.waysFor(size, data)) ?? []),
    ];
    const measured = await measure(size, ways, effortOf(options));
    figures.push(...measured);
    if (!line.json) {
      process.stdout.write(`\n${shown(size, measured, own)}\n`);
    }
  }
  return figures;
}

const READING = `
Values a second by those of node:crypto (AES-256-GCM, a KeyObject, as many authenticated bytes): the median of ratios of
rounds in which all took turns. Ratios hold; absolute figures are of this run and its load. p50 and p99: one call at a time.`;

/** The engine of the agent, in this process; undefined where it does not load here. */
async function sameEngine({ engine: name }: PingReply): Promise<Engine | undefined> {
  try {
    const known = name as 'native' | 'node' | 'noble';
    return (await loadEngine({ engine: known, minimumLockLevel: 'heap', snapshotSafe: false })).engine;
  } catch (error) {
    warn(`the engine alone is left out: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}

function machine(): Record<string, unknown> {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    node: process.version,
    openssl: process.versions.openssl,
  };
}

function heading({ agent, engine, lockLevel }: PingReply, { isPrivate, line }: Stage): string {
  const { cpu, cores, node, openssl } = machine();
  const where = isPrivate ? 'a private agent' : `the agent${line.socket === undefined ? '' : ` at ${line.socket}`}`;
  return `${agent}, ${where}: ${engine} engine, keys ${lockLevel}; ${cores} × ${cpu}, Node ${node}, OpenSSL ${openssl}`;
}

function shown(size: number, figures: readonly Figures[], own: OwnModule | undefined): string {
  const heads = [
    byteSize(size),
    'to node:crypto',
    ...(own === undefined ? [] : [`to the best of ${own.name}`]),
    'values/s',
    'MiB/s',
    'p50 µs',
    'p99 µs',
  ];
  const rows = [
    heads,
    ...figures.map((row) => [
      `  ${row.name}`,
      times(row.ratio),
      ...(own === undefined ? [] : [times(row.ratioToOwn!)]),
      figure(row.valuesPerSecond),
      figure(row.bytesPerSecond / MIB),
      row.p50Micros === undefined ? '' : figure(row.p50Micros),
      row.p99Micros === undefined ? '' : figure(row.p99Micros),
    ]),
  ];
  const widths = heads.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  // Figures to the right, so that they can be read below each other.
  return table(rows.map((row) => row.map((cell, i) => (i === 0 ? cell : cell.padStart(widths[i]!)))));
}

function times(ratio: number): string {
  return `${figure(ratio)} ×`;
}

/** Three significant digits. */
function figure(value: number): string {
  return value >= 1_000 ? count(value) : String(Number(value.toPrecision(3)));
}
