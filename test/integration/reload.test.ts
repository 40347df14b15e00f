import { mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ReloadReport } from '../../src/agent/reload.ts';
import { connect, type DekdClient, keyIdOf } from '../../src/client/index.ts';
import { spawnTestAgent, startTestAgent, type TestAgent } from '../support/agent.ts';
import { administer } from '../support/agent-state.ts';
import { makeFolder, removeFolder, temporaryFolder } from '../support/temporary-folder.ts';

const DATA = Buffer.from('plaintext');

interface Parts {
  readonly rules?: string;
  readonly roots?: readonly string[];
  readonly defaultRoot?: string;
  readonly extra?: string;
}

const RULE = '{ name: all, keys: [k, k-*], operations: [encrypt, decrypt, keyInfo, blindIndex], create: { max: 2 } }';

function yamlOf({ rules = RULE, roots = ['a'], defaultRoot = 'a', extra = '' }: Parts = {}): string {
  const each = roots.map((name) => `  ${name}: { provider: local, keyFile: FOLDER/${name}.key, allowLocalRoot: true }`);
  return `
engine: auto
memory: { level: heap, allowInsecureMemory: true }
socket: { path: FOLDER/s/agent.sock, allowOwnUid: true }
state: FOLDER/state
keystore: { kind: sqlite, path: FOLDER/keys.sqlite }
defaultRoot: ${defaultRoot}
roots:
${each.join('\n')}
policy:
  rules:
    - ${rules}
${extra}
`;
}

