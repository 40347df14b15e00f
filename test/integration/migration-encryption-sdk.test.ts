import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  AlgorithmSuiteIdentifier,
  buildClient,
  CommitmentPolicy,
  RawAesKeyringNode,
  RawAesWrappingSuiteIdentifier,
} from '@aws-crypto/client-node';
import { expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { readMessageHeader } from '../../src/envelope/message-header.ts';
import { runYaml, startTestAgent } from '../support/agent.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const stock = buildClient(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT);
const suiteId = AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY;

/** As docs/migration.md has it, with a raw AES key: first beside the keystore, then without it. */
const RECIPIENT = `
recipients:
  sdk: { rawAes: { namespace: acme, name: files-2026, keyFile: FOLDER/files.key } }
keys:
  - { name: archive, recipients: [keystore], formerRecipients: [sdk], keyContext: { purpose: files } }
`;
const AFTER = `
keys:
  - { name: archive, recipients: [keystore], keyContext: { purpose: files } }
`;

it('messages of the AWS Encryption SDK open as they are, become messages of the keystore, and then need no recipient', async () => {
  const folder = temporaryFolder();
  const key = randomBytes(32);
  for (const [name, bytes] of [
    ['files.key', key],
    ['root.key', randomBytes(32)],
  ] as const) {
    writeFileSync(join(folder, name), `${bytes.toString('base64')}\n`, { mode: 0o600 });
  }
  const keyring = new RawAesKeyringNode({
    keyNamespace: 'acme',
    keyName: 'files-2026',
    unencryptedMasterKey: new Uint8Array(key),
    wrappingSuite: RawAesWrappingSuiteIdentifier.AES256_GCM_IV12_TAG16_NO_PADDING,
    utf8Sorting: true,
  });
  const data = randomBytes(100_000);
  const encryptionContext = { purpose: 'files', report: 'q3' };
  const sealed = await stock.encrypt(keyring, data, { suiteId, encryptionContext, frameLength: 4_096 });
  const [old, moved, plain] = ['old', 'moved', 'plain'].map((name) => join(folder, name)) as [string, string, string];
  writeFileSync(old, sealed.result);

  const before = await startTestAgent({ folder, yaml: runYaml(RECIPIENT) });
  const first = connect({ socket: before.socket });
  await first.decryptFile(old, plain, { key: 'archive' });
  expect(readFileSync(plain)).toEqual(data);
  // What has not the key context of the key is not of it.
  const other = await stock.encrypt(keyring, data, { suiteId, encryptionContext: { purpose: 'mail' } });
  writeFileSync(join(folder, 'other'), other.result);
  await expect(first.decryptFile(join(folder, 'other'), plain, { key: 'archive' })).rejects.toMatchObject({
    code: 'DECRYPTION_FAILED',
  });
  await first.reencryptFile(old, moved, { key: 'archive' });
  expect(readMessageHeader(readFileSync(moved))!.dataKeys.map(({ providerId }) => providerId)).toEqual(['dekd']);
  await first.close();
  await before.stop();

  const after = await startTestAgent({ folder, yaml: runYaml(AFTER) });
  await using second = connect({ socket: after.socket });
  await second.decryptFile(moved, plain, { key: 'archive' });
  expect(readFileSync(plain)).toEqual(data);
  await expect(second.decryptFile(old, plain, { key: 'archive' })).rejects.toMatchObject({ code: 'DECRYPTION_FAILED' });
  await expect(stock.decrypt(keyring, readFileSync(moved))).rejects.toThrow();
  await second.close();
  await after.stop();
});
