/** The provider and the real SDK against the stand-in KMS. */
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type AwsKmsProvider, type AwsKmsSettings, openAwsKms } from '../../src/providers/aws-kms.ts';
import { type KmsKey, KmsServer } from '../support/kms-server/kms-server.ts';
import { kmsSettings } from '../support/kms-server/kms-settings.ts';

const SIGNAL = new AbortController().signal;
const CONTEXT = { tenant: 'acme', purpose: 'wrap' };
const SECRET = Uint8Array.from({ length: 32 }, (_, i) => i * 7);

let kms: KmsServer;
let leave: () => void;

beforeAll(async () => {
  kms = await KmsServer.start();
  leave = kms.enter();
});

afterAll(async () => {
  leave();
  await kms.stop();
});

async function open(key: string, settings: Partial<AwsKmsSettings> = {}): Promise<AwsKmsProvider> {
  const provider = await openAwsKms('aws', kmsSettings(kms, { key, ...settings }));
  onTestFinished(() => provider.close());
  return provider;
}

/** Requests that `work` makes. */
async function sentBy(work: () => Promise<unknown>) {
  const before = kms.requests.length;
  await work();
  return kms.requests.slice(before);
}

let aliases = 0;

function newAlias(key: KmsKey): { name: `alias/${string}`; arn: string } {
  const name = `alias/root-${aliases++}` as const;
  return { name, arn: kms.alias(name, key) };
}

