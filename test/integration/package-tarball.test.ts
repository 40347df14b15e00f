/** The package as people get it: packed here, installed in an empty folder, used from there. */
import { spawn } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runYaml } from '../support/agent.ts';
import { KmsServer } from '../support/kms-server/kms-server.ts';
import { codeIn } from '../support/page-code.ts';
import { childrenOf } from '../support/processes.ts';
import {
  copySources,
  machineNode,
  nodeVersion,
  offline,
  onPath,
  pathWithoutCompilers,
  plainEnv,
  ROOT,
  readJson,
  run,
} from '../support/source-copy.ts';
import { startDev } from '../support/started-agent.ts';

const PACKED_LIMIT = 1024 * 1024;

const work = mkdtempSync(join(tmpdir(), 'dekd-pack-'));
const app = join(work, 'app');
const installed = join(app, 'node_modules/dekd');
const command = join(app, 'node_modules/.bin/dekd');
const socket = join(work, 'agent.sock');
const env = plainEnv(join(work, 'bin'), work);

/** Why there is nothing to test; empty when there is. */
let missing = '';
let tarball = '';
let files: string[] = [];

/** A Node that is new enough for the client and too old for the agent. */
let olderNode: string | undefined;
const NO_OLDER_NODE = 'no Node from 20.19 and before 24.15 is on PATH';

