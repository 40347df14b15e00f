/** Messages of the engines in JavaScript, over one library. */
import { hex, joined } from '../bytes.ts';
import { decryptionFailed } from '../errors.ts';
import type { BegunMessage, CommittedSuite, KeyHandle, KeyUse, OpenedFrames } from './engine.ts';
import {
  BODY_USE,
  COMMITMENT_LENGTH,
  DATA_KEY_INFO_LENGTH,
  DATA_KEY_USE,
  ENCRYPTED_DATA_KEY_LENGTH,
  HEADER_TAG_LENGTH,
  MESSAGE_ID_LENGTH,
  MESSAGE_KEY_USE,
  RAW_AES_INFO_TAIL,
  RAW_AES_USE,
} from './engine.ts';
import type { CipherLibrary } from './js-engine.ts';
import type { KeyEntry } from './js-key-table.ts';
import {
  checkFrameLength,
  checkMessage,
  checkSequence,
  findFrame,
  hasNumbersFor,
  type MessageState,
  newMessage,
  nonceOf,
  outOfOrder,
  sealedLength,
  writeFrameHead,
} from './message-frames.ts';
import { GCM_NONCE_LENGTH, KEY_LENGTH, TAG_LENGTH } from './primitives.ts';

/** What an engine has that messages need. */
export interface MessageHost<K> {
  readonly library: CipherLibrary<K>;
  /** Wipes `bytes`. @throws RESOURCE_EXHAUSTED */
  add(bytes: Uint8Array, use: KeyUse, message?: MessageState): KeyHandle;
  /** @throws INTERNAL when stale; INVALID_ARGUMENT when it is for something else. */
  require(handle: KeyHandle, use: KeyUse): KeyEntry<K>;
  fillRandom(target: Uint8Array): void;
}

const EPOCH_LENGTH = 12;
/** Wraps under one epoch, far below what random nonces are good for (NIST SP 800-38D 8.3). */
const WRAPS_AN_EPOCH = 2 ** 28;
const utf8 = new TextEncoder();
const DATA_KEY_LABEL = utf8.encode('dekd/v1/edk');
const DERIVE_KEY = utf8.encode('DERIVEKEY');
const COMMIT_KEY = utf8.encode('COMMITKEY');

export class JsMessages<K> {
  readonly #host: MessageHost<K>;
  readonly #epoch = new Uint8Array(EPOCH_LENGTH);
  #wrapsLeft = 0;

  constructor(host: MessageHost<K>) {
    this.#host = host;
  }

