/**
 * Measures chapter after chapter and writes bench/report.md, with its charts in bench/report/.
 *
 *   npm run bench:report [-- [FILTER…] [--quick]]
 *
 * With filters, only chapters with one of them in their name are measured; the others stay as they were last measured here.
 */
import { existsSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chapters as bytes } from './chapters/bytes.ts';
import { chapters as engines } from './chapters/engines.ts';
import { chapters as memory } from './chapters/memory.ts';
import { chapters as scaling } from './chapters/scaling.ts';
import { chapters as socket } from './chapters/socket.ts';
import { ensureDist } from './support/agent-process.ts';
import { machine, machineLine } from './support/machine.ts';
import { type Measured, reportDocument } from './support/report-document.ts';
import { NORMAL, QUICK } from './support/run-group.ts';
import { missingTools } from './support/tools.ts';

const FOLDER = fileURLToPath(new URL('.', import.meta.url));
const CHARTS = 'report';
/** What was measured last, chapter by chapter. */
const STORE = join(FOLDER, 'out', 'report.json');

const args = process.argv.slice(2);
const isQuick = args.includes('--quick');
const filters = args.filter((argument) => !argument.startsWith('--'));
const chapters = [...engines, ...socket, ...bytes, ...scaling, ...memory];
const chosen = chapters.filter(({ name }) => filters.length === 0 || filters.some((filter) => name.includes(filter)));
if (chosen.length === 0) {
  process.stderr.write(`no chapter has such a name; there are ${chapters.map(({ name }) => name).join(', ')}\n`);
  process.exit(2);
}
for (const notice of missingTools()) {
  process.stderr.write(`${notice}\n`);
}
ensureDist();
const { load, cores } = machine();
const isBusy = load > cores / 2;
const known = new Map<string, Measured>(filters.length === 0 ? [] : stored());
const begun = performance.now();
for (const { name, title, measure } of chosen) {
  process.stderr.write(`${title} …\n`);
  const findings = await measure(isQuick ? QUICK : NORMAL);
  known.set(name, { name, title, machine: machineLine(), isQuick, isBusy, findings });
}
const measured = chapters.flatMap(({ name }) => known.get(name) ?? []);
mkdirSync(dirname(STORE), { recursive: true });
writeFileSync(STORE, `${JSON.stringify(measured)}\n`);
write(measured);
process.stdout.write(
  `${join(FOLDER, 'report.md')} and its charts, in ${Math.round((performance.now() - begun) / 1_000)} s\n`,
);

function stored(): [string, Measured][] {
  const measured = existsSync(STORE) ? (JSON.parse(readFileSync(STORE, 'utf8')) as Measured[]) : [];
  return measured.map((each) => [each.name, each]);
}

/** Writes the report and exactly the charts that it shows. */
function write(measured: readonly Measured[]): void {
  const folder = join(FOLDER, CHARTS);
  mkdirSync(folder, { recursive: true });
  for (const chart of globSync('*.svg', { cwd: folder })) {
    rmSync(join(folder, chart));
  }
  for (const { name, findings } of measured) {
    for (const chart of findings.charts) {
      writeFileSync(join(folder, `${name}-${chart.name}.svg`), chart.svg);
    }
  }
  writeFileSync(join(FOLDER, 'report.md'), reportDocument(measured, CHARTS));
}
