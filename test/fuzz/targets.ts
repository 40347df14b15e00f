import { parseConfig } from '../../src/config/load.ts';
import { ConfigError } from '../../src/config/problems.ts';
import { renderSample } from '../../src/config/sample.ts';
import { fromCustodian } from '../../src/custody/custodian-messages.ts';
import { Garbage } from '../../src/custody/untrusted.ts';
import {
  checkContext,
  contextNames,
  decodeContext,
  encodeContext,
  hasContextName,
  mergedContext,
  sortedContext,
} from '../../src/envelope/context.ts';
import { readLegacyEnvelope } from '../../src/envelope/legacy.ts';
import { decodeMacText, encodeMacText, isMac } from '../../src/envelope/mac.ts';
import { encodeMessageHeader, messageContext, readMessageHeader } from '../../src/envelope/message-header.ts';
import { readTokenHead } from '../../src/envelope/token.ts';
import { decodeTokenText, encodeTokenText } from '../../src/envelope/token-text.ts';
import { DekdError, type ErrorCode } from '../../src/errors.ts';
import { readExport } from '../../src/keystores/export-document.ts';
import { encodeRecord } from '../../src/keystores/record-codec.ts';
import { FrameReader } from '../../src/protocol/frame.ts';
import { messages } from '../../src/protocol/messages.ts';
import { OPERATION } from '../../src/protocol/request-reader.ts';
import { frameOf, HELLO } from '../support/raw-client.ts';
import { readAll, readByGenerated, readByHand } from '../support/request-readers.ts';
import type { FuzzTarget } from './target.ts';

const utf8 = new TextEncoder();
const lossy = new TextDecoder();
const prototype = Object.getOwnPropertyNames(Object.prototype).join();

/** What `read` gives, or undefined where it refused with one of these codes. @throws every other error */
function unlessRefused<T>(codes: readonly ErrorCode[], read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (DekdError.is(error) && codes.includes(error.code)) {
      return undefined;
    }
    throw error;
  }
}

