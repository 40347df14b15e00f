/** Files through a stream: the target is there whole, or as it was before. */
import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, realpath, rename, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { MessageDuplex } from './types.ts';

const CHUNK_BYTES = 256 * 1024;
/** Bytes of plaintext in each frame of a file: fewer tags than in a stream, which somebody waits for. */
export const FILE_FRAME_LENGTH = 1024 * 1024;

/**
 * Puts what is in `source` through and the result in the place of `target`: under a temporary name in the same folder,
 * flushed to the disk, and renamed when all of it was right. A target that exists is replaced, and keeps its mode; through
 * a symbolic link that is the file it points to.
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
  let file: FileHandle | undefined;
  let temporary = '';
  try {
    const existing = await modeOf(target);
    const place = existing === undefined ? target : await realpath(target);
    temporary = join(dirname(place), `.dekd-${randomBytes(12).toString('hex')}.tmp`);
    file = await open(temporary, 'wx', existing === undefined ? mode : 0o600);
    if (existing !== undefined) {
      await file.chmod(existing);
    }
    await pipeline(createReadStream(source, { highWaterMark: CHUNK_BYTES }), through(), writableTo(file));
    await file.sync();
    await file.close();
    await rename(temporary, place);
    await syncFolder(dirname(place));
  } catch (error) {
    await file?.close().catch(() => {});
    if (file !== undefined) {
      await unlink(temporary).catch(() => {});
    }
    throw error;
  }
}

/** Closes nothing: the file is still to be flushed. */
function writableTo(file: FileHandle): Writable {
  return new Writable({
    write(piece: Uint8Array, _encoding, done) {
      file.appendFile(piece).then(() => done(), done);
    },
  });
}

async function modeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).mode & 0o7777;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
}

/** So that the new name outlives a power failure. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
