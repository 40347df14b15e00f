import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { PassThrough, pipeline, Readable } from 'node:stream';
import { pipeline as awaitedPipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { Connection } from '../../src/agent/connection.ts';
import { INPUT_WINDOW } from '../../src/agent/stream.ts';
import { connect } from '../../src/client/index.ts';
import type { DekdClient, EncryptStreamOptions, MessageDuplex } from '../../src/client/types.ts';
import { decodeContext } from '../../src/envelope/context.ts';
import { type MessageHeader, readMessageHeader } from '../../src/envelope/message-header.ts';
import { DekdError, errorCodeOf } from '../../src/errors.ts';
import type { MessageWork } from '../../src/operations/message-streams.ts';
import type { RequestFields } from '../../src/protocol/messages.ts';
import {
  childEnvironment,
  NODE,
  runYaml,
  spawnTestAgent,
  startTestAgent,
  type TestAgent,
  writeRunConfig,
} from '../support/agent.ts';
import { administer, keySlots, until } from '../support/agent-state.ts';
import { type FakeOptions, startFakeAgent } from '../support/fake-agent.ts';
import { flipped } from '../support/flipped.ts';
import { frameOf, RawClient, type RawReply, requestFrame } from '../support/raw-client.ts';
import { makeFolder, removeFolder, temporaryFolder } from '../support/temporary-folder.ts';

const KIB = 1024;
const MAX_OF_CONNECTION = 32;
const MAX_OF_AGENT = 128;
const KEY = { key: 'k' };
/** Bytes of a frame of a message around its plaintext. */
const FRAME_OVERHEAD = 32;

const RULES = `
keys:
  - { name: 'bound-*', keyContext: { purpose: files, tenant: acme }, requiredContext: [row] }
policy:
  rules:
    - { name: makes, callers: { socket: data }, keys: 'bound-*', operations: [encrypt, decrypt], create: { max: 10 } }
    - { name: uses, callers: { socket: data }, keys: 'fixed-*', operations: [encrypt, decrypt] }
    - { name: writes, callers: { socket: data }, keys: 'written', operations: [encrypt], create: { max: 10 } }
`;

let agent: TestAgent;
let dekd: DekdClient;
beforeAll(async () => {
  agent = await startTestAgent();
  dekd = connect({ socket: agent.socket });
});
afterEach(async () => {
  // What a test leaves behind would be in the way of the next one.
  expect((await dekd.ping()).protocol).toBe(1);
});
afterAll(async () => {
  await dekd.close();
  await agent.stop();
});

describe('a message', () => {
  it.each([
    [undefined, [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 5_000_000]],
    [1, [0, 1, 1_001]],
    [1_000, [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1]],
    [1024 * KIB, [0, 1, 64 * KIB, 1024 * KIB, 1024 * KIB + 1, 5_000_000]],
  ])('in frames of %s bytes comes back, whatever its length and its pieces', async (frameLength, lengths) => {
    for (const length of lengths) {
      const data = randomBytes(length);
      for (const [written, read] of piecesFor(length)) {
        const sealed = await through(dekd.encryptStream({ ...KEY, frameLength }), cut(data, written));
        expect(sealed).toMatchObject({ hasEnded: true, error: undefined });
        expect(headerOf(sealed.data)).toMatchObject({ frameLength: frameLength ?? 64 * KIB });
        const opened = await through(dekd.decryptStream(KEY), cut(sealed.data, read));
        expect([length, written, read, opened.code, opened.data.equals(data)]).toEqual([
          length,
          written,
          read,
          'ok',
          true,
        ]);
      }
    }
  });

  it('comes back when neither side ever fills a piece: single bytes both ways', async () => {
    const data = randomBytes(300);
    const sealed = await through(dekd.encryptStream({ ...KEY, frameLength: 7 }), cut(data, 1));
    const opened = await through(dekd.decryptStream(KEY), cut(sealed.data, 1));
    expect(opened.data.equals(data)).toBe(true);
  });

  it('takes empty pieces for nothing', async () => {
    const pieces = ['', 'a', '', '', 'bc', ''].map((text) => Buffer.from(text));
    const sealed = await through(dekd.encryptStream(KEY), pieces);
    expect((await through(dekd.decryptStream(KEY), [Buffer.alloc(0), sealed.data])).data.toString()).toBe('abc');
  });

  it('takes what is no bytes for an error', async () => {
    const stream = dekd.encryptStream(KEY);
    const outcome = outcomeOf(stream);
    (stream as unknown as { write(chunk: unknown): void }).write(new Uint8Array(1));
    expect(() => (stream as unknown as { write(chunk: unknown): void }).write({})).toThrow(/chunk/);
    stream.destroy();
    await outcome;
  });

  it.each([-1, 0.5, 1024 * KIB + 1, Number.NaN])('of frames of %s bytes is refused at once', (frameLength) => {
    expect(() => dekd.encryptStream({ ...KEY, frameLength })).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
  });

  it('has another data key every time', async () => {
    const [a, b] = [await seal(Buffer.from('x')), await seal(Buffer.from('x'))].map(headerOf);
    expect(Buffer.from(a!.messageId).equals(b!.messageId)).toBe(false);
    expect(Buffer.from(a!.dataKeys[0]!.ciphertext).equals(b!.dataKeys[0]!.ciphertext)).toBe(false);
    expect(a!.dataKeys.map(({ providerId }) => providerId)).toEqual(['dekd']);
  });
});

describe('a process that has had a stream', () => {
  it.each(['to its end', 'and destroyed it'])('%s comes to its own end without close()', async (how) => {
    const code = `
const [url, socket, how] = process.argv.slice(1);
const { connect } = await import(url);
const stream = connect({ socket }).encryptStream({ key: 'k' });
await new Promise((resolve) => stream.write(Buffer.from('x'), resolve));
stream.on('close', () => console.log('closed')).resume();
if (how === 'to its end') stream.end();
else stream.destroy();
`;
    const url = new URL('../../src/client/index.ts', import.meta.url).href;
    const args = ['--input-type=module', '-e', code, url, agent.socket, how];
    const child = spawn(NODE, args, { env: childEnvironment(), stdio: ['ignore', 'pipe', 'inherit'] });
    onTestFinished(() => void child.kill('SIGKILL'));
    let said = '';
    child.stdout.on('data', (text: Buffer) => {
      said += text.toString();
    });
    const exited = new Promise<number | null>((resolve) => child.once('close', resolve));
    expect([await Promise.race([exited, sleep(5_000)]), said]).toEqual([0, 'closed\n']);
  });
});

describe('what a message is bound to', () => {
  const binding = { key: 'bound', partition: 'acme', context: { row: '7', table: 'customers' } };
  const plaintext = Buffer.from('plaintext');
  let message: Buffer;
  beforeAll(async () => {
    message = await seal(plaintext, binding);
    await seal(plaintext, { ...binding, partition: 'other' });
    await seal(plaintext, { ...binding, key: 'other' });
  });

  it('opens it, and is not in it', async () => {
    expect((await through(dekd.decryptStream(binding), [message])).data.equals(plaintext)).toBe(true);
    expect(headerOf(message).context).toHaveLength(0);
    for (const value of ['customers', 'acme', 'row']) {
      expect(message.includes(value)).toBe(false);
    }
  });

  it.each([
    ['context', { ...binding, context: { row: '8', table: 'customers' } }],
    ['context, with a field too few', { ...binding, context: { row: '7' } }],
    ['context, with a field too many', { ...binding, context: { ...binding.context, more: '' } }],
    ['context, none', { ...binding, context: undefined }],
    ['key', { ...binding, key: 'other' }],
    ['key, which there is not', { ...binding, key: 'nobody' }],
    ['partition', { ...binding, partition: 'other' }],
    ['partition, none', { ...binding, partition: undefined }],
  ])('opens it not for another %s, and gives nothing out', async (_what, options) => {
    const outcome = await through(dekd.decryptStream(options), [message]);
    expect(summary(outcome)).toEqual({ code: 'DECRYPTION_FAILED', length: 0, hasEnded: false });
    expect(outcome.error!.message).toBe('decryption failed');
  });

  it('is found with anyKey, but for the context', async () => {
    const { context } = binding;
    expect((await through(dekd.decryptStream({ anyKey: true, context }), [message])).data.equals(plaintext)).toBe(true);
    expect(summary(await through(dekd.decryptStream({ anyKey: true }), [message]))).toEqual({
      code: 'DECRYPTION_FAILED',
      length: 0,
      hasEnded: false,
    });
  });
});

describe('rules and key definitions', () => {
  let ruled: TestAgent;
  let client: DekdClient;
  let raw: RawClient;
  let folder: string;
  beforeAll(async () => {
    folder = makeFolder();
    writeRunConfig(folder);
    ruled = await startTestAgent({ folder, yaml: runYaml().replace(/policy:[\s\S]*/, RULES) });
    client = connect({ socket: ruled.socket });
    raw = await RawClient.greeted(ruled.socket);
  });
  afterAll(async () => {
    raw.destroy();
    await client.close();
    await ruled.stop();
    removeFolder(folder);
  });

  it('store the key context in the header, bind the call’s, and open with and without the former', async () => {
    const options = { key: 'bound-a', context: { row: '7' } };
    const message = (await through(client.encryptStream(options), [Buffer.from('x')])).data;
    expect({ ...decodeContext(headerOf(message).context) }).toEqual({ purpose: 'files', tenant: 'acme' });
    for (const context of [{ row: '7' }, { row: '7', tenant: 'acme' }]) {
      expect((await through(client.decryptStream({ key: 'bound-a', context }), [message])).data.toString()).toBe('x');
    }
    for (const context of [{}, { row: '8' }, { row: '7', tenant: 'other' }]) {
      const outcome = await through(client.decryptStream({ key: 'bound-a', context }), [message]);
      expect(summary(outcome)).toEqual({ code: 'DECRYPTION_FAILED', length: 0, hasEnded: false });
    }
  });

  it('refuse a call that lacks a required field, or contradicts the key context', async () => {
    const lacking = await through(client.encryptStream({ key: 'bound-a', context: { other: '1' } }), []);
    expect([lacking.code, lacking.error!.message]).toEqual([
      'INVALID_ARGUMENT',
      "key 'bound-a' requires the context field 'row'",
    ]);
    const other = await through(client.encryptStream({ key: 'bound-a', context: { row: '7', tenant: 'x' } }), []);
    expect([other.code, other.data.length]).toEqual(['INVALID_ARGUMENT', 0]);
  });

  it('make the key of messages on first use where they say so, beside that of tokens', async () => {
    const options = { key: 'bound-new', context: { row: '7' } };
    const message = (await through(client.encryptStream(options), [Buffer.from('x')])).data;
    const token = await client.encrypt(Buffer.from('y'), options);
    const kids = [headerOf(message).dataKeys[0]!.providerInfo.subarray(0, 32), token.subarray(2, 18)];
    expect(Buffer.from(kids[0]!).toString('latin1')).not.toBe(Buffer.from(kids[1]!).toString('hex'));
    expect((await through(client.decryptStream(options), [message])).data.toString()).toBe('x');
  });

  it('refuse a stream like a value where they do not, and before any credit', async () => {
    const refused: readonly RequestFields[] = [
      { encryptStream: { key: 'nobody', credit: 1 } },
      { decryptStream: { key: 'nobody', credit: 1 } },
      { decryptStream: { key: 'written', credit: 1 } },
      { encryptStream: { key: 'fixed-a', credit: 1 } },
    ];
    const like = await Promise.all([
      raw.ask({ encrypt: { key: 'nobody', data: Buffer.from('x') } }),
      raw.ask({ decrypt: { key: 'nobody', data: Buffer.alloc(60, 1) } }),
      raw.ask({ decrypt: { key: 'written', data: Buffer.alloc(60, 1) } }),
      raw.ask({ encrypt: { key: 'fixed-a', data: Buffer.from('x') } }),
    ]);
    for (const [i, fields] of refused.entries()) {
      const { error } = await raw.ask(fields);
      expect(error).toMatchObject({ code: like[i]!.error!.code, message: like[i]!.error!.message });
    }
    expect(like.slice(0, 3).map(({ error }) => errorCodeOf(error!.code))).toEqual(Array(3).fill('PERMISSION_DENIED'));
    expect(raw.replies).toEqual([]);
  });

  it('refuse it to a client whose data is still its own', async () => {
    for (const open of [client.encryptStream, client.decryptStream]) {
      const source = new Counted(1 << 20);
      const outcome = await through(open.call(client, { key: 'nobody' }), source.pieces());
      expect(summary(outcome)).toEqual({ code: 'PERMISSION_DENIED', length: 0, hasEnded: false });
      expect(source.given).toBeLessThan(1 << 20);
    }
  });

  it('give anyKey only to whom a rule grants it', async () => {
    const message = (await through(client.encryptStream({ key: 'bound-a', context: { row: '7' } }), [])).data;
    const outcome = await through(client.decryptStream({ anyKey: true, context: { row: '7' } }), [message]);
    expect(summary(outcome)).toEqual({ code: 'DECRYPTION_FAILED', length: 0, hasEnded: false });
  });
});

describe('a key that must not be used', () => {
  it.each([
    ['disabled', { disable: { name: 'stopped-disabled' } }, { enable: { name: 'stopped-disabled' } }],
    ['frozen', { freeze: { name: 'stopped-frozen' } }, { freeze: { name: 'stopped-frozen', thaw: true } }],
  ])('because it is %s serves no new stream, and serves again when it may', async (how, stop, start) => {
    const options = { key: `stopped-${how}` };
    const message = await seal(Buffer.from('x'), options);
    await administer(agent, stop);
    for (const open of [dekd.encryptStream, dekd.decryptStream]) {
      expect(summary(await through(open.call(dekd, options), [message]))).toEqual({
        code: 'KEY_DISABLED',
        length: 0,
        hasEnded: false,
      });
    }
    await administer(agent, start);
    expect((await through(dekd.decryptStream(options), [message])).data.toString()).toBe('x');
    await seal(Buffer.from('y'), options);
  });
});

describe('a damaged message', () => {
  const FRAME = 1_000;
  const FRAMES = 9;
  const SEALED = FRAME + FRAME_OVERHEAD;
  const data = randomBytes(FRAMES * FRAME + 5);
  let message: Buffer;
  let header: number;
  beforeAll(async () => {
    message = await seal(data, { ...KEY, frameLength: FRAME });
    header = headerOf(message).length;
  });

  it('that is cut before its final frame gives its whole frames, then MALFORMED, and no end', async () => {
    const stream = dekd.decryptStream(KEY);
    const reading = outcomeOf(stream);
    stream.write(message.subarray(0, header + FRAMES * SEALED));
    await until(() => reading.soFar().length === FRAMES * FRAME);
    stream.end();
    const outcome = await reading;
    expect(summary(outcome)).toEqual({ code: 'MALFORMED', length: FRAMES * FRAME, hasEnded: false });
    expect(outcome.data.equals(data.subarray(0, FRAMES * FRAME))).toBe(true);
    expect(outcome.error!.message).toMatch(/cut short/);
  });

  it('that is cut anywhere gives only what is whole, and MALFORMED', async () => {
    const cuts = [0, 1, 40, header - 1, header, header + 3, header + 4, header + SEALED - 1, header + SEALED + 20];
    for (const at of [...cuts, message.length - 6, message.length - 1]) {
      const outcome = await through(dekd.decryptStream(KEY), cut(message.subarray(0, at), 777));
      expect([at, outcome.code, outcome.hasEnded]).toEqual([at, 'MALFORMED', false]);
      expect(outcome.data.equals(data.subarray(0, outcome.data.length))).toBe(true);
      expect(outcome.data.length % FRAME).toBe(0);
      expect(outcome.data.length).toBeLessThanOrEqual(Math.max(0, Math.floor((at - header) / SEALED)) * FRAME);
    }
  });

  it('with one bit changed in the middle gives the frames before that, then DECRYPTION_FAILED', async () => {
    const changed = flipped(message, header + 4 * SEALED + 500);
    const stream = dekd.decryptStream(KEY);
    const reading = outcomeOf(stream);
    stream.write(changed.subarray(0, header + 4 * SEALED));
    await until(() => reading.soFar().length === 4 * FRAME);
    stream.end(changed.subarray(header + 4 * SEALED));
    const outcome = await reading;
    expect(summary(outcome)).toEqual({ code: 'DECRYPTION_FAILED', length: 4 * FRAME, hasEnded: false });
    expect(outcome.data.equals(data.subarray(0, 4 * FRAME))).toBe(true);
  });

  it('with one bit changed anywhere fails, and gives nothing of that frame or behind it', async () => {
    for (let at = 0; at < message.length; at += at < header + 50 ? 7 : 311) {
      const outcome = await through(dekd.decryptStream(KEY), cut(flipped(message, at), 5_000));
      const frame = Math.max(0, Math.floor((at - header) / SEALED));
      expect([at, outcome.hasEnded, outcome.error instanceof DekdError]).toEqual([at, false, true]);
      expect(outcome.data.length).toBeLessThanOrEqual(frame * FRAME);
      expect(outcome.data.equals(data.subarray(0, outcome.data.length))).toBe(true);
    }
  });

  it('with its frames in another order fails', async () => {
    const frame = (i: number) => message.subarray(header + i * SEALED, header + (i + 1) * SEALED);
    const swapped = Buffer.concat([message.subarray(0, header), frame(1), frame(0)]);
    expect(summary(await through(dekd.decryptStream(KEY), [swapped]))).toEqual({
      code: 'DECRYPTION_FAILED',
      length: 0,
      hasEnded: false,
    });
  });

  it.each(['with the end', 'behind it', 'another message'])(
    'with something %s is MALFORMED, and no end',
    async (how) => {
      const rest = how === 'another message' ? message : Buffer.from('x');
      const chunks = how === 'with the end' ? [Buffer.concat([message, rest])] : [message, rest];
      const outcome = await through(dekd.decryptStream(KEY), chunks);
      expect([outcome.code, outcome.hasEnded]).toEqual(['MALFORMED', false]);
      expect(outcome.data.equals(data.subarray(0, outcome.data.length))).toBe(true);
      expect(outcome.error!.message).toMatch(/follow the end of the message/);
    },
  );
});

describe('a token and a message', () => {
  it('are told apart: a token is no stream', async () => {
    const token = await dekd.encrypt(Buffer.from('x'), KEY);
    const text = await dekd.encryptText('x', KEY);
    for (const bytes of [token, Buffer.from(text)]) {
      const outcome = await through(dekd.decryptStream(KEY), [Buffer.from(bytes)]);
      expect(summary(outcome)).toEqual({ code: 'MALFORMED', length: 0, hasEnded: false });
      expect(outcome.error!.message).toMatch(/token/);
    }
  });

  it('are told apart: a message is no token', async () => {
    const message = await seal(Buffer.from('x'));
    const error = await dekd.decrypt(message, KEY).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'MALFORMED' });
    expect((error as DekdError).message).toMatch(/message/);
  });

  it('have keys of their own: neither opens with the key of the other', async () => {
    const message = await seal(Buffer.from('x'));
    const token = await dekd.encrypt(Buffer.from('x'), KEY);
    const kid = Buffer.from(Buffer.from(headerOf(message).dataKeys[0]!.providerInfo.subarray(0, 32)).toString(), 'hex');
    const forged = Buffer.from(token);
    kid.copy(forged, 2);
    await expect(dekd.decrypt(forged, KEY)).rejects.toMatchObject({ code: 'DECRYPTION_FAILED' });
  });
});

