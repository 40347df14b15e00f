/** Messages for others than the keystore, through an agent, both ways with the AWS Encryption SDK for JavaScript. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import {
  AlgorithmSuiteIdentifier,
  buildClient,
  CommitmentPolicy,
  getClient,
  type KeyringNode,
  KMS,
  KmsKeyringNode,
  MultiKeyringNode,
  RawAesKeyringNode,
  RawAesWrappingSuiteIdentifier,
} from '@aws-crypto/client-node';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { AdminClient } from '../../src/cli/admin.ts';
import type { CommandLine } from '../../src/cli/terminal.ts';
import { connect } from '../../src/client/index.ts';
import type { DecryptOptions, DekdClient, EncryptStreamOptions } from '../../src/client/types.ts';
import { type EncryptedDataKey, encodeMessageHeader, readMessageHeader } from '../../src/envelope/message-header.ts';
import type { AdminFields } from '../../src/protocol/messages.ts';
import { runYaml, startTestAgent, type TestAgent } from '../support/agent.ts';
import { UNABLE } from '../support/custodian/acting-custody.ts';
import { type KmsKey, KmsServer, type Operation } from '../support/kms-server/kms-server.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';
import { transitPolicy } from '../support/vault-server/fixture.ts';
import { StandInVault } from '../support/vault-server/server.ts';
import { TransitEngine } from '../support/vault-server/transit.ts';

type Context = Readonly<Record<string, string>>;

const RAW_KEY = randomBytes(32);
const DATA = randomBytes(200_000);
const stock = buildClient(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT);
const UNSIGNED = AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY;
const SIGNED = AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY_ECDSA_P384;

describe.each(['inline', 'process'])('recipients of messages, with custody %s', (custody) => {
  let kms: KmsServer;
  let leave: () => void;
  let kmsKey: KmsKey;
  let otherKey: KmsKey;
  let vault: StandInVault;
  let folder: string;
  let agent: TestAgent;
  let dekd: DekdClient;
  let others = 0;

  const yaml = (exposes = false): string =>
    runYaml(`
custody: ${custody}
defaultRoot: main
recipients:
  escrow: { root: kms }
  vault: { root: vault }
  partner: { rawAes: { namespace: acme, name: files-2026, keyFile: FOLDER/partner.key } }
message: { exposeRecordContext: ${exposes} }
keys:
  - { name: kms-only, recipients: [escrow], keyContext: { purpose: files } }
  - { name: raw-only, recipients: [partner] }
  - { name: transit-only, recipients: [vault], keyContext: { purpose: files } }
  - { name: local, recipients: [keystore, partner] }
  - { name: all, recipients: [keystore, partner, escrow, vault], keyContext: { purpose: files } }
  - { name: moved, recipients: [partner], formerRecipients: [escrow] }
  - { name: 'many-*', recipients: [escrow] }
`).replace(
      /^roots: .*$/m,
      `roots:
  main: { provider: local, keyFile: FOLDER/root.key, allowLocalRoot: true }
  kms: { provider: aws-kms, aws: { key: "${kmsKey.arn}", endpoint: "${kms.endpoint}", retries: 0, timeout: 20s } }
  vault: { provider: vault-transit, vault: { address: "${vault.address}", auth: { tokenFile: FOLDER/token }, timeout: 20s }, transit: { key: root } }`,
    );

  const start = (text: string): Promise<TestAgent> => startTestAgent({ yaml: text, folder, engine: 'auto' });

  beforeAll(async () => {
    if (custody === 'process' && UNABLE !== undefined) {
      return;
    }
    kms = await KmsServer.start();
    leave = kms.enter();
    kmsKey = kms.createKey();
    otherKey = kms.createKey();
    vault = await StandInVault.start({});
    const transit = new TransitEngine({});
    vault.mount('transit', transit);
    transit.create('root');
    vault.policies.set('dekd', transitPolicy('root'));
    folder = makeFolder();
    const files = { 'root.key': randomBytes(32), 'partner.key': RAW_KEY };
    for (const [name, key] of Object.entries(files)) {
      writeFileSync(join(folder, name), `${key.toString('base64')}\n`, { mode: 0o600 });
    }
    const { id } = vault.tokens.issue({ policies: ['default', 'dekd'], ttl: 3600 });
    writeFileSync(join(folder, 'token'), id, { mode: 0o600 });
    agent = await start(yaml());
    dekd = connect({ socket: agent.socket });
  });

  afterAll(async () => {
    if (agent !== undefined) {
      await dekd.close();
      await agent.stop();
      removeFolder(folder);
      leave();
      await vault.stop();
      await kms.stop();
    }
  });

  beforeEach(({ skip }) => {
    if (custody === 'process' && UNABLE !== undefined) {
      skip(UNABLE);
    }
  });

  const seal = (options: EncryptStreamOptions, data: Uint8Array = DATA, client = dekd): Promise<Buffer> =>
    buffer(Readable.from([data]).pipe(client.encryptStream(options)));
  const open = (message: Uint8Array, options: DecryptOptions, client = dekd): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      const stream = client.decryptStream(options);
      stream.on('error', reject);
      buffer(stream).then(resolve, reject);
      stream.end(message);
    });
  const refusal = (work: Promise<unknown>): Promise<string | undefined> =>
    work.then(
      () => undefined,
      (error: unknown) => (error as { code?: string }).code ?? String(error),
    );
  /** Calls to the KMS while `work` runs. */
  const callsOf = async (work: () => Promise<unknown>, operation?: Operation): Promise<number> => {
    const count = (): number => (operation === undefined ? kms.count() : kms.count(operation));
    const before = count();
    await work();
    return count() - before;
  };
  const kmsKeyring = (key = kmsKey, generates = true): KmsKeyringNode =>
    new KmsKeyringNode({
      clientProvider: getClient(KMS as never, { endpoint: kms.endpoint }) as never,
      ...(generates ? { generatorKeyId: key.arn } : { keyIds: [key.arn] }),
    });
  const rawKeyring = (keyName = 'files-2026', key: Uint8Array = RAW_KEY): RawAesKeyringNode =>
    new RawAesKeyringNode({
      keyNamespace: 'acme',
      keyName,
      unencryptedMasterKey: new Uint8Array(key),
      wrappingSuite: RawAesWrappingSuiteIdentifier.AES256_GCM_IV12_TAG16_NO_PADDING,
      utf8Sorting: true,
    });
  const stockSealed = async (keyring: KeyringNode, encryptionContext: Context, suiteId = UNSIGNED): Promise<Buffer> =>
    (await stock.encrypt(keyring, DATA, { suiteId, encryptionContext, frameLength: 4_096 })).result;

  it('in AWS KMS open with the AWS Encryption SDK and the KMS key alone', async () => {
    const message = await seal({ key: 'kms-only' });
    const header = readMessageHeader(message)!;
    expect(
      header.dataKeys.map(({ providerId, providerInfo }) => [providerId, String(Buffer.from(providerInfo))]),
    ).toEqual([['aws-kms', kmsKey.arn]]);
    const { plaintext, messageHeader } = await stock.decrypt(kmsKeyring(kmsKey, false), message);
    expect(plaintext.equals(DATA)).toBe(true);
    expect({ ...messageHeader.encryptionContext }).toEqual({ purpose: 'files', 'dekd-key': 'kms-only' });
    expect((await open(message, { key: 'kms-only' })).equals(DATA)).toBe(true);
  });

  it('with a raw AES key open with the AWS Encryption SDK given that key, and with the record context bound and not stored', async () => {
    const message = await seal({ key: 'raw-only' });
    const { plaintext } = await stock.decrypt(rawKeyring(), message);
    expect(plaintext.equals(DATA)).toBe(true);
    expect((await open(message, { key: 'raw-only' })).equals(DATA)).toBe(true);
    const bound = await seal({ key: 'raw-only', context: { row: '7' } });
    expect(bound.includes('row')).toBe(false);
    expect((await open(bound, { key: 'raw-only', context: { row: '7' } })).equals(DATA)).toBe(true);
    for (const context of [{}, { row: '8' }]) {
      expect(await refusal(open(bound, { key: 'raw-only', context }))).toBe('DECRYPTION_FAILED');
    }
    await expect(stock.decrypt(rawKeyring(), bound)).rejects.toThrow();
  });

  it('in Transit open again, and bind the context although Transit does not', async () => {
    const message = await seal({ key: 'transit-only' });
    const [copy] = readMessageHeader(message)!.dataKeys;
    expect([copy!.providerId, String(Buffer.from(copy!.providerInfo))]).toEqual([
      'vault-transit',
      'vault-transit:transit/root',
    ]);
    expect(String(Buffer.from(copy!.ciphertext.subarray(73)))).toMatch(/^vault:v1:/);
    await using other = await startOther(yaml());
    expect((await open(message, { key: 'transit-only' }, other.client)).equals(DATA)).toBe(true);
    const changed = Buffer.from(message);
    changed[message.indexOf('files')]! ^= 1;
    expect(readMessageHeader(changed)!.context).not.toEqual(readMessageHeader(message)!.context);
    expect(await refusal(open(changed, { key: 'transit-only' }))).toBe('DECRYPTION_FAILED');
  });

  it('are several at once, and each opens the message', async () => {
    const message = await seal({ key: 'all' });
    expect(readMessageHeader(message)!.dataKeys.map(({ providerId }) => providerId)).toEqual([
      'dekd',
      'acme',
      'aws-kms',
      'vault-transit',
    ]);
    for (const keyring of [kmsKeyring(kmsKey, false), rawKeyring()]) {
      expect((await stock.decrypt(keyring, message)).plaintext.equals(DATA)).toBe(true);
    }
    // By the keystore, which asks nobody.
    expect(await callsOf(() => open(message, { key: 'all' }))).toBe(0);
    // Where there is no keystore that knows the key: by the raw AES key, or by one of the providers.
    await using other = await startOther(yaml());
    expect(await callsOf(() => open(message, { key: 'all' }, other.client))).toBe(0);
  });

  it.each([
    ['0x0478', UNSIGNED],
    ['0x0578', SIGNED],
  ])('open what the AWS Encryption SDK sealed for them, with suite %s', async (_, suiteId) => {
    const strange = new RawAesKeyringNode({
      keyNamespace: 'elsewhere',
      keyName: 'k',
      unencryptedMasterKey: randomBytes(32),
      wrappingSuite: RawAesWrappingSuiteIdentifier.AES256_GCM_IV12_TAG16_NO_PADDING,
      utf8Sorting: true,
    });
    const context = { 'mood-\u{1f600}': '\u{1f642}', purpose: 'files' };
    for (const [key, keyring] of [
      ['kms-only', kmsKeyring()],
      ['raw-only', rawKeyring()],
      ['raw-only', new MultiKeyringNode({ generator: strange, children: [rawKeyring()] })],
      // A name that begins with ours is another key's.
      ['raw-only', new MultiKeyringNode({ generator: rawKeyring('files-20260'), children: [rawKeyring()] })],
      [
        'raw-only',
        new MultiKeyringNode({ generator: rawKeyring('files-2026x', randomBytes(32)), children: [rawKeyring()] }),
      ],
      ['kms-only', new MultiKeyringNode({ generator: kmsKeyring(otherKey), children: [kmsKeyring(kmsKey, false)] })],
      ['kms-only', new MultiKeyringNode({ generator: kmsKeyring(), children: [strange] })],
      ['all', rawKeyring()],
    ] as const) {
      const message = await stockSealed(keyring, context, suiteId);
      expect([key, (await open(message, { key })).equals(DATA)]).toEqual([key, true]);
      // What is stored need not be said again, and nothing else may be said of it.
      expect((await open(message, { key, context: { purpose: 'files' } })).equals(DATA)).toBe(true);
      expect(await refusal(open(message, { key, context: { purpose: 'other' } }))).toBe('DECRYPTION_FAILED');
    }
  });

  it('open nothing for a key that does not name them, whatever a message says', async () => {
    const ofKms = await stockSealed(kmsKeyring(), {});
    const ofOther = await stockSealed(kmsKeyring(otherKey), {});
    const work = async (): Promise<void> => {
      for (const [message, key] of [
        [ofKms, 'raw-only'],
        [ofKms, 'local'],
        [ofKms, 'nothing-of-it'],
        [ofOther, 'kms-only'],
        [ofOther, 'all'],
      ] as const) {
        expect([key, await refusal(open(message, { key }))]).toEqual([key, 'DECRYPTION_FAILED']);
      }
    };
    expect(await callsOf(work)).toBe(0);
    expect((await open(ofKms, { key: 'moved' })).equals(DATA)).toBe(true);
    expect(readMessageHeader(await seal({ key: 'moved' }))!.dataKeys.map(({ providerId }) => providerId)).toEqual([
      'acme',
    ]);
  });

  it('open nothing in the context of direct values, of which a caller knows what the provider encrypted', async () => {
    const forged = await stockSealed(kmsKeyring(), { 'dekd-use': 'direct', purpose: 'files' });
    const named = await stockSealed(kmsKeyring(), { 'dekd-use': 'direct', 'dekd-key': 'kms-only' });
    const calls = await callsOf(async () => {
      for (const message of [forged, named]) {
        expect(await refusal(open(message, { key: 'kms-only' }))).toBe('DECRYPTION_FAILED');
        expect(await refusal(open(message, { anyKey: true }))).toBe('DECRYPTION_FAILED');
      }
    });
    expect(calls).toBe(0);
  });

  it('open a message only for the key and partition that it names', async () => {
    const message = await seal({ key: 'many-a', partition: 'acme' });
    const unnamed = await stockSealed(kmsKeyring(), {});
    const named = await stockSealed(kmsKeyring(), { 'dekd-key': 'many-b', 'dekd-partition': 'acme' });
    const refused = async (): Promise<void> => {
      for (const options of [
        { key: 'many-a' },
        { key: 'many-b', partition: 'acme' },
        { key: 'many-a', partition: 'other' },
        { key: 'kms-only', partition: 'acme' },
      ]) {
        expect([options, await refusal(open(message, options))]).toEqual([options, 'DECRYPTION_FAILED']);
      }
      // Nothing says of which key of many it is, or of which partition.
      expect(await refusal(open(unnamed, { key: 'many-a' }))).toBe('DECRYPTION_FAILED');
      expect(await refusal(open(unnamed, { key: 'kms-only', partition: 'acme' }))).toBe('DECRYPTION_FAILED');
      expect(await refusal(open(unnamed, { anyKey: true }))).toBe('DECRYPTION_FAILED');
    };
    expect(await callsOf(refused)).toBe(0);
    expect((await open(message, { key: 'many-a', partition: 'acme' })).equals(DATA)).toBe(true);
    expect((await open(message, { anyKey: true })).equals(DATA)).toBe(true);
    expect((await open(named, { key: 'many-b', partition: 'acme' })).equals(DATA)).toBe(true);
    expect((await open(named, { anyKey: true })).equals(DATA)).toBe(true);
  });

  it('open a message that names no key only for one whose key context it has', async () => {
    const calls = await callsOf(async () => {
      for (const context of [{}, { purpose: 'mail' }, { Purpose: 'files' }]) {
        const message = await stockSealed(kmsKeyring(), context);
        expect([context, await refusal(open(message, { key: 'kms-only' }))]).toEqual([context, 'DECRYPTION_FAILED']);
        expect(await refusal(open(message, { key: 'kms-only', context: { purpose: 'files' } }))).toBe(
          'DECRYPTION_FAILED',
        );
      }
    }, 'Decrypt');
    expect(calls).toBe(0);
    const message = await stockSealed(kmsKeyring(), { purpose: 'files', row: '7' });
    expect((await open(message, { key: 'kms-only' })).equals(DATA)).toBe(true);
  });

  it('cost one call a stream, and none when the data key is warm; each message is another', async () => {
    await using other = await startOther(yaml());
    const { client } = other;
    const key = 'many-warm';
    let messages: Buffer[] = [];
    const cold = async (): Promise<void> => {
      // Many at once meet a cold cache.
      messages = await Promise.all(Array.from({ length: 8 }, () => seal({ key }, DATA, client)));
    };
    expect(await callsOf(cold)).toBe(1);
    expect(await callsOf(async () => messages.push(await seal({ key }, DATA, client)))).toBe(0);
    expect(await callsOf(() => seal({ key, partition: 'p' }, DATA, client), 'Encrypt')).toBe(1);
    const ids = messages.map((message) => Buffer.from(readMessageHeader(message)!.messageId).toString('hex'));
    expect(new Set(ids).size).toBe(9);
    const copies = messages.map((message) =>
      Buffer.from(readMessageHeader(message)!.dataKeys[0]!.ciphertext).toString('hex'),
    );
    expect(new Set(copies).size).toBe(1);
    // What was kept from encrypting opens nothing: the right to decrypt is another one.
    const opening = (): Promise<unknown> => Promise.all(messages.map((message) => open(message, { key }, client)));
    expect(await callsOf(opening)).toBe(1);
    expect(await callsOf(opening)).toBe(0);
    const another = await stockSealed(kmsKeyring(), { 'dekd-key': key });
    expect(await callsOf(() => open(another, { key }, client), 'Decrypt')).toBe(1);
  });

  it('asks a provider once, however often a message names it', async () => {
    const message = await seal({ key: 'many-twice' });
    const header = readMessageHeader(message)!;
    const copy = Buffer.from(header.dataKeys[0]!.ciphertext);
    const at = message.indexOf(copy);
    const bad = Buffer.from(message);
    bad[at + copy.length - 1]! ^= 1;
    const field = bad.subarray(at - 2 - 2 - kmsKey.arn.length - 2 - 7, at + copy.length);
    const start = message.indexOf(field.subarray(0, 9));
    const eight = Buffer.concat([
      bad.subarray(0, start - 2),
      Buffer.of(0, 8),
      ...Array.from({ length: 8 }, () => field),
      bad.subarray(start + field.length),
    ]);
    expect(readMessageHeader(eight)!.dataKeys.length).toBe(8);
    const calls = await callsOf(async () => {
      expect(await refusal(open(eight, { key: 'many-twice' }))).toBe('DECRYPTION_FAILED');
    });
    expect(calls).toBe(1);
  });

  it('say one thing of every data key that they do not open, whoever is asked', async () => {
    for (const key of ['kms-only', 'transit-only', 'raw-only'] as const) {
      const message = await seal({ key });
      const header = readMessageHeader(message)!;
      const [copy] = header.dataKeys;
      const remade = (changed: Partial<EncryptedDataKey>): Buffer =>
        Buffer.concat([
          encodeMessageHeader({ ...header, dataKeys: [{ ...copy!, ...changed }] }),
          header.tag,
          message.subarray(header.length),
        ]);
      expect((await open(remade({}), { key })).equals(DATA)).toBe(true);
      const wrapped = Buffer.from(copy!.ciphertext);
      const wrong = [
        Buffer.alloc(0),
        Buffer.alloc(1),
        Buffer.alloc(60, 7),
        Buffer.concat([Buffer.alloc(60), Buffer.from('vault:v9:AAAA')]),
        Buffer.concat([Buffer.alloc(60), Buffer.from('vault:v1:')]),
        Buffer.concat([Buffer.alloc(60), Buffer.from('vault:v0:/../../x?y=z\n')]),
        Buffer.concat([wrapped, Buffer.from('A')]),
        wrapped.subarray(0, -1),
        Buffer.concat([wrapped.subarray(0, -4), Buffer.of(0xff, 0xfe, 0xfd, 0)]),
        Buffer.alloc(20_000, 'A'),
        Buffer.alloc(60_000, 1),
      ];
      for (const [index, ciphertext] of wrong.entries()) {
        const said = await open(remade({ ciphertext }), { key }).catch(({ code, message: text }) => [code, text]);
        expect([key, index, said]).toEqual([key, index, ['DECRYPTION_FAILED', 'decryption failed']]);
      }
    }
  });

  it('at a provider are shown no record context, unless that is allowed', async () => {
    const context = { row: '7' };
    expect(await refusal(seal({ key: 'kms-only', context }))).toBe('INVALID_ARGUMENT');
    expect(await refusal(seal({ key: 'all', context }))).toBe('INVALID_ARGUMENT');
    // The key context may be said again.
    expect((await seal({ key: 'kms-only', context: { purpose: 'files' } })).length).toBeGreaterThan(DATA.length);
    const named = await stockSealed(kmsKeyring(), {});
    const shown = await callsOf(async () => {
      expect(await refusal(open(named, { key: 'kms-only', context }))).toBe('DECRYPTION_FAILED');
    });
    expect(shown).toBe(0);
    await using other = await startOther(yaml(true));
    const message = await seal({ key: 'kms-only', context }, DATA, other.client);
    const { plaintext, messageHeader } = await stock.decrypt(kmsKeyring(kmsKey, false), message);
    expect(plaintext.equals(DATA)).toBe(true);
    expect({ ...messageHeader.encryptionContext }).toEqual({ purpose: 'files', row: '7', 'dekd-key': 'kms-only' });
    expect((await open(message, { key: 'kms-only', context }, other.client)).equals(DATA)).toBe(true);
    const use = { 'dekd-use': 'direct' };
    expect(await refusal(seal({ key: 'kms-only', context: use }, DATA, other.client))).toBe('INVALID_ARGUMENT');
    const said = await callsOf(async () => {
      expect(await refusal(open(named, { key: 'kms-only', context: use }, other.client))).toBe('DECRYPTION_FAILED');
    });
    expect(said).toBe(0);
    const long = { row: 'x'.repeat(9_000) };
    expect(await refusal(seal({ key: 'kms-only', context: long }, DATA, other.client))).toBe('INVALID_ARGUMENT');
    for (const wrong of [{ row: '8' }, { row: '7', column: 'pan' }]) {
      expect(await refusal(open(message, { key: 'kms-only', context: wrong }, other.client))).toBe('DECRYPTION_FAILED');
    }
  });

  it('stop with their KMS key, and what they refuse no other recipient seals', async () => {
    const message = await seal({ key: 'many-stop' });
    const { dataKeys } = readMessageHeader(message)!;
    kms.disable(kmsKey);
    try {
      expect(dataKeys).toHaveLength(1);
      expect(await refusal(open(message, { key: 'many-stop' }))).toBe('KMS_DENIED');
      expect(await refusal(seal({ key: 'many-stopped' }))).toBe('KMS_DENIED');
      expect(await refusal(seal({ key: 'all', partition: 'new' }))).toBe('KMS_DENIED');
    } finally {
      kms.enable(kmsKey);
    }
    expect((await open(message, { key: 'many-stop' })).equals(DATA)).toBe(true);
  });

  it('that do not answer are an outage, and no refusal', async () => {
    await using other = await startOther(yaml());
    const { client } = other;
    const message = await seal({ key: 'many-out' }, DATA, client);
    await open(message, { key: 'many-out' }, client);
    await kms.down();
    try {
      // What is warm goes on.
      expect((await open(message, { key: 'many-out' }, client)).equals(DATA)).toBe(true);
      expect((await seal({ key: 'many-out' }, DATA, client)).length).toBeGreaterThan(DATA.length);
      expect(await refusal(seal({ key: 'many-new' }, DATA, client))).toBe('KMS_UNAVAILABLE');
    } finally {
      await kms.up();
    }
  });

  it('open nothing that the keystore refuses, and what it does not know or cannot reach', async () => {
    const key = 'local';
    const partition = 'known';
    const message = await seal({ key, partition });
    for (const [stop, go] of [
      [{ disable: { name: key, partition } }, { enable: { name: key, partition } }],
      [{ freeze: { name: key, partition } }, { freeze: { name: key, partition, thaw: true } }],
    ]) {
      await administer(agent, stop!);
      expect(await refusal(open(message, { key, partition }))).toBe('KEY_DISABLED');
      expect(await refusal(open(message, { anyKey: true }))).toBe('DECRYPTION_FAILED');
      await administer(agent, go!);
      expect((await open(message, { key, partition })).equals(DATA)).toBe(true);
    }
    // One version alone, while another seals.
    await administer(agent, { rotate: { name: key, partition, purpose: 'message' } });
    await administer(agent, { disable: { name: key, partition, purpose: 'message', version: 1 } });
    expect((await open(await seal({ key, partition }), { key, partition })).equals(DATA)).toBe(true);
    expect(await refusal(open(message, { key, partition }))).toBe('KEY_DISABLED');
    expect(await refusal(open(message, { anyKey: true }))).toBe('DECRYPTION_FAILED');
    await administer(agent, { enable: { name: key, partition, purpose: 'message', version: 1 } });
    expect((await open(message, { key, partition })).equals(DATA)).toBe(true);
    await administer(agent, { destroy: { name: key, partition, purpose: 'message', version: 1 } });
    expect((await open(await seal({ key, partition }), { key, partition })).equals(DATA)).toBe(true);
    expect(await refusal(open(message, { key, partition }))).toBe('KEY_DISABLED');
    expect(await refusal(open(message, { anyKey: true }))).toBe('DECRYPTION_FAILED');
    // Another keystore: the raw AES key opens it.
    await using stranger = await startOther(yaml());
    expect((await open(message, { key, partition }, stranger.client)).equals(DATA)).toBe(true);
  });

  it('open while the root of the keystore does not answer, and not when it refuses', async () => {
    await using other = await startOther(yaml().replace('defaultRoot: main', 'defaultRoot: kms'));
    const { client, admin } = other;
    const message = await seal({ key: 'local' }, DATA, client);
    // As after a start: the key has to be unwrapped again.
    await admin({ roots: { action: 'clear' } });
    await kms.down();
    try {
      expect((await open(message, { key: 'local' }, client)).equals(DATA)).toBe(true);
      expect(await refusal(seal({ key: 'local' }, DATA, client))).toBe('KMS_UNAVAILABLE');
    } finally {
      await kms.up();
    }
    kms.disable(kmsKey);
    try {
      await vi.waitFor(async () => {
        expect(await refusal(open(message, { key: 'local' }, client))).toBe('KMS_DENIED');
      }, 30_000);
    } finally {
      kms.enable(kmsKey);
    }
  });

  it('give a caller nothing that no rule grants on the key that a message names', async () => {
    const rule =
      '{ name: own, callers: { socket: data }, keys: [many-a], partitions: [acme], operations: [encrypt, decrypt, anyKey] }';
    await using other = await startOther(yaml().replace(/- \{ name: own,.*$/m, `- ${rule}`));
    const { client } = other;
    const own = await seal({ key: 'many-a', partition: 'acme' }, DATA, client);
    expect((await open(own, { anyKey: true }, client)).equals(DATA)).toBe(true);
    const foreign = [await seal({ key: 'many-b', partition: 'acme' }), await seal({ key: 'many-a', partition: 'x' })];
    const calls = await callsOf(async () => {
      for (const message of foreign) {
        expect(await refusal(open(message, { anyKey: true }, client))).toBe('DECRYPTION_FAILED');
        expect(await refusal(open(message, { key: 'many-a', partition: 'acme' }, client))).toBe('DECRYPTION_FAILED');
        expect(await refusal(open(message, { key: 'many-b', partition: 'acme' }, client))).toBe('PERMISSION_DENIED');
      }
    });
    expect(calls).toBe(0);
  });

  async function startOther(text: string) {
    const own = text.replace('s/agent.sock', 'other/agent.sock').replace('FOLDER/state', `FOLDER/state-${++others}`);
    const other = await start(own);
    const client = connect({ socket: other.socket });
    return {
      client,
      admin: (command: AdminFields) => administer(other, command),
      async [Symbol.asyncDispose]() {
        await client.close();
        await other.stop();
      },
    };
  }
});

async function administer({ socket }: TestAgent, command: AdminFields): Promise<unknown> {
  using client = await AdminClient.open({ socket } as CommandLine);
  return await client.send(command);
}
