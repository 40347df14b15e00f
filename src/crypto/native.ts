import { getSystemErrorName } from 'node:util';
import { type Binding, CALL, loadBinding } from '../addon/binding.ts';
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
  LockLevel,
  OpenedFrames,
  Purpose,
} from './engine.ts';
import {
  COMMITMENT_LENGTH,
  DATA_KEY_INFO_LENGTH,
  ENCRYPTED_DATA_KEY_LENGTH,
  HEADER_TAG_LENGTH,
  MAC_LENGTH,
  MAX_PIPED_LENGTH,
  MESSAGE_ID_LENGTH,
  RAW_AES_INFO_TAIL,
  SECRET_LENGTH,
  SECRET_USE,
  TOKEN_OVERHEAD,
  WRAPPED_KEY_LENGTH,
} from './engine.ts';
import {
  checkFrameId,
  checkSecretLength,
  lastingBytes,
  PIPE_ENDED,
  pipeFailure,
  UNEXPECTED_FRAME,
} from './key-pipe.ts';
import { legacyRegion } from './legacy.ts';
import { checkFrameLength, checkMessage, checkSequence, outOfOrder } from './message-frames.ts';
import {
  checkHkdfLength,
  checkKeyAndNonce,
  GCM_NONCE_LENGTH,
  type Primitives,
  TAG_LENGTH,
  XAES_NONCE_LENGTH,
} from './primitives.ts';
import { checkRandomLength } from './random-pool.ts';

export interface NativeEngineOptions {
  /** Draw every nonce from the system instead of from bytes drawn ahead; for images that may be resumed twice. */
  readonly snapshotSafe?: boolean;
  /** The level below which the engine refuses to start; `heap` unless given. */
  readonly minimumLockLevel?: LockLevel;
}

/** Numbers of `native/core/status.h`. */
export const STATUS = {
  ok: 0,
  authenticationFailed: 1,
  staleKey: 2,
  wrongUse: 3,
  tableFull: 4,
  invalidArgument: 5,
  cryptoFailed: 6,
  randomFailed: 7,
  systemFailed: 8,
  malformedKey: 9,
  belowMinimum: 10,
  notReady: 11,
  pipeFailed: 12,
  pipeEnded: 13,
  unexpectedFrame: 14,
} as const;

/** Numbers of `native/core/key_table.h` and `native/core/locked_pool.h`. */
const ALGORITHMS: Readonly<Record<Algorithm, number>> = {
  'xaes-256-gcm': 0,
  'esdk-0478': 1,
  'hkdf-sha-256': 2,
  'hmac-sha-256': 3,
  'aes-256-gcm': 4,
};
const PURPOSES: Readonly<Record<Purpose, number>> = { seal: 0, wrap: 1, message: 2, mac: 3, index: 4 };
const LEVELS: readonly LockLevel[] = ['secret', 'locked', 'heap'];

const KID_LENGTH = 16;

const utf8 = new TextEncoder();

/**
 * The engine on the addon. Its keys lie in one table of the process, in locked memory: every thread's engine sees all
 * of them, `stats` counts all of them, and a handle made on one thread works on another. Keys end with the engine that
 * made them, and with its thread.
 */
export class NativeEngine implements Engine {
  readonly info: EngineInfo;
  readonly #binding: Binding;
  // Kept apart from the addon's object, in which a look-up costs as much as a tenth of a seal.
  readonly #seal: Binding['seal'];
  readonly #open: Binding['open'];
  readonly #words: Float64Array;
  readonly #snapshotSafe: boolean;
  /** What keys made by this engine belong to; 0 once it is closed. */
  #owner: number;

