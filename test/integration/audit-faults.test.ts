/** What becomes of requests when their records cannot be written: on the way in, and on the way out. */
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { auditFiles } from '../../src/audit/find-incident.ts';
import { askAdmin } from '../../src/client/admin-request.ts';
import { Channel } from '../../src/client/channel.ts';
import { connect, type DekdClient } from '../../src/client/index.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { auditYaml, recordsOf, auditStanding as standing, until, verdictOf } from '../support/audit.ts';
import { refusalOf } from '../support/refusal.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) {
    await step();
  }
});

async function ready(admin: string): Promise<unknown> {
  const channel = await Channel.open(admin, undefined, 5_000, () => {});
  const { ready: isReady, reasons } = (await askAdmin(channel, { status: { brief: true } })) as Record<string, unknown>;
  channel.close();
  return { ready: isReady, reasons };
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
        await dekd.encrypt(Buffer.from('a'), {
          key: 'k',
          partition: long,
          context: { [long]: '1', [`x${long}`]: '2' },
        });
      }
    }
    expect((await standing(agent.admin)).failure).toBe('ENOSPC');
    expect(
      agent.log.some(({ message, reason }) => message === 'audit log fails' && /ENOSPC/.test(String(reason))),
    ).toBe(true);
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
    // No answer has left whose record is not on the disk, full as it is.
    expect(okRequests(folder)).toHaveLength(answered);
    expect((refused as Error).message).toContain('the audit log takes no records');
    const before = await standing(agent.admin);
    expect(before).toMatchObject({ failure: 'ENOSPC' });
    expect(await ready(agent.admin)).toEqual({
      ready: false,
      reasons: ['the audit log takes no records, and nothing is done without them'],
    });
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
    expect(await ready(agent.admin)).toMatchObject({ ready: true });
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
