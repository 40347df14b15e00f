/**
 * The one error class and its closed set of codes, shared by the client, the wire and the agent.
 *
 * Messages are lower case without a final period; they name what failed and which limit, and never carry key
 * material, plaintext or context values.
 */

/** Every code a caller can meet, with whether the same call may succeed if it is simply sent again. */
export const ERROR_CODES = {
  /** The caller broke a documented constraint; the message names the field and the limit. */
  INVALID_ARGUMENT: { number: 1, retryable: false },
  /** The peer was not recognised (overflow uid, wrong token). */
  UNAUTHENTICATED: { number: 2, retryable: false },
  /** Policy refused, or the named key does not exist: the two are not told apart. */
  PERMISSION_DENIED: { number: 3, retryable: false },
  /** No such key; only told to a caller that a rule admits. */
  KEY_NOT_FOUND: { number: 4, retryable: false },
  /** The key exists and must not be used in its state; only told to a caller that a rule admits. */
  KEY_DISABLED: { number: 5, retryable: false },
  /** The ciphertext cannot be read before any cryptography: too short, bad magic, bad string form. */
  MALFORMED: { number: 6, retryable: false },
  /** A known shape with a version or suite this agent does not know. */
  UNSUPPORTED_VERSION: { number: 7, retryable: false },
  /** Anything else about a ciphertext: one code, one text, the same work. */
  DECRYPTION_FAILED: { number: 8, retryable: false },
  /** The provider of the root key timed out, throttled or failed. */
  KMS_UNAVAILABLE: { number: 9, retryable: true },
  /** The provider of the root key said no. */
  KMS_DENIED: { number: 10, retryable: false },
  /** The keystore failed. */
  KEYSTORE_UNAVAILABLE: { number: 11, retryable: true },
  /** A compare-and-set was lost. */
  CONFLICT: { number: 12, retryable: true },
  /** A queue, in-flight, connection or key limit. */
  RESOURCE_EXHAUSTED: { number: 13, retryable: true },
  DEADLINE_EXCEEDED: { number: 14, retryable: true },
  CANCELLED: { number: 15, retryable: false },
  /** The agent is draining; another one may be taking over. */
  SHUTTING_DOWN: { number: 16, retryable: true },
  /** Framing or handshake was violated; the connection is closed. */
  PROTOCOL_ERROR: { number: 17, retryable: false },
  /** The operation is not known to this agent, engine or provider. */
  UNSUPPORTED: { number: 18, retryable: false },
  /** The service was switched off by configuration; never a pass-through. */
  SERVICE_DISABLED: { number: 19, retryable: false },
  /** No agent answers on the socket (made by the client only). */
  AGENT_UNAVAILABLE: { number: 20, retryable: true },
  /** A defect in dekd. */
  INTERNAL: { number: 21, retryable: false },
  /** What was presented is genuine, and its time is over (made by the helpers of the client only). */
  EXPIRED: { number: 22, retryable: false },
} as const satisfies Record<string, { number: number; retryable: boolean }>;

export type ErrorCode = keyof typeof ERROR_CODES;

const CODE_BY_NUMBER = new Map<number, ErrorCode>(
  (Object.keys(ERROR_CODES) as ErrorCode[]).map((code) => [ERROR_CODES[code].number, code]),
);

/** The code with this wire number; an unknown number (a newer agent) reads as INTERNAL. */
export function errorCodeOf(number: number): ErrorCode {
  return CODE_BY_NUMBER.get(number) ?? 'INTERNAL';
}

export interface DekdErrorOptions {
  readonly cause?: unknown;
  /** Milliseconds after which a retry makes sense. */
  readonly retryAfterMs?: number;
  /** The name under which the agent remembers the reason: `dekd why INCIDENT`. */
  readonly incident?: string;
  /** What only the operator may read: logged and kept under the incident, never sent to the caller. */
  readonly reason?: string;
}

/** The one error of dekd. `code` is closed, `retryable` follows from it. */
export class DekdError extends Error {
  override readonly name = 'DekdError';
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly retryAfterMs: number | undefined;
  readonly incident: string | undefined;
  /** Operator-only detail; absent on errors that came over the wire. */
  readonly reason: string | undefined;

  constructor(code: ErrorCode, message: string, options: DekdErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryable = ERROR_CODES[code].retryable;
    this.retryAfterMs = options.retryAfterMs;
    this.incident = options.incident;
    this.reason = options.reason;
  }

  /** Whether `error` is a DekdError, and of this code when one is given. */
  static is(error: unknown, code?: ErrorCode): error is DekdError {
    return error instanceof DekdError && (code === undefined || error.code === code);
  }

  /** `error` itself when it is ours, else INTERNAL with it as the local cause (which never travels). */
  static from(error: unknown): DekdError {
    if (error instanceof DekdError) {
      return error;
    }
    const reason = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    return new DekdError('INTERNAL', 'internal error', { cause: error, reason });
  }
}

/** The only text a failed decryption ever has. */
export const DECRYPTION_FAILED_TEXT = 'decryption failed';

/** A failed decryption; `reason` stays with the agent. */
export function decryptionFailed(reason: string): DekdError {
  return new DekdError('DECRYPTION_FAILED', DECRYPTION_FAILED_TEXT, { reason });
}

/**
 * Runs `work` without recording stacks: the errors of the items of a batch are answers, thousands of them at a time, and
 * a stack costs more than everything else about one.
 */
export function withoutStacks<T>(work: () => T): T {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    return work();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}
