/** What releases wrote opens for ever: `golden/README.md` says what is here, `docs/compatibility.md` why. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { connect, type DekdClient } from '../../src/client/index.ts';
import { encodeContext } from '../../src/envelope/context.ts';
import { decodeMacText, encodeMacText } from '../../src/envelope/mac.ts';
import { encodeMessageHeader } from '../../src/envelope/message-header.ts';
import { decodeTokenText, encodeTokenText } from '../../src/envelope/token-text.ts';
import {
  ApiKeys,
  OneShotSecrets,
  PaginationTokens,
  RefreshTokens,
  Sessions,
  ThirdPartyKeys,
} from '../../src/helpers/index.ts';
import { readExport, writeExport } from '../../src/keystores/export-document.ts';
import { encodeRecord } from '../../src/keystores/record-codec.ts';
import { messages as wire } from '../../src/protocol/messages.ts';
import { ENGINE_NAMES, engineUnderTest, importKey } from '../support/engines.ts';
import { startFakeAgent } from '../support/fake-agent.ts';
import { type GoldenAgent, type GoldenKeys, startGoldenAgent } from '../support/golden-agent.ts';
import { type GoldenAnswers, type GoldenValue, goldenCalls } from '../support/golden-calls.ts';
import { frameOf, RawClient } from '../support/raw-client.ts';
import type { RecordedFrame } from '../support/recording-proxy.ts';

const V1 = join(import.meta.dirname, 'golden/v1');

interface Options {
  readonly key: string;
  readonly partition?: string;
  readonly context?: Readonly<Record<string, string>>;
}

interface StoredMessage extends Options {
  readonly name: string;
  readonly file: string;
  readonly sha256?: string;
  readonly json?: unknown;
}

interface Hashes {
  readonly macs: readonly { readonly data: string; readonly options: Options; readonly mac: string }[];
  readonly index: {
    readonly value: string;
    readonly options: Options & { table: string; column: string };
    readonly hex: string;
  };
  readonly fingerprint: { readonly value: string; readonly options: Options; readonly hex: string };
}

interface Helpers {
  readonly now: number;
  readonly pagination: { readonly token: string };
  readonly session: { readonly id: string; readonly lookup: string; readonly sealed: string; readonly content: object };
  readonly apiKey: { readonly apiKey: string; readonly id: string; readonly mac: string };
  readonly thirdParty: { readonly sealed: string; readonly apiKey: string };
  readonly oneShot: { readonly id: string; readonly stored: readonly [string, string][]; readonly secret: string };
  readonly refresh: { readonly token: string; readonly session: string; readonly content: object };
}

interface Wire {
  readonly values: readonly GoldenValue[];
  readonly answers: GoldenAnswers;
  readonly frames: readonly RecordedFrame[];
}

interface Writer {
  readonly token: Readonly<Record<'key' | 'nonce' | 'plaintext' | 'kid' | 'token' | 'text', string>> & {
    readonly context: Record<string, string>;
  };
  readonly context: { readonly pairs: Record<string, string>; readonly hex: string };
  readonly header: {
    readonly messageId: string;
    readonly context: string;
    readonly dataKeys: readonly {
      readonly providerId: string;
      readonly providerInfo: string;
      readonly ciphertext: string;
    }[];
    readonly frameLength: number;
    readonly commitment: string;
    readonly hex: string;
  };
  readonly mac: { readonly bytes: string; readonly text: string };
}

function read<T>(file: string): T {
  return JSON.parse(readFileSync(join(V1, file), 'utf8')) as T;
}

const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));
const hexOf = (value: Uint8Array): string => Buffer.from(value).toString('hex');
const sha256 = (value: Uint8Array): string => createHash('sha256').update(value).digest('hex');

const keys = read<GoldenKeys>('keys.json');
const tokens = read<readonly (GoldenValue & { readonly name: string })[]>('tokens.json');
const messages = read<readonly StoredMessage[]>('messages.json');
const hashes = read<Hashes>('hashes.json');
const helpers = read<Helpers>('helpers.json');
const stored = read<Wire>('frames.json');
const writer = read<Writer>('writer.json');
const sqlite = { kind: 'sqlite', file: join(V1, 'keys.sqlite') } as const;

describe.each(ENGINE_NAMES)('vectors of version 1 in an agent with the %s engine', async (engine) => {
  const { missing } = await engineUnderTest(engine);
  let golden: GoldenAgent;
  let dekd: DekdClient;

  beforeAll(async () => {
    if (missing !== undefined) {
      return;
    }
    golden = await startGoldenAgent({ keys, engine, keystore: sqlite });
    dekd = connect({ socket: golden.agent.socket, timeoutMs: 30_000 });
  });
  afterAll(async () => {
    await dekd?.close();
    await golden?.stop();
  });

  beforeEach(({ skip }) => {
    if (missing !== undefined) {
      skip(missing);
    }
  });

  it('have all kinds that the README names', () => {
    expect([tokens.length, messages.length, hashes.macs.length]).toEqual([19, 18, 2]);
  });

  it.each(tokens)('open as tokens: $name', async ({ name: _, text, plaintext, ...options }) => {
    expect(Buffer.from(await dekd.decrypt(decodeTokenText(text), options)).toString('base64')).toBe(plaintext);
  });

  it('open as one batch', async () => {
    const items = tokens.map(({ name: _, text, plaintext: __, ...options }) => ({
      data: decodeTokenText(text),
      ...options,
    }));
    const opened = await dekd.decryptMany(items, { key: 'customers' });
    expect(opened.map((each) => (each.ok ? Buffer.from(each.value).toString('base64') : each.error.code))).toEqual(
      tokens.map(({ plaintext }) => plaintext),
    );
  });

  it.each(messages)('open as messages: $name', async ({ name: _, file, sha256: digest, json, ...options }) => {
    const message = readFileSync(join(V1, file));
    if (json !== undefined) {
      expect(await dekd.decryptLarge(message, options)).toEqual(json);
      return;
    }
    expect(sha256(await buffer(Readable.from([message]).pipe(dekd.decryptStream(options))))).toBe(digest);
  });

  it('are the MACs, the index and the fingerprint that this agent makes too', async () => {
    for (const { data, options, mac } of hashes.macs) {
      expect(await dekd.hmacText(data, options)).toBe(mac);
      expect(await dekd.verifyHmac(data, mac, options)).toBe(true);
    }
    expect(await dekd.blindIndex(hashes.index.value, hashes.index.options)).toBe(hashes.index.hex);
    expect(await dekd.fingerprint(hashes.fingerprint.value, hashes.fingerprint.options)).toBe(hashes.fingerprint.hex);
  });

  it('are what the helpers take back', async () => {
    const now = (): number => helpers.now;
    const { pagination, session, apiKey, thirdParty, oneShot, refresh } = helpers;
    const pages = new PaginationTokens<object, 'user'>(dekd, { key: 'pages', kind: 'invoices', bindTo: ['user'], now });
    expect(await pages.read(pagination.token, { context: { user: 'u1' } })).toEqual({ after: 7 });
    const sessions = new Sessions(dekd, { key: 'sessions', kind: 'web', now });
    expect(sessions.lookup(session.id)).toBe(session.lookup);
    expect(await sessions.open(session.id, session.sealed)).toEqual(session.content);
    const apiKeys = new ApiKeys(dekd, { key: 'api-keys' });
    const row = await apiKeys.verify(apiKey.apiKey, 'billing', async (id) => (id === apiKey.id ? apiKey : undefined));
    expect(row).toBe(apiKey);
    expect(await new ThirdPartyKeys(dekd, { key: 'third-party' }).open(thirdParty.sealed, 'stripe')).toBe(
      thirdParty.apiKey,
    );
    const held = new Map(oneShot.stored);
    const secrets = new OneShotSecrets(dekd, {
      key: 'one-shot',
      now,
      store: {
        put: async () => {},
        load: async (lookup) => held.get(lookup),
        consume: async (lookup) => held.delete(lookup),
      },
    });
    expect(await secrets.take(oneShot.id)).toBe(oneShot.secret);
    const families = { begin: async () => {}, advance: async () => true, reused: async () => {} };
    const tokensOf = new RefreshTokens(dekd, { key: 'refresh', kind: 'web', now, store: families });
    expect((await tokensOf.rotate(refresh.token, refresh.session)).content).toEqual(refresh.content);
  });

  it('open as fields of a row', async () => {
    const { fields, row, stored: sealed } = read<{ fields: never; row: { id: string }; stored: never }>('fields.json');
    const cipher = dekd.fields<{ id: string }>()({
      ...(fields as object),
      context: ({ id }: { id: string }) => ({ user: id }),
    } as never);
    expect(await cipher.decrypt(sealed)).toEqual(row);
  });

  it('open as envelopes of applications from before', async () => {
    const { envelope, value } = read<{ envelope: object; value: object }>('legacy.json');
    const [opened] = await dekd.openLegacy([Buffer.from(JSON.stringify(envelope))], { key: 'customers' });
    expect(JSON.parse(Buffer.from(opened!.ok ? opened!.value : '').toString())).toEqual(value);
  });

  it('are what a client of then says, and it is answered as then', async () => {
    const raw = await RawClient.connect(golden.agent.socket);
    const asked = stored.frames.filter(({ from }) => from === 'client').map(({ hex }) => bytes(hex));
    const answered = new Map(
      stored.frames
        .filter(({ from }) => from === 'agent')
        .map(({ hex }) => wire.Reply.decode(bytes(hex)) as unknown as { id: number } & Record<string, never>)
        // A hello and the first request after it have one id.
        .map((reply) => [`${reply.id} ${Boolean(reply.hello)}`, reply]),
    );
    for (const body of asked) {
      const { id, hello, encrypt, encryptMany } = wire.Request.decode(body);
      raw.write(frameOf(body));
      const reply = (await raw.reply(id!)) as unknown as Record<string, unknown>;
      const then = answered.get(`${id} ${Boolean(hello)}`) as unknown as Record<string, unknown>;
      if (hello) {
        expect((reply.hello as { version: number }).version).toBe((then.hello as { version: number }).version);
      } else if (encrypt || encryptMany) {
        expect(plain(reply, ({ length }) => length)).toEqual(plain(then, ({ length }) => length));
      } else {
        expect(plain(reply, hexOf)).toEqual(plain(then, hexOf));
      }
    }
    raw.destroy();
  });
});

/** A message of the wire as data, its bytes as `bytesAs` says. */
function plain(value: unknown, bytesAs: (bytes: Uint8Array) => unknown): unknown {
  if (value instanceof Uint8Array) {
    return bytesAs(value);
  }
  if (Array.isArray(value)) {
    return value.map((each) => plain(each, bytesAs));
  }
  if (typeof value !== 'object' || value === null) {
    return value;
  }
  // Enumerable names, inherited ones too: the fields that a decoder fills in.
  const fields: Record<string, unknown> = {};
  for (const name in value) {
    const field = (value as Record<string, unknown>)[name];
    if (typeof field !== 'function' && name !== 'incident' && name !== 'timeoutMs') {
      fields[name] = plain(field, bytesAs);
    }
  }
  return fields;
}

