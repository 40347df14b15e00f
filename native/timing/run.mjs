// Whether comparisons of secrets take a time that depends on them. Builds the measuring program with the core's own
// flags against the system's libcrypto, runs it, and then asks a whole agent the same over its socket, which is a report:
// what a client sees of a microsecond is the noise of a socket.
//
// `node native/timing/run.mjs [--samples N] [--end-to-end N] [--seed N]`; exit code 1 when a comparison shows itself, or
// when the planted one does not.

import { spawnSync } from 'node:child_process';
import { globSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { measureAgent } from './end-to-end.mjs';

const native = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const { values } = parseArgs({
  options: {
    samples: { type: 'string', default: '1000000' },
    'end-to-end': { type: 'string', default: '200000' },
    seed: { type: 'string', default: String(Date.now() % 1e9) },
  },
});

const folder = join(native, '..', 'build', 'timing');
mkdirSync(folder, { recursive: true });
const program = join(folder, 'timing');
const sources = readFileSync(join(native, 'sources.txt'), 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('core/'))
  .map((line) => join(native, line));
run(process.env.CXX ?? 'g++', [
  '-std=c++20',
  '-O3',
  ...['-Wall', '-Wextra', '-Wshadow', '-Werror'],
  ...sources,
  ...globSync(join(native, 'timing', '*.cc')),
  ...['-lcrypto', '-lpthread', '-o', program],
]);
const status = run(program, [values.samples, values.seed], true);
if (Number(values['end-to-end']) > 0) {
  console.log(JSON.stringify(await measureAgent(Number(values['end-to-end']))));
}
process.exitCode = status;

/** @returns the exit code. @throws when it is not 0 and nobody wants it */
function run(command, args, wanted = false) {
  const { status, error } = spawnSync(command, args, { stdio: 'inherit' });
  if (error !== undefined || (status !== 0 && !wanted)) {
    throw error ?? new Error(`${command}: exit code ${status}`);
  }
  return status;
}
