/** The package of an earlier commit of this repository, built from its own sources, addon and all. */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, globSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
/** The last commit before vectors were frozen: what stands for "the release before" while there is no tag. */
const BEFORE_VECTORS = '2977364';

export interface EarlierPackage extends Disposable {
  readonly commit: string;
  readonly entry: string;
  /** URL of a module of its dist/, such as `client/index`. */
  module(name: string): string;
}

/** The commit that compatibility is measured against: `DEKD_PREVIOUS`, else the latest tag, else one from before. */
export function previousCommit(): string | undefined {
  const tag = git(['describe', '--tags', '--abbrev=0']);
  const name = process.env.DEKD_PREVIOUS ?? tag ?? BEFORE_VECTORS;
  return git(['rev-parse', '--verify', '--quiet', `${name}^{commit}`]);
}

/** Builds it into a folder of its own. @throws Error with what the build said */
export function earlierPackage(commit: string): EarlierPackage {
  const folder = mkdtempSync(join(tmpdir(), 'dekd-earlier-'));
  const shell = `git -C "$1" archive "$2" | tar -x -C "$3"`;
  const archive = spawnSync('sh', ['-c', shell, 'sh', ROOT, commit, folder], { encoding: 'utf8' });
  if (archive.status !== 0) {
    throw new Error(archive.stderr);
  }
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  const dist = join(folder, 'dist');
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  const built = spawnSync(process.execPath, [tsc, '-p', join(folder, 'tsconfig.build.json'), '--outDir', dist], {
    encoding: 'utf8',
  });
  if (!existsSync(join(dist, 'cli/main.js'))) {
    throw new Error(`${commit} was not built: ${built.stdout}${built.stderr}`);
  }
  for (const file of globSync('**/*.{js,json}', { cwd: join(folder, 'src') })) {
    mkdirSync(dirname(join(dist, file)), { recursive: true });
    cpSync(join(folder, 'src', file), join(dist, file));
  }
  const native = spawnSync(process.execPath, [join(folder, 'native/build.mjs'), '--native'], {
    cwd: folder,
    encoding: 'utf8',
  });
  if (native.status !== 0) {
    throw new Error(`the addon of ${commit} was not built: ${native.stdout}${native.stderr}`);
  }
  return {
    commit,
    entry: join(dist, 'cli/main.js'),
    module: (name) => pathToFileURL(join(dist, `${name}.js`)).href,
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}

function git(args: readonly string[]): string | undefined {
  const { status, stdout } = spawnSync('git', ['-C', ROOT, ...args], { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : undefined;
}
