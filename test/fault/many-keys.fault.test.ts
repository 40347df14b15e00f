import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { connect, type DekdClient } from '../../src/client/index.ts';
import { AgentProcess, AS_UID_1000, report, runCommand, runDekd } from './support/agent-process.ts';
import { PrivatePackage } from './support/private-package.ts';

const FLOOD = Number(process.env.DEKD_KEYS ?? 10_000);
const SLOTS = 1024;
const FEW = 10;
const KEY_FLOOD = fileURLToPath(new URL('support/key-flood.ts', import.meta.url));

interface KeyFigures {
  readonly known: number;
  readonly loaded: number;
  readonly evictions: number;
  readonly reloads: number;
}

describe(`${FLOOD.toLocaleString('en')} keys through ${SLOTS.toLocaleString('en')} slots`, () => {
  let built: PrivatePackage;
  let folder: string;
  let unable: string | undefined;

  beforeAll(async () => {
    built = new PrivatePackage();
    if (process.getuid!() !== 0) {
      unable = 'only root may become another user';
    } else if (!built.hasAddon) {
      unable = 'the addon is not built';
    } else {
      const read = await runCommand([
        ...AS_UID_1000,
        process.execPath,
        '--check',
        join(built.folder, 'dist/client/index.js'),
      ]);
      unable = read.code === 0 ? undefined : 'uid 1000 may not read the package or Node here';
    }
  });
  afterAll(() => built[Symbol.dispose]());
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dekd-keys-'));
    chmodSync(folder, 0o755);
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('all of one caller work, and ten of another stay where they are', async ({ skip }) => {
    if (unable !== undefined) {
      return skip(unable);
    }
    await using agent = await startAgent();
    await using client = connect({ socket: agent.socket });
    const tokens = await useFew(client);
    const flood = await floodOf(agent, AS_UID_1000);
    const before = await figuresOf(agent);
    await openFew(client, tokens);
    const after = await figuresOf(agent);
    report('many keys', { ...flood, ...after, reloadsOfTheTen: after.reloads - before.reloads });
    expect(flood.opened).toBe(FLOOD);
    // It took evictions: the flood itself went round the slots twice.
    expect(before.evictions).toBeGreaterThan(FLOOD - SLOTS);
    expect(before.reloads).toBeGreaterThan(FLOOD - SLOTS);
    expect(before.loaded).toBeGreaterThan(SLOTS - 16);
    expect(after.reloads - before.reloads).toBe(0);
    expect(after.evictions - before.evictions).toBe(0);
  });

  it('push out ten of the same caller, which come back', async ({ skip }) => {
    if (unable !== undefined) {
      return skip(unable);
    }
    await using agent = await startAgent();
    await using client = connect({ socket: agent.socket });
    const tokens = await useFew(client);
    const flood = await floodOf(agent, []);
    const before = await figuresOf(agent);
    await openFew(client, tokens);
    const after = await figuresOf(agent);
    report('many keys, one caller', { ...flood, ...after, reloadsOfTheTen: after.reloads - before.reloads });
    expect(flood.opened).toBe(FLOOD);
    expect(after.reloads - before.reloads).toBe(FEW);
  });

  it('open all at once after a restart, each from the keystore', async ({ skip }) => {
    if (unable !== undefined) {
      return skip(unable);
    }
    const indices = Array.from({ length: SLOTS * 2 }, (_, index) => index);
    const binding = (index: number) => ({ key: `many-${index}`, context: { row: String(index) } });
    const tokens: Uint8Array[] = [];
    {
      await using agent = await startAgent();
      await using client = connect({ socket: agent.socket, timeoutMs: 60_000 });
      tokens.push(
        ...(await Promise.all(indices.map((index) => client.encrypt(Buffer.from(`v${index}`), binding(index))))),
      );
    }
    await using agent = await startAgent();
    await using client = connect({ socket: agent.socket });
    const opened = await Promise.allSettled(indices.map((index) => client.decrypt(tokens[index]!, binding(index))));
    const wrong = indices.filter((index) => {
      const result = opened[index]!;
      return result.status === 'rejected' || Buffer.from(result.value).toString() !== `v${index}`;
    });
    expect(wrong).toEqual([]);
  });

  async function startAgent(): Promise<AgentProcess> {
    const keyFile = join(folder, 'root.key');
    writeFileSync(keyFile, `${Buffer.alloc(32, 7).toString('base64')}\n`, { mode: 0o600 });
    const run = join(folder, 'run');
    mkdirSync(run, { recursive: true });
    chownSync(run, 0, 1000);
    chmodSync(run, 0o750);
    const config = join(folder, 'config.json');
    const operations = ['encrypt', 'decrypt'];
    const create = { max: FLOOD + FEW };
    writeFileSync(
      config,
      JSON.stringify({
        engine: 'native',
        memory: { level: 'heap', allowInsecureMemory: true },
        state: join(folder, 'state'),
        socket: { path: join(run, 'agent.sock'), group: 1000, mode: '0660', allowOwnUid: true },
        roots: { local: { provider: 'local', keyFile, allowLocalRoot: true } },
        policy: {
          rules: [
            { name: 'few', callers: { uid: 0 }, keys: ['few-*', 'many-*'], operations, create },
            { name: 'many', callers: { uid: 1000 }, keys: ['many-*'], operations, create },
          ],
        },
        log: { level: 'info', format: 'json' },
      }),
    );
    return AgentProcess.start({ package: built, folder, config });
  }

  async function floodOf(agent: AgentProcess, wrapper: readonly string[]) {
    const line = [...wrapper, process.execPath, KEY_FLOOD, built.folder, agent.socket, 'many-', String(FLOOD)];
    const result = await runCommand(line);
    expect(result.stderr).toBe('');
    return JSON.parse(result.stdout) as { opened: number; makeMs: number; openMs: number };
  }

  async function figuresOf(agent: AgentProcess): Promise<KeyFigures> {
    const status = await runDekd(built, ['status', '--json', '--socket', agent.socket]);
    expect(status.stderr).toBe('');
    return (JSON.parse(status.stdout) as { keys: KeyFigures }).keys;
  }
});

const few = (index: number) => ({ key: `few-${index}`, context: { row: String(index) } });

async function useFew(client: DekdClient): Promise<Uint8Array[]> {
  const tokens: Uint8Array[] = [];
  for (let index = 0; index < FEW; index++) {
    tokens.push(await client.encrypt(Buffer.from(`few ${index}`), few(index)));
  }
  return tokens;
}

async function openFew(client: DekdClient, tokens: readonly Uint8Array[]): Promise<void> {
  for (const [index, token] of tokens.entries()) {
    expect(Buffer.from(await client.decrypt(token, few(index))).toString()).toBe(`few ${index}`);
  }
}
