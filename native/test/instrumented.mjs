// The addon as CMakeLists.txt builds it, but with an instrument of the compiler: a sanitizer, or counters of coverage. It
// goes into build/instrumented/WAY and never where the package looks for its own.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, globSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const NATIVE = join(ROOT, 'native');
const CXX = process.env.CXX ?? 'g++';
const require = createRequire(import.meta.url);

/** Flags of each way, and the libraries of the compiler that must be in the process before Node's own. */
export const WAYS = {
  address: {
    flags: ['-O1', '-g', '-fno-omit-frame-pointer', '-fsanitize=address,undefined'],
    preload: ['libasan.so', 'libubsan.so'],
  },
  thread: { flags: ['-O1', '-g', '-fno-omit-frame-pointer', '-fsanitize=thread'], preload: ['libtsan.so'] },
  coverage: { flags: ['-O0', '-g', '--coverage', '-fprofile-update=atomic'], preload: [] },
};

const DEFINES = [
  'NAPI_VERSION=9',
  'NAPI_DISABLE_CPP_EXCEPTIONS',
  'NODE_ADDON_API_DISABLE_DEPRECATED',
  'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
];

function includeFolders() {
  const ofNode = join(dirname(process.execPath), '..', 'include', 'node');
  return [
    ...(existsSync(join(ofNode, 'node_api.h')) ? [ofNode] : []),
    join(dirname(require.resolve('node-api-headers/package.json')), 'include'),
    dirname(require.resolve('node-addon-api/package.json')),
  ];
}

/** Runs command lines, as many at a time as there are processors. @throws Error with the output of the first that fails */
async function runAll(lines) {
  const queue = [...lines];
  const worker = async () => {
    for (let line = queue.shift(); line !== undefined; line = queue.shift()) {
      await run(line);
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

/** Paths of the compiler's libraries for LD_PRELOAD; libstdc++ with them, so that a sanitizer finds what it replaces there. */
export function preloadOf(way) {
  return [...WAYS[way].preload, 'libstdc++.so.6']
    .map((name) => spawnSync(CXX, [`-print-file-name=${name}`], { encoding: 'utf8' }).stdout.trim())
    .join(' ');
}

/**
 * Builds it. @param way of WAYS
 * @param patches sources to take from elsewhere: names as in sources.txt, to paths. Such an addon has a name of its own.
 * @returns the path of the addon
 */
export async function buildAddon(way, { name = 'addon', patches = {} } = {}) {
  const folder = join(ROOT, 'build/instrumented', way);
  mkdirSync(folder, { recursive: true });
  const headers = Math.max(
    ...[...globSync(join(NATIVE, '{core,napi}/*.h')), fileURLToPath(import.meta.url)].map(
      (file) => statSync(file).mtimeMs,
    ),
  );
  const sources = readFileSync(join(NATIVE, 'sources.txt'), 'utf8').trim().split('\n');
  const objects = sources.map((source) => {
    const patched = patches[source];
    const stem = basename(source, '.cc');
    return {
      source: patched ?? join(NATIVE, source),
      object: join(folder, patched === undefined ? `${stem}.o` : `${stem}-${name}.o`),
      own: dirname(join(NATIVE, source)),
    };
  });
  const stale = objects.filter(
    ({ source, object }) =>
      !existsSync(object) || statSync(object).mtimeMs < Math.max(headers, statSync(source).mtimeMs),
  );
  const flags = [
    '-std=c++20',
    '-fPIC',
    '-fno-exceptions',
    '-fno-rtti',
    '-fvisibility=hidden',
    ...WAYS[way].flags,
    ...DEFINES.map((define) => `-D${define}`),
    ...includeFolders().flatMap((path) => ['-isystem', path]),
  ];
  await runAll(stale.map(({ source, object, own }) => [CXX, ...flags, '-I', own, '-c', source, '-o', object]));
  const addon = join(folder, `${name}.node`);
  await run([
    CXX,
    '-shared',
    ...WAYS[way].flags,
    '-Wl,-z,now',
    '-Wl,-z,nodelete',
    ...objects.map(({ object }) => object),
    '-o',
    addon,
  ]);
  return addon;
}