  /**
   * @throws UNSUPPORTED when there is no addon, or when the memory it reaches is below `minimumLockLevel`; the message
   * says why.
   */
  constructor(options: NativeEngineOptions = {}) {
    const { binding, reason } = loadBinding();
    if (binding === undefined) {
      throw new DekdError('UNSUPPORTED', reason);
    }
    const minimum = options.minimumLockLevel ?? 'heap';
    const status = binding.openTable(LEVELS.indexOf(minimum));
    const memory = describeMemory(binding);
    if (status === STATUS.belowMinimum) {
      throw new DekdError('UNSUPPORTED', `keys cannot be kept at level ${minimum}: ${memory.lockReason}`);
    }
    if (status !== STATUS.ok) {
      throw failure(binding, status, 'open the key table');
    }
    if (options.snapshotSafe === true) {
      binding.setSnapshotSafe(1);
    }
    this.#snapshotSafe = options.snapshotSafe === true;
    this.#binding = binding;
    this.#seal = binding.seal;
    this.#open = binding.open;
    this.#words = binding.callWords;
    this.#owner = binding.newOwner();
    this.info = { name: 'native', library: binding.library, cpu: binding.cpu, keysInJs: false, ...memory };
  }

  stats(): KeyTableStats {
    return this.#binding.stats();
  }

