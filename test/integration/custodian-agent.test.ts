/** An agent whose root is in a KMS, as it runs: what it connects to, what it loads, what it takes, how it stops. */
import { closeSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { type ChildAgent, childEnvironment, NODE, runYaml, spawnTestAgent } from '../support/agent.ts';
import { UNABLE } from '../support/custodian/acting-custody.ts';
import { KmsServer } from '../support/kms-server/kms-server.ts';
import { childrenOf, descriptorsOf, isRunning } from '../support/processes.ts';
import { run } from '../support/source-copy.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';

/** Of the code of the AWS SDK, and of no other: the prefix of every operation's name on the wire. */
const SDK_TEXT = 'TrentService';
const CHUNK = 4 * 1024 * 1024;
/** So that a text over the edge of a chunk is seen. */
const OVERLAP = 64;

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));

let kms: KmsServer;
let folder: string;
let agent: ChildAgent;
let leave: () => void;

beforeAll(async () => {
  if (UNABLE !== undefined) {
    return;
  }
  kms = await KmsServer.start();
  leave = kms.enter();
  folder = makeFolder();
  const file = join(folder, 'config.yaml');
  const roots = `roots: { aws: { provider: aws-kms, aws: { key: "${kms.createKey().arn}", endpoint: "${kms.endpoint}" } } }`;
  const yaml = runYaml()
    .replace(/^roots: .*$/m, roots)
    .replace(/^engine: .*$/m, 'engine: native')
    .replace(/^memory: .*$/m, '');
  writeFileSync(file, yaml.replaceAll('FOLDER', folder));
  agent = await spawnTestAgent(join(folder, 's/agent.sock'), ['run', '--config', file]);
});

afterAll(async () => {
  if (UNABLE === undefined) {
    agent.child.kill('SIGKILL');
    await agent.exited;
    removeFolder(folder);
    leave();
    await kms.stop();
  }
});

beforeEach(({ skip }) => {
  if (UNABLE !== undefined) {
    skip(UNABLE);
  }
});

describe('an agent with a root in a KMS', () => {
  it('serves, with one process of its own for the provider', async () => {
    await using client = connect({ socket: agent.socket });
    const token = await client.encrypt(Buffer.from('x'), { key: 'customers' });
    expect(Buffer.from(await client.decrypt(token, { key: 'customers' })).toString()).toBe('x');
    expect(kms.count('Encrypt')).toBeGreaterThan(0);
    expect(childrenOf(agent.pid)).toHaveLength(1);
  });

  it('has no connection but Unix sockets and pipes; its custodian has the one to the KMS', async () => {
    const [custodian] = childrenOf(agent.pid);
    expect(networkSockets(agent.pid)).toEqual([]);
    expect(networkSockets(custodian!)).toEqual([expect.stringMatching(/^tcp/)]);
  });

  it('never loads the SDK; its custodian does', async ({ skip }) => {
    if (process.getuid!() !== 0) {
      return skip('only root may read the memory of an agent');
    }
    const [custodian] = childrenOf(agent.pid);
    expect(occurrences(agent.pid, SDK_TEXT)).toBe(0);
    expect(occurrences(custodian!, SDK_TEXT)).toBeGreaterThan(0);
  });

  it('says in status which custodian there is', async () => {
    const args = [MAIN, 'status', '--json', '--socket', agent.socket];
    const { stdout } = await run(NODE, args, { cwd: folder, env: childEnvironment() });
    expect(JSON.parse(stdout)).toMatchObject({
      custodians: [{ role: 'provider', pid: childrenOf(agent.pid)[0], started: 1, crashes: 0 }],
    });
  });

  it('drains, ends its custodian and exits 0 when the whole group is told to end', async () => {
    const [custodian] = childrenOf(agent.pid);
    process.kill(custodian!, 'SIGTERM');
    process.kill(agent.pid, 'SIGTERM');
    expect(await agent.exited).toBe(0);
    expect(isRunning(custodian!)).toBe(false);
  });
});

/** Sockets of a process that are not Unix sockets, by the table in which the kernel lists them. */
function networkSockets(pid: number): string[] {
  const inodes = new Set(
    [...descriptorsOf(pid).values()].flatMap((each) => /^socket:\[(\d+)\]$/.exec(each)?.slice(1) ?? []),
  );
  return ['tcp', 'tcp6', 'udp', 'udp6', 'raw', 'raw6', 'packet', 'netlink'].flatMap((table) => {
    const rows = readFileSync(`/proc/${pid}/net/${table}`, 'utf8').trim().split('\n').slice(1);
    const column = { packet: 8, netlink: 9 }[table] ?? 9;
    return rows.filter((row) => inodes.has(row.trim().split(/\s+/)[column]!)).map(() => table);
  });
}

/** In how many chunks of a process's writable memory a text is, in one byte a character or in two. */
function occurrences(pid: number, text: string): number {
  const fd = openSync(`/proc/${pid}/mem`, 'r');
  try {
    let found = 0;
    for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
      const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? [];
      if (from === undefined || line.endsWith('[vvar]')) {
        continue;
      }
      const end = Number.parseInt(to!, 16);
      for (let at = Number.parseInt(from, 16); at < end; at += CHUNK) {
        found += inChunk(fd, at, Math.min(CHUNK + OVERLAP, end - at), text);
      }
    }
    return found;
  } finally {
    closeSync(fd);
  }
}

function inChunk(fd: number, at: number, length: number, text: string): number {
  const bytes = Buffer.allocUnsafe(length);
  let read: number;
  try {
    read = readSync(fd, bytes, 0, length, at);
  } catch {
    // Memory that the kernel shows to nobody (keys), or that was just unmapped.
    return 0;
  }
  const seen = bytes.subarray(0, read);
  return [Buffer.from(text), Buffer.from(text, 'utf16le')].filter((pattern) => seen.includes(pattern)).length;
}
