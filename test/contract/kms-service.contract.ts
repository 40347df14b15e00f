import { DescribeKeyCommand, EncryptCommand, KMSClient, ReEncryptCommand } from '@aws-sdk/client-kms';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type AwsKmsProvider, openAwsKms } from '../../src/providers/aws-kms.ts';
import { kmsSettings } from '../support/kms-server/kms-settings.ts';

export interface KmsService {
  readonly endpoint: string;
  /** Id, ARN or alias of a symmetric key that may be used and described. */
  readonly key: string;
  /** Another such key, where there is one. */
  readonly otherKey?: string;
  readonly stop: () => Promise<void>;
}

export interface KmsServiceFacts {
  /** Answers IncorrectKeyException for the ciphertext of another key. */
  readonly incorrectKey: boolean;
  /** Tells {a: bc} from {ab: c}. */
  readonly canonicalContext: boolean;
  /** Names key material in its replies. */
  readonly materialIds: boolean;
}

const SIGNAL = new AbortController().signal;
const CONTEXT = { tenant: 'acme', purpose: 'contract' };
const SECRET = Uint8Array.from({ length: 32 }, (_, i) => i * 7);

/**
 * What the provider needs of a KMS and what a stand-in has to enforce, asked of the stand-in, of another implementation, and
 * of the service itself where there is one. Credentials and Region come from the environment.
 */
export function kmsServiceContract(name: string, facts: KmsServiceFacts, start: () => Promise<KmsService>): void {
  describe(`KMS: ${name}`, () => {
    let service: KmsService;
    let sdk: KMSClient;

    beforeAll(async () => {
      service = await start();
      sdk = new KMSClient({ endpoint: service.endpoint, maxAttempts: 1 });
    });

    afterAll(async () => {
      sdk?.destroy();
      await service?.stop();
    });

    async function open(key = service.key): Promise<AwsKmsProvider> {
      const provider = await openAwsKms('aws', kmsSettings(service, { key }));
      onTestFinished(() => provider.close());
      return provider;
    }

    it('resolves the configured name to the ARN of an enabled symmetric key', async () => {
      const { resolvedId } = await (await open()).describe(SIGNAL);
      expect(resolvedId).toMatch(/^arn:[\w-]+:kms:[\w-]+:\d{12}:key\/[\w-]+$/);
    });

    it('opens what it encrypted, under the ARN of the reply', async () => {
      const provider = await open();
      const { resolvedId } = await provider.describe(SIGNAL);
      const { wrapped, reference } = await provider.wrap(SECRET, CONTEXT, SIGNAL);
      expect(reference.resolvedId).toBe(resolvedId);
      expect(await provider.unwrap(wrapped, reference, CONTEXT, SIGNAL)).toEqual(SECRET);
    });

    it('opens in the equal context only, whatever the order of its names', async () => {
      const provider = await open();
      const { wrapped, reference } = await provider.wrap(SECRET, { a: '1', b: '2' }, SIGNAL);
      expect(await provider.unwrap(wrapped, reference, { b: '2', a: '1' }, SIGNAL)).toEqual(SECRET);
      for (const other of [{}, { a: '1' }, { a: '1', b: '3' }, { A: '1', b: '2' }]) {
        await expect(provider.unwrap(wrapped, reference, other, SIGNAL)).rejects.toMatchObject({ code: 'CORRUPT' });
      }
    });

    it('takes {a: bc} and {ab: c} for two contexts', async (context) => {
      context.skip(!facts.canonicalContext, `${name} does not`);
      const provider = await open();
      const { wrapped, reference } = await provider.wrap(SECRET, { a: 'bc' }, SIGNAL);
      await expect(provider.unwrap(wrapped, reference, { ab: 'c' }, SIGNAL)).rejects.toMatchObject({ code: 'CORRUPT' });
    });

    it('refuses a changed ciphertext', async () => {
      const provider = await open();
      const { wrapped, reference } = await provider.wrap(SECRET, CONTEXT, SIGNAL);
      wrapped[wrapped.length - 1]! ^= 1;
      await expect(provider.unwrap(wrapped, reference, CONTEXT, SIGNAL)).rejects.toMatchObject({ code: 'CORRUPT' });
    });

    it('re-encrypts in the equal context, and the result opens', async () => {
      const provider = await open();
      const { wrapped, reference } = await provider.wrap(SECRET, CONTEXT, SIGNAL);
      const moved = await provider.rewrap(wrapped, reference, CONTEXT, SIGNAL);
      expect(moved.wrapped).not.toEqual(wrapped);
      expect(await provider.unwrap(moved.wrapped, moved.reference, CONTEXT, SIGNAL)).toEqual(SECRET);
      await expect(provider.rewrap(wrapped, reference, { tenant: 'other' }, SIGNAL)).rejects.toMatchObject({
        code: 'CORRUPT',
      });
    });

    it('names the material in DescribeKey and ReEncrypt', async (context) => {
      context.skip(!facts.materialIds, `${name} does not`);
      const described = await sdk.send(new DescribeKeyCommand({ KeyId: service.key }));
      const provider = await open();
      const { wrapped } = await provider.wrap(SECRET, {}, SIGNAL);
      const moved = await sdk.send(new ReEncryptCommand({ CiphertextBlob: wrapped, DestinationKeyId: service.key }));
      expect(described.KeyMetadata!.CurrentKeyMaterialId).toMatch(/^[0-9a-f]{64}$/);
      expect(moved.DestinationKeyMaterialId).toBe(described.KeyMetadata!.CurrentKeyMaterialId);
      expect(moved.SourceKeyMaterialId).toBe(described.KeyMetadata!.CurrentKeyMaterialId);
    });

    it('encrypts 1 to 4,096 bytes, and refuses none and one more', async () => {
      const provider = await open();
      for (const plaintext of [Uint8Array.of(1), new Uint8Array(4096).fill(7)]) {
        const { wrapped, reference } = await provider.encrypt(plaintext, CONTEXT, SIGNAL);
        expect(await provider.decrypt(wrapped, reference, CONTEXT, SIGNAL)).toEqual(plaintext);
      }
      for (const length of [0, 4097]) {
        const encrypt = sdk.send(new EncryptCommand({ KeyId: service.key, Plaintext: new Uint8Array(length) }));
        await expect(encrypt).rejects.toMatchObject({ name: 'ValidationException' });
      }
    });

    it('does not know an alias that nobody made', async () => {
      const provider = await open('alias/dekd-contract-nobody-made-this');
      await expect(provider.describe(SIGNAL)).rejects.toMatchObject({ code: 'KEY_NOT_FOUND' });
    });

    it('refuses the ciphertext of another key', async (context) => {
      const { otherKey } = service;
      if (otherKey === undefined) {
        context.skip('needs a second key');
      }
      const provider = await open();
      const { resolvedId } = await provider.describe(SIGNAL);
      const { wrapped, reference } = await (await open(otherKey)).wrap(SECRET, CONTEXT, SIGNAL);
      await expect(provider.unwrap(wrapped, { ...reference, resolvedId }, CONTEXT, SIGNAL)).rejects.toMatchObject({
        code: facts.incorrectKey ? 'WRONG_KEY' : expect.stringMatching(/^(WRONG_KEY|FORBIDDEN|CORRUPT)$/),
      });
    });

    it('is healthy, cheaply and deeply', async () => {
      const provider = await open();
      expect(await provider.health('cheap', SIGNAL)).toMatchObject({ ok: true });
      expect(await provider.health('deep', SIGNAL)).toMatchObject({ ok: true });
    });
  });
}
