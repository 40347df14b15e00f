import { hkdfSync, randomBytes } from 'node:crypto';
import { gunzipSync } from 'node:zlib';
import {
  AlgorithmSuiteIdentifier,
  buildClient,
  CommitmentPolicy,
  type KeyringNode,
  MultiKeyringNode,
  RawAesKeyringNode,
  RawAesWrappingSuiteIdentifier,
} from '@aws-crypto/client-node';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  DATA_KEY_INFO_LENGTH,
  DATA_KEY_USE,
  type Engine,
  type KeyHandle,
  MESSAGE_KEY_USE,
} from '../../src/crypto/engine.ts';
import { encodeContext } from '../../src/envelope/context.ts';
import { sealedBodyLength } from '../../src/envelope/message-body.ts';
import {
  type EncryptedDataKey,
  type MessageHeader,
  messageContext,
  readMessageHeader,
} from '../../src/envelope/message-header.ts';
import { COMPRESSION_NAME, CONTENT_NAME } from '../../src/envelope/own-names.ts';
import { decryptionFailed } from '../../src/errors.ts';
import { BlockCompressor } from '../../src/operations/compressed-value.ts';
import { MessageOpening } from '../../src/operations/message-opening.ts';
import { MessageSealing, sealMessage } from '../../src/operations/message-sealing.ts';
import { WorkPool } from '../../src/pool/pool.ts';
import { ENGINE_NAMES, engineUnderTest, importKey } from '../support/engines.ts';

/** Messages of dekd and of the AWS Encryption SDK for JavaScript, each opened by the other. */
type Context = Readonly<Record<string, string>>;

/** A plaintext of so many bytes in frames of so many. */
interface Size {
  readonly frameLength: number;
  readonly length: number;
}

/** What opening gave. */
interface Outcome {
  readonly plaintext: Uint8Array;
  readonly context: Context;
  /** Bytes of it that were given out before the end of the message was asked for. */
  readonly early: number;
  /** Undefined when the message was opened. */
  readonly refusal: string | undefined;
}

const FRAME = 64;
const SIZES: readonly Size[] = [
  ...[0, 1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME].map((length) => ({ frameLength: FRAME, length })),
  { frameLength: 1, length: 0 },
  { frameLength: 1, length: 5 },
  { frameLength: 65_536, length: 200 * 1024 },
];

/** Names whose order is another in UTF-16 than in UTF-8, and another in a dictionary. */
const SEVERAL: Context = { '\u{1f511}': 'above', '\uff5e': 'below', a: 'lower', B: 'upper', é: '', '': 'no name' };
const ASCII: Context = { tenant: 'acme', table: 'users' };
const CONTEXTS: readonly Context[] = [{}, ASCII, SEVERAL, { city: 'Zürich', 'mood-\u{1f600}': '\u{1f642} \u{10ffff}' }];

const CASES: readonly (Size & { readonly context: Context })[] = [
  ...SIZES.map((size) => ({ ...size, context: ASCII })),
  ...CONTEXTS.map((context) => ({ frameLength: FRAME, length: 2 * FRAME + 5, context })),
];

/** How a message or a plaintext is cut; the last takes it whole. */
const PIECES = [1, 77, 4096, 1_000_000];

const NAMESPACE = 'dekd';
const EPOCH = Buffer.from('000102030405060708090a0b', 'hex');
const SECRET = new Uint8Array(32).map((_, i) => 7 * i);
const OTHER_SECRET = new Uint8Array(32).map((_, i) => 255 - i);
const NOTHING = new Uint8Array(0);
/** Bytes of the name of a wrapping key: kid 16, a point, epoch 12, in hexadecimal. */
const NAME_LENGTH = 57;

const UNSIGNED = AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY;
const SIGNED = AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY_ECDSA_P384;
const SUITES = [
  ['0x0478', UNSIGNED],
  ['0x0578', SIGNED],
] as const;
const PUBLIC_KEY = 'aws-crypto-public-key';

const stock = buildClient(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT);

