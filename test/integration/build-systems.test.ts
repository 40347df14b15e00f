import { execFile, spawnSync } from 'node:child_process';
import { cpSync, existsSync, globSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const execute = promisify(execFile);
const root = join(import.meta.dirname, '..', '..');
const folder = mkdtempSync(join(tmpdir(), 'dekd-build-'));

const nodeDirectory = join(dirname(process.execPath), '..');
const headers = join(nodeDirectory, 'include', 'node');
const has = (command: string) => spawnSync(command, ['--version']).status === 0;
/** What a machine needs to run this at all; on one without it there is nothing to compare. */
const missing = ['c++', 'cmake', 'make', 'python3', 'readelf'].filter((command) => !has(command));

/** Sources, defines and switches that one build used for the addon, and what came out. */
interface Build {
  readonly sources: string[];
  readonly flags: string[];
  readonly addon: string;
}

const OUR_FLAG =
  /^-DN(API|ODE_A)\w*(=\w+)?$|^-std=|^-f(no-)?(exceptions|rtti|visibility)|^-W(all|extra|shadow|conversion|sign-conversion|error)$/;

function flagsIn(command: string): string[] {
  const flags = new Set<string>();
  for (const word of command.split(/\s+/)) {
    const flag = word.replace(/^['"]|['"]$/g, '');
    if (OUR_FLAG.test(flag)) {
      flags.add(flag);
    }
  }
  return [...flags].sort();
}

/** A copy of what the builds read; both are built without optimisation, for time. */
function copyOfSources(name: string): string {
  const copy = join(folder, name);
  for (const path of ['native', 'binding.gyp', 'package.json']) {
    cpSync(join(root, path), join(copy, path), { recursive: true });
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  return copy;
}

async function buildWithGyp(): Promise<Build> {
  const cwd = copyOfSources('gyp');
  const command = join(root, 'node_modules/node-gyp/bin/node-gyp.js');
  const nodedir = existsSync(headers) ? [`--nodedir=${nodeDirectory}`] : [];
  await execute(process.execPath, [command, 'rebuild', '-j', 'max', ...nodedir], {
    cwd,
    env: { ...process.env, CXXFLAGS: '-O0' },
    maxBuffer: 1 << 26,
  });
  const objects = join(cwd, 'build/Release/obj.target/addon/native');
  return {
    sources: globSync('**/*.o', { cwd: objects }).map((file) => file.replace(/\.o$/, '.cc')),
    flags: flagsIn(readFileSync(join(cwd, 'build/addon.target.mk'), 'utf8').replace(/_Debug\s*:=[\s\S]*?\n\n/g, '')),
    addon: join(cwd, 'build/Release/addon.node'),
  };
}

async function buildWithCmake(): Promise<Build> {
  const cwd = copyOfSources('cmake');
  const command = join(root, 'node_modules/cmake-js/bin/cmake-js');
  const options = [
    `--CDDEKD_NODE_ADDON_API=${join(root, 'node_modules/node-addon-api')}`,
    '--CDCMAKE_CXX_FLAGS_RELEASE=-O0',
    '--CDCMAKE_EXPORT_COMPILE_COMMANDS=ON',
    ...(existsSync(headers) ? [`--CDDEKD_NODE_INCLUDE=${headers}`] : []),
  ];
  await execute(
    process.execPath,
    [command, 'compile', '-d', join(cwd, 'native'), '-O', join(cwd, 'build'), ...options],
    {
      cwd,
      maxBuffer: 1 << 26,
    },
  );
  const commands = JSON.parse(readFileSync(join(cwd, 'build/compile_commands.json'), 'utf8')) as {
    file: string;
    command: string;
  }[];
  return {
    sources: commands.map(({ file }) => file.slice(join(cwd, 'native').length + 1)),
    flags: flagsIn(commands.map(({ command: line }) => line).join(' ')),
    addon: join(cwd, 'build/Release/addon.node'),
  };
}

/** Seals and opens with this addon in a process of its own; the self-test runs as it loads. */
function useAddon(addon: string): string {
  const script = `
    import { NativeEngine } from ${JSON.stringify(join(root, 'src/crypto/native.ts'))};
    import { loadBinding } from ${JSON.stringify(join(root, 'src/addon/binding.ts'))};
    const engine = new NativeEngine();
    const key = engine.generateKey({ algorithm: 'xaes-256-gcm', purpose: 'seal' });
    const token = new Uint8Array(68);
    engine.seal(key, new Uint8Array(10).fill(7), 0, 0, 0, 10, token, 0);
    const opened = new Uint8Array(10);
    console.log(engine.open(key, token, 0, 0, 0, 68, opened, 0), opened.join(''), loadBinding().path);`;
  return spawnSync(process.execPath, ['--input-type=module-typescript', '-e', script], {
    encoding: 'utf8',
    env: { ...process.env, DEKD_NATIVE_PATH: addon },
  }).stdout.trim();
}

describe.skipIf(missing.length > 0)('the two builds of the addon', () => {
  let gyp: Build;
  let cmake: Build;

  beforeAll(async () => {
    [gyp, cmake] = await Promise.all([buildWithGyp(), buildWithCmake()]);
  }, 180_000);

  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  it('compile every source of native/sources.txt and no other', () => {
    const listed = readFileSync(join(root, 'native/sources.txt'), 'utf8').trim().split('\n');
    expect(gyp.sources.sort()).toEqual(listed.toSorted());
    expect(cmake.sources.sort()).toEqual(listed.toSorted());
    const present = globSync('{core,napi}/*.cc', { cwd: join(root, 'native') });
    expect(listed.toSorted()).toEqual(present.sort());
  });

  it('use the same defines, standard, visibility and warnings', () => {
    expect(gyp.flags).toContain('-DNAPI_VERSION=9');
    expect(gyp.flags).toContain('-DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS');
    expect(gyp.flags).toContain('-Werror');
    // CMake's own switch for the standard and its pedantic mode have no counterpart in gyp.
    expect(cmake.flags).toEqual(gyp.flags);
  });

  it('bind every symbol at load and stay loaded when the worker that loaded them ends', () => {
    for (const { addon } of [gyp, cmake]) {
      const dynamic = spawnSync('readelf', ['-d', addon], { encoding: 'utf8' }).stdout;
      expect(dynamic).toMatch(/FLAGS_1.*NOW/);
      expect(dynamic).toMatch(/FLAGS_1.*NODELETE/);
      expect(dynamic).not.toMatch(/NEEDED.*lib(crypto|ssl)/);
    }
  });

  it('make an addon that loads, passes its self-test and seals', () => {
    for (const { addon } of [gyp, cmake]) {
      expect(useAddon(addon)).toBe(`true 7777777777 ${addon}`);
    }
  });
});
