/** The audit log where nobody reads it, and on a disk that fails: agents of their own, on real pipes and under strace. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { auditFiles } from '../../src/audit/find-incident.ts';
import { connect } from '../../src/client/index.ts';
import { childEnvironment, NODE, spawnTestAgent } from '../support/agent.ts';
import { auditYaml, recordsOf, auditStanding as standing, until, verdictOf } from '../support/audit.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) {
    await step();
  }
});

const okRequests = (folder: string) =>
  recordsOf(join(folder, 'audit/audit.jsonl')).filter(
    ({ event, outcome, form }) => event === 'request' && outcome === 'ok' && form === 'value',
  );

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
    auditYaml(folder)
      .replace(/audit: .*\n/, `audit: { keyFile: FOLDER/audit.key, to: stdout, ${audit} }\n`)
      .replaceAll('FOLDER', folder),
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
        results.push(
          await dekd.encrypt(Buffer.from('a'), { key: 'k' }).then(
            () => 'ok',
            (error) => error.code,
          ),
        );
        await sleep(30);
      }
      expect(results.at(-1)).toBe(strict ? 'RESOURCE_EXHAUSTED' : 'ok');
      expect(await standing(admin)).toMatchObject({ failure: 'its reader is gone' });
    }
  }, 60_000);
});

/** Kills, more of them where a variable says so. */
const KILLS = Number(process.env.DEKD_FAULT_AUDIT_KILLS ?? 5);

describe('an agent that is killed under load', () => {
  it('has a record of every answer when it is strict, and its log verifies from run to run', async () => {
    const folder = temporaryFolder();
    const config = join(folder, 'config.yaml');
    writeFileSync(config, auditYaml(folder, 'requests: all, strict: true').replaceAll('FOLDER', folder));
    const socket = join(folder, 's/agent.sock');
    let answered = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      const agent = await spawnTestAgent(socket, ['run', '--config', config]);
      const dekd = connect({ socket, lane: false, timeoutMs: 5_000 });
      await dekd.encrypt(Buffer.from('a'), { key: 'k', timeoutMs: 20_000 });
      answered += 1;
      let isKilled = false;
      const callers = Array.from({ length: 8 }, async () => {
        while (!isKilled) {
          await dekd.encrypt(Buffer.from('a'), { key: 'k' }).then(
            () => {
              answered += 1;
            },
            () => sleep(1),
          );
        }
      });
      await sleep(100 + Math.random() * 200);
      agent.child.kill('SIGKILL');
      await agent.exited;
      isKilled = true;
      await dekd.close();
      await Promise.all(callers);
    }
    const file = join(folder, 'audit/audit.jsonl');
    const files = auditFiles(file).reverse();
    const verdict = await verdictOf(files, join(folder, 'audit.key'));
    expect(verdict.problems).toEqual([]);
    expect(verdict.runs).toBe(KILLS);
    const records = files
      .flatMap((each) => readFileSync(each, 'utf8').split('\n').slice(0, -1))
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter(({ event, outcome }) => event === 'request' && outcome === 'ok')
      .reduce((sum, { items }) => sum + Number(items ?? 1), 0);
    expect(answered).toBeGreaterThan(KILLS * 2);
    expect(records).toBeGreaterThanOrEqual(answered);
  });
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
      [
        '-f',
        '-qq',
        '-o',
        '/dev/null',
        '-P',
        path ?? file,
        '-e',
        `trace=${calls}`,
        '-e',
        `inject=${calls}:${fault}`,
      ].concat([NODE, '--disable-sigusr1', main, 'run', '--config', config]),
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
