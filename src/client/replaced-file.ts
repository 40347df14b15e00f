import { randomBytes } from 'node:crypto';
import type { Stats } from 'node:fs';
import { type FileHandle, open, realpath, rename, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/**
 * A file that is whole or as it was before: written under a temporary name in the same folder, flushed to the disk, and renamed
 * over the target when everything worked. A target that exists keeps its mode, and its owner where the kernel lets us; through
 * a symbolic link the file it points to is replaced.
 */
export class ReplacedFile {
  /** Path that is written to. */
  readonly temporary: string;
  readonly #handle: FileHandle;
  readonly #target: string;
  #isOpen = true;
  /** Whether there is nothing left to remove. */
  #isGone = false;

  private constructor(handle: FileHandle, temporary: string, target: string) {
    this.#handle = handle;
    this.temporary = temporary;
    this.#target = target;
  }

  /**
   * @param existing what is at `path`, through links; undefined when nothing is
   * @param newMode of a file that does not exist, before the umask
   * @param name of the temporary file; no other file may have it
   * @throws errors of the file system, whose `path` is the target; nothing is left then
   */
  static async open(
    path: string,
    existing: Stats | undefined,
    newMode: number,
    name = `.dekd-${randomBytes(12).toString('hex')}.tmp`,
  ): Promise<ReplacedFile> {
    const target = existing === undefined ? path : await realpath(path);
    const temporary = join(dirname(target), name);
    const handle = await open(temporary, 'wx', existing === undefined ? newMode : 0o600).catch((error) => {
      throw ofTarget(error, temporary, path);
    });
    const file = new ReplacedFile(handle, temporary, target);
    if (existing !== undefined) {
      try {
        await handle.chown(existing.uid, existing.gid).catch(() => {});
        await handle.chmod(existing.mode & 0o7777);
      } catch (error) {
        await file.discard();
        throw error;
      }
    }
    return file;
  }

  /** For who writes by the descriptor itself; the file's to close. */
  get descriptor(): number {
    return this.#handle.fd;
  }

  /** Bytes that were written so far. */
  async length(): Promise<number> {
    return (await this.#handle.stat()).size;
  }

  /** Takes back what was written. */
  async clear(): Promise<void> {
    await this.#handle.truncate(0);
  }

  /** Takes ownership of `bytes`. @throws errors of the file system, whose `path` is the target */
  async write(bytes: Uint8Array): Promise<void> {
    try {
      await writeAll(this.#handle, bytes);
    } catch (error) {
      throw ofTarget(error, this.temporary, this.#target);
    }
  }

  /** Makes the result visible. @param modified time of last change that it gets, instead of now */
  async commit(modified?: Date): Promise<void> {
    if (modified !== undefined) {
      await this.#handle.utimes(modified, modified);
    }
    await this.#handle.sync();
    await this.#close();
    await rename(this.temporary, this.#target);
    this.#isGone = true;
    await syncFolder(dirname(this.#target));
  }

  /** Leaves everything as it was before; harmless after `commit`. */
  async discard(): Promise<void> {
    await this.#close().catch(() => {});
    if (!this.#isGone) {
      this.#isGone = true;
      await unlink(this.temporary);
    }
  }

  async #close(): Promise<void> {
    if (this.#isOpen) {
      this.#isOpen = false;
      await this.#handle.close();
    }
  }
}

/** What is at a path, through links; undefined when nothing is. */
export async function statsAt(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
}

/** An error told of the file that the temporary one was to become, which is the name that people know. */
function ofTarget(error: unknown, temporary: string, target: string): unknown {
  if (error instanceof Error) {
    error.message = error.message.replace(temporary, target);
    (error as NodeJS.ErrnoException).path = target;
  }
  return error;
}

export async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  let at = 0;
  while (at < bytes.length) {
    at += (await handle.write(bytes, at, bytes.length - at)).bytesWritten;
  }
}

/** A rename is durable once its folder is; file systems that cannot flush a folder do not need it. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r').catch(() => undefined);
  await folder?.sync().catch(() => {});
  await folder?.close();
}
