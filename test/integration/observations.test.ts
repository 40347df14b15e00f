import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { connect, type DekdClient } from '../../src/client/index.ts';
import type { Observation, Observer } from '../../src/telemetry/observation.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { contextOf, RawClient } from '../support/raw-client.ts';

/** What was told of one request, kept. */
interface Kept extends Omit<Observation, 'used' | 'context'> {
  readonly version: number | undefined;
  readonly context: Buffer;
}

const TRACEPARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

class Witness implements Observer {
  readonly wantsContexts = true;
  readonly seen: Kept[] = [];
  lefts = 0;

  answered(told: Observation): void {
    const { operation, form, caller, gid, socket, client, key, partition } = told;
    const { outcome, items, failed, failure, incident } = told;
    this.seen.push({
      ...{ operation, form, caller, gid, socket, client, key, partition, outcome, items, failed, failure, incident },
      bytes: told.bytes,
      traceparent: told.traceparent,
      arrived: told.arrived,
      version: told.used?.version,
      context: Buffer.from(told.context),
    });
  }

  left(): void {
    this.lefts += 1;
  }
}

let made: TestAgent | undefined;
let client: DekdClient | undefined;
afterEach(async () => {
  await client?.close();
  await made?.stop();
  made = undefined;
});

async function observed(): Promise<{ witness: Witness; dekd: DekdClient; agent: TestAgent }> {
  const witness = new Witness();
  made = await startTestAgent({ observers: [witness] });
  client = connect({ socket: made.socket, lane: false });
  return { witness, dekd: client, agent: made };
}

/** Waits until that many were told. */
async function told(witness: Witness, count: number): Promise<readonly Kept[]> {
  for (let i = 0; i < 500 && witness.seen.length < count; i++) {
    await sleep(2);
  }
  return witness.seen;
}

