/** A file whose flock says who holds what it stands for. The lock dies with its holder, also by a kill. */
import { randomBytes } from 'node:crypto';
import { closeSync, constants, fstatSync, lstatSync, openSync, renameSync, rmSync, type Stats } from 'node:fs';

export interface HeldFile {
  /** Gives the lock up and removes the file, unless a successor has put its own there. */
  release(): void;
}

/** Tries to lock the file open at `fd`, without waiting; undefined where there is no flock. */
export type TryLock = (fd: number) => boolean | undefined;

/**
 * Takes the lock of `path`, making the file (0600) when it is not there. With `replace`, a live holder is taken over from:
 * it keeps its lock on a file that has lost its name, and the name leads to ours.
 * @returns 'held' when a live holder has it; undefined where there is no flock, with nothing left behind
 */
export function holdFile(path: string, tryLock: TryLock, replace: boolean): HeldFile | 'held' | undefined {
  for (;;) {
    const isNew = lstatSync(path, { throwIfNoEntry: false }) === undefined;
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    const locked = tryLock(fd);
    // The file may have been replaced or removed between its opening and its locking.
    if (locked === true && isSameFile(path, fstatSync(fd))) {
      return heldBy(path, fd);
    }
    closeSync(fd);
    if (locked === undefined) {
      if (isNew) {
        rmSync(path, { force: true });
      }
      return undefined;
    }
    if (locked) {
      continue;
    }
    if (!replace) {
      return 'held';
    }
    const mine = `${path}.${randomBytes(3).toString('hex')}`;
    const successor = openSync(mine, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
    tryLock(successor);
    renameSync(mine, path);
    return heldBy(path, successor);
  }
}

/** Whether the name still leads to the file that `stats` are of. */
export function isSameFile(path: string, stats: Stats): boolean {
  const now = lstatSync(path, { throwIfNoEntry: false });
  return now !== undefined && now.ino === stats.ino && now.dev === stats.dev;
}

function heldBy(path: string, fd: number): HeldFile {
  const own = fstatSync(fd);
  let released = false;
  return {
    release() {
      if (released) {
        return;
      }
      released = true;
      if (isSameFile(path, own)) {
        rmSync(path, { force: true });
      }
      closeSync(fd);
    },
  };
}