describe('a stream that is given up', () => {
  it.each(['destroy()', 'destroy() with an error', 'an AbortSignal'])('by %s is closed at the agent', async (how) => {
    await seal(Buffer.from('x'));
    const before = await keySlots(agent);
    for (let round = 0; round < 3; round++) {
      const abort = new AbortController();
      const reason = new Error('enough');
      const streams = Array.from({ length: MAX_OF_CONNECTION }, () =>
        dekd.encryptStream({ ...KEY, signal: abort.signal }),
      );
      const outcomes = streams.map((stream) => outcomeOf(stream));
      await Promise.all(streams.map((stream) => written(stream, randomBytes(100))));
      expect(await keySlots(agent)).toBe(before + MAX_OF_CONNECTION);
      for (const stream of streams) {
        if (how !== 'an AbortSignal') {
          stream.destroy(how === 'destroy()' ? undefined : reason);
        }
      }
      abort.abort(reason);
      for (const { error, hasEnded } of await Promise.all(outcomes)) {
        expect([error, hasEnded]).toEqual([how === 'destroy()' ? undefined : reason, false]);
      }
      await dekd.ping();
    }
    expect(await keySlots(agent)).toBe(before);
  });

  it('before it was opened never reaches the agent', async () => {
    const fake = await startFakeAgent({
      onRequest: ({ id }, connection) => connection.reply({ id, document: JSON_NOTHING }),
    });
    onTestFinished(() => fake.stop());
    const client = connect({ socket: fake.path });
    const stream = client.encryptStream(KEY);
    stream.destroy();
    const aborted = client.encryptStream({ ...KEY, signal: AbortSignal.timeout(1) });
    const outcome = outcomeOf(aborted);
    await sleep(0);
    aborted.destroy();
    await outcome;
    await client.ping();
    expect(fake.requests.filter(({ encryptStream }) => encryptStream)).toHaveLength(0);
    await client.close();
  });

  it('by a signal that has fired already is never made', () => {
    const reason = new Error('too late');
    expect(() => dekd.encryptStream({ ...KEY, signal: AbortSignal.abort(reason) })).toThrow(reason);
  });

  it('while its data key is found leaves no key behind', async () => {
    const message = await seal(randomBytes(2_000), { ...KEY, frameLength: 1_000 });
    const raw = await greeted(agent);
    const before = await keySlots(agent);
    for (let id = 1; id <= 20; id++) {
      await openRaw(raw, { id, decryptStream: { ...KEY, credit: INPUT_WINDOW } });
      // In one chunk, so that nothing of the work has happened when it is cancelled.
      raw.write(
        Buffer.concat([requestFrame({ id, streamPart: { data: message } }), requestFrame({ id: 0, cancel: { id } })]),
      );
      expect(errorCodeOf((await raw.reply(id)).error!.code)).toBe('CANCELLED');
    }
    await raw.ask({ id: 1_000, ping: {} });
    expect(await keySlots(agent)).toBe(before);
  });

  it('makes place for another at once', async () => {
    const raw = await greeted(agent);
    for (let id = 1; id <= MAX_OF_CONNECTION; id++) {
      await openRaw(raw, { id, encryptStream: { ...KEY, credit: INPUT_WINDOW } });
    }
    raw.write(requestFrame({ id: 0, cancel: { id: 1 } }));
    expect(errorCodeOf((await raw.reply(1)).error!.code)).toBe('CANCELLED');
    await openRaw(raw, { id: 100, encryptStream: { ...KEY, credit: INPUT_WINDOW } });
  });

  it('while its key is awaited counts until that has ended', async () => {
    let handled = 0;
    const maxInFlight = 4;
    const raw = await connectionAlone(maxInFlight, (connection, request) => {
      handled++;
      request.readOpenStream();
      return connection.stream(request.outline(), new Promise(() => {}));
    });
    for (let id = 1; id <= 20; id++) {
      raw.write(requestFrame({ id, encryptStream: KEY }));
      await sleep(2);
      raw.write(requestFrame({ id: 0, cancel: { id } }));
      await sleep(2);
    }
    expect(handled).toBeLessThanOrEqual(maxInFlight + 2);
  });
});

