/** Messages through web streams: `pipeThrough` of bodies, and what happens to the other side when one ends. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { INPUT_WINDOW } from '../../src/agent/stream.ts';
import { connect } from '../../src/client/index.ts';
import type { DekdClient, MessageTransform } from '../../src/client/types.ts';
import { createTestAgent } from '../../src/testkit/index.ts';
import { NODE, startTestAgent, type TestAgent } from '../support/agent.ts';
import { keySlots, until } from '../support/agent-state.ts';
import { startFakeAgent } from '../support/fake-agent.ts';
import { flipped } from '../support/flipped.ts';

const KIB = 1024;
const KEY = { key: 'k', context: { row: '1' } };
const SIZE = 3 * 1024 * KIB + 7;

let agent: TestAgent;
let dekd: DekdClient;
let plaintext: Buffer;
let message: Buffer;

beforeAll(async () => {
  agent = await startTestAgent();
  dekd = connect({ socket: agent.socket });
  plaintext = randomBytes(SIZE);
  message = await bytesOf(bodyOf(plaintext).pipeThrough(dekd.encryptWebStream(KEY)));
});

afterAll(async () => {
  await dekd.close();
  await agent.stop();
});

describe('encryptWebStream and decryptWebStream', () => {
  it.each([0, 1, 64 * KIB, 64 * KIB + 1, SIZE])('give a body of %s bytes back', async (length) => {
    const body = plaintext.subarray(0, length);
    const sealed = bodyOf(body).pipeThrough(dekd.encryptWebStream({ ...KEY, frameLength: 10_000 }));
    expect((await bytesOf(sealed.pipeThrough(dekd.decryptWebStream(KEY)))).equals(body)).toBe(true);
  });

  it('make and read what the Duplexes read and make', async () => {
    const duplex = dekd.decryptStream(KEY);
    duplex.end(message);
    expect((await buffer(duplex)).equals(plaintext)).toBe(true);
    const sealing = dekd.encryptStream(KEY);
    sealing.end(plaintext);
    const opened = bodyOf(await buffer(sealing)).pipeThrough(dekd.decryptWebStream(KEY));
    expect((await bytesOf(opened)).equals(plaintext)).toBe(true);
  });

  it('pass bodies of fetch both ways', async () => {
    const stored: Buffer[] = [];
    const url = await serve(async (request, response) => {
      if (request.method === 'PUT') {
        stored.push(await buffer(request));
        response.end();
      } else {
        response.end(stored[0]);
      }
    });
    const body = bodyOf(plaintext).pipeThrough(dekd.encryptWebStream(KEY));
    await fetch(url, { method: 'PUT', body, duplex: 'half' });
    const { body: received } = await fetch(url);
    const opened = await bytesOf(received!.pipeThrough(dekd.decryptWebStream(KEY)));
    expect([stored[0]!.equals(plaintext), opened.equals(plaintext)]).toEqual([false, true]);
  });

  it('give pieces that are the reader’s alone', async () => {
    for await (const chunk of bodyOf(message).pipeThrough(dekd.decryptWebStream(KEY))) {
      expect(structuredClone(chunk.buffer, { transfer: [chunk.buffer as ArrayBuffer] })).toBeInstanceOf(ArrayBuffer);
    }
  });

  it('throw at once for arguments that are wrong, and for a signal that was aborted before', () => {
    expect(() => dekd.encryptWebStream({ key: '' })).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    expect(() => dekd.encryptWebStream({ ...KEY, frameLength: 0 })).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
    const signal = AbortSignal.abort(new Error('before'));
    expect(() => dekd.decryptWebStream({ ...KEY, signal })).toThrow('before');
  });
});

describe('a message that is not right', () => {
  const cases: readonly (readonly [string, () => Buffer, object, string])[] = [
    ['cut short on the edge of a frame', () => message.subarray(0, -7 - 40), KEY, 'MALFORMED'],
    ['cut short by its last byte', () => message.subarray(0, -1), KEY, 'MALFORMED'],
    ['with a byte behind it', () => Buffer.concat([message, Buffer.alloc(1)]), KEY, 'MALFORMED'],
    ['of another context', () => message, { key: 'k' }, 'DECRYPTION_FAILED'],
    ['with a bit changed in its last frame', () => flipped(message, message.length - 20), KEY, 'DECRYPTION_FAILED'],
  ];

  it.each(cases)('%s is an error on both sides, and never an end', async (_what, bytes, options, code) => {
    const { readable, writable } = dekd.decryptWebStream({ key: 'k', ...options });
    const writing = bodyOf(bytes()).pipeTo(writable);
    const reading = readAll(readable);
    await expect(writing).rejects.toMatchObject({ name: 'DekdError', code });
    const { data, error } = await reading;
    expect(error).toMatchObject({ name: 'DekdError', code });
    expect(data.equals(plaintext.subarray(0, data.length))).toBe(true);
  });

  it('makes close() wait for that, and reject', async () => {
    const { readable, writable } = dekd.decryptWebStream(KEY);
    const reading = readAll(readable);
    const writer = writable.getWriter();
    await writer.write(message.subarray(0, -1));
    await expect(writer.close()).rejects.toMatchObject({ code: 'MALFORMED' });
    await expect(writer.closed).rejects.toMatchObject({ code: 'MALFORMED' });
    expect((await reading).error).toMatchObject({ code: 'MALFORMED' });
  });

  it('is one that holds something else than bytes', async () => {
    const { readable, writable } = dekd.encryptWebStream(KEY);
    const writer = writable.getWriter();
    await expect(writer.write('text' as unknown as Uint8Array)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(writer.closed).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect((await readAll(readable)).error).toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});

describe('who gives up', () => {
  it('as the reader cancels at the agent, errors the writable and cancels the source', async () => {
    const before = await keySlots(agent);
    const source = new Source(plaintext, 64 * KIB);
    const transform = dekd.encryptWebStream(KEY);
    const piped = source.stream.pipeTo(transform.writable);
    const reader = transform.readable.getReader();
    expect((await reader.read()).done).toBe(false);
    expect(await keySlots(agent)).toBeGreaterThan(before);
    const reason = new Error('seen enough');
    await reader.cancel(reason);
    await expect(piped).rejects.toBe(reason);
    expect(source.cancelled).toBe(reason);
    await until(async () => (await keySlots(agent)) === before);
  });

  it('as the reader without a reason is told as CANCELLED', async () => {
    const { readable, writable } = dekd.decryptWebStream(KEY);
    await readable.cancel();
    await expect(writable.getWriter().closed).rejects.toMatchObject({ name: 'DekdError', code: 'CANCELLED' });
  });

  it('as the writer cancels at the agent and errors the readable, also when a chunk of his waits', async () => {
    const before = await keySlots(agent);
    const { readable, writable } = dekd.encryptWebStream(KEY);
    const writer = writable.getWriter();
    // Nobody reads: most of it has nowhere to go.
    const writing = writer.write(new Uint8Array(8 * 1024 * KIB));
    await until(async () => (await keySlots(agent)) > before);
    const reason = new Error('changed my mind');
    await Promise.all([writer.abort(reason), expect(writing).rejects.toBe(reason)]);
    expect((await readAll(readable)).error).toBe(reason);
    await until(async () => (await keySlots(agent)) === before);
  });

  it('as the source of a pipe passes its error on', async () => {
    const before = await keySlots(agent);
    const broken = new Error('the network is gone');
    let chunks = 0;
    const source = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (++chunks === 3) {
          controller.error(broken);
        } else {
          controller.enqueue(message.slice(0, 1_000));
        }
      },
    });
    expect((await readAll(source.pipeThrough(dekd.decryptWebStream(KEY)))).error).toBe(broken);
    await until(async () => (await keySlots(agent)) === before);
  });

  it('by its signal ends both sides with the reason of that', async () => {
    const before = await keySlots(agent);
    const controller = new AbortController();
    const { readable, writable } = dekd.decryptWebStream({ ...KEY, signal: controller.signal });
    const writer = writable.getWriter();
    await writer.write(message.subarray(0, 100_000));
    const reading = readAll(readable);
    controller.abort(new Error('no time'));
    await expect(writer.closed).rejects.toThrow('no time');
    expect((await reading).error).toMatchObject({ message: 'no time' });
    await until(async () => (await keySlots(agent)) === before);
  });

  it('after the end changes nothing', async () => {
    const controller = new AbortController();
    const { readable, writable } = dekd.decryptWebStream({ ...KEY, signal: controller.signal });
    const small = await bytesOf(bodyOf(Buffer.from('small')).pipeThrough(dekd.encryptWebStream(KEY)));
    const writer = writable.getWriter();
    await writer.write(small);
    await writer.close();
    controller.abort();
    await writer.abort();
    expect((await readAll(readable)).data.toString()).toBe('small');
  });

  it('as the agent is AGENT_UNAVAILABLE on both sides', async () => {
    await using mortal = await createTestAgent({ node: NODE });
    const client = mortal.connect();
    const { readable, writable } = client.encryptWebStream(KEY);
    const reader = readable.getReader();
    const writer = writable.getWriter();
    await writer.write(plaintext.subarray(0, 200_000));
    await reader.read();
    await mortal.kill();
    await expect(writer.closed).rejects.toMatchObject({ name: 'DekdError', code: 'AGENT_UNAVAILABLE' });
    await expect(reader.closed).rejects.toMatchObject({ name: 'DekdError', code: 'AGENT_UNAVAILABLE' });
  });

  it.each(['the reader', 'the writer', 'a signal'])(
    'before the stream was opened never reaches the agent: %s',
    async (who) => {
      const nothing = Buffer.from('{}');
      const fake = await startFakeAgent({
        onRequest: ({ id }, connection) => connection.reply({ id, document: nothing }),
      });
      onTestFinished(() => fake.stop());
      const client = connect({ socket: fake.path });
      onTestFinished(() => client.close());
      const abort = new AbortController();
      const reason = new Error('at once');
      const { readable, writable } = client.encryptWebStream({ ...KEY, signal: abort.signal });
      const writer = writable.getWriter();
      const writing = expect(writer.write(plaintext.subarray(0, 10))).rejects.toBe(reason);
      const closed = expect(writer.closed).rejects.toBe(reason);
      if (who === 'the reader') {
        await readable.cancel(reason);
      } else if (who === 'the writer') {
        await writer.abort(reason);
        expect((await readAll(readable)).error).toBe(reason);
      } else {
        abort.abort(reason);
        expect((await readAll(readable)).error).toBe(reason);
      }
      await Promise.all([writing, closed]);
      await client.ping();
      expect(fake.requests.filter(({ encryptStream }) => encryptStream)).toHaveLength(0);
    },
  );

  it('is nobody whose agent is missing from the start: both sides say so', async () => {
    const client = connect({ socket: '/nowhere/agent.sock', timeoutMs: 50 });
    onTestFinished(() => client.close());
    const { readable, writable } = client.encryptWebStream(KEY);
    const code = 'AGENT_UNAVAILABLE';
    await expect(bodyOf(plaintext).pipeTo(writable)).rejects.toMatchObject({ code });
    expect((await readAll(readable)).error).toMatchObject({ code });
  });
});

describe('who waits for whom', () => {
  it.each([
    ['encryption', () => dekd.encryptWebStream(KEY), () => plaintext],
    ['decryption', () => dekd.decryptWebStream(KEY), () => message],
  ])(
    'a reader that does not read stops the source of an %s, at windows that do not grow',
    async (_what, make, bytes) => {
      const source = new Source(Buffer.concat(Array.from({ length: 4 }, bytes)), 16 * KIB);
      const transform: MessageTransform = make();
      const piped = source.stream.pipeTo(transform.writable);
      await source.standsStill();
      // Windows of input and result, what the agent has made beyond the latter, and the queue of the writable.
      expect(source.given).toBeLessThan(3 * INPUT_WINDOW + 512 * KIB);
      const reason = new Error('enough');
      await transform.readable.cancel(reason);
      await expect(piped).rejects.toBe(reason);
    },
  );

  it('a reader that is slow gets everything', async () => {
    const opened: Uint8Array[] = [];
    const slow = new WritableStream<Uint8Array>({
      async write(chunk) {
        await new Promise((resolve) => setImmediate(resolve));
        opened.push(chunk);
      },
    });
    await bodyOf(message).pipeThrough(dekd.decryptWebStream(KEY)).pipeTo(slow);
    expect(Buffer.concat(opened).equals(plaintext)).toBe(true);
  });

  it('an agent that ends a stream which goes on has not ended it well', async () => {
    const fake = await startFakeAgent({
      onRequest: ({ id, decryptStream }, connection) => {
        if (decryptStream) {
          connection.reply({ id, stream: { credit: 1_000, end: true, data: Buffer.from('x') } });
        }
      },
    });
    const client = connect({ socket: fake.path });
    onTestFinished(async () => {
      await client.close();
      await fake.stop();
    });
    const { readable, writable } = client.decryptWebStream(KEY);
    await expect(writable.getWriter().closed).rejects.toMatchObject({ code: 'PROTOCOL_ERROR' });
    expect(await readAll(readable)).toMatchObject({ data: Buffer.alloc(0), error: { code: 'PROTOCOL_ERROR' } });
  });
});

function bodyOf(bytes: Uint8Array): ReadableStream<Uint8Array> {
  return new Response(new Uint8Array(bytes)).body!;
}

async function bytesOf(stream: ReadableStream<Uint8Array>): Promise<Buffer> {
  return Buffer.from(await new Response(stream).arrayBuffer());
}

/** All that comes, and what it ended with. */
async function readAll(stream: ReadableStream<Uint8Array>): Promise<{ data: Buffer; error: unknown }> {
  const chunks: Uint8Array[] = [];
  try {
    for await (const chunk of stream) {
      chunks.push(chunk);
    }
    return { data: Buffer.concat(chunks), error: undefined };
  } catch (error) {
    return { data: Buffer.concat(chunks), error };
  }
}

/** Gives bytes in pieces, and counts those that it was asked for. */
class Source {
  given = 0;
  cancelled: unknown;
  readonly stream: ReadableStream<Uint8Array>;

  constructor(bytes: Buffer, piece: number) {
    this.stream = new ReadableStream<Uint8Array>(
      {
        pull: (controller) => {
          const from = this.given;
          this.given = Math.min(bytes.length, from + piece);
          controller.enqueue(new Uint8Array(bytes.subarray(from, this.given)));
          if (this.given === bytes.length) {
            controller.close();
          }
        },
        cancel: (reason: unknown) => {
          this.cancelled = reason;
        },
      },
      { highWaterMark: 0 },
    );
  }

  /** Waits until it has not been asked for anything over several turns. */
  async standsStill(): Promise<void> {
    let before = -1;
    for (let still = 0; still < 5; still = this.given === before ? still + 1 : 0) {
      before = this.given;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/** A server of HTTP for one test. */
async function serve(answer: (request: IncomingMessage, response: ServerResponse) => unknown): Promise<string> {
  const server = createServer((request, response) => void answer(request, response));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}