describe('an agent that reads its configuration again', () => {
  let folder: string;
  let yaml: string;
  let agent: TestAgent;
  let dekd: DekdClient;

  beforeEach(async () => {
    folder = makeFolder();
    for (const [index, name] of ['a', 'b'].entries()) {
      writeFileSync(join(folder, `${name}.key`), `${Buffer.alloc(32, index + 1).toString('base64')}\n`, {
        mode: 0o600,
      });
    }
    yaml = yamlOf();
    agent = await startTestAgent({ folder, yaml, reread: () => yaml });
    dekd = connect({ socket: agent.socket });
  });

  afterEach(async () => {
    await dekd.close();
    await agent.stop();
    removeFolder(folder);
  });

  async function reload(parts: Parts, dryRun = false): Promise<ReloadReport> {
    yaml = yamlOf(parts);
    return (await administer(agent, { reload: { dryRun } })) as unknown as ReloadReport;
  }

  function codeOf(call: Promise<unknown>): Promise<string> {
    return call.then(
      () => 'ok',
      (error: { code: string }) => error.code,
    );
  }

  it('says that nothing is different when nothing is', async () => {
    expect(await reload({})).toEqual({
      applied: true,
      dryRun: false,
      file: 'config.yaml',
      changed: [],
      problems: [],
      warnings: [],
    });
  });

  it('judges the next request of an open connection by the new rules, and the one after by the old when they are back', async () => {
    const token = await dekd.encrypt(DATA, { key: 'k' });
    const report = await reload({ rules: '{ name: all, keys: [k], operations: [encrypt] }' });
    expect(report.changed).toEqual([
      { path: 'policy.rules[all].keys', from: '["k","k-*"]', to: '["k"]' },
      {
        path: 'policy.rules[all].operations',
        from: '["encrypt","decrypt","keyInfo","blindIndex"]',
        to: '["encrypt"]',
      },
      { path: 'policy.rules[all].create', from: 'there', to: 'false' },
    ]);
    expect(await codeOf(dekd.decrypt(token, { key: 'k' }))).toBe('PERMISSION_DENIED');
    expect(await codeOf(dekd.encrypt(DATA, { key: 'k' }))).toBe('ok');
    await reload({});
    expect(await codeOf(dekd.decrypt(token, { key: 'k' }))).toBe('ok');
  });

  it('gives nobody a new quota: what was charged to a rule counts on', async () => {
    await dekd.encrypt(DATA, { key: 'k' });
    await dekd.encrypt(DATA, { key: 'k-1' });
    expect(await codeOf(dekd.encrypt(DATA, { key: 'k-2' }))).toBe('PERMISSION_DENIED');
    await reload({ rules: RULE.replace('keyInfo, ', '') });
    expect(await codeOf(dekd.encrypt(DATA, { key: 'k-2' }))).toBe('PERMISSION_DENIED');
    await reload({ rules: RULE.replace('max: 2', 'max: 3') });
    expect(await codeOf(dekd.encrypt(DATA, { key: 'k-2' }))).toBe('ok');
  });

  it('asks for the context that a key now requires, on keys that are loaded', async () => {
    await dekd.encrypt(DATA, { key: 'k' });
    await reload({ extra: 'keys: [{ name: k, requiredContext: [tenant] }]' });
    expect(await codeOf(dekd.encrypt(DATA, { key: 'k' }))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(dekd.encrypt(DATA, { key: 'k', context: { tenant: 't' } }))).toBe('ok');
    expect(await codeOf(dekd.encrypt(DATA, { key: 'k-1' }))).toBe('ok');
  });

  it('rotates a loaded key by the limits that it now has', async () => {
    const first = keyIdOf(await dekd.encrypt(DATA, { key: 'k' }));
    expect(keyIdOf(await dekd.encrypt(DATA, { key: 'k' }))).toBe(first);
    await reload({ extra: 'rotation: { messages: 2 }' });
    const ids = new Set<string | undefined>();
    for (let i = 0; i < 8; i++) {
      ids.add(keyIdOf(await dekd.encrypt(DATA, { key: 'k' })));
    }
    expect(ids.size).toBeGreaterThan(1);
  });

  it('puts new keys under a root that was added, and opens what lies under both', async () => {
    const old = await dekd.encrypt(DATA, { key: 'k' });
    const report = await reload({ roots: ['a', 'b'], defaultRoot: 'b' });
    expect(report).toMatchObject({
      applied: true,
      changed: [
        { path: 'roots[b]', from: 'absent', to: 'there' },
        { path: 'defaultRoot', from: '"a"', to: '"b"' },
      ],
    });
    const young = await dekd.encrypt(DATA, { key: 'k-1' });
    const { versions } = await dekd.keyInfo('k-1');
    expect(versions.map(({ root }) => root)).toEqual(['b']);
    expect(Buffer.from(await dekd.decrypt(old, { key: 'k' }))).toEqual(DATA);
    expect(Buffer.from(await dekd.decrypt(young, { key: 'k-1' }))).toEqual(DATA);
    // Without it, what is under it is out of reach, loaded or not.
    await reload({});
    expect(await codeOf(dekd.decrypt(young, { key: 'k-1' }))).not.toBe('ok');
    expect(await codeOf(dekd.decrypt(old, { key: 'k' }))).toBe('ok');
    await reload({ roots: ['a', 'b'] });
    expect(await codeOf(dekd.decrypt(young, { key: 'k-1' }))).toBe('ok');
  });

  it('holds limits and log to what they now are', async () => {
    await reload({ extra: 'limits: { connections: 1 }\nlog: { level: error }' });
    const lines = agent.log.length;
    const second = connect({ socket: agent.socket });
    await dekd.encrypt(DATA, { key: 'k' });
    expect(await codeOf(second.encrypt(DATA, { key: 'k', timeoutMs: 300 }))).not.toBe('ok');
    await second.close();
    expect(agent.log.length).toBe(lines);
  });

  describe.each([
    ['is no YAML', () => 'policy: {', /./],
    ['has an unknown key', () => `${yamlOf()}\npolcy: {}`, /polcy.*did you mean policy/],
    ['names a root whose key is not there', () => yamlOf({ roots: ['a', 'missing'] }), /missing\.key/],
    [
      'would need a restart, whatever else it says',
      () => yamlOf({ rules: RULE.replace('decrypt, ', ''), extra: 'workers: 3' }),
      /workers: needs a restart: is "auto", would be 3/,
    ],
    [
      'admits a uid that cannot be told',
      () => yamlOf({ rules: '{ name: all, keys: [k], callers: { uid: 65534 }, operations: [encrypt] }' }),
      /65534/,
    ],
  ])('and one that %s', (_what, text, problem) => {
    it('keeps all of what it has, and says why', async () => {
      const token = await dekd.encrypt(DATA, { key: 'k' });
      yaml = text();
      const report = (await administer(agent, { reload: {} })) as unknown as ReloadReport;
      expect(report.applied).toBe(false);
      expect(report.problems.map(({ path, message }) => `${path}: ${message}`).join('\n')).toMatch(problem);
      expect(agent.log.filter(({ message }) => message === 'configuration not taken over')).toHaveLength(
        report.problems.length,
      );
      expect(await codeOf(dekd.decrypt(token, { key: 'k' }))).toBe('ok');
      // What was refused is not taken for what is in force.
      expect(await reload({})).toMatchObject({ applied: true, changed: [] });
    });
  });

  it('only says what would change when it is asked for that', async () => {
    const report = await reload({ rules: RULE.replace('encrypt, ', ''), roots: ['a', 'b'] }, true);
    expect(report).toMatchObject({ applied: false, dryRun: true, problems: [] });
    expect(report.changed.map(({ path }) => path)).toEqual(['roots[b]', 'policy.rules[all].operations']);
    expect(await codeOf(dekd.encrypt(DATA, { key: 'k' }))).toBe('ok');
  });

  it('fails no call of a client while it does so again and again', async () => {
    let isOver = false;
    let calls = 0;
    const load = (async () => {
      while (!isOver) {
        const token = await dekd.encrypt(DATA, { key: 'k' });
        expect(Buffer.from(await dekd.decrypt(token, { key: 'k' }))).toEqual(DATA);
        calls++;
      }
    })();
    for (let i = 0; i < 20; i++) {
      const other = i % 2 === 0 ? { roots: ['a', 'b'], rules: RULE.replace('keyInfo, ', '') } : {};
      expect(await reload(other)).toMatchObject({ applied: true });
    }
    isOver = true;
    await load;
    expect(calls).toBeGreaterThan(0);
  });
});

