import { setTimeout as sleep } from 'node:timers/promises';
import { ProviderError } from '../provider-error.ts';

/** Longest back-off after the first attempt, in milliseconds; it doubles with each, up to the last. */
const BASE_MS = 50;
const BASE_THROTTLED_MS = 250;
const LONGEST_MS = 2000;

export interface Attempts {
  /** After the first; 0 is exactly one. */
  readonly retries: number;
  readonly signal: AbortSignal;
  /** When time is up, in milliseconds of performance.now(): a pause beyond it is not begun. */
  readonly endsAt: number;
  /** Called once for UNAUTHENTICATED while an attempt is left; resolves to whether another attempt makes sense. */
  readonly renewCredentials: () => Promise<boolean>;
}

/** Makes attempts until one succeeds, fails for good, or none is left. `attempt` throws ProviderError. */
export async function attempted<T>(
  { retries, signal, endsAt, renewCredentials }: Attempts,
  attempt: () => Promise<T>,
): Promise<T> {
  let renewed = false;
  for (let n = 0; ; n++) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof ProviderError) || n >= retries || signal.aborted) {
        throw error;
      }
      if (error.code === 'UNAUTHENTICATED' && !renewed) {
        renewed = true;
        if (await renewCredentials()) {
          continue;
        }
      }
      const pause = backOff(n, error);
      if (!error.retry || performance.now() + pause >= endsAt || !(await paused(pause, signal))) {
        throw error;
      }
    }
  }
}

/** Full jitter, so that agents that failed together do not come back together; never before the service wants it. */
function backOff(n: number, { code, retryAfterMs }: ProviderError): number {
  const base = code === 'RATE_LIMITED' ? BASE_THROTTLED_MS : BASE_MS;
  return Math.max(Math.random() * Math.min(LONGEST_MS, base * 2 ** n), retryAfterMs ?? 0);
}

/** @returns false when the signal ended the pause: what failed before says more than that time is up. */
async function paused(ms: number, signal: AbortSignal): Promise<boolean> {
  try {
    await sleep(ms, undefined, { signal });
    return true;
  } catch {
    return false;
  }
}
