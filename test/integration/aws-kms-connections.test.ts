/** The pool under the provider: bounds, reuse, idle connections, TLS, and who shares it. */
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { afterAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { type AwsKmsProvider, type AwsKmsSettings, openAwsKms } from '../../src/providers/aws-kms.ts';
import { type KmsKey, KmsServer, type KmsServerOptions } from '../support/kms-server/kms-server.ts';
import { kmsSettings } from '../support/kms-server/kms-settings.ts';

const SIGNAL = new AbortController().signal;
const CONTEXT = { tenant: 'acme' };
const SECRET = new Uint8Array(32).fill(5);

let kms: KmsServer;
let key: KmsKey;

async function start(options: KmsServerOptions = {}): Promise<void> {
  kms = await KmsServer.start(options);
  const leave = kms.enter();
  key = kms.createKey();
  const started = kms;
  onTestFinished(async () => {
    leave();
    await started.stop();
  });
}

async function open(settings: Partial<AwsKmsSettings> = {}): Promise<AwsKmsProvider> {
  const provider = await openAwsKms('aws', kmsSettings(kms, { key: key.arn, ...settings }));
  onTestFinished(() => provider.close());
  return provider;
}

function wraps(provider: AwsKmsProvider, count: number): Promise<unknown[]> {
  return Promise.all(Array.from({ length: count }, () => provider.wrap(SECRET, CONTEXT, SIGNAL)));
}

describe('connections to AWS KMS', () => {
  beforeEach(() => start());

  it('are at most as many as the settings say, and are used again', async () => {
    const provider = await open({ connections: 3 });
    kms.delayMs = 10;
    await wraps(provider, 30);
    expect(kms.connections).toBe(3);
    expect(kms.maxInFlight).toBe(3);
    kms.delayMs = 0;
    for (let i = 0; i < 20; i++) {
      await provider.wrap(SECRET, CONTEXT, SIGNAL);
    }
    expect(kms.connections).toBe(3);
  });

  it('are one after warm-up for calls one at a time', async () => {
    const provider = await open();
    for (let i = 0; i < 50; i++) {
      await provider.wrap(SECRET, CONTEXT, SIGNAL);
    }
    expect(kms.connections).toBe(1);
  });

  it('count in the deadline of a call while it waits for one', async () => {
    const provider = await open({ connections: 1, timeout: 500 });
    await provider.describe(SIGNAL);
    kms.delayMs = 300;
    const start = performance.now();
    const results = await Promise.allSettled([1, 2, 3, 4].map(() => provider.wrap(SECRET, CONTEXT, SIGNAL)));
    expect(performance.now() - start).toBeLessThan(2000);
    expect(results.map((each) => (each.status === 'rejected' ? each.reason.code : 'ok'))).toEqual([
      'ok',
      'TIMEOUT',
      'TIMEOUT',
      'TIMEOUT',
    ]);
  });

  it('are free for others when a call that waited for one gave up', async () => {
    const provider = await open({ connections: 1 });
    kms.fail(1, 'hang');
    const caller = new AbortController();
    const first = provider.wrap(SECRET, CONTEXT, caller.signal).catch((error) => error.code);
    await expect.poll(() => kms.count()).toBe(1);
    const queued = provider.wrap(SECRET, CONTEXT, caller.signal).catch((error) => error.code);
    caller.abort();
    expect(await Promise.all([first, queued])).toEqual(['CANCELLED', 'CANCELLED']);
    await provider.wrap(SECRET, CONTEXT, SIGNAL);
    expect(kms.count()).toBe(2);
  });

  it('are closed when they were idle for as long as the settings say, and not before', async () => {
    const provider = await open({ connections: 3, idleTimeout: 250 });
    kms.delayMs = 10;
    await wraps(provider, 3);
    expect(kms.openConnections).toBe(3);
    const idleSince = performance.now();
    await expect.poll(() => kms.openConnections, { timeout: 3000, interval: 10 }).toBe(0);
    expect(performance.now() - idleSince).toBeGreaterThan(200);
    expect(performance.now() - idleSince).toBeLessThan(2500);
    await provider.wrap(SECRET, CONTEXT, SIGNAL);
    expect(kms.connections).toBe(4);
  });

  it('are not cut by the idle time-out while a call is under way', async () => {
    const provider = await open({ idleTimeout: 50 });
    kms.delayMs = 250;
    expect((await provider.wrap(SECRET, CONTEXT, SIGNAL)).reference.resolvedId).toBe(key.arn);
  });

  it('are not kept at all with an idle time-out of 0', async () => {
    const provider = await open({ idleTimeout: 0 });
    for (let i = 0; i < 3; i++) {
      await provider.wrap(SECRET, CONTEXT, SIGNAL);
    }
    expect(kms.connections).toBe(3);
    await expect.poll(() => kms.openConnections).toBe(0);
  });

  it('are shared by roots with equal settings, and by no others', async () => {
    const other = kms.createKey();
    const first = await open();
    const second = await open({ key: other.arn, timeout: 1000, retries: 1 });
    const third = await open({ connections: 5 });
    await first.wrap(SECRET, CONTEXT, SIGNAL);
    await second.wrap(SECRET, CONTEXT, SIGNAL);
    expect(kms.connections).toBe(1);
    await third.wrap(SECRET, CONTEXT, SIGNAL);
    expect(kms.connections).toBe(2);
  });

  it('stay while one root still uses them, and end with the last', async () => {
    const [first, second] = [await open(), await open()];
    await first.wrap(SECRET, CONTEXT, SIGNAL);
    await first.close();
    await first.close();
    await expect(first.wrap(SECRET, CONTEXT, SIGNAL)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    await second.wrap(SECRET, CONTEXT, SIGNAL);
    expect(kms.connections).toBe(1);
    await second.close();
    await expect.poll(() => kms.openConnections).toBe(0);
    const third = await open();
    await third.wrap(SECRET, CONTEXT, SIGNAL);
    expect(kms.connections).toBe(2);
  });

  it('that are closed under a call end it as UNAVAILABLE', async () => {
    const provider = await open();
    kms.fail(1, 'hang');
    const call = provider.wrap(SECRET, CONTEXT, SIGNAL).catch((error) => error.code);
    await expect.poll(() => kms.count()).toBe(1);
    await provider.close();
    expect(await call).toBe('UNAVAILABLE');
  });
});

describe('TLS to AWS KMS', () => {
  const trusted = getCACertificates('default');

  beforeEach(() => start({ tls: true }));

  afterAll(() => setDefaultCACertificates(trusted));

  it('is refused with a certificate that nobody vouches for', async () => {
    setDefaultCACertificates(trusted);
    const provider = await open();
    await expect(provider.describe(SIGNAL)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      detail: expect.stringContaining('SELF_SIGNED'),
    });
    expect(kms.count()).toBe(0);
  });

  it('takes as many handshakes as connections at once, and none after warm-up', async () => {
    setDefaultCACertificates([...trusted, kms.certificate!]);
    const provider = await open({ connections: 4 });
    await provider.describe(SIGNAL);
    for (let i = 0; i < 20; i++) {
      await provider.wrap(SECRET, CONTEXT, SIGNAL);
    }
    expect(kms.handshakes).toBe(1);
    kms.delayMs = 10;
    await wraps(provider, 40);
    expect(kms.handshakes).toBeLessThanOrEqual(4);
    const warm = kms.handshakes;
    await wraps(provider, 40);
    expect(kms.handshakes).toBe(warm);
  });

  it('is broken off as UNAVAILABLE by a server that speaks none', async () => {
    const plain = await KmsServer.start();
    onTestFinished(() => plain.stop());
    const provider = await open({ endpoint: plain.endpoint.replace('http:', 'https:') });
    await expect(provider.describe(SIGNAL)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  });
});
