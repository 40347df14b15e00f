/** What data keys that a provider wraps and unwraps leave in the memory of an agent: nothing, kept as they are. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { runYaml } from '../support/agent.ts';
import { KmsServer } from '../support/kms-server/kms-server.ts';
import { AgentProcess, report } from './support/agent-process.ts';
import { MemoryScanner } from './support/memory-scanner.ts';
import { PrivatePackage } from './support/private-package.ts';
import type { StoredKey } from './support/stored-keys.ts';

/** Each has a data key of its own. */
const MESSAGES = 200;
const LEAKY = fileURLToPath(new URL('../support/custodian/leaky-custody-agent.ts', import.meta.url));

describe('an agent with a recipient in a KMS, read by root from outside', () => {
  let built: PrivatePackage;
  let kms: KmsServer;
  let folder: string;
  let config: string;
  let unable: string | undefined;
  const running: AgentProcess[] = [];

  beforeAll(async () => {
    built = new PrivatePackage();
    unable =
      process.getuid!() !== 0
        ? 'only root may read the memory of an agent'
        : built.hasAddon
          ? undefined
          : 'the addon is not built';
    kms = await KmsServer.start();
    folder = mkdtempSync(join(tmpdir(), 'dekd-recipients-'));
    config = join(folder, 'config.yaml');
    const yaml = runYaml("recipients: { escrow: { root: aws } }\nkeys: [{ name: '*', recipients: [escrow] }]")
      .replace(
        /^roots: .*$/m,
        `roots: { aws: { provider: aws-kms, aws: { key: "${kms.createKey().arn}", endpoint: "${kms.endpoint}" } } }`,
      )
      .replace(/^engine: .*$/m, 'engine: native')
      .replace(/^memory: .*$/m, '');
    writeFileSync(config, yaml.replaceAll('FOLDER', folder));
  });
  afterAll(async () => {
    built[Symbol.dispose]();
    await kms.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  beforeEach(({ skip }) => {
    if (unable !== undefined) {
      skip(unable);
    }
  });
  afterEach(async () => {
    await Promise.all(running.splice(0).map((agent) => agent.stop()));
  });

  async function start(leak?: string): Promise<AgentProcess> {
    const env = kms.environment();
    const agent = await AgentProcess.start({
      package: built,
      folder,
      config,
      ...(leak === undefined
        ? { env }
        : { script: LEAKY, env: { ...env, DEKD_LEAK: leak, DEKD_FAULT_PACKAGE_DIR: built.folder } }),
    });
    running.push(agent);
    return agent;
  }

  /** Seals and opens so many messages; the KMS is told every data key in clear, and so the test knows them. */
  async function useDataKeys(): Promise<StoredKey[]> {
    const first = kms.requests.length;
    await using client = connect({ socket: join(folder, 's/agent.sock') });
    for (let index = 0; index < MESSAGES; index++) {
      const options = { key: 'k', partition: `p${index}` };
      const sealing = client.encryptStream(options);
      sealing.end(Buffer.from(`message ${index}`));
      const opening = client.decryptStream(options);
      opening.end(await buffer(sealing));
      expect(String(await buffer(opening))).toBe(`message ${index}`);
    }
    const dataKeys = kms.requests
      .slice(first)
      .filter(({ operation, context }) => operation === 'Encrypt' && context?.['dekd-key'] === 'k')
      .map(({ input }, index) => ({
        label: `D${index}`,
        level: 4,
        bytes: Buffer.from(input.Plaintext as string, 'base64'),
      }));
    expect(dataKeys.length).toBe(MESSAGES);
    return dataKeys;
  }

  it(`holds no copy of ${MESSAGES} data keys, all of which it keeps`, async ({ skip }) => {
    const agent = await start();
    if (!agent.said.includes('"lockLevel":"secret"')) {
      return skip('the kernel has no memfd_secret: at level locked, root reads the key table itself');
    }
    const dataKeys = await useDataKeys();
    using scanner = await MemoryScanner.open(folder, agent.pid, dataKeys);
    const scans = [await scanner.scan(), await scanner.scan()];
    expect(scans.map(({ hits }) => hits)).toEqual([{}, {}]);
    report('data keys of recipients in memory', { dataKeys: dataKeys.length, inAgent: 0 });
  });

  it.for([
    ['raw', /^raw:D\d+$/],
    ['base64', /^base64:D\d+$/],
  ] as const)('goes red when the agent leaks one as %s', async ([leak, expected]) => {
    const agent = await start(leak);
    const dataKeys = await useDataKeys();
    using scanner = await MemoryScanner.open(folder, agent.pid, dataKeys);
    const { hits } = await scanner.scan();
    expect(Object.keys(hits).filter((label) => expected.test(label))).not.toEqual([]);
  });
});
