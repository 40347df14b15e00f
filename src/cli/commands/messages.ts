/** Messages on the command line: files of any size, through the agent at constant memory. */
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { FileWays } from '../../client/file-ways.ts';
import { passDescriptors, writableTo } from '../../client/message-file.ts';
import { ByteProgress } from '../byte-progress.ts';
import { openTarget, type Target } from '../target-file.ts';
import { byteSize, type CommandLine, printResult, warn } from '../terminal.ts';

/** First byte of a message; no token, no text of one and no base64 of a message begins with it. */
export const MESSAGE_START = 0x02;

const DONE = { encrypt: 'encrypted', decrypt: 'decrypted', reencrypt: 're-encrypted' } as const;

/** What is read. */
export interface MessageSource {
  /** All of it, from the first byte. */
  readonly open: () => Readable;
  /** Bytes of a regular file, and its path; undefined for anything else. */
  readonly size: number | undefined;
  readonly path: string | undefined;
}

export interface Passage {
  readonly direction: 'encrypt' | 'decrypt' | 'reencrypt';
  readonly source: MessageSource;
  readonly ways: FileWays;
  /** A file, or standard output when undefined. */
  readonly output: string | undefined;
  /** Of a file that does not exist yet. */
  readonly mode: number;
}

/** Puts the source through and the result in its place, which is whole or as it was before. @throws what the stream throws */
export async function passMessage(line: CommandLine, passage: Passage): Promise<void> {
  const { direction, source, ways, output, mode } = passage;
  const target = await openTarget(output, mode);
  const progress = new ByteProgress(source.size);
  try {
    await passInto(target, source, ways, progress);
  } finally {
    progress.clear();
  }
  if (target.isStandardOutput) {
    return;
  }
  const { bytes, elapsedMs } = progress;
  if (line.json) {
    printResult(line, { output, bytesRead: bytes, seconds: Number((elapsedMs / 1_000).toFixed(3)) }, '');
  } else if (process.stderr.isTTY) {
    const rate = byteSize(Math.round((bytes / elapsedMs) * 1_000));
    warn(`${byteSize(bytes)} ${DONE[direction]} to ${output} in ${(elapsedMs / 1_000).toFixed(1)} s, ${rate}/s`);
  }
}

/**
 * All of `source` through the agent into `target`, which is committed then, and discarded when something fails.
 * @param modified time of last change that a file gets, instead of now
 * @throws what source, stream or target throws
 */
export async function passInto(
  target: Target,
  source: MessageSource,
  ways: FileWays,
  progress: ByteProgress,
  modified?: Date,
): Promise<void> {
  try {
    if (!(await passed(target, source, ways, progress))) {
      await pipeline(source.open(), progress.counting(), ways.through(), writableTo(target));
    }
    await target.commit(modified);
  } catch (error) {
    await target.discard();
    throw error;
  }
}

/** Whether the agent did it by descriptors. How far it is, the length of the target shows. */
async function passed(
  target: Target,
  { path, size }: MessageSource,
  ways: FileWays,
  progress: ByteProgress,
): Promise<boolean> {
  const { file } = target;
  if (file === undefined || path === undefined || size === undefined) {
    return false;
  }
  // Other files may be under way, so what is added is counted here.
  let counted = 0;
  const upTo = (length: number): void => {
    const more = Math.min(length, size) - counted;
    if (more > 0) {
      counted += more;
      progress.add(more);
    }
  };
  const isDone = await passDescriptors(path, ways, {
    descriptor: file.descriptor,
    clear: () => file.clear(),
    async length() {
      const length = await file.length();
      upTo(length);
      return length;
    },
  });
  if (isDone) {
    upTo(size);
  } else {
    // It goes again, as a stream.
    progress.add(-counted);
  }
  return isDone;
}
