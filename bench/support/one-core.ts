/** Both sides of a serial round trip on one core, because otherwise the scheduler decides the figure. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/**
 * Runs `body` with this process and those in `pids` on the first core it may use, where there is `taskset`. A call that is
 * awaited keeps one process busy at a time; on an idle machine with a core for each, waking the other core costs several
 * times what either side does, and which pair shares a core is chance (measured: 20 or 70 µs for the same exchange).
 */
export async function onOneCore<T>(pids: readonly number[], body: () => Promise<T>): Promise<T> {
  const all = [process.pid, ...pids];
  const before = /^Cpus_allowed_list:\s+(\S+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  const first = /^\d+/.exec(before)?.[0] ?? '0';
  const pinned = all.every((pid) => pin(pid, first));
  if (!pinned) {
    process.stderr.write('not pinned to one core (no taskset): the figure depends on the scheduler\n');
  }
  try {
    return await body();
  } finally {
    for (const pid of all) {
      pin(pid, before);
    }
  }
}

function pin(pid: number, cores: string): boolean {
  try {
    execFileSync('taskset', ['-a', '-p', '-c', cores, String(pid)], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
