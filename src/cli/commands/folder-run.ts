/** Many files, each put through as a message of its own, so that a run may be stopped at any moment and run again. */
import type { Stats } from 'node:fs';
import { lstat, mkdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { FileWays } from '../../client/file-ways.ts';
import { fileStream } from '../../client/message-file.ts';
import { ByteProgress } from '../byte-progress.ts';
import { CommandError, EXIT, usageError } from '../exit.ts';
import { eachFile, endOfRun, FileFailures } from '../file-failures.ts';
import { filesOf, type Operand, operandsOf, type TreeFile } from '../file-tree.ts';
import { openTarget } from '../target-file.ts';
import { removeLeftovers } from '../temporary-file.ts';
import { byteSize, type CommandLine, plural, printResult, warn } from '../terminal.ts';
import { passInto } from './messages.ts';

/** Behind the name of a file whose content is a message. */
export const MESSAGE_SUFFIX = '.dk';

/** Files at once: enough that flushing one to the disk does not hold up the others, few enough for every agent's limits. */
const AT_ONCE = 4;
export interface FolderRunOptions {
  readonly direction: 'encrypt' | 'decrypt';
  readonly paths: readonly string[];
  /** Whether folders are gone into. */
  readonly isRecursive: boolean;
  /** Folder of the results; made when it is not there. */
  readonly output: string;
  /** Whether a result that was changed after its source is replaced. */
  readonly overwrite: boolean;
  /** Of files that do not exist yet, before the umask. */
  readonly mode: number;
  readonly ways: FileWays;
}

/**
 * Puts every file through and gives the result the time of last change that its source had, by which the next run knows what
 * is done. A source that was changed since is put through again; a result that was changed since is left, and counted as failed.
 *
 * @returns exit code 1 when a file failed
 * @throws what stands in the way of every file: the agent, key or policy, a disk that is full
 */
export async function runFolders(line: CommandLine, options: FolderRunOptions): Promise<number> {
  const run = new FolderRun(line, options);
  return run.toEnd();
}

class FolderRun {
  readonly #line: CommandLine;
  readonly #options: FolderRunOptions;
  readonly #operands: readonly Operand[];
  readonly #visited = new Map<string, Promise<void>>();
  readonly #failures: FileFailures;
  #progress = new ByteProgress(undefined);
  #done = 0;
  #already = 0;
  #skipped = 0;

  constructor(line: CommandLine, options: FolderRunOptions) {
    this.#line = line;
    this.#options = options;
    this.#operands = operandsOf(options.paths);
    this.#failures = new FileFailures(line, () => this.#progress.clear());
  }

  async toEnd(): Promise<number> {
    await this.#checkOperands();
    const output = await this.#openOutput();
    if (process.stderr.isTTY) {
      this.#progress = new ByteProgress(await this.#bytesToDo(output));
    }
    const files = filesOf(this.#operands, output, (path, error) => this.#failures.add(path, error));
    const fatal = await eachFile(files, AT_ONCE, (file) => this.#one(file), this.#failures);
    this.#progress.clear();
    if (fatal !== undefined) {
      throw endOfRun(fatal.error, this.#done + this.#already, this.#line.self);
    }
    this.#report();
    return this.#failures.count > 0 ? EXIT.failed : EXIT.ok;
  }

  async #openOutput(): Promise<Stats> {
    const { output } = this.#options;
    await mkdir(output, { recursive: true, mode: this.#folderMode() }).catch((error: NodeJS.ErrnoException) => {
      throw error.code === 'EEXIST' || error.code === 'ENOTDIR' ? usageError(`${output} is no folder`) : error;
    });
    return stat(output);
  }

  /** Before anything is done: a name that was mistyped is no file that failed. */
  async #checkOperands(): Promise<void> {
    const { direction, isRecursive, output } = this.#options;
    for (const { path, name } of this.#operands) {
      const stats = await lstat(path).catch((error: NodeJS.ErrnoException) => {
        throw error.code === 'ENOENT' ? usageError(`'${path}' is neither file nor folder`) : error;
      });
      if (!stats.isDirectory()) {
        continue;
      }
      if (!isRecursive) {
        throw usageError(`${path} is a folder`, 'add -r');
      }
      const results = await statsOf(join(output, name));
      if (direction === 'encrypt' && results?.dev === stats.dev && results.ino === stats.ino) {
        // The next run would encrypt the messages as well.
        throw usageError(`the messages would lie among the files of ${path}`, 'name another folder with -o');
      }
    }
  }

  async #bytesToDo(output: Stats): Promise<number> {
    let bytes = 0;
    for await (const file of filesOf(this.#operands, output, () => {})) {
      const target = this.#targetOf(file);
      if (target !== undefined && !isSameAge(await statsOf(target), file.stats)) {
        bytes += file.stats.size;
      }
    }
    return bytes;
  }

  /** Where the result goes; undefined for what is no file, or on decryption not named like a message. */
  #targetOf({ place, stats }: TreeFile): string | undefined {
    const { direction, output } = this.#options;
    if (!stats.isFile()) {
      return undefined;
    }
    if (direction === 'encrypt') {
      return join(output, `${place}${MESSAGE_SUFFIX}`);
    }
    return hasMessageName(place) ? join(output, place.slice(0, -MESSAGE_SUFFIX.length)) : undefined;
  }

  async #one(file: TreeFile): Promise<void> {
    const target = this.#targetOf(file);
    if (target === undefined) {
      this.#skipped += 1;
      this.#failures.say(
        `skipped ${file.path}: ${file.stats.isFile() ? `its name does not end in ${MESSAGE_SUFFIX}` : 'no regular file'}`,
      );
      return;
    }
    const existing = await statsOf(target);
    if (isSameAge(existing, file.stats)) {
      this.#already += 1;
      return;
    }
    this.#checkExisting(target, existing, file.stats);
    await this.#visit(dirname(target));
    await this.#pass(file, target);
    this.#done += 1;
  }

  #checkExisting(target: string, existing: Stats | undefined, source: Stats): void {
    if (existing !== undefined && !existing.isFile()) {
      throw new CommandError(EXIT.failed, 'INVALID_ARGUMENT', `${target} is there and no regular file`);
    }
    if (existing !== undefined && existing.mtimeMs > source.mtimeMs && !this.#options.overwrite) {
      throw new CommandError(
        EXIT.failed,
        'INVALID_ARGUMENT',
        `${target} was changed after its source`,
        'move it away, or add --overwrite',
      );
    }
  }

  /** Makes a folder of the output, and clears away what a run that was killed left in it. */
  #visit(folder: string): Promise<void> {
    let visit = this.#visited.get(folder);
    if (visit === undefined) {
      visit = mkdir(folder, { recursive: true, mode: this.#folderMode() }).then(() => {
        removeLeftovers(folder);
      });
      this.#visited.set(folder, visit);
    }
    return visit;
  }

  async #pass(file: TreeFile, path: string): Promise<void> {
    const target = await openTarget(path, this.#options.mode);
    const source = { open: () => fileStream(file.path), size: file.stats.size, path: file.path };
    await passInto(target, source, this.#options.ways, this.#progress, wholeMilliseconds(file.stats));
  }

  #folderMode(): number {
    return this.#options.direction === 'encrypt' ? 0o777 : 0o700;
  }

  #report(): void {
    const { direction, output } = this.#options;
    const { bytes, elapsedMs } = this.#progress;
    if (this.#line.json) {
      const seconds = Number((elapsedMs / 1_000).toFixed(3));
      const counts = { done: this.#done, already: this.#already, skipped: this.#skipped, failed: this.#failures.count };
      printResult(this.#line, { output, ...counts, bytesRead: bytes, seconds, failures: this.#failures.first }, '');
      return;
    }
    const parts = [
      `${plural(this.#done, 'file')} ${direction}ed to ${output}`,
      ...(this.#already > 0 ? [`${this.#already} there already`] : []),
      ...(this.#skipped > 0 ? [`${this.#skipped} skipped`] : []),
      ...(this.#failures.count > 0 ? [`${this.#failures.count} failed`] : []),
    ];
    const rate = byteSize(Math.round((bytes / elapsedMs) * 1_000));
    warn(`${parts.join(', ')}; ${byteSize(bytes)} in ${(elapsedMs / 1_000).toFixed(1)} s, ${rate}/s`);
  }
}

/** Whether a file is named as `encrypt -r` names what it makes. */
export function hasMessageName(place: string): boolean {
  const name = place.slice(place.lastIndexOf('/') + 1);
  return name.endsWith(MESSAGE_SUFFIX) && name !== MESSAGE_SUFFIX && !/^\.\.?\.dk$/.test(name);
}

/** What every file system keeps; some keep no more, and Node sets no more. */
export function wholeMilliseconds({ mtimeMs }: Stats): Date {
  return new Date(Math.floor(mtimeMs));
}

function isSameAge(target: Stats | undefined, source: Stats): boolean {
  return target?.isFile() === true && Math.round(target.mtimeMs) === wholeMilliseconds(source).getTime();
}

async function statsOf(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) {
      return undefined;
    }
    throw error;
  }
}