  share(): EngineShare {
    return { name: 'native', snapshotSafe: this.#snapshotSafe };
  }

  /** Nothing to do: a key is lent to each call, and no thread has a copy. */
  forgetKeys(): void {}

  generateKey(use: KeyUse): KeyHandle {
    const { algorithm, purpose } = numbersOf(use);
    return this.#made(this.#binding.generateKey(this.#ownerNow(), algorithm, purpose), 'generate a key');
  }

  readRootKey(fd: number, use: KeyUse = SECRET_USE): KeyHandle {
    const { algorithm, purpose } = numbersOf(use);
    return this.#made(this.#binding.readRootKey(this.#ownerNow(), fd, algorithm, purpose), 'read the root key');
  }

  writeRootKey(fd: number): void {
    this.#ownerNow();
    this.#done(this.#binding.writeRootKey(fd), 'write the root key');
  }

  writeKey(key: KeyHandle, fd: number): void {
    this.#done(this.#binding.writeKey(key, fd), 'write a key');
  }

  destroyKey(key: KeyHandle): void {
    this.#binding.destroyKey(key);
  }

  kid(key: KeyHandle): Uint8Array {
    const kid = new Uint8Array(KID_LENGTH);
    this.#done(this.#binding.kid(key, kid), 'kid');
    return kid;
  }

  wrapKey(parent: KeyHandle, label: string, key: KeyHandle, aad: Uint8Array): Uint8Array {
    const wrapped = new Uint8Array(WRAPPED_KEY_LENGTH);
    this.#done(this.#binding.wrapKey(parent, utf8.encode(label), key, aad, wrapped), 'wrap a key');
    return wrapped;
  }

  unwrapKey(parent: KeyHandle, label: string, wrapped: Uint8Array, aad: Uint8Array, use: KeyUse): KeyHandle {
    const { algorithm, purpose } = numbersOf(use);
    const owner = this.#ownerNow();
    const result = this.#binding.unwrapKey(owner, parent, utf8.encode(label), wrapped, aad, algorithm, purpose);
    return this.#made(result, 'unwrap a key');
  }

  deriveKey(parent: KeyHandle, label: string, use: KeyUse): KeyHandle {
    const { algorithm, purpose } = numbersOf(use);
    const result = this.#binding.deriveKey(this.#ownerNow(), parent, utf8.encode(label), algorithm, purpose);
    return this.#made(result, 'derive a key');
  }

  mac(parent: KeyHandle, label: string, data: Uint8Array): Uint8Array {
    const mac = new Uint8Array(MAC_LENGTH);
    this.#done(this.#binding.mac(parent, utf8.encode(label), data, mac), 'mac');
    return mac;
  }

  verifyMac(parent: KeyHandle, label: string, data: Uint8Array, expected: Uint8Array): boolean {
    return this.#verified(this.#binding.verifyMac(parent, utf8.encode(label), data, expected), 'verify a mac');
  }

  sendKey(fd: number, id: number, key: KeyHandle): void {
    checkFrameId(id);
    this.#done(this.#binding.sendKey(fd, id, key), 'send a key');
  }

  receiveKey(fd: number, id: number, use: KeyUse = SECRET_USE): KeyHandle {
    checkFrameId(id);
    const { algorithm, purpose } = numbersOf(use);
    return this.#made(this.#binding.receiveKey(this.#ownerNow(), fd, id, algorithm, purpose), 'receive a key');
  }

  receiveSealed(fd: number, id: number, key: KeyHandle, context: Uint8Array): Uint8Array {
    checkFrameId(id);
    const token = new Uint8Array(MAX_PIPED_LENGTH + TOKEN_OVERHEAD);
    const length = this.#binding.receiveSealed(fd, id, key, context, token);
    if (length <= 0) {
      throw failure(this.#binding, -length, 'receive sealed bytes');
    }
    return token.slice(0, length);
  }

  sendOpened(fd: number, id: number, key: KeyHandle, token: Uint8Array, context: Uint8Array): void {
    checkFrameId(id);
    this.#done(this.#binding.sendOpened(fd, id, key, token, context), 'send opened bytes');
  }

  importSecret(bytes: Uint8Array, use: KeyUse = SECRET_USE): KeyHandle {
    try {
      checkSecretLength(bytes);
      const { algorithm, purpose } = numbersOf(use);
      return this.#made(this.#binding.importSecret(this.#ownerNow(), bytes, algorithm, purpose), 'import a secret');
    } finally {
      bytes.fill(0);
    }
  }

  exposeSecret(key: KeyHandle): Uint8Array {
    const secret = lastingBytes(SECRET_LENGTH);
    this.#done(this.#binding.exposeSecret(key, secret), 'expose a secret');
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
    const words = this.#words;
    words[CALL.key] = key;
    words[CALL.contextOffset] = contextOffset;
    words[CALL.contextLength] = contextLength;
    words[CALL.dataOffset] = dataOffset;
    words[CALL.dataLength] = dataLength;
    words[CALL.outOffset] = outOffset;
    this.#seal(input, output);
    if (words[CALL.status] !== STATUS.ok) {
      throw failure(this.#binding, words[CALL.status]!, 'seal');
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
    const words = this.#words;
    words[CALL.key] = key;
    words[CALL.contextOffset] = contextOffset;
    words[CALL.contextLength] = contextLength;
    words[CALL.dataOffset] = dataOffset;
    words[CALL.dataLength] = dataLength;
    words[CALL.outOffset] = outOffset;
    this.#open(input, output);
    return this.#verified(words[CALL.status]!, 'open');
  }

  sealMany(table: Uint32Array, count: number, input: Uint8Array, output: Uint8Array): void {
    this.#done(this.#binding.sealMany(table, count, input, output), 'seal a batch');
  }

  openMany(table: Uint32Array, count: number, input: Uint8Array, output: Uint8Array): void {
    this.#done(this.#binding.openMany(table, count, input, output), 'open a batch');
  }

  openLegacy(key: KeyHandle, nonce: Uint8Array, sealed: Uint8Array, output: Uint8Array, outOffset: number): boolean {
    const out = legacyRegion(nonce, sealed, output, outOffset);
    return this.#verified(this.#binding.openLegacy(key, nonce, sealed, out), 'open a legacy value');
  }

  macMany(table: Uint32Array, count: number, scopes: Uint8Array, input: Uint8Array, output: Uint8Array): void {
    this.#done(this.#binding.macMany(table, count, scopes, input, output), 'make macs');
  }

  verifyMacMany(table: Uint32Array, count: number, scopes: Uint8Array, input: Uint8Array): void {
    this.#done(this.#binding.verifyMacMany(table, count, scopes, input), 'verify macs');
  }

  wrapDataKey(messageKey: KeyHandle, dataKey: KeyHandle, context: Uint8Array): Uint8Array {
    const wrapped = new Uint8Array(DATA_KEY_INFO_LENGTH + ENCRYPTED_DATA_KEY_LENGTH);
    const info = wrapped.subarray(0, DATA_KEY_INFO_LENGTH);
    const encrypted = wrapped.subarray(DATA_KEY_INFO_LENGTH);
    this.#done(this.#binding.wrapDataKey(messageKey, dataKey, context, info, encrypted), 'wrap a data key');
    return wrapped;
  }

  unwrapDataKey(messageKey: KeyHandle, info: Uint8Array, encrypted: Uint8Array, context: Uint8Array): KeyHandle {
    return this.#made(
      this.#binding.unwrapDataKey(this.#ownerNow(), messageKey, info, encrypted, context),
      'unwrap a data key',
    );
  }

  wrapDataKeyUnder(rawKey: KeyHandle, name: Uint8Array, dataKey: KeyHandle, context: Uint8Array): Uint8Array {
    const infoLength = name.length + RAW_AES_INFO_TAIL;
    const wrapped = new Uint8Array(infoLength + ENCRYPTED_DATA_KEY_LENGTH);
    const [info, encrypted] = [wrapped.subarray(0, infoLength), wrapped.subarray(infoLength)];
    this.#done(
      this.#binding.wrapDataKeyUnder(rawKey, name, dataKey, context, info, encrypted),
      'wrap a data key under a raw AES key',
    );
    return wrapped;
  }

  unwrapDataKeyUnder(
    rawKey: KeyHandle,
    name: Uint8Array,
    info: Uint8Array,
    encrypted: Uint8Array,
    context: Uint8Array,
  ): KeyHandle {
    return this.#made(
      this.#binding.unwrapDataKeyUnder(this.#ownerNow(), rawKey, name, info, encrypted, context),
      'unwrap a data key under a raw AES key',
    );
  }

  beginMessage(dataKey: KeyHandle, frameLength: number): BegunMessage {
    checkFrameLength(frameLength);
    const id = new Uint8Array(MESSAGE_ID_LENGTH);
    const commitment = new Uint8Array(COMMITMENT_LENGTH);
    const message = this.#made(
      this.#binding.beginMessage(this.#ownerNow(), dataKey, frameLength, id, commitment),
      'begin a message',
    );
    return { message, id, commitment };
  }

