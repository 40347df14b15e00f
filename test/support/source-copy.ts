import { execFile } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, symlinkSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Root of this repository. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

const NO_NETWORK = /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENETUNREACH|ETIMEDOUT|ECONNRESET/;

/** What a command did; nothing is thrown for an exit code. */
export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program without a shell. @throws nothing */
export function run(
  command: string,
  args: readonly string[],
  options: { readonly cwd: string; readonly env?: NodeJS.ProcessEnv },
): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(command, args, { ...options, encoding: 'utf8', maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : null;
      resolve({ code, stdout, stderr: code === null ? `${stderr}${error?.message}` : stderr });
    });
  });
}

/** Why a command of npm failed when the registry could not be reached; undefined for every other outcome. */
export function offline({ code, stderr }: Outcome): string | undefined {
  return code !== 0 && NO_NETWORK.test(stderr) ? 'the package registry cannot be reached' : undefined;
}

/** Copies what a clone would have, uncommitted files included, and nothing that is built or installed. */
export async function copySources(to: string): Promise<void> {
  const listed = await run('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: ROOT });
  if (listed.code !== 0) {
    throw new Error(`git ls-files failed: ${listed.stderr}`);
  }
  for (const file of listed.stdout.split('\0')) {
    if (file !== '' && existsSync(join(ROOT, file))) {
      mkdirSync(dirname(join(to, file)), { recursive: true });
      copyFileSync(join(ROOT, file), join(to, file));
    }
  }
}

const NEEDED = ['npm', 'sh', 'env', 'git', 'uname', 'sed', 'dirname', 'basename', 'cat', 'rm', 'mkdir'];
/** What a build would call. */
export const COMPILERS = ['c++', 'g++', 'gcc', 'clang++', 'cmake', 'make', 'ninja', 'python3', 'python'];

/** Makes a folder to be the whole PATH: npm and what it needs, no compiler. */
export function pathWithoutCompilers(folder: string, node: string): void {
  mkdirSync(folder, { recursive: true });
  symlinkSync(node, join(folder, 'node'));
  for (const name of NEEDED) {
    const found = onPath(name)[0];
    if (found !== undefined) {
      symlinkSync(found, join(folder, name));
    }
  }
  const left = readdirSync(folder).filter((name) => COMPILERS.includes(name));
  if (left.length > 0) {
    throw new Error(`not hidden: ${left.join(', ')}`);
  }
}

/** The real files that a command name stands for on PATH, first the one that a shell would take. */
export function onPath(name: string): string[] {
  const places = (process.env.PATH ?? '').split(delimiter).map((folder) => join(folder, name));
  return [...new Set(places.filter((place) => existsSync(place)).map((place) => realpathSync(place)))];
}

/** A Node of this machine outside of this repository, for what must run on the Node that a person has. */
export function machineNode(): string | undefined {
  return onPath('node').find((path) => !path.startsWith(realpathSync(ROOT)));
}

/** Surroundings with nothing of the person's own but npm's settings. */
export function plainEnv(path: string, home: string): NodeJS.ProcessEnv {
  const { HOME = home } = process.env;
  return {
    PATH: path,
    HOME: home,
    TMPDIR: home,
    npm_config_userconfig: process.env.NPM_CONFIG_USERCONFIG ?? join(HOME, '.npmrc'),
    npm_config_cache: process.env.npm_config_cache ?? join(HOME, '.npm'),
    npm_config_audit: 'false',
    npm_config_fund: 'false',
    npm_config_update_notifier: 'false',
    npm_config_prefer_offline: 'true',
    ...(process.env.NODE_EXTRA_CA_CERTS === undefined ? {} : { NODE_EXTRA_CA_CERTS: process.env.NODE_EXTRA_CA_CERTS }),
  };
}

/** `version` of a Node executable, `[20, 20]`. */
export async function nodeVersion(node: string): Promise<readonly [number, number]> {
  const { stdout } = await run(node, ['--version'], { cwd: ROOT });
  const [major = 0, minor = 0] = stdout.trim().slice(1).split('.').map(Number);
  return [major, minor];
}

export function readJson(path: string): Record<string, unknown> {
  return JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
}
