import { readSync, writeSync } from 'node:fs';
import { DekdError } from '../errors.ts';
import { SECRET_LENGTH } from './engine.ts';

/**
 * Frames of the key pipe, in JavaScript: u32 big-endian id, u32 big-endian length, that many bytes. For the engines
 * whose keys are in JavaScript anyway and for the process at the other end; `native/core/key_pipe.h` is the same
 * without that.
 *
 * Writing to a pipe without a reader is an error here and not the end of the process, because Node ignores SIGPIPE.
 */

const HEAD_LENGTH = 8;
const MAX_ID = 2 ** 32 - 1;

/**
 * Writes one frame in one write (40 bytes for a key: PIPE_BUF is 4,096, so whole or not at all). `body` stays the
 * caller's; the copy that is written is wiped.
 * @throws KMS_UNAVAILABLE when the pipe is full, has no reader or took only a part.
 */
export function writeFrame(fd: number, id: number, body: Uint8Array, what: string): void {
  const frame = new Uint8Array(HEAD_LENGTH + body.length);
  const head = new DataView(frame.buffer);
  head.setUint32(0, id);
  head.setUint32(4, body.length);
  frame.set(body, HEAD_LENGTH);
  try {
    let written = 0;
    while (written < frame.length) {
      written += writeSync(fd, frame, written, frame.length - written, null);
    }
  } catch (error) {
    throw pipeFailure(what, codeOf(error));
  } finally {
    frame.fill(0);
  }
}

/**
 * Reads exactly one frame, which must be of `id` and hold `least` to `most` bytes.
 * @returns its bytes, which the caller wipes. @throws KMS_UNAVAILABLE when it is not that, or not there whole.
 */
export function readFrame(fd: number, id: number, least: number, most: number, what: string): Uint8Array {
  const head = new DataView(new ArrayBuffer(HEAD_LENGTH));
  fill(fd, new Uint8Array(head.buffer), what);
  const length = head.getUint32(4);
  if (head.getUint32(0) !== id || length < least || length > most) {
    throw pipeFailure(what, UNEXPECTED_FRAME);
  }
  const body = lastingBytes(length);
  try {
    fill(fd, body, what);
    return body;
  } catch (error) {
    body.fill(0);
    throw error;
  }
}

/** @throws INVALID_ARGUMENT unless `id` is a whole number of 32 bits. */
export function checkFrameId(id: number): void {
  if (!Number.isInteger(id) || id < 0 || id > MAX_ID) {
    throw new DekdError('INVALID_ARGUMENT', `frame id ${id} is outside 0 to ${MAX_ID}`);
  }
}

/** @throws INVALID_ARGUMENT unless a secret for `importSecret` has 32 bytes. */
export function checkSecretLength(secret: Uint8Array): void {
  if (secret.length !== SECRET_LENGTH) {
    throw new DekdError('INVALID_ARGUMENT', `secret has ${secret.length} bytes, not ${SECRET_LENGTH}`);
  }
}

/** Reasons that every engine gives alike. */
export const PIPE_ENDED = 'the other end was closed before a whole frame';
export const UNEXPECTED_FRAME = 'a frame of another call or of a length that the call does not take';

/** The one error of a failed pipe. `what` names the call; `reason` is an errno's name or one of the above. */
export function pipeFailure(what: string, reason: string): DekdError {
  return new DekdError('KMS_UNAVAILABLE', `cannot ${what}: the key pipe failed`, { reason: `key pipe: ${reason}` });
}

/**
 * Zeros whose wiping reaches every copy: an array of up to 64 bytes made by length alone lies on the JavaScript heap,
 * where the garbage collector moves it and leaves the old bytes behind.
 */
export function lastingBytes(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new ArrayBuffer(length));
}

function fill(fd: number, target: Uint8Array, what: string): void {
  let filled = 0;
  while (filled < target.length) {
    let count: number;
    try {
      count = readSync(fd, target, filled, target.length - filled, null);
    } catch (error) {
      throw pipeFailure(what, codeOf(error));
    }
    if (count === 0) {
      throw pipeFailure(what, PIPE_ENDED);
    }
    filled += count;
  }
}

function codeOf(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : 'unknown error';
}