  resumeMessage(
    dataKey: KeyHandle,
    suite: CommittedSuite,
    id: Uint8Array,
    frameLength: number,
    commitment: Uint8Array,
  ): KeyHandle {
    checkMessage(id, frameLength, commitment);
    return this.#made(
      this.#binding.resumeMessage(this.#ownerNow(), dataKey, suite, id, frameLength, commitment),
      'take a message up',
    );
  }

  sealHeader(message: KeyHandle, header: Uint8Array, required: Uint8Array): Uint8Array {
    const tag = new Uint8Array(HEADER_TAG_LENGTH);
    this.#inOrder(this.#binding.sealHeader(message, header, required, tag), 'seal a header');
    return tag;
  }

  verifyHeader(message: KeyHandle, header: Uint8Array, required: Uint8Array, tag: Uint8Array): boolean {
    if (tag.length !== HEADER_TAG_LENGTH) {
      return false;
    }
    const status = this.#binding.verifyHeader(message, header, required, tag);
    if (status === STATUS.authenticationFailed) {
      return false;
    }
    this.#inOrder(status, 'verify a header');
    return true;
  }

  sealFrames(message: KeyHandle, plaintext: Uint8Array, final: boolean, output: Uint8Array): void {
    this.#inOrder(this.#binding.sealFrames(message, plaintext, final ? 1 : 0, output), 'seal frames');
  }

  openFrames(message: KeyHandle, body: Uint8Array, output: Uint8Array): OpenedFrames | undefined {
    const opened = this.#binding.openFrames(message, body, output);
    if (typeof opened === 'object') {
      return opened;
    }
    if (opened === STATUS.authenticationFailed) {
      return undefined;
    }
    this.#inOrder(opened, 'open frames');
    return undefined;
  }

  seekFrame(message: KeyHandle, sequence: number): void {
    checkSequence(sequence);
    this.#inOrder(this.#binding.seekFrame(message, sequence), 'go to a frame');
  }

  random(length: number): Uint8Array {
    checkRandomLength(length);
    this.#ownerNow();
    const bytes = new Uint8Array(length);
    this.#done(this.#binding.random(bytes), 'draw random bytes');
    return bytes;
  }

  close(): void {
    if (this.#owner !== 0) {
      this.#binding.destroyOwned(this.#owner);
      this.#owner = 0;
    }
  }

  #ownerNow(): number {
    if (this.#owner === 0) {
      throw new DekdError('INTERNAL', 'the engine is closed');
    }
    return this.#owner;
  }

  /** A handle, or the error of a negative status. */
  #made(result: number, what: string): KeyHandle {
    if (result > 0) {
      return result as KeyHandle;
    }
    throw failure(this.#binding, -result, what);
  }

  #done(status: number, what: string): void {
    if (status !== STATUS.ok) {
      throw failure(this.#binding, status, what);
    }
  }

  /** Of a call on a message in work, where an invalid argument is mostly a call out of order. */
  #inOrder(status: number, what: string): void {
    if (status === STATUS.invalidArgument) {
      throw outOfOrder(what);
    }
    this.#done(status, what);
  }

  #verified(status: number, what: string): boolean {
    if (status === STATUS.authenticationFailed) {
      return false;
    }
    this.#done(status, what);
    return true;
  }
}