describe('AwsKmsProvider', () => {
  it('takes a key by id, ARN, alias and alias ARN, and resolves each to the ARN and the current material', async () => {
    const key = kms.createKey();
    const alias = newAlias(key);
    for (const name of [key.id, key.arn, alias.name, alias.arn]) {
      const provider = await open(name);
      expect(await provider.describe(SIGNAL)).toEqual({
        kind: 'aws-kms',
        resolvedId: key.arn,
        materialVersion: key.materials[0]!.id,
        warnings: [],
      });
      const { wrapped, reference } = await provider.wrap(SECRET, CONTEXT, SIGNAL);
      expect(reference).toEqual({ root: 'aws', resolvedId: key.arn, materialVersion: key.materials[0]!.id });
      expect(await provider.unwrap(wrapped, reference, CONTEXT, SIGNAL)).toEqual(SECRET);
    }
  });

  it('unwraps with the stored ARN after the alias was repointed, and wraps under the new key', async () => {
    const [old, next] = [kms.createKey(), kms.createKey()];
    const alias = newAlias(old);
    const provider = await open(alias.name);
    await provider.describe(SIGNAL);
    const before = await provider.wrap(SECRET, CONTEXT, SIGNAL);
    kms.alias(alias.name, next);
    const after = await provider.wrap(SECRET, CONTEXT, SIGNAL);
    expect(after.reference).toEqual({ root: 'aws', resolvedId: next.arn, materialVersion: '' });
    const sent = await sentBy(async () => {
      expect(await provider.unwrap(before.wrapped, before.reference, CONTEXT, SIGNAL)).toEqual(SECRET);
      expect(await provider.unwrap(after.wrapped, after.reference, CONTEXT, SIGNAL)).toEqual(SECRET);
    });
    expect(sent.map(({ keyId }) => keyId)).toEqual([old.arn, next.arn]);
    expect((await provider.describe(SIGNAL)).resolvedId).toBe(next.arn);
  });

  it('never sends a stored id that is no key ARN', async () => {
    const provider = await open(kms.createKey().arn);
    const { wrapped, reference } = await provider.wrap(SECRET, CONTEXT, SIGNAL);
    const sent = await sentBy(async () => {
      for (const resolvedId of ['', 'default', 'alias/root', newAlias(kms.createKey()).arn]) {
        const unwrap = provider.unwrap(wrapped, { ...reference, resolvedId }, CONTEXT, SIGNAL);
        await expect(unwrap).rejects.toMatchObject({ code: 'WRONG_KEY' });
      }
    });
    expect(sent).toEqual([]);
  });

  it('sends only the configured name or a stored ARN, never an invented id', async () => {
    const key = kms.createKey();
    const alias = newAlias(key);
    const provider = await open(alias.name);
    const sent = await sentBy(async () => {
      await provider.describe(SIGNAL);
      const { wrapped, reference } = await provider.wrap(SECRET, CONTEXT, SIGNAL);
      await provider.unwrap(wrapped, reference, CONTEXT, SIGNAL);
      await provider.rewrap(wrapped, reference, CONTEXT, SIGNAL);
    });
    expect(sent.map(({ operation, keyId }) => [operation, keyId])).toEqual([
      ['DescribeKey', alias.name],
      ['Encrypt', alias.name],
      ['Decrypt', key.arn],
      ['ReEncrypt', key.arn],
    ]);
    expect(sent.at(-1)!.input.DestinationKeyId).toBe(alias.name);
  });

  it('sends the key context for the encryption context, and opens in no other', async () => {
    const provider = await open(kms.createKey().arn);
    const [sent] = await sentBy(() => provider.wrap(SECRET, { é: 'ü', tenant: 'acme' }, SIGNAL));
    expect(sent!.context).toEqual({ é: 'ü', tenant: 'acme' });
    const { wrapped, reference } = await provider.wrap(SECRET, { a: 'bc' }, SIGNAL);
    for (const other of [{}, { ab: 'c' }, { A: 'bc' }, { a: 'BC' }, { a: 'bc', b: '' }]) {
      await expect(provider.unwrap(wrapped, reference, other, SIGNAL)).rejects.toMatchObject({
        code: 'CORRUPT',
        trip: false,
      });
      await expect(provider.rewrap(wrapped, reference, other, SIGNAL)).rejects.toMatchObject({ code: 'CORRUPT' });
    }
    const [bare] = await sentBy(() => provider.wrap(SECRET, {}, SIGNAL));
    expect(bare!.context).toBeUndefined();
  });

  it('keeps every name of a context, whatever it is called', async () => {
    const provider = await open(kms.createKey().arn);
    const context = JSON.parse('{"__proto__":"a","constructor":"b","toString":"c"}') as Record<string, string>;
    const { wrapped, reference } = await provider.wrap(SECRET, context, SIGNAL);
    expect(await provider.unwrap(wrapped, reference, context, SIGNAL)).toEqual(SECRET);
    const changed = JSON.parse('{"__proto__":"x","constructor":"b","toString":"c"}') as Record<string, string>;
    await expect(provider.unwrap(wrapped, reference, changed, SIGNAL)).rejects.toMatchObject({ code: 'CORRUPT' });
  });

  it('opens what older material wrapped, and moves it to the newest inside the service', async () => {
    const key = kms.createKey();
    const provider = await open(key.arn);
    const { materialVersion } = await provider.describe(SIGNAL);
    const old = await provider.wrap(SECRET, CONTEXT, SIGNAL);
    expect(old.reference.materialVersion).toBe(materialVersion);
    const material = kms.rotate(key);
    expect(await provider.unwrap(old.wrapped, old.reference, CONTEXT, SIGNAL)).toEqual(SECRET);
    const sent = await sentBy(async () => {
      const moved = await provider.rewrap(old.wrapped, old.reference, CONTEXT, SIGNAL);
      expect(moved.reference).toEqual({ root: 'aws', resolvedId: key.arn, materialVersion: material });
      expect(moved.wrapped).not.toEqual(old.wrapped);
      expect(await provider.unwrap(moved.wrapped, moved.reference, CONTEXT, SIGNAL)).toEqual(SECRET);
    });
    expect(sent.map(({ operation }) => operation)).toEqual(['ReEncrypt', 'Decrypt']);
    expect((await provider.describe(SIGNAL)).materialVersion).toBe(material);
    expect((await provider.wrap(SECRET, CONTEXT, SIGNAL)).reference.materialVersion).toBe(material);
  });

  it('never names newer material than the service used', async () => {
    const key = kms.createKey();
    const provider = await open(key.arn);
    const { materialVersion } = await provider.describe(SIGNAL);
    kms.rotate(key);
    const { reference } = await provider.wrap(SECRET, CONTEXT, SIGNAL);
    expect(reference.materialVersion).toBe(materialVersion);
  });

  it('opens in one Region what the replica of a multi-Region key wrapped in another', async () => {
    const here = kms.createKey({ multiRegion: true });
    const there = kms.replicate(here, 'us-east-1');
    const away = await open(there.arn);
    const { wrapped, reference } = await away.wrap(SECRET, CONTEXT, SIGNAL);
    expect(reference.resolvedId).toBe(there.arn);
    const provider = await open(here.arn);
    const sent = await sentBy(async () => {
      expect(await provider.unwrap(wrapped, reference, CONTEXT, SIGNAL)).toEqual(SECRET);
      const moved = await provider.rewrap(wrapped, reference, CONTEXT, SIGNAL);
      expect(moved.reference.resolvedId).toBe(here.arn);
    });
    expect(sent.map(({ operation, keyId, region }) => [operation, keyId, region])).toEqual([
      ['DescribeKey', here.arn, 'eu-central-1'],
      ['Decrypt', here.arn, 'eu-central-1'],
      ['ReEncrypt', here.arn, 'eu-central-1'],
    ]);
  });

  it('refuses the key of another Region that is no replica, and sends nothing', async () => {
    const there = kms.createKey({ region: 'us-east-1', multiRegion: true });
    const { wrapped, reference } = await (await open(there.arn)).wrap(SECRET, CONTEXT, SIGNAL);
    const provider = await open(kms.createKey({ multiRegion: true }).arn);
    await provider.describe(SIGNAL);
    const sent = await sentBy(() =>
      expect(provider.unwrap(wrapped, reference, CONTEXT, SIGNAL)).rejects.toMatchObject({
        code: 'KEY_NOT_FOUND',
        message: expect.stringContaining('us-east-1'),
      }),
    );
    expect(sent).toEqual([]);
  });

  it('tells the ciphertext of another key from a damaged one, and counts neither', async () => {
    const [key, other] = [kms.createKey(), kms.createKey()];
    const provider = await open(key.arn);
    const { wrapped, reference } = await (await open(other.arn)).wrap(SECRET, CONTEXT, SIGNAL);
    const claimed = { ...reference, resolvedId: key.arn };
    await expect(provider.unwrap(wrapped, claimed, CONTEXT, SIGNAL)).rejects.toMatchObject({
      code: 'WRONG_KEY',
      trip: false,
    });
    wrapped[wrapped.length - 1]! ^= 1;
    await expect(provider.unwrap(wrapped, reference, CONTEXT, SIGNAL)).rejects.toMatchObject({
      code: 'CORRUPT',
      trip: false,
      retry: false,
    });
  });

  it('does not believe an answer in the name of another key', async () => {
    const provider = await open(kms.createKey().arn);
    const { wrapped, reference } = await provider.wrap(SECRET, CONTEXT, SIGNAL);
    const calls = [
      () => provider.describe(SIGNAL),
      () => provider.wrap(SECRET, CONTEXT, SIGNAL),
      () => provider.unwrap(wrapped, reference, CONTEXT, SIGNAL),
      () => provider.rewrap(wrapped, reference, CONTEXT, SIGNAL),
    ];
    for (const call of calls) {
      kms.fail(1, 'other-key');
      await expect(call()).rejects.toMatchObject({ code: 'WRONG_KEY' });
    }
  });

  it('encrypts up to 4,096 bytes itself, one request each way, and refuses more before it sends', async () => {
    const provider = await open(kms.createKey().arn);
    expect(provider.capabilities()).toEqual({
      nativeContext: true,
      serverRewrap: true,
      directLimit: 4096,
      versioned: true,
    });
    const most = new Uint8Array(4096).fill(9);
    const sent = await sentBy(async () => {
      for (const plaintext of [Uint8Array.of(1), most]) {
        const { wrapped, reference } = await provider.encrypt(plaintext, CONTEXT, SIGNAL);
        expect(await provider.decrypt(wrapped, reference, CONTEXT, SIGNAL)).toEqual(plaintext);
      }
      await expect(provider.encrypt(new Uint8Array(4097), CONTEXT, SIGNAL)).rejects.toMatchObject({
        code: 'TOO_LARGE',
        message: expect.stringContaining('4096'),
      });
      await expect(provider.encrypt(new Uint8Array(0), CONTEXT, SIGNAL)).rejects.toMatchObject({
        code: 'UNSUPPORTED',
      });
    });
    expect(sent.length).toBe(4);
  });

  it('sends no ciphertext that can be none', async () => {
    const provider = await open(kms.createKey().arn);
    const { reference } = await provider.wrap(SECRET, CONTEXT, SIGNAL);
    const sent = await sentBy(async () => {
      for (const length of [0, 6145]) {
        const unwrap = provider.unwrap(new Uint8Array(length), reference, CONTEXT, SIGNAL);
        await expect(unwrap).rejects.toMatchObject({ code: 'CORRUPT' });
      }
    });
    expect(sent).toEqual([]);
  });

  it('takes a context over 8,192 bytes for too large', async () => {
    const provider = await open(kms.createKey().arn);
    await expect(provider.wrap(SECRET, { a: 'x'.repeat(9000) }, SIGNAL)).rejects.toMatchObject({ code: 'TOO_LARGE' });
  });

  it('gives bytes of their own: nobody else holds the memory of what was unwrapped', async () => {
    const provider = await open(kms.createKey().arn);
    const { wrapped, reference } = await provider.wrap(SECRET, CONTEXT, SIGNAL);
    const opened = await provider.unwrap(wrapped, reference, CONTEXT, SIGNAL);
    expect(opened.buffer.byteLength).toBe(opened.length);
    expect(wrapped.buffer.byteLength).toBe(wrapped.length);
    expect(SECRET[1]).toBe(7);
  });
});

