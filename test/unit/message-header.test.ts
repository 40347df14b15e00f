import { describe, expect, it } from 'vitest';
import { encodeContext } from '../../src/envelope/context.ts';
import {
  DEFAULT_MESSAGE_LIMITS,
  type EncryptedDataKey,
  encodeMessageHeader,
  type MessageHeader,
  MessageHeaderReader,
  type MessageLimits,
  messageContext,
  readMessageHeader,
} from '../../src/envelope/message-header.ts';
import { DekdError, type ErrorCode } from '../../src/errors.ts';
import { field, u16, u32 } from '../support/big-endian.ts';
import { refusal } from '../support/refusal.ts';

const ID = Buffer.from(Array.from({ length: 32 }, (_, i) => i + 1));
const COMMITMENT = Buffer.alloc(32, 0xcc);
const TAG = Buffer.alloc(16, 0xaa);

function utf8(dataKey: string[]): Buffer[] {
  return dataKey.map((text) => Buffer.from(text));
}

/** Pairs in the order given, nothing checked. */
function pairsOf(pairs: [string, string][], count = pairs.length): Buffer {
  return Buffer.concat([u16(count), ...pairs.flat().map((text) => field(Buffer.from(text)))]);
}

interface Parts {
  suite?: number;
  context?: Uint8Array;
  dataKeys?: (Uint8Array | string)[][];
  count?: number;
  contentType?: number;
  frameLength?: number;
}

/** A header with its tag, written from the layout by other means than the code's. */
function headerBytes(parts: Parts = {}): Buffer {
  const { suite = 0x0478, context = Buffer.alloc(0), dataKeys = [['ns', 'info', 'wrapped']] } = parts;
  return Buffer.concat([
    Buffer.of(0x02),
    u16(suite),
    ID,
    field(context),
    u16(parts.count ?? dataKeys.length),
    ...dataKeys.flat().map(field),
    Buffer.of(parts.contentType ?? 2),
    u32(parts.frameLength ?? 4096),
    COMMITMENT,
    TAG,
  ]);
}

function read(bytes: Uint8Array, limits?: MessageLimits): MessageHeader {
  const header = readMessageHeader(bytes, limits);
  if (header === undefined) {
    throw new Error('needs more bytes');
  }
  return header;
}

/** Where in a header without context the first encrypted data key begins. */
const FIRST_DATA_KEY = 1 + 2 + 32 + 2 + 2;

/** A message of no plaintext for the raw AES key `k1` of `sidecar-local`: 221 bytes with its one frame of 40. */
const KNOWN = [
  '02',
  '0478',
  '0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20',
  '0000',
  '0001',
  '000d736964656361722d6c6f63616c',
  '0016',
  '6b31000000800000000c101112131415161718191a1b',
  '0030',
  '77'.repeat(32),
  '88'.repeat(16),
  '02',
  '00001000',
  'cc'.repeat(32),
].join('');

const KNOWN_FIELDS = {
  messageId: ID,
  context: new Uint8Array(0),
  dataKeys: [
    {
      providerId: 'sidecar-local',
      providerInfo: Buffer.from('6b31000000800000000c101112131415161718191a1b', 'hex'),
      ciphertext: Buffer.from('77'.repeat(32) + '88'.repeat(16), 'hex'),
    },
  ],
  frameLength: 4096,
  commitment: COMMITMENT,
};

const SIGNED_CONTEXT = pairsOf([
  ['aws-crypto-public-key', 'Ar4='],
  ['tenant', 'acme'],
]);