describe('who waits for whom', () => {
  it('a reader that does not read stops the writer, and does not run into the deadline', async () => {
    const length = 32 << 20;
    const source = new Counted(length);
    const stream = dekd.encryptStream({ ...KEY, timeoutMs: 200 });
    const sending = new Promise<unknown>((resolve) => pipeline(Readable.from(source.pieces()), stream, resolve));
    await source.standsStill();
    const asked = source.given;
    expect(asked).toBeGreaterThanOrEqual(2 * INPUT_WINDOW);
    expect(asked).toBeLessThanOrEqual(4 * INPUT_WINDOW);
    await sleep(600);
    expect([source.given, stream.destroyed]).toEqual([asked, false]);
    const outcome = await outcomeOf(stream);
    expect([outcome.hasEnded, outcome.error, await sending]).toEqual([true, undefined, undefined]);
    expect(outcome.data.length).toBeGreaterThan(length);
  });

  it('a reader that does not read a plaintext stops the writer too', async () => {
    const message = await seal(randomBytes(8 << 20));
    const source = new Counted(message.length, message);
    const stream = dekd.decryptStream({ ...KEY, timeoutMs: 200 });
    pipeline(Readable.from(source.pieces()), stream, () => {});
    await source.standsStill();
    expect(source.given).toBeLessThanOrEqual(4 * INPUT_WINDOW);
    await sleep(400);
    expect(stream.destroyed).toBe(false);
    const outcome = await outcomeOf(stream);
    expect([outcome.hasEnded, outcome.data.length]).toEqual([true, 8 << 20]);
  });

  it('readers that do not read hold nobody up: calls and other streams of the connection go on', async () => {
    const idle = Array.from({ length: 8 }, () => {
      const stream = dekd.encryptStream(KEY);
      pipeline(Readable.from(new Counted(2 << 20).pieces()), stream, () => {});
      return stream;
    });
    await sleep(50);
    const data = randomBytes(3 << 20);
    const sealed = await seal(data);
    expect((await through(dekd.decryptStream(KEY), [sealed])).data.equals(data)).toBe(true);
    await Promise.all(idle.map((stream) => outcomeOf(stream).then(({ code }) => expect(code).toBe('ok'))));
  });

  it('a writer that is slow does not run into the deadline', async () => {
    const stream = dekd.encryptStream({ ...KEY, timeoutMs: 100 });
    const outcome = outcomeOf(stream);
    for (let i = 0; i < 3; i++) {
      await written(stream, Buffer.from('x'));
      await sleep(250);
    }
    stream.end();
    expect(await outcome).toMatchObject({ hasEnded: true, error: undefined });
  });

  it('a reader that is slow does not run into the deadline', async () => {
    const message = await seal(randomBytes(1 << 20));
    const stream = dekd.decryptStream({ ...KEY, timeoutMs: 100 });
    pipeline(Readable.from([message]), stream, () => {});
    let length = 0;
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      length += chunk.length;
      await sleep(30);
    }
    expect(length).toBe(1 << 20);
  });

  it('an agent that is silent is given timeoutMs, before its first word and after the last of the client', async () => {
    const silent = await fake(() => {});
    const kind = await fake(({ id, encryptStream }, connection) => {
      if (encryptStream) {
        connection.reply({ id, stream: { credit: 1_000 } });
      }
    });
    const cases = [
      [silent, []],
      [kind, []],
      [kind, [Buffer.alloc(1_000)]],
      [kind, [Buffer.alloc(1_001)]],
    ] as const;
    await Promise.all(
      cases.map(async ([client, chunks], i) => {
        const begun = performance.now();
        const outcome = await through(client.encryptStream({ ...KEY, timeoutMs: 200 }), chunks);
        expect([i, summary(outcome)]).toEqual([i, { code: 'DEADLINE_EXCEEDED', length: 0, hasEnded: false }]);
        expect(performance.now() - begun).toBeGreaterThanOrEqual(190);
        expect(performance.now() - begun).toBeLessThan(1_500);
      }),
    );
  });

  it('an agent that is silent after two windows of data is given timeoutMs too', async () => {
    let left = 2 * INPUT_WINDOW;
    const client = await fake(({ id, encryptStream, streamPart }, connection) => {
      let room = Math.min(left, encryptStream?.credit ?? streamPart?.credit ?? 0);
      for (left -= room; room > 0; room -= 64 * KIB) {
        connection.reply({ id, stream: { data: Buffer.alloc(Math.min(room, 64 * KIB)) } });
      }
    });
    const stream = client.encryptStream({ ...KEY, timeoutMs: 200 });
    onTestFinished(() => void stream.destroy());
    const outcome = await Promise.race([through(stream, []), sleep(2_000)]);
    expect(outcome?.code).toBe('DEADLINE_EXCEEDED');
    expect(outcome?.data).toHaveLength(2 * INPUT_WINDOW);
  });

  it('an agent that ends a stream which goes on has not ended it well', async () => {
    const client = await fake(({ id, decryptStream }, connection) => {
      if (decryptStream) {
        connection.reply({ id, stream: { credit: 1_000, end: true, data: Buffer.from('x') } });
      }
    });
    const stream = client.decryptStream(KEY);
    const outcome = outcomeOf(stream);
    stream.write(new Uint8Array(1));
    expect(summary(await outcome)).toEqual({ code: 'PROTOCOL_ERROR', length: 0, hasEnded: false });
  });

  it('an agent that falls silent after a long pause of the writer is given timeoutMs', async () => {
    const client = await fake(({ id, encryptStream }, connection) => {
      if (encryptStream) {
        connection.reply({ id, stream: { credit: 1_000 } });
      }
    });
    const stream = client.encryptStream({ ...KEY, timeoutMs: 100 });
    onTestFinished(() => void stream.destroy());
    const outcome = outcomeOf(stream);
    await sleep(300);
    expect(stream.destroyed).toBe(false);
    stream.end(Buffer.alloc(10));
    expect((await Promise.race([outcome, sleep(1_000)]))?.code).toBe('DEADLINE_EXCEEDED');
  });

  it('a large piece leaves in parts of at most 256 KiB, and never more than the agent allows', async () => {
    const data = randomBytes(2_000_000);
    const parts: Buffer[] = [];
    let allowed = 0;
    const client = await fake(({ id, streamPart: part }, connection) => {
      parts.push(Buffer.from(part?.data ?? []));
      if (Buffer.concat(parts).length === allowed && part?.end !== true) {
        allowed += 400_000;
        connection.reply({ id, stream: { credit: 400_000 } });
      } else if (part?.end === true) {
        connection.reply({ id, stream: { end: true } });
      }
      expect(Buffer.concat(parts).length).toBeLessThanOrEqual(allowed);
    });
    expect((await through(client.encryptStream(KEY), [data])).code).toBe('ok');
    expect(Buffer.concat(parts).equals(data)).toBe(true);
    expect(Math.max(...parts.map(({ length }) => length))).toBe(256 * KIB);
  });

  it.each([
    ['short', 1_000, 512 * KIB],
    ['long', 1_024 * KIB, 2 * 1_024 * KIB],
  ])('a reader has room for a window, and for two frames where those are %s', async (_, frameLength, room) => {
    const client = await fake(({ id, encryptStream }, connection) => {
      if (encryptStream) {
        expect(encryptStream.credit).toBe(room);
        connection.reply({ id, stream: { end: true } });
      }
    });
    expect((await through(client.encryptStream({ ...KEY, frameLength }), [])).code).toBe('ok');
  });

  it('an agent that stops reading is given timeoutMs, also when the client may send more', async () => {
    const client = await fake(({ id, encryptStream }, connection) => {
      if (encryptStream) {
        connection.reply({ id, stream: { credit: 64 << 20 } });
        connection.socket.pause();
      }
    });
    const stream = client.encryptStream({ ...KEY, timeoutMs: 200 });
    onTestFinished(() => void stream.destroy());
    const outcome = through(stream, cut(Buffer.alloc(4 << 20), 64 * KIB));
    expect((await Promise.race([outcome, sleep(2_000)]))?.code).toBe('DEADLINE_EXCEEDED');
  });

  it('an agent that says something now and then is waited for', async () => {
    const client = await fake(async ({ id, encryptStream }, connection) => {
      if (encryptStream) {
        for (let i = 0; i < 6; i++) {
          await sleep(80);
          connection.reply({ id, stream: { data: Buffer.from('x') } });
        }
        connection.reply({ id, stream: { end: true } });
      }
    });
    const outcome = await through(client.encryptStream({ ...KEY, timeoutMs: 200 }), []);
    expect(summary(outcome)).toEqual({ code: 'ok', length: 6, hasEnded: true });
  });

  it('an agent that is not there is waited for as long', async () => {
    const client = connect({ socket: join(temporaryFolder(), 'agent.sock') });
    const begun = performance.now();
    const outcome = await through(client.encryptStream({ ...KEY, timeoutMs: 200 }), [Buffer.from('x')]);
    expect([outcome.code, performance.now() - begun >= 190]).toEqual(['AGENT_UNAVAILABLE', true]);
    await client.close();
  });

  it('close() destroys the streams that are open, and does not wait for them', async () => {
    const client = connect({ socket: agent.socket });
    const stream = client.encryptStream(KEY);
    const outcome = outcomeOf(stream);
    await written(stream, Buffer.from('x'));
    await client.close();
    expect(await outcome).toMatchObject({ hasEnded: false, error: { code: 'AGENT_UNAVAILABLE' } });
  });

  it('a stream of a client that is closed rejects its pipeline with AGENT_UNAVAILABLE', async () => {
    const client = connect({ socket: agent.socket });
    await client.close();
    const uncaught: unknown[] = [];
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException').on('uncaughtException', (error) => void uncaught.push(error));
    const outcome = awaitedPipeline(Readable.from([Buffer.from('x')]), client.encryptStream(KEY), new PassThrough());
    const reason = await outcome.catch((error: unknown) => error);
    await sleep(10);
    process.removeAllListeners('uncaughtException');
    for (const listener of listeners) {
      process.on('uncaughtException', listener);
    }
    expect(uncaught).toEqual([]);
    expect(reason).toMatchObject({ code: 'AGENT_UNAVAILABLE' });
  });
});

