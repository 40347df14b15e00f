/** Files through the agent: the target is there whole, or as it was before. */
import { createReadStream, type ReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { FileWays, PassTarget } from './file-ways.ts';
import { ReplacedFile, statsAt } from './replaced-file.ts';

const CHUNK_BYTES = 256 * 1024;
/** A smaller file is through before its descriptors are passed. */
const WORTH_PASSING = 1024 * 1024;

/**
 * Puts what is in `source` through the agent and the result in the place of `target`, as a ReplacedFile.
 * @param mode of a target that does not exist, before the umask
 * @throws what the agent refuses it with; errors of the file system as they are
 */
export async function passFile(source: string, ways: FileWays, target: string, mode: number): Promise<void> {
  const file = await ReplacedFile.open(target, await statsAt(target), mode);
  try {
    if (!(await passDescriptors(source, ways, file))) {
      await pipeline(fileStream(source), ways.through(), writableTo(file));
    }
    await file.commit();
  } catch (error) {
    await file.discard().catch(() => {});
    throw error;
  }
}

/** What a file is passed into: one that can also be cleared, when the stream begins anew. */
export interface ClearableTarget extends PassTarget {
  clear(): Promise<void>;
}

/** @returns whether the agent did it all; the target is empty when it did not */
export async function passDescriptors(source: string, ways: FileWays, target: ClearableTarget): Promise<boolean> {
  if (ways.pass === undefined) {
    return false;
  }
  const handle: FileHandle = await open(source, 'r');
  try {
    const stats = await handle.stat();
    if (!stats.isFile() || stats.size < WORTH_PASSING) {
      return false;
    }
    if (await ways.pass(handle.fd, target)) {
      return true;
    }
    await target.clear();
    return false;
  } finally {
    await handle.close();
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