describe.each(ENGINE_NAMES)('the stock SDK and dekd with the %s engine', async (name) => {
  const under = await engineUnderTest(name);
  let engine: Engine;

  beforeEach(({ skip }) => {
    if (under.missing !== undefined) {
      return skip(under.missing);
    }
    engine = under.create();
  });

  afterEach(() => {
    expect(engine?.stats().used ?? 0).toBe(0);
    engine?.close();
  });

  it('stock opens what dekd sealed, whole and in pieces', async () => {
    for (const each of CASES) {
      const plaintext = randomBytes(each.length);
      for (const piece of [undefined, ...PIECES]) {
        const message = sealed(engine, plaintext, each, { piece });
        const { plaintext: opened, messageHeader } = await stock.decrypt(keyringOf(engine, message), message);
        expect([each, piece, opened.equals(plaintext)]).toEqual([each, piece, true]);
        expect({ ...messageHeader.encryptionContext }).toEqual(each.context);
        expect(messageHeader.suiteId).toBe(UNSIGNED);
      }
    }
  });

  it('stock opens a large object, sees in the header what it is, and gzip reads what is in it', async () => {
    const value = Buffer.from(JSON.stringify(Array.from({ length: 60_000 }, (_, id) => ({ id }))));
    const pool = new WorkPool({ engine, workers: 0, maxPayload: 1 << 20 });
    const blocks = new BlockCompressor(pool, {}, 'gzip');
    blocks.push(value);
    const compressed = Buffer.concat(await blocks.flush());
    await pool.close();
    const context = { [CONTENT_NAME]: 'json', [COMPRESSION_NAME]: 'gzip', tenant: 'acme' };
    const message = sealed(engine, compressed, { frameLength: 65_536, context }, { piece: 100_000 });
    const { plaintext, messageHeader } = await stock.decrypt(keyringOf(engine, message), message);
    expect({ ...messageHeader.encryptionContext }).toEqual(context);
    expect(gunzipSync(plaintext).equals(value)).toBe(true);
  });

  it.each(SUITES)('dekd opens what stock sealed with suite %s, in pieces of any size', async (_, suiteId) => {
    for (const each of CASES) {
      const plaintext = randomBytes(each.length);
      const message = await stockSealed(keyring(engine, SECRET), plaintext, each, suiteId);
      for (const piece of PIECES) {
        const outcome = await opened(engine, message, piece);
        expect([each, piece, outcome.refusal]).toEqual([each, piece, undefined]);
        expect([each, piece, Buffer.from(outcome.plaintext).equals(plaintext)]).toEqual([each, piece, true]);
        expect(outcome.early).toBe(suiteId === SIGNED ? 0 : plaintext.length);
        const key = suiteId === SIGNED ? { [PUBLIC_KEY]: expect.any(String) } : {};
        expect(outcome.context).toEqual({ ...each.context, ...key });
      }
    }
  });

  it('stock passes over data keys of others in what dekd sealed, and so do the others over ours', async () => {
    const plaintext = randomBytes(3 * FRAME);
    const size = { frameLength: FRAME, length: plaintext.length, context: SEVERAL };
    for (const others of [[strangeDataKey()], [], [strangeDataKey(), strangeDataKey()]]) {
      const message = sealed(engine, plaintext, size, { others, secrets: [OTHER_SECRET, SECRET] });
      const held = readMessageHeader(message)?.dataKeys ?? [];
      expect(held.length).toBe(others.length + 2);
      for (const secret of [SECRET, OTHER_SECRET]) {
        const { plaintext: opened } = await stock.decrypt(keyringOf(engine, message, secret), message);
        expect(opened.equals(plaintext)).toBe(true);
      }
    }
  });

  it.each(SUITES)('dekd takes its data key among those of others in what stock sealed with %s', async (_, suiteId) => {
    const plaintext = randomBytes(FRAME + 1);
    const strange = rawKeyring('elsewhere', nameOf(kidOf(engine, SECRET), EPOCH), randomBytes(32));
    const other = keyring(engine, OTHER_SECRET);
    for (const first of [strange, other]) {
      const children = [first === strange ? other : strange, keyring(engine, SECRET)];
      const all = new MultiKeyringNode({ generator: first, children });
      const message = await stockSealed(all, plaintext, { frameLength: FRAME, context: SEVERAL }, suiteId);
      expect(readMessageHeader(message)?.dataKeys.length).toBe(3);
      for (const secret of [SECRET, OTHER_SECRET]) {
        const outcome = await opened(engine, message, message.length, secret);
        expect(outcome.refusal).toBeUndefined();
        expect(Buffer.from(outcome.plaintext).equals(plaintext)).toBe(true);
      }
      const nobody = await opened(engine, message, message.length, randomBytes(32));
      expect([nobody.refusal, nobody.plaintext.length]).toEqual(['DECRYPTION_FAILED', 0]);
    }
  });

  it('stock refuses what dekd sealed with one bit changed anywhere: header, its tag, frames, their tags', async () => {
    const plaintext = randomBytes(2 * FRAME + 5);
    const message = sealed(engine, plaintext, { frameLength: FRAME, context: ASCII });
    const own = keyringOf(engine, message);
    const accepted: number[] = [];
    for (let at = 0; at < message.length; at++) {
      const answer = await stock.decrypt(own, changed(message, at)).catch(() => undefined);
      if (answer !== undefined) {
        accepted.push(at);
      }
    }
    expect(accepted).toEqual([]);
    expect((await stock.decrypt(own, message)).plaintext.equals(plaintext)).toBe(true);
  });

  it('dekd refuses what stock signed with one bit of the signature changed, and gives nothing out', async () => {
    const plaintext = randomBytes(2 * FRAME + 5);
    const own = keyring(engine, SECRET);
    const message = await stockSealed(own, plaintext, { frameLength: FRAME, context: ASCII }, SIGNED);
    const footer = readMessageHeader(message)!.length + sealedBodyLength(plaintext.length, FRAME);
    const signature = message.subarray(footer + 2);
    expect(message.readUInt16BE(footer)).toBe(signature.length);
    for (let at = footer; at < message.length; at++) {
      const { refusal, plaintext: given } = await opened(engine, changed(message, at), 77);
      // Of another length it may be cut short, too long for the curve, or followed by something.
      const codes = at < footer + 2 ? ['DECRYPTION_FAILED', 'MALFORMED'] : ['DECRYPTION_FAILED'];
      expect([at, codes, given.length]).toEqual([at, expect.arrayContaining([refusal]), 0]);
    }
    const again = await stockSealed(own, plaintext, { frameLength: FRAME, context: ASCII }, SIGNED);
    const foreign = again.subarray(again.length - again.readUInt16BE(footer) - 2);
    const exchanged = await opened(engine, Buffer.concat([message.subarray(0, footer), foreign]), 77);
    expect([exchanged.refusal, exchanged.plaintext.length]).toEqual(['DECRYPTION_FAILED', 0]);
    const without = await opened(engine, message.subarray(0, footer), 77);
    expect([without.refusal, without.plaintext.length]).toEqual(['MALFORMED', 0]);
  });

  it.each(SUITES)('dekd refuses bytes behind what stock sealed with suite %s', async (_, suiteId) => {
    for (const length of [0, 5, FRAME]) {
      const plaintext = randomBytes(length);
      const own = keyring(engine, SECRET);
      const message = await stockSealed(own, plaintext, { frameLength: FRAME, context: {} }, suiteId);
      for (const behind of [Uint8Array.of(0), message]) {
        const long = Buffer.concat([message, behind]);
        for (const piece of [1, message.length, long.length]) {
          const { refusal, plaintext: given } = await opened(engine, long, piece);
          expect([length, behind.length, piece, refusal]).toEqual([length, behind.length, piece, 'MALFORMED']);
          expect(suiteId === SIGNED ? given.length : 0).toBe(0);
        }
      }
    }
  });
});

