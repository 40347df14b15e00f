/** Where providers and keystores run: what the configuration, the engine and the back ends decide. */
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { BackEnds, type BackEndsOptions } from '../../src/agent/back-ends.ts';
import type { AwsKmsRootConfig, Config } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/load.ts';
import { type Engine, SECRET_USE } from '../../src/crypto/engine.ts';
import { NativeEngine } from '../../src/crypto/native.ts';
import { NodeEngine } from '../../src/crypto/node.ts';
import type { Custody } from '../../src/custody/custody.ts';
import { runYaml } from '../support/agent.ts';
import { UNABLE } from '../support/custodian/acting-custody.ts';
import { KmsServer } from '../support/kms-server/kms-server.ts';
import { childrenOf } from '../support/processes.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

let kms: KmsServer;
let warnings: string[];

beforeEach(async ({ skip }) => {
  if (UNABLE !== undefined) {
    skip(UNABLE);
  }
  kms = await KmsServer.start();
  const leave = kms.enter();
  warnings = [];
  onTestFinished(async () => {
    leave();
    await kms.stop();
  });
});

function configOf(changes: Partial<Config> = {}): Config {
  const roots = `{ aws: { provider: aws-kms, aws: { key: "${kms.createKey().arn}", endpoint: "${kms.endpoint}" } } }`;
  const yaml = runYaml('keystore: { kind: memory }').replace(/^roots: .*$/m, `roots: ${roots}`);
  const { config } = parseConfig(yaml.replaceAll('FOLDER', temporaryFolder()), { env: {} });
  return { ...config, state: undefined, ...changes };
}

async function openCustody(options: Omit<BackEndsOptions, 'warn'>): Promise<Custody> {
  const backEnds = await BackEnds.start({ ...options, warn: (warning) => warnings.push(warning) });
  return backEnds.open();
}

async function open(config: Config, engine: Engine): Promise<Custody> {
  onTestFinished(() => engine.close());
  const custody = await openCustody({ config, engine });
  onTestFinished(() => custody.close());
  return custody;
}

const SECURE = { level: 'locked', allowInsecureMemory: false, slots: 1_024 } as const;
const INSECURE = { level: 'heap', allowInsecureMemory: true, slots: 1_024 } as const;

describe('custody of a root in a KMS', () => {
  it('is a process of its own with the native engine', async () => {
    const custody = await open(configOf({ engine: 'auto', memory: SECURE }), new NativeEngine());
    expect(custody.custodians()).toEqual([expect.objectContaining({ role: 'provider', started: 1 })]);
    expect(warnings).toEqual([]);
  });

  it('has its process on the way before a keystore or a root is opened, and is without it when that fails', async () => {
    const engine = new NativeEngine();
    onTestFinished(() => engine.close());
    const used = engine.stats().used;
    const begun = childrenOf(process.pid).length;
    kms.fail(Number.POSITIVE_INFINITY, 'denied');
    const config = configOf({ memory: SECURE });
    const backEnds = await BackEnds.start({ config, engine, warn: (warning) => warnings.push(warning) });
    expect(childrenOf(process.pid).length).toBe(begun + 1);
    await expect(backEnds.open()).rejects.toMatchObject({ code: 'KMS_DENIED' });
    expect(childrenOf(process.pid).length).toBe(begun);
    expect(engine.stats().used).toBe(used);
  });

  it('is the agent itself when the configuration says inline', async () => {
    const custody = await open(configOf({ custody: 'inline', memory: INSECURE }), new NativeEngine());
    expect(custody.custodians()).toEqual([]);
    expect(custody.defaultRoot.description.kind).toBe('aws-kms');
  });

  it('is the agent itself, with a warning, when auto fell back and insecure memory is allowed', async () => {
    const custody = await open(configOf({ engine: 'auto', memory: INSECURE }), new NodeEngine());
    expect(custody.custodians()).toEqual([]);
    expect(warnings).toEqual([
      'providers and keystores run in the agent: the node engine hands no keys to a process of their own',
    ]);
  });

  it.for([
    ['auto fell back and insecure memory is not allowed', 'auto', SECURE],
    ['another engine was asked for', 'node', INSECURE],
  ] as const)('is refused with the remedy when %s', async ([, engine, memory]) => {
    const node = new NodeEngine();
    onTestFinished(() => node.close());
    await expect(openCustody({ config: configOf({ engine, memory }), engine: node })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/build the addon .*, or set custody: inline/),
    });
    expect(node.stats().used).toBe(0);
  });

  it('leaves no process and no key behind when the root cannot be opened', async () => {
    const engine = new NativeEngine();
    onTestFinished(() => engine.close());
    kms.fail(Number.POSITIVE_INFINITY, 'denied');
    const used = engine.stats().used;
    await expect(openCustody({ config: configOf({ memory: SECURE }), engine })).rejects.toMatchObject({
      code: 'KMS_DENIED',
    });
    expect(engine.stats().used).toBe(used);
  });

  it('puts records where the route says, when there are several keystores', async () => {
    const memory = { kind: 'memory', path: undefined, acceptLoss: true } as const;
    const keystores = new Map([
      ['default', memory],
      ['other', memory],
    ]);
    const engine = new NativeEngine();
    onTestFinished(() => engine.close());
    const route = () => ({ keystore: 'other', former: [] });
    const custody = await openCustody({ config: configOf({ memory: SECURE, keystores }), engine, route });
    onTestFinished(() => custody.close());
    expect(custody.keystore.kind).toBe('routed (default: memory, other: memory)');
  });
});

describe('roots in a KMS that come and go', () => {
  it('are known to the next custodian once they are there, and no more once they are gone', async () => {
    const engine = new NativeEngine();
    const config = configOf({ engine: 'native', memory: SECURE });
    const custody = await open(config, engine);
    const first = config.roots[0] as AwsKmsRootConfig;
    const added = { ...first, name: 'second', aws: { ...first.aws, key: kms.createKey().arn } };

    const abandoned = await custody.prepareRoots({ added: [added], removed: [], defaultRoot: 'second' });
    expect([...custody.roots.keys()]).toEqual(['aws']);
    await abandoned.abandon();

    const prepared = await custody.prepareRoots({ added: [added], removed: [], defaultRoot: 'second' });
    prepared.commit();
    expect(custody.defaultRoot.name).toBe('second');
    for (const name of ['aws', 'second']) {
      const secret = engine.generateKey(SECRET_USE);
      await custody.roots.get(name)!.wrap(secret, {});
    }

    (await custody.prepareRoots({ added: [], removed: ['second'], defaultRoot: 'aws' })).commit();
    expect([...custody.roots.keys()]).toEqual(['aws']);
    await expect(custody.defaultRoot.health('deep')).resolves.toMatchObject({ ok: true });
  });
});
