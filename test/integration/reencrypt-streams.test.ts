/** Messages that become new messages inside the agent. */
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { connect } from '../../src/client/index.ts';
import type { DekdClient, MessageDuplex } from '../../src/client/types.ts';
import { type MessageHeader, messageContext, readMessageHeader } from '../../src/envelope/message-header.ts';
import type { DekdError } from '../../src/errors.ts';
import type { AdminFields } from '../../src/protocol/messages.ts';
import { runYaml, startTestAgent, type TestAgent, writeRunConfig } from '../support/agent.ts';
import { RawClient } from '../support/raw-client.ts';
import { makeFolder, removeFolder, temporaryFolder } from '../support/temporary-folder.ts';

const KEY = { key: 'files', context: { row: '1' } };
const KIB = 1024;

const RULES = `
keys:
  - { name: 'bound', keyContext: { use: files }, requiredContext: [row] }
policy:
  rules:
    - { name: makes, callers: { socket: data }, keys: ['files', 'bound'], operations: [encrypt, decrypt, reencrypt], create: { max: 10 } }
    - { name: moves, callers: { socket: data }, keys: 'moved', operations: [reencrypt] }
    - { name: uses, callers: { socket: data }, keys: 'used', operations: [encrypt, decrypt], create: { max: 10 } }
`;

let agent: TestAgent;
let dekd: DekdClient;

beforeEach(async () => {
  const folder = makeFolder();
  writeRunConfig(folder);
  const yaml = runYaml().replace(/policy:\n.*\n.*\n/, RULES);
  agent = await startTestAgent({ yaml, folder });
  dekd = connect({ socket: agent.socket });
});

afterEach(async () => {
  await dekd.close();
  expect(await slots(), 'slots of the key table that streams left taken').toBeLessThan(16);
  await agent.stop();
  removeFolder(agent.folder);
});

describe('a re-encrypted message', () => {
  it.each([0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 3_000_000])(
    'of %s bytes holds the same under the newest version, with frames as they were',
    async (length) => {
      const plaintext = randomBytes(length);
      const message = await through(dekd.encryptStream({ ...KEY, frameLength: 64 * KIB }), plaintext);
      await administer({ rotate: { name: 'files', purpose: 'message' } });
      const moved = await through(dekd.reencryptStream(KEY), message);
      const [before, after] = [headerOf(message), headerOf(moved)];
      expect(kidOf(after)).toBe(await newestKid());
      expect(kidOf(after)).not.toBe(kidOf(before));
      expect(after.frameLength).toBe(64 * KIB);
      expect(Buffer.from(after.messageId).equals(before.messageId)).toBe(false);
      expect(moved.length).toBe(message.length);
      expect((await through(dekd.decryptStream(KEY), moved)).equals(plaintext)).toBe(true);
    },
  );

  it('has a data key of its own, also under the version that the message had', async () => {
    const message = await through(dekd.encryptStream(KEY), randomBytes(100));
    const moved = await through(dekd.reencryptStream(KEY), message);
    expect(kidOf(headerOf(moved))).toBe(kidOf(headerOf(message)));
    expect(Buffer.from(headerOf(moved).commitment).equals(headerOf(message).commitment)).toBe(false);
  });

  it('comes back whatever its pieces and however short its frames', async () => {
    const plaintext = randomBytes(20_011);
    for (const frameLength of [1, 7, 4_096]) {
      const message = await through(dekd.encryptStream({ ...KEY, frameLength }), plaintext);
      for (const piece of [1_000, 300_000]) {
        const moved = await through(dekd.reencryptStream(KEY), message, piece);
        expect(headerOf(moved).frameLength).toBe(frameLength);
        expect((await through(dekd.decryptStream(KEY), moved)).equals(plaintext)).toBe(true);
      }
    }
  });

  it('stores the context of its key and is bound to that of its record', async () => {
    const bound = { key: 'bound', context: { row: '7' } };
    const message = await through(dekd.encryptStream(bound), Buffer.from('text'));
    const moved = await through(dekd.reencryptStream(bound), message);
    expect({ ...messageContext(headerOf(moved)) }).toEqual({ use: 'files' });
    expect((await through(dekd.decryptStream(bound), moved)).toString()).toBe('text');
    for (const context of [{ row: '8' }, {}]) {
      await expect(through(dekd.reencryptStream({ ...bound, context }), message)).rejects.toMatchObject({
        code: 'DECRYPTION_FAILED',
      });
    }
  });

  it('gives its header before a frame of it is there', async () => {
    const message = await through(dekd.encryptStream({ ...KEY, frameLength: 1_048_576 }), randomBytes(2_000_000));
    const stream = dekd.reencryptStream(KEY) as MessageDuplex & NodeJS.EventEmitter;
    stream.write(message.subarray(0, headerOf(message).length));
    const first = await new Promise<Uint8Array>((resolve) => stream.once('data', resolve));
    expect(headerOf(first).length).toBe(first.length);
    stream.on('error', () => {});
    stream.destroy();
  });
});

