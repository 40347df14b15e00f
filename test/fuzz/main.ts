/**
 * `npm run test:fuzz`: every reader of hostile bytes under a fuzzer, the C++ ones under libFuzzer with the address and
 * undefined behaviour sanitizers, the TypeScript ones under a fuzzer of our own (`run-target.ts`).
 *
 *   --seconds N   for each target, 600 unless given
 *   --target T    only this one, as often as wanted
 *   --seed N      of the TypeScript targets
 *   --keep        what reached something new joins test/fault/corpus, as few files as reach all of it
 *
 * Prints a line of JSON a target: executions, what of the source was reached, findings. A finding is written to
 * build/fuzz/finding-TARGET and read first by the next run. Exit code 1 when there is one, or when a planted bug is not
 * found in ten seconds.
 */

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { NATIVE_TARGETS, type NativeTarget, prepareNative, runNative } from './native-targets.ts';
import { reduced, runTarget } from './run-target.ts';
import type { FuzzTarget } from './target.ts';
import { PLANTED, TARGETS } from './targets.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const CORPUS = join(ROOT, 'test/fault/corpus');
const WORK = join(ROOT, 'build/fuzz');
const PLANTED_SECONDS = 10;

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '600' },
    target: { type: 'string', multiple: true },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    keep: { type: 'boolean', default: false },
  },
});
const seconds = Number(values.seconds);
const all = [...NATIVE_TARGETS.map(({ name }) => name), ...TARGETS.map(({ name }) => name)];
const wanted = values.target ?? all;
const unknown = wanted.find((name) => !all.includes(name));
if (unknown !== undefined || !(seconds > 0)) {
  console.error(unknown === undefined ? '--seconds is a number over 0' : `no target ${unknown}: ${all.join(', ')}`);
  process.exit(2);
}
mkdirSync(WORK, { recursive: true });
let failed = false;
for (const target of TARGETS.filter(({ name }) => wanted.includes(name))) {
  const { line, found } = fuzz(target);
  console.log(JSON.stringify(line));
  failed ||= line.finding !== undefined;
  if (values.keep && line.finding === undefined) {
    keep(target.name, reduced(target, [...read(join(CORPUS, target.name)), ...found]));
  }
}
const planted = runTarget(PLANTED, { seed: Number(values.seed), inputs: 1e9, seconds: PLANTED_SECONDS, guided: false });
console.log(
  JSON.stringify({ target: 'planted', executions: planted.executions, caught: planted.finding !== undefined }),
);
failed ||= planted.finding === undefined;

const native = NATIVE_TARGETS.filter(({ name }) => wanted.includes(name));
if (native.length > 0) {
  await prepareNative(WORK);
  for (const target of native) {
    // Some names are those of TypeScript targets, too.
    const saved = join(CORPUS, `native-${target.name}`);
    const line = runNative(target, { work: WORK, saved, seconds, keep: values.keep });
    console.log(JSON.stringify(line));
    failed ||= line.finding !== undefined;
  }
  const bug: NativeTarget = { name: 'planted', covers: [] };
  const line = runNative(bug, {
    work: WORK,
    saved: join(CORPUS, 'native-planted'),
    seconds: PLANTED_SECONDS,
    keep: false,
  });
  console.log(
    JSON.stringify({ target: 'planted C++', executions: line.executions, caught: line.finding !== undefined }),
  );
  failed ||= line.finding === undefined;
}
process.exitCode = failed ? 1 : 0;

function fuzz(target: FuzzTarget) {
  const finding = join(WORK, `finding-${target.name}`);
  const corpus = [...read(join(CORPUS, target.name)), ...(existsSync(finding) ? [readFileSync(finding)] : [])];
  const run = { seed: Number(values.seed), inputs: Number.POSITIVE_INFINITY, seconds, corpus, guided: true };
  const result = runTarget(target, run);
  if (result.finding !== undefined) {
    writeFileSync(finding, result.finding.bytes);
  }
  const lines = result.reach.reduce((sum, file) => sum + file.lines, 0);
  const reached = result.reach.reduce((sum, file) => sum + file.run, 0);
  const line = {
    target: target.name,
    seed: run.seed,
    seconds,
    executions: result.executions,
    linesReached: `${((100 * reached) / lines).toFixed(1)} %`,
    missed: Object.fromEntries(result.reach.map(({ file, missed }) => [file, missed.join(' ')])),
    finding: result.finding?.message,
  };
  return { line, found: result.found };
}

function read(folder: string): Uint8Array[] {
  return existsSync(folder) ? readdirSync(folder).map((name) => readFileSync(join(folder, name))) : [];
}

function keep(name: string, inputs: readonly Uint8Array[]): void {
  const folder = join(CORPUS, name);
  mkdirSync(folder, { recursive: true });
  for (const bytes of inputs) {
    writeFileSync(join(folder, createHash('sha256').update(bytes).digest('hex').slice(0, 16)), bytes);
  }
}
