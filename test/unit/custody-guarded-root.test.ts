import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { NodeEngine } from '../../src/crypto/node.ts';
import { GuardedRoot } from '../../src/custody/guarded-root.ts';
import { InlineHandleProvider } from '../../src/custody/inline-provider.ts';
import { TrustedIds } from '../../src/custody/trusted-ids.ts';
import type { WrappedSecret } from '../../src/providers/provider.ts';
import { FakeProvider } from '../support/fake-provider.ts';

const USE = { algorithm: 'hkdf-sha-256', purpose: 'wrap' } as const;

describe('GuardedRoot', () => {
  let engine: NodeEngine;
  let provider: FakeProvider;
  let elapsed: number;
  let notices: string[];

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    engine = new NodeEngine();
    provider = new FakeProvider('kms');
    elapsed = 1_000;
    notices = [];
  });

  afterEach(() => {
    engine.close();
    vi.useRealTimers();
  });

  async function open(options: { formerly?: readonly string[]; trusted?: TrustedIds; timeoutMs?: number } = {}) {
    return GuardedRoot.open({
      provider: new InlineHandleProvider(provider, engine),
      remote: true,
      timeoutMs: options.timeoutMs ?? 3_000,
      formerly: options.formerly ?? [],
      trusted: options.trusted ?? (await TrustedIds.open(undefined)),
      notice: (message) => notices.push(message),
      elapsedMs: () => elapsed,
    });
  }

  async function wrapped(root: GuardedRoot): Promise<WrappedSecret> {
    return root.wrap(engine.generateKey(USE), {});
  }

  /** Time that timers and the breaker see. */
  async function pass(ms: number): Promise<void> {
    elapsed += ms;
    await vi.advanceTimersByTimeAsync(ms);
  }

  async function failTimes(root: GuardedRoot, times: number): Promise<void> {
    for (let i = 0; i < times; i++) {
      await wrapped(root).catch(() => undefined);
    }
  }

  it('fails at once after five failures in a row, without asking the provider', async () => {
    const root = await open();
    provider.failure = 'UNAVAILABLE';
    await failTimes(root, 5);
    const { wrap } = provider.calls;
    const began = performance.now();
    await expect(wrapped(root)).rejects.toMatchObject({ code: 'KMS_UNAVAILABLE', retryAfterMs: expect.any(Number) });
    expect(performance.now() - began).toBeLessThan(100);
    expect(provider.calls.wrap).toBe(wrap);
    expect(root.standing()).toMatchObject({ breaker: 'open', calls: 5, failures: 5, callsLastHour: 5 });
  });

  it('does not open for failures with answers in between, nor for a thousand bad ciphertexts', async () => {
    const root = await open();
    for (let round = 0; round < 5; round++) {
      provider.failure = 'TIMEOUT';
      await failTimes(root, 4);
      provider.failure = undefined;
      await wrapped(root);
    }
    const { reference } = await wrapped(root);
    for (let i = 0; i < 1_000; i++) {
      await root.unwrap(new Uint8Array(60), reference, {}).catch(() => undefined);
    }
    for (const code of ['FORBIDDEN', 'KEY_DISABLED', 'CANCELLED', 'UNAUTHENTICATED', 'TOO_LARGE'] as const) {
      provider.failure = code;
      await failTimes(root, 10);
    }
    expect(root.standing().breaker).toBe('closed');
  });

  it('lets one probe through after 30 s, and what comes of it decides', async () => {
    const root = await open();
    provider.failure = 'UNAVAILABLE';
    await failTimes(root, 5);
    elapsed += 30_000;
    const { wrap } = provider.calls;
    await Promise.all(Array.from({ length: 20 }, () => failTimes(root, 1)));
    expect(provider.calls.wrap - wrap).toBe(1);
    expect(root.standing().breaker).toBe('open');
    elapsed += 30_000;
    provider.failure = undefined;
    await wrapped(root);
    expect(root.standing().breaker).toBe('closed');
  });

  it('looks every 3 s while it is open, at no cost, and half-opens as soon as that succeeds', async () => {
    const root = await open();
    const told = vi.fn();
    root.onReturn(told);
    provider.failure = 'UNAVAILABLE';
    await failTimes(root, 5);
    await pass(12_000);
    expect(provider.calls.look).toBeGreaterThanOrEqual(3);
    expect(provider.calls.look).toBeLessThanOrEqual(5);
    provider.failure = undefined;
    await pass(4_000);
    expect(root.standing().breaker).toBe('half-open');
    expect(told).toHaveBeenCalledOnce();
    await wrapped(root);
    expect(root.standing().breaker).toBe('closed');
  });

  it('takes a refusal for an answer when it looks, and neither silence nor an end of its own', async () => {
    const root = await open();
    provider.failure = 'UNAVAILABLE';
    await failTimes(root, 5);
    for (const silence of ['UNAVAILABLE', 'TIMEOUT', 'RATE_LIMITED', 'CANCELLED', 'UNAUTHENTICATED'] as const) {
      provider.failure = silence;
      await pass(4_000);
      expect([silence, root.standing().breaker]).toEqual([silence, 'open']);
    }
    provider.failure = 'KEY_DISABLED';
    await pass(4_000);
    expect(root.standing().breaker).toBe('half-open');
    await expect(wrapped(root)).rejects.toMatchObject({ code: 'KMS_DENIED' });
    expect(root.standing().breaker).toBe('closed');
  });

  it('gives a root that did not answer last time less than a second', async () => {
    const root = await open();
    provider.failure = 'TIMEOUT';
    await failTimes(root, 1);
    provider.failure = undefined;
    vi.useRealTimers();
    provider.delayMs = 20_000;
    const began = performance.now();
    await expect(wrapped(root)).rejects.toMatchObject({ code: 'KMS_UNAVAILABLE' });
    expect(performance.now() - began).toBeLessThan(1_500);
  });

  it('never uses a key that only a row names', async () => {
    const root = await open();
    const { wrapped: bytes, reference } = await wrapped(root);
    const { unwrap } = provider.calls;
    for (const changed of [
      { ...reference, resolvedId: 'arn:aws:kms:eu-central-1:666666666666:key/attacker' },
      { ...reference, root: 'other' },
    ]) {
      await expect(root.unwrap(bytes, changed, {})).rejects.toMatchObject({ code: 'KMS_DENIED' });
      await expect(root.rewrap(bytes, changed, {})).rejects.toMatchObject({ code: 'KMS_DENIED' });
      await expect(root.decrypt(bytes, changed, {})).rejects.toMatchObject({ code: 'KMS_DENIED' });
    }
    expect(provider.calls.unwrap).toBe(unwrap);
  });

  it('takes an earlier key that the configuration lists, and the same multi-Region key elsewhere', async () => {
    const here = 'arn:aws:kms:eu-central-1:111122223333:key/mrk-0123456789abcdef0123456789abcdef';
    const there = here.replace('eu-central-1', 'us-east-1');
    provider = new FakeProvider('kms', here);
    const root = await open({ formerly: ['fake:old'] });
    const { wrapped: bytes, reference } = await wrapped(root);
    for (const resolvedId of ['fake:old', there]) {
      // The fake itself knows one id only: that it was asked is what shows here.
      await expect(root.unwrap(bytes, { ...reference, resolvedId }, {})).rejects.toMatchObject({
        code: 'DECRYPTION_FAILED',
      });
    }
  });

  it('trusts an id that the provider itself gave for the configured key, also after a restart', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'dekd-trusted-'));
    try {
      await open({ trusted: await TrustedIds.open(folder) });
      provider = new FakeProvider('kms', 'fake:next');
      const root = await open({ trusted: await TrustedIds.open(folder) });
      expect(root.earlierIds()).toEqual(['fake:kms']);
      const { wrapped: bytes, reference } = await wrapped(root);
      await expect(root.unwrap(bytes, { ...reference, resolvedId: 'fake:kms' }, {})).rejects.toMatchObject({
        code: 'DECRYPTION_FAILED',
      });
      await expect(root.unwrap(bytes, { ...reference, resolvedId: 'fake:other' }, {})).rejects.toMatchObject({
        code: 'KMS_DENIED',
      });
      expect(JSON.parse(readFileSync(join(folder, 'root-ids'), 'utf8'))).toEqual({ kms: ['fake:kms', 'fake:next'] });
      writeFileSync(join(folder, 'root-ids'), '{');
      await expect(TrustedIds.open(folder)).rejects.toMatchObject({ code: 'KEYSTORE_UNAVAILABLE' });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('says at start what is wrong in the words of the provider', async () => {
    for (const code of ['UNAVAILABLE', 'KEY_NOT_FOUND', 'FORBIDDEN', 'KEY_DISABLED'] as const) {
      provider.failure = code;
      await expect(open()).rejects.toThrow(`root kms: ${code}`);
    }
  });

  it('names root and operation where the provider has no such thing', async () => {
    provider = new FakeProvider('kms');
    Object.assign(provider, { rewrap: undefined, encrypt: undefined });
    const root = await open();
    const { wrapped: bytes, reference } = await wrapped(root);
    await expect(root.rewrap(bytes, reference, {})).rejects.toThrow(/root kms: its provider has no rewrap/);
    await expect(root.encrypt(bytes, {})).rejects.toThrow(/root kms: its provider has no encrypt/);
    await expect((await open()).encrypt(new Uint8Array(5_000), {})).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});