describe('an agent of dekd dev', () => {
  it('has no configuration to read again, and says so', async () => {
    const agent = await startTestAgent();
    await expect(agent.agent.reload()).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    await agent.stop();
  });
});

describe('a configuration file', () => {
  it.each(['SIGHUP', 'watch'] as const)('that was swapped as mounted volumes are is read again: %s', async (how) => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'a.key'), `${Buffer.alloc(32, 1).toString('base64')}\n`, { mode: 0o600 });
    const write = (name: string, level: string): void => {
      mkdirSync(join(folder, name));
      const text = yamlOf({ extra: `log: { level: ${level} }\nreload: { watch: ${how === 'watch'} }` });
      writeFileSync(join(folder, name, 'config.yaml'), text.replaceAll('FOLDER', folder));
      symlinkSync(name, join(folder, '..data-next'));
      renameSync(join(folder, '..data-next'), join(folder, '..data'));
    };
    write('1', 'info');
    symlinkSync('..data/config.yaml', join(folder, 'config.yaml'));
    const agent = await spawnTestAgent(join(folder, 's/agent.sock'), ['run', '--config', join(folder, 'config.yaml')]);
    try {
      write('2', 'debug');
      if (how === 'SIGHUP') {
        agent.child.kill('SIGHUP');
      }
      while (!agent.output().includes('configuration read again')) {
        await sleep(50);
      }
      expect(agent.output()).toMatch(/"path":"log.level","reason":"was \\"info\\", is \\"debug\\""/);
    } finally {
      agent.child.kill('SIGTERM');
      await agent.exited;
    }
  });
});
