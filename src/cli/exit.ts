import { getSystemErrorMessage } from 'node:util';
import { DekdError, type ErrorCode } from '../errors.ts';

/** What the exit code says to a script. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  unreachable: 3,
  denied: 4,
  refusedToStart: 5,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** What the file system says when it is full, or its user's share of it is. */
const NO_SPACE: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT']);

/** An error as it is printed. */
export interface ErrorReport {
  /** A code of DekdError, or USAGE. */
  readonly code: ErrorCode | 'USAGE';
  readonly message: string;
  /** What `dekd why` takes, when the agent gave one. */
  readonly incident?: string;
  /** What to do about it. */
  readonly remedy?: string;
}

/** An error that knows its exit code and its remedy. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly exitCode: ExitCode;
  readonly code: ErrorReport['code'];
  readonly remedy: string | undefined;

  constructor(exitCode: ExitCode, code: ErrorReport['code'], message: string, remedy?: string) {
    super(message);
    this.exitCode = exitCode;
    this.code = code;
    this.remedy = remedy;
  }
}

/** The command line itself is wrong. */
export function usageError(message: string, remedy?: string): CommandError {
  return new CommandError(EXIT.usage, 'USAGE', message, remedy);
}

/** The agent does not start; `error` says why. */
export function refusedToStart(error: unknown, remedy?: string): CommandError {
  if (error instanceof CommandError) {
    return error;
  }
  const failure = DekdError.from(error);
  return new CommandError(EXIT.refusedToStart, failure.code, toldOf(failure), remedy);
}

export function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof CommandError) {
    return error.exitCode;
  }
  switch (DekdError.from(error).code) {
    case 'AGENT_UNAVAILABLE':
      return EXIT.unreachable;
    case 'PERMISSION_DENIED':
    case 'UNAUTHENTICATED':
      return EXIT.denied;
    default:
      return EXIT.failed;
  }
}

/** @param self how this program is called here, for the commands a remedy names */
export function reportOf(error: unknown, self: string): ErrorReport {
  if (error instanceof CommandError) {
    return {
      code: error.code,
      message: error.message,
      ...(error.remedy === undefined ? {} : { remedy: error.remedy }),
    };
  }
  const failure = DekdError.from(error);
  const remedy = remedyOf(failure, self);
  return {
    code: failure.code,
    message: toldOf(failure),
    ...(failure.incident === undefined ? {} : { incident: failure.incident }),
    ...(remedy === undefined ? {} : { remedy }),
  };
}

/**
 * What failed here, in this process, is told in full: a failed system call behind "internal error" would help nobody at a
 * terminal. An error from the agent has no `reason`; that one is behind its incident.
 */
function toldOf(failure: DekdError): string {
  const { errno, path } = systemErrorOf(failure);
  if (failure.code === 'INTERNAL' && errno !== undefined && path !== undefined) {
    return `${path}: ${getSystemErrorMessage(errno)}`;
  }
  return failure.code === 'INTERNAL' ? (failure.reason ?? failure.message) : failure.message;
}

function systemErrorOf(failure: DekdError): NodeJS.ErrnoException {
  return (failure.cause ?? {}) as NodeJS.ErrnoException;
}

function remedyOf(failure: DekdError, self: string): string | undefined {
  const { code, incident } = failure;
  const why = incident === undefined ? undefined : `${self} why ${incident}`;
  switch (code) {
    case 'AGENT_UNAVAILABLE':
      return `start an agent with ${self} dev, or name its socket with --socket or DEKD_SOCKET`;
    case 'PERMISSION_DENIED':
      return why === undefined ? undefined : `as the agent's user, ${why} names the rule that would allow it`;
    case 'DECRYPTION_FAILED':
      return `give the key, partition and context it was encrypted with${why === undefined ? '' : `; as the agent's user, ${why} says more`}`;
    case 'KEY_DISABLED':
      return `${self} keys show NAME tells its state; ${self} keys enable NAME undoes disable, keys thaw NAME undoes freeze, nothing undoes destroy`;
    case 'INTERNAL':
      if (NO_SPACE.has(systemErrorOf(failure).code ?? '')) {
        return 'free space there, or name another place with -o';
      }
      break;
    default:
      break;
  }
  return why === undefined ? undefined : `as the agent's user, ${why} says more`;
}
