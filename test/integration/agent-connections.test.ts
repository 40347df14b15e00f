import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { errorCodeOf } from '../../src/errors.ts';
import { startTestAgent, type TestAgent, type TestAgentOptions } from '../support/agent.ts';
import { frameOf, HELLO, RawClient, requestFrame } from '../support/raw-client.ts';

const DATA = Buffer.from('plaintext');

let agent: TestAgent | undefined;
afterEach(async () => {
  await agent?.stop();
  agent = undefined;
});

async function start(options: TestAgentOptions = {}): Promise<TestAgent> {
  agent = await startTestAgent(options);
  return agent;
}

async function status(admin: string): Promise<{ counters: { connectionsOpen: number; connectionsRefused: number } }> {
  const client = await RawClient.greeted(admin);
  const { document } = await client.ask({ admin: { status: {} } });
  client.destroy();
  return JSON.parse(Buffer.from(document!).toString());
}

async function until(condition: () => Promise<boolean> | boolean): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (await condition()) {
      return;
    }
    await sleep(10);
  }
  throw new Error('it did not come to be');
}

async function stillAnswers(socket: string): Promise<void> {
  const client = await RawClient.greeted(socket);
  expect((await client.ask({ ping: {} })).document).toBeTruthy();
  client.destroy();
}

describe('patience', () => {
  const limits = { headerTimeout: 300 };

  it('ends for a client that says nothing', async () => {
    const { socket } = await start({ limits });
    const client = await RawClient.connect(socket);
    const { error } = await client.reply(0);
    expect(error!.message).toBe('no complete hello within 300 ms');
    await client.closed;
  });

  it('ends for a hello that comes in drops', async () => {
    const { socket } = await start({ limits });
    const client = await RawClient.connect(socket);
    const bytes = requestFrame({ id: 1, hello: { ...HELLO, client: 'x'.repeat(100) } });
    for (let i = 0; i < bytes.length && !client.isClosed; i++) {
      client.write(bytes.subarray(i, i + 1));
      await sleep(50);
    }
    expect(client.replies[0]!.error!.message).toBe('no complete hello within 300 ms');
  });

  it('ends for a frame that comes in drops, however often they fall', async () => {
    const { socket } = await start({ limits });
    const client = await RawClient.greeted(socket);
    const bytes = requestFrame({ id: 1, encrypt: { key: 'k', data: Buffer.alloc(4_000) } });
    for (let i = 0; i < bytes.length && !client.isClosed; i++) {
      client.write(bytes.subarray(i, i + 1));
      await sleep(40);
    }
    expect(client.replies[0]!.error!.message).toBe('no complete frame within 300 ms');
  });

  it('does not end for an idle client, nor for one that sends whole frames without a pause between them', async () => {
    const { socket } = await start({ limits });
    const idle = await RawClient.greeted(socket);
    const busy = await RawClient.greeted(socket);
    const frame = requestFrame({ id: 1, ping: {} });
    // Every write ends inside a frame.
    busy.write(frame.subarray(0, 3));
    for (let i = 0; i < 30; i++) {
      busy.write(Buffer.concat([frame.subarray(3), frame.subarray(0, 3)]));
      await sleep(50);
    }
    expect(busy.replies).toHaveLength(30);
    expect(busy.replies.every(({ document }) => document)).toBe(true);
    expect((await idle.ask({ ping: {} })).document).toBeTruthy();
    idle.destroy();
    busy.destroy();
  });
});

describe('a client that goes', () => {
  it('by half-closing still gets its reply, also one that has to wait for a key', async () => {
    const { socket } = await start();
    const client = await RawClient.greeted(socket, { allowHalfOpen: true });
    client.write(
      Buffer.concat([
        requestFrame({ id: 1, encrypt: { key: 'cold', data: DATA } }),
        requestFrame({ id: 2, encrypt: { key: 'colder', data: DATA } }),
        requestFrame({ id: 3, ping: {} }),
      ]),
    );
    client.socket.end();
    await client.closed;
    expect(client.replies.map(({ id }) => id).sort()).toEqual([1, 2, 3]);
    expect(client.replies.every(({ error }) => !error)).toBe(true);
    client.destroy();
  });

  it('in the middle of a frame, or with requests in flight, leaves nothing behind', async () => {
    const { socket, admin } = await start();
    for (let i = 0; i < 20; i++) {
      const client = await RawClient.greeted(socket);
      client.write(
        Buffer.concat([
          requestFrame({ id: 1, encrypt: { key: `cold-${i}`, data: DATA } }),
          requestFrame({ id: 2, encrypt: { key: 'k', data: Buffer.alloc(100_000) } }).subarray(0, 50_000),
        ]),
      );
      if (i % 2 === 0) {
        await sleep(1);
      }
      client.destroy();
    }
    await until(async () => (await status(admin)).counters.connectionsOpen === 1);
    await stillAnswers(socket);
  });
});

