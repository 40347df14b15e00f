import { loadBinding } from '../addon/binding.ts';
import { hardenProcess } from '../crypto/host.ts';
import { closeInherited } from '../crypto/inherited.ts';

/** What others may not do with a file that an agent makes without saying a mode: anything. */
const UMASK = 0o077;

/**
 * What an agent does to its own process before it has a key, in the order in which it works: descriptors and umask while
 * /proc/self is still this uid's, then core files, ptrace and privileges. Once a process, on the main thread.
 * @param keep descriptors that the configuration names, such as a root key's
 * @returns the measures taken, in words for `dekd status` and `dekd doctor`
 */
export function hardenAgentProcess(keep: Iterable<number>): string[] {
  // With a channel to its parent (fork), a socket is Node's own: closing it underneath would close another one later.
  const closed = process.connected ? 0 : closeInherited(new Set(keep));
  process.umask(UMASK);
  silenceReports();
  return [
    // Without the addon there is no system call for these.
    ...(loadBinding().binding === undefined ? [] : hardenProcess()),
    `${closed} inherited descriptors closed`,
    `umask ${UMASK.toString(8).padStart(4, '0')}`,
    'no diagnostic reports',
  ];
}

/** A diagnostic report holds the environment, in which tokens travel, and the peers of every socket. */
function silenceReports(): void {
  const { report } = process;
  report.reportOnFatalError = false;
  report.reportOnSignal = false;
  report.reportOnUncaughtException = false;
  // For one that somebody makes all the same, as `dekd dev` only warns of options of Node.
  report.excludeEnv = true;
  // Its type does not have this one yet.
  Object.assign(report, { excludeNetwork: true });
}