/** The one table from status to error. `what` names the call. */
export function failure(binding: Binding, status: number, what: string): DekdError {
  switch (status) {
    case STATUS.authenticationFailed:
      return decryptionFailed(`cannot ${what}: it does not authenticate`);
    case STATUS.staleKey:
      return new DekdError('INTERNAL', 'stale key handle');
    case STATUS.wrongUse:
      return new DekdError('INVALID_ARGUMENT', `${what} needs a key of another algorithm or purpose`);
    case STATUS.tableFull:
      return new DekdError('RESOURCE_EXHAUSTED', `key table is full: all ${binding.stats().capacity} slots are used`);
    case STATUS.invalidArgument:
      return new DekdError(
        'INVALID_ARGUMENT',
        `${what}: a region leaves its buffer, or output overlaps the input, or it is longer than 2 GiB`,
      );
    case STATUS.systemFailed:
      return new DekdError('INVALID_ARGUMENT', `cannot ${what}: ${errnoName(binding.lastErrno())}`);
    case STATUS.malformedKey:
      return new DekdError(
        'INVALID_ARGUMENT',
        'a root key is 32 bytes as one line of base64, 44 characters with or without a line feed after them',
      );
    case STATUS.pipeFailed:
      return pipeFailure(what, errnoName(binding.lastErrno()));
    case STATUS.pipeEnded:
      return pipeFailure(what, PIPE_ENDED);
    case STATUS.unexpectedFrame:
      return pipeFailure(what, UNEXPECTED_FRAME);
    case STATUS.randomFailed:
      return new DekdError('INTERNAL', `cannot ${what}: the kernel gives no random bytes`);
    default:
      return new DekdError('INTERNAL', `cannot ${what}: status ${status} of the addon`);
  }
}

function numbersOf(use: KeyUse): { algorithm: number; purpose: number } {
  return { algorithm: ALGORITHMS[use.algorithm], purpose: PURPOSES[use.purpose] };
}