describe('limits of a connection', () => {
  it('stop reading beyond maxInFlight, and go on when answers are out', async () => {
    const { socket } = await start({ limits: { maxInFlight: 2 } });
    const client = await RawClient.greeted(socket);
    for (let i = 1; i <= 40; i++) {
      client.send({ id: i, encrypt: { key: `cold-${i}`, data: DATA } });
      await sleep(0);
    }
    await client.count(40);
    expect(client.replies).toHaveLength(40);
    expect(client.replies.every(({ value }) => value)).toBe(true);
    client.destroy();
  });

  it('count what was cancelled while its work goes on', async () => {
    const { socket } = await start({ limits: { maxInFlight: 4 } });
    const client = await RawClient.greeted(socket);
    for (let i = 1; i <= 100; i++) {
      client.send({ id: i, encrypt: { key: `cold-${i}`, data: DATA } });
      client.send({ id: 0, cancel: { id: i } });
    }
    await client.count(100);
    expect(new Set(client.replies.map(({ id }) => id)).size).toBe(100);
    await stillAnswers(socket);
    client.destroy();
  });

  it('hold back a client that does not read, and lose none of its replies', async () => {
    const { socket } = await start();
    const client = await RawClient.greeted(socket);
    client.socket.pause();
    const data = Buffer.alloc(64 * 1024, 'x');
    const count = 256;
    for (let i = 1; i <= count; i++) {
      client.send({ id: i, encrypt: { key: 'k', data } });
    }
    await sleep(300);
    // The agent took what fits into the two kernels' buffers and a chunk or two, not the 16 MiB that are offered.
    expect(client.socket.writableLength).toBeGreaterThan(12 << 20);
    await stillAnswers(socket);
    client.socket.resume();
    await client.count(count);
    expect(client.replies).toHaveLength(count);
    client.destroy();
  });
});

describe('the cap on connections', () => {
  it('is told to who comes too late, who may come back, and does not hold for the operator', async () => {
    const { socket, admin, log } = await start({ limits: { connections: 3 } });
    const clients = await Promise.all([1, 2, 3].map(() => RawClient.greeted(socket)));
    const late = await RawClient.connect(socket);
    const { error } = await late.reply(0);
    expect(errorCodeOf(error!.code)).toBe('RESOURCE_EXHAUSTED');
    expect(error).toMatchObject({ message: 'over the limit of 3 connections', retryable: true, retryAfterMs: 1_000 });
    await late.closed;
    expect((await status(admin)).counters.connectionsRefused).toBe(1);
    expect(log.some(({ message, code }) => message === 'connection refused' && code === 'RESOURCE_EXHAUSTED')).toBe(
      true,
    );
    clients[0]!.destroy();
    await until(async () => {
      const client = await RawClient.connect(socket);
      client.send({ id: 1, hello: HELLO });
      await client.count(1);
      client.destroy();
      return client.replies[0]?.hello !== undefined;
    });
    for (const client of clients) {
      client.destroy();
    }
  });
});

describe('garbage', () => {
  it('closes its own connection only', async () => {
    const { socket } = await start();
    const other = await RawClient.greeted(socket);
    for (const body of [
      Buffer.alloc(0),
      Buffer.from([0x08]),
      Buffer.from([0x08, 0x01, 0x42, 0x7f]),
      Buffer.from([0x08, 0x01, 0x42, 0x02, 0x7a, 0x7f]),
      Buffer.alloc(64, 0xff),
      Buffer.alloc(64, 0x0b),
    ]) {
      const client = await RawClient.greeted(socket);
      client.write(frameOf(body));
      expect(errorCodeOf((await client.reply(0)).error!.code)).toBe('PROTOCOL_ERROR');
      await client.closed;
    }
    expect((await other.ask({ ping: {} })).document).toBeTruthy();
    other.destroy();
  });
});
