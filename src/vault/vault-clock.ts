/** Node fires a timer at once when its delay does not fit into 31 bits; the lease of a Vault token easily does not. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Where leases get the time; a test gives its own. */
export interface VaultClock {
  /** Milliseconds since some fixed moment that every process of this machine shares; never set back. */
  now(): number;
  /** Calls `task` once, after `ms`, however long that is. @returns what cancels it. */
  schedule(ms: number, task: () => void): () => void;
}

/** CLOCK_MONOTONIC of the machine, so that one process can go on with a lease that another one measured. */
export const systemVaultClock: VaultClock = {
  now: () => Number(process.hrtime.bigint() / 1_000_000n),
  schedule(ms, task) {
    let timer: NodeJS.Timeout;
    const wait = (left: number) => {
      const step = Math.min(left, LONGEST_TIMER_MS);
      timer = setTimeout(() => (left > step ? wait(left - step) : task()), step);
      // A token to be renewed next week is no reason to stay.
      timer.unref();
    };
    wait(Math.max(0, ms));
    return () => clearTimeout(timer);
  },
};
