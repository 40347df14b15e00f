/** What the provider makes of a KMS that is slow, broken, throttling or gone; the stand-in breaks in every listed way. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { type AwsKmsProvider, type AwsKmsSettings, openAwsKms } from '../../src/providers/aws-kms.ts';
import type { ProviderError } from '../../src/providers/provider-error.ts';
import { type FailureKind, type KmsKey, KmsServer } from '../support/kms-server/kms-server.ts';
import { kmsSettings } from '../support/kms-server/kms-settings.ts';

const SIGNAL = new AbortController().signal;
const CONTEXT = { tenant: 'acme' };
const SECRET = new Uint8Array(32).fill(5);

let kms: KmsServer;
let leave: () => void;
let key: KmsKey;

beforeAll(async () => {
  kms = await KmsServer.start();
  leave = kms.enter();
});

beforeEach(() => {
  key = kms.createKey();
  kms.requests.length = 0;
});

afterEach(() => {
  kms.recover();
  kms.delayMs = 0;
});

afterAll(async () => {
  leave();
  await kms.stop();
});

async function open(settings: Partial<AwsKmsSettings> = {}): Promise<AwsKmsProvider> {
  const provider = await openAwsKms('aws', kmsSettings(kms, { key: key.arn, ...settings }));
  onTestFinished(() => provider.close());
  return provider;
}

/** The error of `work`, and the milliseconds it took. */
async function failureOf(work: Promise<unknown>): Promise<{ error: ProviderError; ms: number }> {
  const start = performance.now();
  const error = await work.then(
    () => undefined,
    (reason) => reason,
  );
  return { error, ms: performance.now() - start };
}