describe('a key at start', () => {
  it.each([
    ['Disabled', 'KEY_DISABLED', /enable-key/],
    ['PendingImport', 'KEY_DISABLED', /import/],
    ['PendingDeletion', 'KEY_PENDING_DELETION', /cancel-key-deletion/],
    ['Unavailable', 'UNAVAILABLE', /check/],
    ['Creating', 'UNAVAILABLE', /check/],
  ] as const)('that is %s is %s, and the message says what to do', async (state, code, remedy) => {
    const key = kms.createKey();
    kms.setState(key, state);
    const provider = await open(key.arn);
    await expect(provider.describe(SIGNAL)).rejects.toMatchObject({ code, message: expect.stringMatching(remedy) });
    expect(await provider.health('cheap', SIGNAL)).toMatchObject({
      ok: false,
      detail: expect.stringContaining(code),
      code,
    });
  });

  it('that nobody made, that is denied and that cannot be reached are told apart', async () => {
    const key = kms.createKey();
    const missing = await open(key.id.replace(/^./, (digit) => (digit === '0' ? '1' : '0')));
    await expect(missing.describe(SIGNAL)).rejects.toMatchObject({
      code: 'KEY_NOT_FOUND',
      message: expect.stringContaining('eu-central-1'),
    });
    await expect((await open('alias/none')).describe(SIGNAL)).rejects.toMatchObject({ code: 'KEY_NOT_FOUND' });
    kms.deny('DescribeKey', key);
    await expect((await open(key.arn)).describe(SIGNAL)).rejects.toMatchObject({
      code: 'FORBIDDEN',
      message: expect.stringContaining('kms:DescribeKey'),
    });
    const unreachable = await open(key.arn, { endpoint: 'http://127.0.0.1:1' });
    await expect(unreachable.describe(SIGNAL)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      detail: expect.stringContaining('ECONNREFUSED'),
    });
  });

  it('for anything but symmetric encryption is a mistake of the configuration', async () => {
    const wrong = [
      kms.createKey({ spec: 'RSA_2048' }),
      kms.createKey({ spec: 'HMAC_256', usage: 'GENERATE_VERIFY_MAC' }),
      kms.createKey({ spec: 'RSA_2048', usage: 'SIGN_VERIFY' }),
    ];
    for (const key of wrong) {
      await expect((await open(key.arn)).describe(SIGNAL)).rejects.toMatchObject({
        code: 'CONFIG',
        message: expect.stringContaining('SYMMETRIC_DEFAULT'),
      });
    }
  });

  it('with imported material that expires is warned about', async () => {
    const key = kms.createKey({ origin: 'EXTERNAL', validTo: new Date('2040-01-02T03:04:05Z') });
    const { warnings } = await (await open(key.arn)).describe(SIGNAL);
    expect(warnings).toEqual([expect.stringContaining('2040-01-02T03:04:05')]);
  });

  it('without any Region is a mistake of the configuration, with the remedy', async () => {
    const before = process.env.AWS_REGION;
    delete process.env.AWS_REGION;
    onTestFinished(() => {
      process.env.AWS_REGION = before;
    });
    await expect(open(kms.createKey().id)).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringContaining('AWS_REGION'),
    });
  });

  it('by ARN needs no Region beside it', async () => {
    const key = kms.createKey({ region: 'ap-south-1' });
    const [sent] = await sentBy(async () => (await open(key.arn)).describe(SIGNAL));
    expect(sent!.region).toBe('ap-south-1');
  });
});

