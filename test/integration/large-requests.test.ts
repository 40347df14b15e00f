import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { connect } from '../../src/client/index.ts';
import type { DekdClient, ManyItem, ManyResult } from '../../src/client/types.ts';
import { errorCodeOf } from '../../src/errors.ts';
import type { WorkPoolStats } from '../../src/pool/pool.ts';
import type { AdminFields } from '../../src/protocol/messages.ts';
import { startTestAgent, type TestAgent, type TestAgentOptions } from '../support/agent.ts';
import { ENGINE_NAMES } from '../support/engines.ts';
import { contextOf, RawClient } from '../support/raw-client.ts';

const KEY = { key: 'k' };
/** Items that fill a request of 1 MiB, nearly: each counts 80 bytes beside its own. */
const MANY = 11_000;
const PATIENCE = { timeout: 20_000, interval: 5 };

async function started(options: TestAgentOptions): Promise<{ agent: TestAgent; dekd: DekdClient }> {
  const agent = await startTestAgent(options);
  const dekd = connect({ socket: agent.socket, timeoutMs: 60_000 });
  onTestFinished(async () => {
    await dekd.close();
    await agent.stop();
  });
  return { agent, dekd };
}

let admin: RawClient | undefined;
afterEach(() => {
  admin?.destroy();
  admin = undefined;
});

async function ask(agent: TestAgent, command: AdminFields): Promise<unknown> {
  admin ??= await RawClient.greeted(agent.admin);
  const { document, error } = await admin.ask({ admin: command });
  if (!document) {
    throw new Error(error?.message);
  }
  return JSON.parse(Buffer.from(document).toString());
}

async function workers(agent: TestAgent): Promise<WorkPoolStats> {
  return ((await ask(agent, { status: {} })) as { workers: WorkPoolStats }).workers;
}

/** Sends batches until workers have done some of them; with an engine that is slow, which is always worth a hop. */
async function warm(agent: TestAgent, dekd: DekdClient): Promise<void> {
  const items = texts(MANY / 2);
  for (let i = 0; (await workers(agent)).inWorkers === 0; i++) {
    expect(i).toBeLessThan(500);
    await dekd.encryptMany(items, KEY);
  }
}

function texts(count: number): Buffer[] {
  return Array.from({ length: count }, (_, i) => Buffer.from(`item ${i}`));
}

function values(results: readonly ManyResult[]): Uint8Array[] {
  return results.map((result) => (result.ok ? result.value : expect.fail(result.error.message)));
}

describe.each(ENGINE_NAMES)('large batches with the %s engine', (engine) => {
  it.each([0, 2])('give each item its own answer, in order, with %i workers', async (count) => {
    const { agent, dekd } = await started({ engine, workers: count });
    // Whether native batches are worth a hop depends on the machine: `work-pool.test.ts` moves them in any case.
    const isMoved = count > 0 && engine !== 'native';
    if (isMoved) {
      await warm(agent, dekd);
    }
    const many = engine === 'noble' ? 2_000 : MANY;
    const plain = texts(many);
    const items: ManyItem[] = plain.map((data, i) => (i % 3 === 0 ? { data, context: { row: String(i) } } : data));
    const tokens = values(await dekd.encryptMany(items, KEY));
    const moved = values(
      await dekd.decryptMany(
        tokens.map((data, i) => (i % 3 === 0 ? { data, context: { row: String(i) } } : data)),
        KEY,
      ),
    );
    expect(Buffer.concat(moved)).toEqual(Buffer.concat(plain));

    const client = await RawClient.greeted(agent.socket);
    onTestFinished(() => client.destroy());
    await ask(agent, { rotate: { name: 'k' } });
    const contextAt = (i: number) => (i % 3 === 0 ? { context: contextOf({ row: String(i) }) } : {});
    const old = tokens.map((data, i) => ({ data: i === 5 ? Buffer.from('no token') : data, ...contextAt(i) }));
    const { many: newer } = await client.ask({ reencryptMany: { key: 'k', items: old } });
    expect(newer!.errors.map(({ index }) => index)).toEqual([5]);
    expect(newer!.values[0]!.subarray(2, 18)).not.toEqual(tokens[0]!.subarray(2, 18));
    const reopened = await dekd.decryptMany(
      newer!.values.map((data, i) => (i % 3 === 0 ? { data, context: { row: String(i) } } : data)),
      KEY,
    );
    expect(reopened.flatMap((result, i) => (result.ok && plain[i]!.equals(result.value) ? [] : [i]))).toEqual([5]);

    // One of them changed, one with another context, one that is no token: these fail, and nothing else.
    const broken: ManyItem[] = tokens.map((data, i) => (i % 3 === 0 ? { data, context: { row: String(i) } } : data));
    broken[1] = tokens[1]!.map((byte, at) => (at === 60 ? byte ^ 1 : byte));
    broken[many - 3] = { data: tokens[many - 3]!, context: { row: 'another' } };
    broken[many - 2] = Buffer.from('no token');
    const results = await dekd.decryptMany(broken, KEY);
    expect(results.flatMap((result, i) => (result.ok ? [] : [[i, result.error.code]]))).toEqual([
      [1, 'DECRYPTION_FAILED'],
      [many - 3, 'DECRYPTION_FAILED'],
      [many - 2, 'MALFORMED'],
    ]);
    const status = await workers(agent);
    expect(status).toMatchObject({ workers: count, waiting: 0, heldBytes: 0, deaths: 0 });
    expect(isMoved ? status.inWorkers : status.inSlices + status.inWorkers).toBeGreaterThan(0);
  });
});

