import { constants, createDecipheriv, privateDecrypt } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DATA_KEY_USE, type Engine } from '../../src/crypto/engine.ts';
import { encodeContext } from '../../src/envelope/context.ts';
import { type EncryptedDataKey, type MessageHeader, messageContext } from '../../src/envelope/message-header.ts';
import { MessageOpening } from '../../src/operations/message-opening.ts';
import { u16 } from '../support/big-endian.ts';
import { ENGINE_NAMES, engineUnderTest } from '../support/engines.ts';
import { readVectorArchive, type VectorArchive } from './vector-files.ts';

type Context = Readonly<Record<string, string>>;

/** A key of `keys.json` that opens data keys, and how. */
interface RawKey {
  readonly provider: string;
  readonly name: string;
  readonly encryption: 'aes' | 'rsa';
  /** Of RSA-OAEP. */
  readonly hash: string | undefined;
  /** In base64 or PEM. */
  readonly material: string;
}

/** A message that the AWS Encryption SDK for .NET wrote. */
interface NetCase {
  readonly name: string;
  readonly ciphertext: Buffer;
  /** All of it, whether the message stores it or not. */
  readonly context: Context;
  readonly plaintext: Buffer;
  /** Undefined for a message whose data key only a KMS can open. */
  readonly key: RawKey | undefined;
}

interface Outcome {
  /** All that was given out, also of a message that was then refused. */
  readonly plaintext: Buffer;
  /** Undefined when the message was opened. */
  readonly refusal: string | undefined;
  /** Whether the data key was asked for and found. */
  readonly foundKey: boolean;
}

/** What a manifest says of one message. */
interface Entry {
  readonly ciphertext: string;
  readonly 'encryption-context': Context;
  readonly 'master-keys': readonly {
    readonly type: string;
    readonly key: string;
    readonly 'provider-id'?: string;
    readonly 'encryption-algorithm'?: string;
    readonly 'padding-hash'?: string;
  }[];
  readonly result: { readonly output: { readonly plaintext: string } };
}

interface Keys {
  readonly [name: string]: { readonly decrypt: boolean; readonly 'key-id': string; readonly material?: string };
}

const PIECES = [1, 500, 100_000];
const TAG_LENGTH = 16;
const IV_LENGTH = 12;

const newer = readVectorArchive('esdk-net-4.0.1');
const older = readVectorArchive('esdk-net-4.0.0');
const wrong = readVectorArchive('esdk-net-4.0.0-invalid');
const missing = newer.missing ?? older.missing ?? wrong.missing;

const valid = [...casesOf(newer), ...casesOf(older)];
const invalid = casesOf(wrong);
const openable = valid.filter((each) => each.key !== undefined && isCurrent(each));

describe('messages of the AWS Encryption SDK for .NET', () => {
  it('are all there', ({ skip }) => {
    if (missing !== undefined) {
      skip(missing);
    }
    expect(valid.length).toBe(132 + 5);
    expect(valid.filter(isCurrent).length).toBe(24 + 2);
    expect(openable.length).toBe(18 + 2);
    expect(openable.filter(({ key }) => key?.encryption === 'aes').length).toBe(6 + 2);
    expect(openable.filter(isRequiring).length).toBe(6 + 2);
    expect([invalid.length, invalid.filter(isCurrent).length]).toEqual([28, 4]);
  });
});

describe.each(ENGINE_NAMES)('messages of the AWS Encryption SDK for .NET and the %s engine', async (name) => {
  const under = await engineUnderTest(name);
  let engine: Engine | undefined;

  beforeEach(({ skip }) => {
    if (missing !== undefined || under.missing !== undefined) {
      return skip(missing ?? under.missing);
    }
    engine = under.create();
  });

  afterEach(() => {
    expect(engine?.stats().used ?? 0).toBe(0);
    engine?.close();
  });

  it('those of version 2 open, bound to the pairs that they do not store', async () => {
    for (const each of openable) {
      for (const piece of PIECES) {
        const { plaintext, refusal } = await outcomeOf(engine!, each, piece);
        expect([each.name, piece, refusal]).toEqual([each.name, piece, undefined]);
        expect(plaintext.equals(each.plaintext)).toBe(true);
      }
    }
  });

  it('they do not open when a pair that they do not store is another or none', async () => {
    for (const each of openable.filter(isRequiring)) {
      for (const required of [{}, { key1: 'val1' }, { ...each.context, key2: 'val3' }]) {
        const { plaintext, refusal, foundKey } = await outcomeOf(engine!, each, 500, required);
        expect([each.name, refusal, plaintext.length, foundKey]).toEqual([each.name, 'DECRYPTION_FAILED', 0, true]);
      }
    }
  });

  it('those whose header tag is of other bytes are refused, though their data keys open', async () => {
    for (const each of invalid.filter(isCurrent)) {
      for (const piece of PIECES) {
        const { plaintext, refusal, foundKey } = await outcomeOf(engine!, each, piece);
        expect([each.name, refusal, plaintext.length, foundKey]).toEqual([each.name, 'DECRYPTION_FAILED', 0, true]);
      }
    }
  });

  it('those of version 1 are refused, valid or not, before their data key is asked for', async () => {
    const old = [...valid, ...invalid].filter((each) => !isCurrent(each));
    expect(old.length).toBe(111 + 24);
    for (const each of old) {
      const { plaintext, refusal, foundKey } = await outcomeOf(engine!, each, 500);
      expect([each.name, refusal, plaintext.length, foundKey]).toEqual([each.name, 'UNSUPPORTED_VERSION', 0, false]);
    }
  });
});

