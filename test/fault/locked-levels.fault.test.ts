import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AgentProcess, AS_UID_1000, quantile, report, runCommand, runDekd } from './support/agent-process.ts';
import { PrivatePackage } from './support/private-package.ts';

const PROBE = fileURLToPath(new URL('support/engine-probe.ts', import.meta.url));
const READABLE_SECRET = fileURLToPath(new URL('support/readable_secret.c', import.meta.url));
const KIB = 1024;

interface Probe {
  readonly lockLevel: string;
  readonly lockReason: string;
  readonly keys: number;
  readonly working: number;
  readonly refusal: string;
}

describe('locked memory for a user without capabilities', () => {
  let built: PrivatePackage;
  let folder: string;
  let unable: string | undefined;
  let hasSecret = false;

  beforeAll(async () => {
    built = new PrivatePackage();
    folder = mkdtempSync(join(tmpdir(), 'dekd-levels-'));
    chmodSync(folder, 0o755);
    if (process.getuid!() !== 0) {
      unable = 'only root may become another user';
    } else if (!built.hasAddon) {
      unable = 'the addon is not built';
    } else if ((await runCommand([...AS_UID_1000, process.execPath, PROBE, built.folder])).code !== 0) {
      unable = 'uid 1000 may not read the package or Node here';
    } else {
      hasSecret = (await probe(limit(8192 * KIB))).lockLevel === 'secret';
    }
  });
  afterAll(() => {
    built[Symbol.dispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  async function probe(wrapper: readonly string[]): Promise<Probe> {
    const result = await runCommand([...wrapper, ...AS_UID_1000, process.execPath, PROBE, built.folder]);
    expect(result.stderr).toBe('');
    return JSON.parse(result.stdout) as Probe;
  }

  it('nothing may be locked: the heap, and the reason is said', async ({ skip }) => {
    if (unable !== undefined) {
      return skip(unable);
    }
    const found = await probe(limit(0));
    report('RLIMIT_MEMLOCK 0', { ...found });
    expect(found).toMatchObject({ lockLevel: 'heap', keys: 1024, working: 1024, refusal: 'RESOURCE_EXHAUSTED' });
    expect(found.lockReason).toMatch(/RLIMIT_MEMLOCK/);
  });

  it.for([64, 8192])('%d KiB may be locked: 1,024 keys fit and work, one more is refused', async (kib, { skip }) => {
    if (unable !== undefined) {
      return skip(unable);
    }
    const found = await probe(limit(kib * KIB));
    report(`RLIMIT_MEMLOCK ${kib} KiB`, { ...found });
    expect(found).toMatchObject({ keys: 1024, working: 1024, refusal: 'RESOURCE_EXHAUSTED' });
    expect(found.lockLevel).toBe(hasSecret ? 'secret' : 'locked');
  });

  it.for([
    ['memfd_secret', 'memfd_secret:error=ENOSYS', 'locked'],
    ['memfd_secret by a seccomp filter', 'memfd_secret:error=EPERM', 'locked'],
  ] as const)('the kernel refuses %s: one level down, with the reason', async ([, inject, level], { skip }) => {
    if (unable !== undefined) {
      return skip(unable);
    }
    const strace = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=memfd_secret', '-e', `inject=${inject}`];
    if (spawnSync('strace', ['-V']).status !== 0) {
      return skip('strace is not installed');
    }
    const found = await probe([...limit(8192 * KIB), ...strace]);
    expect(found).toMatchObject({ lockLevel: level, keys: 1024, working: 1024 });
    expect(found.lockReason).not.toBe('');
  });

  it('the kernel refuses memfd_secret and mlock: the heap', async ({ skip }) => {
    if (unable !== undefined) {
      return skip(unable);
    }
    if (spawnSync('strace', ['-V']).status !== 0) {
      return skip('strace is not installed');
    }
    const strace = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=memfd_secret,mlock'];
    const inject = ['-e', 'inject=memfd_secret:error=ENOSYS', '-e', 'inject=mlock:error=ENOMEM'];
    const found = await probe([...limit(8192 * KIB), ...strace, ...inject]);
    expect(found).toMatchObject({ lockLevel: 'heap', keys: 1024, working: 1024 });
  });

  it('the kernel gives memory as secret that others can read: one level down, with the reason', async ({ skip }) => {
    if (unable !== undefined) {
      return skip(unable);
    }
    const library = join(folder, 'readable_secret.so');
    execFileSync('gcc', ['-shared', '-fPIC', '-O1', '-o', library, READABLE_SECRET]);
    const found = await probe([...limit(8192 * KIB), 'env', `LD_PRELOAD=${library}`]);
    expect(found).toMatchObject({ lockLevel: 'locked', keys: 1024, working: 1024 });
    expect(found.lockReason).toMatch(/memfd_secret gives memory that others can read/);
  });

  it.for(['locked', 'secret'])(
    'an agent that must have level %s refuses to start on the heap',
    async (level, { skip }) => {
      if (unable !== undefined) {
        return skip(unable);
      }
      const config = writeConfig(`strict-${level}`, { level, allowInsecureMemory: false });
      const command = [process.execPath, '--disable-sigusr1', built.entry, 'run', '--config', config];
      const times: number[] = [];
      const bare: number[] = [];
      for (let run = 0; run < 5; run++) {
        const result = await runCommand([...limit(0), ...AS_UID_1000, ...command], { timeoutMs: 20_000 });
        times.push(result.ms);
        expect(result.code).toBe(5);
        expect(result.stderr).toMatch(
          /keys at level heap, below (locked|secret).*raise RLIMIT_MEMLOCK to 64 KiB or more/s,
        );
        expect(result.stderr).not.toMatch(/agent ready/);
        bare.push((await runCommand([...limit(0), ...AS_UID_1000, process.execPath, '-e', '0'])).ms);
      }
      report(`refusal of ${level} on the heap`, {
        wholeMs: Math.round(quantile(times, 0.5)),
        bareNodeMs: Math.round(quantile(bare, 0.5)),
      });
    },
  );

  it.for([
    [0, true, 'heap'],
    [64, false, undefined],
    [8192, false, undefined],
  ] as const)('an agent with %d KiB starts where its configuration allows it', async ([kib, insecure], { skip }) => {
    if (unable !== undefined) {
      return skip(unable);
    }
    const config = writeConfig(`start-${kib}`, { level: 'locked', allowInsecureMemory: insecure });
    const place = join(folder, `start-${kib}`);
    await using agent = await AgentProcess.start({
      package: built,
      folder: place,
      config,
      wrapper: [...limit(kib * KIB), ...AS_UID_1000],
    });
    const level = kib === 0 ? 'heap' : hasSecret ? 'secret' : 'locked';
    const health = await runDekd(built, ['status', '--json', '--socket', agent.socket]);
    expect(JSON.parse(health.stdout)).toMatchObject({ ready: true, memory: { level, slots: 1024 } });
  });

  function writeConfig(name: string, memory: object): string {
    const place = join(folder, name);
    mkdirSync(place, { recursive: true });
    const keyFile = join(place, 'root.key');
    writeFileSync(keyFile, `${Buffer.alloc(32, 7).toString('base64')}\n`, { mode: 0o600 });
    const config = join(place, 'config.json');
    const content = {
      engine: 'native',
      memory,
      state: join(place, 'state'),
      socket: { path: join(place, 'run/agent.sock') },
      roots: { local: { provider: 'local', keyFile, allowLocalRoot: true } },
      policy: { rules: [{ name: 'all', callers: { uid: 2000 }, keys: ['*'], operations: ['encrypt', 'decrypt'] }] },
    };
    writeFileSync(config, JSON.stringify(content));
    for (const path of [place, keyFile, config]) {
      chownSync(path, 1000, 1000);
    }
    return config;
  }
});

function limit(bytes: number): string[] {
  return ['prlimit', `--memlock=${bytes}:${bytes}`];
}