describe('an observer', () => {
  it('is told once of each value, whether its key had to be made or was there', async () => {
    const { witness, dekd } = await observed();
    const binding = { key: 'k', partition: 't1', context: { a: 'b' } };
    const begun = performance.now();
    const token = await dekd.encrypt(Buffer.from('four'), binding);
    await dekd.encrypt(Buffer.from('fives'), binding);
    await dekd.decrypt(token, binding);
    const seen = await told(witness, 3);
    expect(seen).toHaveLength(3);
    expect(seen.map(({ operation, bytes }) => [operation, bytes])).toEqual([
      ['encrypt', 4],
      ['encrypt', 5],
      ['decrypt', token.length],
    ]);
    for (const one of seen) {
      expect(one).toMatchObject({ form: 'value', key: 'k', partition: 't1', outcome: 'ok', items: 1, version: 1 });
      expect(one.context).toEqual(contextOf({ a: 'b' }));
      expect(one.caller).toMatch(/^uid:\d+/);
      expect(one.client).toMatch(/dekd/);
      expect(one.arrived).toBeGreaterThanOrEqual(begun);
    }
    expect(witness.lefts).toBeGreaterThan(0);
  });

  it('is told of a failure under the incident that its client got', async () => {
    const { witness, dekd } = await observed();
    const token = await dekd.encrypt(Buffer.from('x'), { key: 'k' });
    const error = await dekd.decrypt(token, { key: 'k', context: { not: 'this' } }).catch((e: unknown) => e);
    const failed = (await told(witness, 2))[1]!;
    expect(failed).toMatchObject({ operation: 'decrypt', outcome: 'DECRYPTION_FAILED', version: undefined });
    expect(failed.incident).toBe((error as { incident: string }).incident);
  });

  it('is told of a batch once, with how many of its items failed and why the first did', async () => {
    const { witness, dekd } = await observed();
    const sent = await dekd.encryptMany([Buffer.from('a'), Buffer.from('b'), Buffer.from('c')], { key: 'k' });
    const tokens = sent.map((result) => (result.ok ? result.value : new Uint8Array()));
    tokens[1]![30]! ^= 1;
    const opened = await dekd.decryptMany(tokens, { key: 'k' });
    expect(opened.map(({ ok }) => ok)).toEqual([true, false, true]);
    const [sealed, decrypted] = await told(witness, 2);
    expect(sealed).toMatchObject({
      operation: 'encrypt',
      form: 'batch',
      items: 3,
      failed: 0,
      outcome: 'ok',
      version: 1,
    });
    expect(decrypted).toMatchObject({
      form: 'batch',
      items: 3,
      failed: 1,
      failure: 'DECRYPTION_FAILED',
      outcome: 'ok',
    });
    expect(decrypted!.incident).toMatch(/^\w+-\w+$/);
    expect(witness.seen).toHaveLength(2);
  });

  it('is told of a stream when it ends, with the bytes that came', async () => {
    const { witness, dekd } = await observed();
    const plaintext = randomBytes(300_000);
    const message = await buffer(Readable.from([plaintext]).pipe(dekd.encryptStream({ key: 'k' })));
    expect(message.length).toBeGreaterThan(plaintext.length);
    const [stream] = await told(witness, 1);
    expect(stream).toMatchObject({ operation: 'encrypt', form: 'stream', outcome: 'ok', bytes: 300_000 });
  });

  it('is told once of what was cancelled, and nothing more when its work ends', async () => {
    const { witness, agent } = await observed();
    const raw = await RawClient.greeted(agent.socket);
    raw.send({ id: 7, encrypt: { key: 'fresh', data: Buffer.from('x') } });
    raw.send({ id: 0, cancel: { id: 7 } });
    await raw.reply(7);
    raw.send({ id: 8, encrypt: { key: 'fresh', data: Buffer.from('x') } });
    await raw.reply(8);
    await sleep(20);
    expect(witness.seen.map(({ outcome }) => outcome)).toEqual(['CANCELLED', 'ok']);
    raw.destroy();
  });

  it('is told of admin commands and of refused frames', async () => {
    const { witness, agent } = await observed();
    const admin = await RawClient.greeted(agent.admin);
    admin.send({ id: 1, admin: { status: { brief: true } } });
    await admin.reply(1);
    admin.destroy();
    const broken = await RawClient.greeted(agent.socket);
    broken.write(Buffer.from([0xff, 0xff, 0xff, 0xff]));
    const seen = await told(witness, 2);
    expect(seen.map(({ operation, form, outcome }) => [operation, form, outcome])).toEqual([
      ['admin', 'command', 'ok'],
      ['unknown', 'command', 'PROTOCOL_ERROR'],
    ]);
    broken.destroy();
  });

  it('sees the trace of the caller, which is in the log line of the failure; one that cannot be read is none', async () => {
    const { witness, agent } = await observed();
    const raw = await RawClient.greeted(agent.socket);
    const decrypt = { key: 'k', data: Buffer.from('no token') };
    raw.send({ id: 1, traceparent: TRACEPARENT, decrypt });
    raw.send({ id: 2, traceparent: TRACEPARENT.replace('0af', 'XYZ'), decrypt });
    raw.send({ id: 3, traceparent: `${TRACEPARENT}x`, decrypt });
    raw.send({ id: 4, traceparent: TRACEPARENT.replace(/-.{32}-/, `-${'0'.repeat(32)}-`), decrypt });
    for (let id = 1; id <= 4; id++) {
      await raw.reply(id);
    }
    expect(witness.seen.map(({ traceparent }) => traceparent)).toEqual([TRACEPARENT, '', '', '']);
    const lines = agent.log.filter(({ incident }) => incident !== undefined);
    expect(lines.map(({ trace }) => trace)).toEqual([
      '0af7651916cd43dd8448eb211c80319c',
      undefined,
      undefined,
      undefined,
    ]);
    raw.destroy();
  });
});