describe('a key in use', () => {
  it.each([
    ['Disabled', 'KEY_DISABLED'],
    ['PendingDeletion', 'KEY_PENDING_DELETION'],
    ['PendingImport', 'KEY_DISABLED'],
    ['Unavailable', 'UNAVAILABLE'],
  ] as const)('that becomes %s answers %s to every operation', async (state, code) => {
    const key = kms.createKey();
    const provider = await open(key.arn);
    const { wrapped, reference } = await provider.wrap(SECRET, CONTEXT, SIGNAL);
    kms.setState(key, state);
    await expect(provider.wrap(SECRET, CONTEXT, SIGNAL)).rejects.toMatchObject({ code });
    await expect(provider.unwrap(wrapped, reference, CONTEXT, SIGNAL)).rejects.toMatchObject({ code });
    await expect(provider.rewrap(wrapped, reference, CONTEXT, SIGNAL)).rejects.toMatchObject({ code });
    kms.enable(key);
    expect(await provider.unwrap(wrapped, reference, CONTEXT, SIGNAL)).toEqual(SECRET);
  });

  it('stays refused when the service does not let us ask for the state', async () => {
    const key = kms.createKey();
    const provider = await open(key.arn);
    kms.setState(key, 'PendingDeletion');
    kms.deny('DescribeKey', key);
    await expect(provider.wrap(SECRET, CONTEXT, SIGNAL)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
  });

  it.each(['Encrypt', 'Decrypt', 'ReEncrypt'] as const)('names the permission when %s is denied', async (operation) => {
    const key = kms.createKey();
    const provider = await open(key.arn);
    const { wrapped, reference } = await provider.wrap(SECRET, CONTEXT, SIGNAL);
    kms.deny(operation, key);
    const calls = {
      Encrypt: () => provider.wrap(SECRET, CONTEXT, SIGNAL),
      Decrypt: () => provider.unwrap(wrapped, reference, CONTEXT, SIGNAL),
      ReEncrypt: () => provider.rewrap(wrapped, reference, CONTEXT, SIGNAL),
    };
    await expect(calls[operation]()).rejects.toMatchObject({
      code: 'FORBIDDEN',
      trip: false,
      message: expect.stringContaining(`kms:${operation}`),
    });
    const sent = await sentBy(() => calls[operation]().catch(() => {}));
    expect(sent.length).toBe(1);
  });
});

describe('health', () => {
  it('cheap is one DescribeKey, and no call that is paid for', async () => {
    const provider = await open(kms.createKey().arn);
    const sent = await sentBy(async () => {
      for (let i = 0; i < 5; i++) {
        expect((await provider.health('cheap', SIGNAL)).ok).toBe(true);
      }
    });
    expect(sent.map(({ operation }) => operation)).toEqual(Array(5).fill('DescribeKey'));
  });

  it('deep encrypts and decrypts, and fails when one of the two is denied', async () => {
    const key = kms.createKey();
    const provider = await open(key.arn);
    const sent = await sentBy(async () => expect((await provider.health('deep', SIGNAL)).ok).toBe(true));
    expect(sent.map(({ operation }) => operation)).toEqual(['DescribeKey', 'Encrypt', 'Decrypt']);
    kms.deny('Decrypt', key);
    expect((await provider.health('cheap', SIGNAL)).ok).toBe(true);
    expect(await provider.health('deep', SIGNAL)).toMatchObject({
      ok: false,
      detail: expect.stringContaining('kms:Decrypt'),
    });
  });

  it('says what the key is: AES, its state, its origin and its age', async () => {
    const key = kms.createKey({ origin: 'EXTERNAL' });
    const { detail } = await (await open(key.arn)).health('cheap', SIGNAL);
    const day = key.createdAt.toISOString().slice(0, 10);
    expect(detail).toBe(`aes-256-gcm, Enabled, origin EXTERNAL, made ${day}`);
  });

  it('throws nothing but that it was cancelled', async () => {
    const provider = await open(kms.createKey().arn);
    await expect(provider.health('cheap', AbortSignal.abort())).rejects.toMatchObject({ code: 'CANCELLED' });
    await provider.close();
    expect(await provider.health('cheap', SIGNAL)).toMatchObject({
      ok: false,
      detail: expect.stringContaining('closed'),
    });
  });
});
