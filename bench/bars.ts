/**
 * Measures the bars for speed and says which hold.
 *
 *   npm run bench:bars [-- [FILTER] [--json] [--strict]]
 */
import { applicationBars } from './bars/application-bars.ts';
import { auditBars } from './bars/audit-bars.ts';
import { type BarResult, figure, holds } from './bars/bar.ts';
import { engineBars } from './bars/engine-bars.ts';
import { fairnessBars } from './bars/fairness-bars.ts';
import { fieldsBars } from './bars/fields-bars.ts';
import { fileBars } from './bars/file-bars.ts';
import { laneBars } from './bars/lane-bars.ts';
import { memoryBars } from './bars/memory-bars.ts';
import { metricsBars } from './bars/metrics-bars.ts';
import { policyBars } from './bars/policy-bars.ts';
import { poolBars } from './bars/pool-bars.ts';
import { processBars } from './bars/process-bars.ts';
import { socketBars } from './bars/socket-bars.ts';
import { ensureDist } from './support/agent-process.ts';
import { machineLine } from './support/machine.ts';
import { table } from './support/table.ts';

const args = process.argv.slice(2);
const json = args.includes('--json');
const strict = args.includes('--strict');
const filter = args.find((argument) => !argument.startsWith('--')) ?? '';

ensureDist();
const all = [
  ...engineBars,
  ...policyBars,
  ...poolBars,
  ...socketBars,
  ...auditBars,
  ...fieldsBars,
  ...applicationBars,
  ...laneBars,
  ...processBars,
  ...fairnessBars,
  ...memoryBars,
  ...metricsBars,
  ...fileBars,
];
const bars = all.filter(({ name }) => name.includes(filter));
const results: BarResult[] = [];
const rows: string[][] = [];
for (const bar of bars) {
  process.stderr.write(`${bar.name} …\n`);
  const limit = bar.atLeast ?? bar.atMost!;
  const wanted = `${bar.atLeast === undefined ? '≤' : '≥'} ${limit}`;
  try {
    const { ratio, detail } = await bar.measure();
    const held = holds(bar, ratio);
    results.push({ name: bar.name, ratio, bar: limit, holds: held });
    rows.push([bar.name, figure(ratio), wanted, held ? 'holds' : 'does not hold', detail]);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    process.stderr.write(`${reason}\n`);
    results.push({ name: bar.name, ratio: null, bar: limit, holds: false });
    rows.push([bar.name, '', wanted, 'not measured', reason.split('\n', 1)[0]!]);
  }
}
if (json) {
  process.stdout.write(`${JSON.stringify(results, null, 2)}\n`);
} else {
  process.stdout.write(`${machineLine()}\n\n${table(['bar', 'measured', 'wanted', '', ''], rows)}\n`);
}
process.exitCode = strict && results.some((result) => !result.holds) ? 1 : 0;
