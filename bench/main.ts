/**
 * Measures everything side by side, prints a table and writes figures and a chart to bench/out/.
 *
 *   npm run bench [-- [FILTER] [--quick] [--json]]
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { groups as agent } from './agent.bench.ts';
import { figure } from './bars/bar.ts';
import { groups as clients } from './clients.bench.ts';
import { groups as engine } from './engine.bench.ts';
import { groups as file } from './file.bench.ts';
import { groups as frame } from './frame.bench.ts';
import { groups as hash } from './hash.bench.ts';
import { groups as stream } from './stream.bench.ts';
import { ensureDist } from './support/agent-process.ts';
import { chart } from './support/chart.ts';
import { machine, machineLine } from './support/machine.ts';
import { NORMAL, QUICK, type Row, runGroup } from './support/run-group.ts';
import { table } from './support/table.ts';
import { missingTools } from './support/tools.ts';
import { groups as workers } from './workers.bench.ts';

const MIB = 1024 * 1024;

const args = process.argv.slice(2);
const json = args.includes('--json');
const pace = args.includes('--quick') ? QUICK : NORMAL;
const filter = args.find((argument) => !argument.startsWith('--')) ?? '';

const chosen = [...engine, ...frame, ...agent, ...clients, ...stream, ...file, ...workers, ...hash].filter(({ name }) =>
  name.includes(filter),
);
if (chosen.length === 0) {
  process.stderr.write(`nothing has a name with "${filter}" in it\n`);
  process.exit(2);
}
ensureDist();
const rows: Row[] = [];
for (const notice of missingTools()) {
  process.stderr.write(`${notice}\n`);
}
if (!json) {
  process.stdout.write(`${machineLine()}\n`);
}
for (const group of chosen) {
  const measured = await runGroup(group, pace);
  rows.push(...measured);
  if (!json) {
    process.stdout.write(`\n${group.name}\n${tableOf(measured)}\n`);
  }
}

const folder = fileURLToPath(new URL('out', import.meta.url));
mkdirSync(folder, { recursive: true });
const document = { machine: machine(), pace, rows };
writeFileSync(`${folder}/bench.json`, `${JSON.stringify(document, null, 2)}\n`);
writeFileSync(`${folder}/bench.svg`, chart(`Rate by the baseline's. ${machineLine()}`, rows));
process.stdout.write(
  json ? `${JSON.stringify(document, null, 2)}\n` : `\nfigures and chart: ${folder}/bench.json, bench.svg\n`,
);

function tableOf(measured: readonly Row[]): string {
  const heads = ['', 'values/s', 'MiB/s', 'p50 µs', 'p99 µs', 'p99.9 µs', 'to baseline'];
  const cells = measured.map((row) => [
    `  ${row.name}`,
    figure(row.rate),
    figure(row.bytesPerSecond / MIB),
    micro(row.p50),
    micro(row.p99),
    micro(row.p999),
    row.isBaseline ? 'baseline' : `${figure(row.ratio)} ×`,
  ]);
  return table(heads, cells, [1, 2, 3, 4, 5, 6]);
}

function micro(value: number | undefined): string {
  return value === undefined ? '' : figure(value);
}