describe('large single values with the noble engine', () => {
  it('are sealed and opened by workers, and a wrong context is the same error', async () => {
    const { agent, dekd } = await started({ engine: 'noble', workers: 1 });
    await warm(agent, dekd);
    const { inWorkers } = await workers(agent);
    const value = Buffer.alloc(1 << 20, 'value');
    const token = await dekd.encrypt(value, { ...KEY, context: { a: 'b' } });
    expect(Buffer.from(await dekd.decrypt(token, { ...KEY, context: { a: 'b' } })).equals(value)).toBe(true);
    await expect(dekd.decrypt(token, { ...KEY, context: { a: 'c' } })).rejects.toMatchObject({
      code: 'DECRYPTION_FAILED',
      message: 'decryption failed',
    });
    expect((await workers(agent)).inWorkers).toBe(inWorkers + 3);
    await ask(agent, { rotate: { name: 'k' } });
    const moved = await dekd.reencrypt(token, { ...KEY, context: { a: 'b' } });
    expect((await workers(agent)).inWorkers).toBe(inWorkers + 5);
    expect(moved.subarray(2, 18)).not.toEqual(token.subarray(2, 18));
    expect(Buffer.from(await dekd.decrypt(moved, { ...KEY, context: { a: 'b' } })).equals(value)).toBe(true);
    await expect(dekd.reencrypt(token, { ...KEY, context: { a: 'c' } })).rejects.toMatchObject({
      code: 'DECRYPTION_FAILED',
    });
  });
});

describe('streams with the noble engine', () => {
  it('are sealed and opened by workers, give what they were given, and can be given up in the middle', async () => {
    const { agent, dekd } = await started({ engine: 'noble', workers: 2 });
    await warm(agent, dekd);
    const value = Buffer.alloc(3 << 20, 'stream');
    const { inWorkers } = await workers(agent);
    const message = Buffer.concat(await pass(dekd.encryptStream(KEY), value));
    expect(Buffer.concat(await pass(dekd.decryptStream(KEY), message)).equals(value)).toBe(true);
    expect((await workers(agent)).inWorkers).toBeGreaterThan(inWorkers + 10);

    const changed = Buffer.from(message);
    changed[changed.length - 100_000]! ^= 1;
    await expect(pass(dekd.decryptStream(KEY), changed)).rejects.toMatchObject({ code: 'DECRYPTION_FAILED' });

    const given = dekd.encryptStream(KEY);
    given.on('error', () => {});
    given.write(value);
    await new Promise((resolve) => given.once('data', resolve));
    given.destroy();
    await expect.poll(async () => (await workers(agent)).waiting).toBe(0);
    expect(Buffer.concat(await pass(dekd.decryptStream(KEY), message)).equals(value)).toBe(true);
  });
});

async function pass(stream: ReturnType<DekdClient['encryptStream']>, input: Buffer): Promise<Buffer[]> {
  const parts: Buffer[] = [];
  stream.end(input);
  for await (const part of stream) {
    parts.push(part as Buffer);
  }
  return parts;
}

/** A batch in one frame, by hand. */
function batch(count: number) {
  return { encryptMany: { key: 'k', items: texts(count).map((data) => ({ data })) } };
}

