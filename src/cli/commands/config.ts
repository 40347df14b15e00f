import { type KeyWay, wayOf } from '../../agent/key-way.ts';
import { loadConfig } from '../../config/load.ts';
import { renderSample } from '../../config/sample.ts';
import { type CommandLine, printResult, table, warn } from '../terminal.ts';

/** Exit code 1 with every problem at once. */
export async function check(line: CommandLine, file: string | undefined): Promise<void> {
  const loaded = loadConfig({ file });
  const name = loaded.file ?? 'no file';
  if (!line.json) {
    for (const text of loaded.warnings) {
      warn(`warning: ${text}`);
    }
  }
  printResult(line, { ok: true, file: loaded.file, warnings: loaded.warnings }, `${name}: ok`);
}

export async function sample(line: CommandLine): Promise<void> {
  const text = renderSample();
  printResult(line, { sample: text }, text.trimEnd());
}

/** The way of one key through the configuration, without asking an agent. */
export async function explain(
  line: CommandLine,
  options: Record<string, unknown>,
  key: string,
  partition: string,
): Promise<void> {
  const { config } = loadConfig({ file: options.config as string | undefined });
  const way = wayOf(config, key, partition);
  printResult(line, way, told(way));
}

function told({ key, partition, entry, definition, directRoot, steps }: KeyWay): string {
  const { keyContext, requiredContext, rotation } = definition;
  const limits = Object.entries(rotation).filter(([, limit]) => limit !== undefined && limit !== Infinity);
  const lines = [
    `key ${key}${partition === '' ? '' : ` of partition ${partition}`}: ${entry === undefined ? 'the common settings hold' : `keys[${entry}] holds`}`,
    `  key context       ${Object.keys(keyContext).length === 0 ? '-' : JSON.stringify(keyContext)}`,
    `  required context  ${requiredContext.join(', ') || '-'}`,
    `  rotation          ${limits.map(([name, limit]) => `${name} ${spelled(name, limit)}`).join(', ') || '-'}`,
  ];
  if (directRoot !== undefined) {
    lines.push(`  direct            each value is encrypted by root ${directRoot}; there is no data key`);
    return lines.join('\n');
  }
  const rows = steps.map((step) => [
    `L${step.level}`,
    step.name,
    step.partition || '-',
    step.root === undefined ? 'the key above' : `root ${step.root}`,
    [step.keystore, ...step.formerKeystores.map((name) => `(${name})`)].join(' '),
    step.route === undefined ? '-' : `routes[${step.route}]`,
  ]);
  return `${lines.join('\n')}\n\n${table([['LEVEL', 'NAME', 'PARTITION', 'UNDER', 'KEYSTORE', 'ROUTE'], ...rows])}`;
}

const DURATIONS = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1_000, ms: 1 };
const SIZES = { PiB: 2 ** 50, TiB: 2 ** 40, GiB: 2 ** 30, MiB: 2 ** 20, KiB: 2 ** 10, B: 1 };

/** A limit as a configuration would say it. */
function spelled(name: string, limit: number | string): string {
  const units = name === 'age' || name === 'grace' ? DURATIONS : name === 'bytes' ? SIZES : undefined;
  const unit = Object.entries(units ?? {}).find(([, size]) => Number(limit) % size === 0);
  return unit === undefined ? String(limit) : `${Number(limit) / unit[1]}${unit[0]}`;
}