function errnoName(errno: number): string {
  return errno > 0 ? getSystemErrorName(-errno) : 'unknown error';
}

/** Reasons of `native/core/locked_pool.h` that are no errno. */
const HIDES_NOTHING: Readonly<Record<number, string>> = {
  [-1]: 'memfd_secret gives memory that others can read',
  [-2]: 'memfd_secret leaves keys in the direct map of this kernel (CVE-2024-50182: start it with rodata=full)',
};

function describeMemory(binding: Binding): { lockLevel: LockLevel; lockReason: string } {
  const { level, secretErrno, lockedErrno, lockLimit } = binding.memory();
  const limit = lockLimit < 0 ? 'unlimited' : `${lockLimit} bytes`;
  const reasons: string[] = [];
  if (secretErrno !== 0) {
    reasons.push(HIDES_NOTHING[secretErrno] ?? `memfd_secret gives ${errnoName(secretErrno)}`);
  }
  if (lockedErrno !== 0) {
    reasons.push(`mlock gives ${errnoName(lockedErrno)}`);
  }
  const lockReason = reasons.length === 0 ? '' : `${reasons.join(', ')} with RLIMIT_MEMLOCK ${limit}`;
  return { lockLevel: LEVELS[level] ?? 'heap', lockReason };
}

type GivenNonce = 'vectorGcmSeal' | 'vectorGcmOpen' | 'vectorXaesSeal' | 'vectorXaesOpen';

function requireBinding(): Binding {
  const { binding, reason } = loadBinding();
  if (binding === undefined) {
    throw new DekdError('UNSUPPORTED', reason);
  }
  return binding;
}

function sealGiven(name: GivenNonce, nonceLength: number): Primitives['aesGcmSeal'] {
  return (key, nonce, aad, plaintext) => {
    checkKeyAndNonce(key, nonce, nonceLength);
    const binding = requireBinding();
    const sealed = new Uint8Array(plaintext.length + TAG_LENGTH);
    const status = binding[name](key, nonce, aad, plaintext, sealed);
    if (status !== STATUS.ok) {
      throw failure(binding, status, 'seal');
    }
    return sealed;
  };
}

function openGiven(name: GivenNonce, nonceLength: number): Primitives['aesGcmOpen'] {
  return (key, nonce, aad, sealed) => {
    checkKeyAndNonce(key, nonce, nonceLength);
    if (sealed.length < TAG_LENGTH) {
      return undefined;
    }
    const binding = requireBinding();
    const plaintext = new Uint8Array(sealed.length - TAG_LENGTH);
    const status = binding[name](key, nonce, aad, sealed, plaintext);
    if (status === STATUS.authenticationFailed) {
      return undefined;
    }
    if (status !== STATUS.ok) {
      throw failure(binding, status, 'open');
    }
    return plaintext;
  };
}

/** For published vectors; see `Primitives`. */
export const primitives: Primitives = {
  aesGcmSeal: sealGiven('vectorGcmSeal', GCM_NONCE_LENGTH),
  aesGcmOpen: openGiven('vectorGcmOpen', GCM_NONCE_LENGTH),
  xaesSeal: sealGiven('vectorXaesSeal', XAES_NONCE_LENGTH),
  xaesOpen: openGiven('vectorXaesOpen', XAES_NONCE_LENGTH),
  hkdfSha256(ikm, salt, info, length) {
    checkHkdfLength(length);
    const binding = requireBinding();
    const out = new Uint8Array(length);
    const status = binding.vectorHkdf(ikm, salt, info, out);
    if (status !== STATUS.ok) {
      throw failure(binding, status, 'derive');
    }
    return out;
  },
  hmacSha256(key, data) {
    const binding = requireBinding();
    const out = new Uint8Array(MAC_LENGTH);
    const status = binding.vectorHmac(key, data, out);
    if (status !== STATUS.ok) {
      throw failure(binding, status, 'mac');
    }
    return out;
  },
};