  wrapDataKey(messageKey: KeyHandle, dataKey: KeyHandle, context: Uint8Array): Uint8Array {
    const { library } = this.#host;
    const under = this.#host.require(messageKey, MESSAGE_KEY_USE);
    const data = this.#host.require(dataKey, DATA_KEY_USE);
    if (this.#wrapsLeft === 0) {
      this.#host.fillRandom(this.#epoch);
      this.#wrapsLeft = WRAPS_AN_EPOCH;
    }
    this.#wrapsLeft--;
    const wrapped = new Uint8Array(DATA_KEY_INFO_LENGTH + ENCRYPTED_DATA_KEY_LENGTH);
    wrapped.set(infoHead(under.kid, this.#epoch));
    const nonce = wrapped.subarray(DATA_KEY_INFO_LENGTH - GCM_NONCE_LENGTH, DATA_KEY_INFO_LENGTH);
    this.#host.fillRandom(nonce);
    const wrapping = library.hkdf(under.key, joined([DATA_KEY_LABEL, this.#epoch]));
    const bytes = library.exportKey(data.key);
    try {
      library.gcmSeal(wrapping, nonce, context, bytes, wrapped, DATA_KEY_INFO_LENGTH);
    } finally {
      bytes.fill(0);
      library.wipeKey(wrapping);
    }
    return wrapped;
  }

  unwrapDataKey(messageKey: KeyHandle, info: Uint8Array, encrypted: Uint8Array, context: Uint8Array): KeyHandle {
    const { library } = this.#host;
    const under = this.#host.require(messageKey, MESSAGE_KEY_USE);
    if (info.length !== DATA_KEY_INFO_LENGTH || encrypted.length !== ENCRYPTED_DATA_KEY_LENGTH) {
      throw decryptionFailed('encrypted data key or its provider info has a wrong length');
    }
    const epoch = epochIn(info);
    const wrapping = library.hkdf(under.key, joined([DATA_KEY_LABEL, epoch]));
    const bytes = new Uint8Array(KEY_LENGTH);
    try {
      const nonce = info.subarray(DATA_KEY_INFO_LENGTH - GCM_NONCE_LENGTH);
      const head = infoHead(under.kid, epoch);
      if (
        !library.gcmOpen(wrapping, nonce, context, encrypted, bytes, 0) ||
        !library.equal(head, info.subarray(0, head.length))
      ) {
        throw decryptionFailed('encrypted data key does not authenticate');
      }
      return this.#host.add(bytes, DATA_KEY_USE);
    } finally {
      bytes.fill(0);
      library.wipeKey(wrapping);
    }
  }

  wrapDataKeyUnder(rawKey: KeyHandle, name: Uint8Array, dataKey: KeyHandle, context: Uint8Array): Uint8Array {
    const { library } = this.#host;
    const under = this.#host.require(rawKey, RAW_AES_USE);
    const data = this.#host.require(dataKey, DATA_KEY_USE);
    const infoLength = name.length + RAW_AES_INFO_TAIL;
    const wrapped = new Uint8Array(infoLength + ENCRYPTED_DATA_KEY_LENGTH);
    wrapped.set(joined([name, INFO_LENGTHS]));
    const nonce = wrapped.subarray(infoLength - GCM_NONCE_LENGTH, infoLength);
    this.#host.fillRandom(nonce);
    const bytes = library.exportKey(data.key);
    try {
      library.gcmSeal(under.key, nonce, context, bytes, wrapped, infoLength);
    } finally {
      bytes.fill(0);
    }
    return wrapped;
  }

  unwrapDataKeyUnder(
    rawKey: KeyHandle,
    name: Uint8Array,
    info: Uint8Array,
    encrypted: Uint8Array,
    context: Uint8Array,
  ): KeyHandle {
    const { library } = this.#host;
    const under = this.#host.require(rawKey, RAW_AES_USE);
    const head = joined([name, INFO_LENGTHS]);
    const nonce = info.subarray(head.length);
    if (
      nonce.length !== GCM_NONCE_LENGTH ||
      encrypted.length !== ENCRYPTED_DATA_KEY_LENGTH ||
      !library.equal(head, info.subarray(0, head.length))
    ) {
      throw decryptionFailed('encrypted data key is not of this raw AES key');
    }
    const bytes = new Uint8Array(KEY_LENGTH);
    try {
      if (!library.gcmOpen(under.key, nonce, context, encrypted, bytes, 0)) {
        throw decryptionFailed('encrypted data key does not authenticate');
      }
      return this.#host.add(bytes, DATA_KEY_USE);
    } finally {
      bytes.fill(0);
    }
  }

  begin(dataKey: KeyHandle, frameLength: number): BegunMessage {
    checkFrameLength(frameLength);
    const { key } = this.#host.require(dataKey, DATA_KEY_USE);
    const id = new Uint8Array(MESSAGE_ID_LENGTH);
    this.#host.fillRandom(id);
    const message = this.#bodyKey(key, 0x0478, newMessage(id, frameLength, 'sealHeader'));
    return { message, id, commitment: this.#commitment(key, id) };
  }

  resume(
    dataKey: KeyHandle,
    suite: CommittedSuite,
    id: Uint8Array,
    frameLength: number,
    commitment: Uint8Array,
  ): KeyHandle {
    checkMessage(id, frameLength, commitment);
    const { key } = this.#host.require(dataKey, DATA_KEY_USE);
    if (!this.#host.library.equal(this.#commitment(key, id), commitment)) {
      throw decryptionFailed('cannot take a message up: it commits to another data key');
    }
    return this.#bodyKey(key, suite, newMessage(id, frameLength, 'openHeader'));
  }

  sealHeader(message: KeyHandle, header: Uint8Array, required: Uint8Array): Uint8Array {
    const { key, state } = this.#at(message, 'sealHeader', 'seal a header');
    const tag = new Uint8Array(HEADER_TAG_LENGTH);
    state.phase = 'ended';
    this.#host.library.gcmSeal(key, nonceOf(0), joined([header, required]), NOTHING, tag, 0);
    state.phase = 'sealFrames';
    return tag;
  }

  verifyHeader(message: KeyHandle, header: Uint8Array, required: Uint8Array, tag: Uint8Array): boolean {
    if (tag.length !== HEADER_TAG_LENGTH) {
      return false;
    }
    const { key, state } = this.#at(message, 'openHeader', 'verify a header');
    const verified = this.#host.library.gcmOpen(key, nonceOf(0), joined([header, required]), tag, NOTHING, 0);
    state.phase = verified ? 'openFrames' : 'ended';
    return verified;
  }

  sealFrames(message: KeyHandle, plaintext: Uint8Array, final: boolean, output: Uint8Array): void {
    const { key, state } = this.#at(message, 'sealFrames', 'seal frames');
    const { frameLength } = state;
    const last = !final || plaintext.length === 0 ? 0 : ((plaintext.length - 1) % frameLength) + 1;
    const frames = (plaintext.length - last) / frameLength + (final ? 1 : 0);
    if (
      output.length !== sealedLength(plaintext.length, frameLength, final) ||
      overlap(plaintext, output) ||
      !hasNumbersFor(state, frames)
    ) {
      throw outOfOrder('seal frames');
    }
    state.phase = 'ended';
    let from = 0;
    let to = 0;
    for (let frame = 0; frame < frames; frame++) {
      const isFinal = final && frame === frames - 1;
      const length = isFinal ? last : frameLength;
      const { offset, nonce, aad } = writeFrameHead(state, output, to, length, isFinal);
      this.#host.library.gcmSeal(key, nonce, aad, plaintext.subarray(from, from + length), output, offset);
      state.nextSequence++;
      from += length;
      to = offset + length + TAG_LENGTH;
    }
    if (!final) {
      state.phase = 'sealFrames';
    }
  }

  openFrames(message: KeyHandle, body: Uint8Array, output: Uint8Array): OpenedFrames | undefined {
    const { key, state } = this.#at(message, 'openFrames', 'open frames');
    if (output.length < body.length || overlap(body, output)) {
      throw outOfOrder('open frames');
    }
    state.phase = 'ended';
    let consumed = 0;
    let produced = 0;
    for (;;) {
      const frame = findFrame(state, body, consumed);
      if (frame === 'incomplete') {
        state.phase = 'openFrames';
        return { consumed, produced, final: false };
      }
      if (
        frame === undefined ||
        !this.#host.library.gcmOpen(key, frame.nonce, frame.aad, frame.sealed, output, produced)
      ) {
        output.fill(0, 0, produced);
        return undefined;
      }
      consumed += frame.length;
      produced += frame.sealed.length - TAG_LENGTH;
      state.nextSequence++;
      if (frame.final) {
        return { consumed, produced, final: true };
      }
    }
  }

  seekFrame(message: KeyHandle, sequence: number): void {
    checkSequence(sequence);
    const { state } = this.#at(message, 'openFrames', 'go to a frame');
    if (state.frameLength === 0) {
      throw outOfOrder('go to a frame');
    }
    state.nextSequence = sequence;
  }

  #at(message: KeyHandle, phase: MessageState['phase'], what: string): { key: K; state: MessageState } {
    const { key, message: state } = this.#host.require(message, BODY_USE);
    if (state?.phase !== phase) {
      throw outOfOrder(what);
    }
    return { key, state };
  }

  #commitment(dataKey: K, id: Uint8Array): Uint8Array {
    return this.#host.library.hkdf512(dataKey, id, COMMIT_KEY, COMMITMENT_LENGTH);
  }

  /** Algorithm Suites Reference, "Key derivation": the label is the suite id and then a text. */
  #bodyKey(dataKey: K, suite: CommittedSuite, state: MessageState): KeyHandle {
    const label = joined([Uint8Array.of(suite >> 8, suite & 0xff), DERIVE_KEY]);
    const bytes = this.#host.library.hkdf512(dataKey, state.id, label, KEY_LENGTH);
    try {
      return this.#host.add(bytes, BODY_USE, state);
    } finally {
      bytes.fill(0);
    }
  }
}

const NOTHING = new Uint8Array(0);
/** u32 bits of the tag ‖ u32 bytes of the nonce. */
const INFO_LENGTHS = Uint8Array.of(0, 0, 0, 8 * TAG_LENGTH, 0, 0, 0, GCM_NONCE_LENGTH);

/** The provider info up to its nonce: hex(kid) "." hex(epoch) ‖ u32 bits of the tag ‖ u32 bytes of the nonce. */
function infoHead(kid: Uint8Array, epoch: Uint8Array): Uint8Array {
  const name = utf8.encode(`${hex(kid)}.${hex(epoch)}`);
  return joined([name, INFO_LENGTHS]);
}

/** Anything that is no digit counts as 0, and is found out by comparing the name as a whole. */
function epochIn(info: Uint8Array): Uint8Array {
  const from = DATA_KEY_INFO_LENGTH - GCM_NONCE_LENGTH - 8 - 2 * EPOCH_LENGTH;
  return Uint8Array.from({ length: EPOCH_LENGTH }, (_, index) => {
    const at = from + 2 * index;
    return (digit(info[at]!) << 4) | digit(info[at + 1]!);
  });
}

function digit(code: number): number {
  const value = '0123456789abcdef'.indexOf(String.fromCharCode(code));
  return Math.max(value, 0);
}

function overlap(a: Uint8Array, b: Uint8Array): boolean {
  return (
    a.buffer === b.buffer &&
    a.length > 0 &&
    b.length > 0 &&
    a.byteOffset < b.byteOffset + b.length &&
    b.byteOffset < a.byteOffset + a.length
  );
}
