// Builds the core's tests with g++ against the system's libcrypto and runs them three ways: plain (with the memory
// scans, which sanitizers make impossible), with the address and undefined behaviour sanitizers, and with the thread
// sanitizer. Arguments choose among plain, address, thread. Ends with "N passed, N failed" over all of them.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, globSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const native = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const compiler = process.env.CXX ?? 'g++';
const flags = ['-std=c++20', '-g', '-O1', '-fno-omit-frame-pointer', '-Wall', '-Wextra', '-Wshadow', '-Werror'];

/** Flags and environment of each way; the core's own flags in a build are -O3. */
const WAYS = {
  plain: { flags: ['-O3'], env: {} },
  address: {
    flags: ['-fsanitize=address,undefined', '-fno-sanitize-recover=all'],
    env: { ASAN_OPTIONS: 'detect_leaks=1:abort_on_error=0', UBSAN_OPTIONS: 'print_stacktrace=1' },
  },
  thread: { flags: ['-fsanitize=thread'], env: { TSAN_OPTIONS: 'halt_on_error=1' } },
};

function newest(files) {
  return Math.max(...files.map((file) => statSync(file).mtimeMs));
}

/** Runs the commands, as many at a time as there are processors. @throws when one fails, with its output. */
async function runAll(commands) {
  const queue = [...commands];
  const worker = async () => {
    for (let command = queue.shift(); command !== undefined; command = queue.shift()) {
      await run(command);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
}

function run([command, ...args]) {
  return new Promise((done, failed) => {
    const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'] });
    child.on('error', failed);
    child.on('exit', (code) =>
      code === 0 ? done() : failed(new Error(`${command} ${args.at(-1)}: exit code ${code}`)),
    );
  });
}

/** @returns the path of the test program built this way. */
async function build(way) {
  const directory = join(native, '..', 'build', 'core-test', way);
  mkdirSync(directory, { recursive: true });
  const core = readFileSync(join(native, 'sources.txt'), 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('core/'))
    .map((line) => join(native, line));
  const sources = [...core, ...globSync(join(native, 'test', '{main,*_test}.cc'))];
  const headers = newest([...globSync(join(native, '{core,test}', '*.h')), fileURLToPath(import.meta.url)]);
  const objects = sources.map((source) => [source, join(directory, `${basename(source)}.o`)]);
  const stale = objects.filter(
    ([source, object]) => !existsSync(object) || statSync(object).mtimeMs < Math.max(headers, statSync(source).mtimeMs),
  );
  await runAll(stale.map(([source, object]) => [compiler, ...flags, ...WAYS[way].flags, '-c', source, '-o', object]));
  const program = join(directory, 'core_test');
  await run([
    compiler,
    ...WAYS[way].flags,
    ...objects.map(([, object]) => object),
    '-lcrypto',
    '-lpthread',
    '-o',
    program,
  ]);
  return program;
}

/** Addresses are left unrandomised for the thread sanitizer: with the kernel's widest setting its shadow has no place. */
function launch(way, program) {
  const command = way === 'thread' ? ['setarch', ['-R', program]] : [program, []];
  return spawnSync(command[0], command[1], { encoding: 'utf8', env: { ...process.env, ...WAYS[way].env } });
}

const chosen = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(WAYS);
const unknown = chosen.find((way) => !(way in WAYS));
if (unknown !== undefined) {
  console.error(`there is no way ${unknown}; choose among ${Object.keys(WAYS).join(', ')}`);
  process.exit(2);
}
let passed = 0;
let failed = 0;
for (const way of chosen) {
  try {
    const result = launch(way, await build(way));
    const counts = /(\d+) passed, (\d+) failed/.exec(result.stdout ?? '');
    process.stdout.write(`[${way}] ${result.stdout}`);
    process.stderr.write(result.stderr ?? '');
    passed += Number(counts?.[1] ?? 0);
    failed += Number(counts?.[2] ?? 0);
    if (counts === null || (result.status !== 0 && Number(counts[2]) === 0)) {
      console.error(`[${way}] ended with ${result.signal ?? `exit code ${result.status}`}`);
      failed++;
    }
  } catch (error) {
    console.error(`[${way}] ${error.message}`);
    failed++;
  }
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
