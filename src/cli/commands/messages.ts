/** Messages on the command line: files of any size, through the agent at constant memory. */
import { type Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { MessageDuplex } from '../../client/types.ts';
import { ByteProgress } from '../byte-progress.ts';
import { openTarget, type Target } from '../target-file.ts';
import { byteSize, type CommandLine, printResult, warn } from '../terminal.ts';

/** First byte of a message; no token, no text of one and no base64 of a message begins with it. */
export const MESSAGE_START = 0x02;

export interface Passage {
  readonly direction: 'encrypt' | 'decrypt';
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
    await passThrough(source, through, target, progress);
    await target.commit();
    progress.clear();
  } catch (error) {
    progress.clear();
    await target.discard();
    throw error;
  }
  if (target.isStandardOutput) {
    return;
  }
  const { bytes, elapsedMs } = progress;
  if (line.json) {
    printResult(line, { output, bytesRead: bytes, seconds: Number((elapsedMs / 1_000).toFixed(3)) }, '');
  } else if (process.stderr.isTTY) {
    const rate = byteSize(Math.round((bytes / elapsedMs) * 1_000));
    warn(`${byteSize(bytes)} ${direction}ed to ${output} in ${(elapsedMs / 1_000).toFixed(1)} s, ${rate}/s`);
  }
}

/** All of `source` through `through` into `target`, which is neither committed nor discarded. @throws what one of them throws */
export async function passThrough(
  source: Readable,
  through: MessageDuplex,
  target: Target,
  progress: ByteProgress,
): Promise<void> {
  await pipeline(source, (chunks: AsyncIterable<Buffer>) => counted(chunks, progress), through, writableTo(target));
}

async function* counted(chunks: AsyncIterable<Buffer>, progress: ByteProgress): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) {
    progress.add(chunk.length);
    yield chunk;
  }
}

function writableTo(target: Target): Writable {
  return new Writable({
    write(chunk: Uint8Array, _encoding, done) {
      target.write(chunk).then(() => done(), done);
    },
  });
}