describe('encodeMessageHeader', () => {
  it('writes the known header, 40 bytes less than the known message with its tag', () => {
    const body = encodeMessageHeader(KNOWN_FIELDS);
    expect(Buffer.from(body).toString('hex')).toBe(KNOWN);
    expect(body.length + 16 + 40).toBe(221);
  });

  it('takes 92 bytes with the tag beside the context and the encrypted data keys', () => {
    const context = encodeContext({ tenant: 'acme', purpose: 'files' });
    const dataKeys = [
      { providerId: 'a', providerInfo: new Uint8Array(0), ciphertext: new Uint8Array(0) },
      { providerId: 'é', providerInfo: new Uint8Array(7), ciphertext: new Uint8Array(11) },
    ];
    const body = encodeMessageHeader({ ...KNOWN_FIELDS, context, dataKeys });
    expect(body.length + 16).toBe(92 + context.length + (6 + 1) + (6 + 2 + 7 + 11));
  });

  it('is read back as it was written', () => {
    const context = encodeContext({ tenant: 'acme', '\u{1f600}': 'x' });
    const body = encodeMessageHeader({ ...KNOWN_FIELDS, context, frameLength: 65_536 });
    const header = read(Buffer.concat([body, TAG]));
    expect(header).toMatchObject({ suite: 0x0478, frameLength: 65_536, length: body.length + 16 });
    expect(header.body).toEqual(body);
    expect(header.context).toEqual(context);
    expect(header.dataKeys[0]!.providerInfo).toEqual(new Uint8Array(KNOWN_FIELDS.dataKeys[0]!.providerInfo));
    expect(encodeMessageHeader(header)).toEqual(body);
  });

  it('takes every field up to its limit', () => {
    const full = new Uint8Array(65_535);
    const dataKeys = [{ providerId: 'x'.repeat(65_535), providerInfo: full, ciphertext: full }];
    const context = encodeContext({ a: 'x'.repeat(65_535 - 7) });
    const body = encodeMessageHeader({ ...KNOWN_FIELDS, context, dataKeys, frameLength: 0xffffffff });
    const limits = { maxHeader: 2 ** 20, maxDataKeys: 1, maxFrameLength: 0xffffffff };
    expect(read(Buffer.concat([body, TAG]), limits)).toMatchObject({ frameLength: 0xffffffff });
    const least = { providerId: '', providerInfo: full.subarray(0, 0), ciphertext: full.subarray(0, 0) };
    const many = encodeMessageHeader({ ...KNOWN_FIELDS, dataKeys: new Array(65_535).fill(least), frameLength: 1 });
    expect(many.length).toBe(92 - 16 + 65_535 * 6);
    expect(read(Buffer.concat([many, TAG]), { ...limits, maxDataKeys: 65_535 }).dataKeys).toHaveLength(65_535);
  });

  const dataKey: EncryptedDataKey = KNOWN_FIELDS.dataKeys[0]!;
  const long = new Uint8Array(65_536);
  it.each([
    ['a short message id', { messageId: ID.subarray(1) }, 'message id has 32 bytes, not 31'],
    ['a long message id', { messageId: new Uint8Array(33) }, 'not 33'],
    ['a commitment of another length', { commitment: new Uint8Array(16) }, 'commitment has 32 bytes, not 16'],
    ['frame length 0', { frameLength: 0 }, '1 to 4294967295 bytes, not 0'],
    ['frame length 2^32', { frameLength: 2 ** 32 }, 'not 4294967296'],
    ['a frame length that is not whole', { frameLength: 1.5 }, 'not 1.5'],
    ['a frame length that is no number', { frameLength: Number.NaN }, 'not NaN'],
    ['no data key', { dataKeys: [] }, '1 to 65535 data keys, not 0'],
    ['65,536 data keys', { dataKeys: new Array(65_536).fill(dataKey) }, 'not 65536'],
    ['a long provider id', { dataKeys: [{ ...dataKey, providerId: 'é'.repeat(32_768) }] }, 'provider id of 65536'],
    ['a long provider info', { dataKeys: [{ ...dataKey, providerInfo: long }] }, 'provider info of 65536'],
    ['a long encrypted data key', { dataKeys: [{ ...dataKey, ciphertext: long }] }, 'encrypted data key of 65536'],
    ['a provider id with a lone surrogate', { dataKeys: [{ ...dataKey, providerId: 'a\ud800' }] }, 'lone surrogate'],
    ['a long context', { context: long }, 'over the limit of 65535'],
    ['a context that is not canonical', { context: Uint8Array.of(0, 0) }, 'not in canonical form'],
    ['a context with a reserved name', { context: SIGNED_CONTEXT }, 'reserved aws-crypto-'],
  ])('refuses %s', (_, change, part) => {
    const { code, message } = refusal(() => encodeMessageHeader({ ...KNOWN_FIELDS, ...change }));
    expect(code).toBe('INVALID_ARGUMENT');
    expect(message).toContain(part);
  });
});

