/** Messages of whole files that a client passed by descriptors: header and keys as in a stream, frames by native code. */
import type { FilePass } from '../crypto/lane-files.ts';
import { FILE_FRAME_LENGTH, MAX_FRAME_LENGTH } from '../envelope/frame-lengths.ts';
import {
  DEFAULT_MESSAGE_LIMITS,
  MessageHeaderReader,
  messageContext,
  SIGNED_MESSAGE_SUITE,
} from '../envelope/message-header.ts';
import { DekdError } from '../errors.ts';
import { codecOf } from './compressed-value.ts';
import type { OperationsEnvironment } from './environment.ts';
import { beginOpening, beginSealing, type MessageRequest } from './message-begin.ts';
import type { Caller } from './request.ts';

/** What most headers are shorter than. */
const HEAD = 4096;

/** What became of the files. */
export interface FileResult {
  readonly bytesRead: number;
  readonly bytesWritten: number;
}

/** Says between steps whether the result is still wanted. @throws CANCELLED */
export type CheckWanted = () => void;

/** Makes a message of the one file in the other. The target is of no use unless this resolves. @throws as `sealingWork` */
export async function encryptFiles(
  env: OperationsEnvironment,
  caller: Caller,
  request: MessageRequest,
  files: FilePass,
  checkWanted: CheckWanted,
): Promise<FileResult> {
  const frameLength = request.frameLength === 0 ? FILE_FRAME_LENGTH : request.frameLength;
  const { sealing, count } = await beginSealing(env, caller, { ...request, frameLength }, 'encrypt', {});
  try {
    let bytesRead = 0;
    let bytesWritten = 0;
    for (;;) {
      checkWanted();
      const step = await files.seal(sealing.message, frameLength, sealing.header);
      count(step.read);
      bytesRead += step.read;
      bytesWritten += step.written;
      if (step.isEnd) {
        return { bytesRead, bytesWritten };
      }
    }
  } finally {
    sealing.close();
  }
}

/**
 * The reverse: what is written was verified frame by frame, and is the whole message only when this resolves.
 * @throws as `openingWork`; UNSUPPORTED for messages that are signed, not framed or compressed, which a stream opens; MALFORMED when the
 * message is cut short or something follows it
 */
export async function decryptFiles(
  env: OperationsEnvironment,
  caller: Caller,
  request: MessageRequest,
  files: FilePass,
  checkWanted: CheckWanted,
): Promise<FileResult> {
  const opening = beginOpening(env, caller, request, 'decrypt');
  try {
    const { header, body, frameLength } = await readHeader(files);
    await opening.push(header);
    const { message } = opening;
    if (message === undefined) {
      throw new DekdError('INTERNAL', 'a header that is whole begins no message');
    }
    let bytesRead = body;
    let bytesWritten = 0;
    for (;;) {
      checkWanted();
      const step = await files.open(message, frameLength, body);
      env.volume.bytesOpened += step.written;
      bytesRead += step.read;
      bytesWritten += step.written;
      if (step.hasMore) {
        throw new DekdError('MALFORMED', 'bytes follow the end of the message');
      }
      if (step.isEnd) {
        return { bytesRead, bytesWritten };
      }
      if (step.read === 0) {
        throw new DekdError('MALFORMED', 'the message is cut short: its final frame has not come');
      }
    }
  } finally {
    opening.close();
  }
}

/** Exactly the bytes of the header, and what of it decides who can open the body. */
async function readHeader(files: FilePass): Promise<{ header: Uint8Array; body: number; frameLength: number }> {
  const reader = new MessageHeaderReader({ ...DEFAULT_MESSAGE_LIMITS, maxFrameLength: MAX_FRAME_LENGTH });
  for (let length = HEAD; ; length *= 4) {
    const bytes = await files.read(0, length);
    const header = reader.read(bytes);
    if (header !== undefined) {
      const { frameLength, suite } = header;
      if (frameLength === 0 || suite === SIGNED_MESSAGE_SUITE) {
        throw new DekdError('UNSUPPORTED', 'messages that are signed or not framed are opened as a stream');
      }
      if (codecOf(messageContext(header)) !== undefined) {
        throw new DekdError('UNSUPPORTED', 'a compressed value is opened as a stream');
      }
      return { header: bytes.subarray(0, header.length), body: header.length, frameLength };
    }
    if (bytes.length < length) {
      throw new DekdError('MALFORMED', 'the message is cut short: its header is not whole');
    }
  }
}
