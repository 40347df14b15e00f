import { spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { connect } from '../../src/client/index.ts';
import type { DekdClient } from '../../src/client/types.ts';
import { DekdError, ERROR_CODES } from '../../src/errors.ts';
import type { RequestFields } from '../../src/protocol/messages.ts';
import { childEnvironment, NODE, startTestAgent, type TestAgent } from '../support/agent.ts';
import { type FakeAgent, type FakeOptions, startFakeAgent } from '../support/fake-agent.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const CLIENT = fileURLToPath(new URL('../../src/client/index.ts', import.meta.url));
const DATA = Buffer.from('plaintext');
const KEY = { key: 'k' };

const clients: DekdClient[] = [];
const fakes: FakeAgent[] = [];
const rejections: unknown[] = [];
const onRejection = (reason: unknown): void => void rejections.push(reason);

beforeAll(() => void process.on('unhandledRejection', onRejection));
afterAll(() => void process.off('unhandledRejection', onRejection));
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()));
  await Promise.all(fakes.splice(0).map((fake) => fake.stop()));
  await sleep(0);
  expect(rejections.splice(0)).toEqual([]);
});

function open(options: Parameters<typeof connect>[0]): DekdClient {
  const client = connect(options);
  clients.push(client);
  return client;
}

async function fake(options: FakeOptions): Promise<FakeAgent> {
  const agent = await startFakeAgent(options);
  fakes.push(agent);
  return agent;
}

async function refusal(call: Promise<unknown>): Promise<DekdError> {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(DekdError);
  return error as DekdError;
}

/** Answers every operation with the data it was given. */
const echo: FakeOptions['onRequest'] = (request, connection) =>
  connection.reply({ id: request.id, ...echoed(request) });

function echoed(request: RequestFields): object {
  const many = request.encryptMany ?? request.decryptMany ?? request.reencryptMany;
  if (many) {
    return { many: { values: many.items!.map(({ data }) => data), errors: [] } };
  }
  if (request.ping || request.keyInfo) {
    return { document: Buffer.from('{}') };
  }
  return { value: (request.encrypt ?? request.decrypt ?? request.reencrypt)!.data };
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 1_000 && !condition(); i++) {
    await sleep(5);
  }
  expect(condition()).toBe(true);
}

