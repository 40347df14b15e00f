/** What is left of a key when it is destroyed, and what a dump of its agent holds; rows M2 and M9 of docs/test-plan.md. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { askAdmin } from '../../src/client/admin-request.ts';
import { Channel } from '../../src/client/channel.ts';
import { connect } from '../../src/client/index.ts';
import { AgentProcess, AS_UID_1000, report } from './support/agent-process.ts';
import { formsOf } from './support/memory-scanner.ts';
import { PrivatePackage } from './support/private-package.ts';
import { type StoredKey, storedKeys } from './support/stored-keys.ts';

const WATCHER = fileURLToPath(new URL('support/key_watcher.cc', import.meta.url));
const MASK = 0xa5;
/** From the last use of a key to zeros in its place. */
const WIPED_WITHIN_MS = 10;
const NO_LOCKING = ['prlimit', '--memlock=0:0', ...AS_UID_1000];

describe('what remains of keys', () => {
  let built: PrivatePackage;
  let program: string;
  let folder: string;
  let unable: string | undefined;

  beforeAll(() => {
    built = new PrivatePackage();
    program = join(mkdtempSync(join(tmpdir(), 'dekd-watcher-')), 'key_watcher');
    execFileSync('g++', ['-O2', '-std=c++20', '-o', program, WATCHER], { stdio: 'inherit' });
    unable =
      process.getuid!() !== 0
        ? 'only root may read the memory of an agent'
        : built.hasAddon
          ? undefined
          : 'the addon is not built';
  });
  afterAll(() => {
    built[Symbol.dispose]();
    rmSync(dirname(program), { recursive: true, force: true });
  });
  beforeEach(({ skip }) => {
    folder = mkdtempSync(join(tmpdir(), 'dekd-remains-'));
    chownSync(folder, 1000, 1000);
    chmodSync(folder, 0o755);
    if (unable !== undefined) {
      skip(unable);
    }
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  /** An agent whose keys root can read, because they lie in memory that is not locked: to see them go. */
  async function readableAgent(): Promise<{ agent: AgentProcess; keys: readonly StoredKey[] }> {
    const agent = await AgentProcess.start({ package: built, folder, wrapper: NO_LOCKING });
    expect(agent.said).toContain('"lockLevel":"heap"');
    await using client = connect({ socket: agent.socket });
    for (const key of ['alpha', 'beta']) {
      await client.encrypt(Buffer.from('x'), { key });
    }
    return { agent, keys: storedKeys(join(folder, 'state')) };
  }

  function keyOf(keys: readonly StoredKey[], label: string): StoredKey {
    return keys.find((key) => key.label === label)!;
  }

  it('a destroyed key is zeros within 10 ms of the answer', async () => {
    const { agent, keys } = await readableAgent();
    const watcher = await Watcher.start(program, agent.pid, keyOf(keys, 'alpha#1'));
    expect(watcher.places).toBe(1);
    const channel = await Channel.open(join(folder, 'run/admin.sock'), undefined, 5_000, () => {});
    await askAdmin(channel, { destroy: { name: 'alpha', version: 1 } });
    const answered = process.hrtime.bigint();
    const { what, at } = await watcher.end();
    const ms = Number(at - answered) / 1e6;
    report('a destroyed key', { zeroAfterAnswerMs: ms });
    expect(what).toBe('zero');
    expect(ms).toBeLessThanOrEqual(WIPED_WITHIN_MS);
    channel.close();
    await agent.stop();
  });

  it('every key is zeros before an agent that is told to stop has ended', async () => {
    const { agent, keys } = await readableAgent();
    const labels = ['alpha#1', 'beta#1', '.l3/default#1'];
    const watchers = await Promise.all(labels.map((label) => Watcher.start(program, agent.pid, keyOf(keys, label))));
    expect(watchers.map(({ places }) => places)).toEqual([1, 1, 1]);
    expect(await agent.stop()).toBe(0);
    const ends = await Promise.all(watchers.map((watcher) => watcher.end()));
    expect(ends.map(({ what }) => what)).toEqual(['zero', 'zero', 'zero']);
  });

  it('an agent that is killed goes with its keys where they were, which is why the watcher would have told', async () => {
    const { agent, keys } = await readableAgent();
    const watcher = await Watcher.start(program, agent.pid, keyOf(keys, 'alpha#1'));
    await agent.kill();
    expect((await watcher.end()).what).toBe('gone');
  });

  it.for([
    ['native', 0],
    ['node', 1],
  ] as const)(
    'a core file that root takes of an agent on the %s engine, excluded pages included: keys %d',
    async ([engine, least], { skip }) => {
      if (spawnSync('gdb', ['--version']).status !== 0) {
        return skip('gdb is not installed');
      }
      await using agent = await AgentProcess.start({ package: built, folder, env: { DEKD_ENGINE: engine } });
      if (engine === 'native' && !agent.said.includes('"lockLevel":"secret"')) {
        return skip('the kernel has no memfd_secret: at level locked, root reads the key table itself');
      }
      await using client = connect({ socket: agent.socket });
      await client.encrypt(Buffer.from('x'), { key: 'alpha' });
      const file = join(folder, 'core');
      const settings = ['set use-coredump-filter off', 'set dump-excluded-mappings on', `generate-core-file ${file}`];
      const gdb = spawnSync('gdb', ['-p', String(agent.pid), '-batch', ...settings.flatMap((line) => ['-ex', line])], {
        encoding: 'utf8',
      });
      expect(statSync(file).size, gdb.stderr).toBeGreaterThan(2 ** 20);
      // Of the DEK and its KEKs, in every form; the root key is in the same table.
      const hits = await hitsIn(file, storedKeys(join(folder, 'state')));
      report(`core file of the ${engine} engine`, {
        MiB: Math.round(statSync(file).size / 2 ** 20),
        hits: hits.length,
      });
      if (least === 0) {
        expect(hits).toEqual([]);
      } else {
        expect(hits.length).toBeGreaterThanOrEqual(least);
      }
    },
  );

  it('the kernel writes no core file of an agent that aborts, although root has undone its limits', async () => {
    await using agent = await AgentProcess.start({ package: built, folder });
    // Not every root may raise a limit; the one that the agent took is then still in its way.
    spawnSync('prlimit', ['--core=unlimited:unlimited', `--pid=${agent.pid}`]);
    writeFileSync(`/proc/${agent.pid}/coredump_filter`, '0xff');
    const place = readlinkSync(`/proc/${agent.pid}/cwd`);
    const before = coreFiles(place);
    agent.child.kill('SIGABRT');
    await agent.stop();
    expect(coreFiles(place)).toEqual(before);

    // Where files are written at all: a process that did not ask to be left out is in one.
    if (readFileSync('/proc/sys/kernel/core_pattern', 'utf8').trim() === 'core') {
      spawnSync('sh', ['-c', 'ulimit -c unlimited; kill -ABRT $$'], { cwd: folder });
      expect(coreFiles(folder)).toHaveLength(1);
    }
  });
});

class Watcher {
  readonly places: number;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: ChildProcess, lines: AsyncIterator<string>, places: number) {
    this.#child = child;
    this.#lines = lines;
    this.places = places;
  }

  static async start(program: string, pid: number, { bytes }: StoredKey): Promise<Watcher> {
    const child = spawn(program, [String(pid)], { stdio: ['pipe', 'pipe', 'inherit'] });
    await once(child, 'spawn');
    const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    child.stdin!.end(`${Buffer.from(bytes.map((byte) => byte ^ MASK)).toString('hex')}\n`);
    const { value } = await lines.next();
    return new Watcher(child, lines, Number(/^found (\d+)$/.exec(value as string)![1]));
  }

  async end(): Promise<{ what: string; at: bigint }> {
    const { value } = await this.#lines.next();
    this.#child.kill();
    const [what, at] = String(value).split(' ');
    return { what: what!, at: BigInt(at ?? 0) };
  }
}

function coreFiles(folder: string): string[] {
  return readdirSync(folder).filter((name) => name.startsWith('core'));
}

/** Forms of keys that are in a file, read in pieces that overlap. */
async function hitsIn(path: string, keys: readonly StoredKey[]): Promise<string[]> {
  const forms = keys.flatMap(formsOf);
  const overlap = Math.max(...forms.map(([, bytes]) => bytes.length));
  const found = new Set<string>();
  const piece = Buffer.alloc(2 ** 22);
  const zeros = Buffer.alloc(piece.length);
  await using file = await open(path);
  for (let at = 0; ; at += piece.length - overlap) {
    const { bytesRead } = await file.read(piece, 0, piece.length, at);
    const bytes = piece.subarray(0, bytesRead);
    if (bytes.equals(zeros.subarray(0, bytesRead))) {
      // Address space that V8 has put by.
      if (bytesRead < piece.length) {
        return [...found];
      }
      continue;
    }
    for (const [label, form] of forms) {
      if (bytes.includes(form)) {
        found.add(label);
      }
    }
    if (bytesRead < piece.length) {
      return [...found];
    }
  }
}
