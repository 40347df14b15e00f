import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, lstatSync, mkdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { loadBinding } from '../../src/addon/binding.ts';
import { errorCodeOf } from '../../src/errors.ts';
import type { RequestFields } from '../../src/protocol/messages.ts';
import { MAIN, NODE, runYaml, startTestAgent, type TestAgent, writeRunConfig } from '../support/agent.ts';
import { askAs } from '../support/ask-as.ts';
import { contextOf, type RawReply } from '../support/raw-client.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';

const RULES = `
policy:
  rules:
    - { name: shop, callers: { uid: 1000 }, keys: 'shop-*', operations: [encrypt, decrypt], create: { max: 2 } }
    - { name: reader, callers: { uid: 1001, gid: 1001 }, keys: 'shop-*', operations: [decrypt, keyInfo] }
    - { name: group, callers: { gid: 2000 }, keys: 'team', partitions: ['acme'], operations: [encrypt], create: { max: 10 } }
`;

const isRoot = process.getuid?.() === 0;
const hasAddon = loadBinding().binding !== undefined;
const DATA = Buffer.from('plaintext');

describe('callers over a real socket', () => {
  let agent: TestAgent;
  let folder: string;
  beforeEach(({ skip }) => {
    skip(!isRoot, 'needs root, to connect as other users');
    skip(!hasAddon, 'the addon is not built: callers cannot be told apart');
  });
  beforeAll(async () => {
    if (!isRoot || !hasAddon) {
      return;
    }
    folder = makeFolder();
    // The way to the socket must be open; the socket's own folder is what guards it.
    chmodSync(folder, 0o755);
    writeRunConfig(folder);
    const yaml = runYaml()
      .replace(/policy:[\s\S]*/, RULES)
      .replace('allowOwnUid: true', 'group: 1000');
    agent = await startTestAgent({ folder, yaml });
  });
  afterAll(async () => {
    await agent?.stop();
    if (folder) {
      removeFolder(folder);
    }
  });

  const shop = { uid: 1000, gid: 1000 };

  it('are let in by the modes of folder and socket: 0750, 0660 and the group', async () => {
    expect(statSync(dirname(agent.socket)).mode & 0o7777).toBe(0o750);
    expect(statSync(dirname(agent.socket)).gid).toBe(1000);
    expect(lstatSync(agent.socket).mode & 0o7777).toBe(0o660);
    expect(lstatSync(agent.socket).gid).toBe(1000);
    expect(lstatSync(agent.admin).mode & 0o7777).toBe(0o600);
    expect(await askAs({ uid: 1002, gid: 1002 }, agent.socket, [])).toBe('EACCES');
    expect(await askAs(shop, agent.admin, [])).toBe('EACCES');
  });

  it('may do what a rule for their uid says, and nothing else', async () => {
    const replies = (await askAs(shop, agent.socket, [
      { id: 1, encrypt: { key: 'shop-a', data: DATA } },
      { id: 2, encrypt: { key: 'other', data: DATA } },
      { id: 3, encrypt: { key: 'not-there', data: DATA } },
      { id: 4, keyInfo: { key: 'shop-a' } },
      { id: 5, reencrypt: { key: 'shop-a', data: DATA } },
      { id: 6, encrypt: { key: 'team', partition: 'acme', data: DATA } },
      { id: 7, admin: { status: {} } },
      { id: 8, decrypt: { key: 'other', data: DATA } },
      { id: 9, ping: {} },
    ])) as Map<number, RawReply>;
    expect(replies.get(1)!.value).toHaveLength(DATA.length + 58);
    expect(replies.get(9)!.document).toBeTruthy();
    for (const id of [2, 3, 4, 5, 6, 8]) {
      const { error } = replies.get(id)!;
      expect([errorCodeOf(error!.code), error!.message], `request ${id}`).toEqual([
        'PERMISSION_DENIED',
        'no such key, or not allowed',
      ]);
    }
    expect(errorCodeOf(replies.get(7)!.error!.code)).toBe('PERMISSION_DENIED');
  });

  it('are told the same of a key that exists and of one that does not', async () => {
    const reader = { uid: 1001, gid: 1000 };
    const replies = (await askAs(reader, agent.socket, [
      { id: 1, encrypt: { key: 'shop-a', data: DATA } },
      { id: 2, encrypt: { key: 'no-such-key', data: DATA } },
    ])) as Map<number, RawReply>;
    const told = [1, 2].map((id) => {
      const { incident, ...rest } = replies.get(id)!.error!;
      expect(incident).toBeTruthy();
      return { ...rest };
    });
    expect(told[0]).toEqual(told[1]);
  });

  it('make keys on first use up to the cap of their rule', async () => {
    const replies = (await askAs(shop, agent.socket, [
      { id: 1, encrypt: { key: 'shop-a', data: DATA } },
      { id: 2, encrypt: { key: 'shop-b', data: DATA } },
      { id: 3, encrypt: { key: 'shop-c', data: DATA } },
    ])) as Map<number, RawReply>;
    expect(replies.get(1)!.value).toBeTruthy();
    expect(replies.get(2)!.value).toBeTruthy();
    expect(errorCodeOf(replies.get(3)!.error!.code)).toBe('PERMISSION_DENIED');
  });

  it('log, when denied, the rule that would allow the call', async () => {
    await askAs(shop, agent.socket, [
      { id: 1, encrypt: { key: 'secret-key', data: DATA, context: contextOf({ a: 'value' }) } },
    ]);
    const line = agent.log.findLast(({ code, key }) => code === 'PERMISSION_DENIED' && key === 'secret-key');
    expect(line).toMatchObject({ level: 'warn', caller: 'uid:1000', operation: 'encrypt' });
    expect(line!.reason).toMatch(/uid: \[?1000/);
    expect(line!.reason).toMatch(/secret-key/);
  });

  it('of the overflow uid are refused, with the reason in the log only', async () => {
    const replies = (await askAs({ uid: 65_534, gid: 1000 }, agent.socket, [])) as Map<number, RawReply>;
    const { error } = replies.get(0)!;
    expect([errorCodeOf(error!.code), error!.message]).toEqual(['UNAUTHENTICATED', 'the caller is not known']);
    expect(agent.log.some(({ reason }) => /overflow uid 65534/.test(String(reason)))).toBe(true);
  });

  it('of a PID namespace of their own are who their uid says', async ({ skip }) => {
    const own = ['unshare', '--pid', '--fork', '--kill-child'];
    skip(spawnSync(own[0]!, [...own.slice(1), 'true']).status !== 0, 'no PID namespace can be made here');
    const asked: RequestFields[] = [{ id: 1, encrypt: { key: 'shop-a', data: DATA } }];
    const allowed = (await askAs(shop, agent.socket, asked, own)) as Map<number, RawReply>;
    expect(allowed.get(1)!.value).toHaveLength(DATA.length + 58);
    const denied = (await askAs({ uid: 1003, gid: 1000 }, agent.socket, asked, own)) as Map<number, RawReply>;
    expect(errorCodeOf(denied.get(1)!.error!.code)).toBe('PERMISSION_DENIED');
  });

  it('of the own uid are denied outside dev', async () => {
    const replies = (await askAs({ uid: 0, gid: 1000 }, agent.socket, [
      { id: 1, encrypt: { key: 'shop-a', data: DATA } },
    ])) as Map<number, RawReply>;
    expect(errorCodeOf(replies.get(1)!.error!.code)).toBe('PERMISSION_DENIED');
  });

  it('of dev are the own uid alone: 0700 and 0600', async () => {
    const dev = await startTestAgent();
    try {
      expect(statSync(dirname(dev.socket)).mode & 0o7777).toBe(0o700);
      expect(lstatSync(dev.socket).mode & 0o7777).toBe(0o600);
    } finally {
      await dev.stop();
    }
  });

  it('get the group that a volume hands down: a subfolder keeps its set-group-ID', async () => {
    const root = makeFolder();
    chmodSync(root, 0o755);
    const volume = join(root, 'run');
    mkdirSync(volume);
    chownSync(volume, 0, 3000);
    chmodSync(volume, 0o2777);
    writeRunConfig(root);
    const yaml = runYaml()
      .replace(/policy:[\s\S]*/, RULES)
      .replace('FOLDER/s/agent.sock', join(volume, 'pod/agent.sock'));
    const pod = await startTestAgent({ folder: root, yaml });
    try {
      expect(statSync(join(volume, 'pod')).mode & 0o7777).toBe(0o2750);
      expect(statSync(join(volume, 'pod')).gid).toBe(3000);
      expect(lstatSync(pod.socket)).toMatchObject({ gid: 3000 });
      const replies = (await askAs({ uid: 1000, gid: 3000 }, pod.socket, [{ id: 1, ping: {} }])) as Map<
        number,
        RawReply
      >;
      expect(replies.get(1)!.document).toBeTruthy();
    } finally {
      await pod.stop();
      removeFolder(root);
    }
  });
});

describe('an agent in a user namespace without a map', () => {
  it('does not start: it could tell nobody from anybody', ({ skip }) => {
    skip(spawnSync('unshare', ['--user', 'true']).status !== 0, 'no user namespace can be made here');
    const folder = makeFolder();
    try {
      const { status, stderr } = spawnSync(
        'unshare',
        ['--user', NODE, MAIN, 'run', '--config', writeRunConfig(folder)],
        { encoding: 'utf8', env: {}, timeout: 30_000 },
      );
      expect([status, stderr]).toEqual([5, expect.stringContaining('runs as uid 65534')]);
      expect(existsSync(join(folder, 's'))).toBe(false);
    } finally {
      removeFolder(folder);
    }
  });
});