describe('readMessageHeader', () => {
  it('reads the known header, with a frame behind it', () => {
    const bytes = Buffer.concat([Buffer.from(KNOWN, 'hex'), TAG, Buffer.alloc(40, 0xff)]);
    const header = read(bytes);
    expect(header.suite).toBe(0x0478);
    expect(header.length).toBe(221 - 40);
    expect(Buffer.from(header.messageId)).toEqual(ID);
    expect(header.context).toHaveLength(0);
    expect(header.dataKeys.map(({ providerId }) => providerId)).toEqual(['sidecar-local']);
    expect(Buffer.from(header.dataKeys[0]!.providerInfo).toString('latin1')).toContain('k1');
    expect(Buffer.from(header.dataKeys[0]!.ciphertext)).toEqual(KNOWN_FIELDS.dataKeys[0]!.ciphertext);
    expect(header.frameLength).toBe(4096);
    expect(Buffer.from(header.commitment)).toEqual(COMMITMENT);
    expect(Buffer.from(header.body).toString('hex')).toBe(KNOWN);
    expect(Buffer.from(header.tag)).toEqual(TAG);
  });

  it('reads several data keys in their order, of a signed message with a reserved name in its context', () => {
    const dataKeys = [
      ['aws-kms', 'arn:aws:kms:x', Buffer.alloc(167, 1)],
      ['', '', ''],
      ['größe', Buffer.of(0xff, 0xfe), Buffer.of(0)],
    ].map(([id, info, key]) => [Buffer.from(id as string), info!, key!]);
    const header = read(headerBytes({ suite: 0x0578, context: SIGNED_CONTEXT, dataKeys, frameLength: 1 }));
    expect(header).toMatchObject({ suite: 0x0578, frameLength: 1 });
    expect(header.dataKeys.map(({ providerId }) => providerId)).toEqual(['aws-kms', '', 'größe']);
    expect(header.dataKeys.map(({ providerInfo }) => providerInfo.length)).toEqual([13, 0, 2]);
    expect(header.dataKeys.map(({ ciphertext }) => ciphertext.length)).toEqual([167, 0, 1]);
    expect(Buffer.from(header.context)).toEqual(SIGNED_CONTEXT);
  });

  it('gives the context in canonical form, in whatever order another writer stored it', () => {
    const stored: [string, string][] = [
      ['\u{1f600}', '1'],
      ['\uffee', '2'],
      ['test-key', 'a value'],
      ['aws-crypto-public-key', 'x'],
    ];
    const context = pairsOf(stored);
    const header = read(headerBytes({ context }));
    expect(Buffer.from(header.body).includes(context)).toBe(true);
    expect(Buffer.from(header.context)).toEqual(pairsOf([stored[3]!, stored[2]!, stored[1]!, stored[0]!]));
    expect({ ...messageContext(header) }).toEqual(Object.fromEntries(stored));
  });

  it('reads a message that is not framed', () => {
    expect(read(headerBytes({ contentType: 1, frameLength: 0 })).frameLength).toBe(0);
  });

  it('gives bytes that stay when those it was given are overwritten', () => {
    for (const bytes of [headerBytes({ context: SIGNED_CONTEXT }), new Uint8Array(headerBytes())]) {
      const before = JSON.stringify(read(bytes));
      const header = read(bytes);
      bytes.fill(0x55);
      expect(JSON.stringify(header)).toBe(before);
    }
  });

  it('reads from the middle of a larger buffer', () => {
    const header = headerBytes();
    const around = Buffer.concat([Buffer.alloc(9, 0x02), header, Buffer.alloc(9)]);
    expect(read(around.subarray(9)).body).toEqual(read(header).body);
  });

  it('asks for more bytes at every proper prefix, taking none out of it', () => {
    class Untouchable extends Uint8Array {
      override subarray(): never {
        throw new Error('a view was taken');
      }
      override slice(): never {
        throw new Error('a copy was taken');
      }
    }
    const bytes = headerBytes({
      suite: 0x0578,
      context: SIGNED_CONTEXT,
      dataKeys: [
        ['a', 'b', 'c'],
        ['', '', ''],
      ],
    });
    for (let length = 0; length < bytes.length; length++) {
      expect(readMessageHeader(new Untouchable(bytes.subarray(0, length)))).toBeUndefined();
    }
    expect(read(bytes).length).toBe(bytes.length);
  });

  it('says nothing but DekdError when one byte is another, and reads nothing but what is there', () => {
    const bytes = headerBytes({
      context: pairsOf([['a', 'é']]),
      dataKeys: [
        ['n', 'i', 'c'],
        ['é', '', ''],
      ].map(utf8),
    });
    const seen = { refused: 0, short: 0, read: 0 };
    for (let at = 0; at < bytes.length; at++) {
      for (let change = 1; change < 256; change++) {
        const changed = Buffer.from(bytes);
        changed[at]! ^= change;
        let header: MessageHeader | undefined;
        try {
          header = readMessageHeader(changed);
        } catch (error) {
          if (!DekdError.is(error) || error.code === 'INTERNAL') {
            throw error;
          }
          seen.refused++;
          continue;
        }
        seen[header === undefined ? 'short' : 'read']++;
        if (header !== undefined && !changed.subarray(0, header.body.length).equals(header.body)) {
          throw new Error(`body is not what was read, change ${change} at ${at}`);
        }
      }
    }
    expect(seen.refused).toBeGreaterThan(3_000);
    expect(seen.short).toBeGreaterThan(200);
    expect(seen.read).toBeGreaterThan(80 * 255);
  });
});

