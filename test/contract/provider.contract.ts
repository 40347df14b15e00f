import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Engine, KeyUse } from '../../src/crypto/engine.ts';
import type { HandleProvider, KeyContext, ProviderDescription } from '../../src/providers/provider.ts';

export interface ProviderUnderTest {
  readonly engine: Engine;
  readonly provider: HandleProvider;
  /** A provider of the same kind over another root key. */
  readonly other: HandleProvider;
  readonly cleanUp: () => Promise<void>;
}

const USE: KeyUse = { algorithm: 'hkdf-sha-256', purpose: 'wrap' };
const CONTEXT: KeyContext = { tenant: 'acme' };
const SIGNAL = new AbortController().signal;

/** What every provider does, whatever holds its root key. */
export function providerContract(name: string, open: () => Promise<ProviderUnderTest>): void {
  describe(`provider contract: ${name}`, () => {
    let under: ProviderUnderTest;
    let description: ProviderDescription;

    beforeEach(async () => {
      under = await open();
      description = await under.provider.describe(SIGNAL);
      await under.other.describe(SIGNAL);
    });

    afterEach(async () => {
      await under.provider.close();
      await under.other.close();
      await under.cleanUp();
    });

    it('unwraps what it wrapped to the same key', async () => {
      const { engine, provider } = under;
      const secret = engine.generateKey(USE);
      const { wrapped, reference } = await provider.wrap(secret, CONTEXT, SIGNAL);
      const again = await provider.unwrap(wrapped, reference, CONTEXT, SIGNAL);
      expect(engine.kid(again)).toEqual(engine.kid(secret));
    });

    it('leaves the secret to the caller', async () => {
      const { engine, provider } = under;
      const secret = engine.generateKey(USE);
      await provider.wrap(secret, CONTEXT, SIGNAL);
      expect(engine.kid(secret).length).toBe(16);
    });

    it('names its root and the resolved id in the reference', async () => {
      const { engine, provider } = under;
      const { reference } = await provider.wrap(engine.generateKey(USE), CONTEXT, SIGNAL);
      expect(reference.root).toBe(provider.root);
      expect(reference.resolvedId).toBe(description.resolvedId);
      expect(description.resolvedId).not.toBe('');
    });

    it('resolves another root key to another id', async () => {
      expect((await under.other.describe(SIGNAL)).resolvedId).not.toBe(description.resolvedId);
    });

    it('refuses every changed bit of what it wrapped, and keeps no key', async () => {
      const { engine, provider } = under;
      const { wrapped, reference } = await provider.wrap(engine.generateKey(USE), CONTEXT, SIGNAL);
      const { used } = engine.stats();
      for (let bit = 0; bit < wrapped.length * 8; bit++) {
        const changed = wrapped.slice();
        changed[bit >> 3]! ^= 1 << (bit & 7);
        await expect(provider.unwrap(changed, reference, CONTEXT, SIGNAL)).rejects.toMatchObject({
          code: 'DECRYPTION_FAILED',
        });
      }
      expect(engine.stats().used).toBe(used);
    });

    it('refuses what another root key wrapped', async () => {
      const { engine, provider, other } = under;
      const { wrapped, reference } = await other.wrap(engine.generateKey(USE), CONTEXT, SIGNAL);
      const claimed = { ...reference, resolvedId: description.resolvedId };
      await expect(provider.unwrap(wrapped, claimed, CONTEXT, SIGNAL)).rejects.toMatchObject({
        code: expect.stringMatching(/^(DECRYPTION_FAILED|KMS_DENIED)$/),
      });
    });

    it('refuses another context when it says that it binds the context', async () => {
      const { engine, provider } = under;
      const { wrapped, reference } = await provider.wrap(engine.generateKey(USE), CONTEXT, SIGNAL);
      const unwrap = provider.unwrap(wrapped, reference, { tenant: 'other' }, SIGNAL);
      if (provider.capabilities().nativeContext) {
        await expect(unwrap).rejects.toMatchObject({ code: 'DECRYPTION_FAILED' });
      } else {
        await unwrap;
      }
    });

    it('proves itself healthy, at no cost and by a round trip, and leaves no key behind', async () => {
      const { used } = under.engine.stats();
      expect(await under.provider.health('cheap', SIGNAL)).toMatchObject({ ok: true });
      expect(await under.provider.health('deep', SIGNAL)).toMatchObject({ ok: true });
      expect(under.engine.stats().used).toBe(used);
    });

    it('is unavailable once closed', async () => {
      const { engine, provider } = under;
      const secret = engine.generateKey(USE);
      await provider.close();
      expect((await provider.health('cheap', SIGNAL)).ok).toBe(false);
      await expect(provider.wrap(secret, CONTEXT, SIGNAL)).rejects.toMatchObject({ code: 'KMS_UNAVAILABLE' });
    });
  });
}