function must(fact: boolean, promise: string): void {
  if (!fact) {
    throw new Error(`broken promise: ${promise}`);
  }
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function prototypeIsClean(): void {
  must(Object.getOwnPropertyNames(Object.prototype).join() === prototype, 'nothing is added to Object.prototype');
}

// ── requests ──

const context = encodeContext({ row: '4711', table: 'cards' });
const item = { data: utf8.encode('value'), key: 'other', partition: 'p', context };

const requests = (): Uint8Array[] =>
  [
    { id: 1, hello: HELLO },
    { id: 2, timeoutMs: 5_000, ping: {} },
    { id: 3, cancel: { id: 2 } },
    { id: 4, keyInfo: { key: 'k', partition: 'p' } },
    { id: 5, encrypt: { key: 'k', partition: 'p', context, data: utf8.encode('value') } },
    { id: 6, decrypt: { key: 'k', anyKey: true, data: new Uint8Array(70).fill(0xc1) } },
    {
      id: 7,
      encryptMany: { key: 'k', context, items: [item, { data: new Uint8Array(0) }, { data: item.data, key: '' }] },
    },
    { id: 8, decryptMany: { key: 'k', anyKey: false, items: [{ data: new Uint8Array(58) }] } },
    { id: 9, encryptStream: { key: 'k', context, frameLength: 65_536 } },
    { id: 0xffffffff, hmac: { key: 'k', data: utf8.encode('value') } },
    { id: 11, verifyHmac: { key: 'k', data: utf8.encode('value'), mac: new Uint8Array(50) } },
    { id: 12, blindIndex: { key: 'k', data: utf8.encode('value') } },
    { id: 14, openLegacy: { key: 'k', data: utf8.encode('{"__enc":1}') } },
    { id: 15, encryptMany: { key: 'k', items: Array.from({ length: 9 }, () => ({ data: new Uint8Array(200) })) } },
    {
      id: 16,
      laneEncrypt: {
        key: 'k',
        context,
        input: { handle: 1, offset: 4_096, length: 70_000 },
        result: { handle: 1, offset: 0, length: 9 },
        root: 'main',
      },
    },
    { id: 17, fileEncrypt: { key: 'k', context, frameLength: 4_096 } },
    { id: 18, streamPart: { credit: 65_536, end: true, data: utf8.encode('part') } },
    {
      id: 19,
      decryptStream: {
        key: 'k',
        anyKey: true,
        credit: 65_536,
        compression: 2,
        content: 1,
        firstFrame: 3,
        frames: 2,
        root: 'r',
      },
    },
    { id: 20, blindIndex: { key: 'k', table: 't', column: 'c', fingerprint: true, data: utf8.encode('v') } },
    { id: 13, admin: { rotate: { name: 'k', partition: 'p' } } },
  ].map((fields) => messages.Request.encode(fields as never).finish());

const frames: FuzzTarget = {
  name: 'frames',
  seeds: () => {
    const all = requests();
    return [...all.map(frameOf), frameOf(new Uint8Array(0)), Buffer.concat(all.map(frameOf))];
  },
  words: ['\0\0\0\0', '\0\0\0\x01', '\xff\xff\xff\xff', '\x7f\xff\xff\xff', '\0\x01\0\0', '\0\x10\0\0'],
  maxLength: 4_096,
  covers: ['protocol/frame.ts'],
  read: (bytes) => {
    // The first byte says how the rest is cut; the frames are the same however that is.
    const size = (bytes[0] ?? 0) + 1;
    const stream = Buffer.from(bytes.subarray(1));
    const read = (step: number): string =>
      unlessRefused(['PROTOCOL_ERROR'], () => {
        const got: string[] = [];
        const reader = new FrameReader(1_000, (frame) => void got.push(frame.toString('hex')));
        try {
          for (let at = 0; at < stream.length; at += step) {
            reader.push(stream.subarray(at, at + step));
          }
        } catch (error) {
          got.push(DekdError.from(error).message);
        }
        got.push(String(reader.isMidFrame));
        return got.join();
      }) ?? '';
    must(read(size) === read(Math.max(1, stream.length)), 'frames are the same however the stream is cut');
  },
};

const request: FuzzTarget = {
  name: 'request',
  seeds: requests,
  words: [
    '\x08\x01',
    '\x0a\x01k',
    '\x12\x01p',
    '\x1a\x00',
    '\x80\x80\x80\x80\x10',
    '\xff\xff\xff\xff\x0f',
    '\x0b\x0c',
    '\x7a\x00',
  ],
  maxLength: 2_048,
  covers: ['protocol/request-reader.ts'],
  read: (bytes) => {
    const all = unlessRefused(['PROTOCOL_ERROR'], () => readAll(bytes));
    if (all !== undefined) {
      must(all.contextOffset + all.contextLength <= bytes.length, 'a context lies in its frame');
      must(all.dataOffset + all.dataLength <= bytes.length, 'data lies in its frame');
      must(all.macOffset + all.macLength <= bytes.length, 'a MAC lies in its frame');
      must(
        [all.input, all.result].every(({ offset, length }) => offset >= 0 && length >= 0),
        'a range is not negative',
      );
    }
    const mine = unlessRefused(['PROTOCOL_ERROR'], () => readByHand(bytes)) as { operation: number } | undefined;
    if (mine === undefined || !(Object.values(OPERATION) as number[]).includes(mine.operation)) {
      return;
    }
    let generated: unknown;
    try {
      generated = readByGenerated(bytes);
    } catch {
      // It also checks what the reader by hand only steps over.
      return;
    }
    must(JSON.stringify(mine) === JSON.stringify(generated), 'both readers read the same');
  },
};

// ── what is stored ──

const token = (): Uint8Array => Uint8Array.from([0xc1, 1, ...Array.from({ length: 80 }, (_, i) => i)]);
const legacy = {
  __enc: 1,
  kid: 'k1',
  iv: Buffer.alloc(12, 1).toString('base64'),
  ct: Buffer.alloc(40, 2).toString('base64'),
};

const header = (pairs: Record<string, string>, keys: number): Uint8Array =>
  encodeMessageHeader({
    messageId: new Uint8Array(32).fill(1),
    context: encodeContext(pairs),
    dataKeys: Array.from({ length: keys }, (_, i) => ({
      providerId: 'dekd',
      providerInfo: new Uint8Array(77).fill(0x30 + i),
      ciphertext: new Uint8Array(48).fill(i),
    })),
    frameLength: 4_096,
    commitment: new Uint8Array(32).fill(3),
  });

const envelope: FuzzTarget = {
  name: 'envelope',
  seeds: () => [
    token(),
    utf8.encode(encodeTokenText(token())),
    utf8.encode(encodeMacText(new Uint8Array(50).fill(0xc0))),
    utf8.encode(JSON.stringify(legacy)),
    Buffer.concat([header({}, 1), new Uint8Array(16)]),
    Buffer.concat([header({ 'dekd-content': 'json', a: 'b' }, 3), new Uint8Array(16)]),
  ],
  words: [
    'dk1.',
    'dm1.',
    '\xc1\x01',
    '\xc1\x02',
    '\xc1\x10',
    '\xc0\x01',
    '"__enc":1',
    '"kid":"',
    '\x02\x04\x78',
    '\x05\x78',
    'aws-crypto-public-key',
  ],
  maxLength: 2_048,
  covers: [
    'envelope/token.ts',
    'envelope/token-text.ts',
    'envelope/mac.ts',
    'envelope/legacy.ts',
    'envelope/message-header.ts',
    'envelope/base64url.ts',
  ],
  read: (bytes) => {
    unlessRefused(['MALFORMED', 'UNSUPPORTED_VERSION'], () => readTokenHead(bytes, 0, bytes.length));
    isMac(bytes, 0, bytes.length);
    const text = lossy.decode(bytes);
    const back = unlessRefused(['MALFORMED', 'UNSUPPORTED_VERSION'], () => decodeTokenText(text));
    must(back === undefined || encodeTokenText(back) === text, 'a text that decodes is the one text of its token');
    const mac = decodeMacText(text);
    must(mac === undefined || encodeMacText(mac) === text, 'a text that decodes is the one text of its MAC');
    unlessRefused(['MALFORMED'], () => readLegacyEnvelope(bytes));
    const read = unlessRefused(['MALFORMED', 'UNSUPPORTED_VERSION', 'INVALID_ARGUMENT', 'UNSUPPORTED'], () =>
      readMessageHeader(bytes),
    );
    if (read !== undefined) {
      const names = messageContext(read);
      must(
        Object.getPrototypeOf(names) === null || Object.keys(names).every((name) => Object.hasOwn(names, name)),
        'names are data',
      );
    }
    prototypeIsClean();
  },
};

const contexts: FuzzTarget = {
  name: 'context',
  seeds: () => [
    context,
    new Uint8Array(0),
    encodeContext({ a: '', __proto__x: 'é\u{1f600}' }),
    utf8.encode('{"a":"b","__proto__":"c"}'),
  ],
  words: [
    '\0\x01',
    '\0\x02',
    '\0\0',
    '\xff\xff',
    '"__proto__":"',
    '"constructor":',
    'aws-crypto-',
    '\\ud800',
    '\xc3\xa9',
  ],
  maxLength: 1_024,
  covers: ['envelope/context.ts', 'envelope/context-encoding.ts'],
  read: (bytes) => {
    const good = unlessRefused(['INVALID_ARGUMENT'], () => {
      checkContext(bytes, 0, bytes.length);
      return true;
    });
    if (good === true) {
      must(same(encodeContext(decodeContext(bytes)), bytes), 'what passes the check is the one encoding of its pairs');
      must(
        contextNames(bytes).every((name) => hasContextName(bytes, 0, bytes.length, name)),
        'its names are in it',
      );
      must(same(sortedContext(bytes), bytes), 'it is sorted');
      unlessRefused(['INVALID_ARGUMENT'], () => mergedContext(bytes, context));
    }
    unlessRefused(['INVALID_ARGUMENT', 'MALFORMED'], () => sortedContext(bytes));
    let value: unknown;
    try {
      value = JSON.parse(lossy.decode(bytes));
    } catch {
      return;
    }
    const encoded = unlessRefused(['INVALID_ARGUMENT'], () => encodeContext(value as Record<string, string>));
    if (encoded !== undefined) {
      checkContext(encoded, 0, encoded.length);
      const back = decodeContext(encoded);
      must(Object.keys(back).length === Object.keys(value as object).length, 'no pair is lost');
    }
    prototypeIsClean();
  },
};

// ── what an operator or another process writes ──

const CONFIG = `
engine: native
memory: { level: locked }
socket: { path: /run/dekd/agent.sock, group: app }
roots: { main: { provider: local, keyFile: /etc/dekd/root.key, allowLocalRoot: true } }
keystore: { type: sqlite, path: /var/lib/dekd/keys.db }
limits: { maxPayload: 1MiB }
policy:
  rules:
    - { name: app, callers: { uid: [1000] }, keys: 'app.*', operations: [encrypt, decrypt], create: { max: 10 } }
keys:
  'app.*': { rotate: { after: 90d } }
`;

const config: FuzzTarget = {
  name: 'config',
  seeds: () => [
    utf8.encode(CONFIG),
    utf8.encode(renderSample().slice(0, 6_000)),
    utf8.encode('a: &a [*a]'),
    utf8.encode('{}'),
  ],
  words: [
    '\n',
    '\n  ',
    ': ',
    '- ',
    '{',
    '}',
    '[',
    ']',
    '&a ',
    '*a',
    '!!js/function ',
    '!!binary ',
    '<<: ',
    '__proto__: ',
    'constructor: ',
    '1e999',
    '"',
    "'",
    '90d',
    '16MiB',
    'null',
    '~',
    '? ',
    '|',
    '>',
    '#',
    '---\n',
  ],
  maxLength: 8_192,
  covers: [
    'config/load.ts',
    'config/source-map.ts',
    'config/schema-walk.ts',
    'config/readers.ts',
    'config/problems.ts',
  ],
  read: (bytes) => {
    const text = lossy.decode(bytes);
    const before = performance.now();
    try {
      parseConfig(text);
    } catch (error) {
      if (!(error instanceof ConfigError)) {
        throw error;
      }
      must(error.problems.length > 0, 'a refusal says what is wrong');
    }
    // Not a measurement: what takes seconds for 8 KiB grows faster than its input.
    must(performance.now() - before < 5_000, 'a file of 8 KiB is read in seconds');
    prototypeIsClean();
  },
};

/** Two records of an export, in all their fields: one under a root, one under a key. */
const RECORDS = [
  { root: 'main', resolvedId: 'local:00', materialVersion: '1', wrappedSecret: 'AAAA' },
  { kid: '11'.repeat(16) },
].map((parent, index) => ({
  kid: `0${index}`.repeat(16),
  name: 'k',
  partition: '',
  level: 4,
  version: 1,
  revision: 1,
  algorithm: 'xaes-256-gcm',
  purpose: 'seal',
  size: 32,
  state: 'active',
  owner: { tenant: '', service: 'default', node: '' },
  dates: { created: 1_700_000_000_000, activated: 1_700_000_000_000 },
  parent,
  wrapped: Buffer.alloc(73, 1).toString('base64'),
  keyContext: { env: 'prod' },
  seq: '18446744073709551615',
  mac: Buffer.alloc(32, 2).toString('base64'),
}));

const documents: FuzzTarget = {
  name: 'documents',
  seeds: () => [
    utf8.encode(JSON.stringify({ format: 'dekd-export', version: 1, records: [] })),
    utf8.encode(JSON.stringify({ format: 'dekd-export', version: 1, records: RECORDS })),
    ...[
      { kind: 'ready', role: 'provider', protocol: 1 },
      { kind: 'reply', id: 1, value: { a: 1 } },
      { kind: 'rows', id: 1, rows: [1, 2] },
      { kind: 'failure', id: 1, code: 'X', message: 'm', detail: 'd', retryAfterMs: 5 },
      { kind: 'session', id: 1, root: 'main' },
    ].map((message) => utf8.encode(JSON.stringify(message))),
  ],
  words: [
    '"',
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    'null',
    'true',
    '-1',
    '1e400',
    '"__proto__":',
    '"kid":"',
    '"seq":"',
    '"state":"active"',
    '4294967296',
    '"kind":"',
  ],
  maxLength: 4_096,
  covers: [
    'keystores/export-document.ts',
    'keystores/record-codec.ts',
    'custody/custodian-messages.ts',
    'custody/untrusted.ts',
  ],
  read: (bytes) => {
    const text = lossy.decode(bytes);
    const records = unlessRefused(['INVALID_ARGUMENT', 'UNSUPPORTED_VERSION'], () => readExport(text));
    for (const record of records ?? []) {
      const again = JSON.stringify({ format: 'dekd-export', version: 1, records: [encodeRecord(record)] });
      must(
        JSON.stringify(readExport(again).map(encodeRecord)) === JSON.stringify([encodeRecord(record)]),
        'a record comes back',
      );
    }
    try {
      fromCustodian(JSON.parse(text));
    } catch (error) {
      if (!(error instanceof Garbage || error instanceof SyntaxError)) {
        throw error;
      }
    }
    prototypeIsClean();
  },
};

export const TARGETS: readonly FuzzTarget[] = [frames, request, envelope, contexts, config, documents];

/** Believes a length, as readers have: a run that does not find this proves nothing. */
export const PLANTED: FuzzTarget = {
  name: 'planted',
  seeds: () => [Uint8Array.from([0xc1, 1, 0, 2, 5, 6])],
  words: [],
  maxLength: 256,
  covers: [],
  read: (bytes) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    if (bytes.length < 4 || view.getUint16(0) !== 0xc101) {
      return;
    }
    const length = view.getUint16(2);
    if (length <= bytes.length - 3) {
      for (let i = 0; i < length; i++) {
        view.getUint8(4 + i);
      }
    }
  },
};