describe('refusals', () => {
  const long = Buffer.alloc(300);
  const tight: MessageLimits = { maxHeader: 120, maxDataKeys: 2, maxFrameLength: 1000 };
  const dataKeysOf = (count: number): string[][] => new Array(count).fill(['', '', '']);
  const contextAt = 1 + 2 + 32 + 2;

  /** What is refused, the bytes, how many of them it takes, code and part of the sentence. */
  const cases: [string, Uint8Array, number, ErrorCode, string, MessageLimits?][] = [
    ['a message of version 1', Buffer.from('0180037801', 'hex'), 2, 'UNSUPPORTED_VERSION', 'version 1'],
    ['01 without 80', Buffer.from('0181037801', 'hex'), 2, 'MALFORMED', 'not a message'],
    ['version 3', Buffer.from('0304780000', 'hex'), 1, 'MALFORMED', 'the byte 02'],
    ['a token', Buffer.from('c101000000', 'hex'), 1, 'MALFORMED', 'dekd token'],
    ['an unknown suite', headerBytes({ suite: 0x9999 }), 3, 'UNSUPPORTED_VERSION', '0x9999 is not supported'],
    ['suite 0', headerBytes({ suite: 0 }), 3, 'UNSUPPORTED_VERSION', '0x0000 is not'],
    ...[0x0014, 0x0046, 0x0078, 0x0114, 0x0146, 0x0178, 0x0214, 0x0346, 0x0378].map(
      (suite): [string, Uint8Array, number, ErrorCode, string] => [
        `suite ${suite.toString(16)}`,
        headerBytes({ suite }),
        3,
        'UNSUPPORTED_VERSION',
        `0x${suite.toString(16).padStart(4, '0')} is not supported: it does not commit to its key`,
      ],
    ),

    ...[1, 2, 3, 4, 5].map((length): [string, Uint8Array, number, ErrorCode, string] => [
      `a context of ${length} bytes`,
      headerBytes({ context: Buffer.alloc(length) }),
      contextAt,
      'MALFORMED',
      'no pair has room',
    ]),
    ['a context of no pairs', headerBytes({ context: Buffer.alloc(9) }), contextAt + 2, 'MALFORMED', 'no bytes'],
    [
      'more pairs than have room',
      headerBytes({ context: pairsOf([['a', '1']], 3) }),
      contextAt + 2,
      'MALFORMED',
      'short',
    ],
    ['a pair missing', headerBytes({ context: pairsOf([['aaaa', '1']], 2) }), contextAt + 4, 'MALFORMED', 'short'],
    [
      'a pair too many',
      headerBytes({
        context: pairsOf(
          [
            ['a', '1'],
            ['b', '2'],
          ],
          1,
        ),
      }),
      contextAt + 2 + 3 + 2,
      'MALFORMED',
      'follow its last pair',
    ],
    [
      'a name twice',
      headerBytes({
        context: pairsOf([
          ['a', '1'],
          ['b', '1'],
          ['a', '2'],
        ]),
      }),
      headerBytes({
        context: pairsOf([
          ['a', '1'],
          ['b', '1'],
          ['c', '2'],
        ]),
      }).length,
      'MALFORMED',
      'two pairs have one name',
    ],
    [
      'a name that is not UTF-8',
      headerBytes({ context: Buffer.concat([u16(1), field(Buffer.of(0x61, 0xff)), field('x')]) }),
      contextAt + 2 + 4,
      'MALFORMED',
      'not UTF-8',
    ],
    [
      'a value that is not UTF-8',
      headerBytes({ context: Buffer.concat([u16(1), field('x'), field(Buffer.of(0xc3))]) }),
      contextAt + 2 + 3 + 3,
      'MALFORMED',
      'not UTF-8',
    ],

    ['no data key', headerBytes({ count: 0 }), FIRST_DATA_KEY, 'MALFORMED', 'no encrypted data key'],
    ['9 data keys', headerBytes({ dataKeys: dataKeysOf(9) }), FIRST_DATA_KEY, 'INVALID_ARGUMENT', '9 encrypted data'],
    ['65,535 data keys', headerBytes({ count: 65_535 }), FIRST_DATA_KEY, 'INVALID_ARGUMENT', 'maxDataKeys of 8'],
    ['3 data keys of 2', headerBytes({ count: 3 }), FIRST_DATA_KEY, 'INVALID_ARGUMENT', 'maxDataKeys of 2', tight],
    [
      'a provider id that is not UTF-8',
      headerBytes({ dataKeys: [[Buffer.of(0x80), 'info', 'wrapped']] }),
      FIRST_DATA_KEY + 3,
      'MALFORMED',
      'provider id is not UTF-8',
    ],
    [
      'the second provider id that is not UTF-8',
      headerBytes({
        dataKeys: [
          ['', '', ''],
          [Buffer.of(0xed, 0xa0, 0x80), '', ''],
        ],
      }),
      FIRST_DATA_KEY + 6 + 5,
      'MALFORMED',
      'provider id is not UTF-8',
    ],

    ['content type 0', headerBytes({ contentType: 0 }), FIRST_DATA_KEY + 19 + 1, 'MALFORMED', 'content type is 0'],
    ['content type 3', headerBytes({ contentType: 3 }), FIRST_DATA_KEY + 19 + 1, 'MALFORMED', 'content type is 3'],
    ['frame length 0', headerBytes({ frameLength: 0 }), FIRST_DATA_KEY + 19 + 5, 'MALFORMED', 'frame length 0'],
    [
      'a frame length without frames',
      headerBytes({ contentType: 1 }),
      FIRST_DATA_KEY + 19 + 5,
      'MALFORMED',
      'not framed but has a frame length',
    ],
    [
      'a frame length over its limit',
      headerBytes({ frameLength: 16 * 1024 * 1024 + 1 }),
      FIRST_DATA_KEY + 19 + 5,
      'INVALID_ARGUMENT',
      'frames of 16777217 bytes are over maxFrameLength of 16777216',
    ],
    [
      'the longest frame length',
      headerBytes({ frameLength: 0xffffffff }),
      FIRST_DATA_KEY + 19 + 5,
      'INVALID_ARGUMENT',
      'frames of 4294967295 bytes',
    ],

    [
      'a context over the limit of the header',
      headerBytes({ context: encodeContext({ a: 'x'.repeat(30) }) }),
      contextAt,
      'INVALID_ARGUMENT',
      'header of at least 135 bytes is over maxHeader of 120',
      tight,
    ],
    [
      'a context of 65,535 bytes, whatever is in it',
      headerBytes({ context: Buffer.alloc(65_535) }),
      contextAt,
      'INVALID_ARGUMENT',
      'over maxHeader of 65536',
    ],
    [
      'data keys that cannot fit',
      headerBytes({ context: encodeContext({ a: 'x'.repeat(10) }), count: 2 }),
      contextAt + 17 + 2,
      'INVALID_ARGUMENT',
      'header of at least 121 bytes is over maxHeader of 120',
      tight,
    ],
    [
      'a provider id over the limit of the header',
      headerBytes({ dataKeys: [[long, '', '']] }),
      FIRST_DATA_KEY + 2,
      'INVALID_ARGUMENT',
      'header of at least 398 bytes is over maxHeader of 120',
      tight,
    ],
    [
      'a provider info over the limit of the header',
      headerBytes({ dataKeys: [['', long, '']] }),
      FIRST_DATA_KEY + 4,
      'INVALID_ARGUMENT',
      'header of at least 398 bytes is over maxHeader of 120',
      tight,
    ],
    [
      'an encrypted data key that is one byte over the limit of the header',
      headerBytes({ dataKeys: [['n', '', Buffer.alloc(22)]] }),
      FIRST_DATA_KEY + 2 + 1 + 2 + 2,
      'INVALID_ARGUMENT',
      'header of at least 121 bytes is over maxHeader of 120',
      tight,
    ],
  ];

  it.each(cases)('come for %s with the byte that shows it', (_, bytes, at, code, part, limits = undefined) => {
    for (let length = 0; length < at; length++) {
      expect(readMessageHeader(bytes.subarray(0, length), limits)).toBeUndefined();
    }
    const early = refusal(() => readMessageHeader(bytes.subarray(0, at), limits));
    expect(early.code).toBe(code);
    expect(early.message).toContain(part);
    expect(refusal(() => readMessageHeader(bytes, limits)).code).toBe(code);
  });

  it('are not for what is at every limit', () => {
    const bytes = headerBytes({
      dataKeys: [
        ['n', '', Buffer.alloc(15)],
        ['', '', ''],
      ],
      frameLength: 1000,
    });
    expect(bytes.length).toBe(120);
    expect(read(bytes, tight).dataKeys).toHaveLength(2);
    expect(read(headerBytes({ dataKeys: dataKeysOf(8), frameLength: 16 * 1024 * 1024 })).length).toBe(92 + 8 * 6);
    const full = encodeContext({ a: 'x'.repeat(DEFAULT_MESSAGE_LIMITS.maxHeader - 92 - 7 - 19) });
    expect(read(headerBytes({ context: full })).length).toBe(65_536);
    const over = encodeContext({ a: 'x'.repeat(DEFAULT_MESSAGE_LIMITS.maxHeader - 92 - 7 - 19 + 1) });
    expect(refusal(() => read(headerBytes({ context: over }))).message).toContain('65537');
  });

  it.each([
    ['a message in base64', headerBytes().toString('base64'), 'message in base64'],
    ['a signed message in base64', headerBytes({ suite: 0x0578 }).toString('base64'), 'message in base64'],
    ['a message of version 1 in base64', Buffer.from('01800378', 'hex').toString('base64'), 'message in base64'],
    ['the first two characters of base64, version 2', 'Ag', 'message in base64'],
    ['the first two characters of base64, version 1', 'AY', 'message in base64'],
    ['JSON', '{"a":1}', 'this is JSON'],
    ['indented JSON', '\n  {"a":1}', 'this is JSON'],
    ['the string form of a token', 'dk1.wQEA', 'string form of a token'],
    ['Vault text', 'vault:v1:abc', 'Vault Transit'],
    ['text', 'Agnes', 'the byte 02'],
  ])('name %s', (_, text, part) => {
    const { code, message } = refusal(() => readMessageHeader(Buffer.from(text)));
    expect(code).toBe('MALFORMED');
    expect(message).toContain(part);
    expect(refusal(() => readMessageHeader(Buffer.from(text.slice(0, 1)))).code).toBe('MALFORMED');
  });

  it('show nothing of a context', () => {
    const bytes = headerBytes({
      context: pairsOf([
        ['secret', 'secret'],
        ['secret', 'other secret'],
      ]),
    });
    expect(refusal(() => readMessageHeader(bytes)).message).not.toContain('secret');
  });
});

