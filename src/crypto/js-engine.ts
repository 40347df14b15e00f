import { DekdError, decryptionFailed } from '../errors.ts';
import type {
  Algorithm,
  BegunMessage,
  CommittedSuite,
  Engine,
  EngineInfo,
  EngineShare,
  KeyHandle,
  KeyTableStats,
  KeyUse,
  OpenedFrames,
  Purpose,
} from './engine.ts';
import {
  DATA_KEY_USE,
  LEGACY_USE,
  MAC_LENGTH,
  MAX_PIPED_LENGTH,
  RAW_AES_USE,
  ROW,
  ROW_STATUS,
  ROW_WORDS,
  SECRET_LENGTH,
  SECRET_USE,
  TOKEN_OVERHEAD,
  WRAPPED_KEY_LENGTH,
} from './engine.ts';
import { DEFAULT_KEY_CAPACITY, JsKeyTable, type KeyEntry } from './js-key-table.ts';
import { JsMessages } from './js-messages.ts';
import { checkFrameId, checkSecretLength, lastingBytes, readFrame, writeFrame } from './key-pipe.ts';
import { legacyRegion } from './legacy.ts';
import type { MessageState } from './message-frames.ts';
import type { Primitives } from './primitives.ts';
import { checkKeyAndNonce, GCM_NONCE_LENGTH, KEY_LENGTH, TAG_LENGTH, XAES_NONCE_LENGTH } from './primitives.ts';
import { checkRandomLength, RandomPool } from './random-pool.ts';
import { readRootKeyLine, writeRootKeyLine } from './root-key-line.ts';
import { SharedKeyReader } from './shared-keys.ts';

export interface JsEngineOptions {
  /** Key slots; 1,024 unless given. */
  readonly capacity?: number;
  /** Draw every nonce from the system instead of from bytes drawn ahead; for images that may be resumed twice. */
  readonly snapshotSafe?: boolean;
  /** Keys can be used by engines in other threads; see `Engine.share`. */
  readonly isShared?: boolean;
  /** The keys are those of the engine that shares this memory; this one makes none. */
  readonly sharedKeys?: SharedArrayBuffer;
}

/** What a cryptographic library must offer for a JavaScript engine. `K` is the library's form of a 32-byte key. */
export interface CipherLibrary<K> {
  /** Takes a copy of 32 bytes. */
  importKey(bytes: Uint8Array): K;
  /** A fresh copy, which the caller wipes. */
  exportKey(key: K): Uint8Array;
  /** Wipes what can be wiped; a KeyObject wipes itself when it is collected. */
  wipeKey(key: K): void;
  /** AES-256 of `block` (a multiple of 16 bytes), block by block. A fresh copy. */
  aesBlocks(key: K, block: Uint8Array): Uint8Array;
  /** AES-256-GCM; writes data.length + 16 bytes at `output[offset]`. */
  gcmSeal(key: K, nonce: Uint8Array, aad: Uint8Array, data: Uint8Array, output: Uint8Array, offset: number): void;
  /** Writes sealed.length - 16 bytes at `output[offset]`, only after the tag matched. @returns whether it did. */
  gcmOpen(key: K, nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array, output: Uint8Array, offset: number): boolean;
  /** HKDF-SHA-256 with an empty salt, 32 bytes. */
  hkdf(key: K, info: Uint8Array): K;
  /** HKDF-SHA-512, at most 64 bytes. A fresh copy, which the caller wipes where it is a key. */
  hkdf512(key: K, salt: Uint8Array, info: Uint8Array, length: number): Uint8Array;
  /** HMAC-SHA-256 of all parts, one behind the other. */
  hmac(key: K, ...parts: Uint8Array[]): Uint8Array;
  equal(a: Uint8Array, b: Uint8Array): boolean;
  fillRandom(target: Uint8Array): void;
}

const FORMAT = 0xc1;
const SUITE = 0x01;
const KID_OFFSET = 2;
const KID_LENGTH = 16;
const NONCE_OFFSET = KID_OFFSET + KID_LENGTH;
const BODY_OFFSET = NONCE_OFFSET + XAES_NONCE_LENGTH;
const WRAPPED_VERSION = 0x01;
const ZERO_BLOCK = new Uint8Array(16);
const NO_BYTES = new Uint8Array(0);
/** Head and a context of usual size are joined in one buffer kept for it. */
const AAD_SCRATCH = 1024;

const utf8 = new TextEncoder();
const KID_LABEL = utf8.encode('dekd/v1/kid');

/** The subkey K1 of CMAC-AES-256 (NIST SP 800-38B 6.1), on which every XAES subkey of `key` depends. */
export function xaesMask<K>(library: CipherLibrary<K>, key: K): Uint8Array {
  const mask = library.aesBlocks(key, ZERO_BLOCK);
  const carry = mask[0]! >> 7;
  for (let i = 0; i < 15; i++) {
    mask[i] = ((mask[i]! << 1) | (mask[i + 1]! >> 7)) & 0xff;
  }
  mask[15] = ((mask[15]! << 1) ^ (carry * 0x87)) & 0xff;
  return mask;
}