describe('a client of a real agent', () => {
  let agent: TestAgent;
  let dekd: DekdClient;
  beforeAll(async () => {
    agent = await startTestAgent();
    dekd = connect({ socket: agent.socket });
  });
  afterAll(async () => {
    await dekd.close();
    await agent.stop();
  });

  /** A client that sends every value, however large. */
  function sending(): DekdClient {
    const sent = connect({ socket: agent.socket, lane: false });
    onTestFinished(() => sent.close());
    return sent;
  }

  it('encrypts and decrypts bytes, text and tokens under a newer key', async () => {
    const options = { key: 'customers', partition: 'acme', context: { field: 'pan' } };
    const token = await dekd.encrypt(DATA, options);
    expect(token).toHaveLength(DATA.length + 58);
    expect(Buffer.from(await dekd.decrypt(token, options))).toEqual(DATA);
    const text = await dekd.encryptText('4111 € 👍', options);
    expect(text).toMatch(/^dk1\.[A-Za-z0-9_-]+$/);
    expect(await dekd.decryptText(text, options)).toBe('4111 € 👍');
    expect(Buffer.from(await dekd.decrypt(await dekd.reencrypt(token, options), options))).toEqual(DATA);
    expect(await dekd.decryptText(await dekd.encryptText('', options), options)).toBe('');
  });

  it.each([0, 1, 16_383, 16_384, 16_385, 65_535, 65_536, 1 << 20])(
    'carries a value of %i bytes both ways',
    async (length) => {
      const data = new Uint8Array(length).fill(0x5a);
      const token = await dekd.encrypt(data, KEY);
      expect(Buffer.from(await dekd.decrypt(token, KEY)).equals(data)).toBe(true);
    },
  );

  it('refuses a value over the limit itself, with both numbers, and leaves the connection alone', async () => {
    const sent = sending();
    const slow = sent.encrypt(DATA, { key: 'made-meanwhile' });
    const error = await refusal(sent.encrypt(new Uint8Array((1 << 20) + 1), KEY));
    expect(error.code).toBe('INVALID_ARGUMENT');
    expect(error.message).toMatch(/1048577 bytes .* 1048576/);
    expect(error.message).toMatch(/raise limits\.maxPayload \(to 16 MiB\), make a message of it/);
    expect((await refusal(sent.encrypt(new Uint8Array((16 << 20) + 1), KEY))).message).toMatch(
      /: make a message of it/,
    );
    expect((await refusal(sent.decrypt(new Uint8Array((1 << 20) + 59), KEY))).message).toMatch(
      /1048577 bytes .* 1048576/,
    );
    expect(await slow).toHaveLength(DATA.length + 58);
  });

  it('refuses a request whose names and contexts are over the frame, and loses no other call by it', async () => {
    const sent = sending();
    const others = Array.from({ length: 20 }, (_, i) => sent.encrypt(Buffer.from(`${i}`), { key: 'neighbour' }));
    const name = 'n'.repeat(2 << 20);
    for (const call of [
      sent.encrypt(DATA, { key: name }),
      sent.encrypt(Buffer.alloc(1 << 20), { key: 'k'.repeat(70_000) }),
      sent.keyInfo(name),
      sent.encryptMany([{ data: DATA, key: name }], KEY),
    ]) {
      const error = await refusal(call);
      expect(error.code).toBe('INVALID_ARGUMENT');
      expect(error.message).toMatch(/names and contexts included, is over the agent's 1114112/);
    }
    await Promise.all(others);
    const { log } = agent;
    expect(log.filter(({ code }) => code === 'PROTOCOL_ERROR')).toEqual([]);
  });

  it('gives each item of a batch its result, one over the limit among them', async () => {
    const results = await dekd.encryptMany(
      [DATA, new Uint8Array((1 << 20) + 1), { data: DATA, key: 'other' }, { data: DATA, key: '.reserved' }],
      KEY,
    );
    expect(results.map((result) => (result.ok ? 'ok' : result.error.code))).toEqual([
      'ok',
      'INVALID_ARGUMENT',
      'ok',
      'PERMISSION_DENIED',
    ]);
  });

  it('keeps the order of 20,000 items over many frames', async () => {
    const items = Array.from({ length: 20_000 }, (_, i) => Buffer.from(`item ${i}`));
    const sealed = await dekd.encryptMany(items, KEY);
    const opened = await dekd.decryptMany(
      sealed.map((result) => (result.ok ? result.value : DATA)),
      KEY,
    );
    expect(opened.map((result) => (result.ok ? Buffer.from(result.value).toString() : result.error.code))).toEqual(
      items.map(String),
    );
  });

  it('answers with what it knows of keys and of itself', async () => {
    await dekd.encrypt(DATA, KEY);
    expect(await dekd.keyInfo('k')).toMatchObject({
      key: 'k',
      partition: '',
      algorithm: 'xaes-256-gcm',
      requiredContext: [],
      versions: [{ version: 1, state: 'active' }],
    });
    expect((await refusal(dekd.keyInfo('never-made'))).code).toBe('KEY_NOT_FOUND');
    const ping = await dekd.ping();
    expect(ping).toMatchObject({ protocol: 1 });
    expect(ping.roundTripMs).toBeGreaterThan(0);
  });

  it('refuses wrong arguments by rejecting, never by throwing', async () => {
    const bad = dekd as unknown as Record<string, (...values: unknown[]) => Promise<unknown>>;
    const calls: [string, unknown[]][] = [
      ['encrypt', ['text', KEY]],
      ['encrypt', [null, KEY]],
      ['encrypt', [DATA, undefined]],
      ['encrypt', [DATA, {}]],
      ['encrypt', [DATA, { key: '' }]],
      ['encrypt', [DATA, { key: 7 }]],
      ['encrypt', [DATA, { key: 'k', partition: 7 }]],
      ['encrypt', [DATA, { key: 'k', partition: 'p\ud800' }]],
      ['encrypt', [DATA, { key: 'k', context: { a: 1 } }]],
      ['encrypt', [DATA, { key: 'k', timeoutMs: 0 }]],
      ['encrypt', [DATA, { key: 'k', timeoutMs: Number.NaN }]],
      ['encryptText', [DATA, KEY]],
      ['encryptText', ['half of \ud83d', KEY]],
      ['decrypt', [DATA, undefined]],
      ['encryptLarge', [DATA]],
      ['decryptLarge', [DATA]],
      ['encryptFile', ['in', 'out']],
      ['decryptFile', ['in', 'out']],
      ['decryptRange', ['in', { start: 0 }]],
      ['decryptRange', ['in', undefined, KEY]],
      ['decryptText', ['no token', KEY]],
      ['decryptText', [7, KEY]],
      ['encryptMany', ['no array', KEY]],
      ['encryptMany', [[DATA], {}]],
      ['encryptMany', [[{ data: 'text' }], KEY]],
      ['encryptMany', [[{ data: DATA, key: 7 }], KEY]],
      ['encryptMany', [[{ data: DATA, partition: 7 }], KEY]],
      ['encryptMany', [[null], KEY]],
      ['keyInfo', ['']],
    ];
    for (const [method, values] of calls) {
      const error = await refusal(bad[method]!.apply(dekd, values));
      expect(['INVALID_ARGUMENT', 'MALFORMED'], `${method} ${String(values)}`).toContain(error.code);
    }
  });

  it('throws INVALID_ARGUMENT where a stream is made without options', () => {
    const bad = dekd as unknown as Record<string, () => unknown>;
    for (const method of [
      'encryptStream',
      'decryptStream',
      'reencryptStream',
      'encryptWebStream',
      'decryptWebStream',
    ]) {
      expect(() => bad[method]!(), method).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    }
  });

  it('says so when a plaintext is not text', async () => {
    const token = await dekd.encrypt(Buffer.from([0xff, 0xfe]), KEY);
    const text = `dk1.${Buffer.from(token).toString('base64url')}`;
    expect((await refusal(dekd.decryptText(text, KEY))).message).toMatch(/not UTF-8/);
  });

  it('serves an agent with the smallest limit: batches and calls of one tick are cut for it', async () => {
    const small = await startTestAgent({ limits: { maxPayload: 4096 } });
    try {
      const client = open({ socket: small.socket });
      const many = await client.encryptMany(
        Array.from({ length: 200 }, () => Buffer.alloc(100)),
        KEY,
      );
      expect(many.every(({ ok }) => ok)).toBe(true);
      const calls = Array.from({ length: 50 }, (_, i) => client.encrypt(Buffer.alloc(i === 25 ? 4_097 : 500), KEY));
      const results = await Promise.allSettled(calls);
      expect(results.map(({ status }) => status)).toEqual(results.map((_, i) => (i === 25 ? 'rejected' : 'fulfilled')));
    } finally {
      await small.stop();
    }
  });

  it('is closed by await using', async () => {
    let inside: DekdClient;
    {
      await using client = connect({ socket: agent.socket });
      inside = client;
      await client.encrypt(DATA, KEY);
    }
    expect(await refusal(inside.encrypt(DATA, KEY))).toMatchObject({
      code: 'AGENT_UNAVAILABLE',
      message: 'the client was closed',
    });
  });
});

describe('frames', () => {
  it('are none before the first call: connect is lazy', async () => {
    const agent = await fake({ onRequest: echo });
    open({ socket: agent.path });
    await sleep(30);
    expect(agent.connections).toHaveLength(0);
  });

  it('carry all calls of one tick at once, and one alone when it is alone', async () => {
    const agent = await fake({ onRequest: echo });
    const dekd = open({ socket: agent.path });
    await dekd.encrypt(DATA, KEY);
    expect(agent.requests.splice(0).map((request) => Boolean(request.encrypt))).toEqual([true]);
    const values = await Promise.all(
      Array.from({ length: 100 }, (_, i) =>
        dekd.encrypt(Buffer.from(`${i}`), {
          key: i % 2 ? 'a' : 'b',
          partition: i % 3 ? 'p' : undefined,
          context: { i: `${i}` },
        }),
      ),
    );
    expect(values.map((value) => Buffer.from(value).toString())).toEqual(values.map((_, i) => `${i}`));
    expect(agent.requests).toHaveLength(1);
    const { items, key, partition } = agent.requests[0]!.encryptMany!;
    expect(items).toHaveLength(100);
    for (const [i, item] of items!.entries()) {
      expect(item.key ?? key).toBe(i % 2 ? 'a' : 'b');
      expect(item.partition ?? partition).toBe(i % 3 ? 'p' : '');
    }
    expect(agent.connections).toHaveLength(1);
  });

  it('are shared by calls of one kind only', async () => {
    const agent = await fake({ onRequest: echo });
    const dekd = open({ socket: agent.path });
    await dekd.ping();
    agent.requests.splice(0);
    await Promise.all([
      dekd.encrypt(DATA, KEY),
      dekd.encrypt(DATA, KEY),
      dekd.decrypt(DATA, KEY),
      dekd.decrypt(DATA, KEY),
      dekd.ping(),
    ]);
    expect(
      agent.requests.map((request) => Object.keys(request).filter((name) => /Many|ping|crypt/.test(name))),
    ).toEqual([['encryptMany'], ['decryptMany'], ['ping']]);
  });

  it('give the agent the longest time of the calls they carry', async () => {
    const agent = await fake({ onRequest: echo });
    const dekd = open({ socket: agent.path });
    await Promise.all([
      dekd.encrypt(DATA, { ...KEY, timeoutMs: 1_000 }),
      dekd.encrypt(DATA, { ...KEY, timeoutMs: 60_000 }),
    ]);
    expect(agent.requests[0]!.timeoutMs).toBeGreaterThan(50_000);
  });

  it('may be answered in any order', async () => {
    const waiting: (() => void)[] = [];
    const agent = await fake({
      onRequest: (request, connection) => {
        waiting.push(() => echo(request, connection));
        if (waiting.length === 3) {
          for (const answer of waiting.reverse()) {
            answer();
          }
        }
      },
    });
    const dekd = open({ socket: agent.path });
    const done: number[] = [];
    const calls = [];
    for (let i = 0; i < 3; i++) {
      calls.push(dekd.encrypt(Buffer.from([i]), KEY).then((value) => done.push(value[0]!)));
      await sleep(5);
    }
    await Promise.all(calls);
    expect(done).toEqual([2, 1, 0]);
  });

  it('with fields a newer agent added are read all the same', async () => {
    const agent = await fake({
      onRequest: (request, { socket }) => {
        // Reply: value, then an unknown length-delimited field 20 and an unknown varint field 21.
        const body = Buffer.from([0x08, request.id!, 0x7a, 2, 0x6f, 0x6b, 0xa2, 0x01, 1, 0, 0xa8, 0x01, 5]);
        socket.write(Buffer.concat([Buffer.from([0, 0, 0, body.length]), body]));
      },
    });
    const dekd = open({ socket: agent.path });
    expect(Buffer.from(await dekd.encrypt(DATA, KEY)).toString()).toBe('ok');
  });
});

describe('errors', () => {
  it.each(Object.keys(ERROR_CODES).filter((code) => code !== 'SHUTTING_DOWN') as (keyof typeof ERROR_CODES)[])(
    '%s arrive as DekdError with code, text, incident and whether to retry',
    async (code) => {
      const agent = await fake({
        onRequest: (request, connection) =>
          connection.reply({
            id: request.id,
            error: { code: ERROR_CODES[code].number, message: 'why', incident: 'abcde-1', retryAfterMs: 7 },
          }),
      });
      const error = await refusal(open({ socket: agent.path }).encrypt(DATA, KEY));
      expect(error).toMatchObject({
        code,
        message: 'why',
        incident: 'abcde-1',
        retryAfterMs: 7,
        retryable: ERROR_CODES[code].retryable,
      });
    },
  );

  it('of a newer agent read as INTERNAL', async () => {
    const agent = await fake({
      onRequest: (request, connection) => connection.reply({ id: request.id, error: { code: 999, message: 'new' } }),
    });
    expect((await refusal(open({ socket: agent.path }).encrypt(DATA, KEY))).code).toBe('INTERNAL');
  });

  it.each([
    ['fewer results than items', { many: { values: [DATA], errors: [] } }],
    [
      'a failure of an item that was not sent',
      { many: { values: [DATA, DATA], errors: [{ index: 9, error: { code: 1 } }] } },
    ],
  ])('for %s are PROTOCOL_ERROR at once, not a call that hangs', async (_what, reply) => {
    const agent = await fake({ onRequest: (request, connection) => connection.reply({ id: request.id, ...reply }) });
    const dekd = open({ socket: agent.path });
    const errors = await Promise.all([refusal(dekd.encrypt(DATA, KEY)), refusal(dekd.encrypt(DATA, KEY))]);
    expect(errors.map(({ code }) => code)).toEqual(['PROTOCOL_ERROR', 'PROTOCOL_ERROR']);
    expect(agent.requests).toHaveLength(1);
  });

  it('for a document that is no JSON are PROTOCOL_ERROR', async () => {
    const agent = await fake({
      onRequest: (request, connection) => connection.reply({ id: request.id, document: Buffer.from('{') }),
    });
    expect((await refusal(open({ socket: agent.path }).ping())).code).toBe('PROTOCOL_ERROR');
  });

  it('are UNSUPPORTED_VERSION at once when the agent speaks no common version', async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'agent.sock');
    const server = createServer((socket) => {
      const body = Buffer.from([0x12, 2, 0x08, ERROR_CODES.UNSUPPORTED_VERSION.number]);
      socket.end(Buffer.concat([Buffer.from([0, 0, 0, body.length]), body]));
      socket.on('error', () => {});
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
    expect((await refusal(open({ socket: path }).encrypt(DATA, KEY))).code).toBe('UNSUPPORTED_VERSION');
    server.close();
  });
});

describe('a lost connection', () => {
  it('is made again, and what was in flight is sent again', async () => {
    const agent = await fake({
      onRequest: (request, connection) => {
        if (connection.index < 2) {
          connection.socket.destroy();
        } else {
          echo(request, connection);
        }
      },
    });
    const dekd = open({ socket: agent.path });
    const values = await Promise.all([
      dekd.encrypt(DATA, KEY),
      dekd.decrypt(DATA, KEY),
      dekd.encryptMany([DATA, DATA], KEY),
      dekd.ping(),
    ]);
    expect(Buffer.from(values[0])).toEqual(DATA);
    expect(agent.connections).toHaveLength(3);
  });

  it('is made again ever more slowly when it is lost before any answer', async () => {
    const agent = await fake({ onRequest: (_request, connection) => connection.socket.destroy() });
    const dekd = open({ socket: agent.path });
    const error = await refusal(dekd.encrypt(DATA, { ...KEY, timeoutMs: 600 }));
    expect(['AGENT_UNAVAILABLE', 'DEADLINE_EXCEEDED']).toContain(error.code);
    expect(agent.connections.length).toBeGreaterThan(2);
    expect(agent.connections.length).toBeLessThan(20);
  });

  it('is found again by a call that began while nobody listened', async () => {
    const folder = temporaryFolder();
    const dekd = open({ socket: join(folder, 's', 'agent.sock') });
    const call = dekd.encrypt(DATA, KEY);
    await sleep(50);
    const agent = await startTestAgent({ folder });
    expect(await call).toHaveLength(DATA.length + 58);
    await dekd.close();
    await agent.stop();
  });

  it('does not send again what the agent refused for good', async () => {
    const agent = await fake({
      onRequest: (_request, connection) =>
        connection.reply({ id: 0, error: { code: ERROR_CODES.PROTOCOL_ERROR.number, message: 'no' } }),
    });
    expect((await refusal(open({ socket: agent.path }).encrypt(DATA, KEY))).code).toBe('PROTOCOL_ERROR');
    expect(agent.requests).toHaveLength(1);
  });

  it('sends what a stopping agent refused to its successor', async () => {
    const agent = await fake({
      onRequest: (request, connection) => {
        if (agent.requests.length === 1) {
          connection.reply({ id: request.id, error: { code: ERROR_CODES.SHUTTING_DOWN.number } });
          connection.socket.end();
        } else {
          echo(request, connection);
        }
      },
    });
    expect(Buffer.from(await open({ socket: agent.path }).encrypt(DATA, KEY))).toEqual(DATA);
    expect(agent.requests.length).toBeGreaterThanOrEqual(2);
  });
});

describe('giving up', () => {
  const silent: FakeOptions['onRequest'] = () => {};

  it('by signal rejects with its reason and tells the agent', async () => {
    const agent = await fake({ onRequest: silent });
    const dekd = open({ socket: agent.path });
    const controller = new AbortController();
    const call = dekd.encrypt(DATA, { ...KEY, signal: controller.signal });
    await until(() => agent.requests.length === 1);
    const reason = new Error('enough');
    controller.abort(reason);
    await expect(call).rejects.toBe(reason);
    await until(() => agent.requests.length === 2);
    expect(agent.requests[1]!.cancel!.id).toBe(agent.requests[0]!.id);
  });

  it('by a signal that was aborted before sends nothing', async () => {
    const agent = await fake({ onRequest: silent });
    const dekd = open({ socket: agent.path });
    const reason = new Error('before');
    const signal = AbortSignal.abort(reason);
    await expect(dekd.encrypt(DATA, { ...KEY, signal })).rejects.toBe(reason);
    await expect(dekd.encryptMany([DATA], { ...KEY, signal })).rejects.toBe(reason);
    await expect(dekd.ping({ signal })).rejects.toBe(reason);
    expect(agent.connections).toHaveLength(0);
  });

  it('by signal removes its listener when the call is settled', async () => {
    const agent = await fake({ onRequest: echo });
    const dekd = open({ socket: agent.path });
    const { signal } = new AbortController();
    const add = vi.spyOn(signal, 'addEventListener');
    const remove = vi.spyOn(signal, 'removeEventListener');
    for (let i = 0; i < 5; i++) {
      await dekd.encrypt(DATA, { ...KEY, signal });
    }
    expect(remove.mock.calls.length).toBe(add.mock.calls.length);
  });

  it('on one call leaves another alone, whatever ids they had before the connection was lost', async () => {
    const agent = await fake({
      onRequest: (request, connection) => {
        if (connection.index === 0) {
          connection.socket.destroy();
        } else if (!request.cancel) {
          setTimeout(() => echo(request, connection), 50);
        }
      },
    });
    const dekd = open({ socket: agent.path });
    const controller = new AbortController();
    const aborted = dekd.ping({ signal: controller.signal });
    const other = dekd.keyInfo('k');
    await until(() => agent.connections.length === 2 && agent.requests.length >= 3);
    controller.abort();
    await expect(aborted).rejects.toBe(controller.signal.reason);
    expect(await other).toEqual({});
  });

  it('after timeoutMs rejects with DEADLINE_EXCEEDED, and AGENT_UNAVAILABLE where nobody answers', async () => {
    const agent = await fake({ onRequest: silent });
    expect((await refusal(open({ socket: agent.path }).encrypt(DATA, { ...KEY, timeoutMs: 50 }))).code).toBe(
      'DEADLINE_EXCEEDED',
    );
    expect((await refusal(open({ socket: agent.path, timeoutMs: 50 }).ping())).code).toBe('DEADLINE_EXCEEDED');
    const nobody = join(temporaryFolder(), 'agent.sock');
    const error = await refusal(open({ socket: nobody, timeoutMs: 50 }).encrypt(DATA, KEY));
    expect(error.code).toBe('AGENT_UNAVAILABLE');
    expect(error.message).toContain(nobody);
  });

  it('takes the longest time-out without a warning of the runtime', async () => {
    const warnings: unknown[] = [];
    const onWarning = (warning: unknown): void => void warnings.push(warning);
    process.on('warning', onWarning);
    const agent = await fake({
      onRequest: (request, connection) => void setTimeout(() => echo(request, connection), 30),
    });
    await open({ socket: agent.path }).encrypt(DATA, { ...KEY, timeoutMs: 0x7fffffff });
    process.off('warning', onWarning);
    expect(warnings).toEqual([]);
  });
});

describe('close', () => {
  it('waits for calls in flight, then the connection is gone', async () => {
    const agent = await fake({
      onRequest: (request, connection) => void setTimeout(() => echo(request, connection), 50),
    });
    const dekd = connect({ socket: agent.path });
    const call = dekd.encrypt(DATA, KEY);
    const closed = dekd.close();
    expect((await refusal(dekd.encrypt(DATA, KEY))).code).toBe('AGENT_UNAVAILABLE');
    expect(Buffer.from(await call)).toEqual(DATA);
    await closed;
    await until(() => agent.connections[0]!.socket.destroyed);
  });

  it('waits for a batch to its last frame, and takes no other', async () => {
    const agent = await fake({
      onRequest: (request, connection) => void setTimeout(() => echo(request, connection), 10),
    });
    const dekd = connect({ socket: agent.path });
    const items = Array.from({ length: 12 }, (_, index) => new Uint8Array(200_000).fill(index));
    const call = dekd.encryptMany(items, KEY);
    const closed = dekd.close();
    const others = [dekd.encryptMany(items, KEY), dekd.encryptMany([DATA], KEY), dekd.encrypt(DATA, KEY)];
    expect((await Promise.all(others.map(refusal))).map(({ code }) => code)).toEqual(
      others.map(() => 'AGENT_UNAVAILABLE'),
    );
    expect((await call).map((result) => result.ok && result.value[0])).toEqual(items.map(([first]) => first));
    await closed;
    await until(() => agent.connections[0]!.socket.destroyed);
  });

  it('ends although nobody answers: at the deadlines of what waits', async () => {
    const dekd = connect({ socket: join(temporaryFolder(), 'agent.sock') });
    const call = refusal(dekd.encrypt(DATA, { ...KEY, timeoutMs: 100 }));
    await dekd.close();
    expect((await call).code).toBe('AGENT_UNAVAILABLE');
  });

  it('leaves no connection behind that was being made for a call given up', async () => {
    const agent = await fake({ onRequest: echo });
    const dekd = connect({ socket: agent.path });
    const controller = new AbortController();
    const call = dekd.encrypt(DATA, { ...KEY, signal: controller.signal });
    await new Promise((resolve) => setImmediate(resolve));
    controller.abort();
    await expect(call).rejects.toBe(controller.signal.reason);
    await dekd.close();
    await until(() => agent.connections.every(({ socket }) => socket.destroyed));
  });

  it('twice is no harm', async () => {
    const dekd = connect({ socket: '/nowhere' });
    await dekd.close();
    await dekd.close();
  });
});

describe('the socket', () => {
  async function listenAt(path: string): Promise<() => void> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(path, resolve));
    return () => void server.close();
  }

  it('is refused when its own folder is writable by others', async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'agent.sock');
    const close = await listenAt(path);
    chmodSync(folder, 0o707);
    const error = await refusal(open({ socket: path }).encrypt(DATA, KEY));
    expect(error.code).toBe('PERMISSION_DENIED');
    expect(error.message).toMatch(/writable by others \(mode 707\)/);
    close();
  });

  it('is refused when it is no socket, at the deadline', async () => {
    const path = join(temporaryFolder(), 'agent.sock');
    writeFileSync(path, '');
    expect((await refusal(open({ socket: path, timeoutMs: 50 }).encrypt(DATA, KEY))).message).toMatch(
      /is not a socket/,
    );
  });

  it('may be behind a symbolic link, but not into a folder of others', async () => {
    const folder = temporaryFolder();
    const real = join(folder, 'real');
    mkdirSync(real);
    symlinkSync(real, join(folder, 'link'));
    const close = await listenAt(join(real, 'agent.sock'));
    chmodSync(real, 0o777);
    expect((await refusal(open({ socket: join(folder, 'link', 'agent.sock') }).encrypt(DATA, KEY))).code).toBe(
      'PERMISSION_DENIED',
    );
    close();
  });

  it.skipIf(process.getuid?.() !== 0)('of the temporary folder is refused when another user has made it', async () => {
    const folder = temporaryFolder();
    const place = join(folder, `dekd-${process.getuid!()}`);
    mkdirSync(place, { mode: 0o755 });
    const close = await listenAt(join(place, 'agent.sock'));
    chownSync(place, 1000, 1000);
    const script = `
      import { connect } from ${JSON.stringify(CLIENT)};
      const dekd = connect({ timeoutMs: 300 });
      await dekd.encrypt(Buffer.from('x'), { key: 'k' }).catch((e) => console.log(e.code, e.message));
    `;
    const { output } = await runNode(script, { TMPDIR: folder });
    expect(output).toMatch(/^PERMISSION_DENIED .*belongs to uid 1000/);
    close();
  });
});