/** A message of dekd; its data key was made in the engine and wrapped under the message key of every secret. */
function sealed(
  engine: Engine,
  plaintext: Uint8Array,
  { frameLength, context }: { frameLength: number; context: Context },
  how: { piece?: number | undefined; others?: EncryptedDataKey[]; secrets?: Uint8Array[] } = {},
): Buffer {
  const { piece, others = [], secrets = [SECRET] } = how;
  const bytes = encodeContext(context);
  const dataKey = engine.generateKey(DATA_KEY_USE);
  try {
    const dataKeys = [...others, ...secrets.map((secret) => wrapped(engine, secret, dataKey, bytes))];
    const options = { engine, dataKey, dataKeys, context: bytes, required: NOTHING, frameLength };
    if (piece === undefined) {
      return Buffer.from(sealMessage(plaintext, options));
    }
    const sealing = new MessageSealing(options);
    const parts = [sealing.header, ...cut(plaintext, piece).map((part) => sealing.update(part)), sealing.end()];
    return Buffer.concat(parts);
  } finally {
    engine.destroyKey(dataKey);
  }
}

function wrapped(engine: Engine, secret: Uint8Array, dataKey: KeyHandle, context: Uint8Array): EncryptedDataKey {
  const messageKey = importKey(engine, secret, MESSAGE_KEY_USE);
  try {
    const both = engine.wrapDataKey(messageKey, dataKey, context);
    return {
      providerId: NAMESPACE,
      providerInfo: both.subarray(0, DATA_KEY_INFO_LENGTH),
      ciphertext: both.subarray(DATA_KEY_INFO_LENGTH),
    };
  } finally {
    engine.destroyKey(messageKey);
  }
}