/** The AES-256-GCM key of XAES-256-GCM (C2SP) for the first 12 bytes of a nonce, at `nonce[offset]`. */
export function xaesSubkey<K>(
  library: CipherLibrary<K>,
  key: K,
  mask: Uint8Array,
  nonce: Uint8Array,
  offset: number,
): K {
  const blocks = new Uint8Array(32);
  for (let half = 0; half < 2; half++) {
    const start = half * 16;
    blocks[start + 1] = half + 1;
    blocks[start + 2] = 0x58;
    for (let i = 0; i < 12; i++) {
      blocks[start + 4 + i] = nonce[offset + i]!;
    }
    for (let i = 0; i < 16; i++) {
      blocks[start + i]! ^= mask[i]!;
    }
  }
  const bytes = library.aesBlocks(key, blocks);
  blocks.fill(0);
  const subkey = library.importKey(bytes);
  bytes.fill(0);
  return subkey;
}

/** An engine in JavaScript over one library: its key table, tokens, wraps and MACs, all but the primitives. */
export class JsEngine<K> implements Engine {
  readonly info: EngineInfo;
  readonly #library: CipherLibrary<K>;
  readonly #keys: JsKeyTable<K>;
  /** Set in a worker, whose own table stays empty. */
  readonly #sharedKeys: SharedKeyReader<K> | undefined;
  readonly #snapshotSafe: boolean;
  readonly #random: RandomPool;
  readonly #messages: JsMessages<K>;
  readonly #aad = new Uint8Array(AAD_SCRATCH);
  #closed = false;

