// Builds the addon and dist/.
//
//   --prepare   what `npm ci` runs in a clone: both, as far as the machine can; never fails, since everything works
//               without the addon as well
//   --native    the addon with CMake        --gyp   the addon with node-gyp
//   --dist      src/ to dist/, and the light client, a package of its own, to dist/client-package/
//   --pack      dist/ and the stripped addon in prebuilds/, for the tarball
//   no flag     addon and dist/
//
// --prepare also runs on the oldest Node that the client takes, where dev dependencies are left out.
// All but --prepare end with an exit code other than 0 when something fails.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);
const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const addon = join(root, 'build', 'Release', 'addon.node');
const stamp = join(root, 'build', 'Release', 'addon.sources');
const log = join(root, 'build-native.log');

const USAGE = 'usage: node native/build.mjs [--prepare | --native | --gyp | --dist | --pack]';

/** A build step that did not work; the message is one line. */
class BuildError extends Error {}

/** Hash of everything that the addon is made from, to see whether the one that is there is the one meant. */
function sourcesHash() {
  const hash = createHash('sha256');
  const files = ['native/core', 'native/napi']
    .flatMap((folder) => readdirSync(join(root, folder)).map((name) => `${folder}/${name}`))
    .filter((file) => /\.(h|cc)$/.test(file))
    .sort();
  for (const file of ['binding.gyp', 'native/CMakeLists.txt', 'native/sources.txt', ...files]) {
    hash.update(`${file}\0`).update(readFileSync(join(root, file)));
  }
  return hash.digest('hex');
}

/** Why the addon does not load, in another process: a broken one may end the process it is loaded into. */
function loadFailure() {
  if (!existsSync(addon)) {
    return 'it was not built';
  }
  const run = spawnSync(process.execPath, ['-e', `require(${JSON.stringify(addon)})`], { encoding: 'utf8' });
  return run.status === 0 ? undefined : (/Error: .*/.exec(run.stderr)?.[0] ?? `it ends the process (${run.signal})`);
}

function isCurrent() {
  return existsSync(stamp) && readFileSync(stamp, 'utf8') === sourcesHash() && loadFailure() === undefined;
}

/** The JavaScript file behind a package's command. @throws BuildError when the package is not installed. */
function commandOf(name, bin) {
  try {
    return join(dirname(require.resolve(`${name}/package.json`)), bin);
  } catch {
    throw new BuildError(`${name} is not installed`);
  }
}

