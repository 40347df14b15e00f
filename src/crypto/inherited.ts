import { closeSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { isatty } from 'node:tty';

const O_CLOEXEC = 0o2000000;
/** Standard input, output and error. */
const STANDARD = 2;
/** Where OpenSSL may draw seeds from, and what Node puts in the place of a standard descriptor that is closed. */
const DEVICES = new Set(['/dev/random', '/dev/urandom', '/dev/null']);

/**
 * Closes the descriptors that this process was started with, above the standard ones and but for those in `keep`: what a
 * shell, a service manager or a parent had open by chance. To be called before the program opens anything itself, on the
 * main thread, and before the process is made undumpable, after which /proc/self is root's.
 *
 * Node marks what it inherits below 16 to be closed by exec, as all that it opens itself; so these are told apart by what
 * they are. Of itself it has event queues, pipes of which it has both ends, and a terminal; no file and no socket.
 * @returns how many were closed; 0 where there is no /proc
 */
export function closeInherited(keep: ReadonlySet<number>): number {
  const open = openDescriptors();
  const inherited = [...open].filter(([fd, what]) => fd > STANDARD && !keep.has(fd) && isInherited(fd, what, open));
  for (const [fd] of inherited) {
    closeSync(fd);
  }
  return inherited.length;
}

/** What each descriptor is, such as `/a/file` or `pipe:[1]`. */
function openDescriptors(): ReadonlyMap<number, string> {
  const found = new Map<number, string>();
  try {
    for (const name of readdirSync('/proc/self/fd')) {
      try {
        found.set(Number(name), readlinkSync(`/proc/self/fd/${name}`));
      } catch {
        // The one that the folder was read with.
      }
    }
  } catch {
    // No /proc.
  }
  return found;
}

function isInherited(fd: number, what: string, open: ReadonlyMap<number, string>): boolean {
  if (!isClosedByExec(fd)) {
    return true;
  }
  if (what.startsWith('anon_inode:') || DEVICES.has(what) || isatty(fd)) {
    return false;
  }
  return what.startsWith('pipe:') ? [...open.values()].filter((other) => other === what).length < 2 : true;
}

function isClosedByExec(fd: number): boolean {
  const flags = /^flags:\s+([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'));
  return (Number.parseInt(flags![1]!, 8) & O_CLOEXEC) !== 0;
}
