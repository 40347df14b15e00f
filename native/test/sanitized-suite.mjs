// The JavaScript suite on an addon built with a sanitizer, and the proof that each sanitizer would have said something.
//
//   node native/test/sanitized-suite.mjs [planted] [address] [thread] [leaks] [-- ARGUMENT…]
//
// All four without a name. The arguments are vitest's: files, or `--all` for the whole suite; without them the files below,
// which are those that reach native code. A way fails when a report names a file of native/: what sanitizers have to say of
// V8, of which they know nothing, is counted and let be. Tests that fail for slowness do not fail it; they are listed.

import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { buildAddon, preloadOf, ROOT } from './instrumented.mjs';

const OUT = join(ROOT, 'build/instrumented');
const SCENARIOS = join(ROOT, 'native/test/scenarios');

const FILES = {
  address: [
    'test/unit/native-engine.test.ts',
    'test/unit/key-pipe.test.ts',
    'test/unit/work-pool.test.ts',
    'test/unit/message-*.test.ts',
    'test/unit/moving-buffers.test.ts',
    'test/contract/engine-*.test.ts',
    'test/property/engines-agree.test.ts',
    'test/property/token-*.test.ts',
    'test/property/message-*.test.ts',
    'test/vectors/*.test.ts',
    'test/integration/lane*.test.ts',
    'test/integration/client-files.test.ts',
    'test/integration/keyed-hashes.test.ts',
    'test/integration/large-*.test.ts',
    'test/integration/streams.test.ts',
    'test/integration/message-*.test.ts',
    'test/integration/legacy-envelopes.test.ts',
  ],
  thread: [
    'test/contract/engine-attached.test.ts',
    'test/contract/engine-native.test.ts',
    'test/unit/native-engine.test.ts',
    'test/unit/work-pool.test.ts',
    'test/unit/moving-buffers.test.ts',
    'test/integration/lane.test.ts',
    'test/integration/lane-files.test.ts',
    'test/integration/large-requests.test.ts',
  ],
};

/** Environment in which a sanitizer works, and writes what it finds to files that begin with `reports`. */
function environment(way, reports, more = '') {
  const options = `log_path=${reports}${more}`;
  return {
    ...process.env,
    LD_PRELOAD: preloadOf(way),
    // Leaks are looked for apart: what Node itself keeps to its end would be reported by every process.
    ASAN_OPTIONS: `detect_leaks=0:${options}`,
    UBSAN_OPTIONS: 'print_stacktrace=1',
    // With the first option left at 1 it is silent, and missed a race that was planted.
    TSAN_OPTIONS: `ignore_noninstrumented_modules=0:exitcode=0:report_signal_unsafe=0:${options}`,
  };
}

/** A command line for the way: TSan's shadow needs addresses where it expects them. */
function launch(way, args, options) {
  const command = way === 'thread' ? ['setarch', '-R', process.execPath] : [process.execPath];
  return spawnSync(command[0], [...command.slice(1), ...args], { encoding: 'utf8', maxBuffer: 1 << 28, ...options });
}

/**
 * What was reported, one text each: ours when a frame or a summary names a file of native/.
 * @param said what the processes printed: undefined behaviour is told there only, and what follows it in the same process too
 */