describe('vectors of version 1', () => {
  it('open from the export, which keystore bundle serves', async () => {
    const golden = await startGoldenAgent({ keys, keystore: { kind: 'bundle', file: join(V1, 'export.json') } });
    const dekd = connect({ socket: golden.agent.socket });
    for (const { name: _, text, plaintext, ...options } of tokens) {
      expect(Buffer.from(await dekd.decrypt(decodeTokenText(text), options)).toString('base64')).toBe(plaintext);
    }
    await dekd.close();
    await golden.stop();
  });

  it('are written again as the same export', async () => {
    const text = readFileSync(join(V1, 'export.json'), 'utf8');
    let again = '';
    for await (const piece of writeExport(readExport(text).map(encodeRecord))) {
      again += piece;
    }
    expect(again).toBe(text);
  });

  it('are what an agent of then answers, and this client says and understands', async () => {
    const replies = stored.frames
      .filter(({ from }) => from === 'agent')
      .map(({ hex }) => wire.Reply.decode(bytes(hex)) as unknown as Record<string, unknown>);
    const [hello, ...others] = replies;
    const agent = await startFakeAgent({
      hello: hello!.hello as object,
      onRequest: ({ id }, connection) => connection.reply({ ...others.shift()!, id }),
    });
    const dekd = connect({ socket: agent.path });
    expect(await goldenCalls(dekd, stored.values)).toEqual(stored.answers);
    const then = stored.frames
      .filter(({ from }) => from === 'client')
      .map(({ hex }) => wire.Request.decode(bytes(hex)))
      .filter((request) => !request.hello);
    expect(plain(agent.requests, hexOf)).toEqual(plain(then, hexOf));
    await dekd.close();
    await agent.stop();
  });
});

