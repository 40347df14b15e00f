/** Frames of messages and the order of the work on one, for the engines in JavaScript; `native/core/message.cc` is the same. */
import { DekdError } from '../errors.ts';
import { COMMITMENT_LENGTH, MESSAGE_ID_LENGTH } from './engine.ts';
import { GCM_NONCE_LENGTH, TAG_LENGTH } from './primitives.ts';

const utf8 = new TextEncoder();
const REGULAR = utf8.encode('AWSKMSEncryptionClient Frame');
const FINAL = utf8.encode('AWSKMSEncryptionClient Final Frame');
const SINGLE_BLOCK = utf8.encode('AWSKMSEncryptionClient Single Block');

/** What the final frame begins with, so that no other has this number. */
const FINAL_MARK = 0xffff_ffff;
const SEQUENCE_LENGTH = 4;
const REGULAR_HEAD = SEQUENCE_LENGTH + GCM_NONCE_LENGTH;
const FINAL_HEAD = 2 * SEQUENCE_LENGTH + GCM_NONCE_LENGTH + 4;
const SINGLE_HEAD = GCM_NONCE_LENGTH + 8;
/** What OpenSSL takes in one call, which bounds a body that is not framed. */
const MAX_BLOCK_LENGTH = 2 ** 31 - 65;

type Phase = 'sealHeader' | 'sealFrames' | 'openHeader' | 'openFrames' | 'ended';

/** A message in work, beside its key. */
export interface MessageState {
  readonly id: Uint8Array;
  /** Bytes of plaintext in every frame but the last; 0 for a body that is not framed. */
  readonly frameLength: number;
  nextSequence: number;
  phase: Phase;
}

/** One frame as it lies in a body. Views of the body. */
export interface Frame {
  readonly nonce: Uint8Array;
  readonly aad: Uint8Array;
  /** Ciphertext ‖ tag. */
  readonly sealed: Uint8Array;
  /** Bytes of the whole frame. */
  readonly length: number;
  readonly final: boolean;
}

export function newMessage(id: Uint8Array, frameLength: number, phase: Phase): MessageState {
  return { id: id.slice(), frameLength, nextSequence: 1, phase };
}

/** The nonce that is written: 0 for the header, the sequence number for a frame. */
export function nonceOf(sequence: number): Uint8Array {
  const nonce = new Uint8Array(GCM_NONCE_LENGTH);
  viewOf(nonce).setUint32(GCM_NONCE_LENGTH - SEQUENCE_LENGTH, sequence);
  return nonce;
}

/**
 * The frame at `body[at]`; `incomplete` when it is not whole there, undefined when it cannot be the next one, which is
 * said before it is whole.
 */
export function findFrame(state: MessageState, body: Uint8Array, at: number): Frame | 'incomplete' | undefined {
  const left = body.length - at;
  const view = viewOf(body);
  if (state.frameLength === 0) {
    if (left < SINGLE_HEAD) {
      return 'incomplete';
    }
    const length = view.getBigUint64(at + GCM_NONCE_LENGTH);
    return length > MAX_BLOCK_LENGTH
      ? undefined
      : frameAt(state, body, at, SINGLE_BLOCK, 0, SINGLE_HEAD, Number(length), true);
  }
  if (left < SEQUENCE_LENGTH) {
    return 'incomplete';
  }
  const first = view.getUint32(at);
  if (first !== FINAL_MARK) {
    return first === state.nextSequence
      ? frameAt(state, body, at, REGULAR, SEQUENCE_LENGTH, REGULAR_HEAD, state.frameLength, false)
      : undefined;
  }
  if (left < FINAL_HEAD) {
    return 'incomplete';
  }
  const length = view.getUint32(at + FINAL_HEAD - 4);
  return view.getUint32(at + SEQUENCE_LENGTH) === state.nextSequence && length <= state.frameLength
    ? frameAt(state, body, at, FINAL, 2 * SEQUENCE_LENGTH, FINAL_HEAD, length, true)
    : undefined;
}