describe('a message that is not right', () => {
  it('ends in an error without a final frame, cut short at any place or changed in any', async () => {
    const plaintext = randomBytes(1_000);
    const message = await through(dekd.encryptStream({ ...KEY, frameLength: 100 }), plaintext);
    const { length } = headerOf(message);
    const wrong = [
      ...[1, length - 1, length, length + 1, length + 132, length + 133, message.length - 1].map((end) =>
        message.subarray(0, end),
      ),
      ...[3, length - 1, length + 20, length + 200, message.length - 1].map((at) => flipped(message, at)),
      Buffer.concat([message, Buffer.from('x')]),
      Buffer.concat([message.subarray(0, length), message.subarray(length + 132)]),
    ];
    for (const each of wrong) {
      const { output, code } = await outcome(dekd.reencryptStream(KEY), each);
      expect(['MALFORMED', 'DECRYPTION_FAILED', 'UNSUPPORTED_VERSION']).toContain(code);
      const opened = await outcome(dekd.decryptStream(KEY), output);
      expect(opened.code).toBe('MALFORMED');
      expect(plaintext.subarray(0, opened.output.length).equals(opened.output)).toBe(true);
    }
  });

  it('of another key is refused like one that does not open', async () => {
    const message = await through(dekd.encryptStream(KEY), Buffer.from('text'));
    const other = { key: 'bound', context: { row: '1' } };
    await through(dekd.encryptStream(other), Buffer.from('x'));
    await expect(through(dekd.reencryptStream(other), message)).rejects.toMatchObject({ code: 'DECRYPTION_FAILED' });
  });
});

describe('the right to re-encrypt', () => {
  it('is needed, and is enough', async () => {
    const used = { key: 'used' };
    const message = await through(dekd.encryptStream(used), Buffer.from('text'));
    await expect(through(dekd.reencryptStream(used), message)).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
    await administer({ create: { name: 'moved', purpose: 'message' } });
    // Of another key, so that it gets as far as the key it names.
    await expect(through(dekd.reencryptStream({ key: 'moved' }), message)).rejects.toMatchObject({
      code: 'DECRYPTION_FAILED',
    });
  });

  it('has who comes in by the admin socket, for messages and nothing else', async () => {
    const message = await through(dekd.encryptStream({ key: 'used' }), Buffer.from('text'));
    const operator = connect({ socket: agent.admin });
    onTestFinished(() => operator.close());
    const moved = await through(operator.reencryptStream({ key: 'used' }), message);
    expect((await through(dekd.decryptStream({ key: 'used' }), moved)).toString()).toBe('text');
    await expect(through(operator.decryptStream({ key: 'used' }), message)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
    });
  });
});

describe('reencryptFile', () => {
  it('replaces a file by its re-encrypted self, or leaves it as it is', async () => {
    const at = (name: string) => join(folder, name);
    const folder = temporaryFolder();
    const plaintext = randomBytes(2_500_000);
    writeFileSync(at('in'), plaintext);
    await dekd.encryptFile(at('in'), at('in.dk'), KEY);
    const before = readFileSync(at('in.dk'));
    await administer({ rotate: { name: 'files', purpose: 'message' } });
    await expect(dekd.reencryptFile(at('in.dk'), at('in.dk'), { key: 'files' })).rejects.toMatchObject({
      code: 'DECRYPTION_FAILED',
    });
    expect(readFileSync(at('in.dk')).equals(before)).toBe(true);
    await dekd.reencryptFile(at('in.dk'), at('in.dk'), KEY);
    expect(kidOf(headerOf(readFileSync(at('in.dk'))))).toBe(await newestKid());
    await dekd.decryptFile(at('in.dk'), at('out'), KEY);
    expect(readFileSync(at('out')).equals(plaintext)).toBe(true);
    expect(readdirSync(folder).sort()).toEqual(['in', 'in.dk', 'out']);
  });
});

async function through(stream: MessageDuplex, bytes: Buffer, piece?: number): Promise<Buffer> {
  const { output, error } = await outcome(stream, bytes, piece);
  if (error !== undefined) {
    throw error;
  }
  return output;
}

/** What came until it ended, well or not. */
async function outcome(
  stream: MessageDuplex,
  bytes: Buffer,
  piece = 256 * KIB,
): Promise<{ output: Buffer; error: unknown; code: string }> {
  const pieces: Buffer[] = [];
  const parts = new Writable({
    write(part: Buffer, _encoding, done) {
      pieces.push(Buffer.from(part));
      done();
    },
  });
  let error: unknown;
  await pipeline(Readable.from(cut(bytes, piece)), stream, parts).catch((reason: unknown) => {
    error = reason;
  });
  return { output: Buffer.concat(pieces), error, code: error === undefined ? 'ok' : (error as DekdError).code };
}

function* cut(bytes: Buffer, piece: number): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += piece) {
    yield bytes.subarray(at, at + piece);
  }
}

function flipped(bytes: Buffer, at: number): Buffer {
  const changed = Buffer.from(bytes);
  changed[at]! ^= 1;
  return changed;
}

function headerOf(message: Uint8Array): MessageHeader {
  return readMessageHeader(message)!;
}

function kidOf({ dataKeys }: MessageHeader): string {
  return Buffer.from(dataKeys[0]!.providerInfo.subarray(0, 32)).toString('latin1');
}

async function newestKid(): Promise<string> {
  const { keys } = (await administer({ show: { name: 'files' } })) as { keys: { kid: string; state: string }[] };
  return keys.find(({ state }) => state === 'active')!.kid;
}

async function administer(admin: AdminFields): Promise<Record<string, unknown>> {
  const raw = await RawClient.greeted(agent.admin);
  const { document, error } = await raw.ask({ admin });
  raw.destroy();
  expect(error).toBeFalsy();
  return JSON.parse(Buffer.from(document!).toString()) as Record<string, unknown>;
}

async function slots(): Promise<number> {
  const { memory } = (await administer({ status: {} })) as { memory: { used: number } };
  return memory.used;
}
