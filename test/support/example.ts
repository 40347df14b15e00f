/** The applications in examples/, each in a folder of its own with what its package.json names, as far as it is installed here. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, cpSync, mkdirSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ensureDist } from '../../bench/support/agent-process.ts';
import { childEnvironment, NODE } from './agent.ts';
import { ROOT, readJson, run } from './source-copy.ts';

const BUILT_ENTRY = join(ROOT, 'dist/cli/main.js');

/**
 * Copies an example to `folder` and puts links into its node_modules: `dekd` is the package as it is built, the others are those
 * of this repository. @throws when it names another version of one than the tests have
 */
export function installExample(name: string, folder: string): void {
  ensureDist();
  cpSync(join(ROOT, 'examples', name), folder, {
    recursive: true,
    filter: (path) => !path.endsWith('node_modules'),
  });
  const { dependencies, devDependencies } = readJson(join(folder, 'package.json')) as Record<
    'dependencies' | 'devDependencies',
    Record<string, string>
  >;
  const installed = readJson(join(ROOT, 'package.json')).devDependencies as Record<string, string>;
  mkdirSync(join(folder, 'node_modules/.bin'), { recursive: true });
  for (const [dependency, version] of Object.entries({ ...dependencies, ...devDependencies })) {
    if (dependency === 'dekd') {
      symlinkSync(ROOT, join(folder, 'node_modules/dekd'));
      chmodSync(BUILT_ENTRY, 0o755);
      symlinkSync(BUILT_ENTRY, join(folder, 'node_modules/.bin/dekd'));
    } else if (installed[dependency] === version) {
      const link = join(folder, 'node_modules', dependency);
      mkdirSync(dirname(link), { recursive: true });
      symlinkSync(join(ROOT, 'node_modules', dependency), link);
    } else {
      throw new Error(`examples/${name} names ${dependency} ${version}, and the tests have ${installed[dependency]}`);
    }
  }
}

/** What the compiler says of its files, strictly; empty when nothing. */
export async function compileErrors(folder: string, files: readonly string[]): Promise<string> {
  const options = ['--strict', '--noEmit', '--noUncheckedIndexedAccess', '--module', 'nodenext', '--target', 'esnext'];
  const imports = ['--allowImportingTsExtensions', '--erasableSyntaxOnly', '--verbatimModuleSyntax', '--skipLibCheck'];
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  const done = await run(NODE, [tsc, ...options, ...imports, '--types', 'node', ...files], { cwd: folder });
  return done.code === 0 ? '' : done.stdout + done.stderr;
}

/** Surroundings of an example: its own commands and the Node of this repository, and nothing that is dekd's but what is given. */
export function exampleEnvironment(folder: string, changes: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const path = [join(folder, 'node_modules/.bin'), dirname(NODE), process.env.PATH].join(':');
  return { ...childEnvironment(), PATH: path, ...changes };
}

export interface RunningExample extends AsyncDisposable {
  readonly pid: number;
  /** What a pattern captured in what it printed. */
  readonly found: string;
  /** Standard output and standard error. */
  said(): string;
  /** Ends it by SIGTERM. @returns its exit code */
  stop(): Promise<number | null>;
}

/** Starts one of its files with Node, and waits until what it prints has `pattern`, with one group. */
export async function startExample(
  folder: string,
  file: string,
  pattern: RegExp,
  env: NodeJS.ProcessEnv,
): Promise<RunningExample> {
  const child: ChildProcess = spawn(NODE, [file], { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  const found = await new Promise<string>((resolve, reject) => {
    const listen = (text: string): void => {
      said += text;
      const [, group] = pattern.exec(said) ?? [];
      if (group !== undefined) {
        resolve(group);
      }
    };
    child.stdout!.setEncoding('utf8').on('data', listen);
    child.stderr!.setEncoding('utf8').on('data', listen);
    child.once('exit', (code) => reject(new Error(`${file} ended with ${code}: ${said}`)));
  });
  const stop = async (): Promise<number | null> => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
    return child.exitCode;
  };
  return {
    pid: child.pid!,
    found,
    said: () => said,
    stop,
    async [Symbol.asyncDispose]() {
      await stop();
    },
  };
}
