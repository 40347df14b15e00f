/** The files that operands of the command line mean, each with the place it has below them. */
import type { Stats } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { usageError } from './exit.ts';
import { isTemporaryName } from './temporary-file.ts';

export interface TreeFile {
  /** Path to open. */
  readonly path: string;
  /** Folders and name from the operand on: `documents/2026/report.pdf`. */
  readonly place: string;
  /** Of the file itself; a symbolic link is not followed. */
  readonly stats: Stats;
}

export interface Operand {
  readonly path: string;
  /** What its place begins with: its own name, also where it was written as `.` or `..`. */
  readonly name: string;
}

/** @throws CommandError (usage) when two operands would have one place, or one has no name */
export function operandsOf(paths: readonly string[]): Operand[] {
  const seen = new Map<string, string>();
  return paths.map((path) => {
    const name = basename(resolve(path));
    if (name === '') {
      throw usageError(`'${path}' has no name of its own`, 'name the folders in it');
    }
    const other = seen.get(name);
    if (other !== undefined) {
      throw usageError(`'${other}' and '${path}' would both be ${name} in the output`, 'give them one after the other');
    }
    seen.set(name, path);
    return { path, name };
  });
}

/**
 * Walks the operands in the order given and each folder in the order of its names, one folder in memory at a time for each
 * level. Whatever is no folder is yielded: the caller sees from `stats` whether it is a file.
 *
 * @param leaveOut folder that is not gone into, by device and inode: the output
 * @param onUnread told of each folder that cannot be read; what is in others is yielded all the same
 */
export async function* filesOf(
  operands: readonly Operand[],
  leaveOut: Stats | undefined,
  onUnread: (path: string, error: unknown) => void,
): AsyncGenerator<TreeFile> {
  for (const { path, name } of operands) {
    yield* filesAt(path, name);
  }

  async function* filesAt(path: string, place: string): AsyncGenerator<TreeFile> {
    let names: string[];
    try {
      const stats = await lstat(path);
      if (!stats.isDirectory()) {
        yield { path, place, stats };
        return;
      }
      if (stats.dev === leaveOut?.dev && stats.ino === leaveOut.ino) {
        return;
      }
      names = (await readdir(path)).filter((name) => !isTemporaryName(name)).sort();
    } catch (error) {
      onUnread(path, error);
      return;
    }
    for (const name of names) {
      yield* filesAt(join(path, name), join(place, name));
    }
  }
}
