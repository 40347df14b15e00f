/** Row C2: a release and the one before it, each with the other's clients and on one keystore. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { DekdClient } from '../../src/client/types.ts';
import { runYaml } from '../support/agent.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';
import { AgentProcess, runCommand } from './support/agent-process.ts';
import { type EarlierPackage, earlierPackage, previousCommit } from './support/earlier-package.ts';
import { PrivatePackage } from './support/private-package.ts';

const ROUNDS = Number(process.env.DEKD_FAULT_ROUNDS ?? 200);
const commit = previousCommit();

interface Side {
  readonly entry: string;
  module(name: string): string;
}

let earlier: EarlierPackage | undefined;
let now: PrivatePackage;

beforeAll(() => {
  if (commit !== undefined) {
    earlier = earlierPackage(commit);
    now = new PrivatePackage();
  }
});
afterAll(() => {
  earlier?.[Symbol.dispose]();
  now?.[Symbol.dispose]();
});
beforeEach(({ skip }) => {
  if (commit === undefined) {
    skip('the commit before is not in this clone; DEKD_PREVIOUS names another');
  }
});

const sideOf = (which: 'earlier' | 'now'): Side => (which === 'earlier' ? earlier! : now);

/** A configuration whose agents share root and keystore, and nothing else. */
function configOf(folder: string, name: string): string {
  const own = join(folder, name);
  mkdirSync(join(own, 'state'), { recursive: true, mode: 0o700 });
  writeFileSync(join(folder, 'root.key'), `${Buffer.alloc(32, 7).toString('base64')}\n`, { mode: 0o600 });
  const yaml = runYaml(`keystore: { kind: sqlite, path: ${folder}/keys.sqlite }`)
    .replaceAll('FOLDER/root.key', join(folder, 'root.key'))
    .replaceAll('FOLDER', own)
    .replace(/s\/agent\.sock/, 'run/agent.sock')
    .replace('operations: [encrypt', 'operations: [hmac, verifyHmac, blindIndex, encrypt');
  const file = join(own, 'config.yaml');
  writeFileSync(file, yaml);
  return file;
}

function startOn(folder: string, name: string, side: Side): Promise<AgentProcess> {
  const config = configOf(folder, name);
  return AgentProcess.start({ package: side, folder: join(folder, name), config, env: { DEKD_LOG_FORMAT: 'json' } });
}

async function clientOf(side: Side, agent: AgentProcess): Promise<DekdClient> {
  const { connect } = (await import(side.module('client/index'))) as typeof import('../../src/client/index.ts');
  return connect({ socket: agent.socket, timeoutMs: 60_000 });
}

interface Made {
  readonly token: string;
  readonly message: Buffer;
  readonly large: Uint8Array;
  readonly mac: string;
  readonly index: string;
}

const OPTIONS = { key: 'customers', partition: 'acme', context: { row: '4711' } };
const INDEX = { key: 'customers', partition: 'acme', table: 'users', column: 'email' };
const DATA = randomBytes(300_000);

async function make(dekd: DekdClient): Promise<Made> {
  return {
    token: await dekd.encryptText('value', OPTIONS),
    message: await buffer(Readable.from([DATA]).pipe(dekd.encryptStream(OPTIONS))),
    large: await dekd.encryptLarge({ a: [1, 2] }, { ...OPTIONS, compression: 'gzip' }),
    mac: await dekd.hmacText('value', OPTIONS),
    index: await dekd.blindIndex('ada@example.org', INDEX),
  };
}

async function check(dekd: DekdClient, made: Made): Promise<void> {
  expect(await dekd.decryptText(made.token, OPTIONS)).toBe('value');
  expect(Buffer.compare(await buffer(Readable.from([made.message]).pipe(dekd.decryptStream(OPTIONS))), DATA)).toBe(0);
  expect(await dekd.decryptLarge(made.large, OPTIONS)).toEqual({ a: [1, 2] });
  expect(await dekd.verifyHmac('value', made.mac, OPTIONS)).toBe(true);
  expect(await dekd.blindIndex('ada@example.org', INDEX)).toBe(made.index);
  await expect(dekd.decryptText(made.token, { ...OPTIONS, context: { row: '1' } })).rejects.toMatchObject({
    code: 'DECRYPTION_FAILED',
  });
}

