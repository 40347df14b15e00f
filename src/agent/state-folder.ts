/** The folder with the high-water file, held by one agent at a time. */
import { chmodSync, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DekdError } from '../errors.ts';
import { type HeldFile, holdFile, type TryLock } from './held-file.ts';
import { takePidLock } from './pid-lock.ts';

/**
 * Makes the folder (0700) if it has to, checks its owner and takes its lock; a successor (`replace`) takes it over.
 * @throws INVALID_ARGUMENT when the folder is another user's or others may write to it; CONFLICT when an agent holds it
 */
export function holdState(folder: string | undefined, lock: TryLock, replace: boolean): HeldFile {
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
  const held = holdFile(join(folder, 'lock'), lock, replace) ?? takePidLock(join(folder, 'pid')) ?? 'held';
  if (held === 'held') {
    throw heldElsewhere(folder);
  }
  return held;
}

function heldElsewhere(folder: string): DekdError {
  return new DekdError('CONFLICT', `another agent uses the state folder ${folder}: stop it, or use another folder`);
}
