/** The light client as people get it: built and packed here, installed in an empty folder with nothing beside it. */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { type OutputChunk, rolldown } from 'rolldown';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { runKit } from '../support/conformance.ts';
import { copySources, machineNode, nodeVersion, onPath, ROOT, readJson, run } from '../support/source-copy.ts';

/** Of what an application that connects has to load at once: minified, and by gzip. */
const SIZE_LIMIT = 20_000;

const work = mkdtempSync(join(tmpdir(), 'dekd-light-'));
const clone = join(work, 'clone');
const built = join(clone, 'dist/client-package');
const app = join(work, 'app');
const installed = join(app, 'node_modules/dekd-client');
const env = { ...process.env, NODE_OPTIONS: '', DEKD_SOCKET: '' };

/** Why there is nothing to test; empty when there is. */
let missing = '';
let tarball = '';
let mainTarball = '';
let agent: TestAgent;
/** This Node, and the one of the machine where that is another that the client takes. */
const nodes: string[] = [process.execPath];

async function packed(folder: string): Promise<string> {
  const done = await run('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', work], {
    cwd: folder,
    env,
  });
  expect(done.code, done.stdout + done.stderr).toBe(0);
  const [{ filename }] = JSON.parse(done.stdout) as [{ filename: string }];
  return join(work, filename);
}

