/** Rows U1 to U4: who the kernel says that a caller is, over real sockets, and from other namespaces. */
import { spawnSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { loadBinding } from '../../src/addon/binding.ts';
import { errorCodeOf } from '../../src/errors.ts';
import { NODE, spawnTestAgent, startTestAgent, writeRunConfig } from '../support/agent.ts';
import { askAs, type Identity, repliesIn } from '../support/ask-as.ts';
import { HELLO, type RawReply, requestFrame } from '../support/raw-client.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const DATA = Buffer.from('plaintext');
const SHOP = { id: 1, encrypt: { key: 'shop', data: DATA } };
const RULE = '{ name: shop, callers: { uid: 1000 }, keys: shop, operations: encrypt, create: { max: 1 } }';

beforeEach(({ skip }) => {
  skip(process.getuid?.() !== 0, 'needs root, to connect as other users');
  skip(loadBinding().binding === undefined, 'the addon is not built: callers cannot be told apart');
});

function yamlWith(rules: readonly string[]): string {
  return `memory: { level: heap, allowInsecureMemory: true }
socket: { path: FOLDER/s/agent.sock, allowOwnUid: true }
state: FOLDER/state
roots: { main: { provider: local, keyFile: FOLDER/root.key, allowLocalRoot: true } }
policy:
  rules:
${rules.map((rule) => `    - ${rule}`).join('\n')}
`;
}

/** A file for `dekd run`, where others may go to the socket's folder. */
function configure(): { readonly config: string; readonly folder: string } {
  const folder = temporaryFolder();
  chmodSync(folder, 0o755);
  const config = writeRunConfig(folder);
  writeFileSync(config, yamlWith([RULE]).replaceAll('FOLDER', folder));
  return { folder, config };
}

describe('U1: callers of every uid, gid and group', () => {
  it('may do what a table of 200 rules says, and are denied in the same words', async () => {
    const some = <T>(index: number, of: number, values: readonly T[]): T | undefined =>
      index % of === 0 ? undefined : values[index % values.length];
    const rules = Array.from({ length: 200 }, (_, index) => ({
      key: `k${index}`,
      uid: some(index, 4, [0, 1000, 1001, 1002, 1003]),
      gid: some(index >> 1, 2, [0, 1000, 1001]),
      group: some(index >> 2, 3, [2000, 2001]),
    }));
    const yaml = rules.map(({ key, uid, gid, group }) => {
      const fields = Object.entries({ uid, gid, groups: group }).filter(([, value]) => value !== undefined);
      const callers = fields.map(([name, value]) => `${name}: ${value}`).join(', ');
      return `{ name: ${key}, callers: { ${callers} }, keys: ${key}, operations: encrypt, create: { max: 10 } }`;
    });
    const folder = temporaryFolder();
    chmodSync(folder, 0o755);
    writeRunConfig(folder);
    const agent = await startTestAgent({
      folder,
      yaml: yamlWith(yaml).replace('allowOwnUid: true', 'allowOwnUid: true, group: 3000'),
    });
    onTestFinished(() => agent.stop());
    const callers = [0, 1000, 1001, 1002, 1003].flatMap((uid) =>
      [
        { gid: 0, groups: [3000] },
        { gid: 1000, groups: [3000, 2000] },
        { gid: 1001, groups: [2001, 2000, 3000] },
      ].map((rest): Identity => ({ uid, ...rest })),
    );
    let allowed = 0;
    const denials = new Set<string>();
    for (const caller of callers) {
      const asked = rules.map(({ key }, index) => ({ id: index + 1, encrypt: { key, data: DATA } }));
      const replies = (await askAs(caller, agent.socket, asked)) as Map<number, RawReply>;
      for (const [index, { key, uid, gid, group }] of rules.entries()) {
        const isExpected =
          (uid === undefined || uid === caller.uid) &&
          (gid === undefined || gid === caller.gid) &&
          (group === undefined || caller.groups!.includes(group));
        const { error, value } = replies.get(index + 1)!;
        expect(error === undefined || error === null, `${JSON.stringify(caller)} ${key}`).toBe(isExpected);
        if (isExpected) {
          allowed++;
          expect(value).toHaveLength(DATA.length + 58);
        } else {
          denials.add(`${errorCodeOf(error!.code)} ${error!.message}`);
        }
      }
    }
    expect(allowed).toBeGreaterThan(200);
    expect([...denials]).toEqual(['PERMISSION_DENIED no such key, or not allowed']);
  }, 60_000);
});

describe('U2: in a PID namespace of its own', () => {
  it.each(['client', 'server'])('a %s has the rules of its uid and no others', async (who) => {
    const { config, folder } = configure();
    const socket = join(folder, 's/agent.sock');
    const agent = await spawnTestAgent(
      socket,
      ['run', '--config', config],
      who === 'server' ? 'exec unshare -pf --kill-child "$@"' : undefined,
    );
    onTestFinished(async () => {
      // Unshare waits for its child, and takes no SIGTERM meanwhile.
      agent.child.kill('SIGKILL');
      await agent.exited;
    });
    const around = who === 'client' ? ['unshare', '-pf'] : [];
    const shop = (await askAs({ uid: 1000, gid: 0 }, socket, [SHOP], around)) as Map<number, RawReply>;
    expect(shop.get(1)!.value).toHaveLength(DATA.length + 58);
    const other = (await askAs({ uid: 1001, gid: 0 }, socket, [SHOP], around)) as Map<number, RawReply>;
    expect(errorCodeOf(other.get(1)!.error!.code)).toBe('PERMISSION_DENIED');
  });
});

/** Connects as uid 1000, becomes uid 1001 for good, and only then sends what standard input says. */
const HANDED_OVER = `
process.setegid(0); process.seteuid(1000);
const s = require('node:net').connect(process.argv[1]);
s.on('connect', () => {
  process.seteuid(0); process.setuid(1001);
  if (process.geteuid() !== 1001) throw new Error('not another user');
  process.stdin.pipe(s);
});
s.pipe(process.stdout);
`;

describe('U4: a connection that another process goes on with', () => {
  it('has the rights of who opened it, which is what the kernel keeps', async () => {
    const { config, folder } = configure();
    const socket = join(folder, 's/agent.sock');
    const agent = await spawnTestAgent(socket, ['run', '--config', config]);
    onTestFinished(async () => {
      agent.child.kill('SIGTERM');
      await agent.exited;
    });
    const input = Buffer.concat([requestFrame({ id: 9, hello: HELLO }), requestFrame(SHOP)]);
    const { stdout, stderr } = spawnSync(NODE, ['-e', HANDED_OVER, socket], { input });
    expect(stderr.toString()).toBe('');
    expect(repliesIn(stdout).get(1)!.value).toHaveLength(DATA.length + 58);
  });
});

describe('U3: in a user namespace', () => {
  beforeEach(({ skip }) => {
    skip(spawnSync('unshare', ['-Ur', 'true']).status !== 0, 'the kernel gives no user namespace here');
  });

  it('that maps no caller, an agent refuses everybody as the overflow uid', async () => {
    const { config, folder } = configure();
    const socket = join(folder, 's/agent.sock');
    const agent = await spawnTestAgent(socket, ['run', '--config', config], 'exec unshare -Ur "$@"');
    onTestFinished(async () => {
      agent.child.kill('SIGTERM');
      await agent.exited;
    });
    for (const uid of [1000, 1001]) {
      const replies = (await askAs({ uid, gid: 0 }, socket, [SHOP])) as Map<number, RawReply>;
      expect(errorCodeOf(replies.get(0)!.error!.code)).toBe('UNAUTHENTICATED');
      expect(replies.get(1)?.value).toBeUndefined();
    }
    expect(agent.output()).toContain('overflow uid 65534');
  });

  it('that does not map its own uid, an agent does not start', async () => {
    const { config, folder } = configure();
    await expect(
      spawnTestAgent(join(folder, 's/agent.sock'), ['run', '--config', config], 'exec unshare -U "$@"'),
    ).rejects.toThrow('the agent runs as uid 65534');
  });
});
