import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { AgentProcess, cleanEnv, report } from './support/agent-process.ts';
import { MemoryScanner, type Scan } from './support/memory-scanner.ts';
import { PrivatePackage } from './support/private-package.ts';
import { type StoredKey, storedKeys } from './support/stored-keys.ts';

const CLIENTS = 8;
const LOAD_MS = Number(process.env.DEKD_SCAN_MS ?? 30_000);
/** A leak is there in every scan: it takes no half minute to see it. */
const SHORT_LOAD_MS = 2_000;
const SCAN_EVERY_MS = 100;
/** After the last answer, a copy of a key has no reason left. */
const QUIET_MS = 50;
const KEYS = ['alpha', 'beta', 'gamma', 'delta'];
const LOAD_CLIENT = fileURLToPath(new URL('support/load-client.ts', import.meta.url));
const LEAKY_AGENT = fileURLToPath(new URL('support/leaky-agent.ts', import.meta.url));

interface Findings {
  readonly calls: number;
  readonly scans: readonly Scan[];
  /** The scan after the last operation. */
  readonly quiet: Scan;
  readonly keys: readonly StoredKey[];
}

describe('the memory of an agent, read by root from outside', () => {
  let built: PrivatePackage;
  let folder: string;
  let unable: string | undefined;

  beforeAll(() => {
    built = new PrivatePackage();
    unable =
      process.getuid!() !== 0
        ? 'only root may read the memory of an agent'
        : built.hasAddon
          ? undefined
          : 'the addon is not built';
  });
  afterAll(() => built[Symbol.dispose]());
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dekd-scan-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it(`holds no KEK and no idle data key while ${CLIENTS} clients work`, async ({ skip }) => {
    if (unable !== undefined) {
      return skip(unable);
    }
    await makeKeys();
    await using agent = await AgentProcess.start({ package: built, folder });
    if (!agent.said.includes('"lockLevel":"secret"')) {
      return skip('the kernel has no memfd_secret: at level locked, root reads the key table itself');
    }
    const findings = await scanUnderLoad(agent, LOAD_MS);
    const { calls, scans, quiet, keys } = findings;
    const dek = scans.map((scan) => count(scan, isDek(keys)));
    report('memory scan', {
      calls,
      scans: scans.length,
      patterns: keys.length * 7,
      MiBPerScan: Math.round(quiet.bytes / 2 ** 20),
      msPerScan: Math.round(scans.reduce((sum, scan) => sum + scan.ms, 0) / scans.length),
      refusedBytes: quiet.refused,
      kekHits: scans.reduce((sum, scan) => sum + count(scan, isKek(keys)), 0),
      mostDekHits: Math.max(...dek),
      dekHitsAfterwards: count(quiet, isDek(keys)),
    });
    expect(calls).toBeGreaterThan(CLIENTS * 100);
    expect([...scans, quiet].map((scan) => count(scan, isKek(keys)))).toEqual(Array(scans.length + 1).fill(0));
    // Each client waits for one call at a time.
    expect(Math.max(...dek)).toBeLessThanOrEqual(CLIENTS);
    expect(quiet.hits).toEqual({});
    // The key table itself, which the kernel refused to read.
    expect(quiet.refused).toBeGreaterThanOrEqual(65_536);
  });

  it.for([
    ['a data key on the native heap', 'seal', /^raw:(alpha|beta|gamma|delta)#1$/],
    ['a key-encryption key on the native heap', 'wrap', /^raw:\.l3\/default#1$/],
    ['the root key as text on the JavaScript heap', 'text', /^base64:root$/],
  ] as const)('goes red when an agent leaks %s', async ([, leak, expected], { skip }) => {
    if (unable !== undefined) {
      return skip(unable);
    }
    await makeKeys();
    const text = join(folder, 'leak');
    writeFileSync(text, `xx${storedKeys(join(folder, 'state'))[0]!.bytes.toString('base64')}`);
    await using agent = await AgentProcess.start({
      package: built,
      folder,
      script: LEAKY_AGENT,
      env: { DEKD_FAULT_PACKAGE_DIR: built.folder, DEKD_LEAK: leak === 'text' ? text : leak },
    });
    const { quiet } = await scanUnderLoad(agent, SHORT_LOAD_MS);
    expect(Object.keys(quiet.hits).filter((label) => expected.test(label))).not.toEqual([]);
  });

  it('goes red on the node engine, whose keys are on the heap', async ({ skip }) => {
    if (unable !== undefined) {
      return skip(unable);
    }
    await makeKeys();
    await using agent = await AgentProcess.start({ package: built, folder, env: { DEKD_ENGINE: 'node' } });
    const { keys, quiet } = await scanUnderLoad(agent, SHORT_LOAD_MS);
    expect(count(quiet, isDek(keys))).toBeGreaterThan(0);
  });

  /** Another agent makes the keys: this one meets them wrapped, as after every restart. */
  async function makeKeys(): Promise<void> {
    await using agent = await AgentProcess.start({ package: built, folder });
    await using client = connect({ socket: agent.socket });
    for (const key of KEYS) {
      await client.encrypt(Buffer.from('x'), { key });
    }
  }

  async function scanUnderLoad(agent: AgentProcess, ms: number): Promise<Findings> {
    const keys = storedKeys(join(folder, 'state'));
    expect(keys.filter(({ level }) => level === 4).map(({ label }) => label)).toHaveLength(KEYS.length);
    using scanner = await MemoryScanner.open(folder, agent.pid, keys);
    const clients = Array.from({ length: CLIENTS }, (_, index) => new LoadClient(built, agent, index));
    const scans: Scan[] = [];
    const end = performance.now() + ms;
    while (performance.now() < end) {
      await sleep(SCAN_EVERY_MS);
      scans.push(await scanner.scan());
    }
    const calls = await Promise.all(clients.map((client) => client.stop()));
    await sleep(QUIET_MS);
    return { calls: calls.reduce((sum, made) => sum + made), scans, quiet: await scanner.scan(), keys };
  }
});

class LoadClient {
  readonly #child: ChildProcess;
  #said = '';

  constructor(built: PrivatePackage, agent: AgentProcess, index: number) {
    this.#child = spawn(process.execPath, [LOAD_CLIENT, built.folder, agent.socket, String(index)], {
      env: cleanEnv(),
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#child.stdout!.on('data', (text: Buffer) => {
      this.#said += text;
    });
  }

  /** Lets the call in progress end. @returns the calls made */
  async stop(): Promise<number> {
    this.#child.stdin!.end();
    const [code] = (await once(this.#child, 'close')) as [number];
    expect(code).toBe(0);
    return Number(this.#said);
  }
}

type Choice = (label: string) => boolean;

function isDek(keys: readonly StoredKey[]): Choice {
  return isOf(keys.filter(({ level }) => level === 4));
}

function isKek(keys: readonly StoredKey[]): Choice {
  return isOf(keys.filter(({ level }) => level < 4));
}

function isOf(keys: readonly StoredKey[]): Choice {
  const labels = new Set(keys.map(({ label }) => label));
  return (label) => labels.has(label.slice(label.indexOf(':') + 1));
}

function count({ hits }: Scan, chosen: Choice): number {
  return Object.entries(hits).reduce((sum, [label, found]) => sum + (chosen(label) ? found : 0), 0);
}
