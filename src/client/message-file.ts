/** Files through a stream: the target is there whole, or as it was before. */
import { createReadStream, type ReadStream } from 'node:fs';
import { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ReplacedFile, statsAt } from './replaced-file.ts';
import type { MessageDuplex } from './types.ts';

const CHUNK_BYTES = 256 * 1024;
/** Bytes of plaintext in each frame of a file: fewer tags than in a stream, which somebody waits for. */
export const FILE_FRAME_LENGTH = 1024 * 1024;

/**
 * Puts what is in `source` through and the result in the place of `target`, as a ReplacedFile.
 * @param through makes what the source is put through, once both files are there
 * @param mode of a target that does not exist, before the umask
 * @throws what the stream throws; errors of the file system as they are
 */
export async function passFile(
  source: string,
  through: () => MessageDuplex,
  target: string,
  mode: number,
): Promise<void> {
  const file = await ReplacedFile.open(target, await statsAt(target), mode);
  try {
    await pipeline(fileStream(source), through(), writableTo(file));
    await file.commit();
  } catch (error) {
    await file.discard().catch(() => {});
    throw error;
  }
}

/** The content of a file, in pieces that make few calls and fill few frames. */
export function fileStream(path: string): ReadStream {
  return createReadStream(path, { highWaterMark: CHUNK_BYTES });
}

/** A stream into `target`, which is neither committed nor discarded. */
export function writableTo(target: { write(bytes: Uint8Array): Promise<void> }): Writable {
  return new Writable({
    write(chunk: Uint8Array, _encoding, done) {
      target.write(chunk).then(() => done(), done);
    },
  });
}