async function pack(): Promise<void> {
  const clone = join(work, 'clone');
  await copySources(clone);
  symlinkSync(join(ROOT, 'node_modules'), join(clone, 'node_modules'));
  // The addon of this tree, where it is of these very sources; else packing builds it.
  const release = join(ROOT, 'build/Release');
  if (existsSync(join(release, 'addon.sources'))) {
    mkdirSync(join(clone, 'build/Release'), { recursive: true });
    for (const name of ['addon.node', 'addon.sources']) {
      copyFileSync(join(release, name), join(clone, 'build/Release', name));
    }
  }
  const path = [dirname(process.execPath), process.env.PATH].join(delimiter);
  const packed = await run('npm', ['pack', '--pack-destination', work], {
    cwd: clone,
    env: { ...process.env, PATH: path, NODE_OPTIONS: '' },
  });
  expect(packed.code, packed.stdout + packed.stderr).toBe(0);
  const { version } = readJson(join(ROOT, 'package.json'));
  tarball = join(work, `dekd-${version}.tgz`);
  const listed = await run('tar', ['-tzf', tarball], { cwd: work });
  files = listed.stdout.split('\n').flatMap((line) => (line === '' ? [] : [line.replace(/^package\//, '')]));
}

async function install(): Promise<void> {
  pathWithoutCompilers(join(work, 'bin'), process.execPath);
  mkdirSync(app);
  writeFileSync(join(app, 'package.json'), JSON.stringify({ name: 'app', private: true, type: 'module' }));
  // A registry that does not answer is said so before the time of this hook is over.
  const patience = ['--fetch-retry-mintimeout=1000', '--fetch-retry-maxtimeout=5000'];
  const done = await run('npm', ['install', '--ignore-scripts', ...patience, tarball], { cwd: app, env });
  missing = offline(done) ?? '';
  if (missing === '') {
    expect(done.code, done.stdout + done.stderr).toBe(0);
  }
}

beforeAll(async () => {
  if (process.platform !== 'linux' || onPath('npm').length === 0 || onPath('git').length === 0) {
    missing = 'needs linux, npm and git';
    return;
  }
  const node = machineNode();
  if (node !== undefined) {
    const [major, minor] = await nodeVersion(node);
    const clientRuns = major > 20 || (major === 20 && minor >= 19);
    olderNode = clientRuns && (major < 24 || (major === 24 && minor < 15)) ? node : undefined;
  }
  await pack();
  await install();
}, 120_000);

afterAll(() => {
  rmSync(work, { recursive: true, force: true });
});

/** A script with the installed package, on a Node of choice. @returns the JSON that it printed */
async function script(node: string, code: string, args: readonly string[] = []): Promise<unknown> {
  const file = join(app, 'script.mjs');
  writeFileSync(file, code);
  const done = await run(node, [file, ...args], { cwd: app, env });
  expect(done.stderr).toBe('');
  return JSON.parse(done.stdout);
}

const ROUND_TRIP = `
import { connect, connectSync, DekdError } from 'dekd/client';
const [socket] = process.argv.slice(2);
const client = connect({ socket });
const binding = { key: 'customers', partition: 'acme', context: { field: 'email' } };
const token = await client.encryptText('ada@example.org', binding);
const back = await client.decryptText(token, binding);
const refused = await client.decryptText(token, { ...binding, context: { field: 'name' } }).catch((error) => error);
const many = await client.encryptMany([Buffer.from('a'), Buffer.from('b')], binding);
const body = new Response('streamed').body.pipeThrough(client.encryptWebStream(binding));
const streamed = await new Response(body.pipeThrough(client.decryptWebStream(binding))).text();
const { engine } = await client.ping();
const blocking = connectSync({ socket });
const blocked = blocking.decryptText(blocking.encryptText(back, binding), binding) === blocking.decryptText(token, binding);
await client[Symbol.asyncDispose]();
const is = DekdError.is(refused, 'DECRYPTION_FAILED');
console.log(JSON.stringify({ prefix: token.slice(0, 4), back, is, many: many.map(({ ok }) => ok), streamed, blocked, engine }));
`;

const SPAWN = `
import { connect } from 'dekd/client';
const [socket, timeoutMs] = process.argv.slice(2);
const client = connect({ spawn: true, socket, timeoutMs: Number(timeoutMs) });
const answer = await client.ping().then(({ engine }) => engine, ({ code, message }) => code + ' ' + message);
await client.close();
console.log(JSON.stringify(answer));
`;

const WORKED = {
  prefix: 'dk1.',
  back: 'ada@example.org',
  is: true,
  many: [true, true],
  streamed: 'streamed',
  blocked: true,
  engine: 'native',
};

describe('the tarball', () => {
  it('carries the compiled package, the addon, the wire and the documents, and no source, test or build', (context) => {
    context.skip(files.length === 0, missing);
    const expected =
      /^(dist\/.+\.(js|d\.ts)|dist\/cli\/LICENSES\.txt|prebuilds\/linux-\w+\.node|proto\/(dekd\.proto|README\.md|conformance\/.+)|docs\/.+|[^/]+)$/;
    expect(files.filter((file) => !expected.test(file))).toEqual([]);
    expect(
      files.filter((file) => !file.includes('/') && !/^(package\.json|sbom\.cdx\.json|[A-Z]+(\.md)?)$/.test(file)),
    ).toEqual([]);
    expect(files).toEqual(
      expect.arrayContaining([
        'dist/index.js',
        'dist/index.d.ts',
        'dist/client/index.js',
        'dist/client/index.d.ts',
        'dist/cli/main.js',
        'dist/cli/LICENSES.txt',
        'dist/custody/custodian.js',
        'dist/pool/worker.js',
        'dist/providers/pkcs11/thread.js',
        `prebuilds/linux-${process.arch}.node`,
        'proto/dekd.proto',
        'sbom.cdx.json',
        'LICENSE',
        'README.md',
      ]),
    );
    expect(statSync(tarball).size).toBeLessThan(PACKED_LIMIT);
  });

  it('gives npm nothing to build or to run at install', (context) => {
    context.skip(missing !== '', missing);
    const { scripts, gypfile } = readJson(join(installed, 'package.json')) as {
      scripts: Record<string, string>;
      gypfile: boolean;
    };
    expect(Object.keys(scripts).filter((name) => /^(pre|post)?install$/.test(name))).toEqual([]);
    // npm rebuilds a dependency with a binding.gyp whatever its manifest says about it.
    expect(files.filter((file) => file.endsWith('.gyp'))).toEqual([]);
    expect(gypfile).toBe(false);
  });

  it('has its addon stripped of symbols', (context) => {
    context.skip(missing !== '', missing);
    const addon = readFileSync(join(installed, `prebuilds/linux-${process.arch}.node`));
    expect(addon.subarray(0, 4)).toEqual(Buffer.from('\x7fELF', 'latin1'));
    expect(addon.includes('.symtab\0')).toBe(false);
  });
});

describe('the package in an empty folder, with no compiler about', () => {
  it('answers --version and --help', async (context) => {
    context.skip(missing !== '', missing);
    const version = await run(command, ['--version'], { cwd: app, env });
    expect(version).toEqual({ code: 0, stdout: `${readJson(join(ROOT, 'package.json')).version}\n`, stderr: '' });
    const help = await run(command, ['--help'], { cwd: app, env });
    expect(help).toMatchObject({ code: 0, stderr: '' });
    expect(help.stdout).toContain('Usage: dekd');
  });

  it('runs an agent on the native engine, and its client talks to it', async (context) => {
    context.skip(missing !== '', missing);
    await using agent = await startDev([command, 'dev', '--ephemeral', '--json', '--socket', socket], {
      cwd: app,
      env,
    });
    expect(agent.ready.engine).toBe('native');
    expect(await script(process.execPath, ROUND_TRIP, [socket])).toEqual(WORKED);
  });

  it('runs the code of README.md and of the pages about the client as it stands there', async (context) => {
    context.skip(missing !== '', missing);
    await using _agent = await startDev([command, 'dev', '--ephemeral', '--json', '--socket', socket], {
      cwd: app,
      env,
    });
    writeFileSync(join(app, 'in'), 'a file');
    for (const [page, says] of [
      ['README.md', 'ada@example.org 59 59 59\n'],
      ['docs/client.md', 'any body\n'],
      ['docs/helpers.md', 'a report\n'],
      ['docs/migration.md', 'ada true\n'],
      ['docs/fields.md', "field 'cards[0].pan': decryption failed\ntrue false\n4111 1111 2\n"],
      ['docs/service.md', '4111 1111 4111 1111 ada@example.org true 3a985da7\n'],
    ] as const) {
      writeFileSync(join(app, 'page.mts'), codeOf(page));
      const ran = await run(process.execPath, ['page.mts'], { cwd: app, env: { ...env, DEKD_SOCKET: socket } });
      expect([page, ran]).toEqual([page, { code: 0, stdout: says, stderr: '' }]);
    }
    expect(readFileSync(join(app, 'out'), 'utf8')).toBe('a file');
  });

  it('runs an agent whose root is in a KMS, with the library in a process of its own', async (context) => {
    context.skip(missing !== '', missing);
    const kms = await KmsServer.start();
    const config = join(work, 'config.yaml');
    const roots = `{ aws: { provider: aws-kms, aws: { key: "${kms.createKey().arn}", endpoint: "${kms.endpoint}" } } }`;
    writeFileSync(
      config,
      runYaml()
        .replace(/^roots: .*$/m, `roots: ${roots}`)
        .replaceAll('FOLDER', work),
    );
    const child = spawn(command, ['run', '--config', config], { cwd: app, env: { ...env, ...kms.environment() } });
    try {
      let said = '';
      for await (const text of child.stdout.setEncoding('utf8')) {
        said += text;
        if (said.includes('agent ready')) {
          break;
        }
      }
      expect(said).toContain('"engine":"native"');
      expect(await script(process.execPath, ROUND_TRIP, [join(work, 's/agent.sock')])).toEqual(WORKED);
      const [custodian] = childrenOf(child.pid!);
      expect(readFileSync(`/proc/${custodian}/cmdline`, 'utf8')).toContain(
        join(installed, 'dist/custody/custodian.js'),
      );
    } finally {
      child.kill('SIGKILL');
      await kms.stop();
    }
  });

  it('has a client that works on a Node too old for the agent', async (context) => {
    context.skip(missing !== '', missing);
    context.skip(olderNode === undefined, NO_OLDER_NODE);
    await using _agent = await startDev([command, 'dev', '--ephemeral', '--json', '--socket', socket], {
      cwd: app,
      env,
    });
    expect(await script(olderNode!, ROUND_TRIP, [socket])).toEqual(WORKED);
  });

  it('tells a Node that is too old for the agent so, in one line', async (context) => {
    context.skip(missing !== '', missing);
    context.skip(olderNode === undefined, NO_OLDER_NODE);
    for (const args of [['dev', '--ephemeral'], ['--version']]) {
      const refused = await run(olderNode!, [command, ...args], { cwd: app, env });
      expect(refused).toMatchObject({ code: 5, stdout: '' });
      expect(refused.stderr).toMatch(/^dekd: Node 24\.15 or newer is needed; this is v\d+\.\d+\.\d+\n$/);
    }
  });

  it('starts a private agent for connect({ spawn: true })', async (context) => {
    context.skip(missing !== '', missing);
    expect(await script(process.execPath, SPAWN, [join(work, 'none.sock'), '20000'])).toBe('native');
  });

  it('starts an agent for the tests of an application', async (context) => {
    context.skip(missing !== '', missing);
    const code = `
      import { createTestAgent } from 'dekd/testkit';
      const agent = await createTestAgent();
      console.log(JSON.stringify((await agent.connect().ping()).engine));
    `;
    expect(await script(process.execPath, code)).toBe('native');
  });

  it('measures a module of its user beside a private agent', async (context) => {
    context.skip(missing !== '', missing);
    const own = "export const encrypt = (bytes) => Buffer.from(bytes).toString('hex');\n";
    writeFileSync(join(app, 'mine.mjs'), own);
    const args = ['bench', '--private', '--quick', '--sizes', '64', '--against', './mine.mjs', '--json'];
    const done = await run(command, args, { cwd: app, env });
    expect(done).toMatchObject({ code: 0, stderr: '' });
    const { agent, figures } = JSON.parse(done.stdout) as { agent: { engine: string }; figures: { of: string }[] };
    expect(agent.engine).toBe('native');
    expect(figures.map(({ of }) => of)).toEqual(['baseline', 'dekd', 'dekd', 'dekd', 'dekd', 'own']);
  });

  it('says what is wrong where Node is too old for a private agent', async (context) => {
    context.skip(missing !== '', missing);
    context.skip(olderNode === undefined, NO_OLDER_NODE);
    const said = await script(olderNode!, SPAWN, [join(work, 'none.sock'), '4000']);
    expect(said).toMatch(/^AGENT_UNAVAILABLE .*Node 24\.15 or newer is needed/);
  });

  it('loads no package but protobufjs for the client, and no native code', async (context) => {
    context.skip(missing !== '', missing);
    const code = `
      import { registerHooks } from 'node:module';
      const packages = new Set();
      registerHooks({
        load(url, context, next) {
          const found = /\\/node_modules\\/((?:@[^/]+\\/)?[^/]+)\\/(?!.*\\/node_modules\\/)/.exec(url);
          if (found) packages.add(found[1]);
          if (url.endsWith('.node')) packages.add(url);
          return next(url, context);
        },
      });
      await import('dekd/client');
      console.log(JSON.stringify([...packages].sort()));
    `;
    // long is what protobufjs itself brings.
    expect(await script(process.execPath, code)).toEqual(['dekd', 'long', 'protobufjs']);
  });

  it('exports the client, the error and its codes from both doors, and nothing else', async (context) => {
    context.skip(missing !== '', missing);
    const code = `
      const doors = await Promise.all(['dekd', 'dekd/client'].map((door) => import(door)));
      const closed = await import('dekd/dist/crypto/load.js').catch(({ code }) => code);
      console.log(JSON.stringify([...doors.map((door) => Object.keys(door)), closed]));
    `;
    const names = ['DekdError', 'ERROR_CODES', 'connect', 'connectSync', 'keyIdOf'];
    expect(await script(process.execPath, code)).toEqual([names, names, 'ERR_PACKAGE_PATH_NOT_EXPORTED']);
  });
});

/** The code of a page, one block behind the other. */
function codeOf(page: string): string {
  return codeIn(readFileSync(join(installed, page), 'utf8'));
}

const CONSUMER = `
import { connect, DekdError, type ErrorCode, ERROR_CODES, type Keystore, type KeyRecord, type Provider } from 'dekd';
import { type Credentials, credentials, type StoredCredentials } from 'dekd/migration';
import { OneShotSecrets, type OneShotStore, PaginationTokens, StorageTransformer } from 'dekd/helpers';
import { type BenchModule, connect as light, connectSync, type DekdClient, type EncryptOptions, type ManyResult } from 'dekd/client';
import { createTestAgent, type TestAgent } from 'dekd/testkit';

const client: DekdClient = light({ timeoutMs: 5 });
const options: EncryptOptions = { key: 'k', context: { field: 'a' } };
export async function use(): Promise<boolean> {
  const token: Uint8Array = await client.encrypt(new Uint8Array(1), options);
  const many: ManyResult[] = await connect().encryptMany([token, { data: token, key: 'x' }]);
  const codes: ErrorCode[] = many.flatMap((each) => (each.ok ? [] : [each.error.code]));
  // @ts-expect-error the key is a name
  await client.encrypt(token, { key: 1 });
  // @ts-expect-error decrypt names the key it expects, or says that any will do
  await client.decrypt(token, {});
  return codes.some((code) => ERROR_CODES[code].retryable);
}
export async function help(store: OneShotStore): Promise<number | string> {
  const pages = new PaginationTokens<{ after: number }, 'user'>(client, { key: 'k', kind: 'k', bindTo: ['user'] });
  // @ts-expect-error the context is missing
  await pages.issue({ after: 1 });
  const { after } = await pages.read('token', { context: { user: 'u' } });
  for await (const piece of new StorageTransformer(client, { key: 'k', store: { put: async () => {}, get: async () => [] as never } }).download('a')) {
    return piece.length + after;
  }
  return new OneShotSecrets(client, { key: 'k', store }).take('link');
}
const old: Credentials = credentials(client, { key: 'k', stage: 'write', plaintext: { until: '2030-01-01' } });
export const saved = (): Promise<StoredCredentials> => old.encryptCredentials({ user: 'ada' }, { context: { row: '1' } });
// @ts-expect-error a stage is said
export const unstaged = (): Credentials => credentials(client, { key: 'k' });
export function block(): string {
  using blocking = connectSync();
  // @ts-expect-error a call that blocks cannot be aborted
  blocking.encrypt(new Uint8Array(1), { ...options, signal: AbortSignal.abort() });
  return blocking.decryptText(blocking.encryptText('text', options), { anyKey: true });
}
export async function test(): Promise<string> {
  const agent: TestAgent = await createTestAgent({ keep: true, config: { keys: [] } });
  await agent.rotate('k', { partition: 'p' });
  return agent.connect({ timeoutMs: 5 }).encryptText(agent.env.DEKD_SOCKET, options);
}
export const own: BenchModule = { encrypt: async (bytes) => bytes.slice().reverse(), decrypt: () => new ArrayBuffer(1) };
export class Store {
  readonly #inner: Keystore;
  constructor(inner: Keystore, readonly provider: Provider) {
    this.#inner = inner;
  }
  first(): Promise<KeyRecord | undefined> {
    return this.#inner.retrieve(new Uint8Array(16));
  }
}
export const conflict = (error: unknown): boolean => DekdError.is(error, 'CONFLICT');
`;

describe('the types', () => {
  it.for([
    ['nodenext', 'nodenext'],
    ['node16', 'node16'],
    ['esnext', 'bundler'],
  ])(
    'compile in a project with module %s and resolution %s, and lead to nothing generated',
    async ([module, moduleResolution], context) => {
      context.skip(missing !== '', missing);
      writeFileSync(join(app, 'consumer.ts'), CONSUMER);
      // What its lines say does not compile, does not.
      writeFileSync(join(app, 'fields.mts'), codeOf('docs/fields.md'));
      const compilerOptions = {
        module,
        moduleResolution,
        target: 'es2022',
        // AbortSignal comes with the DOM, or with the types of Node.
        lib: ['es2023', 'esnext.disposable', 'dom'],
        types: [],
        strict: true,
        skipLibCheck: false,
        noEmit: true,
      };
      const config = join(app, `tsconfig.${moduleResolution}.json`);
      writeFileSync(config, JSON.stringify({ compilerOptions, files: ['consumer.ts', 'fields.mts'] }));
      const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
      const done = await run(process.execPath, [tsc, '-p', config, '--listFiles'], { cwd: app });
      expect(done.code, done.stdout).toBe(0);
      const read = done.stdout
        .split('\n')
        .filter((file) => file.includes('node_modules/') && !file.includes('/typescript'));
      expect(read.length).toBeGreaterThan(0);
      expect(read.filter((file) => !file.startsWith(`${installed}/dist/`) || file.includes('generated'))).toEqual([]);
    },
  );
});

describe('the client', () => {
  it('uses no interface newer than Node 20', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'dekd-lib-'));
    const config = join(folder, 'tsconfig.json');
    const compilerOptions = {
      // What Node 20.19 has: es2023, isWellFormed and toWellFormed of es2024, and the symbols for disposal.
      lib: ['es2023', 'es2024.string', 'esnext.disposable'],
      typeRoots: [join(ROOT, 'node_modules/@types')],
    };
    const files = ['client', 'helpers', 'migration'].map((door) => join(ROOT, 'src', door, 'index.ts'));
    writeFileSync(
      config,
      JSON.stringify({ extends: join(ROOT, 'tsconfig.json'), compilerOptions, files, include: [] }),
    );
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
    const done = await run(process.execPath, [tsc, '-p', config], { cwd: folder });
    rmSync(folder, { recursive: true });
    expect(done).toMatchObject({ code: 0, stdout: '' });
  });
});
