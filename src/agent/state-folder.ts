/** The folder with the high-water file, held by one agent at a time. */
import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import { DekdError } from '../errors.ts';
import { takePidLock } from './pid-lock.ts';

export interface HeldState {
  release(): void;
}

/**
 * Makes the folder (0700) if it has to, checks its owner and takes its lock; a successor (`replace`) takes it over.
 * @throws INVALID_ARGUMENT when the folder is another user's or others may write to it; CONFLICT when an agent holds it
 */
export function holdState(
  folder: string | undefined,
  lock: (fd: number) => boolean | undefined,
  replace: boolean,
): HeldState {
  if (folder === undefined) {
    return { release() {} };
  }
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const stats = statSync(folder);
  if (stats.uid !== process.getuid!()) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `state folder ${folder} belongs to uid ${stats.uid}, not to this agent's ${process.getuid!()}`,
    );
  }
  if ((stats.mode & 0o022) !== 0) {
    chmodSync(folder, 0o700);
  }
  const path = join(folder, 'lock');
  for (;;) {
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    const locked = lock(fd);
    if (locked === undefined) {
      closeSync(fd);
      return holdByPid(folder);
    }
    const named = lstatSync(path, { throwIfNoEntry: false });
    if (locked && named?.ino === fstatSync(fd).ino) {
      return { release: once(() => closeSync(fd)) };
    }
    closeSync(fd);
    if (locked) {
      continue;
    }
    if (!replace) {
      throw heldElsewhere(folder);
    }
    const mine = `${path}.${process.pid}`;
    const successor = openSync(mine, constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC, 0o600);
    lock(successor);
    renameSync(mine, path);
    return { release: once(() => closeSync(successor)) };
  }
}

function holdByPid(folder: string): HeldState {
  const held = takePidLock(join(folder, 'pid'));
  if (held === undefined) {
    throw heldElsewhere(folder);
  }
  return { release: once(() => held.release()) };
}

function heldElsewhere(folder: string): DekdError {
  return new DekdError('CONFLICT', `another agent uses the state folder ${folder}: stop it, or use another folder`);
}

function once(action: () => void): () => void {
  let done = false;
  return () => {
    if (!done) {
      done = true;
      action();
    }
  };
}
