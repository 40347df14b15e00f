/** What a custodian leaves in the memory of its agent: nothing. And what both take together. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { runYaml } from '../support/agent.ts';
import { until } from '../support/custodian/acting-custody.ts';
import { KmsServer } from '../support/kms-server/kms-server.ts';
import { childrenOf, isRunning } from '../support/processes.ts';
import { AgentProcess, report } from './support/agent-process.ts';
import { MemoryScanner } from './support/memory-scanner.ts';
import { PrivatePackage } from './support/private-package.ts';
import type { StoredKey } from './support/stored-keys.ts';

/** Each with a KEK of its own under the root: a secret W, and an unwrap of it by every agent that starts. */
const PARTITIONS = 1_000;
const CLIENTS = 8;
const KEY = 'customers';
const LOAD_MS = Number(process.env.DEKD_CUSTODIAN_MS ?? 130_000);
/** Of agent and custodians together, in MiB. */
const MEMORY_BAR = 288;
/**
 * As a container of 320 MiB runs the agent. Left to itself V8 lets the young generation of a busy one grow by some 100 MiB,
 * of which nothing is in use.
 */
const NODE_OPTIONS = '--max-semi-space-size=4';
/** A custodian is gone this soon after its first plaintext, and that is seen this much later at most. */
const LIFE_MS = 60_000;
const SEEN_MS = 1_000;
const IDLE_MS = 30_000;
const LEAKY = fileURLToPath(new URL('../support/custodian/leaky-custody-agent.ts', import.meta.url));