describe('many streams at once', () => {
  it('are at most 32 of a connection; one more is told so and disturbs nobody', async () => {
    const client = connect({ socket: agent.socket });
    const streams = Array.from({ length: MAX_OF_CONNECTION }, () => client.encryptStream(KEY));
    const outcomes = streams.map((stream) => outcomeOf(stream));
    await Promise.all(streams.map((stream) => written(stream, Buffer.from('begin, '))));
    const extra = await through(client.encryptStream(KEY), [Buffer.from('x')]);
    expect([extra.code, extra.error?.retryable, extra.data.length]).toEqual(['RESOURCE_EXHAUSTED', true, 0]);
    for (const stream of streams) {
      stream.end(Buffer.from('end'));
    }
    for (const { data } of await Promise.all(outcomes)) {
      expect((await through(client.decryptStream(KEY), [data])).data.toString()).toBe('begin, end');
    }
    await client.close();
  });

  it('are at most 128 of an agent', async () => {
    const clients = await Promise.all(Array.from({ length: MAX_OF_AGENT / MAX_OF_CONNECTION }, () => greeted(agent)));
    for (const client of clients) {
      for (let id = 1; id <= MAX_OF_CONNECTION; id++) {
        await openRaw(client, { id, encryptStream: KEY });
      }
    }
    expect((await through(dekd.encryptStream(KEY), [])).code).toBe('RESOURCE_EXHAUSTED');
    clients[0]!.destroy();
    await until(async () => (await through(dekd.encryptStream(KEY), [])).code === 'ok');
  });

  it('come back whole, 32 of them, beside small calls that keep being answered', async () => {
    const datas = Array.from({ length: MAX_OF_CONNECTION }, (_, i) => randomBytes((1 << 19) + i));
    let isOver = false;
    const waits: number[] = [];
    const calls = (async () => {
      while (!isOver) {
        const begun = performance.now();
        const token = await dekd.encrypt(Buffer.from('small'), KEY);
        expect(Buffer.from(await dekd.decrypt(token, KEY)).toString()).toBe('small');
        waits.push(performance.now() - begun);
      }
    })();
    const sealed = await Promise.all(datas.map((data, i) => through(dekd.encryptStream(KEY), cut(data, 10_007 + i))));
    const opened = await Promise.all(sealed.map(({ data }) => through(dekd.decryptStream(KEY), cut(data, 33_333))));
    isOver = true;
    await calls;
    expect(opened.map(({ data }, i) => data.equals(datas[i]!))).toEqual(datas.map(() => true));
    expect(waits.length).toBeGreaterThan(10);
    expect(Math.max(...waits)).toBeLessThan(2_000);
  });

  it('go on when they are all that a connection may have in flight', async () => {
    const small = await startTestAgent({ limits: { maxInFlight: 2, drain: 100 } });
    onTestFinished(() => small.stop());
    const client = connect({ socket: small.socket, timeoutMs: 1_500 });
    const data = randomBytes(1 << 20);
    const streams = [1, 2].map(() => client.encryptStream(KEY));
    onTestFinished(() => void streams.map((stream) => stream.destroy()));
    const outcomes = Promise.all(streams.map((stream) => through(stream, cut(data, 64 * KIB))));
    expect((await Promise.race([outcomes, sleep(2_000, [])])).map(({ code }) => code)).toEqual(['ok', 'ok']);
  });
});