beforeAll(async () => {
  if (onPath('npm').length === 0 || onPath('git').length === 0) {
    missing = 'needs npm and git';
    return;
  }
  const node = machineNode();
  if (node !== undefined) {
    const [major, minor] = await nodeVersion(node);
    if ((major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major > 22) {
      nodes.push(node);
    }
  }
  await copySources(clone);
  symlinkSync(join(ROOT, 'node_modules'), join(clone, 'node_modules'));
  const made = await run(process.execPath, ['native/build.mjs', '--dist'], { cwd: clone, env });
  expect(made.code, made.stdout + made.stderr).toBe(0);
  tarball = await packed(built);
  mainTarball = await packed(clone);
  mkdirSync(app);
  writeFileSync(join(app, 'package.json'), JSON.stringify({ name: 'app', private: true }));
  const done = await run('npm', ['install', '--offline', '--no-audit', '--no-fund', tarball], { cwd: app, env });
  expect(done.code, done.stdout + done.stderr).toBe(0);
  agent = await startTestAgent();
}, 120_000);

afterAll(async () => {
  await agent?.stop();
  rmSync(work, { recursive: true, force: true });
});

/** Runs a script in the application. @returns the JSON that it printed */
async function script(node: string, name: string, code: string, args: readonly string[] = []): Promise<unknown> {
  writeFileSync(join(app, name), code);
  const done = await run(node, [join(app, name), ...args], { cwd: app, env });
  // Node 20 says of `require` of a module that it is experimental.
  expect(done.stderr.replace(/^\(node:\d+\) ExperimentalWarning: .*\n\(Use .*\n/m, '')).toBe('');
  return JSON.parse(done.stdout);
}

const BODY = `
  const [socket] = process.argv.slice(2);
  const client = connect({ socket });
  const binding = { key: 'customers', partition: 'acme', context: { field: 'email' } };
  const token = await client.encryptText('ada@example.org', binding);
  const back = await client.decryptText(token, binding);
  const refused = await client.decryptText(token, { ...binding, context: { field: 'name' } }).catch((error) => error);
  const many = await client.encryptMany([Buffer.from('a'), Buffer.from('b')], binding);
  const body = new Response('streamed').body.pipeThrough(client.encryptWebStream(binding));
  const streamed = await new Response(body.pipeThrough(client.decryptWebStream(binding))).text();
  const large = await client.decryptLarge(await client.encryptLarge({ rows: [1, 2] }, binding), binding);
  const file = process.argv[1];
  await client.encryptFile(file, file + '.dk', binding);
  const part = Buffer.from(await client.decryptRange(file + '.dk', { start: 0, end: 9 }, binding)).toString();
  const big = await client.decrypt(await client.encrypt(new Uint8Array(300_000), binding), binding);
  const { versions } = await client.keyInfo('customers', { partition: 'acme' });
  const { lane, reason } = client.capabilities;
  await client.close();
  console.log(JSON.stringify({
    prefix: token.slice(0, 4), back, is: DekdError.is(refused, 'DECRYPTION_FAILED'), many: many.map(({ ok }) => ok),
    streamed, large, part, big: big.length, versions: versions.length > 0, lane, reason,
  }));
`;
const ESM = `import { connect, DekdError } from 'dekd-client';\n${BODY}`;
const CJS = `const main = async () => { const { connect, DekdError } = require('dekd-client');\n${BODY}};\nmain();\n`;

const worked = (begins: string) => ({
  prefix: 'dk1.',
  back: 'ada@example.org',
  is: true,
  many: [true, true],
  streamed: 'streamed',
  large: { rows: [1, 2] },
  part: begins,
  big: 300_000,
  versions: true,
});
const ALONE = { lane: false, reason: expect.stringContaining('is not installed beside dekd-client') };

describe('dekd-client', () => {
  it('has the version, the engines and the entries of dekd, and no dependency', (context) => {
    context.skip(missing !== '', missing);
    const main = readJson(join(ROOT, 'package.json'));
    const light = readJson(join(built, 'package.json'));
    expect(light).toMatchObject({
      version: main.version,
      engines: main.engines,
      license: main.license,
      type: 'module',
      sideEffects: false,
    });
    expect(light.dependencies).toBeUndefined();
    const entries = Object.keys(main.exports as object).filter((name) => !['.', './testkit'].includes(name));
    expect(Object.keys(light.exports as object)).toEqual(entries.map((name) => (name === './client' ? '.' : name)));
    for (const [name, entry] of Object.entries(light.exports as Record<string, object | string>)) {
      const files = typeof entry === 'string' ? [entry] : Object.values(entry as Record<string, string>);
      expect([name, files.filter((file) => !existsSync(join(built, file)))]).toEqual([name, []]);
      expect(typeof entry === 'string' ? 'types' : Object.keys(entry)[0]).toBe('types');
    }
  });

  it.for([
    ['publint, the light client', 'publint', () => [tarball, '--strict']],
    ['publint, dekd', 'publint', () => [mainTarball, '--strict']],
    // That `require` gets a module of ECMAScript is meant: every Node that the packages run on can do that.
    ['attw, the light client', 'attw', () => [tarball, '--profile', 'node16', '--ignore-rules', 'cjs-resolves-to-esm']],
    ['attw, dekd', 'attw', () => [mainTarball, '--profile', 'node16', '--ignore-rules', 'cjs-resolves-to-esm']],
  ] as const)('passes %s', { timeout: 60_000 }, async ([, tool, args], context) => {
    context.skip(missing !== '', missing);
    const done = await run(process.execPath, [join(ROOT, 'node_modules/.bin', tool), ...args()], { cwd: work, env });
    expect(done.code, done.stdout + done.stderr).toBe(0);
  });

  it('is all that is installed', (context) => {
    context.skip(missing !== '', missing);
    const packages = readdirSync(join(app, 'node_modules')).filter((name) => !name.startsWith('.'));
    expect(packages).toEqual(['dekd-client']);
    const files = readdirSync(installed, { recursive: true, encoding: 'utf8' });
    expect(files.filter((file) => file.endsWith('.node') || file.includes('generated'))).toEqual([]);
  });

  it('works by import and by require, on every Node here', { timeout: 60_000 }, async (context) => {
    context.skip(missing !== '', missing);
    for (const node of nodes) {
      expect(await script(node, 'app.mjs', ESM, [agent.socket])).toEqual({ ...worked('import { '), ...ALONE });
      expect(await script(node, 'app.cjs', CJS, [agent.socket])).toEqual({ ...worked('const mai'), ...ALONE });
    }
  });

  it('passes the conformance kit', { timeout: 60_000 }, async (context) => {
    context.skip(missing !== '', missing);
    const results = await runKit([process.execPath, join(ROOT, 'test/support/conformance-client.ts')], {
      socket: agent.socket,
      client: pathToFileURL(join(installed, 'index.js')).href,
    });
    expect(results.filter(({ state }) => state !== 'passed')).toEqual([]);
  });

  it('says that it has no agent to start', async (context) => {
    context.skip(missing !== '', missing);
    const code = `
      import { connect } from 'dekd-client';
      const client = connect({ spawn: true, socket: '/nowhere/agent.sock' });
      const said = await client.ping().catch(({ code, message }) => [code, message]);
      await client.close();
      console.log(JSON.stringify(said));
    `;
    const said = await script(process.execPath, 'spawn.mjs', code);
    expect(said).toEqual(['UNSUPPORTED', expect.stringContaining('is not installed beside dekd-client')]);
  });

  it('takes the lane and a private agent from dekd beside it, where that is of the same version', async (context) => {
    context.skip(missing !== '', missing);
    const release = join(ROOT, 'build/Release');
    context.skip(!existsSync(join(release, 'addon.node')), 'the addon is not built');
    mkdirSync(join(clone, 'build/Release'), { recursive: true });
    copyFileSync(join(release, 'addon.node'), join(clone, 'build/Release/addon.node'));
    const beside = join(app, 'node_modules/dekd');
    symlinkSync(clone, beside);
    const code = `
      import { connect } from 'dekd-client';
      const client = connect({ spawn: true, socket: '/nowhere/agent.sock' });
      const buffer = await client.allocate(300_000);
      const token = await client.encrypt(buffer, { key: 'k' });
      const { length } = await client.decrypt(token.slice(), { key: 'k' });
      const { engine } = await client.ping();
      console.log(JSON.stringify([length, engine, client.capabilities]));
      await client.close();
    `;
    try {
      expect(await script(process.execPath, 'beside.mjs', code)).toEqual([300_000, 'native', { lane: true }]);
      const manifest = readFileSync(join(clone, 'package.json'), 'utf8');
      writeFileSync(join(clone, 'package.json'), manifest.replace(/"version": "[^"]*"/, '"version": "0.0.1"'));
      expect(await script(process.execPath, 'app.mjs', ESM, [agent.socket])).toMatchObject(ALONE);
      writeFileSync(join(clone, 'package.json'), manifest);
    } finally {
      unlinkSync(beside);
    }
  });

  it(`is at most ${SIZE_LIMIT} bytes of an application that was bundled, and works in it`, async (context) => {
    context.skip(missing !== '', missing);
    const minimal = join(app, 'minimal.mjs');
    writeFileSync(minimal, `import { connect } from 'dekd-client';\nexport default connect;\n`);
    const { atOnce, late } = await bundled(minimal, join(app, 'minimal'));
    console.log(`dekd-client, minified and by gzip: ${atOnce} bytes at once, ${late} more when they are needed`);
    expect(atOnce).toBeLessThanOrEqual(SIZE_LIMIT);
    writeFileSync(join(app, 'whole.mjs'), ESM);
    // Somewhere without the package.
    const moved = join(work, 'moved');
    await bundled(join(app, 'whole.mjs'), moved);
    const { code, stderr, stdout } = await run(process.execPath, [join(moved, 'whole.mjs'), agent.socket], {
      cwd: moved,
      env,
    });
    expect([code, stderr]).toEqual([0, '']);
    expect(JSON.parse(stdout)).toMatchObject({ back: 'ada@example.org', large: { rows: [1, 2] }, lane: false });
  });

  it.for([
    ['nodenext', 'nodenext'],
    ['esnext', 'bundler'],
  ])('has types that need no others, with module %s and resolution %s', async ([module, moduleResolution], context) => {
    context.skip(missing !== '', missing);
    writeFileSync(join(app, 'consumer.ts'), CONSUMER);
    const compilerOptions = {
      module,
      moduleResolution,
      target: 'es2022',
      lib: ['es2022', 'esnext.disposable', 'dom'],
      types: [],
      strict: true,
      skipLibCheck: false,
      noEmit: true,
    };
    const config = join(app, `tsconfig.${moduleResolution}.json`);
    writeFileSync(config, JSON.stringify({ compilerOptions, files: ['consumer.ts'] }));
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
    const done = await run(process.execPath, [tsc, '-p', config, '--listFiles'], { cwd: app });
    expect(done.code, done.stdout).toBe(0);
    const read = done.stdout.split('\n').filter((file) => /node_modules\/(?!typescript\/|@typescript\/)/.test(file));
    expect(read.filter((file) => !file.startsWith(`${installed}/`) && !file.startsWith(ROOT))).toEqual([]);
  });
});

/** Bytes of what an application loads with its entry, and of what it loads later; minified, each file by gzip. */
async function bundled(input: string, folder: string): Promise<{ atOnce: number; late: number }> {
  const bundle = await rolldown({ input, platform: 'node', cwd: app });
  const { output } = await bundle.write({ dir: folder, entryFileNames: '[name].mjs', minify: true });
  await bundle.close();
  const chunks = output.filter((each): each is OutputChunk => each.type === 'chunk');
  const atOnce = new Set(chunks.filter(({ isEntry }) => isEntry).map(({ fileName }) => fileName));
  for (const name of atOnce) {
    for (const imported of chunks.find(({ fileName }) => fileName === name)?.imports ?? []) {
      atOnce.add(imported);
    }
  }
  const size = (some: OutputChunk[]) => some.reduce((sum, { code }) => sum + gzipSync(code, { level: 9 }).length, 0);
  return {
    atOnce: size(chunks.filter(({ fileName }) => atOnce.has(fileName))),
    late: size(chunks.filter(({ fileName }) => !atOnce.has(fileName))),
  };
}

const CONSUMER = `
import { connect, DekdError, type DekdClient, type EncryptOptions, type ErrorCode, type ManyResult } from 'dekd-client';

const client: DekdClient = connect({ timeoutMs: 5 });
const options: EncryptOptions = { key: 'k', context: { field: 'a' } };
export async function use(): Promise<ErrorCode[]> {
  const token: Uint8Array = await client.encrypt(new Uint8Array(1), options);
  const many: ManyResult[] = await client.encryptMany([token]);
  // @ts-expect-error the key is a name
  await client.encrypt(token, { key: 1 });
  return many.flatMap((each) => (each.ok ? [] : [each.error.code]));
}
export const conflict = (error: unknown): boolean => DekdError.is(error, 'CONFLICT');
`;