describe('writers', () => {
  it.each(ENGINE_NAMES)('make the token of a given nonce, which the %s engine opens', async (name) => {
    const subject = await engineUnderTest(name);
    if (subject.missing !== undefined) {
      return expect(subject.name).toBe('native');
    }
    const { token } = writer;
    const head = bytes(`c101${token.kid}`);
    const context = encodeContext(token.context);
    const aad = Buffer.concat([head, context]);
    const sealed = subject.primitives.xaesSeal(bytes(token.key), bytes(token.nonce), aad, bytes(token.plaintext));
    expect(hexOf(head) + token.nonce + hexOf(sealed)).toBe(token.token);
    expect(encodeTokenText(bytes(token.token))).toBe(token.text);
    const engine = subject.create();
    const key = importKey(engine, bytes(token.key), { algorithm: 'xaes-256-gcm', purpose: 'seal' });
    expect(hexOf(engine.kid(key))).toBe(token.kid);
    const input = Buffer.concat([context, bytes(token.token)]);
    const plaintext = new Uint8Array(token.plaintext.length / 2);
    const length = token.token.length / 2;
    expect(engine.open(key, input, 0, context.length, context.length, length, plaintext, 0)).toBe(true);
    expect(hexOf(plaintext)).toBe(token.plaintext);
    engine.close();
  });

  it('make the context, the header and the texts that they made', () => {
    expect(hexOf(encodeContext(writer.context.pairs))).toBe(writer.context.hex);
    const { header, mac } = writer;
    const made = encodeMessageHeader({
      messageId: bytes(header.messageId),
      context: bytes(header.context),
      dataKeys: header.dataKeys.map(({ providerId, providerInfo, ciphertext }) => ({
        providerId,
        providerInfo: bytes(providerInfo),
        ciphertext: bytes(ciphertext),
      })),
      frameLength: header.frameLength,
      commitment: bytes(header.commitment),
    });
    expect(hexOf(made)).toBe(header.hex);
    expect(encodeMacText(bytes(mac.bytes))).toBe(mac.text);
    expect(hexOf(decodeMacText(mac.text) ?? new Uint8Array(0))).toBe(mac.bytes);
  });
});