  constructor(info: EngineInfo, library: CipherLibrary<K>, options: JsEngineOptions) {
    this.info = info;
    this.#library = library;
    this.#snapshotSafe = options.snapshotSafe === true;
    this.#keys = new JsKeyTable(
      options.sharedKeys === undefined ? (options.capacity ?? DEFAULT_KEY_CAPACITY) : 1,
      (key) => library.wipeKey(key),
      options.isShared,
    );
    this.#sharedKeys =
      options.sharedKeys === undefined
        ? undefined
        : new SharedKeyReader(
            options.sharedKeys,
            (bytes) => library.importKey(bytes),
            (key) => library.wipeKey(key),
          );
    this.#random = new RandomPool((target) => library.fillRandom(target), options.snapshotSafe !== true);
    this.#messages = new JsMessages({
      library,
      add: (bytes, use, message) => {
        this.#checkOpen();
        return this.#add(bytes, use, message);
      },
      require: (handle, { algorithm, purpose }) => this.#require(handle, algorithm, purpose),
      fillRandom: (target) => this.#random.fill(target),
    });
  }

  stats(): KeyTableStats {
    return this.#keys.stats();
  }

  share(): EngineShare | undefined {
    const { memory } = this.#keys;
    return memory === undefined ? undefined : { name: this.info.name, snapshotSafe: this.#snapshotSafe, keys: memory };
  }

  forgetKeys(): void {
    this.#sharedKeys?.forget();
  }

  generateKey(use: KeyUse): KeyHandle {
    this.#checkOpen();
    this.#keys.checkRoom();
    const bytes = new Uint8Array(KEY_LENGTH);
    try {
      this.#random.fillDirect(bytes);
      return this.#add(bytes, use);
    } finally {
      bytes.fill(0);
    }
  }

  readRootKey(fd: number, use: KeyUse = SECRET_USE): KeyHandle {
    this.#checkOpen();
    checkFileUse(use);
    this.#keys.checkRoom();
    const bytes = readRootKeyLine(fd, isLegacy(use));
    try {
      return this.#add(bytes, use);
    } finally {
      bytes.fill(0);
    }
  }

  writeRootKey(fd: number): void {
    this.#checkOpen();
    const bytes = new Uint8Array(KEY_LENGTH);
    try {
      this.#random.fillDirect(bytes);
      writeRootKeyLine(fd, bytes);
    } finally {
      bytes.fill(0);
    }
  }

  writeKey(key: KeyHandle, fd: number): void {
    const { key: held, use } = this.#keys.get(key);
    checkUse(use, SECRET_USE.algorithm, SECRET_USE.purpose);
    const bytes = this.#library.exportKey(held);
    try {
      writeRootKeyLine(fd, bytes);
    } finally {
      bytes.fill(0);
    }
  }

  destroyKey(key: KeyHandle): void {
    this.#keys.remove(key);
  }

  kid(key: KeyHandle): Uint8Array {
    return this.#keys.get(key).kid.slice();
  }

  wrapKey(parent: KeyHandle, label: string, key: KeyHandle, aad: Uint8Array): Uint8Array {
    const wrapping = this.#derive(parent, label, 'wrap');
    const mask = xaesMask(this.#library, wrapping);
    const wrapped = new Uint8Array(WRAPPED_KEY_LENGTH);
    let subkey: K | undefined;
    let bytes: Uint8Array | undefined;
    try {
      bytes = this.#library.exportKey(this.#keys.get(key).key);
      wrapped[0] = WRAPPED_VERSION;
      const nonce = wrapped.subarray(1, 1 + XAES_NONCE_LENGTH);
      this.#random.fill(nonce);
      subkey = xaesSubkey(this.#library, wrapping, mask, nonce, 0);
      this.#library.gcmSeal(subkey, nonce.subarray(12), aad, bytes, wrapped, 1 + XAES_NONCE_LENGTH);
      return wrapped;
    } finally {
      bytes?.fill(0);
      mask.fill(0);
      this.#library.wipeKey(wrapping);
      if (subkey !== undefined) {
        this.#library.wipeKey(subkey);
      }
    }
  }

  unwrapKey(parent: KeyHandle, label: string, wrapped: Uint8Array, aad: Uint8Array, use: KeyUse): KeyHandle {
    const wrapping = this.#derive(parent, label, 'wrap');
    const mask = xaesMask(this.#library, wrapping);
    const bytes = new Uint8Array(KEY_LENGTH);
    let subkey: K | undefined;
    try {
      if (wrapped.length !== WRAPPED_KEY_LENGTH || wrapped[0] !== WRAPPED_VERSION) {
        throw decryptionFailed('wrapped key has a wrong length or version');
      }
      this.#keys.checkRoom();
      subkey = xaesSubkey(this.#library, wrapping, mask, wrapped, 1);
      const nonce = wrapped.subarray(1 + GCM_NONCE_LENGTH, 1 + XAES_NONCE_LENGTH);
      if (!this.#library.gcmOpen(subkey, nonce, aad, wrapped.subarray(1 + XAES_NONCE_LENGTH), bytes, 0)) {
        throw decryptionFailed('wrapped key does not authenticate');
      }
      return this.#add(bytes, use);
    } finally {
      bytes.fill(0);
      mask.fill(0);
      this.#library.wipeKey(wrapping);
      if (subkey !== undefined) {
        this.#library.wipeKey(subkey);
      }
    }
  }

  deriveKey(parent: KeyHandle, label: string, use: KeyUse): KeyHandle {
    this.#checkOpen();
    const derived = this.#derive(parent, label, 'wrap');
    let bytes: Uint8Array | undefined;
    try {
      this.#keys.checkRoom();
      bytes = this.#library.exportKey(derived);
      return this.#add(bytes, use);
    } finally {
      bytes?.fill(0);
      this.#library.wipeKey(derived);
    }
  }

  mac(parent: KeyHandle, label: string, data: Uint8Array): Uint8Array {
    if (label === '') {
      return this.#library.hmac(this.#require(parent, 'hmac-sha-256').key, data);
    }
    const key = this.#derive(parent, label);
    try {
      return this.#library.hmac(key, data);
    } finally {
      this.#library.wipeKey(key);
    }
  }

  verifyMac(parent: KeyHandle, label: string, data: Uint8Array, expected: Uint8Array): boolean {
    const actual = this.mac(parent, label, data);
    return expected.length === MAC_LENGTH && this.#library.equal(actual, expected);
  }

  sendKey(fd: number, id: number, key: KeyHandle): void {
    checkFrameId(id);
    const bytes = this.exposeSecret(key);
    try {
      writeFrame(fd, id, bytes, 'send a key');
    } finally {
      bytes.fill(0);
    }
  }

  receiveKey(fd: number, id: number, use: KeyUse = SECRET_USE): KeyHandle {
    checkFrameId(id);
    this.#checkOpen();
    checkSecretUse(use);
    return this.importSecret(readFrame(fd, id, SECRET_LENGTH, SECRET_LENGTH, 'receive a key'), use);
  }

  receiveSealed(fd: number, id: number, key: KeyHandle, context: Uint8Array): Uint8Array {
    checkFrameId(id);
    const data = readFrame(fd, id, 1, MAX_PIPED_LENGTH, 'receive sealed bytes');
    const input = lastingBytes(context.length + data.length);
    try {
      input.set(context);
      input.set(data, context.length);
      const token = new Uint8Array(data.length + TOKEN_OVERHEAD);
      this.seal(key, input, 0, context.length, context.length, data.length, token, 0);
      return token;
    } finally {
      data.fill(0);
      input.fill(0);
    }
  }

  sendOpened(fd: number, id: number, key: KeyHandle, token: Uint8Array, context: Uint8Array): void {
    checkFrameId(id);
    const length = token.length - TOKEN_OVERHEAD;
    if (length < 1 || length > MAX_PIPED_LENGTH) {
      throw decryptionFailed('cannot send opened bytes: no token of receiveSealed has this length');
    }
    const input = new Uint8Array(context.length + token.length);
    input.set(context);
    input.set(token, context.length);
    const plaintext = lastingBytes(length);
    try {
      if (!this.open(key, input, 0, context.length, context.length, token.length, plaintext, 0)) {
        throw decryptionFailed('cannot send opened bytes: it does not authenticate');
      }
      writeFrame(fd, id, plaintext, 'send opened bytes');
    } finally {
      plaintext.fill(0);
    }
  }

  importSecret(bytes: Uint8Array, use: KeyUse = SECRET_USE): KeyHandle {
    try {
      this.#checkOpen();
      checkSecretLength(bytes);
      if (!isLegacy(use)) {
        checkSecretUse(use);
      }
      this.#keys.checkRoom();
      return this.#add(bytes, use);
    } finally {
      bytes.fill(0);
    }
  }

  exposeSecret(key: KeyHandle): Uint8Array {
    const { key: held, use } = this.#keys.get(key);
    checkSecretUse(use);
    const exported = this.#library.exportKey(held);
    const secret = lastingBytes(SECRET_LENGTH);
    secret.set(exported);
    exported.fill(0);
    return secret;
  }

  seal(
    key: KeyHandle,
    input: Uint8Array,
    contextOffset: number,
    contextLength: number,
    dataOffset: number,
    dataLength: number,
    output: Uint8Array,
    outOffset: number,
  ): void {
    const entry = this.#require(key, 'xaes-256-gcm', 'seal');
    checkRegions(
      input,
      contextOffset,
      contextLength,
      dataOffset,
      dataLength,
      output,
      outOffset,
      dataLength + TOKEN_OVERHEAD,
    );
    const nonce = new Uint8Array(XAES_NONCE_LENGTH);
    this.#random.fill(nonce);
    const subkey = xaesSubkey(this.#library, entry.key, entry.mask!, nonce, 0);
    try {
      this.#sealInto(
        entry,
        subkey,
        nonce,
        input,
        contextOffset,
        contextLength,
        dataOffset,
        dataLength,
        output,
        outOffset,
      );
    } finally {
      this.#library.wipeKey(subkey);
    }
  }

  open(
    key: KeyHandle,
    input: Uint8Array,
    contextOffset: number,
    contextLength: number,
    dataOffset: number,
    dataLength: number,
    output: Uint8Array,
    outOffset: number,
  ): boolean {
    const entry = this.#require(key, 'xaes-256-gcm', 'seal');
    const plainLength = Math.max(0, dataLength - TOKEN_OVERHEAD);
    checkRegions(input, contextOffset, contextLength, dataOffset, dataLength, output, outOffset, plainLength);
    if (!hasHead(input, dataOffset, dataLength, entry.kid)) {
      output.fill(0, outOffset, outOffset + plainLength);
      return false;
    }
    const subkey = xaesSubkey(this.#library, entry.key, entry.mask!, input, dataOffset + NONCE_OFFSET);
    try {
      return this.#openInto(subkey, input, contextOffset, contextLength, dataOffset, dataLength, output, outOffset);
    } finally {
      this.#library.wipeKey(subkey);
    }
  }

  sealMany(table: Uint32Array, count: number, input: Uint8Array, output: Uint8Array): void {
    this.#checkOpen();
    this.#checkTable(table, count, input, output, TOKEN_OVERHEAD);
    const first = new Uint8Array(XAES_NONCE_LENGTH);
    const nonce = new Uint8Array(XAES_NONCE_LENGTH);
    this.#random.fill(first);
    // The first half of the nonce is the same in all rows, so each key has one subkey in this call.
    const subkeys = new Map<number, K>();
    try {
      for (let row = 0; row < count; row++) {
        const at = row * ROW_WORDS;
        if (table[at + ROW.status] === ROW_STATUS.skip) {
          continue;
        }
        const handle = table[at + ROW.key]!;
        const dataLength = table[at + ROW.dataLength]!;
        const outOffset = table[at + ROW.outOffset]!;
        const entry = this.#find(handle);
        if (entry === undefined) {
          output.fill(0, outOffset, outOffset + dataLength + TOKEN_OVERHEAD);
          table[at + ROW.status] = ROW_STATUS.staleKey;
          continue;
        }
        let subkey = subkeys.get(handle);
        if (subkey === undefined) {
          subkey = xaesSubkey(this.#library, entry.key, entry.mask!, first, 0);
          subkeys.set(handle, subkey);
        }
        addToNonce(first, row, nonce);
        this.#sealInto(
          entry,
          subkey,
          nonce,
          input,
          table[at + ROW.contextOffset]!,
          table[at + ROW.contextLength]!,
          table[at + ROW.dataOffset]!,
          dataLength,
          output,
          outOffset,
        );
        table[at + ROW.status] = ROW_STATUS.ok;
      }
    } finally {
      for (const subkey of subkeys.values()) {
        this.#library.wipeKey(subkey);
      }
    }
  }

  openMany(table: Uint32Array, count: number, input: Uint8Array, output: Uint8Array): void {
    this.#checkOpen();
    this.#checkTable(table, count, input, output, -TOKEN_OVERHEAD);
    // Tokens sealed in one batch share key and half a nonce: the last subkey usually serves the next row.
    let subkey: K | undefined;
    let subkeyHandle = 0;
    const subkeyNonce = new Uint8Array(GCM_NONCE_LENGTH);
    try {
      for (let row = 0; row < count; row++) {
        const at = row * ROW_WORDS;
        if (table[at + ROW.status] === ROW_STATUS.skip) {
          continue;
        }
        const handle = table[at + ROW.key]!;
        const dataOffset = table[at + ROW.dataOffset]!;
        const dataLength = table[at + ROW.dataLength]!;
        const outOffset = table[at + ROW.outOffset]!;
        const plainLength = Math.max(0, dataLength - TOKEN_OVERHEAD);
        const entry = this.#find(handle);
        if (entry === undefined || !hasHead(input, dataOffset, dataLength, entry.kid)) {
          output.fill(0, outOffset, outOffset + plainLength);
          table[at + ROW.status] = entry === undefined ? ROW_STATUS.staleKey : ROW_STATUS.failed;
          continue;
        }
        const nonceOffset = dataOffset + NONCE_OFFSET;
        if (subkey === undefined || handle !== subkeyHandle || !samePrefix(subkeyNonce, input, nonceOffset)) {
          if (subkey !== undefined) {
            this.#library.wipeKey(subkey);
          }
          subkey = xaesSubkey(this.#library, entry.key, entry.mask!, input, nonceOffset);
          subkeyHandle = handle;
          subkeyNonce.set(input.subarray(nonceOffset, nonceOffset + GCM_NONCE_LENGTH));
        }
        const opened = this.#openInto(
          subkey,
          input,
          table[at + ROW.contextOffset]!,
          table[at + ROW.contextLength]!,
          dataOffset,
          dataLength,
          output,
          outOffset,
        );
        table[at + ROW.status] = opened ? ROW_STATUS.ok : ROW_STATUS.failed;
      }
    } finally {
      if (subkey !== undefined) {
        this.#library.wipeKey(subkey);
      }
    }
  }

  openLegacy(key: KeyHandle, nonce: Uint8Array, sealed: Uint8Array, output: Uint8Array, outOffset: number): boolean {
    const out = legacyRegion(nonce, sealed, output, outOffset);
    const { key: held } = this.#require(key, LEGACY_USE.algorithm, LEGACY_USE.purpose);
    const opened = sealed.length >= TAG_LENGTH && this.#library.gcmOpen(held, nonce, NO_BYTES, sealed, out, 0);
    if (!opened) {
      out.fill(0);
    }
    return opened;
  }

  macMany(table: Uint32Array, count: number, scopes: Uint8Array, input: Uint8Array, output: Uint8Array): void {
    this.#checkOpen();
    this.#macRows(table, count, scopes, input, output, true, (at, mac) => {
      const outOffset = table[at + ROW.outOffset]!;
      if (mac === undefined) {
        output.fill(0, outOffset, outOffset + MAC_LENGTH);
        return ROW_STATUS.staleKey;
      }
      output.set(mac, outOffset);
      return ROW_STATUS.ok;
    });
  }

  verifyMacMany(table: Uint32Array, count: number, scopes: Uint8Array, input: Uint8Array): void {
    this.#checkOpen();
    this.#macRows(table, count, scopes, input, input, false, (at, mac) => {
      if (mac === undefined) {
        return ROW_STATUS.staleKey;
      }
      const expected = table[at + ROW.outOffset]!;
      const isEqual = this.#library.equal(mac, input.subarray(expected, expected + MAC_LENGTH));
      return isEqual ? ROW_STATUS.ok : ROW_STATUS.failed;
    });
  }

  wrapDataKey(messageKey: KeyHandle, dataKey: KeyHandle, context: Uint8Array): Uint8Array {
    return this.#messages.wrapDataKey(messageKey, dataKey, context);
  }

  unwrapDataKey(messageKey: KeyHandle, info: Uint8Array, encrypted: Uint8Array, context: Uint8Array): KeyHandle {
    return this.#messages.unwrapDataKey(messageKey, info, encrypted, context);
  }

  wrapDataKeyUnder(rawKey: KeyHandle, name: Uint8Array, dataKey: KeyHandle, context: Uint8Array): Uint8Array {
    return this.#messages.wrapDataKeyUnder(rawKey, name, dataKey, context);
  }

  unwrapDataKeyUnder(
    rawKey: KeyHandle,
    name: Uint8Array,
    info: Uint8Array,
    encrypted: Uint8Array,
    context: Uint8Array,
  ): KeyHandle {
    return this.#messages.unwrapDataKeyUnder(rawKey, name, info, encrypted, context);
  }

  beginMessage(dataKey: KeyHandle, frameLength: number): BegunMessage {
    return this.#messages.begin(dataKey, frameLength);
  }

  resumeMessage(
    dataKey: KeyHandle,
    suite: CommittedSuite,
    id: Uint8Array,
    frameLength: number,
    commitment: Uint8Array,
  ): KeyHandle {
    return this.#messages.resume(dataKey, suite, id, frameLength, commitment);
  }

  sealHeader(message: KeyHandle, header: Uint8Array, required: Uint8Array): Uint8Array {
    return this.#messages.sealHeader(message, header, required);
  }

  verifyHeader(message: KeyHandle, header: Uint8Array, required: Uint8Array, tag: Uint8Array): boolean {
    return this.#messages.verifyHeader(message, header, required, tag);
  }

  sealFrames(message: KeyHandle, plaintext: Uint8Array, final: boolean, output: Uint8Array): void {
    this.#messages.sealFrames(message, plaintext, final, output);
  }

  openFrames(message: KeyHandle, body: Uint8Array, output: Uint8Array): OpenedFrames | undefined {
    return this.#messages.openFrames(message, body, output);
  }

  seekFrame(message: KeyHandle, sequence: number): void {
    this.#messages.seekFrame(message, sequence);
  }

  random(length: number): Uint8Array {
    this.#checkOpen();
    checkRandomLength(length);
    const bytes = new Uint8Array(length);
    this.#random.fill(bytes);
    return bytes;
  }

  close(): void {
    this.#closed = true;
    this.#keys.removeAll();
    this.forgetKeys();
    this.#random.wipe();
    this.#aad.fill(0);
  }

  #checkOpen(): void {
    if (this.#closed) {
      throw new DekdError('INTERNAL', 'the engine is closed');
    }
  }

  #find(handle: number): KeyEntry<K> | undefined {
    return this.#sharedKeys === undefined ? this.#keys.find(handle) : this.#sharedKeys.find(handle);
  }

  #add(bytes: Uint8Array, use: KeyUse, message?: MessageState): KeyHandle {
    const key = this.#library.importKey(bytes);
    const mask = use.algorithm === 'xaes-256-gcm' ? xaesMask(this.#library, key) : undefined;
    const kid = this.#library.hmac(key, kidInput(use)).slice(0, KID_LENGTH);
    const entry = {
      key,
      mask,
      kid,
      use: { algorithm: use.algorithm, purpose: use.purpose },
      ...(message === undefined ? {} : { message }),
    };
    return this.#keys.add(entry, bytes);
  }

  /** The key HKDF gives for `label` under a key that wraps; the caller wipes it. */
  #derive(parent: KeyHandle, label: string, purpose?: Purpose): K {
    const entry = this.#require(parent, 'hkdf-sha-256', purpose);
    return this.#library.hkdf(entry.key, utf8.encode(label));
  }

  /** The key of a live handle. @throws INTERNAL when stale; INVALID_ARGUMENT when it is for something else. */
  #require(handle: KeyHandle, algorithm: Algorithm, purpose?: Purpose): KeyEntry<K> {
    const entry = this.#sharedKeys === undefined ? this.#keys.get(handle) : this.#sharedKeys.find(handle);
    if (entry === undefined) {
      throw new DekdError('INTERNAL', 'stale key handle');
    }
    checkUse(entry.use, algorithm, purpose);
    return entry;
  }

  /** Checks every row before the first is touched, so that a table is either worked on or left as it was. */
  #checkTable(table: Uint32Array, count: number, input: Uint8Array, output: Uint8Array, growth: number): void {
    checkCount(table, count);
    for (let row = 0; row < count; row++) {
      const at = row * ROW_WORDS;
      if (table[at + ROW.status] === ROW_STATUS.skip) {
        continue;
      }
      const dataLength = table[at + ROW.dataLength]!;
      checkRegions(
        input,
        table[at + ROW.contextOffset]!,
        table[at + ROW.contextLength]!,
        table[at + ROW.dataOffset]!,
        dataLength,
        output,
        table[at + ROW.outOffset]!,
        Math.max(0, dataLength + growth),
      );
      const entry = this.#find(table[at + ROW.key]!);
      if (entry !== undefined) {
        checkUse(entry.use, 'xaes-256-gcm', 'seal');
      }
    }
  }

  /** `settle` is given the MAC of each row, undefined for a stale handle, and returns its status; the MAC is wiped after it. */
  #macRows(
    table: Uint32Array,
    count: number,
    scopes: Uint8Array,
    input: Uint8Array,
    macs: Uint8Array,
    writes: boolean,
    settle: (at: number, mac: Uint8Array | undefined) => number,
  ): void {
    checkCount(table, count);
    for (let at = 0; at < count * ROW_WORDS; at += ROW_WORDS) {
      if (table[at + ROW.status] === ROW_STATUS.skip) {
        continue;
      }
      scopeAt(scopes, table[at + ROW.scopeOffset]!);
      const [contextOffset, contextLength] = [table[at + ROW.contextOffset]!, table[at + ROW.contextLength]!];
      const [dataOffset, dataLength] = [table[at + ROW.dataOffset]!, table[at + ROW.dataLength]!];
      const outOffset = table[at + ROW.outOffset]!;
      if (writes) {
        checkRegions(input, contextOffset, contextLength, dataOffset, dataLength, macs, outOffset, MAC_LENGTH);
      } else {
        checkRange('context', contextOffset, contextLength, input.length);
        checkRange('data', dataOffset, dataLength, input.length);
        checkRange('mac', outOffset, MAC_LENGTH, macs.length);
      }
      const entry = this.#find(table[at + ROW.key]!);
      if (entry !== undefined) {
        checkUse(entry.use, 'hmac-sha-256');
      }
    }
    const lengths = new Uint8Array(8);
    const view = new DataView(lengths.buffer);
    for (let at = 0; at < count * ROW_WORDS; at += ROW_WORDS) {
      if (table[at + ROW.status] === ROW_STATUS.skip) {
        continue;
      }
      const entry = this.#find(table[at + ROW.key]!);
      const [contextOffset, contextLength] = [table[at + ROW.contextOffset]!, table[at + ROW.contextLength]!];
      const [dataOffset, dataLength] = [table[at + ROW.dataOffset]!, table[at + ROW.dataLength]!];
      view.setUint32(0, contextLength);
      view.setUint32(4, dataLength);
      const mac =
        entry &&
        this.#library.hmac(
          entry.key,
          scopeAt(scopes, table[at + ROW.scopeOffset]!),
          lengths.subarray(0, 4),
          input.subarray(contextOffset, contextOffset + contextLength),
          lengths.subarray(4),
          input.subarray(dataOffset, dataOffset + dataLength),
        );
      table[at + ROW.status] = settle(at, mac);
      mac?.fill(0);
    }
  }

  #sealInto(
    entry: KeyEntry<K>,
    subkey: K,
    nonce: Uint8Array,
    input: Uint8Array,
    contextOffset: number,
    contextLength: number,
    dataOffset: number,
    dataLength: number,
    output: Uint8Array,
    outOffset: number,
  ): void {
    output[outOffset] = FORMAT;
    output[outOffset + 1] = SUITE;
    output.set(entry.kid, outOffset + KID_OFFSET);
    output.set(nonce, outOffset + NONCE_OFFSET);
    this.#library.gcmSeal(
      subkey,
      nonce.subarray(GCM_NONCE_LENGTH),
      this.#joinAad(output, outOffset, input, contextOffset, contextLength),
      input.subarray(dataOffset, dataOffset + dataLength),
      output,
      outOffset + BODY_OFFSET,
    );
  }

  #openInto(
    subkey: K,
    input: Uint8Array,
    contextOffset: number,
    contextLength: number,
    dataOffset: number,
    dataLength: number,
    output: Uint8Array,
    outOffset: number,
  ): boolean {
    const opened = this.#library.gcmOpen(
      subkey,
      input.subarray(dataOffset + NONCE_OFFSET + GCM_NONCE_LENGTH, dataOffset + BODY_OFFSET),
      this.#joinAad(input, dataOffset, input, contextOffset, contextLength),
      input.subarray(dataOffset + BODY_OFFSET, dataOffset + dataLength),
      output,
      outOffset,
    );
    if (!opened) {
      output.fill(0, outOffset, outOffset + dataLength - TOKEN_OVERHEAD);
    }
    return opened;
  }

  /** The first 18 bytes of the token, then the context. A view of a buffer used again by the next call. */
  #joinAad(
    token: Uint8Array,
    tokenOffset: number,
    input: Uint8Array,
    contextOffset: number,
    contextLength: number,
  ): Uint8Array {
    const length = NONCE_OFFSET + contextLength;
    const aad = length <= AAD_SCRATCH ? this.#aad.subarray(0, length) : new Uint8Array(length);
    for (let i = 0; i < NONCE_OFFSET; i++) {
      aad[i] = token[tokenOffset + i]!;
    }
    aad.set(input.subarray(contextOffset, contextOffset + contextLength), NONCE_OFFSET);
    return aad;
  }
}

