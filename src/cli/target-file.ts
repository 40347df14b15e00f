/**
 * Where a result goes: standard output, or a file that is whole or not there.
 *
 * A file is written under a temporary name in the same folder, flushed to the disk, and renamed over the target only when
 * everything worked. A target that exists keeps its mode, and its owner where the kernel lets us; through a symbolic link
 * the file it points to is replaced. What is no regular file (a pipe, a device) is written to directly.
 */
import { type Stats, unlinkSync } from 'node:fs';
import { type FileHandle, open, realpath, rename, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { CommandError, EXIT } from './exit.ts';
import { temporaryName } from './temporary-file.ts';

export interface Target {
  /** Whether the result goes to standard output. */
  readonly isStandardOutput: boolean;
  /** Takes ownership of `bytes`. */
  write(bytes: Uint8Array): Promise<void>;
  /** Makes the result visible. @param modified time of last change that a file gets, instead of now */
  commit(modified?: Date): Promise<void>;
  /** Leaves everything as it was before; harmless after `commit`. */
  discard(): Promise<void>;
}

/**
 * Opens `path`, or standard output when it is undefined or `-`.
 *
 * @param newMode mode of a file that does not exist yet, before the umask
 */
export async function openTarget(path: string | undefined, newMode: number): Promise<Target> {
  if (path === undefined || path === '-') {
    return new StandardOutput();
  }
  const existing = await statOf(path);
  if (existing?.isDirectory()) {
    throw new CommandError(EXIT.failed, 'INVALID_ARGUMENT', `${path} is a folder`, 'name a file with -o');
  }
  if (existing !== undefined && !existing.isFile()) {
    return new SpecialFile(await open(path, 'w'));
  }
  const target = existing === undefined ? path : await realpath(path);
  return ReplacedFile.open(target, existing, newMode);
}

class StandardOutput implements Target {
  readonly isStandardOutput = true;

  write(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      process.stdout.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
  }

  async commit(): Promise<void> {}
  async discard(): Promise<void> {}
}

class SpecialFile implements Target {
  readonly isStandardOutput = false;
  readonly #handle: FileHandle;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  write(bytes: Uint8Array): Promise<void> {
    return writeAll(this.#handle, bytes);
  }

  commit(): Promise<void> {
    return this.#handle.close();
  }

  async discard(): Promise<void> {
    await this.#handle.close().catch(() => {});
  }
}

/** Temporary files to remove when the process is told to stop. */
const unfinished = new Set<string>();
const STOP_SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;
let listening = false;

class ReplacedFile implements Target {
  readonly isStandardOutput = false;
  readonly #handle: FileHandle;
  readonly #temporary: string;
  readonly #target: string;
  #open = true;

  private constructor(handle: FileHandle, temporary: string, target: string) {
    this.#handle = handle;
    this.#temporary = temporary;
    this.#target = target;
  }

  static async open(target: string, existing: Stats | undefined, newMode: number): Promise<ReplacedFile> {
    const temporary = join(dirname(target), temporaryName());
    const handle = await open(temporary, 'wx', existing === undefined ? newMode : 0o600);
    removeOnSignals(temporary);
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

  write(bytes: Uint8Array): Promise<void> {
    return writeAll(this.#handle, bytes);
  }

  async commit(modified?: Date): Promise<void> {
    if (modified !== undefined) {
      await this.#handle.utimes(modified, modified);
    }
    await this.#handle.sync();
    await this.#close();
    await rename(this.#temporary, this.#target);
    unfinished.delete(this.#temporary);
    await syncFolder(dirname(this.#target));
  }

  async discard(): Promise<void> {
    await this.#close().catch(() => {});
    if (unfinished.delete(this.#temporary)) {
      unlinkSync(this.#temporary);
    }
  }

  async #close(): Promise<void> {
    if (this.#open) {
      this.#open = false;
      await this.#handle.close();
    }
  }
}

function removeOnSignals(temporary: string): void {
  unfinished.add(temporary);
  if (listening) {
    return;
  }
  listening = true;
  for (const [signal, number] of Object.entries(STOP_SIGNALS)) {
    process.on(signal, () => {
      for (const path of unfinished) {
        unlinkSync(path);
      }
      process.exit(128 + number);
    });
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
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

async function statOf(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
}