describe('an agent that ends', () => {
  it('by SIGKILL destroys the stream with AGENT_UNAVAILABLE, and other calls are made to the next one', async () => {
    const folder = temporaryFolder();
    const config = writeRunConfig(folder);
    const socket = join(folder, 's', 'agent.sock');
    let child = await spawnTestAgent(socket, ['run', '--config', config]);
    onTestFinished(() => void child.child.kill('SIGKILL'));
    const client = connect({ socket });
    const message = await seal(randomBytes(3 << 20), KEY, client);
    const streams = [client.encryptStream(KEY), client.decryptStream(KEY)];
    const outcomes = streams.map((stream) => outcomeOf(stream));
    await Promise.all(streams.map((stream) => written(stream, message.subarray(0, 1 << 20))));
    child.child.kill('SIGKILL');
    const token = client.encrypt(Buffer.from('x'), KEY);
    for (const outcome of await Promise.all(outcomes)) {
      expect([outcome.code, outcome.error?.retryable, outcome.hasEnded]).toEqual(['AGENT_UNAVAILABLE', true, false]);
    }
    await child.exited;
    child = await spawnTestAgent(socket, ['run', '--config', config]);
    expect(Buffer.from(await client.decrypt(await token, KEY)).toString()).toBe('x');
    expect((await through(client.decryptStream(KEY), [message])).data).toHaveLength(3 << 20);
    await client.close();
  });

  it('by SIGTERM lets a stream that goes on come to its end', async () => {
    const folder = temporaryFolder();
    const config = writeRunConfig(folder, 'limits: { drain: 10s }\n');
    const child = await spawnTestAgent(join(folder, 's', 'agent.sock'), ['run', '--config', config]);
    onTestFinished(() => void child.child.kill('SIGKILL'));
    const client = connect({ socket: child.socket });
    const stream = client.encryptStream(KEY);
    const outcome = outcomeOf(stream);
    await written(stream, randomBytes(1 << 20));
    child.child.kill('SIGTERM');
    for (let i = 0; i < 10; i++) {
      await sleep(40);
      await written(stream, randomBytes(100_000));
    }
    stream.end();
    const { data, ...ended } = await outcome;
    expect([ended.hasEnded, ended.error, data.length > 2_000_000]).toEqual([true, undefined, true]);
    expect(await child.exited).toBe(0);
    await client.close();
  });

  it('cuts a stream that stalls when its time is over', async () => {
    const stopping = await startTestAgent({ limits: { drain: 300 } });
    const client = connect({ socket: stopping.socket });
    const stream = client.encryptStream(KEY);
    const outcome = outcomeOf(stream);
    await written(stream, randomBytes(100_000));
    const begun = performance.now();
    await stopping.stop();
    const took = performance.now() - begun;
    expect(took).toBeGreaterThanOrEqual(290);
    expect(took).toBeLessThan(2_000);
    expect(await outcome).toMatchObject({ code: 'AGENT_UNAVAILABLE', hasEnded: false });
    await client.close();
  });
});

