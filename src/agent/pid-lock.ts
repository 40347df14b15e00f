/** A lock for hosts without flock: a file that names its holder by pid and start time. */
import { closeSync, constants, openSync, readFileSync, rmSync, writeSync } from 'node:fs';

export interface PidLock {
  release(): void;
}

/**
 * Takes the lock at `path`; undefined when a live process holds it. A file left by a process that is gone, or whose pid
 * another process has by now, is taken over. Weaker than flock by the moment between looking and replacing, which is why
 * it only stands in where the addon is missing.
 */
export function takePidLock(path: string): PidLock | undefined {
  for (let attempt = 0; attempt < 2; attempt++) {
    let fd: number;
    try {
      fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') {
        throw error;
      }
      if (isHeld(path)) {
        return undefined;
      }
      rmSync(path, { force: true });
      continue;
    }
    writeSync(fd, `${process.pid} ${startTime(process.pid) ?? ''}\n`);
    closeSync(fd);
    return { release: () => rmSync(path, { force: true }) };
  }
  return undefined;
}

function isHeld(path: string): boolean {
  const [pid, started] = readFileSync(path, 'utf8').trim().split(' ');
  const now = startTime(Number(pid));
  if (now !== undefined) {
    return now === started;
  }
  try {
    process.kill(Number(pid), 0);
    return !started;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Clock ticks from boot to the start of the process (proc(5), field 22); undefined when there is no such process. */
export function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The second field is the name in brackets, which may hold spaces and brackets itself.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}
