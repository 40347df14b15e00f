/** The world in which the golden vectors were made, built again from what is frozen: files, a KMS, a Vault, an agent. */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../../src/config/config.ts';
import { startTestAgent, type TestAgent } from './agent.ts';
import { KmsServer } from './kms-server/kms-server.ts';
import { makeFolder, removeFolder } from './temporary-folder.ts';
import { transitPolicy } from './vault-server/fixture.ts';
import { StandInVault } from './vault-server/server.ts';
import { TransitEngine } from './vault-server/transit.ts';

/** What opens the vectors, beside the keystore: binary in base64. */
export interface GoldenKeys {
  readonly root: string;
  readonly partner: string;
  readonly kms: { readonly id: string; readonly materialId: string; readonly key: string };
  readonly transit: string;
  readonly legacy: Readonly<Record<string, string>>;
}

export interface GoldenAgentOptions {
  readonly keys: GoldenKeys;
  readonly engine?: Config['engine'];
  /** A keystore to begin with, and whether it is a database or an export that is only read. */
  readonly keystore?: { readonly kind: 'sqlite' | 'bundle'; readonly file: string };
}

export interface GoldenAgent {
  readonly agent: TestAgent;
  readonly folder: string;
  stop(): Promise<void>;
}

const LEGACY = (kids: readonly string[]): string =>
  kids.map((kid) => `    - { kid: ${JSON.stringify(kid)}, keyFile: FOLDER/legacy-${kid}.key }`).join('\n');

export async function startGoldenAgent({ keys, engine, keystore }: GoldenAgentOptions): Promise<GoldenAgent> {
  const folder = makeFolder();
  const write = (name: string, text: string): void => writeFileSync(join(folder, name), text, { mode: 0o600 });
  mkdirSync(join(folder, 'state'), { mode: 0o700 });
  write('root.key', `${keys.root}\n`);
  write('partner.key', `${keys.partner}\n`);
  for (const [kid, key] of Object.entries(keys.legacy)) {
    write(`legacy-${kid}.key`, `${key}\n`);
  }
  if (keystore !== undefined) {
    copyFileSync(keystore.file, join(folder, 'keys'));
  }
  const kms = await KmsServer.start();
  const leave = kms.enter();
  const kmsKey = kms.createKey();
  const arn = kmsKey.arn.replace(kmsKey.id, keys.kms.id);
  kmsKey.materials.splice(0, 1, { id: keys.kms.materialId, key: Buffer.from(keys.kms.key, 'base64') });
  Object.assign(kmsKey, { id: keys.kms.id, arn });
  const vault = await StandInVault.start({});
  const transit = new TransitEngine({});
  vault.mount('transit', transit);
  transit.create('root').versions.set(1, Buffer.from(keys.transit, 'base64'));
  vault.policies.set('dekd', transitPolicy('root'));
  write('token', vault.tokens.issue({ policies: ['default', 'dekd'], ttl: 3600 }).id);
  const yaml = `
engine: auto
custody: inline
node: golden
memory: { level: heap, allowInsecureMemory: true }
socket: { path: FOLDER/s/agent.sock, allowOwnUid: true }
state: FOLDER/state
defaultRoot: main
roots:
  main: { provider: local, keyFile: FOLDER/root.key, allowLocalRoot: true }
  kms: { provider: aws-kms, aws: { key: "${arn}", endpoint: "${kms.endpoint}", retries: 0, timeout: 20s } }
  vault: { provider: vault-transit, vault: { address: "${vault.address}", auth: { tokenFile: FOLDER/token }, timeout: 20s }, transit: { key: root } }
routes:
  - { key: 'cloud-*', root: kms }
  - { key: 'direct-*', root: kms }
  - { key: 'transit-*', root: vault }
  - {}
keystore: { kind: ${keystore?.kind ?? 'sqlite'}, path: FOLDER/keys }
recipients:
  escrow: { root: kms }
  transit: { root: vault }
  partner: { rawAes: { namespace: acme, name: files-2026, keyFile: FOLDER/partner.key } }
keys:
  - { name: 'direct-*', direct: true }
  - { name: files-kms, recipients: [escrow] }
  - { name: files-raw, recipients: [partner] }
  - { name: files-transit, recipients: [transit] }
  - { name: files-all, recipients: [keystore, partner, escrow, transit], keyContext: { purpose: files } }
legacy:
  keys:
${LEGACY(Object.keys(keys.legacy))}
policy:
  rules:
    - { name: all, callers: { socket: data }, keys: '*', operations: [encrypt, decrypt, reencrypt, anyKey, keyInfo, hmac, verifyHmac, blindIndex, openLegacy, migrateLegacy], create: { max: 1000 } }
`;
  const agent = await startTestAgent({ folder, yaml, ...(engine === undefined ? {} : { engine }) });
  return {
    agent,
    folder,
    async stop() {
      await agent.stop();
      removeFolder(folder);
      leave();
      await vault.stop();
      await kms.stop();
    },
  };
}
