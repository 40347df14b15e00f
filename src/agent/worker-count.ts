import { availableParallelism } from 'node:os';

/** More add memory and seldom speed: the agent's thread reads, decides and writes for all of them. */
const MOST = 2;

/**
 * Threads for large work. `auto` leaves a core to the agent's own thread: none on one core, one on two, two on more. Cores
 * are those that this process may run on, or has a quota for.
 */
export function workerCount(configured: number | 'auto'): number {
  return configured === 'auto' ? Math.max(0, Math.min(MOST, availableParallelism() - 1)) : configured;
}
