/**
 * Names of temporary files, which say whose they are: a process that was killed cannot remove its own, and what it left may be
 * half a plaintext. The next run that comes to the folder does, once it knows that their maker is gone.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, readlinkSync, statSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { startTime } from '../agent/pid-lock.ts';

const NAME = /^\.dekd-([0-9a-f]{8})-(\d+)-(\d+)-\d+\.tmp$/;
/** Of a maker that cannot be looked for from here: on another machine, in another container, before the last boot. */
const FOREIGN_AGE_MS = 24 * 60 * 60 * 1_000;

let ours: string | undefined;
let made = 0;

/** A name that no other process, and no other call, gives a file; never longer than 80 bytes. */
export function temporaryName(): string {
  ours ??= `.dekd-${home()}-${process.pid}-${startTime(process.pid)}`;
  made += 1;
  return `${ours}-${made}.tmp`;
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
  const [, place, pid, started] = NAME.exec(name) ?? [];
  if (place === undefined) {
    return false;
  }
  if (place === home()) {
    return startTime(Number(pid)) !== started;
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
