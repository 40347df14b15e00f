import { DekdError } from '../errors.ts';
import { checkFrameLength, MESSAGE_TAG_LENGTH, type MessageHeader, SIGNED_MESSAGE_SUITE } from './message-header.ts';

/**
 * How long the body of a message is, and where its frames are. All lengths and offsets are in bytes.
 *
 *     regular frame:   sequence number u32 ‖ nonce 12 ‖ ciphertext ‖ tag 16
 *     final frame:     FF FF FF FF ‖ sequence number u32 ‖ nonce 12 ‖ length u32 ‖ ciphertext ‖ tag 16
 *     body, unframed:  nonce 12 ‖ length u64 ‖ ciphertext ‖ tag 16
 *
 * A writer makes full frames and one final frame, which is full too when the plaintext is a multiple of the frame
 * length, and empty only when the plaintext is. Other writers put an empty final frame behind a full regular one:
 * lengths given here are those of what dekd writes.
 */

const NONCE_LENGTH = 12;
const U32_LENGTH = 4;
const U64_LENGTH = 8;

/** Bytes of a regular frame around its ciphertext. */
export const FRAME_OVERHEAD = U32_LENGTH + NONCE_LENGTH + MESSAGE_TAG_LENGTH;
/** Bytes of the final frame around its ciphertext. */
export const FINAL_FRAME_OVERHEAD = FRAME_OVERHEAD + 2 * U32_LENGTH;
/** Bytes of a body that is not framed around its ciphertext. */
export const NON_FRAMED_OVERHEAD = NONCE_LENGTH + U64_LENGTH + MESSAGE_TAG_LENGTH;
/** Sequence numbers are u32 and begin at 1; the highest is the mark of the final frame. */
export const MAX_FRAMES = 0xfffffffe;

/**
 * Frames of a message, the final one among them; at least 1.
 * @throws INVALID_ARGUMENT for numbers that are no lengths, and when the message would have more frames than there are
 *   sequence numbers
 */
export function frameCount(plaintextLength: number, frameLength: number): number {
  checkFrameLength(frameLength);
  if (!Number.isSafeInteger(plaintextLength) || plaintextLength < 0) {
    throw new DekdError('INVALID_ARGUMENT', `a plaintext length is a whole number of bytes, not ${plaintextLength}`);
  }
  // By the remainder, because it is exact: a quotient may be rounded.
  const rest = plaintextLength % frameLength;
  const full = (plaintextLength - rest) / frameLength;
  const count = rest > 0 || full === 0 ? full + 1 : full;
  if (count > MAX_FRAMES) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `${plaintextLength} bytes in frames of ${frameLength} are ${count} frames, over the limit of ${MAX_FRAMES}: ` +
        'take a larger frame length',
    );
  }
  return count;
}

/**
 * Bytes of the framed body that a plaintext becomes, without the header.
 * @throws INVALID_ARGUMENT as `frameCount`, and when the body is longer than 2^53 - 1 bytes
 */
export function sealedBodyLength(plaintextLength: number, frameLength: number): number {
  const regular = frameCount(plaintextLength, frameLength) - 1;
  return checkedSum(plaintextLength, regular * FRAME_OVERHEAD + FINAL_FRAME_OVERHEAD);
}

/**
 * Where in the body frame `index` begins, for reading from the middle. Frames before it are regular and full.
 * @param index from 0: one less than the sequence number
 * @throws INVALID_ARGUMENT for what is no index or frame length, and when the offset is over 2^53 - 1
 */
export function frameOffset(index: number, frameLength: number): number {
  checkFrameLength(frameLength);
  if (!Number.isInteger(index) || index < 0 || index >= MAX_FRAMES) {
    throw new DekdError('INVALID_ARGUMENT', `a frame index is 0 to ${MAX_FRAMES - 1}, not ${index}`);
  }
  return checkedSum(index * frameLength, index * FRAME_OVERHEAD);
}

/** What the length of a body says of it, if it is whole. */
export interface BodyLayout {
  /** Frames, the final one among them. */
  readonly frames: number;
  readonly plaintextLength: number;
}

/**
 * What a framed body of that length holds, by whichever writer; nothing of it is proven before its final frame was opened.
 * @throws MALFORMED when no whole body is so long; INVALID_ARGUMENT for what is no frame length
 */
export function bodyLayout(bodyLength: number, frameLength: number): BodyLayout {
  checkFrameLength(frameLength);
  const content = bodyLength - FINAL_FRAME_OVERHEAD;
  const last = content % (frameLength + FRAME_OVERHEAD);
  const regular = (content - last) / (frameLength + FRAME_OVERHEAD);
  if (!Number.isSafeInteger(content) || content < 0 || last > frameLength || regular >= MAX_FRAMES) {
    throw new DekdError('MALFORMED', `no whole message in frames of ${frameLength} has a body of ${bodyLength} bytes`);
  }
  return { frames: regular + 1, plaintextLength: regular * frameLength + last };
}

/**
 * Checks that parts of a message can be opened without the others.
 * @throws UNSUPPORTED for a body in one piece, and for a signed message, of which nothing counts before all of it was read
 */
export function checkHasParts({ suite, frameLength }: MessageHeader): void {
  if (frameLength === 0 || suite === SIGNED_MESSAGE_SUITE) {
    const why = frameLength === 0 ? 'its body is one piece' : 'it is signed as a whole';
    throw new DekdError('UNSUPPORTED', `no part of this message can be opened alone: ${why}; decrypt all of it`);
  }
}

/** The sum, when it is exact: rounding never takes what is over 2^53 below it. */
function checkedSum(ciphertext: number, overhead: number): number {
  const sum = ciphertext + overhead;
  if (!Number.isSafeInteger(sum)) {
    throw new DekdError('INVALID_ARGUMENT', `a body of over ${Number.MAX_SAFE_INTEGER} bytes cannot be addressed`);
  }
  return sum;
}
