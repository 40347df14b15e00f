/** What becomes of requests when their records cannot be written: on the way in, and on the way out. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { closeSync, constants, mkdirSync, openSync, readSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { auditFiles } from '../../src/audit/find-incident.ts';
import { askAdmin } from '../../src/client/admin-request.ts';
import { Channel } from '../../src/client/channel.ts';
import { connect, type DekdClient } from '../../src/client/index.ts';
import { childEnvironment, NODE, startTestAgent, type TestAgent } from '../support/agent.ts';
import { auditYaml, recordsOf, verdictOf } from '../support/audit.ts';
import { refusalOf } from '../support/refusal.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) {
    await step();
  }
});

interface Standing {
  readonly lost: number;
  readonly refused: number;
  readonly failure: string | null;
  readonly waitingBytes: number;
}

async function standing(admin: string): Promise<Standing> {
  const channel = await Channel.open(admin, undefined, 5_000, () => {});
  try {
    return ((await askAdmin(channel, { status: {} })) as { audit: Standing }).audit;
  } finally {
    channel.close();
  }
}

async function until(what: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 400; i++) {
    if (await what()) {
      return;
    }
    await sleep(25);
  }
  throw new Error('it did not come to that');
}

/** A file system of 256 KiB for the audit log, and a way to fill and to free it. */
function smallDisk(folder: string): { fill(): void; free(): void } {
  const mount = join(folder, 'audit');
  mkdirSync(mount);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', mount]);
  undo.push(() => execFileSync('umount', ['-l', mount]));
  const filler = join(mount, 'filler');
  return {
    fill() {
      const fd = openSync(filler, 'w');
      try {
        for (;;) {
          writeSync(fd, Buffer.alloc(1024));
        }
      } catch (error) {
        expect((error as NodeJS.ErrnoException).code).toBe('ENOSPC');
      } finally {
        closeSync(fd);
      }
    },
    free() {
      execFileSync('mount', ['-o', 'remount,size=64m', mount]);
      rmSync(filler);
    },
  };
}

const mayMount =
  process.getuid!() === 0 &&
  spawnSync('sh', ['-c', 'd=$(mktemp -d) && mount -t tmpfs tmpfs $d && umount $d && rmdir $d']).status === 0;

async function audited(folder: string, audit: string): Promise<{ agent: TestAgent; dekd: DekdClient }> {
  const agent = await startTestAgent({ folder, yaml: auditYaml(folder, audit) });
  undo.push(() => agent.stop());
  const dekd = connect({ socket: agent.socket, lane: false, timeoutMs: 1_000 });
  undo.push(() => dekd.close());
  await dekd.encrypt(Buffer.from('first'), { key: 'k', timeoutMs: 10_000 });
  return { agent, dekd };
}

const okRequests = (folder: string) =>
  recordsOf(join(folder, 'audit/audit.jsonl')).filter(
    ({ event, outcome, form }) => event === 'request' && outcome === 'ok' && form === 'value',
  );