/** Runs a command of a package with this Node; its output goes to build-native.log, and to the terminal if `loud`. */
function run(command, args, loud) {
  const line = `$ ${[command, ...args].join(' ')}\n`;
  // binding.gyp asks for `node`, which must be this one.
  const env = { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH ?? ''}` };
  const options = { cwd: root, env, encoding: 'utf8', maxBuffer: 1 << 26 };
  const result = spawnSync(process.execPath, [command, ...args], options);
  const output = `${result.stdout ?? ''}${result.stderr ?? ''}`;
  appendFileSync(log, line + output);
  if (loud) {
    process.stdout.write(output);
  }
  if (result.status !== 0) {
    throw new BuildError(`${command} failed: ${result.error?.message ?? `exit code ${result.status}`}`);
  }
}

/** The headers that come with this Node, OpenSSL's among them; undefined in packages that leave them out. */
function nodeHeaders() {
  const directory = join(dirname(process.execPath), '..', 'include', 'node');
  return existsSync(join(directory, 'node_api.h')) ? directory : undefined;
}

function buildWithCmake(loud) {
  const command = commandOf('cmake-js', 'bin/cmake-js');
  const headers = nodeHeaders();
  run(
    command,
    [
      'compile',
      '-d',
      join(root, 'native'),
      '-O',
      join(root, 'build'),
      `--CDDEKD_NODE_ADDON_API=${dirname(require.resolve('node-addon-api/package.json'))}`,
      ...(headers === undefined ? [] : [`--CDDEKD_NODE_INCLUDE=${headers}`]),
    ],
    loud,
  );
}

function buildWithGyp(loud) {
  const command = commandOf('node-gyp', 'bin/node-gyp.js');
  const nodedir = nodeHeaders() === undefined ? [] : [`--nodedir=${join(dirname(process.execPath), '..')}`];
  run(command, ['rebuild', '-j', 'max', ...nodedir], loud);
}

/** Builds the addon one way and makes sure that it loads. */
function buildAddon(build, loud) {
  rmSync(addon, { force: true });
  rmSync(stamp, { force: true });
  build(loud);
  const failure = loadFailure();
  if (failure !== undefined) {
    throw new BuildError(`the addon was built and does not load: ${failure}`);
  }
  writeFileSync(stamp, sourcesHash());
}

/** Paths of the files below a folder, relative to it. */
function filesBelow(folder) {
  return readdirSync(folder, { recursive: true }).filter((file) => statSync(join(folder, file)).isFile());
}

/** Removes the declarations that no export of the package leads to: nobody could import them, the generated ones least. */
function keepPublicDeclarations(output) {
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const doors = Object.values(exports).flatMap(({ types }) => (types === undefined ? [] : [relative('dist', types)]));
  const kept = new Set(doors.map((file) => join(output, file)).filter(existsSync));
  for (const file of kept) {
    for (const [, specifier] of readFileSync(file, 'utf8').matchAll(/(?:from|import\() ?['"](\.[^'"]+)['"]/g)) {
      kept.add(join(dirname(file), specifier.replace(/\.[jt]s$/, '.d.ts')));
    }
  }
  for (const file of filesBelow(output)) {
    if (file.endsWith('.d.ts') && !kept.has(join(output, file))) {
      rmSync(join(output, file));
    }
  }
}

function buildDist(loud) {
  const output = join(root, 'dist');
  const fresh = join(root, 'build', 'dist');
  rmSync(fresh, { recursive: true, force: true });
  run(commandOf('typescript', 'bin/tsc'), ['-p', 'tsconfig.build.json', '--outDir', fresh], loud);
  // What tsc reads and does not write: generated JavaScript, data files.
  for (const file of filesBelow(join(root, 'src'))) {
    if (!file.endsWith('.ts')) {
      mkdirSync(dirname(join(fresh, file)), { recursive: true });
      copyFileSync(join(root, 'src', file), join(fresh, file));
    }
  }
  keepPublicDeclarations(fresh);
  const light = join(root, 'build', 'client-package');
  run(join(root, 'native', 'client-package', 'build.mjs'), [fresh, light], loud);
  run(join(root, 'native', 'bundle.mjs'), [fresh], loud);
  renameSync(light, join(fresh, 'client-package'));
  const main = join(fresh, 'cli', 'main.js');
  if (existsSync(main)) {
    chmodSync(main, 0o755);
  }
  rmSync(output, { recursive: true, force: true });
  renameSync(fresh, output);
}

function pack() {
  if (!isCurrent()) {
    buildAddon(buildWithCmake, true);
  }
  buildDist(true);
  const prebuild = join(root, 'prebuilds', `${process.platform}-${process.arch}.node`);
  mkdirSync(dirname(prebuild), { recursive: true });
  copyFileSync(addon, prebuild);
  const strip = spawnSync('strip', ['--strip-unneeded', prebuild], { encoding: 'utf8' });
  if (strip.status !== 0) {
    throw new BuildError(`strip failed: ${strip.error?.message ?? strip.stderr}`);
  }
}

/** The addon by whatever the machine has. @returns whether there is one. */
function prepareAddon() {
  if (isCurrent()) {
    return true;
  }
  for (const build of [buildWithCmake, buildWithGyp]) {
    try {
      buildAddon(build, false);
      return true;
    } catch (error) {
      appendFileSync(log, `${error instanceof Error ? error.message : error}\n`);
    }
  }
  // An addon of other sources must not be loaded in the place of the one that could not be built.
  rmSync(addon, { force: true });
  return false;
}

function prepare() {
  if (!prepareAddon()) {
    console.log(
      'dekd: using the JavaScript engine (slower); needs a C++ compiler and CMake or Python 3 (build-native.log)',
    );
  }
  try {
    buildDist(false);
  } catch (error) {
    appendFileSync(log, `${error instanceof Error ? error.message : error}\n`);
    console.log('dekd: dist/ was not built (build-native.log); sources run without it');
  }
}

function main(flags) {
  if (flags.length > 1) {
    throw new BuildError(USAGE);
  }
  switch (flags[0]) {
    case undefined:
      buildAddon(buildWithCmake, true);
      buildDist(true);
      break;
    case '--native':
      buildAddon(buildWithCmake, true);
      break;
    case '--gyp':
      buildAddon(buildWithGyp, true);
      break;
    case '--dist':
      buildDist(true);
      break;
    case '--pack':
      pack();
      break;
    default:
      throw new BuildError(USAGE);
  }
}

const flags = process.argv.slice(2);
if (flags[0] === '--prepare') {
  try {
    writeFileSync(log, '');
    prepare();
  } catch (error) {
    // Whatever it was, an install does not fail for it.
    console.log(`dekd: prepare stopped: ${error instanceof Error ? error.message : error}`);
  }
} else {
  try {
    writeFileSync(log, '');
    main(flags);
  } catch (error) {
    console.error(error instanceof BuildError ? error.message : error);
    process.exitCode = 1;
  }
}