/** Runs a module in a process of its own. */
function runNode(script: string, env: NodeJS.ProcessEnv = {}): Promise<{ output: string; code: number | null }> {
  return new Promise((resolve) => {
    const child = spawn(NODE, ['--input-type=module', '-e', script], {
      env: { ...childEnvironment(), ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), 15_000);
    child.once('close', (code) => {
      clearTimeout(timer);
      resolve({ output, code });
    });
  });
}

describe('a process with a client', () => {
  it('ends by itself when the client is idle and was never closed', async () => {
    const agent = await startTestAgent();
    const script = `
      import { connect } from ${JSON.stringify(CLIENT)};
      const dekd = connect({ socket: ${JSON.stringify(agent.socket)} });
      const token = await dekd.encryptText('x', { key: 'k' });
      console.log(await dekd.decryptText(token, { key: 'k' }));
    `;
    expect(await runNode(script)).toEqual({ output: 'x\n', code: 0 });
    await agent.stop();
  });

  it('ends by itself when its only call was given up before the greeting', async () => {
    const agent = await startTestAgent();
    const script = `
      import { connect } from ${JSON.stringify(CLIENT)};
      const dekd = connect({ socket: ${JSON.stringify(agent.socket)} });
      const controller = new AbortController();
      const call = dekd.encrypt(Buffer.from('x'), { key: 'k', signal: controller.signal });
      setImmediate(() => controller.abort(new Error('enough')));
      await call.catch((e) => console.log(e.message));
    `;
    expect(await runNode(script)).toEqual({ output: 'enough\n', code: 0 });
    await agent.stop();
  });

  it('gets a private agent with spawn, which ends when the client is closed', async () => {
    const folder = temporaryFolder();
    const script = `
      import { connect } from ${JSON.stringify(CLIENT)};
      const dekd = connect({ spawn: true, socket: ${JSON.stringify(join(folder, 'none.sock'))} });
      const token = await dekd.encryptText('x', { key: 'k' });
      console.log(await dekd.decryptText(token, { key: 'k' }));
      await dekd.close();
    `;
    expect(await runNode(script, { TMPDIR: folder })).toEqual({ output: 'x\n', code: 0 });
    expect(readdirSync(folder)).toEqual([]);
  });

  it.each(['exits without closing', 'is killed'])('has its private agent ended when it %s', async (how) => {
    const folder = temporaryFolder();
    const script = `
      import { connect } from ${JSON.stringify(CLIENT)};
      const dekd = connect({ spawn: true, socket: ${JSON.stringify(join(folder, 'none.sock'))} });
      await dekd.encryptText('x', { key: 'k' });
      ${how === 'is killed' ? "process.kill(process.pid, 'SIGKILL')" : ''}
    `;
    const { code } = await runNode(script, { TMPDIR: folder });
    expect(code).toBe(how === 'is killed' ? null : 0);
    await until(() => agentsBelow(folder).length === 0);
  });

  it('uses the agent that is there instead of starting one', async () => {
    const agent = await startTestAgent();
    const dekd = open({ spawn: true, socket: agent.socket });
    await dekd.encrypt(DATA, KEY);
    expect(existsSync(agent.socket)).toBe(true);
    await dekd.close();
    expect((await open({ socket: agent.socket }).ping()).protocol).toBe(1);
    await agent.stop();
  });

  it('has one private agent, however many calls there are', async () => {
    const folder = temporaryFolder();
    const script = `
      import { readdirSync } from 'node:fs';
      import { connect } from ${JSON.stringify(CLIENT)};
      await using dekd = connect({ spawn: true, socket: ${JSON.stringify(join(folder, 'none.sock'))} });
      const [token] = await Promise.all([1, 2, 3].map(() => dekd.encrypt(Buffer.from('x'), { key: 'k' })));
      console.log(Buffer.from(await dekd.decrypt(token, { key: 'k' })).toString(), readdirSync(process.env.TMPDIR).length);
    `;
    expect(await runNode(script, { TMPDIR: folder })).toEqual({ output: 'x 1\n', code: 0 });
  });
});

/** Pids of agents whose socket lies below a folder. */
function agentsBelow(folder: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) {
      return false;
    }
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      return line.includes('--until-stdin-ends') && line.includes(folder);
    } catch {
      return false;
    }
  });
}