describe.skipIf(!mayMount)('a full disk under the audit log (where this user may mount one)', () => {
  it('stops nothing when the log is not strict: what is lost is counted, and a record says so afterwards', async () => {
    const folder = temporaryFolder();
    const disk = smallDisk(folder);
    const { agent, dekd } = await audited(folder, 'requests: all');
    disk.fill();
    const long = 'p'.repeat(100);
    let asked = 1;
    for (; (await standing(agent.admin)).lost < 50; asked += 250) {
      for (let i = 0; i < 250; i++) {
        // One after the other: calls of one tick would be one batch, and one record.
        await dekd.encrypt(Buffer.from('a'), { key: 'k', partition: long, context: { [long]: '1', [`x${long}`]: '2' } });
      }
    }
    expect((await standing(agent.admin)).failure).toBe('ENOSPC');
    expect(agent.log.some(({ message, reason }) => message === 'audit log fails' && /ENOSPC/.test(String(reason)))).toBe(
      true,
    );
    const { lost } = await standing(agent.admin);
    disk.free();
    await until(async () => (await standing(agent.admin)).failure === null);
    await dekd.encrypt(Buffer.from('b'), { key: 'k' });
    asked += 1;
    await dekd.close();
    await agent.stop();
    const records = recordsOf(join(folder, 'audit/audit.jsonl'));
    const gaps = records.filter(({ event }) => event === 'gap');
    expect(gaps.map(({ lost: n, reason }) => [n, reason])).toEqual([[lost, 'ENOSPC']]);
    expect(okRequests(folder).length + lost).toBe(asked);
    const files = auditFiles(join(folder, 'audit/audit.jsonl')).reverse();
    expect(await verdictOf(files, join(folder, 'audit.key'))).toMatchObject({ ok: true, lost, problems: [] });
  }, 60_000);

  it('stops everything when it is strict, answers under way included, and nothing else when there is room again', async () => {
    const folder = temporaryFolder();
    const disk = smallDisk(folder);
    const { agent, dekd } = await audited(folder, 'requests: all, strict: true');
    let answered = 1;
    disk.fill();
    // The last page of the log has room for some more records; then an answer is kept back, and then requests are refused.
    let refused: unknown;
    for (let i = 0; i < 200 && refused === undefined; i++) {
      await dekd.encrypt(Buffer.from('a'), { key: 'k' }).then(
        () => {
          answered += 1;
        },
        (error: unknown) => {
          refused = error;
        },
      );
    }
    expect(refused).toMatchObject({ code: 'RESOURCE_EXHAUSTED', retryable: true });
    expect((refused as Error).message).toContain('the audit log takes no records');
    const before = await standing(agent.admin);
    expect(before).toMatchObject({ failure: 'ENOSPC' });
    for (const attempt of [
      () => dekd.encrypt(Buffer.from('a'), { key: 'k' }),
      () => dekd.encryptMany([Buffer.from('a')], { key: 'k' }),
      () => dekd.hmac(Buffer.from('x'), { key: 'k' }),
      () => dekd.keyInfo('k'),
    ]) {
      expect((await refusalOf(attempt)).code).toBe('RESOURCE_EXHAUSTED');
    }
    const channel = await Channel.open(agent.admin, undefined, 5_000, () => {});
    const rotation = await refusalOf(askAdmin(channel, { rotate: { name: 'k' } }));
    channel.close();
    expect(rotation.code).toBe('RESOURCE_EXHAUSTED');
    expect((await standing(agent.admin)).refused).toBeGreaterThan(before.refused);
    // What was done and not answered waits to be recorded, and nothing more was done since.
    const { waitingBytes } = await standing(agent.admin);
    await refusalOf(dekd.encrypt(Buffer.from('a'), { key: 'k' }));
    expect((await standing(agent.admin)).waitingBytes).toBe(waitingBytes);

    disk.free();
    await until(async () => (await standing(agent.admin)).failure === null);
    await dekd.encrypt(Buffer.from('b'), { key: 'k' });
    answered += 1;
    await dekd.close();
    await agent.stop();
    // Of every answer there is a record; of the one that was kept back, too.
    expect(okRequests(folder).length).toBeGreaterThanOrEqual(answered);
    expect(okRequests(folder).length).toBeLessThanOrEqual(answered + 2);
    const files = auditFiles(join(folder, 'audit/audit.jsonl')).reverse();
    expect(await verdictOf(files, join(folder, 'audit.key'))).toMatchObject({ ok: true, problems: [] });
  }, 60_000);
});

/** An agent whose standard output is a pipe that this test reads, or does not. */
async function piped(audit: string) {
  const folder = temporaryFolder();
  const fifo = join(folder, 'output');
  execFileSync('mkfifo', [fifo]);
  const { O_RDONLY, O_NONBLOCK } = constants;
  const reading = openSync(fifo, O_RDONLY | O_NONBLOCK);
  const writing = openSync(fifo, 'w');
  const config = join(folder, 'config.yaml');
  writeFileSync(
    config,
    auditYaml(folder).replace(/audit: .*\n/, `audit: { keyFile: FOLDER/audit.key, to: stdout, ${audit} }\n`).replaceAll('FOLDER', folder),
  );
  const main = new URL('../../src/cli/main.ts', import.meta.url).pathname;
  const child = spawn(NODE, ['--disable-sigusr1', main, 'run', '--config', config], {
    stdio: ['ignore', writing, 'inherit'],
    env: childEnvironment(),
  });
  closeSync(writing);
  const ended = new Promise((resolve) => child.once('exit', resolve));
  let text = '';
  const read = (): string => {
    const piece = Buffer.alloc(65_536);
    for (;;) {
      try {
        const length = readSync(reading, piece);
        if (length === 0) {
          return text;
        }
        text += piece.toString('utf8', 0, length);
      } catch {
        return text;
      }
    }
  };
  let isOpen = true;
  const close = () => {
    if (isOpen) {
      isOpen = false;
      closeSync(reading);
    }
  };
  undo.push(async () => {
    child.kill('SIGKILL');
    await ended;
    close();
  });
  await until(async () => read().includes('agent ready'));
  const dekd = connect({ socket: join(folder, 's/agent.sock'), lane: false, timeoutMs: 1_000 });
  undo.push(() => dekd.close());
  await dekd.encrypt(Buffer.from('first'), { key: 'k', timeoutMs: 10_000 });
  return { folder, admin: join(folder, 's/admin.sock'), dekd, read, close, child, ended };
}

const manyNames = Object.fromEntries(Array.from({ length: 16 }, (_, i) => [`${'n'.repeat(60)}${i}`, 'v']));

