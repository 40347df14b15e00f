import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { createTestAgent, type TestAgent, type TestAgentOptions } from '../../src/testkit/index.ts';
import { NODE } from '../support/agent.ts';
import { isRunning } from '../support/processes.ts';
import { refusalOf } from '../support/refusal.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const TESTKIT = fileURLToPath(new URL('../../src/testkit/index.ts', import.meta.url));
const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
const KEY = { key: 'k' };

async function start(options: TestAgentOptions = {}): Promise<TestAgent> {
  const agent = await createTestAgent({ node: NODE, ...options });
  onTestFinished(() => agent.close());
  return agent;
}

async function codeOf(call: Promise<unknown>): Promise<string> {
  return (await refusalOf(call)).code;
}

describe('a test agent', () => {
  it('serves on a socket of this user alone, and leaves nothing when it is closed', async () => {
    const agent = await createTestAgent({ node: NODE });
    const folder = dirname(agent.socket);
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    const dekd = agent.connect();
    const token = await dekd.encryptText('a', KEY);
    expect(await connect({ socket: agent.env.DEKD_SOCKET }).decryptText(token, KEY)).toBe('a');
    const { pid } = agent;
    await agent.close();
    expect(isRunning(pid)).toBe(false);
    expect(existsSync(folder)).toBe(false);
    expect(await codeOf(dekd.encryptText('a', KEY))).toBe('AGENT_UNAVAILABLE');
    await agent.close();
  });

  it('is one of several, none of which opens what another made', async () => {
    const agents = await Promise.all(Array.from({ length: 4 }, () => start()));
    const clients = agents.map((agent) => agent.connect());
    const tokens = await Promise.all(clients.map((client) => client.encryptText('own', KEY)));
    expect(await Promise.all(clients.map((client, index) => client.decryptText(tokens[index]!, KEY)))).toEqual(
      tokens.map(() => 'own'),
    );
    expect(await codeOf(clients[0]!.decryptText(tokens[1]!, KEY))).toBe('DECRYPTION_FAILED');
  });

  it('forgets its keys when it is restarted, and has them still where it was told to keep them', {
    timeout: 60_000,
  }, async () => {
    for (const keep of [false, true]) {
      const agent = await start({ keep });
      const dekd = agent.connect();
      const token = await dekd.encryptText('before', KEY);
      const { socket, pid } = agent;
      await agent.kill();
      const waiting = dekd.decryptText(token, KEY).catch(({ code }) => code);
      await agent.restart();
      expect(await waiting).toBe(keep ? 'before' : 'DECRYPTION_FAILED');
      await agent.restart();
      expect(await dekd.decryptText(token, KEY).catch(({ code }) => code)).toBe(keep ? 'before' : 'DECRYPTION_FAILED');
      expect(agent.socket).toBe(socket);
      expect(agent.pid).not.toBe(pid);
    }
  });

  it('rotates, disables and enables keys', async () => {
    const agent = await start();
    const dekd = agent.connect();
    const partitioned = { key: 'k', partition: 'acme' };
    const token = await dekd.encryptText('a', partitioned);
    await agent.rotate('k', { partition: 'acme' });
    expect((await dekd.keyInfo('k', partitioned)).versions.map(({ state }) => state)).toEqual([
      'deactivated',
      'active',
    ]);
    await agent.disable('k', { partition: 'acme' });
    expect(await codeOf(dekd.encryptText('a', partitioned))).toBe('KEY_DISABLED');
    await agent.enable('k', { partition: 'acme' });
    expect(await dekd.decryptText(token, partitioned)).toBe('a');
    expect(await codeOf(agent.rotate('never-made'))).toBe('KEY_NOT_FOUND');
  });

  it('answers nothing while it is paused, and is closed all the same', async () => {
    const agent = await start();
    const dekd = agent.connect({ timeoutMs: 300 });
    await dekd.ping({ timeoutMs: 10_000 });
    agent.pause();
    expect(await codeOf(dekd.ping())).toBe('DEADLINE_EXCEEDED');
    agent.resume();
    await dekd.ping({ timeoutMs: 10_000 });
    agent.pause();
  });

  it('says that it is not running where a key is to be rotated', async () => {
    const agent = await start();
    await agent.kill();
    await expect(agent.rotate('k')).rejects.toMatchObject({ code: 'AGENT_UNAVAILABLE', message: /restart it first/ });
    await agent.restart();
    await agent.connect().encryptText('a', KEY);
    await agent.rotate('k');
  });

  it('takes sections of a configuration, as an object or as YAML, over its own', async () => {
    const keys = [{ name: 'k', requiredContext: ['row'] }];
    for (const config of [{ keys }, 'keys:\n  - name: k\n    requiredContext: [row]\n']) {
      const dekd = (await start({ config })).connect();
      expect(await codeOf(dekd.encryptText('a', KEY))).toBe('INVALID_ARGUMENT');
      await dekd.encryptText('a', { ...KEY, context: { row: '1' } });
      await dekd.encryptText('a', { key: 'another' });
    }
  });

  it('holds its callers to a policy where it was given one, to nothing else', async () => {
    const rules = [{ name: 'w', callers: { socket: 'data' }, keys: 'k', operations: 'encrypt', create: { max: 1 } }];
    const agent = await start({ config: { policy: { rules } } });
    const dekd = agent.connect();
    const token = await dekd.encryptText('a', KEY);
    expect(await codeOf(dekd.decryptText(token, KEY))).toBe('PERMISSION_DENIED');
    expect(await codeOf(dekd.encryptText('a', { key: 'other' }))).toBe('PERMISSION_DENIED');
    expect(await codeOf((await start({ config: { policy: { rules: [] } } })).connect().encryptText('a', KEY))).toBe(
      'PERMISSION_DENIED',
    );
  });

  it('says what is wrong with its configuration, by line, and leaves nothing behind', async () => {
    const folder = temporaryFolder();
    vi.stubEnv('TMPDIR', folder);
    onTestFinished(() => void vi.unstubAllEnvs());
    await expect(createTestAgent({ node: NODE, config: '\nlimits:\n  maxPayloud: 1\n' })).rejects.toMatchObject({
      code: 'AGENT_UNAVAILABLE',
      message: /config\.yaml:3: limits\.maxPayloud: unknown key; did you mean maxPayload\?/,
    });
    await expect(createTestAgent({ node: '/nonexistent/node' })).rejects.toMatchObject({
      code: 'AGENT_UNAVAILABLE',
      message: /ENOENT/,
    });
    expect(readdirSync(folder)).toEqual([]);
  });

  it('is configured by no variable of the runner, only by its own', async () => {
    vi.stubEnv('DEKD_ENGINE', 'steam');
    vi.stubEnv('NODE_OPTIONS', '--import /nonexistent.mjs');
    onTestFinished(() => void vi.unstubAllEnvs());
    const agent = await start({ env: { DEKD_ENGINE: 'noble' } });
    expect((await agent.connect().ping()).engine).toBe('noble');
  });

  it('ends with its runner, however that ends, and so does its folder', { timeout: 60_000 }, async () => {
    const ends = ['', "process.kill(process.pid, 'SIGKILL');", "throw new Error('red');"];
    await Promise.all(
      ends.map(async (end) => {
        const folder = temporaryFolder();
        const script = `
          import { createTestAgent } from ${JSON.stringify(TESTKIT)};
          const agents = [await createTestAgent(), await createTestAgent({ keep: true })];
          for (const agent of agents) {
            await agent.connect().encryptText('a', { key: 'k' });
          }
          console.log(agents.map(({ pid }) => pid).join(' '));
          ${end}
        `;
        const child = spawn(NODE, ['--input-type=module', '--eval', script], {
          env: { PATH: process.env.PATH, TMPDIR: folder },
          stdio: ['ignore', 'pipe', 'ignore'],
        });
        let said = '';
        child.stdout.setEncoding('utf8').on('data', (text: string) => {
          said += text;
        });
        await once(child, 'close');
        const pids = said.trim().split(' ').map(Number);
        expect(pids).toHaveLength(2);
        await expect.poll(() => pids.filter(isRunning), { timeout: 20_000 }).toEqual([]);
        expect(readdirSync(folder)).toEqual([]);
      }),
    );
  });

  it('removes no folder but one that was made for its socket', async () => {
    const home = join(temporaryFolder(), 'home');
    mkdirSync(home, { mode: 0o700 });
    writeFileSync(join(home, 'thesis'), 'years');
    const args = ['dev', '--ephemeral', '--socket', join(home, 'agent.sock'), '--until-stdin-ends', home];
    const child = spawn(NODE, [MAIN, ...args], { stdio: ['pipe', 'pipe', 'ignore'] });
    await once(child.stdout, 'data');
    child.stdin.end();
    await once(child, 'exit');
    expect(readdirSync(home)).toContain('thesis');
  });

  it('runs no command but the one that connect({ spawn: true }) runs', async () => {
    const agent = await start();
    const line = readFileSync(`/proc/${agent.pid}/cmdline`, 'utf8').split('\0');
    expect(line.slice(2, -1)).toEqual([
      expect.stringMatching(/src\/cli\/main\.ts$/),
      'dev',
      '--ephemeral',
      '--socket',
      agent.socket,
      '--until-stdin-ends',
      dirname(agent.socket),
    ]);
  });
});
