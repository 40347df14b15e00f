/** A part of the plaintext of a message, by reading the frames that it lies in and no others. */
import { open } from 'node:fs/promises';
import { pipeline, Readable } from 'node:stream';
import { joined } from '../bytes.ts';
import { bodyLayout, checkHasParts, frameOffset } from '../envelope/message-body.ts';
import {
  DEFAULT_MESSAGE_LIMITS,
  type MessageHeader,
  MessageHeaderReader,
  messageContext,
} from '../envelope/message-header.ts';
import { COMPRESSION_NAME } from '../envelope/own-names.ts';
import { DekdError } from '../errors.ts';
import type { MessageStream } from './message-stream.ts';
import type { StreamedPart } from './stream-call.ts';
import type { ByteRange, MessageSource, OpenFile } from './types.ts';

/** Bytes that are asked for at once, so that a source behind a network is asked seldom and memory is bounded. */
const READ_LENGTH = 1024 * 1024;
/** What most headers are shorter than. */
const HEADER_GUESS = 4 * 1024;

/** All of `pieces`, in bytes that nobody else has. */
export async function wholeOf(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const kept: Uint8Array[] = [];
  for await (const piece of pieces) {
    kept.push(piece);
  }
  return joined(kept);
}

/** Which frames a range lies in. */
interface FrameRange extends StreamedPart {
  /** Where in the message the first of them begins, and where the last ends; in bytes. */
  readonly from: number;
  readonly to: number;
  /** Bytes of plaintext before the range in the first of them, and bytes of the range; it may have fewer. */
  readonly skipped: number;
  readonly length: number;
}

/**
 * The range of the plaintext, in pieces that were verified each; bytes of them belong to the caller.
 * @param opened makes the stream that opens the frames
 * @throws what `DekdClient.decryptRange` rejects with
 */
export async function* readRange(
  given: string | OpenFile | MessageSource,
  range: ByteRange,
  opened: (part: StreamedPart) => MessageStream,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { start, end } = checkedRange(range);
  const file = typeof given === 'string' ? await open(given) : undefined;
  try {
    const source = file === undefined ? await sourceOf(given as OpenFile | MessageSource) : await sourceOfFile(file);
    const header = await readHeader(source);
    checkHasParts(header);
    // The agent would expand a message that is opened as a whole, which is a question of how short it became.
    if (messageContext(header)[COMPRESSION_NAME] !== undefined) {
      throw new DekdError('UNSUPPORTED', 'a compressed value has no parts: decrypt it whole');
    }
    const frames = framesOf(header, source.size, start, end);
    const stream = opened(frames);
    // What fails of the source destroys the stream, and the reverse.
    pipeline(Readable.from(messagePart(source, header, frames), { objectMode: false }), stream, () => {});
    yield* cut(stream, frames);
  } finally {
    await file?.close();
  }
}

/** The frames of the range and, when it goes up to the end or beyond, of a message that is whole: the final one too. */
function framesOf(header: MessageHeader, size: number, start: number, end: number): FrameRange {
  const { frameLength, length } = header;
  const layout = bodyLayout(size - length, frameLength);
  const first = Math.min(Math.floor(start / frameLength), layout.frames - 1);
  const toEnd = end > layout.plaintextLength || start >= layout.plaintextLength;
  const last = toEnd ? layout.frames - 1 : Math.floor(Math.max(start, end - 1) / frameLength);
  return {
    firstFrame: first + 1,
    // The agent is told to insist on the final frame where the size of the message matters: it is the source's word.
    frames: toEnd ? 0 : last - first + 1,
    from: length + frameOffset(first, frameLength),
    to: last === layout.frames - 1 ? size : length + frameOffset(last + 1, frameLength),
    skipped: start - first * frameLength,
    length: end - start,
  };
}

/** The bytes that `range` has of what a stream gives, once the stream has come to its end. */
async function* cut(stream: AsyncIterable<Uint8Array>, { skipped, length }: FrameRange): AsyncGenerator<Uint8Array> {
  let at = -skipped;
  for await (const chunk of stream) {
    const piece = chunk.subarray(Math.max(0, -at), Math.max(0, length - at));
    at += chunk.length;
    if (piece.length > 0) {
      yield piece;
    }
  }
}

async function* messagePart(
  source: MessageSource,
  { body, tag }: MessageHeader,
  { from, to }: FrameRange,
): AsyncGenerator<Uint8Array> {
  yield body;
  yield tag;
  for (let at = from; at < to; at += READ_LENGTH) {
    yield* bytesAt(source, at, Math.min(READ_LENGTH, to - at));
  }
}

/** @throws what `MessageHeaderReader.read` throws, and MALFORMED when the message is no longer than its header */
async function readHeader(source: MessageSource): Promise<MessageHeader> {
  const reader = new MessageHeaderReader();
  const most = Math.min(source.size, DEFAULT_MESSAGE_LIMITS.maxHeader);
  let bytes = Buffer.alloc(0);
  for (let length = HEADER_GUESS; ; length *= 4) {
    const wanted = Math.min(length, most);
    const pieces: Uint8Array[] = [bytes];
    for await (const piece of bytesAt(source, bytes.length, wanted - bytes.length)) {
      pieces.push(piece);
    }
    bytes = Buffer.concat(pieces);
    const header = reader.read(bytes);
    if (header !== undefined) {
      return header;
    }
    if (wanted === most) {
      throw new DekdError('MALFORMED', 'the message is cut short: its header is not whole');
    }
  }
}

/** Exactly those bytes, in as many pieces as the source makes of them. @throws MALFORMED when there are fewer */
async function* bytesAt(source: MessageSource, position: number, length: number): AsyncGenerator<Uint8Array> {
  for (let at = position; at < position + length; ) {
    const wanted = position + length - at;
    const bytes = await source.read(at, wanted);
    if (!(bytes instanceof Uint8Array) || bytes.length > wanted) {
      throw new DekdError('INVALID_ARGUMENT', `read of the source gives a Uint8Array of at most ${wanted} bytes`);
    }
    if (bytes.length === 0) {
      throw new DekdError('MALFORMED', `the message is cut short: it ends at ${at} bytes of ${source.size}`);
    }
    at += bytes.length;
    yield bytes;
  }
}

async function sourceOf(given: OpenFile | MessageSource): Promise<MessageSource> {
  const { size, stat, read } = (given ?? {}) as Partial<OpenFile & MessageSource>;
  if (typeof read === 'function' && typeof stat === 'function') {
    return sourceOfFile(given as OpenFile);
  }
  if (typeof read !== 'function' || !Number.isSafeInteger(size) || size! < 0) {
    throw new DekdError('INVALID_ARGUMENT', 'a source is a path, a FileHandle or { size, read(position, length) }');
  }
  return given as MessageSource;
}

async function sourceOfFile(file: OpenFile): Promise<MessageSource> {
  const { size } = await file.stat();
  return {
    size,
    async read(position, length) {
      const bytes = new Uint8Array(length);
      const { bytesRead } = await file.read(bytes, 0, length, position);
      return bytes.subarray(0, bytesRead);
    },
  };
}

function checkedRange(range: ByteRange): { start: number; end: number } {
  const { start, end = Number.MAX_SAFE_INTEGER } = (range ?? {}) as Partial<ByteRange>;
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start! < 0 || end < start!) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `a range is { start, end? } with 0 <= start <= end, not ${start} to ${range?.end ?? 'the end'}`,
    );
  }
  return { start: start!, end };
}
