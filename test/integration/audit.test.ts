import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterEach, describe, expect, it } from 'vitest';
import { auditFiles } from '../../src/audit/find-incident.ts';
import { askAdmin } from '../../src/client/admin-request.ts';
import { Channel } from '../../src/client/channel.ts';
import { connect } from '../../src/client/index.ts';
import type { AdminFields } from '../../src/protocol/messages.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { anchorsIn, auditYaml, recordsOf, verdictOf } from '../support/audit.ts';
import { refusalOf } from '../support/refusal.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const stops: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) {
    await stop();
  }
});

async function audited(folder: string, audit = '', extra = ''): Promise<TestAgent> {
  const agent = await startTestAgent({ folder, yaml: auditYaml(folder, audit, extra) });
  stops.push(() => agent.stop());
  return agent;
}

async function command(agent: TestAgent, fields: AdminFields): Promise<unknown> {
  const channel = await Channel.open(agent.admin, undefined, 5_000, () => {});
  try {
    return await askAdmin(channel, fields);
  } finally {
    channel.close();
  }
}

const context = { field: 'pan', user: 'u-77' };

describe('an agent with an audit log', () => {
  it('writes who asked for what and how it ended, with a digest of the context and no value of it', async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'audit/audit.jsonl');
    const agent = await audited(folder, 'requests: all');
    const dekd = connect({ socket: agent.socket, lane: false });
    const token = await dekd.encrypt(Buffer.from('4111'), { key: 'customers', partition: 'acme', context });
    await dekd.decrypt(token, { key: 'customers', partition: 'acme', context });
    await dekd.encryptMany([Buffer.from('a'), Buffer.from('b')], { key: 'customers' });
    const refused = await refusalOf(
      dekd.decrypt(token, { key: 'customers', partition: 'acme', context: { field: 'x' } }),
    );
    await buffer(Readable.from([Buffer.alloc(100)]).pipe(dekd.encryptStream({ key: 'files' })));
    const denied = await refusalOf(dekd.hmac(Buffer.from('x'), { key: 'customers' }));
    await dekd.close();
    await agent.stop();
    stops.pop();

    const records = recordsOf(path);
    expect(records[0]).toMatchObject({
      audit: 1,
      event: 'start',
      format: 1,
      generation: 0,
      settings: { requests: 'all', sample: 1, strict: false, fsync: 'interval' },
    });
    expect(records.at(-1)).toMatchObject({ event: 'stop' });
    const requests = records.filter(({ event }) => event === 'request');
    const [sealed, opened, batch, failed, stream, denial] = requests;
    const me = `uid:${process.getuid!()}`;
    expect(sealed).toMatchObject({
      operation: 'encrypt',
      form: 'value',
      caller: me,
      gid: process.getgid!(),
      socket: 'data',
      key: 'customers',
      partition: 'acme',
      version: 1,
      fields: ['field', 'user'],
      outcome: 'ok',
      bytes: 4,
    });
    expect(sealed!.kid).toMatch(/^[0-9a-f]{32}$/);
    expect(sealed!.context).toMatch(/^[\w-]{22}$/);
    expect(sealed!.ms).toBeGreaterThan(0);
    expect(opened).toMatchObject({ operation: 'decrypt', outcome: 'ok', context: sealed!.context, kid: sealed!.kid });
    expect(batch).toMatchObject({ operation: 'encrypt', form: 'batch', items: 2, outcome: 'ok' });
    expect(failed).toMatchObject({ operation: 'decrypt', outcome: 'DECRYPTION_FAILED', incident: refused.incident });
    expect(failed!.context).not.toBe(sealed!.context);
    expect(stream).toMatchObject({ operation: 'encrypt', form: 'stream', key: 'files', outcome: 'ok', bytes: 100 });
    expect(denial).toMatchObject({ operation: 'hmac', outcome: 'PERMISSION_DENIED', incident: denied.incident });
    expect(denial!.reason).toContain('no rule lets');
    expect(records.map(({ event }) => event)).toContain('key-created');
    expect(readFileSync(path, 'utf8')).not.toMatch(/u-77|4111/);
    expect(statSync(path).mode & 0o777).toBe(0o640);
    expect(await verdictOf([path], join(folder, 'audit.key'))).toMatchObject({ ok: true, problems: [], notes: [] });
  });

  it('writes denials and what happens to keys always, failures unless told otherwise, and a share of the rest', async () => {
    for (const [requests, expected] of [
      ['none', ['PERMISSION_DENIED']],
      ['failures', ['DECRYPTION_FAILED', 'PERMISSION_DENIED']],
      ['all, sample: 0', ['DECRYPTION_FAILED', 'PERMISSION_DENIED']],
    ] as const) {
      const folder = temporaryFolder();
      const agent = await audited(folder, `requests: ${requests}`);
      const dekd = connect({ socket: agent.socket, lane: false });
      const token = await dekd.encrypt(Buffer.from('a'), { key: 'k' });
      await refusalOf(dekd.decrypt(token, { key: 'k', context: { a: 'b' } }));
      await refusalOf(dekd.hmac(Buffer.from('x'), { key: 'k' }));
      await dekd.close();
      await agent.stop();
      stops.pop();
      const records = recordsOf(join(folder, 'audit/audit.jsonl'));
      expect(records.filter(({ event }) => event === 'request').map(({ outcome }) => outcome)).toEqual(expected);
      expect(records.filter(({ event, key }) => event === 'key-created' && key === 'k')).toHaveLength(1);
    }
  });

  it('writes the commands of operators, with who gave them and what became of them', async () => {
    const folder = temporaryFolder();
    const agent = await audited(folder);
    await command(agent, { create: { name: 'orders', partition: 'acme' } });
    await command(agent, { rotate: { name: 'orders', partition: 'acme' } });
    await command(agent, { list: {} });
    await command(agent, { freeze: { name: 'orders', partition: 'acme' } });
    await command(agent, { freeze: { list: true } });
    await command(agent, { destroy: { name: 'orders', partition: 'acme', version: 1 } });
    await command(agent, { export: {} });
    await refusalOf(command(agent, { rotate: { name: 'nothing' } }));
    const records = recordsOf(join(folder, 'audit/audit.jsonl')).filter(({ event }) => event === 'admin');
    expect(records.map(({ command: name, outcome }) => [name, outcome])).toEqual([
      ['create', 'ok'],
      ['rotate', 'ok'],
      ['freeze', 'ok'],
      ['destroy', 'ok'],
      ['export', 'ok'],
      ['rotate', 'KEY_NOT_FOUND'],
    ]);
    expect(records[3]).toMatchObject({
      caller: `uid:${process.getuid!()}`,
      name: 'orders',
      partition: 'acme',
      version: 1,
    });
    expect(records[0]!.kids).toEqual([expect.stringMatching(/^[0-9a-f]{32}$/)]);
  });

  it('goes on under the next key after a restart, when the first one is no longer there', async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'audit/audit.jsonl');
    const yaml = auditYaml(folder);
    const key = readFileSync(join(folder, 'audit.key'));
    const run = async (yamlNow: string) => {
      const agent = await startTestAgent({ folder, yaml: yamlNow });
      await agent.stop();
      return agent.log.some(({ warning }) => String(warning).includes('take '));
    };
    expect(await run(yaml)).toBe(true);
    rmSync(join(folder, 'audit.key'));
    expect(await run(yaml)).toBe(false);
    expect(await run(yaml)).toBe(false);
    const kept = readdirSync(join(folder, 'state/audit'));
    expect(kept.map((name) => name.replace(/^[0-9a-f]{32}/, 'ID')).sort()).toEqual(['ID-3.key', 'ID-context.key']);
    for (const name of kept) {
      expect(statSync(join(folder, 'state/audit', name)).mode & 0o777).toBe(0o600);
      expect(readFileSync(join(folder, 'state/audit', name))).not.toEqual(key);
    }
    const keyFile = join(folder, 'auditor.key');
    writeFileSync(keyFile, key, { mode: 0o600 });
    const files = auditFiles(path).reverse();
    expect(files).toHaveLength(3);
    expect(await verdictOf(files, keyFile)).toMatchObject({ ok: true, runs: 3, problems: [], notes: [] });
    expect((await verdictOf([files[0]!, files[2]!], keyFile)).ok).toBe(false);
    // What is in the state folder now verifies nothing of before.
    const current = join(folder, 'state/audit', kept.find((name) => name.endsWith('-3.key'))!);
    expect((await verdictOf(files, current)).ok).toBe(false);
  });

  it('begins another file when one is full, and files follow each other', async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'audit/audit.jsonl');
    const agent = await audited(folder, 'requests: all, rotate: { size: 64KiB }');
    const dekd = connect({ socket: agent.socket, lane: false });
    await dekd.encrypt(Buffer.from('a'), { key: 'k' });
    // One after the other: calls of one tick would be one batch, and one record.
    for (let i = 0; i < 500; i++) {
      await dekd.encrypt(Buffer.from('a'), { key: 'k', context });
    }
    await dekd.close();
    await agent.stop();
    stops.pop();
    const files = auditFiles(path).reverse();
    expect(files.length).toBeGreaterThan(2);
    const keyFile = join(folder, 'audit.key');
    expect(await verdictOf(files, keyFile)).toMatchObject({ ok: true, problems: [], notes: [] });
    expect(await verdictOf(files.slice(1), keyFile)).toMatchObject({ ok: true, problems: [] });
    expect((await verdictOf([files[0]!, ...files.slice(2)], keyFile)).ok).toBe(false);
  });

  it('tells anchors elsewhere, which find a log that was cut off', async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'audit/audit.jsonl');
    const agent = await audited(folder, 'requests: all, anchors: { file: FOLDER/anchors.jsonl, lines: 5 }');
    const dekd = connect({ socket: agent.socket, lane: false });
    for (let i = 0; i < 20; i++) {
      await dekd.encrypt(Buffer.from('a'), { key: 'k' });
    }
    await dekd.close();
    await agent.stop();
    stops.pop();
    const keyFile = join(folder, 'audit.key');
    const anchors = anchorsIn(readFileSync(join(folder, 'anchors.jsonl'), 'utf8'));
    expect(anchors.length).toBeGreaterThan(0);
    expect(anchorsIn(agent.log.map((line) => JSON.stringify(line)).join('\n')).map(({ seq }) => seq)).toEqual(
      anchors.map(({ seq }) => seq),
    );
    expect(await verdictOf([path], keyFile, anchors)).toMatchObject({ ok: true, anchored: anchors.length });
    const lines = readFileSync(path, 'utf8').split('\n');
    writeFileSync(path, `${lines.slice(0, 1).join('\n')}\n`);
    expect((await verdictOf([path], keyFile)).ok).toBe(true);
    expect((await verdictOf([path], keyFile, anchors)).problems[0]!.message).toMatch(/^the log is cut off/);
  });

  it('finds the reason behind an incident in the files when memory has none of it', async () => {
    const folder = temporaryFolder();
    const first = await audited(folder);
    const dekd = connect({ socket: first.socket, lane: false });
    const incident = (await refusalOf(dekd.hmac(Buffer.from('x'), { key: 'customers' }))).incident!;
    await dekd.close();
    await first.stop();
    stops.pop();
    const second = await audited(folder);
    expect(await command(second, { why: { incident } })).toMatchObject({
      outcome: 'PERMISSION_DENIED',
      incident,
      reason: expect.stringContaining('no rule lets'),
    });
    const unknown = await refusalOf(command(second, { why: { incident: 'abcde-0' } }));
    expect(unknown.message).toContain("no incident 'abcde-0'");
  });

  it('is taken over by a successor that writes a file of its own', async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'audit/audit.jsonl');
    const yaml = auditYaml(folder, 'requests: all');
    const first = await startTestAgent({ folder, yaml });
    const early = connect({ socket: first.socket, lane: false });
    await early.encrypt(Buffer.from('a'), { key: 'k' });
    const second = await startTestAgent({ folder, yaml, replace: true });
    await early.encrypt(Buffer.from('b'), { key: 'k' });
    const late = connect({ socket: second.socket, lane: false });
    await late.encrypt(Buffer.from('c'), { key: 'k' });
    await early.close();
    await first.stop();
    await late.close();
    await second.stop();
    const files = auditFiles(path).reverse();
    expect(files).toHaveLength(2);
    expect(await verdictOf(files, join(folder, 'audit.key'))).toMatchObject({
      ok: true,
      runs: 2,
      problems: [],
      notes: [],
    });
    expect(recordsOf(path).filter(({ operation }) => operation === 'encrypt')).toHaveLength(3);
  });

  it('does not start without its key, or where it cannot write', async () => {
    const folder = temporaryFolder();
    const yaml = auditYaml(folder);
    writeFileSync(join(folder, 'audit'), 'a file where the folder should be');
    const blocked = await refusalOf(startTestAgent({ folder, yaml }));
    expect(blocked.message).toMatch(/audit.file .* cannot be begun \((EEXIST|ENOTDIR)\)/);
    rmSync(join(folder, 'audit'));
    rmSync(join(folder, 'state'), { recursive: true, force: true });
    rmSync(join(folder, 'audit.key'));
    const keyless = await refusalOf(startTestAgent({ folder, yaml }));
    expect(keyless.message).toContain('the audit log has no key: dekd keygen -o FILE');
    expect(existsSync(join(folder, 'audit'))).toBe(false);
  });
});
