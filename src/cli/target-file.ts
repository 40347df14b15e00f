/**
 * Where a result goes: standard output, or a file that is whole or not there.
 *
 * What is no regular file (a pipe, a device) is written to directly.
 */
import { rmSync, type Stats } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { ReplacedFile, statsAt, writeAll } from '../client/replaced-file.ts';
import { CommandError, EXIT } from './exit.ts';
import { temporaryName } from './temporary-file.ts';

export interface Target {
  /** Whether the result goes to standard output. */
  readonly isStandardOutput: boolean;
  /** A file that somebody else may write instead; undefined for what is no regular file. */
  readonly file: ReplacedFile | undefined;
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
  const existing = await statsAt(path);
  if (existing?.isDirectory()) {
    throw new CommandError(EXIT.failed, 'INVALID_ARGUMENT', `${path} is a folder`, 'name a file with -o');
  }
  if (existing !== undefined && !existing.isFile()) {
    return new SpecialFile(await open(path, 'w'));
  }
  return FileInPlace.open(path, existing, newMode);
}

class StandardOutput implements Target {
  readonly isStandardOutput = true;
  readonly file = undefined;

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
  readonly file = undefined;
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

/** A ReplacedFile that a signal removes, under a name that says whose it is. */
class FileInPlace implements Target {
  readonly isStandardOutput = false;
  readonly file: ReplacedFile;

  private constructor(file: ReplacedFile) {
    this.file = file;
  }

  static async open(path: string, existing: Stats | undefined, newMode: number): Promise<FileInPlace> {
    const file = await ReplacedFile.open(path, existing, newMode, temporaryName());
    removeOnSignals(file.temporary);
    return new FileInPlace(file);
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.file.write(bytes);
  }

  async commit(modified?: Date): Promise<void> {
    await this.file.commit(modified);
    unfinished.delete(this.file.temporary);
  }

  async discard(): Promise<void> {
    await this.file.discard();
    unfinished.delete(this.file.temporary);
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
        // One that was renamed a moment ago is in its place.
        rmSync(path, { force: true });
      }
      process.exit(128 + number);
    });
  }
}
