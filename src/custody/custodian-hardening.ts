import { closeSync, readdirSync, readFileSync } from 'node:fs';
import { hardenProcess } from '../crypto/host.ts';
import { CUSTODIAN_FD } from './custodian-messages.ts';

const O_CLOEXEC = 0o2000000;

/**
 * Takes from a custodian what it must not have, before any foreign code is in it: descriptors that the agent was started
 * with, and readers of its memory.
 * @throws Error when the memory stays readable for others of this uid: without the addon, or where the kernel refuses
 */
export function hardenCustodian(): void {
  // First, because /proc/self is root's afterwards.
  closeInherited();
  if (!hardenProcess().includes('not dumpable')) {
    throw new Error('this process cannot be kept from being read by others of its uid');
  }
}

/**
 * Node passes on what it was started with itself when the number is high, such as a root key's `keyDescriptor`. What it
 * opens is closed by exec, so everything else is inherited.
 */
function closeInherited(): void {
  const own = Math.max(...Object.values(CUSTODIAN_FD));
  for (const fd of readdirSync('/proc/self/fd').map(Number)) {
    if (fd > own && !isClosedByExec(fd)) {
      closeSync(fd);
    }
  }
}

function isClosedByExec(fd: number): boolean {
  try {
    const flags = /^flags:\s+([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'));
    return (Number.parseInt(flags![1]!, 8) & O_CLOEXEC) !== 0;
  } catch {
    // The one that the folder was read with.
    return true;
  }
}