function isLegacy({ algorithm, purpose }: KeyUse): boolean {
  return algorithm === LEGACY_USE.algorithm && purpose === LEGACY_USE.purpose;
}

/** @throws INVALID_ARGUMENT unless a provider wraps keys of this use. */
function checkSecretUse(use: KeyUse): void {
  if (use.purpose !== 'wrap' || (use.algorithm !== SECRET_USE.algorithm && use.algorithm !== DATA_KEY_USE.algorithm)) {
    throw new DekdError('INVALID_ARGUMENT', `no provider wraps a key for ${use.purpose} with ${use.algorithm}`);
  }
}

/** @throws INVALID_ARGUMENT unless keys of this use lie in files. */
function checkFileUse(use: KeyUse): void {
  if (isLegacy(use)) {
    return;
  }
  if (use.purpose !== 'wrap' || (use.algorithm !== SECRET_USE.algorithm && use.algorithm !== RAW_AES_USE.algorithm)) {
    throw new DekdError('INVALID_ARGUMENT', `no file holds a key for ${use.purpose} with ${use.algorithm}`);
  }
}

/** "dekd/v1/kid" ‖ u8 length ‖ algorithm ‖ u8 length ‖ purpose. */
function kidInput(use: KeyUse): Uint8Array {
  const algorithm = utf8.encode(use.algorithm);
  const purpose = utf8.encode(use.purpose);
  const bytes = new Uint8Array(KID_LABEL.length + 2 + algorithm.length + purpose.length);
  bytes.set(KID_LABEL);
  bytes[KID_LABEL.length] = algorithm.length;
  bytes.set(algorithm, KID_LABEL.length + 1);
  bytes[KID_LABEL.length + 1 + algorithm.length] = purpose.length;
  bytes.set(purpose, KID_LABEL.length + 2 + algorithm.length);
  return bytes;
}

