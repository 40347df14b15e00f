import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { AdminClient } from '../../src/cli/admin.ts';
import { connect } from '../../src/client/index.ts';
import { DekdError } from '../../src/errors.ts';
import { describeOwnServer, PostgresServer } from '../support/postgres.ts';
import { AgentProcess, type AgentProcessOptions, report } from './support/agent-process.ts';
import { PrivatePackage } from './support/private-package.ts';
import { randomNumbers } from './support/random-numbers.ts';

const SECONDS = Number(process.env.DEKD_SECONDS ?? 60);
const SEED = Number(process.env.DEKD_SEED ?? Date.now() % 1_000_000);
const AGENTS = 8;
/** Names that all agents fight over. */
const NAMES = 12;

interface Version {
  readonly name: string;
  readonly version: number;
  readonly kid: string;
  readonly state: string;
}

interface Sealed {
  readonly key: string;
  readonly text: string;
  readonly token: string;
}

describeOwnServer(`${AGENTS} agents on one PostgreSQL`, () => {
  let built: PrivatePackage;
  let server: PostgresServer;
  let folder: string;

  beforeAll(async () => {
    built = new PrivatePackage();
    server = await PostgresServer.start();
    folder = mkdtempSync(join(tmpdir(), 'dekd-agents-'));
    writeFileSync(join(folder, 'root.key'), `${Buffer.alloc(32, 9).toString('base64')}\n`, { mode: 0o600 });
  });
  afterAll(async () => {
    built[Symbol.dispose]();
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  /** An agent of its own folder and state over the schema that they share. */
  function optionsOf(index: number, schema: string): AgentProcessOptions {
    const place = join(folder, `${schema}-${index}`);
    mkdirSync(place, { recursive: true, mode: 0o700 });
    const config = join(place, 'config.yaml');
    writeFileSync(
      config,
      `
memory: { level: heap, allowInsecureMemory: true }
socket: { path: ${place}/run/agent.sock, allowOwnUid: true }
state: ${place}/state
roots: { main: { provider: local, keyFile: ${folder}/root.key, allowLocalRoot: true } }
keystore: { kind: postgres, postgres: { url: '${server.settings.url}', tls: disable, schema: ${schema} } }
policy:
  rules:
    - { name: all, callers: { socket: data }, keys: '*', operations: [encrypt, decrypt], create: { max: 100000 } }
`,
    );
    return { package: built, folder: place, config };
  }

  async function run(schema: string, onSecond: (second: number) => Promise<void>, killsAgents: boolean) {
    const random = randomNumbers(SEED);
    const options = Array.from({ length: AGENTS }, (_, index) => optionsOf(index, schema));
    const agents = await Promise.all(options.map((each) => AgentProcess.start(each)));
    const sealed: Sealed[] = [];
    const acknowledged = new Map<string, string>();
    const problems: string[] = [];
    const figures = { commands: 0, rotations: 0, refused: 0, kills: 0 };
    const end = performance.now() + SECONDS * 1_000;

    /** Works against one agent, whatever process it is at the moment. */
    const work = async (index: number): Promise<void> => {
      const { folder: place } = options[index]!;
      const client = connect({ socket: join(place, 'run/agent.sock') });
      while (performance.now() < end) {
        const key = `k${Math.trunc(random() * NAMES)}`;
        const text = `${key} ${sealed.length}`;
        try {
          sealed.push({ key, text, token: await client.encryptText(text, { key, timeoutMs: 20_000 }) });
          if (random() < 0.3) {
            using admin = await AdminClient.open({ json: true, socket: join(place, 'run/agent.sock'), self: 'dekd' });
            const { keys } = (await admin.send({ rotate: { name: key } })) as { keys: readonly Version[] };
            for (const { name, version, kid } of keys) {
              acknowledged.set(`${name}#${version}`, kid);
            }
            figures.rotations++;
          }
          figures.commands++;
        } catch (error) {
          const { code, retryable, message } = DekdError.from(error);
          // An agent that was killed under a command, and a database that is away, are to be typed and retryable.
          if (!retryable && code !== 'PERMISSION_DENIED') {
            problems.push(`${key}: ${code} ${message}`);
          }
          figures.refused++;
          await sleep(20);
        }
      }
      await client.close();
    };

    const killing = (async () => {
      for (let second = 1; performance.now() < end; second++) {
        await sleep(1_000);
        await onSecond(second);
        if (killsAgents) {
          const victim = Math.trunc(random() * AGENTS);
          await agents[victim]!.kill();
          agents[victim] = await AgentProcess.start(options[victim]!);
          figures.kills++;
        }
      }
    })();
    await Promise.all([killing, ...agents.map((_, index) => work(index))]);
    await Promise.all(agents.map((agent) => agent.stop()));

    await using judge = await AgentProcess.start(optionsOf(AGENTS, schema));
    using admin = await AdminClient.open({ json: true, socket: judge.socket, self: 'dekd' });
    await using client = connect({ socket: judge.socket });
    for (let name = 0; name < NAMES; name++) {
      const { keys } = (await admin.send({ show: { name: `k${name}` } })) as { keys: readonly Version[] };
      const active = keys.filter(({ state }) => state === 'active');
      if (active.length !== 1) {
        problems.push(`k${name} has ${active.length} active versions`);
      }
      if (new Set(keys.map(({ version }) => version)).size !== keys.length) {
        problems.push(`k${name} has a version twice`);
      }
      for (const { version, kid } of keys) {
        const told = acknowledged.get(`k${name}#${version}`);
        if (told !== undefined && told !== kid) {
          problems.push(`k${name} version ${version} is another than was acknowledged`);
        }
        acknowledged.delete(`k${name}#${version}`);
      }
    }
    problems.push(...[...acknowledged.keys()].map((lost) => `${lost} was acknowledged and is lost`));
    for (let at = 0; at < sealed.length; at += 500) {
      const page = sealed.slice(at, at + 500);
      const opened = await Promise.all(page.map(({ key, token }) => client.decryptText(token, { key }).catch(String)));
      opened.forEach((text, index) => {
        if (text !== page[index]!.text) {
          problems.push(`a token of ${page[index]!.key} does not open: ${text}`);
        }
      });
    }
    return { problems, figures: { ...figures, tokens: sealed.length, seconds: SECONDS, seed: SEED } };
  }

  it(`stay at unique versions, one of them active, and open every token, through SIGKILLs (DEKD_SEED=${SEED})`, async () => {
    const { problems, figures } = await run('killed_agents', async () => undefined, true);
    report('agents killed', figures);
    expect(problems.slice(0, 10)).toEqual([]);
    expect(figures.kills).toBeGreaterThan(SECONDS / 4);
    expect(figures.rotations).toBeGreaterThan(SECONDS);
  });

  it('do so too while the database is killed and started again', async () => {
    let restarts = 0;
    const { problems, figures } = await run(
      'killed_database',
      async (second) => {
        if (second % 10 === 5) {
          await server.kill();
          await sleep(500);
          await server.restart();
          restarts++;
        }
      },
      false,
    );
    report('database killed', { ...figures, restarts });
    expect(problems.slice(0, 10)).toEqual([]);
    expect(restarts).toBeGreaterThan(0);
    expect(figures.rotations).toBeGreaterThan(SECONDS / 2);
  });
});