describe('a failing KMS', () => {
  it.each([
    ['throttle', 'RATE_LIMITED', true],
    ['limit', 'RATE_LIMITED', true],
    ['internal', 'UNAVAILABLE', true],
    ['dependency', 'UNAVAILABLE', true],
    ['key-unavailable', 'UNAVAILABLE', true],
    ['unavailable', 'UNAVAILABLE', true],
    ['reset', 'UNAVAILABLE', true],
    ['half-close', 'UNAVAILABLE', true],
    ['bad-json', 'UNAVAILABLE', true],
    ['html', 'UNAVAILABLE', true],
    ['redirect', 'UNAVAILABLE', true],
    ['expired', 'UNAUTHENTICATED', false],
    ['unrecognized', 'UNAUTHENTICATED', false],
    ['denied', 'FORBIDDEN', false],
  ] as const satisfies readonly (readonly [FailureKind, string, boolean])[])('%s: %s', async (kind, code, trip) => {
    const provider = await open();
    const { wrapped, reference } = await provider.wrap(SECRET, CONTEXT, SIGNAL);
    for (const call of [
      () => provider.wrap(SECRET, CONTEXT, SIGNAL),
      () => provider.unwrap(wrapped, reference, CONTEXT, SIGNAL),
      () => provider.rewrap(wrapped, reference, CONTEXT, SIGNAL),
      () => provider.describe(SIGNAL),
    ]) {
      kms.fail(1, kind);
      const { error } = await failureOf(call());
      expect(error).toMatchObject({ name: 'ProviderError', code, trip, retry: trip });
    }
    expect(await provider.unwrap(wrapped, reference, CONTEXT, SIGNAL)).toEqual(SECRET);
  });

  it.each(['hang', 'trickle'] as const)('that would %s for ever ends in TIMEOUT at the deadline', async (kind) => {
    const provider = await open({ timeout: 150 });
    await provider.describe(SIGNAL);
    kms.fail(Infinity, kind);
    const { error, ms } = await failureOf(provider.wrap(SECRET, CONTEXT, SIGNAL));
    expect(error).toMatchObject({ code: 'TIMEOUT', retry: true, trip: true });
    expect(ms).toBeGreaterThan(140);
    expect(ms).toBeLessThan(2000);
  });

  it('ends a call at the deadline of its caller when that is sooner', async () => {
    const provider = await open({ timeout: 5000 });
    kms.fail(Infinity, 'hang');
    const { error, ms } = await failureOf(provider.wrap(SECRET, CONTEXT, AbortSignal.timeout(60)));
    expect(error.code).toBe('TIMEOUT');
    expect(ms).toBeLessThan(2000);
  });

  it('ends a call that its caller gave up, and lets the connection go', async () => {
    const provider = await open();
    kms.fail(Infinity, 'hang');
    const caller = new AbortController();
    const call = failureOf(provider.wrap(SECRET, CONTEXT, caller.signal));
    await expect.poll(() => kms.count()).toBe(1);
    caller.abort();
    expect((await call).error).toMatchObject({ code: 'CANCELLED', trip: false, retry: false });
    await expect.poll(() => kms.inFlight).toBe(0);
  });

  it('sends nothing for a call that was given up before', async () => {
    const provider = await open();
    await expect(provider.wrap(SECRET, CONTEXT, AbortSignal.abort())).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(kms.count()).toBe(0);
  });

  it('follows no redirect: nothing that is signed or secret goes elsewhere', async () => {
    const elsewhere = await KmsServer.start();
    onTestFinished(() => elsewhere.stop());
    kms.redirectTo = `${elsewhere.endpoint}/`;
    const provider = await open({ retries: 1 });
    kms.fail(2, 'redirect');
    await expect(provider.wrap(SECRET, CONTEXT, SIGNAL)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(elsewhere.connections).toBe(0);
  });

  it('is UNAVAILABLE at once where nothing listens, and serves again when it is back', async () => {
    const provider = await open();
    await provider.describe(SIGNAL);
    await kms.down();
    const { error, ms } = await failureOf(provider.wrap(SECRET, CONTEXT, SIGNAL));
    await kms.up();
    expect(error).toMatchObject({ code: 'UNAVAILABLE', detail: expect.stringMatching(/ECONNRE/) });
    expect(ms).toBeLessThan(2000);
    expect((await provider.wrap(SECRET, CONTEXT, SIGNAL)).reference.resolvedId).toBe(key.arn);
  });

  it('never counts a bad ciphertext: a thousand of them are all CORRUPT, and none trips', async () => {
    const provider = await open({ retries: 2 });
    const { reference } = await provider.wrap(SECRET, CONTEXT, SIGNAL);
    kms.requests.length = 0;
    const outcomes = new Set<string>();
    for (let i = 0; i < 1000; i += 50) {
      const burst = Array.from({ length: 50 }, (_, j) => Uint8Array.of(i / 50, j));
      for (const { error } of await Promise.all(
        burst.map((bad) => failureOf(provider.unwrap(bad, reference, CONTEXT, SIGNAL))),
      )) {
        outcomes.add(`${error.code} trip ${error.trip}`);
      }
    }
    expect([...outcomes]).toEqual(['CORRUPT trip false']);
    expect(kms.count()).toBe(1000);
  });
});

describe('retries', () => {
  it('of 0 are exactly one request', async () => {
    const provider = await open({ retries: 0 });
    for (const kind of ['internal', 'throttle', 'reset', 'unavailable', 'expired'] as const) {
      kms.requests.length = 0;
      kms.fail(Infinity, kind);
      await failureOf(provider.wrap(SECRET, CONTEXT, SIGNAL));
      expect(kms.count(), kind).toBe(1);
      kms.recover();
    }
  });

  it.each([1, 2, 4])('of %i are that many more requests, and not one of the SDK on top', async (retries) => {
    const provider = await open({ retries });
    kms.fail(Infinity, 'internal');
    await expect(provider.wrap(SECRET, CONTEXT, SIGNAL)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(kms.count()).toBe(retries + 1);
  });

  it('are not those of the environment', async () => {
    process.env.AWS_MAX_ATTEMPTS = '7';
    process.env.AWS_RETRY_MODE = 'adaptive';
    onTestFinished(() => {
      delete process.env.AWS_MAX_ATTEMPTS;
      delete process.env.AWS_RETRY_MODE;
    });
    const provider = await open({ retries: 1, connections: 5 });
    kms.fail(Infinity, 'internal');
    await failureOf(provider.wrap(SECRET, CONTEXT, SIGNAL));
    expect(kms.count()).toBe(2);
  });

  it('help over a short failure', async () => {
    const provider = await open({ retries: 2 });
    kms.fail(1, 'internal');
    kms.fail(1, 'reset');
    expect((await provider.wrap(SECRET, CONTEXT, SIGNAL)).reference.resolvedId).toBe(key.arn);
    expect(kms.requests.map(({ outcome }) => outcome)).toEqual(['KMSInternalException', 'reset', 'ok']);
  });

  it('are not made for a refusal', async () => {
    const provider = await open({ retries: 3 });
    kms.fail(1, 'denied');
    await expect(provider.wrap(SECRET, CONTEXT, SIGNAL)).rejects.toMatchObject({ code: 'FORBIDDEN' });
    kms.disable(key);
    await expect(provider.wrap(SECRET, CONTEXT, SIGNAL)).rejects.toMatchObject({ code: 'KEY_DISABLED' });
    expect(kms.count()).toBe(2);
  });

  it('wait for a random time that is never the same', async () => {
    const provider = await open({ retries: 2 });
    const pauses: number[] = [];
    for (let i = 0; i < 12; i++) {
      kms.requests.length = 0;
      kms.fail(2, 'internal');
      await provider.wrap(SECRET, CONTEXT, SIGNAL);
      const [first, second] = kms.requests;
      pauses.push(second!.at - first!.at);
    }
    expect(Math.min(...pauses)).toBeLessThan(60);
    expect(Math.max(...pauses) - Math.min(...pauses)).toBeGreaterThan(5);
    expect(new Set(pauses.map(Math.round)).size).toBeGreaterThan(4);
  });

  it('wait as long as the service asks, and the error says for how long', async () => {
    const provider = await open({ retries: 1 });
    kms.fail(1, { error: 'ThrottlingException', retryAfterSeconds: 0.3 });
    await provider.wrap(SECRET, CONTEXT, SIGNAL);
    const [first, second] = kms.requests;
    expect(second!.at - first!.at).toBeGreaterThan(290);
    kms.fail(2, { error: 'ThrottlingException', retryAfterSeconds: 0.2 });
    const { error } = await failureOf(provider.wrap(SECRET, CONTEXT, SIGNAL));
    expect(error).toMatchObject({ code: 'RATE_LIMITED', retryAfterMs: 200 });
  });

  it('that cannot be made in time are not waited for', async () => {
    const provider = await open({ retries: 1, timeout: 5000 });
    kms.fail(Infinity, { error: 'ThrottlingException', retryAfterSeconds: 30 });
    const { error, ms } = await failureOf(provider.wrap(SECRET, CONTEXT, SIGNAL));
    expect(error).toMatchObject({ code: 'RATE_LIMITED', retryAfterMs: 30_000 });
    expect(ms).toBeLessThan(2000);
    expect(kms.count()).toBe(1);
  });

  it('end with the deadline, and the error is what failed', async () => {
    const provider = await open({ retries: 1000, timeout: 300 });
    kms.fail(Infinity, 'internal');
    const { error, ms } = await failureOf(provider.wrap(SECRET, CONTEXT, SIGNAL));
    expect(error.code).toMatch(/^(UNAVAILABLE|TIMEOUT)$/);
    expect(ms).toBeLessThan(2000);
    expect(kms.count()).toBeLessThan(100);
  });

  it('end when the caller gives up', async () => {
    const provider = await open({ retries: 5 });
    kms.fail(Infinity, { error: 'ThrottlingException', retryAfterSeconds: 3 });
    const caller = new AbortController();
    const call = failureOf(provider.wrap(SECRET, CONTEXT, caller.signal));
    await expect.poll(() => kms.count()).toBe(1);
    caller.abort();
    const { error, ms } = await call;
    expect(error.code).toBe('CANCELLED');
    expect(ms).toBeLessThan(2000);
  });
});