/** Whether a token long enough starts with format, suite and `kid`. None of it is secret. */
function hasHead(input: Uint8Array, offset: number, length: number, kid: Uint8Array): boolean {
  if (length < TOKEN_OVERHEAD || input[offset] !== FORMAT || input[offset + 1] !== SUITE) {
    return false;
  }
  for (let i = 0; i < KID_LENGTH; i++) {
    if (input[offset + KID_OFFSET + i] !== kid[i]) {
      return false;
    }
  }
  return true;
}

function samePrefix(prefix: Uint8Array, input: Uint8Array, offset: number): boolean {
  for (let i = 0; i < prefix.length; i++) {
    if (prefix[i] !== input[offset + i]) {
      return false;
    }
  }
  return true;
}

/** `target` = `first` with `index` added to its last 12 bytes, big-endian, mod 2^96. */
function addToNonce(first: Uint8Array, index: number, target: Uint8Array): void {
  target.set(first);
  let carry = index;
  for (let i = XAES_NONCE_LENGTH - 1; i >= GCM_NONCE_LENGTH && carry > 0; i--) {
    const sum = target[i]! + carry;
    target[i] = sum & 0xff;
    carry = Math.floor(sum / 256);
  }
}

/** @throws INVALID_ARGUMENT unless a key is for this algorithm, and for this purpose when one is given. */
function checkUse(use: KeyUse, algorithm: Algorithm, purpose?: Purpose): void {
  if (use.algorithm !== algorithm || (purpose !== undefined && use.purpose !== purpose)) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `key is for ${use.purpose} with ${use.algorithm}, not for ${purpose ?? 'use'} with ${algorithm}`,
    );
  }
}