function frameAt(
  state: MessageState,
  body: Uint8Array,
  at: number,
  text: Uint8Array,
  nonceOffset: number,
  head: number,
  plainLength: number,
  final: boolean,
): Frame | 'incomplete' {
  const length = head + plainLength + TAG_LENGTH;
  if (body.length - at < length) {
    return 'incomplete';
  }
  return {
    nonce: body.subarray(at + nonceOffset, at + nonceOffset + GCM_NONCE_LENGTH),
    aad: bodyAad(state, text, plainLength),
    sealed: body.subarray(at + head, at + length),
    length,
    final,
  };
}

/**
 * Writes all of a frame that is not ciphertext or tag at `output[at]`.
 * @returns where ciphertext and tag go, and the additional data
 */
export function writeFrameHead(
  state: MessageState,
  output: Uint8Array,
  at: number,
  plainLength: number,
  final: boolean,
): { readonly offset: number; readonly nonce: Uint8Array; readonly aad: Uint8Array } {
  const view = viewOf(output);
  const nonce = nonceOf(state.nextSequence);
  let offset = at;
  if (final) {
    view.setUint32(offset, FINAL_MARK);
    offset += SEQUENCE_LENGTH;
  }
  view.setUint32(offset, state.nextSequence);
  output.set(nonce, offset + SEQUENCE_LENGTH);
  offset += REGULAR_HEAD;
  if (final) {
    view.setUint32(offset, plainLength);
    offset += 4;
  }
  return { offset, nonce, aad: bodyAad(state, final ? FINAL : REGULAR, plainLength) };
}

/** Message id ‖ text ‖ u32 sequence number ‖ u64 bytes of plaintext. */
function bodyAad({ id, nextSequence }: MessageState, text: Uint8Array, plainLength: number): Uint8Array {
  const aad = new Uint8Array(id.length + text.length + SEQUENCE_LENGTH + 8);
  aad.set(id);
  aad.set(text, id.length);
  const view = viewOf(aad);
  view.setUint32(id.length + text.length, nextSequence);
  view.setBigUint64(id.length + text.length + SEQUENCE_LENGTH, BigInt(plainLength));
  return aad;
}

/** Bytes that `sealFrames` writes; undefined when it does not take so many. */
export function sealedLength(plainLength: number, frameLength: number, final: boolean): number | undefined {
  const overhead = REGULAR_HEAD + TAG_LENGTH;
  if (!final) {
    return plainLength % frameLength === 0 ? plainLength + (plainLength / frameLength) * overhead : undefined;
  }
  const regular = plainLength === 0 ? 0 : Math.floor((plainLength - 1) / frameLength);
  return plainLength + regular * overhead + FINAL_HEAD + TAG_LENGTH;
}

/** Whether that many more frames, the final one included, have numbers left. */
export function hasNumbersFor(state: MessageState, frames: number): boolean {
  return frames <= FINAL_MARK - state.nextSequence;
}

/** @throws INVALID_ARGUMENT for a number that no frame but the final one's mark, or none at all, has. */
export function checkSequence(sequence: number): void {
  if (!Number.isInteger(sequence) || sequence < 1 || sequence >= FINAL_MARK) {
    throw new DekdError('INVALID_ARGUMENT', `frames are numbered from 1 to ${FINAL_MARK - 1}, not ${sequence}`);
  }
}

/** @throws INVALID_ARGUMENT on a frame length outside 1 to 2^32 - 1. */
export function checkFrameLength(frameLength: number): void {
  if (!Number.isInteger(frameLength) || frameLength < 1 || frameLength > 0xffff_ffff) {
    throw new DekdError('INVALID_ARGUMENT', `frame length of ${frameLength} bytes is outside 1 to ${0xffff_ffff}`);
  }
}

/** @throws INVALID_ARGUMENT on sizes that no header has; frame length 0 is a body that is not framed. */
export function checkMessage(id: Uint8Array, frameLength: number, commitment: Uint8Array): void {
  if (frameLength !== 0) {
    checkFrameLength(frameLength);
  }
  if (id.length !== MESSAGE_ID_LENGTH || commitment.length !== COMMITMENT_LENGTH) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `message id and commitment of ${id.length} and ${commitment.length} bytes are not ${MESSAGE_ID_LENGTH} and ${COMMITMENT_LENGTH}`,
    );
  }
}

export function outOfOrder(what: string): DekdError {
  return new DekdError(
    'INVALID_ARGUMENT',
    `cannot ${what}: the message is not at this step, or the output has another size or lies over the input`,
  );
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