/** @param required what is claimed to be bound and not stored */
async function outcomeOf(engine: Engine, message: NetCase, piece: number, required?: Context): Promise<Outcome> {
  const { ciphertext, context, key } = message;
  let foundKey = false;
  const opening = new MessageOpening({
    engine,
    dataKeyOf: async (header) => {
      const bytes = dataKeyOf(header, key!, { ...messageContext(header), ...context });
      foundKey = true;
      return engine.importSecret(bytes, DATA_KEY_USE);
    },
    requiredOf: (header) => encodeContext(required ?? notStored(header, context)),
  });
  const pieces: Uint8Array[] = [];
  let refusal: string | undefined;
  try {
    for (let at = 0; at < ciphertext.length; at += piece) {
      pieces.push(await opening.push(ciphertext.subarray(at, at + piece)));
    }
    pieces.push(opening.end());
  } catch (error) {
    refusal = (error as { code?: string }).code ?? String(error);
  }
  return { plaintext: Buffer.concat(pieces), refusal, foundKey };
}

function dataKeyOf({ dataKeys }: MessageHeader, key: RawKey, whole: Context): Uint8Array {
  const named = (info: Uint8Array) => Buffer.from(info).toString('latin1').startsWith(key.name);
  const own = dataKeys.find(({ providerId, providerInfo }) => providerId === key.provider && named(providerInfo))!;
  return key.encryption === 'aes' ? openedByAes(own, key, whole) : openedByRsa(own, key);
}

/** The layout of raw AES keyrings: the name, 128 and 12 as u32, and the nonce; the whole context is authenticated. */
function openedByAes({ providerInfo, ciphertext }: EncryptedDataKey, key: RawKey, whole: Context): Uint8Array {
  const wrapping = Buffer.from(key.material, 'base64');
  const nonce = providerInfo.subarray(providerInfo.length - IV_LENGTH);
  const decipher = createDecipheriv('aes-256-gcm', wrapping, nonce, { authTagLength: TAG_LENGTH });
  decipher.setAAD(serialized(whole)).setAuthTag(ciphertext.subarray(-TAG_LENGTH));
  return new Uint8Array(Buffer.concat([decipher.update(ciphertext.subarray(0, -TAG_LENGTH)), decipher.final()]));
}

function openedByRsa({ ciphertext }: EncryptedDataKey, { material, hash }: RawKey): Uint8Array {
  const padding = constants.RSA_PKCS1_OAEP_PADDING;
  return new Uint8Array(privateDecrypt({ key: material, padding, oaepHash: hash! }, ciphertext));
}

/** The pairs in ascending order of their names' bytes; unlike a caller's context it may have reserved names. */
function serialized(context: Context): Buffer {
  const pairs = Object.entries(context).map((pair) => pair.map((text) => Buffer.from(text)));
  pairs.sort(([a], [b]) => Buffer.compare(a!, b!));
  const fields = pairs.flat().flatMap((text) => [u16(text.length), text]);
  return pairs.length === 0 ? Buffer.alloc(0) : Buffer.concat([u16(pairs.length), ...fields]);
}

function notStored(header: MessageHeader, context: Context): Context {
  const stored = messageContext(header);
  return Object.fromEntries(Object.entries(context).filter(([name]) => !Object.hasOwn(stored, name)));
}

function casesOf(archive: VectorArchive): NetCase[] {
  if (archive.missing !== undefined) {
    return [];
  }
  const { files } = archive;
  const { tests } = json<{ tests: Record<string, Entry> }>(files, 'manifest.json');
  const { keys } = json<{ keys: Keys }>(files, 'keys.json');
  return Object.entries(tests).map(([name, entry]) => ({
    name,
    ciphertext: fileAt(files, entry.ciphertext),
    context: entry['encryption-context'],
    plaintext: fileAt(files, entry.result.output.plaintext),
    key: rawKeyOf(entry, keys),
  }));
}

/** The first key of the message that can open its data key without a KMS. */
function rawKeyOf(entry: Entry, keys: Keys): RawKey | undefined {
  for (const master of entry['master-keys']) {
    const { decrypt, 'key-id': name, material } = keys[master.key]!;
    const encryption = master['encryption-algorithm'];
    if (decrypt && material !== undefined && (encryption === 'aes' || encryption === 'rsa')) {
      return { provider: master['provider-id']!, name, encryption, hash: master['padding-hash'], material };
    }
  }
  return undefined;
}

function json<T>(files: ReadonlyMap<string, Buffer>, path: string): T {
  return JSON.parse(fileAt(files, path).toString('utf8')) as T;
}

function fileAt(files: ReadonlyMap<string, Buffer>, uri: string): Buffer {
  const path = uri.replace('file://', '');
  const bytes = files.get(path);
  if (bytes === undefined) {
    throw new Error(`the published archive has no ${path}`);
  }
  return bytes;
}

/** Of version 2, the only one that is read. */
function isCurrent({ ciphertext }: NetCase): boolean {
  return ciphertext[0] === 2;
}

function isRequiring({ name }: NetCase): boolean {
  return name.includes('cmm_RequiredEncryptionContext');
}