describe('MessageHeaderReader', () => {
  it('reads a header that comes byte by byte, from a buffer that moves', () => {
    const bytes = headerBytes({
      context: SIGNED_CONTEXT,
      dataKeys: [
        ['a', 'b', 'c'],
        ['', '', ''],
      ],
    });
    const reader = new MessageHeaderReader();
    for (let length = 0; length < bytes.length; length++) {
      expect(reader.read(new Uint8Array(bytes.subarray(0, length)))).toBeUndefined();
    }
    expect(JSON.stringify(reader.read(bytes))).toBe(JSON.stringify(read(bytes)));
  });

  it('looks at the bytes of a large header a few times in all, however they come', () => {
    const pairs = Array.from({ length: 6_000 }, (_, i): [string, string] => [String(i).padStart(5, '0'), '']);
    const bytes = headerBytes({ context: pairsOf(pairs), dataKeys: [['n', Buffer.alloc(5_000), 'c']] });
    expect(bytes.length).toBeGreaterThan(59_000);
    let arrived = 0;
    let looks = 0;
    const arriving = new Proxy(bytes, {
      get(target, property) {
        if (property === 'length') {
          return arrived;
        }
        const value: unknown = target[property as keyof Buffer];
        if (typeof value === 'function') {
          return value.bind(target);
        }
        looks++;
        return value;
      },
    });
    const reader = new MessageHeaderReader();
    let header: MessageHeader | undefined;
    for (; header === undefined; arrived++) {
      header = reader.read(arriving);
    }
    expect(header.length).toBe(bytes.length);
    expect(looks).toBeLessThan(6 * bytes.length);
  });

  it('is of no use after the header and after an error', () => {
    const done = new MessageHeaderReader();
    done.read(headerBytes());
    expect(refusal(() => done.read(headerBytes())).code).toBe('INTERNAL');
    const dead = new MessageHeaderReader();
    refusal(() => dead.read(Buffer.of(0xff)));
    expect(refusal(() => dead.read(headerBytes())).code).toBe('INTERNAL');
  });
});

describe('messageContext', () => {
  it('gives names and values as data, reserved names too', () => {
    const context = messageContext(
      read(
        headerBytes({
          context: pairsOf([
            ['__proto__', 'p'],
            ['a', 'é'],
          ]),
        }),
      ),
    );
    expect(Object.getPrototypeOf(context)).toBeNull();
    expect(Object.entries(context)).toEqual([
      ['__proto__', 'p'],
      ['a', 'é'],
    ]);
    expect(messageContext(read(headerBytes({ context: SIGNED_CONTEXT })))).toEqual({
      'aws-crypto-public-key': 'Ar4=',
      tenant: 'acme',
    });
    expect(messageContext(read(headerBytes()))).toEqual({});
  });
});
