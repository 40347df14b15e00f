/** Bar of a start with a root in a KMS. There is none here: a stand-in on this host takes its place, so the round trip is short. */
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isService } from '../../src/config/checks.ts';
import { parseConfig } from '../../src/config/load.ts';
import { NativeEngine } from '../../src/crypto/native.ts';
import { CustodianProvider } from '../../src/custody/custodian-provider.ts';
import { Custodians } from '../../src/custody/custodians.ts';
import { KmsServer } from '../../test/support/kms-server/kms-server.ts';
import { CUSTODIAN, ENTRY } from '../support/agent-process.ts';
import { Child } from '../support/child.ts';
import { median } from '../support/interleave.ts';
import { type Bar, figure, type Measured } from './bar.ts';

const STARTS = 9;
const WAIT_MS = 20_000;

/** What an agent takes beyond its custodian: that is measured by itself, with its SDK and the first round trip. */
async function startWithKms(): Promise<Measured> {
  const kms = await KmsServer.start();
  const leave = kms.enter();
  const folder = mkdtempSync(join(tmpdir(), 'dekd-bench-kms-'));
  try {
    const yaml = `
state: ${join(folder, 'state')}
socket: { path: ${join(folder, 'agent.sock')} }
roots: { kms: { provider: aws-kms, aws: { key: "${kms.createKey().arn}", endpoint: "${kms.endpoint}" } } }
`;
    const file = join(folder, 'dekd.yaml');
    writeFileSync(file, yaml, { mode: 0o600 });
    const agents: number[] = [];
    const custodians: number[] = [];
    for (let i = 0; i < STARTS; i++) {
      custodians.push(await describedBy(yaml));
      agents.push(await readyWith(file));
    }
    const [agent, custodian] = [median(agents), median(custodians)];
    const detail = `${figure(agent)} (${range(agents)}) less ${figure(custodian)} (${range(custodians)}) of a custodian alone`;
    return { ratio: agent - custodian, detail };
  } finally {
    rmSync(folder, { recursive: true, force: true });
    leave();
    await kms.stop();
  }
}

/** Milliseconds until an agent is ready. */
async function readyWith(file: string): Promise<number> {
  const begun = performance.now();
  const agent = new Child(ENTRY, ['run', '--config', file], { flags: ['--disable-sigusr1'] });
  await agent.says('agent ready');
  const taken = performance.now() - begun;
  const ended = once(agent.process, 'exit');
  agent.process.kill('SIGTERM');
  await ended;
  return taken;
}

/** Milliseconds from the start of a custodian until it has described the root key. */
async function describedBy(yaml: string): Promise<number> {
  const roots = parseConfig(yaml, { env: {} }).config.roots.filter((root) => isService(root));
  const engine = new NativeEngine();
  const begun = performance.now();
  const custodians = Custodians.start({
    engine,
    roots,
    keystores: new Map(),
    notice: (text) => process.stderr.write(`${text}\n`),
    entry: CUSTODIAN,
  });
  try {
    await new CustodianProvider(roots[0]!.name, custodians.providers!).describe(AbortSignal.timeout(WAIT_MS));
    return performance.now() - begun;
  } finally {
    await custodians.close();
    engine.close();
  }
}

function range(taken: readonly number[]): string {
  return `${figure(Math.min(...taken))} to ${figure(Math.max(...taken))}`;
}

export const kmsStartBar: Bar = {
  name: 'agent start with a root in a KMS until ready, beyond its custodian and a round trip, ms',
  atMost: 150,
  measure: startWithKms,
};