describe.each([0, 2])('while a large batch is under way, with %i workers', (count) => {
  it('small calls of others are answered before it', async () => {
    const { agent, dekd } = await started({ engine: 'native', workers: count });
    await dekd.encrypt(Buffer.from('x'), KEY);
    const heavy = await RawClient.greeted(agent.socket);
    const light = await RawClient.greeted(agent.socket);
    onTestFinished(() => {
      heavy.destroy();
      light.destroy();
    });
    const order: string[] = [];
    const large = heavy.reply(heavy.send(batch(MANY))).then(() => order.push('large'));
    // The batch is being read when this is sent, and takes several turns.
    await new Promise((resolve) => setImmediate(resolve));
    await light.ask({ encrypt: { key: 'k', data: Buffer.from('small') } }).then(() => order.push('small'));
    await large;
    expect(order).toEqual(['small', 'large']);
  });

  it('it can be cancelled: its memory comes back, and the connection goes on', async () => {
    const { agent, dekd } = await started({ engine: 'noble', workers: count });
    await dekd.encrypt(Buffer.from('x'), KEY);
    const client = await RawClient.greeted(agent.socket);
    onTestFinished(() => client.destroy());
    const id = client.send(batch(MANY));
    client.send({ cancel: { id } });
    const { error } = await client.reply(id);
    expect(errorCodeOf(error!.code)).toBe('CANCELLED');
    await expect.poll(async () => (await workers(agent)).heldBytes, PATIENCE).toBe(0);
    expect((await client.ask(batch(3))).many?.values).toHaveLength(3);
  });

  it('its client may go away: its memory comes back', async () => {
    const { agent, dekd } = await started({ engine: 'noble', workers: count });
    await dekd.encrypt(Buffer.from('x'), KEY);
    const client = await RawClient.greeted(agent.socket);
    client.send(batch(MANY));
    await expect.poll(async () => (await workers(agent)).heldBytes, PATIENCE).toBeGreaterThan(0);
    client.destroy();
    await expect.poll(async () => (await workers(agent)).heldBytes, PATIENCE).toBe(0);
  });

  it('a key that is rotated seals the rest of it under the newer version', async () => {
    const { agent, dekd } = await started({ engine: 'noble', workers: count });
    await dekd.encrypt(Buffer.from('x'), KEY);
    const client = await RawClient.greeted(agent.socket);
    onTestFinished(() => client.destroy());
    const id = client.send(batch(MANY));
    await expect.poll(async () => (await workers(agent)).heldBytes, PATIENCE).toBeGreaterThan(0);
    await ask(agent, { rotate: { name: 'k' } });
    const { many } = await client.reply(id);
    expect(many!.errors).toEqual([]);
    expect(new Set(many!.values.map((token) => Buffer.from(token.subarray(2, 18)).toString('hex'))).size).toBe(2);
    expect(Buffer.concat(values(await dekd.decryptMany(many!.values, KEY)))).toEqual(Buffer.concat(texts(MANY)));
  });

  it('a key that is stopped fails the rest of it', async () => {
    const { agent, dekd } = await started({ engine: 'noble', workers: count });
    await dekd.encrypt(Buffer.from('x'), KEY);
    const client = await RawClient.greeted(agent.socket);
    onTestFinished(() => client.destroy());
    const id = client.send(batch(MANY));
    await expect.poll(async () => (await workers(agent)).heldBytes, PATIENCE).toBeGreaterThan(0);
    await ask(agent, { disable: { name: 'k', version: 1 } });
    const { many } = await client.reply(id);
    const failed = many!.errors.map(({ index }) => index);
    expect(failed.length).toBeGreaterThan(0);
    expect(failed.length).toBeLessThan(MANY);
    expect(failed).toEqual(Array.from(failed, (_, at) => MANY - failed.length + at));
    expect(new Set(many!.errors.map(({ error }) => errorCodeOf(error.code)))).toEqual(new Set(['KEY_DISABLED']));
  });

  it('an agent that stops answers it first', async () => {
    const agent = await startTestAgent({ engine: 'native', workers: count });
    const client = await RawClient.greeted(agent.socket);
    onTestFinished(() => client.destroy());
    await client.ask({ encrypt: { key: 'k', data: Buffer.from('x') } });
    const id = client.send(batch(MANY));
    const stopped = agent.stop();
    expect((await client.reply(id)).many?.values).toHaveLength(MANY);
    await stopped;
  });
});

describe('an agent with more large batches than it has memory for', () => {
  it('refuses some in a way that says when to come again, answers all the others, and loses nothing', async () => {
    const { agent } = await started({ engine: 'noble', workers: 0 });
    const clients = await Promise.all(Array.from({ length: 30 }, () => RawClient.greeted(agent.socket)));
    onTestFinished(() => {
      for (const client of clients) {
        client.destroy();
      }
    });
    await clients[0]!.ask({ encrypt: { key: 'k', data: Buffer.from('x') } });
    const data = Buffer.alloc(1000);
    const items = Array.from({ length: 900 }, () => ({ data }));
    const replies = await Promise.all(clients.map((client) => client.ask({ encryptMany: { key: 'k', items } })));
    const refused = replies.filter(({ error }) => error);
    expect(refused.length).toBeGreaterThan(0);
    expect(refused.length).toBeLessThan(30);
    for (const { error } of refused) {
      expect(errorCodeOf(error!.code)).toBe('RESOURCE_EXHAUSTED');
      expect(error).toMatchObject({ retryable: true, retryAfterMs: 100 });
      expect(error!.message).toContain('together they may hold 32 MiB');
    }
    expect((await workers(agent)).heldBytes).toBe(0);
  });
});