function readReports(folder, said) {
  const all = globSync(join(folder, '*')).flatMap((file) =>
    readFileSync(file, 'utf8')
      // A leak is a paragraph; any other report is all between two rules.
      .split(/^=+$|\n\n(?=(?:Direct|Indirect) leak of)/m)
      .filter((text) => /SUMMARY|leak of/.test(text)),
  );
  all.push(...(said.match(/^(?:.*runtime error: .*|SUMMARY: .*)$/gm) ?? []));
  const ours = all.filter((text) => {
    const summaries = text.match(/^SUMMARY: ThreadSanitizer.*$/gm);
    return summaries === null
      ? /native\/(core|napi)\//.test(text)
      : summaries.some((line) => /native\/(core|napi)\//.test(line));
  });
  return { all, ours };
}

function emptyFolder(...path) {
  const folder = join(OUT, ...path);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** The sources with the instrumented addon as their own, so that agents of their tests have it too. */
function makeTree(way, addon) {
  const tree = emptyFolder(way, 'tree');
  const listed = spawnSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: ROOT,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  for (const file of listed.stdout.split('\0').filter((name) => name !== '' && existsSync(join(ROOT, name)))) {
    mkdirSync(dirname(join(tree, file)), { recursive: true });
    copyFileSync(join(ROOT, file), join(tree, file));
  }
  // A second configuration below the first would stop the linter.
  rmSync(join(tree, 'biome.json'));
  symlinkSync(join(ROOT, 'node_modules'), join(tree, 'node_modules'));
  if (existsSync(join(ROOT, 'dist'))) {
    cpSync(join(ROOT, 'dist'), join(tree, 'dist'), { recursive: true });
  }
  if (addon !== undefined) {
    mkdirSync(join(tree, 'build/Release'), { recursive: true });
    copyFileSync(addon, join(tree, 'build/Release/addon.node'));
  }
  // `dekd run` refuses a preloaded library, as it must; no variable would let it be, as whoever sets the one sets the other.
  for (const file of globSync(join(tree, '{src/cli/host-checks.ts,dist/cli/*.js}'))) {
    writeFileSync(file, readFileSync(file, 'utf8').replace(/["']LD_PRELOAD["'],/, ''));
  }
  return tree;
}

async function suite(way, args) {
  const tree = makeTree(way, await buildAddon(way));
  const reports = emptyFolder(way, 'reports');
  const chosen = args.length === 0 ? FILES[way].flatMap((pattern) => globSync(pattern, { cwd: tree })) : args;
  const results = join(OUT, way, 'results.json');
  rmSync(results, { force: true });
  const run = launch(
    way,
    [
      join(ROOT, 'node_modules/vitest/vitest.mjs'),
      'run',
      '--testTimeout=300000',
      '--hookTimeout=300000',
      '--maxWorkers=1',
      '--reporter=dot',
      '--reporter=json',
      `--outputFile=${results}`,
      ...chosen.filter((argument) => argument !== '--all'),
    ],
    { cwd: tree, env: environment(way, join(reports, 'report')), stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const said = `${run.stdout}${run.stderr}`;
  writeFileSync(join(OUT, way, 'output.log'), said);
  const { numPassedTests = 0, testResults = [] } = existsSync(results) ? JSON.parse(readFileSync(results, 'utf8')) : {};
  const failed = testResults.flatMap((file) => [
    ...file.assertionResults.filter(({ status }) => status === 'failed').map(({ fullName }) => fullName),
    // The process of the file ended: that is a finding whatever the reports say.
    ...(file.status === 'failed' && file.assertionResults.length === 0 ? [`${file.name}: ${file.message}`] : []),
  ]);
  const { all, ours } = readReports(reports, said);
  for (const text of ours) {
    console.log(text);
  }
  for (const name of failed) {
    console.log(`[${way}] did not pass: ${name}`);
  }
  console.log(
    `[${way}] ${numPassedTests} tests passed, ${failed.length} did not; ${ours.length} reports of native/, ${all.length - ours.length} of others`,
  );
  return ours.length === 0 && numPassedTests > 0 && run.signal === null;
}

/** Defects to put at the beginning of fill_random, and what must be said of each. */
const LEAK = 'uint8_t* volatile lost = new uint8_t[out.size() + 1]; lost[0] = 1;';
const PLANTED = [
  {
    name: 'heap-overflow',
    way: 'address',
    code: 'uint8_t* const small = new uint8_t[8]; volatile uint8_t past = small[out.size() + 8]; (void)past; delete[] small;',
    said: /heap-buffer-overflow/,
  },
  {
    name: 'use-after-free',
    way: 'address',
    code: 'uint8_t* const gone = new uint8_t[8]; delete[] gone; volatile uint8_t after = gone[out.size() % 8]; (void)after;',
    said: /heap-use-after-free/,
  },
  {
    name: 'shift',
    way: 'address',
    code: 'volatile int by = static_cast<int>(out.size()) + 40; volatile int shifted = 1 << by; (void)shifted;',
    said: /shift exponent/,
  },
  {
    name: 'race',
    way: 'thread',
    code: 'static volatile int shared = 0; for (int i = 0; i < 1000; ++i) { shared = shared + 1; }',
    said: /data race/,
    // Whether two threads are seen is a matter of when they run: one try in three or so says nothing.
    tries: 8,
  },
];

/** An addon with this code at the beginning of fill_random. @returns its path */
async function plant(way, name, code) {
  const source = readFileSync(join(ROOT, 'native/core/random.cc'), 'utf8');
  const begin = /(Status fill_random\(std::span<uint8_t> out\) \{)/;
  if (!begin.test(source)) {
    throw new Error('fill_random is not where it was');
  }
  const file = join(emptyFolder(way, `planted-${name}`, 'native', 'core'), 'random.cc');
  writeFileSync(file, source.replace(begin, `$1 ${code}`));
  return buildAddon(way, { name: `planted-${name}`, patches: { 'core/random.cc': file } });
}

/** A sanitizer that says nothing of a defect that is there says nothing by its silence. */
async function planted() {
  let caught = 0;
  for (const { name, way, code, said, tries = 1 } of PLANTED) {
    const addon = await plant(way, name, code);
    let found = false;
    let last;
    for (let attempt = 0; attempt < tries && !found; attempt++) {
      const reports = emptyFolder(way, `reports-${name}`);
      const env = environment(way, join(reports, 'report'));
      last = launch(way, [join(SCENARIOS, 'draw-from-threads.mjs'), addon], { env });
      found = readReports(reports, last.stderr).ours.some((text) => said.test(text));
    }
    const ended = `it ended with ${last.signal ?? last.status}: ${last.stderr.slice(0, 500)}`;
    console.log(`[planted] ${name}: ${found ? 'caught' : `MISSED; ${ended}`}`);
    caught += found ? 1 : 0;
  }
  console.log(`[planted] ${caught} of ${PLANTED.length} caught`);
  return caught === PLANTED.length;
}

/**
 * LeakSanitizer over a million operations. What Node and V8 keep to their end is theirs; it is not suppressed by the names of
 * their functions, as those are below each of ours too.
 */
async function leaks() {
  const addon = await buildAddon('address');
  const reports = emptyFolder('address', 'reports-leaks');
  const options = (folder) => ({
    ...environment('address', join(folder, 'report')),
    // What OpenSSL allocates for a call of ours is found only by unwinding through Node, which has no frame pointers.
    ASAN_OPTIONS: `detect_leaks=1:fast_unwind_on_malloc=0:log_path=${join(folder, 'report')}`,
  });
  const env = { ...options(reports), DEKD_NATIVE_PATH: addon };
  const count = process.env.DEKD_LEAK_OPERATIONS ?? '1000000';
  const run = launch('address', [join(SCENARIOS, 'many-operations.mjs'), count], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const bare = readReports(reports, '');
  // The same with memory that is lost on purpose: it must be seen.
  const forgotten = emptyFolder('address', 'reports-forgotten');
  launch('address', [join(SCENARIOS, 'many-operations.mjs'), '100'], {
    env: { ...options(forgotten), DEKD_NATIVE_PATH: await plant('address', 'leak', LEAK) },
  });
  const seen = readReports(forgotten, '').ours.length > 0;
  for (const text of bare.ours) {
    console.log(text);
  }
  console.log(
    `[leaks] ${run.stdout?.trim()}; ${bare.ours.length} leaks of native/, ${bare.all.length - bare.ours.length} reports of others; ` +
      `a leak on purpose was ${seen ? 'seen' : 'MISSED'}`,
  );
  return run.status !== null && /operations/.test(run.stdout ?? '') && bare.ours.length === 0 && seen;
}

const given = process.argv.slice(2);
const end = given.indexOf('--');
const names = end < 0 ? given : given.slice(0, end);
const args = end < 0 ? [] : given.slice(end + 1);
const ways = { planted, address: () => suite('address', args), thread: () => suite('thread', args), leaks };
const unknown = names.find((name) => !(name in ways));
if (unknown !== undefined) {
  console.error(`there is no way ${unknown}; choose among ${Object.keys(ways).join(', ')}`);
  process.exit(2);
}
let isWell = true;
for (const name of names.length === 0 ? Object.keys(ways) : names) {
  isWell = (await ways[name]()) && isWell;
}
process.exitCode = isWell ? 0 : 1;
