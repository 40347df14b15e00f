/** What others of this machine get out of the process that holds the keys; rows M2 to M6 and M10 of docs/test-plan.md. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, mkdirSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { childEnvironment, NODE } from '../support/agent.ts';
import { attack, compileAttacker } from '../support/memory-attacker.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
const ADDON = fileURLToPath(new URL('../../build/Release/addon.node', import.meta.url));
const UID = 1000;
const AS_USER = [
  'setpriv',
  `--reuid=${UID}`,
  `--regid=${UID}`,
  '--clear-groups',
  '--inh-caps=-all',
  '--bounding-set=-all',
];
/** EPERM and EACCES. */
const DENIED = [1, 13];

const unable =
  process.platform !== 'linux' || process.getuid!() !== 0
    ? 'only root of a Linux machine may become another user and read every process'
    : spawnSync('g++', ['--version']).status !== 0
      ? 'g++ is not installed'
      : spawnSync(AS_USER[0]!, [...AS_USER.slice(1), NODE, '-e', `require(${JSON.stringify(ADDON)})`]).status !== 0
        ? 'the addon is not built, or uid 1000 may not read it here'
        : undefined;

describe.skipIf(unable !== undefined)(
  `an agent of uid ${UID}, attacked${unable === undefined ? '' : `: ${unable}`}`,
  () => {
    let folder: string;
    let attacker: string;
    let agent: ChildProcess;
    let pid: number;

    beforeAll(async () => {
      folder = makeFolder();
      attacker = compileAttacker(folder);
      const home = join(folder, 'home');
      mkdirSync(home);
      chownSync(home, UID, UID);
      // Without --disable-sigusr1, as a shebang starts it, and with a descriptor that somebody forgot to close.
      const stray = openSync('/etc/passwd', 'r');
      const run = [NODE, MAIN, 'dev', '--ephemeral', '--socket', join(home, 's/agent.sock')];
      agent = spawn('sh', ['-c', `cd ${home}; ulimit -c unlimited; exec "$@"`, 'sh', ...AS_USER, ...run], {
        stdio: ['ignore', 'pipe', 'inherit', 'ignore', 'ignore', 'ignore', 'ignore', stray],
        env: { ...childEnvironment(), DEKD_ENGINE: 'native', HOME: home },
      });
      pid = agent.pid!;
      let said = '';
      for await (const text of agent.stdout!.setEncoding('utf8').iterator({ destroyOnReturn: false })) {
        said += text;
        if (/is ready/.test(said)) {
          break;
        }
      }
      agent.stdout!.resume();
      await using client = connect({ socket: join(home, 's/agent.sock') });
      await client.encrypt(Buffer.from('so that there are keys'), { key: 'k' });
    });
    afterAll(() => {
      agent?.kill('SIGKILL');
      removeFolder(folder);
    });

    it('gives another process of its own uid neither memory, environment, ptrace nor process_vm_readv', async () => {
      const found = attack(attacker, pid, AS_USER);
      const { mem, environ, ptrace, vm } = found;
      expect([mem, environ, ptrace, vm].map((error) => DENIED.includes(error))).toEqual([true, true, true, true]);
      expect(found.descriptors).toBe(0);
      expect(DENIED).toContain(found.descriptorErrno);

      // The same four on a process that did not protect itself: what is refused above is not refused by this machine.
      const bare = spawn(AS_USER[0]!, [...AS_USER.slice(1), NODE, '-e', 'console.log(1);setTimeout(()=>{},60000)'], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      await once(bare.stdout!, 'data');
      expect(attack(attacker, bare.pid!, AS_USER)).toMatchObject({ mem: 0, environ: 0, ptrace: 0, vm: 0 });
      bare.kill('SIGKILL');
    });

    it('has its keys in pages that are locked, in no child and in no dump', () => {
      const entries = readFileSync(`/proc/${pid}/smaps`, 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
      const arenas = entries.filter((entry) => /^\S+ \S+ \S+ \S+ \S+ +\/secretmem/.test(entry));
      const locked = entries.filter((entry) => /^VmFlags:.* lo\b/m.test(entry));
      const arena = arenas[0] ?? locked[0]!;
      const flags = /^VmFlags: (.*)$/m.exec(arena)![1]!.split(' ');
      const [, start, end] = /^([0-9a-f]+)-([0-9a-f]+)/.exec(arena)!;
      expect(flags).toEqual(expect.arrayContaining(['lo', 'dc']));
      if (arenas.length === 0) {
        expect(flags).toContain('dd');
      }
      const size = (Number.parseInt(end!, 16) - Number.parseInt(start!, 16)) / 1024;
      expect(size).toBe(64);
      const status = readFileSync(`/proc/${pid}/status`, 'utf8');
      expect(Number(/^VmLck:\s+(\d+)/m.exec(status)![1])).toBeGreaterThanOrEqual(size);
      if (arenas.length > 0) {
        // Root, who may read everything else of this process.
        expect(attack(attacker, pid, [], start!)).toMatchObject({ vm: 14 });
        expect(attack(attacker, pid)).toMatchObject({ environ: 0, ptrace: 0 });
      }
    });

    it('took core limit, core filter, privileges and umask from itself, and kept no descriptor of its parent', () => {
      const status = readFileSync(`/proc/${pid}/status`, 'utf8');
      expect(status).toMatch(/^NoNewPrivs:\s+1$/m);
      expect(status).toMatch(/^Umask:\s+0077$/m);
      expect(readFileSync(`/proc/${pid}/limits`, 'utf8')).toMatch(/^Max core file size\s+0\s+0 /m);
      expect(readFileSync(`/proc/${pid}/coredump_filter`, 'utf8').trim()).toBe('00000000');
      const flagsOf = (fd: string): number =>
        Number.parseInt(/^flags:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8'))![1]!, 8);
      const others = readdirSync(`/proc/${pid}/fd`).filter((fd) => Number(fd) > 2);
      expect(others.filter((fd) => (flagsOf(fd) & 0o2000000) === 0)).toEqual([]);
      expect(others.map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`))).not.toContain('/etc/passwd');
    });

    it('has no descriptor of its keys for root to copy', async () => {
      const found = attack(attacker, pid);
      expect(found.descriptors).toBeGreaterThan(10);
      expect(found.secret).toBe(0);

      const victim = spawn(attacker, ['hold'], { stdio: ['ignore', 'pipe', 'inherit'] });
      const [said] = (await Promise.race([once(victim.stdout!, 'data'), once(victim, 'exit').then(() => [''])])) as [
        string,
      ];
      if (String(said) !== '') {
        expect(attack(attacker, victim.pid!).secret).toBe(1);
      }
      victim.kill('SIGKILL');
    });

    it('opens no inspector on SIGUSR1, and goes on serving', async () => {
      process.kill(pid, 'SIGUSR1');
      await sleep(300);
      expect(tcpSocketsOf(pid)).toEqual([]);
      await using client = connect({ socket: join(folder, 'home/s/agent.sock') });
      await client.encrypt(Buffer.from('x'), { key: 'k' });

      // What a process without the measure does: it listens.
      const bare = spawn(NODE, ['-e', 'console.log(1);setTimeout(()=>{},60000)'], {
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      await once(bare.stdout!, 'data');
      bare.kill('SIGUSR1');
      await vi.waitFor(() => expect(tcpSocketsOf(bare.pid!)).toHaveLength(1), 5_000);
      bare.kill('SIGKILL');
    });

    // Last: it ends the agent.
    it('leaves no core file when it aborts, whatever limit it was started with', async () => {
      const folderOfAgent = readlinkSync(`/proc/${pid}/cwd`);
      agent.kill('SIGABRT');
      const [, signal] = (await once(agent, 'exit')) as [number | null, string | null];
      expect(signal).toBe('SIGABRT');
      expect(readdirSync(folderOfAgent).filter((name) => name.startsWith('core'))).toEqual([]);
    });
  },
);

describe('an agent for production', () => {
  it.each([
    ['NODE_OPTIONS', '--inspect=127.0.0.1:0', 'NODE_OPTIONS has --inspect'],
    ['NODE_OPTIONS', '--require=/dev/null', 'NODE_OPTIONS has --require'],
    ['NODE_OPTIONS', '--import=data:text/javascript,', 'NODE_OPTIONS has --import'],
    ['NODE_OPTIONS', '--report-on-signal', 'NODE_OPTIONS has --report-on-signal'],
    ['NODE_OPTIONS', '--heapsnapshot-signal=SIGUSR2', 'NODE_OPTIONS has --heapsnapshot-signal'],
    ['LD_PRELOAD', 'libc.so.6', 'LD_PRELOAD is set'],
  ])('refuses to start with %s=%s', (name, value, reason) => {
    const { status, stderr } = spawnSync(NODE, [MAIN, 'run', '--config', '/nonexistent'], {
      encoding: 'utf8',
      env: { ...childEnvironment(), [name]: value },
    });
    expect(status).toBe(5);
    expect(stderr).toContain(reason);
  });
});

/** Internet sockets of a process, by inode. */
function tcpSocketsOf(pid: number): string[] {
  const tables = ['tcp', 'tcp6'].map((name) => readFileSync(`/proc/${pid}/net/${name}`, 'utf8')).join('');
  const inodes = new Set(tables.split('\n').map((line) => line.trim().split(/\s+/)[9]));
  return readdirSync(`/proc/${pid}/fd`)
    .map((fd) => /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1])
    .filter((inode) => inode !== undefined && inodes.has(inode)) as string[];
}
