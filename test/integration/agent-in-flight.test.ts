import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { Connection, type ConnectionHost, type ConnectionLimits } from '../../src/agent/connection.ts';
import { DekdError, errorCodeOf } from '../../src/errors.ts';
import type { RequestReader } from '../../src/protocol/request-reader.ts';
import { RawClient, requestFrame } from '../support/raw-client.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const LIMITS: ConnectionLimits = { maxFrame: 1 << 20, maxInFlight: 4, headerTimeoutMs: 10_000 };

let server: Server | undefined;
afterEach(() => void server?.close());

/** A connection alone, whose requests take as long as the test says. */
async function serve(
  handle: (connection: Connection<string>, request: RequestReader) => undefined | Promise<void>,
  limits: Partial<ConnectionLimits> = {},
): Promise<RawClient> {
  const host: ConnectionHost<string> = {
    handle,
    failed: (error) => error,
    itemFailed: (error) => error,
    answered: () => false,
    isStrict: false,
    commit: () => true,
    withheld: () => new DekdError('RESOURCE_EXHAUSTED', 'kept back'),
    now: () => 0,
    left: () => {},
    wantsContexts: false,
    hello: () => ({ version: 1 }),
    closed: () => {},
    frameRefused: () => {},
  };
  const path = join(temporaryFolder(), 'agent.sock');
  server = createServer(
    { allowHalfOpen: true },
    (socket) => new Connection(socket, 'me', host, { ...LIMITS, ...limits }),
  );
  await new Promise<void>((resolve) => server!.listen(path, resolve));
  return RawClient.greeted(path, { allowHalfOpen: true });
}

/** Sends requests each in a chunk of its own. */
async function trickle(client: RawClient, count: number, after: (id: number) => Buffer | undefined): Promise<void> {
  for (let id = 1; id <= count; id++) {
    client.write(requestFrame({ id, ping: {} }));
    await sleep(2);
    const more = after(id);
    if (more) {
      client.write(more);
      await sleep(2);
    }
  }
}

describe('requests in flight', () => {
  it('stop the reading at their limit, and it goes on as they end', async () => {
    const waiting: (() => void)[] = [];
    let handled = 0;
    const client = await serve(() => {
      handled++;
      return new Promise((resolve) => waiting.push(resolve));
    });
    await trickle(client, 20, () => undefined);
    // What has been read when the limit is reached is still taken: one chunk.
    expect(handled).toBeLessThanOrEqual(LIMITS.maxInFlight + 2);
    while (handled < 20) {
      waiting.shift()?.();
      await sleep(2);
    }
    client.destroy();
  });

  it('count until their work has ended, also when they were cancelled', async () => {
    let handled = 0;
    const client = await serve(() => {
      handled++;
      return new Promise(() => {});
    });
    await trickle(client, 20, (id) => requestFrame({ id: 0, cancel: { id } }));
    expect(handled).toBeLessThanOrEqual(LIMITS.maxInFlight + 2);
    client.destroy();
  });

  it('are answered with DEADLINE_EXCEEDED when their time is over, and late work with nothing', async () => {
    const client = await serve(async (connection, { id }) => {
      await sleep(80);
      connection.document(id, {});
    });
    client.send({ id: 1, timeoutMs: 20, ping: {} });
    expect(errorCodeOf((await client.reply(1)).error!.code)).toBe('DEADLINE_EXCEEDED');
    await sleep(150);
    expect(client.replies).toEqual([]);
    client.destroy();
  });

  it('have the longest time there is when they say so', async () => {
    const client = await serve(async (connection, { id }) => {
      await sleep(50);
      connection.document(id, {});
    });
    client.send({ id: 1, timeoutMs: 4_294_967_295, ping: {} });
    expect((await client.reply(1)).document).toBeTruthy();
    client.destroy();
  });

  it('are answered after the client has half-closed', async () => {
    const client = await serve(async (connection, { id }) => {
      await sleep(50);
      connection.document(id, {});
    });
    client.send({ id: 1, ping: {} });
    client.socket.end();
    expect((await client.reply(1)).document).toBeTruthy();
    await client.closed;
    client.destroy();
  });

  it('that end in an error without a reply of theirs get one', async () => {
    const client = await serve(async () => {
      await sleep(5);
      throw new TypeError('a defect');
    });
    client.send({ id: 1, ping: {} });
    const { error } = await client.reply(1);
    expect([errorCodeOf(error!.code), error!.message]).toEqual(['INTERNAL', 'internal error']);
    client.destroy();
  });

  it('do not let the patience for a frame run out while the agent itself does not read', async () => {
    const waiting: (() => void)[] = [];
    const connections: Connection<string>[] = [];
    const client = await serve(
      (connection) => {
        connections.push(connection);
        return new Promise((resolve) => waiting.push(resolve));
      },
      { maxInFlight: 1, headerTimeoutMs: 50 },
    );
    client.send({ id: 1, ping: {} });
    // Half a frame in the same chunk, and the rest when nobody reads.
    client.write(requestFrame({ id: 2, ping: {} }).subarray(0, 5));
    await sleep(100);
    connections[0]!.checkPatience(performance.now());
    client.write(requestFrame({ id: 2, ping: {} }).subarray(5));
    waiting.shift()!();
    await sleep(30);
    expect(connections).toHaveLength(2);
    expect(client.replies).toEqual([]);
    client.destroy();
  });
});