describe('a release and the one before', () => {
  it.each([
    ['earlier', 'now'],
    ['now', 'earlier'],
  ] as const)('work together: client %s, agent %s', async (clientSide, agentSide) => {
    const folder = makeFolder();
    const agent = await startOn(folder, 'one', sideOf(agentSide));
    const dekd = await clientOf(sideOf(clientSide), agent);
    const many = await dekd.encryptMany(
      Array.from({ length: 2_000 }, (_, i) => Buffer.from(`value ${i}`)),
      OPTIONS,
    );
    const opened = await dekd.decryptMany(
      many.map((each) => (each.ok ? each.value : new Uint8Array(0))),
      OPTIONS,
    );
    expect(opened.every((each, i) => each.ok && Buffer.from(each.value).toString() === `value ${i}`)).toBe(true);
    await check(dekd, await make(dekd));
    await dekd.close();
    expect(await agent.stop()).toBe(0);
    removeFolder(folder);
  });

  it('take a keystore up and down again, with what either made', async () => {
    const folder = makeFolder();
    const all: Made[] = [];
    for (const which of ['earlier', 'now', 'earlier', 'now'] as const) {
      const agent = await startOn(folder, 'one', sideOf(which));
      const dekd = await clientOf(sideOf(which), agent);
      for (const made of all) {
        await check(dekd, made);
      }
      all.push(await make(dekd));
      await dekd.close();
      expect(await agent.stop()).toBe(0);
    }
    expect(all).toHaveLength(4);
    removeFolder(folder);
  });

  it(`serve one keystore side by side, while it is rolled out: ${ROUNDS} rounds without a failure`, async () => {
    const folder = makeFolder();
    const sides = ['earlier', 'now'] as const;
    const agents = await Promise.all(sides.map((which) => startOn(folder, which, sideOf(which))));
    const clients = await Promise.all(sides.map((which, i) => clientOf(sideOf(which), agents[i]!)));
    for (let round = 0; round < ROUNDS; round++) {
      const options = { ...OPTIONS, key: `key-${round % 20}` };
      const tokens = await Promise.all(clients.map((dekd, i) => dekd.encryptText(`${round} ${i}`, options)));
      const back = await Promise.all(
        clients.flatMap((dekd) => tokens.map((token) => dekd.decryptText(token, options))),
      );
      expect(back).toEqual([`${round} 0`, `${round} 1`, `${round} 0`, `${round} 1`]);
    }
    await Promise.all(clients.map((dekd) => dekd.close()));
    await Promise.all(agents.map((agent) => agent.stop()));
    removeFolder(folder);
  });

  it('each refuse a keystore of a newer schema, and leave it alone', async () => {
    const folder = makeFolder();
    const agent = await startOn(folder, 'one', now);
    const dekd = await clientOf(now, agent);
    await make(dekd);
    await dekd.close();
    await agent.stop();
    const database = new DatabaseSync(join(folder, 'keys.sqlite'));
    database.exec('PRAGMA user_version = 1000000');
    database.close();
    for (const which of ['earlier', 'now'] as const) {
      const config = join(folder, 'one', 'config.yaml');
      const line = [process.execPath, '--disable-sigusr1', sideOf(which).entry, 'run', '--config', config];
      const { code, stdout, stderr } = await runCommand(line, { env: { DEKD_ENGINE: 'native' }, timeoutMs: 60_000 });
      expect([which, code]).toEqual([which, 5]);
      expect(stdout + stderr).toMatch(/newer|schema/);
    }
    const after = new DatabaseSync(join(folder, 'keys.sqlite'));
    expect(after.prepare('PRAGMA user_version').get()).toEqual({ user_version: 1_000_000 });
    after.close();
    removeFolder(folder);
  });
});
