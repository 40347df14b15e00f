/** examples/function-handler: keys exported from another agent, and instances that know nothing but those. */
import { spawn } from 'node:child_process';
import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { NODE } from '../support/agent.ts';
import { formsFound } from '../support/canary.ts';
import { compileErrors, exampleEnvironment, installExample } from '../support/example.ts';
import { run } from '../support/source-copy.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';

const CARD = '4111-1111-1111-1111';
const BEFORE = { id: 'before', card: '' };

describe('examples/function-handler', () => {
  const folder = makeFolder();
  const mount = join(folder, 'keys');
  const bundle = join(mount, 'keys.json');
  const root = join(mount, 'root.key');
  const dekd = join(folder, 'node_modules/.bin/dekd');
  const env = exampleEnvironment(folder, {
    DEKD_KEYSTORE_PATH: bundle,
    DEKD_ROOTS_MAIN_KEY_FILE: root,
    TMPDIR: folder,
  });

  beforeAll(async () => {
    installExample('function-handler', folder);
    // As a person runs them, but for the install, which is done.
    const readme = readFileSync(join(folder, 'README.md'), 'utf8');
    const commands = Array.from(readme.matchAll(/^```sh\n(.*?)^```/gms), ([, block]) => block!).join('');
    const plain = exampleEnvironment(folder, { TMPDIR: folder });
    const shell = await run('sh', ['-e', '-c', commands.replace(/^npm install\n/, '')], { cwd: folder, env: plain });
    expect(shell.code, shell.stdout + shell.stderr).toBe(0);
    expect(shell.stdout).toMatch(/^\{"id":"1","card":"dk1\.[\w-]+"\}$/m);
    expect(shell.stderr).toMatch(/^\{"message":"cold start","initMs":\d+,"firstEventMs":\d+,/m);

    // The agent that made the keys, and has no part in what follows.
    const socket = join(folder, 'keys/agent.sock');
    const maker = { ...env, DEKD_KEYSTORE_KIND: 'sqlite', DEKD_KEYSTORE_PATH: join(folder, 'keys/keys.sqlite') };
    const agent = spawn(dekd, ['run', '--config', 'config.yaml', '--socket', socket], {
      cwd: folder,
      env: maker,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      for await (const text of agent.stdout.setEncoding('utf8')) {
        if (text.includes('agent ready')) {
          break;
        }
      }
      const binding = ['--context', 'order=before', '--context', 'field=card'];
      const sealed = await run(dekd, ['encrypt', '--socket', socket, '--key', 'orders', ...binding, CARD], {
        cwd: folder,
        env,
      });
      expect(sealed.code, sealed.stderr).toBe(0);
      BEFORE.card = sealed.stdout.trim();
    } finally {
      agent.kill('SIGTERM');
    }
    chmodSync(bundle, 0o444);
  }, 120_000);

  afterAll(() => {
    removeFolder(folder);
  });

  /** An instance from its cold start to its end. @returns results, one an event, and the log */
  async function instance(
    events: readonly object[],
    changes: NodeJS.ProcessEnv = {},
  ): Promise<{ results: Record<string, string>[]; log: string; code: number | null }> {
    const child = spawn(NODE, ['local.ts'], { cwd: folder, env: { ...env, ...changes } });
    let log = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      log += text;
    });
    const closed = new Promise<number | null>((resolve) => child.once('close', resolve));
    child.stdin.on('error', () => {});
    child.stdin.end(events.map((event) => `${JSON.stringify(event)}\n`).join(''));
    const results: Record<string, string>[] = [];
    for await (const line of createInterface({ input: child.stdout })) {
      results.push(JSON.parse(line));
    }
    return { results, log, code: await closed };
  }

  it('compiles', async () => {
    expect(await compileErrors(folder, ['local.ts'])).toBe('');
  });

  it('seals and opens in instances that never met, with nothing but the bundle, and leaves it as it was', async () => {
    const keys = readFileSync(bundle);
    const seal = { seal: { id: '1', card: CARD } };
    const [one, two] = await Promise.all([instance([seal, { open: BEFORE }]), instance([seal])]);
    expect([one.code, two.code], one.log + two.log).toEqual([0, 0]);
    expect(one.results).toEqual([
      { id: '1', card: expect.stringMatching(/^dk1\./) },
      { id: 'before', card: CARD },
    ]);
    expect(one.results[0]!.card).not.toBe(two.results[0]!.card);

    const open = (card: string, id = '1') => ({ open: { id, card } });
    const other = await instance([
      open(one.results[0]!.card!),
      open(two.results[0]!.card!),
      open(one.results[0]!.card!, '2'),
    ]);
    expect(other.results).toEqual([{ id: '1', card: CARD }, { id: '1', card: CARD }, { error: 'DECRYPTION_FAILED' }]);
    expect(readFileSync(bundle)).toEqual(keys);
    expect(formsFound(Buffer.concat([keys, Buffer.from(one.log + two.log + other.log)]), CARD)).toEqual([]);
  });

  it('says what a cold start took, with an agent on the native engine', async () => {
    const { log } = await instance([{ seal: { id: '1', card: CARD } }]);
    const lines = log.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []));
    const measured = lines.find(({ message }) => message === 'cold start');
    expect(measured).toEqual({
      message: 'cold start',
      initMs: expect.any(Number),
      firstEventMs: expect.any(Number),
      processMs: expect.any(Number),
    });
    // Time to load, start the agent and answer the first event; far above what it takes on a machine with nothing else to do.
    expect(measured.processMs).toBeLessThan(10_000);
    console.info(`cold start of examples/function-handler: ${JSON.stringify(measured)}`);
    expect(lines).toContainEqual(expect.objectContaining({ message: 'agent ready', engine: 'native' }));
  });

  it('has a configuration that draws each nonce anew, reads a bundle, and goes to a KMS by the line that it names', () => {
    const text = readFileSync(join(folder, 'config.yaml'), 'utf8');
    const { config } = parseConfig(text, { env: {} });
    expect([config.randomness, config.keystores.get('default')?.kind]).toEqual(['snapshot-safe', 'bundle']);
    const kms = /^#( {3}main: .*)$/m.exec(text)![1]!;
    const withKms = parseConfig(text.replace(/^ {2}main: .*$/m, kms.slice(1)), { env: {} });
    expect([...withKms.config.roots.values()].map(({ provider }) => provider)).toEqual(['aws-kms']);
  });

  it('does not start without its root, or with another, and says why', async () => {
    const none = await instance([{ open: BEFORE }], { DEKD_ROOTS_MAIN_KEY_FILE: join(folder, 'none.key') });
    expect(none).toMatchObject({ results: [], code: 1 });
    expect(none.log).toContain('none.key');
    const another = join(folder, 'another.key');
    expect((await run(dekd, ['keygen', '-o', another], { cwd: folder, env })).code).toBe(0);
    const other = await instance([{ open: BEFORE }], { DEKD_ROOTS_MAIN_KEY_FILE: another });
    expect(other).toMatchObject({ results: [], code: 1 });
  });
});