describe('a client of its own make', () => {
  it('gets a window of credit, and exactly the bytes that it has room for', async () => {
    const raw = await greeted(agent);
    await openRaw(raw, { id: 1, encryptStream: { ...KEY, credit: 10 } });
    raw.send({ id: 1, streamPart: { data: Buffer.from('x'), end: true } });
    const parts = [(await streamPart(raw, 1)).data];
    for (const credit of [1, 20]) {
      raw.send({ id: 1, streamPart: { credit } });
      parts.push((await streamPart(raw, 1)).data);
    }
    expect(parts.map(({ length }) => length)).toEqual([10, 1, 20]);
    expect(raw.replies).toEqual([]);
    raw.send({ id: 1, streamPart: { credit: 65_536 } });
    parts.push(await restOf(raw, 1));
    expect((await through(dekd.decryptStream(KEY), parts)).data.toString()).toBe('x');
  });

  it('that reads nothing is read from all the same, as far as its room goes', async () => {
    const raw = await greeted(agent);
    await openRaw(raw, { id: 1, encryptStream: { ...KEY, credit: 1 << 20 } });
    raw.socket.pause();
    // More than the kernel holds, both ways.
    for (let part = 0; part < 4; part++) {
      const frame = requestFrame({ id: 1, streamPart: { data: Buffer.alloc(1 << 18) } });
      await new Promise<void>((resolve) => raw.socket.write(frame, () => resolve()));
    }
    raw.destroy();
  });

  it('may send its whole window in one part, and room without end', async () => {
    const raw = await greeted(agent);
    await openRaw(raw, { id: 1, encryptStream: { ...KEY, credit: 0xffffffff } });
    raw.send({ id: 1, streamPart: { credit: 0xffffffff } });
    raw.send({ id: 1, streamPart: { data: randomBytes(INPUT_WINDOW) } });
    let length = 0;
    for (let credit = 0; credit === 0; ) {
      const part = await streamPart(raw, 1);
      length += part.data.length;
      credit = part.credit;
    }
    expect(length).toBeGreaterThan(INPUT_WINDOW - 64 * KIB);
  });

  it.each<[string, RequestFields[], RegExp]>([
    [
      'sends more than its credit in one part',
      [{ streamPart: { data: Buffer.alloc(INPUT_WINDOW + 1) } }],
      new RegExp(`stream 1 sent ${INPUT_WINDOW + 1} bytes and may send ${INPUT_WINDOW}`),
    ],
    [
      'sends more than its credit in several',
      Array.from({ length: INPUT_WINDOW / (64 * KIB) + 1 }, () => ({ streamPart: { data: Buffer.alloc(64 * KIB) } })),
      /stream 1 sent 65536 bytes and may send 0/,
    ],
    [
      'goes on after its end',
      [{ streamPart: { end: true } }, { streamPart: { data: Buffer.from('x') } }],
      /goes on after its end/,
    ],
    ['ends twice', [{ streamPart: { end: true } }, { streamPart: { end: true } }], /goes on after its end/],
    ['opens another under the same id', [{ encryptStream: KEY }], /id 1 is already in flight/],
    ['asks for something else under the same id', [{ ping: {} }], /id 1 is already in flight/],
  ])('that %s is told PROTOCOL_ERROR and closed', async (_what, requests, message) => {
    const raw = await greeted(agent);
    // Without room, so that the stream is there until the connection ends.
    await openRaw(raw, { id: 1, encryptStream: KEY });
    raw.write(Buffer.concat(requests.map((fields) => requestFrame({ id: 1, ...fields }))));
    const { error } = await raw.reply(0);
    expect([errorCodeOf(error!.code), error!.message]).toEqual(['PROTOCOL_ERROR', expect.stringMatching(message)]);
    await raw.closed;
  });

  it('that sends data before its credit is told PROTOCOL_ERROR and closed', async () => {
    const raw = await greeted(agent);
    raw.write(
      Buffer.concat([
        requestFrame({ id: 1, encryptStream: KEY }),
        requestFrame({ id: 1, streamPart: { data: Buffer.from('x') } }),
      ]),
    );
    expect(errorCodeOf((await raw.reply(0)).error!.code)).toBe('PROTOCOL_ERROR');
    await raw.closed;
  });

  it('may send parts of streams that are over or never were: nobody hears them', async () => {
    const raw = await greeted(agent);
    await openRaw(raw, { id: 1, encryptStream: { ...KEY, credit: 10_000 } });
    raw.send({ id: 1, streamPart: { end: true } });
    expect((await streamPart(raw, 1)).end).toBe(true);
    for (const id of [1, 99]) {
      raw.send({ id, streamPart: { data: Buffer.from('x'), end: true, credit: 5 } });
    }
    expect((await raw.ask({ id: 2, ping: {} })).document).toBeTruthy();
    expect(raw.replies).toEqual([]);
    await openRaw(raw, { id: 1, encryptStream: KEY });
  });

  it.each<[string, RequestFields, RegExp]>([
    ['a context that is not canonical', { encryptStream: { ...KEY, context: Buffer.from('x') } }, /context/],
    ['frames over the limit', { encryptStream: { ...KEY, frameLength: 1024 * KIB + 1 } }, /1048577 .* 1048576/],
    ['no key', { encryptStream: {} }, /key/],
  ])('that asks for %s is told INVALID_ARGUMENT or less, and goes on', async (_what, fields, message) => {
    const raw = await greeted(agent);
    const { error } = await raw.ask({ id: 1, ...fields });
    expect(['INVALID_ARGUMENT', 'PERMISSION_DENIED']).toContain(errorCodeOf(error!.code));
    expect(error!.message).toMatch(message);
    expect((await raw.ask({ id: 1, ping: {} })).document).toBeTruthy();
  });

  it('whose opening cannot be read is closed, as it is for a value that cannot be read', async () => {
    const requests = { encrypt: 8, encryptStream: 14, decryptStream: 15 };
    const told: unknown[] = [];
    for (const field of Object.values(requests)) {
      const raw = await greeted(agent);
      // A key that is not UTF-8.
      raw.write(frameOf(Buffer.from([0x08, 5, (field << 3) | 2, 3, 0x0a, 1, 0xff])));
      await raw.count(1);
      const [{ id, error }] = raw.replies as [RawReply];
      told.push([id, errorCodeOf(error!.code), await Promise.race([raw.closed.then(() => 'closed'), sleep(300)])]);
    }
    expect(told).toEqual(Object.keys(requests).map(() => [0, 'PROTOCOL_ERROR', 'closed']));
  });

  it('gets no stream on the admin socket, and parts are nothing there', async () => {
    const raw = await RawClient.greeted(agent.admin);
    onTestFinished(() => raw.destroy());
    for (const fields of [{ encryptStream: KEY }, { decryptStream: KEY }]) {
      expect(errorCodeOf((await raw.ask(fields)).error!.code)).toBe('UNSUPPORTED');
    }
    raw.send({ id: 50, streamPart: { data: Buffer.from('x') } });
    expect((await raw.ask({ id: 51, ping: {} })).document).toBeTruthy();
  });

  it('that half-closes in the middle of a stream is told CANCELLED, and leaves no key behind', async () => {
    await seal(Buffer.from('x'));
    const before = await keySlots(agent);
    const raw = await greeted(agent, true);
    await openRaw(raw, { id: 1, encryptStream: { ...KEY, credit: 10_000 } });
    raw.socket.end(requestFrame({ id: 1, streamPart: { data: Buffer.from('x') } }));
    await raw.closed;
    expect(errorCodeOf(raw.replies.at(-1)!.error!.code)).toBe('CANCELLED');
    expect(await keySlots(agent)).toBe(before);
  });

  it('that half-closes after the end of its stream gets the rest of it', async () => {
    const raw = await greeted(agent, true);
    await openRaw(raw, { id: 1, encryptStream: { ...KEY, credit: 10_000 } });
    raw.socket.end(requestFrame({ id: 1, streamPart: { data: Buffer.from('x'), end: true } }));
    expect((await through(dekd.decryptStream(KEY), [await restOf(raw, 1)])).data.toString()).toBe('x');
  });

  it('that half-closes after the end of its stream gets all of it, also when its key has to be made', async () => {
    const raw = await connectionAlone(4, (connection, request) => {
      request.readOpenStream();
      return connection.stream(request.outline(), sleep(50, NO_WORK));
    });
    const requests = [{ encryptStream: { ...KEY, credit: 10_000 } }, { streamPart: { end: true } }];
    raw.socket.end(Buffer.concat(requests.map((fields) => requestFrame({ id: 1, ...fields }))));
    expect((await restOf(raw, 1)).toString()).toBe('the end');
  });

  it.each(['', ' with answers unread'])(
    'that is gone%s in the middle of its streams leaves no key behind',
    async (how) => {
      const message = await seal(randomBytes(3_000), { ...KEY, frameLength: 1_000 });
      await dekd.encrypt(Buffer.from('x'), KEY);
      const before = await keySlots(agent);
      const raw = await greeted(agent);
      for (let id = 1; id <= 10; id++) {
        await openRaw(raw, id % 2 ? { id, encryptStream: KEY } : { id, decryptStream: KEY });
        raw.send({ id, streamPart: { data: message.subarray(0, 2_000) } });
      }
      await raw.ask({ id: 100, ping: {} });
      expect(await keySlots(agent)).toBeGreaterThan(before);
      if (how !== '') {
        // Then the agent is told of a reset, and of no end.
        raw.socket.pause();
        raw.send({ id: 101, encrypt: { ...KEY, data: Buffer.alloc(1 << 20) } });
        await sleep(20);
      }
      raw.destroy();
      await until(async () => (await keySlots(agent)) === before);
    },
  );
});

