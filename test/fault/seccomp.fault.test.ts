/** Agents under the system call filters that `deploy/` recommends: everything they do is allowed, and little else. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { runYaml } from '../support/agent.ts';
import { KmsServer } from '../support/kms-server/kms-server.ts';
import { childrenOf } from '../support/processes.ts';
import { AgentProcess, report, runCommand, runDekd } from './support/agent-process.ts';
import { PrivatePackage } from './support/private-package.ts';
import { compileFilter, profileOf, readProfile } from './support/seccomp-filter.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const PROFILE = join(ROOT, 'deploy/seccomp/dekd.json');
const UNIT = join(ROOT, 'deploy/systemd/dekd.service');
const MIB = 2 ** 20;

describe('a system call filter', () => {
  let built: PrivatePackage;
  let kms: KmsServer;
  let folder: string;
  let unable: string | undefined;

  beforeAll(async () => {
    built = new PrivatePackage();
    unable = built.hasAddon
      ? spawnSync('gcc', ['--version']).status === 0
        ? undefined
        : 'gcc is not installed'
      : 'the addon is not built';
    kms = await KmsServer.start();
  });
  afterAll(async () => {
    built[Symbol.dispose]();
    await kms.stop();
  });
  beforeEach(({ skip }) => {
    folder = mkdtempSync(join(tmpdir(), 'dekd-seccomp-'));
    if (unable !== undefined) {
      skip(unable);
    }
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  /** Every kind of work once: tokens, batches, the lane, files, streams, large objects, a command. */
  async function work(agent: AgentProcess): Promise<void> {
    await using client = connect({ socket: agent.socket });
    const options = { key: 'k', context: { field: 'pan' } };
    for (const size of [0, 100, 64 * 1024, 3 * MIB]) {
      const data = Buffer.alloc(size, 7);
      expect(Buffer.from(await client.decrypt(await client.encrypt(data, options), options)).equals(data)).toBe(true);
    }
    const many = await client.encryptMany(
      Array.from({ length: 20_000 }, (_, index) => Buffer.from(`value ${index}`)),
      options,
    );
    expect(many.every(({ ok }) => ok)).toBe(true);
    const [plain, sealed, back] = ['plain', 'sealed', 'back'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
    writeFileSync(plain, Buffer.alloc(5 * MIB, 'text'));
    await client.encryptFile(plain, sealed, { key: 'files' });
    await client.decryptFile(sealed, back, { key: 'files' });
    expect(readFileSync(back).equals(readFileSync(plain))).toBe(true);
    const large = await client.encryptLarge({ text: 'x'.repeat(4 * MIB) }, { key: 'large', compression: 'zstd' });
    expect(await client.decryptLarge(large, { key: 'large' })).toEqual({ text: 'x'.repeat(4 * MIB) });
    const status = await runDekd(built, ['status', '--json', '--socket', agent.socket]);
    expect(JSON.parse(status.stdout)).toMatchObject({
      ready: true,
      memory: { level: expect.stringMatching(/secret|locked/) },
    });
  }

  /** An agent on its own root, and one with a root in a KMS, which has custodians; both to their end. */
  async function workUnder(filter: readonly string[]): Promise<void> {
    const local = await AgentProcess.start({ package: built, folder, wrapper: filter });
    await work(local);
    expect(await local.stop(), local.said).toBe(0);

    const place = join(folder, 'remote');
    mkdirSync(place);
    const config = join(place, 'config.yaml');
    const root = `roots: { aws: { provider: aws-kms, aws: { key: "${kms.createKey().arn}", endpoint: "${kms.endpoint}" } } }`;
    const yaml = runYaml()
      .replace(/^roots: .*$/m, root)
      .replace(/^engine: .*$/m, 'engine: native')
      .replace(/^memory: .*$/m, '')
      .replaceAll('FOLDER', place);
    writeFileSync(config, yaml);
    const remote = await AgentProcess.start({
      package: built,
      folder,
      config,
      wrapper: filter,
      env: kms.environment(),
    });
    await using client = connect({ socket: join(place, 's/agent.sock') });
    const token = await client.encrypt(Buffer.from('x'), { key: 'k' });
    expect(Buffer.from(await client.decrypt(token, { key: 'k' })).toString()).toBe('x');
    expect(childrenOf(remote.pid).length).toBeGreaterThan(0);
    expect(await remote.stop(), remote.said).toBe(0);
  }

  it('of the profile for containers lets an agent do all that it does; any other call would end it', async () => {
    const filter = compileFilter(folder, 'dekd-profile', readProfile(PROFILE));
    await workUnder([filter, '--kill']);
    const allowed = readProfile(PROFILE).syscalls.filter(({ action }) => action === 'SCMP_ACT_ALLOW');
    report('seccomp profile', { names: new Set(allowed.flatMap(({ names }) => names)).size });
  });

  it.for([
    ['ptrace', 'ctypes.CDLL(None, use_errno=True).ptrace(0, 0, 0, 0)'],
    ['new namespaces', 'ctypes.CDLL(None, use_errno=True).unshare(0x10000000)'],
    ['a socket of another family', 'ctypes.CDLL(None, use_errno=True).socket(40, 1, 0)'],
    ['loading a kernel module', 'ctypes.CDLL(None, use_errno=True).syscall(175, 0, 0, 0)'],
  ] as const)('of the profile refuses %s', async ([, call], { skip }) => {
    if (spawnSync('python3', ['--version']).status !== 0) {
      return skip('python3 is not installed');
    }
    const filter = compileFilter(folder, 'dekd-profile', readProfile(PROFILE));
    const script = `import ctypes; print(${call}, ctypes.get_errno())`;
    expect((await runCommand([filter, 'python3', '-c', script])).stdout.trim()).toBe('-1 1');
  });

  it('that lacks one call which the agent makes ends it: the profile is held to what is done', async () => {
    const profile = readProfile(PROFILE);
    const syscalls = profile.syscalls.map((rule) => ({
      ...rule,
      names: rule.names.filter((name) => name !== 'flock'),
    }));
    const filter = compileFilter(folder, 'without-flock', { syscalls });
    await expect(AgentProcess.start({ package: built, folder, wrapper: [filter, '--kill'] })).rejects.toThrow(/SIGSYS/);
  });

  it('of the systemd unit lets an agent do all that it does', async ({ skip }) => {
    if (spawnSync('systemd-analyze', ['--version']).status !== 0) {
      return skip('systemd-analyze is not installed');
    }
    const filter = compileFilter(folder, 'dekd-unit', profileOf(systemCallsOf(readFileSync(UNIT, 'utf8')), []));
    await workUnder([filter]);
  });
});

/** What the lines SystemCallFilter of a unit allow in the end; sets are those of the systemd that is installed. */
function systemCallsOf(unit: string): string[] {
  const allowed = new Set<string>();
  for (const [, not, list] of unit.matchAll(/^SystemCallFilter=(~?)(.*)$/gm)) {
    for (const name of list!.split(' ').flatMap(membersOf)) {
      if (not === '~') {
        allowed.delete(name);
      } else {
        allowed.add(name);
      }
    }
  }
  return [...allowed];
}

function membersOf(name: string): string[] {
  if (!name.startsWith('@')) {
    return [name];
  }
  const { stdout } = spawnSync('systemd-analyze', ['syscall-filter', name, '--no-pager'], { encoding: 'utf8' });
  const members = stdout
    .split('\n')
    .slice(1)
    .map((line) => line.trim());
  return members.filter((member) => /^[@a-z]/.test(member)).flatMap(membersOf);
}
