/** What the SDK hands over in plaintext is overwritten as soon as it was copied out, or came too late to be. */
import { type DecryptCommandOutput, KMSClient } from '@aws-sdk/client-kms';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { openAwsKms } from '../../src/providers/aws-kms.ts';
import { KmsServer } from '../support/kms-server/kms-server.ts';
import { kmsSettings } from '../support/kms-server/kms-settings.ts';

const SIGNAL = new AbortController().signal;
const SECRET = Uint8Array.from({ length: 32 }, (_, i) => i + 1);

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

/** Plaintexts that the SDK hands over from here on, after `beforehand`. */
function watchPlaintexts(beforehand: () => Promise<void> = async () => {}): Uint8Array[] {
  const seen: Uint8Array[] = [];
  const send = KMSClient.prototype.send as (...values: unknown[]) => Promise<unknown>;
  const spy = vi.spyOn(KMSClient.prototype, 'send').mockImplementation(async function (
    this: KMSClient,
    ...values: unknown[]
  ) {
    const reply = (await send.apply(this, [values[0]])) as DecryptCommandOutput;
    if (reply.Plaintext !== undefined) {
      seen.push(reply.Plaintext);
      expect(Array.from(reply.Plaintext)).toEqual(Array.from(SECRET));
    }
    await beforehand();
    return reply;
  } as never);
  onTestFinished(() => spy.mockRestore());
  return seen;
}

async function open(timeout = 5000) {
  const provider = await openAwsKms('aws', kmsSettings(kms, { key: kms.createKey().arn, timeout }));
  onTestFinished(() => provider.close());
  return provider;
}

describe('plaintext of the SDK', () => {
  it('is overwritten once it was copied out', async () => {
    const provider = await open();
    const { wrapped, reference } = await provider.wrap(SECRET, {}, SIGNAL);
    const seen = watchPlaintexts();
    expect(await provider.unwrap(wrapped, reference, {}, SIGNAL)).toEqual(SECRET);
    expect(seen.map((bytes) => Array.from(bytes))).toEqual([Array(32).fill(0)]);
  });

  it('is overwritten when it comes after the deadline', async () => {
    const provider = await open(100);
    const { wrapped, reference } = await provider.wrap(SECRET, {}, SIGNAL);
    const late = Promise.withResolvers<void>();
    const seen = watchPlaintexts(() => late.promise);
    await expect(provider.unwrap(wrapped, reference, {}, SIGNAL)).rejects.toMatchObject({ code: 'TIMEOUT' });
    late.resolve();
    await expect.poll(() => seen.map((bytes) => bytes.every((byte) => byte === 0))).toEqual([true]);
  });

  it('is overwritten when it came in the name of another key', async () => {
    const provider = await open();
    const { wrapped, reference } = await provider.wrap(SECRET, {}, SIGNAL);
    const seen = watchPlaintexts();
    kms.fail(1, 'other-key');
    await expect(provider.unwrap(wrapped, reference, {}, SIGNAL)).rejects.toMatchObject({ code: 'WRONG_KEY' });
    expect(seen.map((bytes) => Array.from(bytes))).toEqual([Array(32).fill(0)]);
  });
});