describe('an agent whose root is in a KMS, read by root from outside', () => {
  let built: PrivatePackage;
  let kms: KmsServer;
  let folder: string;
  let config: string;
  let unable: string | undefined;
  let tokens: Uint8Array[];
  let secrets: StoredKey[];

  beforeAll(async () => {
    built = new PrivatePackage();
    unable =
      process.getuid!() !== 0
        ? 'only root may read the memory of an agent'
        : built.hasAddon
          ? undefined
          : 'the addon is not built';
    kms = await KmsServer.start();
    folder = mkdtempSync(join(tmpdir(), 'dekd-custodian-'));
    config = join(folder, 'config.yaml');
    const root = `roots: { aws: { provider: aws-kms, aws: { key: "${kms.createKey().arn}", endpoint: "${kms.endpoint}" } } }`;
    const yaml = runYaml()
      .replace(/^roots: .*$/m, root)
      .replace(/^engine: .*$/m, 'engine: native');
    writeFileSync(config, yaml.replace(/^memory: .*$/m, '').replaceAll('FOLDER', folder));
    if (unable === undefined) {
      await makeKeys();
    }
  });
  afterAll(async () => {
    built[Symbol.dispose]();
    await kms.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  beforeEach(({ skip }) => {
    if (unable !== undefined) {
      skip(unable);
    }
  });
  const running: AgentProcess[] = [];
  afterEach(async () => {
    await Promise.all(running.splice(0).map((agent) => agent.stop()));
  });

  async function start(leak?: string): Promise<AgentProcess> {
    const env = { ...kms.environment(), NODE_OPTIONS };
    const agent = await AgentProcess.start({
      package: built,
      folder,
      config,
      ...(leak === undefined
        ? { env }
        : { script: LEAKY, env: { ...env, DEKD_LEAK: leak, DEKD_FAULT_PACKAGE_DIR: built.folder } }),
    });
    running.push(agent);
    return agent;
  }

  function open(): ReturnType<typeof connect> {
    return connect({ socket: join(folder, 's/agent.sock') });
  }

  /** Another agent makes the keys, and the KMS is told every W in clear: so the test knows them. */
  async function makeKeys(): Promise<void> {
    const agent = await start();
    await using client = open();
    tokens = [];
    for (let first = 0; first < PARTITIONS; first += 50) {
      const batch = Array.from({ length: 50 }, (_, index) =>
        client.encrypt(Buffer.from(`p${first + index}`), { key: KEY, partition: partition(first + index) }),
      );
      tokens.push(...(await Promise.all(batch)));
    }
    secrets = kms.requests
      .filter(({ operation, outcome }) => operation === 'Encrypt' && outcome === 'ok')
      .map(({ input }, index) => ({
        label: `W${index}`,
        level: 1,
        bytes: Buffer.from(input.Plaintext as string, 'base64'),
      }));
    expect(secrets.length).toBeGreaterThanOrEqual(PARTITIONS);
    await agent.stop();
    running.length = 0;
  }

  async function openOne(client: ReturnType<typeof connect>, index: number): Promise<void> {
    const plaintext = await client.decrypt(tokens[index]!, { key: KEY, partition: partition(index) });
    expect(Buffer.from(plaintext).toString()).toBe(`p${index}`);
  }

  async function openAll(): Promise<void> {
    await using client = open();
    for (let first = 0; first < PARTITIONS; first += 50) {
      await Promise.all(Array.from({ length: 50 }, (_, index) => openOne(client, first + index)));
    }
  }

  it(`holds no copy of ${PARTITIONS} unwrapped secrets; its custodian does, and is gone when idle`, async ({
    skip,
  }) => {
    const agent = await start();
    if (!agent.said.includes('"lockLevel":"secret"')) {
      return skip('the kernel has no memfd_secret: at level locked, root reads the key table itself');
    }
    const before = kms.count('Decrypt');
    await openAll();
    const unwraps = kms.count('Decrypt') - before;
    expect(unwraps).toBeGreaterThanOrEqual(PARTITIONS);
    const [custodian] = childrenOf(agent.pid);
    using scanner = await MemoryScanner.open(folder, agent.pid, secrets);
    using inCustodian = await MemoryScanner.open(folder, custodian!, secrets);
    const found = await inCustodian.scan();
    const scans = [await scanner.scan(), await scanner.scan()];
    expect(scans.map(({ hits }) => hits)).toEqual([{}, {}]);
    const copies = Object.values(found.hits).reduce((sum, hits) => sum + hits, 0);
    // What the process exit is for.
    expect(copies).toBeGreaterThan(100);
    const idleMs = await until(() => !isRunning(custodian!), LIFE_MS);
    expect(idleMs).toBeLessThan(IDLE_MS + SEEN_MS);
    expect((await scanner.scan()).hits).toEqual({});
    report('secrets in memory', {
      unwraps,
      patterns: secrets.length * 7,
      inAgent: 0,
      inCustodian: copies,
      custodianGoneAfterMs: Math.round(idleMs),
    });
  });

  it.for([
    ['raw', /^raw:W\d+$/],
    ['base64', /^base64:W\d+$/],
    ['hex', /^hex:W\d+$/],
  ] as const)('goes red when the agent leaks one as %s', async ([leak, expected]) => {
    const agent = await start(leak);
    await openAll();
    using scanner = await MemoryScanner.open(folder, agent.pid, secrets);
    const { hits } = await scanner.scan();
    expect(Object.keys(hits).filter((label) => expected.test(label))).not.toEqual([]);
  });

  it('stays within its bar with its custodians while these hand over, with no failed call', async () => {
    const agent = await start();
    const end = performance.now() + LOAD_MS;
    let calls = 0;
    let next = 0;
    const before = kms.count('Decrypt');
    const born = new Map<number, number>();
    const ages: number[] = [];
    let worst = { total: 0, agent: 0, processes: 0 };
    const load = Array.from({ length: CLIENTS }, async () => {
      await using client = open();
      while (performance.now() < end) {
        await openOne(client, next++ % PARTITIONS);
        calls++;
      }
    });
    let isOver = false;
    const watch = (async () => {
      while (!isOver) {
        const now = performance.now();
        const pids = childrenOf(agent.pid);
        for (const pid of pids) {
          born.set(pid, born.get(pid) ?? now);
        }
        for (const [pid, since] of born) {
          if (!pids.includes(pid)) {
            ages.push(now - since);
            born.delete(pid);
          }
        }
        const all = [agent.pid, ...pids].map(memoryOf);
        // Pages of files (the executable, most of all) are the same for all, and exist once.
        const total = all.reduce((sum, { own }) => sum + own, 0) + Math.max(...all.map(({ files }) => files));
        if (total > worst.total) {
          worst = { total, agent: all[0]!.own + all[0]!.files, processes: all.length };
        }
        await sleep(100);
      }
    })();
    await Promise.all(load);
    isOver = true;
    await watch;
    report('custodians under load', {
      calls,
      unwraps: kms.count('Decrypt') - before,
      custodiansGone: ages.length,
      longestLifeMs: Math.round(Math.max(...ages)),
      worstMiB: Math.round(worst.total),
      ofThatAgentMiB: Math.round(worst.agent),
      processes: worst.processes,
    });
    expect(calls).toBeGreaterThan(PARTITIONS);
    expect(ages.length).toBeGreaterThanOrEqual(Math.floor(LOAD_MS / LIFE_MS));
    expect(Math.max(...ages)).toBeLessThan(LIFE_MS + SEEN_MS);
    expect(worst.total).toBeLessThanOrEqual(MEMORY_BAR);
  });
});

function partition(index: number): string {
  return `p${index}`;
}

/** MiB in memory of the process's own and of files; 0 when it is gone. */
function memoryOf(pid: number): { own: number; files: number } {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const of = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)![1]) / 1024;
    return { own: of('RssAnon') + of('RssShmem'), files: of('RssFile') };
  } catch {
    return { own: 0, files: 0 };
  }
}