/** A data key of a provider that nobody here knows. */
function strangeDataKey(): EncryptedDataKey {
  return { providerId: 'elsewhere', providerInfo: randomBytes(DATA_KEY_INFO_LENGTH), ciphertext: randomBytes(48) };
}

async function opened(engine: Engine, message: Uint8Array, piece: number, secret = SECRET): Promise<Outcome> {
  const opening = new MessageOpening({
    engine,
    dataKeyOf: async (header) => unwrapped(engine, header, secret),
    requiredOf: () => NOTHING,
  });
  const parts: Uint8Array[] = [];
  let early = 0;
  let refusal: string | undefined;
  try {
    for (const part of cut(message, piece)) {
      const given = await opening.push(part);
      early += given.length;
      parts.push(given);
    }
    parts.push(opening.end());
  } catch (error) {
    refusal = (error as { code?: string }).code ?? String(error);
  }
  const context = opening.header === undefined ? {} : { ...messageContext(opening.header) };
  return { plaintext: Buffer.concat(parts), context, early, refusal };
}

/** The data key that lies in the header for the message key with these bytes. */
function unwrapped(engine: Engine, { dataKeys, context }: MessageHeader, secret: Uint8Array) {
  const messageKey = importKey(engine, secret, MESSAGE_KEY_USE);
  try {
    const kid = Buffer.from(engine.kid(messageKey)).toString('hex');
    const own = dataKeys.find(
      ({ providerId, providerInfo }) =>
        providerId === NAMESPACE && Buffer.from(providerInfo).toString('latin1').startsWith(`${kid}.`),
    );
    if (own === undefined) {
      throw decryptionFailed('no data key for this message key');
    }
    return engine.unwrapDataKey(messageKey, own.providerInfo, own.ciphertext, context);
  } finally {
    engine.destroyKey(messageKey);
  }
}

async function stockSealed(
  keyring: KeyringNode,
  plaintext: Uint8Array,
  { frameLength, context }: { frameLength: number; context: Context },
  suiteId: AlgorithmSuiteIdentifier,
): Promise<Buffer> {
  const { result } = await stock.encrypt(keyring, plaintext, { suiteId, encryptionContext: context, frameLength });
  return result;
}

/** The stock keyring that opens a message of dekd, by the name that dekd gave to the wrapping key. */
function keyringOf(engine: Engine, message: Uint8Array, secret = SECRET): RawAesKeyringNode {
  const kid = Buffer.from(kidOf(engine, secret)).toString('hex');
  const names = readMessageHeader(message)!.dataKeys.map(({ providerInfo }) =>
    Buffer.from(providerInfo.subarray(0, NAME_LENGTH)).toString('latin1'),
  );
  const name = names.find((each) => each.startsWith(kid))!;
  return keyring(engine, secret, Buffer.from(name.slice(kid.length + 1), 'hex'));
}

/** The stock keyring for data keys of one epoch under the message key with these bytes. */
function keyring(engine: Engine, secret: Uint8Array, epoch = EPOCH): RawAesKeyringNode {
  const label = Buffer.concat([Buffer.from('dekd/v1/edk'), epoch]);
  const wrapping = new Uint8Array(hkdfSync('sha256', secret, NOTHING, label, 32));
  return rawKeyring(NAMESPACE, nameOf(kidOf(engine, secret), epoch), wrapping);
}

function rawKeyring(keyNamespace: string, keyName: string, key: Uint8Array): RawAesKeyringNode {
  return new RawAesKeyringNode({
    keyNamespace,
    keyName,
    unencryptedMasterKey: new Uint8Array(key),
    wrappingSuite: RawAesWrappingSuiteIdentifier.AES256_GCM_IV12_TAG16_NO_PADDING,
    utf8Sorting: true,
  });
}

function nameOf(kid: Uint8Array, epoch: Uint8Array): string {
  return `${Buffer.from(kid).toString('hex')}.${Buffer.from(epoch).toString('hex')}`;
}

function kidOf(engine: Engine, secret: Uint8Array): Uint8Array {
  const key = importKey(engine, secret, MESSAGE_KEY_USE);
  const kid = engine.kid(key);
  engine.destroyKey(key);
  return kid;
}

function cut(bytes: Uint8Array, length: number): Uint8Array[] {
  return Array.from({ length: Math.ceil(bytes.length / length) }, (_, i) =>
    bytes.subarray(i * length, (i + 1) * length),
  );
}

/** A copy with one bit of the byte at `at` changed, which one by the position. */
function changed(bytes: Uint8Array, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at]! ^= 1 << (at % 8);
  return copy;
}
