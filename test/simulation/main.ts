/**
 * Runs worlds: `npm run test:simulation -- --seed 17` one, `--seeds 10000` many from 1 on, or those from `--from`.
 * DEKD_SIM_SEED and DEKD_SIM_SEEDS say the same. Exits with 1 at the first world that something is wrong with, and says
 * which it is and how to see it again.
 */
import { parseArgs } from 'node:util';
import { takeOverBuiltins } from './builtins.ts';
import { plantDefect } from './defects.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string' },
    from: { type: 'string' },
    minutes: { type: 'string' },
    defect: { type: 'string' },
    trace: { type: 'boolean', default: false },
    'keep-going': { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});
const one = values.seed ?? process.env.DEKD_SIM_SEED;
const first = Number(one ?? values.from ?? 1);
const count = one === undefined ? Number(values.seeds ?? process.env.DEKD_SIM_SEEDS ?? 200) : 1;
const lengthMs = Number(values.minutes ?? process.env.DEKD_SIM_MINUTES ?? 10) * 60_000;

plantDefect(values.defect);
takeOverBuiltins();
// Read while Node is as it was: what a world loads late would come when it comes.
await import('../../src/envelope/mac.ts');
await import('../../src/client/claimed-mac.ts');
const { runWorld } = await import('./world.ts');

// Of the many errors that are only answers.
Error.stackTraceLimit = 4;
const begun = process.cpuUsage();
const failed: number[] = [];
const outcomes = new Map<string, number>();
let events = 0;
let tokens = 0;
let starts = 0;
for (let seed = first; seed < first + count; seed++) {
  const report = await runWorld({ seed, lengthMs, trace: values.trace });
  events += report.events;
  tokens += report.tokens;
  starts += report.starts;
  for (const [outcome, times] of report.outcomes) {
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + times);
  }
  if (values.trace) {
    console.log(report.trace.join('\n'));
  }
  if (count === 1) {
    console.log(`digest ${report.digest}`);
  }
  if (report.problems.length > 0) {
    failed.push(seed);
    const defect = values.defect === undefined ? '' : ` --defect ${values.defect}`;
    console.error(`seed ${seed}: ${report.problems.length} problems\n  ${report.problems.slice(0, 10).join('\n  ')}`);
    console.error(`again, with all that happened: npm run test:simulation -- --seed ${seed} --trace${defect}`);
    if (!values['keep-going']) {
      break;
    }
  }
}
const used = process.cpuUsage(begun);
const seconds = (used.user + used.system) / 1e6;
const sum = Object.fromEntries([...outcomes].sort(([a], [b]) => (a < b ? -1 : 1)));
if (values.json) {
  console.log(JSON.stringify({ first, count, failed, seconds, events, tokens, starts, outcomes: sum }));
} else {
  console.log(
    `${count} worlds from seed ${first} in ${seconds.toFixed(1)} s of a processor: ${events} events, ${tokens} tokens, ${starts} starts of agents`,
  );
  console.log(failed.length === 0 ? 'nothing is wrong' : `wrong: ${failed.join(', ')}`);
}
process.exitCode = failed.length === 0 ? 0 : 1;
