/** One suite against three KMS: our stand-in, moto (a second opinion, where Python has it), and a live one. */

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { CreateKeyCommand, KMSClient } from '@aws-sdk/client-kms';
import { describe, it } from 'vitest';
import { type KmsService, kmsServiceContract } from '../contract/kms-service.contract.ts';
import { KmsServer } from '../support/kms-server/kms-server.ts';

const PYTHON = process.env.DEKD_TEST_PYTHON ?? 'python3';
/** A live KMS: its endpoint and a key; credentials and Region as the SDK finds them. */
const LIVE_ENDPOINT = process.env.DEKD_TEST_KMS_ENDPOINT;
const LIVE_KEY = process.env.DEKD_TEST_KMS_KEY;

const MOTO = `
from moto.server import ThreadedMotoServer
import sys
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
server.stop()
`;

function hasMoto(): boolean {
  try {
    execFileSync(PYTHON, ['-c', 'import moto.server, moto.kms'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

async function startStandIn(): Promise<KmsService> {
  const kms = await KmsServer.start();
  const leave = kms.enter();
  const key = kms.createKey();
  return {
    endpoint: kms.endpoint,
    key: kms.alias('alias/contract', key),
    otherKey: kms.createKey().arn,
    stop: async () => {
      leave();
      await kms.stop();
    },
  };
}

async function startMoto(): Promise<KmsService> {
  const before = { ...process.env };
  Object.assign(process.env, {
    AWS_REGION: 'eu-central-1',
    AWS_ACCESS_KEY_ID: 'moto',
    AWS_SECRET_ACCESS_KEY: 'moto',
  });
  const child = spawn(PYTHON, ['-c', MOTO], { stdio: ['pipe', 'pipe', 'ignore'] });
  const exited = once(child, 'exit');
  const [line] = (await Promise.race([
    once(createInterface({ input: child.stdout }), 'line'),
    exited.then(() => Promise.reject(new Error('moto did not start'))),
  ])) as [string];
  const [host, port] = line.split(' ');
  const endpoint = `http://${host}:${port}`;
  const sdk = new KMSClient({ endpoint });
  // moto has no default for the usage, and then leaves it out of DescribeKey.
  const command = new CreateKeyCommand({ KeyUsage: 'ENCRYPT_DECRYPT' });
  const make = async () => (await sdk.send(command)).KeyMetadata!.Arn!;
  const [key, otherKey] = [await make(), await make()];
  sdk.destroy();
  return {
    endpoint,
    key,
    otherKey,
    stop: async () => {
      child.stdin.end();
      await exited;
      process.env = before;
    },
  };
}

kmsServiceContract('the stand-in', { incorrectKey: true, canonicalContext: true, materialIds: true }, startStandIn);

if (hasMoto()) {
  kmsServiceContract('moto', { incorrectKey: false, canonicalContext: false, materialIds: false }, startMoto);
} else {
  describe('KMS: moto', () => {
    it('agrees with the stand-in', (context) => context.skip('needs moto'));
  });
}

if (LIVE_ENDPOINT !== undefined && LIVE_KEY !== undefined) {
  kmsServiceContract('live', { incorrectKey: true, canonicalContext: true, materialIds: true }, async () => ({
    endpoint: LIVE_ENDPOINT,
    key: LIVE_KEY,
    stop: async () => {},
  }));
} else {
  describe('KMS: live', () => {
    it('agrees with the stand-in', (context) => context.skip('needs DEKD_TEST_KMS_ENDPOINT and DEKD_TEST_KMS_KEY'));
  });
}