describe('standard output that nobody reads', () => {
  it('stops nothing when the log is not strict: what is lost is counted, and a record says so when it is read again', async () => {
    const { folder, admin, dekd, read, child, ended } = await piped('requests: all');
    while ((await standing(admin)).lost < 20) {
      for (let i = 0; i < 250; i++) {
        await dekd.encrypt(Buffer.from('a'), { key: 'k', context: manyNames });
      }
    }
    const { lost } = await standing(admin);
    await until(async () => {
      read();
      return (await standing(admin)).waitingBytes === 0;
    });
    await dekd.encrypt(Buffer.from('b'), { key: 'k' });
    child.kill('SIGTERM');
    await ended;
    const text = read();
    const gaps = text
      .split('\n')
      .filter((line) => line.startsWith('{"audit":') && line.includes('"event":"gap"'))
      .map((line) => (JSON.parse(line) as { lost: number }).lost);
    expect(gaps.reduce((sum, each) => sum + each, 0)).toBe(lost);
    writeFileSync(join(folder, 'pod.log'), text);
    expect(await verdictOf([join(folder, 'pod.log')], join(folder, 'audit.key'), [], true)).toMatchObject({
      ok: true,
      lost,
      problems: [],
    });
  }, 60_000);

  it('stops everything when it is strict, and nothing once it is read again', async () => {
    const { admin, dekd, read } = await piped('requests: all, strict: true');
    let refused: unknown;
    for (let i = 0; i < 500 && refused === undefined; i++) {
      await dekd.encrypt(Buffer.from('a'), { key: 'k', context: manyNames }).catch((error: unknown) => {
        refused = error;
      });
    }
    expect(refused).toMatchObject({ code: 'RESOURCE_EXHAUSTED', retryable: true });
    await until(async () => {
      read();
      return (await standing(admin)).failure === null;
    });
    await dekd.encrypt(Buffer.from('b'), { key: 'k' });
  }, 60_000);

  it('is no way out when its reader is gone: strict refuses for good, and otherwise status says so', async () => {
    for (const strict of [true, false]) {
      const { admin, dekd, close } = await piped(`requests: all, strict: ${strict}`);
      close();
      const results = [];
      for (let i = 0; i < 3; i++) {
        results.push(await dekd.encrypt(Buffer.from('a'), { key: 'k' }).then(() => 'ok', (error) => error.code));
        await sleep(30);
      }
      expect(results.at(-1)).toBe(strict ? 'RESOURCE_EXHAUSTED' : 'ok');
      expect(await standing(admin)).toMatchObject({ failure: 'its reader is gone' });
    }
  }, 60_000);
});

const hasStrace = spawnSync('strace', ['-V']).status === 0;

describe.skipIf(!hasStrace)('a disk that fails (by strace, where it is installed)', () => {
  /** Agent under strace, which has `fault` come of system calls on the audit file from the `when`-th on. */
  async function traced(audit: string, fault: string, calls: string, path?: string) {
    const folder = temporaryFolder();
    const config = join(folder, 'config.yaml');
    writeFileSync(config, auditYaml(folder, audit).replaceAll('FOLDER', folder));
    const main = new URL('../../src/cli/main.ts', import.meta.url).pathname;
    const file = join(folder, 'audit/audit.jsonl');
    const child = spawn(
      'strace',
      ['-f', '-qq', '-o', '/dev/null', '-P', path ?? file, '-e', `trace=${calls}`, '-e', `inject=${calls}:${fault}`].concat([
        NODE,
        '--disable-sigusr1',
        main,
        'run',
        '--config',
        config,
      ]),
      { stdio: ['ignore', 'pipe', 'inherit'], env: childEnvironment() },
    );
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    undo.push(async () => {
      child.kill('SIGKILL');
      await ended;
    });
    await until(async () => output.includes('agent ready'));
    const pid = Number(/"pid":(\d+)/.exec(output.split('\n').find((line) => line.includes('agent ready'))!)![1]);
    undo.push(() => {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended.
      }
    });
    const dekd = connect({ socket: join(folder, 's/agent.sock'), lane: false, timeoutMs: 5_000 });
    undo.push(() => dekd.close());
    return { folder, file, dekd, admin: join(folder, 's/admin.sock') };
  }

  it('that writes nothing any more is told, and strict refuses', async () => {
    const { dekd, admin } = await traced('requests: all, strict: true', 'error=EIO:when=8+', 'write');
    let refused: unknown;
    for (let i = 0; i < 20 && refused === undefined; i++) {
      await dekd.encrypt(Buffer.from('a'), { key: 'k' }).catch((error: unknown) => {
        refused = error;
      });
    }
    expect(refused).toMatchObject({ code: 'RESOURCE_EXHAUSTED' });
    expect(await standing(admin)).toMatchObject({ failure: 'EIO' });
  }, 60_000);

  it('that fails to sync is left for another file, and nothing was acknowledged before', async () => {
    const { dekd, folder, file } = await traced(
      'requests: all, strict: true, fsync: always',
      'error=EIO:when=3',
      'fdatasync',
    );
    let answered = 0;
    for (let i = 0; i < 10; i++) {
      await dekd.encrypt(Buffer.from('a'), { key: 'k' }).then(
        () => {
          answered += 1;
        },
        () => sleep(300),
      );
    }
    expect(answered).toBeGreaterThan(3);
    await dekd.close();
    const files = auditFiles(file).reverse();
    expect(files.length).toBeGreaterThan(1);
    const records = okRequests(folder);
    expect(records.length).toBeGreaterThanOrEqual(answered);
    expect((await verdictOf(files, join(folder, 'audit.key'))).problems).toEqual([]);
  }, 60_000);
});
