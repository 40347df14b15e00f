/** Work that may be done again when an agent or a database does not answer. */
import { setTimeout as sleep } from 'node:timers/promises';
import { DekdError, type ErrorCode } from '../../errors.ts';
import { CommandError, EXIT } from '../exit.ts';
import { warn } from '../terminal.ts';

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 5_000;

export const GO_ON = 'run the same command again: it goes on where it stopped';

export interface PatienceOptions {
  /** Milliseconds in all. */
  readonly patienceMs: number;
  /** Whether the same work may succeed later. */
  readonly isPassing: (error: unknown) => boolean;
  /** The error that a person is told of; itself unless given. */
  readonly inWords?: (error: unknown) => unknown;
  /** Aborted when nobody wants to wait any more. */
  readonly signal: AbortSignal;
}

/** Runs `work` until it succeeds, fails for good or for too long. @throws what it threw last, with the word to go on */
export async function patiently<T>(work: () => Promise<T>, options: PatienceOptions): Promise<T> {
  const until = performance.now() + options.patienceMs;
  for (let wait = FIRST_WAIT_MS; ; wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
    try {
      return await work();
    } catch (error) {
      if (!options.isPassing(error)) {
        throw error;
      }
      if (performance.now() > until || options.signal.aborted) {
        throw told(error);
      }
      warn(`${((options.inWords?.(error) ?? error) as Error).message}; trying again`);
      const { retryAfterMs = 0 } = error as { retryAfterMs?: number };
      await sleep(Math.max(wait, retryAfterMs), undefined, { signal: options.signal }).catch(() => undefined);
    }
  }
}

function told(error: unknown): unknown {
  if (!DekdError.is(error)) {
    return error;
  }
  const code: ErrorCode = error.code;
  return new CommandError(code === 'AGENT_UNAVAILABLE' ? EXIT.unreachable : EXIT.failed, code, error.message, GO_ON);
}