/** @throws INVALID_ARGUMENT when the table has fewer rows */
function checkCount(table: Uint32Array, count: number): void {
  if (!Number.isInteger(count) || count < 0 || count * ROW_WORDS > table.length) {
    throw new DekdError('INVALID_ARGUMENT', `table of ${table.length} words does not hold ${count} rows`);
  }
}

/** The scope whose length and bytes begin at `offset`; a view. @throws INVALID_ARGUMENT when it leaves `scopes` */
function scopeAt(scopes: Uint8Array, offset: number): Uint8Array {
  checkRange('scope', offset, 2, scopes.length);
  const length = (scopes[offset]! << 8) | scopes[offset + 1]!;
  checkRange('scope', offset, 2 + length, scopes.length);
  return scopes.subarray(offset + 2, offset + 2 + length);
}

/** @throws INVALID_ARGUMENT when a region leaves its buffer, or when the output lies over what is read. */
function checkRegions(
  input: Uint8Array,
  contextOffset: number,
  contextLength: number,
  dataOffset: number,
  dataLength: number,
  output: Uint8Array,
  outOffset: number,
  outLength: number,
): void {
  checkRange('context', contextOffset, contextLength, input.length);
  checkRange('data', dataOffset, dataLength, input.length);
  checkRange('output', outOffset, outLength, output.length);
  if (input.buffer === output.buffer) {
    const out = output.byteOffset + outOffset;
    const context = input.byteOffset + contextOffset;
    const data = input.byteOffset + dataOffset;
    if (overlap(out, outLength, context, contextLength) || overlap(out, outLength, data, dataLength)) {
      throw new DekdError('INVALID_ARGUMENT', 'output overlaps the input');
    }
  }
}