const JSON_NOTHING = Buffer.from('{}');

/** Makes something only at its end. */
const NO_WORK: MessageWork = {
  isReady: true,
  step: Number.POSITIVE_INFINITY,
  take: () => new Uint8Array(0),
  end: () => new Uint8Array(Buffer.from('the end')),
  close() {},
};

interface Outcome {
  readonly data: Buffer;
  readonly hasEnded: boolean;
  readonly error: DekdError | undefined;
  /** Of the error; `ok` without one. */
  readonly code: string;
}

/** Reads a stream to its end, whichever that is. `soFar` is what has been read. */
function outcomeOf(stream: MessageDuplex): Promise<Outcome> & { soFar(): Buffer } {
  const chunks: Buffer[] = [];
  let hasEnded = false;
  let error: DekdError | undefined;
  stream.on('error', (reason: DekdError) => {
    error = reason;
  });
  stream.once('end', () => {
    hasEnded = true;
  });
  stream.on('data', (chunk: Buffer) => void chunks.push(chunk));
  const outcome = new Promise<Outcome>((resolve) => {
    stream.once('close', () => resolve({ data: Buffer.concat(chunks), hasEnded, error, code: error?.code ?? 'ok' }));
  });
  return Object.assign(outcome, { soFar: () => Buffer.concat(chunks) });
}

