/** The code of a page of the documentation, as its readers have it. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { childEnvironment, NODE } from './agent.ts';
import { type Outcome, ROOT, run } from './source-copy.ts';

/** Where the files are that the package exports for a specifier; the sources here. */
const SOURCES: Readonly<Record<string, string>> = { 'dekd/client': 'src/client/index.ts' };

/** The ```ts blocks of a text, one behind the other. */
export function codeIn(text: string): string {
  return Array.from(text.matchAll(/^```ts\n(.*?)^```/gms), ([, block]) => block).join('');
}

/** Writes the ```ts blocks of one section into a file that imports the sources of this tree instead of the package. */
export function writeSection(page: string, heading: string, file: string): void {
  const text = readFileSync(join(ROOT, page), 'utf8');
  const section = text.split(/^(?=## )/m).find((part) => part.startsWith(`## ${heading}\n`));
  const code = codeIn(section!);
  if (code === '') {
    throw new Error(`${page} has no code under ${heading}`);
  }
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(
    file,
    code.replace(/'(dekd\/(\w+))'/g, (_, name: string, adapter: string) => {
      return `'${relative(dirname(file), join(ROOT, SOURCES[name] ?? `src/adapters/${adapter}.ts`))}'`;
    }),
  );
}

/** Runs what was written, in a process of its own. */
export function runFile(file: string, env: Readonly<Record<string, string>>): Promise<Outcome> {
  return run(NODE, ['--disable-warning=ExperimentalWarning', file], {
    cwd: dirname(file),
    env: { ...childEnvironment(), ...env },
  });
}

/** What the compiler says of files that lie in one folder. */
export async function compile(folder: string, files: readonly string[]): Promise<string> {
  const config = { extends: join(ROOT, 'tsconfig.json'), include: files, exclude: [] };
  const compilerOptions = { typeRoots: [join(ROOT, 'node_modules/@types')] };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ ...config, compilerOptions }));
  const done = await run(join(ROOT, 'node_modules/.bin/tsc'), ['-p', 'tsconfig.json'], { cwd: folder });
  return done.stdout + done.stderr;
}