function checkRange(what: string, offset: number, length: number, size: number): void {
  if (!Number.isInteger(offset) || !Number.isInteger(length) || offset < 0 || length < 0 || offset + length > size) {
    throw new DekdError('INVALID_ARGUMENT', `${what} at ${offset} of ${length} bytes leaves its buffer of ${size}`);
  }
}

function overlap(a: number, aLength: number, b: number, bLength: number): boolean {
  return aLength > 0 && bLength > 0 && a < b + bLength && b < a + aLength;
}

/** AES-256-GCM and XAES-256-GCM with the caller's key and nonce, through the very functions the engine uses. */
export function aeadPrimitives<K>(
  library: CipherLibrary<K>,
): Pick<Primitives, 'aesGcmSeal' | 'aesGcmOpen' | 'xaesSeal' | 'xaesOpen'> {
  const seal = (key: K, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Uint8Array => {
    const sealed = new Uint8Array(plaintext.length + TAG_LENGTH);
    library.gcmSeal(key, nonce, aad, plaintext, sealed, 0);
    return sealed;
  };
  const open = (key: K, nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Uint8Array | undefined => {
    if (sealed.length < TAG_LENGTH) {
      return undefined;
    }
    const plaintext = new Uint8Array(sealed.length - TAG_LENGTH);
    return library.gcmOpen(key, nonce, aad, sealed, plaintext, 0) ? plaintext : undefined;
  };
  const subkeyOf = (key: Uint8Array, nonce: Uint8Array): K => {
    checkKeyAndNonce(key, nonce, XAES_NONCE_LENGTH);
    const imported = library.importKey(key);
    return xaesSubkey(library, imported, xaesMask(library, imported), nonce, 0);
  };
  return {
    aesGcmSeal(key, nonce, aad, plaintext) {
      checkKeyAndNonce(key, nonce, GCM_NONCE_LENGTH);
      return seal(library.importKey(key), nonce, aad, plaintext);
    },
    aesGcmOpen(key, nonce, aad, sealed) {
      checkKeyAndNonce(key, nonce, GCM_NONCE_LENGTH);
      return open(library.importKey(key), nonce, aad, sealed);
    },
    xaesSeal: (key, nonce, aad, plaintext) => seal(subkeyOf(key, nonce), nonce.subarray(12), aad, plaintext),
    xaesOpen: (key, nonce, aad, sealed) => open(subkeyOf(key, nonce), nonce.subarray(12), aad, sealed),
  };
}