/** Writes the pieces, as fast as the stream takes them, and reads what comes. */
function through(stream: MessageDuplex, pieces: Iterable<Uint8Array>): Promise<Outcome> {
  const outcome = outcomeOf(stream);
  pipeline(Readable.from(pieces), stream, () => {});
  return outcome;
}

function summary({ code, data, hasEnded }: Outcome): { code: string; length: number; hasEnded: boolean } {
  return { code, length: data.length, hasEnded };
}

async function seal(data: Buffer, options: EncryptStreamOptions = KEY, client = dekd): Promise<Buffer> {
  const { data: message, error } = await through(client.encryptStream(options), [data]);
  expect(error).toBeUndefined();
  return message;
}

function written(stream: MessageDuplex, chunk: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(chunk, (error) => (error ? reject(error) : resolve()));
  });
}

function* cut(data: Buffer, length: number): Generator<Buffer> {
  for (let at = 0; at < data.length; at += length) {
    yield data.subarray(at, at + length);
  }
}

/** Lengths of the pieces in which as many bytes are written, and those of the message. */
function piecesFor(length: number): readonly (readonly [number, number])[] {
  return length > 1 << 20
    ? [[99_991, 1 << 20]]
    : [
        [1 << 20, 4_099],
        [12_345, 1 << 20],
      ];
}

function headerOf(message: Uint8Array): MessageHeader {
  return readMessageHeader(message)!;
}

/** Gives bytes in pieces of 16 KiB and counts those it was asked for. */
class Counted {
  given = 0;
  readonly #length: number;
  readonly #bytes: Buffer | undefined;

  constructor(length: number, bytes?: Buffer) {
    this.#length = length;
    this.#bytes = bytes;
  }

  *pieces(): Generator<Buffer> {
    const piece = Buffer.alloc(16 * KIB);
    while (this.given < this.#length) {
      const from = this.given;
      this.given = Math.min(this.#length, from + piece.length);
      yield this.#bytes?.subarray(from, this.given) ?? piece;
    }
  }

  /** Waits until it has not been asked for anything over several turns. */
  async standsStill(): Promise<void> {
    let before = -1;
    for (let still = 0; still < 5; still = this.given === before ? still + 1 : 0) {
      before = this.given;
      await sleep(50);
    }
  }
}

interface StreamReply extends RawReply {
  readonly stream?: { readonly credit: number; readonly end: boolean; readonly data: Uint8Array };
}

async function greeted({ socket }: TestAgent, allowHalfOpen = false): Promise<RawClient> {
  const raw = await RawClient.greeted(socket, { allowHalfOpen });
  onTestFinished(() => raw.destroy());
  return raw;
}

async function streamPart(raw: RawClient, id: number): Promise<NonNullable<StreamReply['stream']>> {
  const { stream, error } = (await raw.reply(id)) as StreamReply;
  expect(error?.message ?? '').toBe('');
  return stream!;
}

/** What is still to come of a stream. */
async function restOf(raw: RawClient, id: number): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for (;;) {
    const { data, end } = await streamPart(raw, id);
    pieces.push(data);
    if (end) {
      return Buffer.concat(pieces);
    }
  }
}

/** Opens a stream and waits for its first credit. */
async function openRaw(raw: RawClient, fields: RequestFields & { id: number }): Promise<void> {
  raw.send(fields);
  expect(await streamPart(raw, fields.id)).toMatchObject({ credit: INPUT_WINDOW, end: false });
}

/** A client of an agent whose answers are the test's. */
async function fake(onRequest: FakeOptions['onRequest']): Promise<DekdClient> {
  const made = await startFakeAgent({ onRequest });
  const client = connect({ socket: made.path });
  onTestFinished(async () => {
    await client.close();
    await made.stop();
  });
  return client;
}

/** A connection without an agent around it. */
async function connectionAlone(
  maxInFlight: number,
  handle: ConstructorParameters<typeof Connection<string>>[2]['handle'],
): Promise<RawClient> {
  const path = join(temporaryFolder(), 'agent.sock');
  const host = {
    handle,
    failed: (error: DekdError) => error,
    itemFailed: (error: DekdError) => error,
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
  const limits = { maxFrame: 1 << 20, maxInFlight, headerTimeoutMs: 10_000 };
  const server = createServer({ allowHalfOpen: true }, (socket) => new Connection(socket, 'me', host, limits));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const raw = await RawClient.greeted(path, { allowHalfOpen: true });
  onTestFinished(() => {
    raw.destroy();
    server.close();
  });
  return raw;
}
