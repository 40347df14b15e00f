/** Messages on the command line: files of any size, through the agent at constant memory. */
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { writableTo } from '../../client/message-file.ts';
import type { MessageDuplex } from '../../client/types.ts';
import { ByteProgress } from '../byte-progress.ts';
import { openTarget, type Target } from '../target-file.ts';
import { byteSize, type CommandLine, printResult, warn } from '../terminal.ts';

/** First byte of a message; no token, no text of one and no base64 of a message begins with it. */
export const MESSAGE_START = 0x02;

const DONE = { encrypt: 'encrypted', decrypt: 'decrypted', reencrypt: 're-encrypted' } as const;

export interface Passage {
  readonly direction: 'encrypt' | 'decrypt' | 'reencrypt';
  readonly source: Readable;
  /** Bytes of the source, where that is known. */
  readonly size: number | undefined;
  /** What the source is put through. */
  readonly through: MessageDuplex;
  /** A file, or standard output when undefined. */
  readonly output: string | undefined;
  /** Of a file that does not exist yet. */
  readonly mode: number;
}

/** Puts the source through and the result in its place, which is whole or as it was before. @throws what the stream throws */
export async function passMessage(line: CommandLine, passage: Passage): Promise<void> {
  const { direction, source, size, through, output, mode } = passage;
  const target = await openTarget(output, mode);
  const progress = new ByteProgress(size);
  try {
    await passInto(target, source, () => through, progress);
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
 * All of `source` into `target`, which is committed then, and discarded when something fails.
 * @param through makes what the source is put through, if anything
 * @param modified time of last change that a file gets, instead of now
 * @throws what source, stream or target throws
 */
export async function passInto(
  target: Target,
  source: AsyncIterable<Uint8Array>,
  through: (() => MessageDuplex) | undefined,
  progress: ByteProgress,
  modified?: Date,
): Promise<void> {
  try {
    if (through === undefined) {
      await pipeline(source, progress.counting(), writableTo(target));
    } else {
      await pipeline(source, progress.counting(), through(), writableTo(target));
    }
    await target.commit(modified);
  } catch (error) {
    await target.discard();
    throw error;
  }
}
