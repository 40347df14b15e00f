import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, globSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join, resolve } from 'node:path';

const NATIVE = resolve(import.meta.dirname, '../../native');
const COMPILER = process.env.DEKD_FUZZ_CXX ?? 'clang++-14';
const VERSION = /-\d+$/.exec(COMPILER)?.[0] ?? '';
const FLAGS = [
  ...['-std=c++20', '-g', '-O1', '-Wall', '-Wextra', '-fno-omit-frame-pointer', '-fno-sanitize-recover=all'],
  ...['-fprofile-instr-generate', '-fcoverage-mapping'],
];
const MAX_LENGTH = 4_096;

/** A program of `native/fuzz/`, `NAME_fuzz.cc`, and the sources below `native/core/` whose lines it is to reach. */
export interface NativeTarget {
  readonly name: string;
  readonly covers: readonly string[];
}

export const NATIVE_TARGETS: readonly NativeTarget[] = [
  { name: 'token', covers: ['token.cc', 'mac_rows.cc'] },
  { name: 'message', covers: ['message.cc'] },
  { name: 'key_wrap', covers: ['key_wrap.cc', 'data_key.cc', 'root_key.cc', 'key_pipe.cc', 'legacy.cc'] },
  { name: 'lane_greeting', covers: ['lane_socket.cc', 'lane_region.cc'] },
];

export interface NativeRun {
  /** Where programs and corpora of this machine are. */
  readonly work: string;
  /** The corpus of the repository. */
  readonly saved: string;
  readonly seconds: number;
  readonly keep: boolean;
}

/** Builds all targets. On Debian, as root, it gets the compiler first. @throws when there is none */
export async function prepareNative(work: string): Promise<void> {
  if (spawnSync(COMPILER, ['--version']).status !== 0) {
    const packages = ['clang-14', 'libclang-rt-14-dev', 'llvm-14'];
    if (process.getuid?.() !== 0 || spawnSync('apt-get', ['--version']).status !== 0) {
      throw new Error(`the C++ targets need clang with libFuzzer: on Debian ${packages.join(' ')}, or DEKD_FUZZ_CXX`);
    }
    execFileSync('apt-get', ['install', '-y', '-qq', ...packages], { stdio: ['ignore', 'ignore', 'inherit'] });
  }
  const core = readFileSync(join(NATIVE, 'sources.txt'), 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('core/'))
    .map((line) => join(NATIVE, line));
  const headers = Math.max(...globSync(join(NATIVE, '{core,fuzz}/*.h')).map((file) => statSync(file).mtimeMs));
  const objects = core.map((source) => [source, join(work, `${basename(source)}.o`)] as const);
  const stale = objects.filter(
    ([source, object]) => !existsSync(object) || statSync(object).mtimeMs < Math.max(headers, statSync(source).mtimeMs),
  );
  await runAll(
    stale.map(([source, object]) => [
      ...FLAGS,
      '-fsanitize=fuzzer-no-link,address,undefined',
      '-c',
      source,
      '-o',
      object,
    ]),
  );
  const names = [...NATIVE_TARGETS.map(({ name }) => name), 'planted'];
  await runAll(
    names.map((name) => [
      ...[...FLAGS, '-fsanitize=fuzzer,address,undefined', join(NATIVE, 'fuzz', `${name}_fuzz.cc`)],
      ...[...objects.map(([, object]) => object), '-lcrypto', '-lpthread', '-o', join(work, name)],
    ]),
  );
}

/** Runs one target for its time, or until it finds something. */
export function runNative({ name, covers }: NativeTarget, { work, saved, seconds, keep }: NativeRun) {
  const program = join(work, name);
  const corpus = join(work, 'corpus', name);
  mkdirSync(corpus, { recursive: true });
  const seeds = existsSync(saved) ? [saved] : [];
  const run = spawnSync(
    program,
    [
      ...[`-max_total_time=${seconds}`, `-max_len=${MAX_LENGTH}`, '-print_final_stats=1', '-timeout=20'],
      ...[`-artifact_prefix=${join(work, `finding-${name}-`)}`, corpus, ...seeds],
    ],
    { encoding: 'utf8', env: { ...process.env, LLVM_PROFILE_FILE: '/dev/null' }, maxBuffer: 2 ** 28 },
  );
  const finding =
    run.status === 0
      ? undefined
      : (/^(?:broken promise|SUMMARY).*$/m.exec(run.stderr ?? '')?.[0] ?? `exit code ${run.status ?? run.signal}`);
  if (keep && finding === undefined) {
    mkdirSync(saved, { recursive: true });
    execFileSync(program, ['-merge=1', saved, corpus], {
      stdio: 'ignore',
      env: { ...process.env, LLVM_PROFILE_FILE: '/dev/null' },
    });
  }
  return {
    target: name,
    seconds,
    executions: Number(/number_of_executed_units: (\d+)/.exec(run.stderr ?? '')?.[1] ?? 0),
    linesReached: covers.length === 0 ? undefined : linesReached(program, [corpus, ...seeds], covers, work),
    finding,
  };
}

/** What the inputs of some folders reach of some sources, as llvm-cov counts it; undefined without llvm. */
function linesReached(program: string, folders: readonly string[], covers: readonly string[], work: string) {
  const raw = join(work, `${basename(program)}.profraw`);
  const merged = join(work, `${basename(program)}.profdata`);
  const ran = spawnSync(program, ['-runs=0', ...folders], {
    stdio: 'ignore',
    env: { ...process.env, LLVM_PROFILE_FILE: raw },
  });
  if (ran.status !== 0 || spawnSync(`llvm-profdata${VERSION}`, ['merge', raw, '-o', merged]).status !== 0) {
    return undefined;
  }
  const sources = covers.map((file) => join(NATIVE, 'core', file));
  const { stdout, status } = spawnSync(
    `llvm-cov${VERSION}`,
    ['export', '-summary-only', `-instr-profile=${merged}`, program, ...sources],
    { encoding: 'utf8', maxBuffer: 2 ** 28 },
  );
  if (status !== 0) {
    return undefined;
  }
  const { data } = JSON.parse(stdout) as {
    data: { files: { filename: string; summary: { lines: { count: number; covered: number } } }[] }[];
  };
  return Object.fromEntries(
    data[0]!.files.map(({ filename, summary: { lines } }) => [
      basename(filename),
      `${((100 * lines.covered) / lines.count).toFixed(1)} %`,
    ]),
  );
}

async function runAll(commands: readonly (readonly string[])[]): Promise<void> {
  const queue = [...commands];
  await Promise.all(
    Array.from({ length: availableParallelism() }, async () => {
      for (let command = queue.shift(); command !== undefined; command = queue.shift()) {
        await compile(command);
      }
    }),
  );
}

function compile(args: readonly string[]): Promise<void> {
  return new Promise((done, failed) => {
    const child = spawn(COMPILER, args, { stdio: ['ignore', 'inherit', 'inherit'] });
    child.once('error', failed);
    child.once('exit', (code) =>
      code === 0 ? done() : failed(new Error(`${COMPILER} ${args.at(-1)}: exit code ${code}`)),
    );
  });
}
