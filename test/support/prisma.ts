/** Prisma as people get it from the registry, in a folder of its own, with the client of `test/support/prisma/schema.prisma`. */
import { copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { NODE } from './agent.ts';
import { type Outcome, offline, onPath, ROOT, run } from './source-copy.ts';

const FIXTURE = fileURLToPath(new URL('prisma', import.meta.url));
/** Not under node_modules: the generated client is TypeScript; and not in build, which builds of the addon empty. */
export const PRISMA_FOLDER = join(ROOT, '.vitest/prisma');

/** As much of a generated client as tests call; the types themselves are checked by the compiler in `usage.ts`. */
// biome-ignore lint/suspicious/noExplicitAny: what it is, is known when the client has been generated
export type Client = any;

export interface Prisma {
  /** A client on a database, given by its connection string. */
  open(url: string): Client;
}

/**
 * Installs and generates what is not there yet. Nothing is downloaded but packages: the compiler of queries is WebAssembly, and
 * the one native program, which makes migrations, is not needed (its place is taken by one that is never run).
 *
 * @returns why not, where the registry cannot be reached
 */
export async function preparePrisma(): Promise<Prisma | string> {
  if (onPath('npm').length === 0) {
    return 'needs npm';
  }
  mkdirSync(PRISMA_FOLDER, { recursive: true });
  const isCurrent = (name: string): boolean =>
    existsSync(join(PRISMA_FOLDER, name)) &&
    readFileSync(join(PRISMA_FOLDER, name), 'utf8') === readFileSync(join(FIXTURE, name), 'utf8');
  const installed = existsSync(join(PRISMA_FOLDER, 'node_modules/.package-lock.json'));
  if (!installed || !isCurrent('package-lock.json') || !isCurrent('package.json')) {
    copy('package.json', 'package-lock.json');
    const env = { ...process.env, PATH: `${dirname(NODE)}:${process.env.PATH}`, NODE_OPTIONS: '' };
    const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'];
    const patience = ['--fetch-retry-mintimeout=1000', '--fetch-retry-maxtimeout=5000'];
    const done = await run('npm', ['ci', ...options, ...patience], { cwd: PRISMA_FOLDER, env });
    const reason = offline(done);
    if (reason !== undefined) {
      return reason;
    }
    expectSuccess('npm ci', done);
  }
  if (!isCurrent('schema.prisma') || !existsSync(join(PRISMA_FOLDER, 'generated/client.ts'))) {
    copy('schema.prisma');
    const env = { ...process.env, PRISMA_SCHEMA_ENGINE_BINARY: process.execPath, CHECKPOINT_DISABLE: '1' };
    const prisma = ['node_modules/prisma/build/index.js', 'generate', '--schema', 'schema.prisma'];
    expectSuccess('prisma generate', await run(NODE, prisma, { cwd: PRISMA_FOLDER, env }));
  }
  const generated = pathToFileURL(join(PRISMA_FOLDER, 'generated/client.ts')).href;
  const adapter = pathToFileURL(join(PRISMA_FOLDER, 'node_modules/@prisma/adapter-pg/dist/index.mjs')).href;
  const { PrismaClient } = (await import(generated)) as { PrismaClient: new (options: object) => Client };
  const { PrismaPg } = (await import(adapter)) as { PrismaPg: new (options: object) => object };
  return { open: (url) => new PrismaClient({ adapter: new PrismaPg({ connectionString: url, max: 4 }) }) };
}

function copy(...names: string[]): void {
  for (const name of names) {
    copyFileSync(join(FIXTURE, name), join(PRISMA_FOLDER, name));
  }
}

function expectSuccess(command: string, { code, stdout, stderr }: Outcome): void {
  if (code !== 0) {
    throw new Error(`${command}: ${stdout}${stderr}`);
  }
}
