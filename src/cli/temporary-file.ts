/**
 * Names of temporary files, which say whose they are: a process that was killed cannot remove its own, and what it left may be
 * half a plaintext. The next run that comes to the folder does, once it knows that their maker is gone.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, readlinkSync, statSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';

const NAME = /^\.dekd-([0-9a-f]{8})-(\d+)-(\d+)-\d+\.tmp$/;
/** Of a maker that cannot be looked for from here: on another machine, in another container, before the last boot. */
const FOREIGN_AGE_MS = 24 * 60 * 60 * 1_000;
/** Field 22 of /proc/PID/stat, counted behind the name of the program, which is field 2; proc_pid_stat(5). */
const START_TIME_FIELD = 19;

let made = 0;

/** A name that no other process, and no other call, gives a file; never longer than 80 bytes. */
export function temporaryName(): string {
  made += 1;
  return `.dekd-${home()}-${process.pid}-${startTimeOf(process.pid)}-${made}.tmp`;
}

export function isTemporaryName(name: string): boolean {
  return NAME.test(name);
}

/** Removes what dead processes left in a folder. @returns how many files that were */
export function removeLeftovers(folder: string): number {
  const leftovers = readdirSync(folder).filter((name) => isLeftover(folder, name));
  for (const name of leftovers) {
    unlinkSync(join(folder, name));
  }
  return leftovers.length;
}

function isLeftover(folder: string, name: string): boolean {
  const [, place, pid, startTime] = NAME.exec(name) ?? [];
  if (place === undefined) {
    return false;
  }
  if (place === home()) {
    return startTimeOf(Number(pid)) !== startTime;
  }
  const stats = statSync(join(folder, name), { throwIfNoEntry: false });
  return stats !== undefined && Date.now() - stats.mtimeMs > FOREIGN_AGE_MS;
}

let known: string | undefined;

/** Within what a process id means one process: this boot of this kernel, and the pid namespace. */
function home(): string {
  if (known === undefined) {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8');
    known = createHash('sha256').update(boot).update(readlinkSync('/proc/self/ns/pid')).digest('hex').slice(0, 8);
  }
  return known;
}

/** Clock ticks since boot, so that a process id used again is not taken for its former owner; undefined when there is none. */
function startTimeOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[START_TIME_FIELD];
  } catch {
    return undefined;
  }
}
