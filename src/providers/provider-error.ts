/** What can go wrong at a provider, in one closed set; it stays inside the agent, and the edge of custody maps it. */

/** Every code, with what follows from it. */
export const PROVIDER_CODES = {
  /** The service failed or could not be reached: 5xx, a refused connection, a token that is absent. */
  UNAVAILABLE: { retry: true, trip: true },
  /** Our own deadline, which includes waiting for a connection. */
  TIMEOUT: { retry: true, trip: true },
  /** Throttled; `retryAfterMs` when the service said for how long. */
  RATE_LIMITED: { retry: true, trip: true },
  /** A Vault that is sealed: it answers, and holds no keys until somebody unseals it. */
  SEALED: { retry: true, trip: true },
  /** Our credentials are expired or unknown; a new login may help, and is tried once. */
  UNAUTHENTICATED: { retry: false, trip: false },
  /** The credentials are good and may not do this. */
  FORBIDDEN: { retry: false, trip: false },
  KEY_NOT_FOUND: { retry: false, trip: false },
  KEY_DISABLED: { retry: false, trip: false },
  KEY_PENDING_DELETION: { retry: false, trip: false },
  /** The ciphertext is of another key. */
  WRONG_KEY: { retry: false, trip: false },
  /** The ciphertext does not open in this context, where the service tells that apart. */
  CONTEXT_MISMATCH: { retry: false, trip: false },
  /** The ciphertext does not open: damaged, or in another context, where the two cannot be told apart. */
  CORRUPT: { retry: false, trip: false },
  TOO_LARGE: { retry: false, trip: false },
  /** This provider does not do that; the message names provider and operation. */
  UNSUPPORTED: { retry: false, trip: false },
  /** The configuration is wrong; the message says the remedy. Only while starting. */
  CONFIG: { retry: false, trip: false },
  /** The caller gave up. */
  CANCELLED: { retry: false, trip: false },
} as const satisfies Record<string, { readonly retry: boolean; readonly trip: boolean }>;

export type ProviderCode = keyof typeof PROVIDER_CODES;

export interface ProviderErrorOptions {
  readonly cause?: unknown;
  /** Milliseconds after which the service wants to be asked again. */
  readonly retryAfterMs?: number;
  /** What the service called it (an error name, a status), for the operator: never its whole text. */
  readonly detail?: string;
}

/**
 * The only error that a provider throws. `message` is composed here and names root, operation and remedy; it never holds
 * what the service said in full, a credential, key material or a context value.
 */
export class ProviderError extends Error {
  override readonly name = 'ProviderError';
  readonly code: ProviderCode;
  readonly retryAfterMs: number | undefined;
  readonly detail: string | undefined;

  constructor(code: ProviderCode, message: string, options: ProviderErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryAfterMs = options.retryAfterMs;
    this.detail = options.detail;
  }

  /** Whether the same call may succeed if it is sent again. */
  get retry(): boolean {
    return PROVIDER_CODES[this.code].retry;
  }

  /** Whether the failure counts towards the breaker of its root: the fault of a caller never does. */
  get trip(): boolean {
    return PROVIDER_CODES[this.code].trip;
  }

  static is(error: unknown, ...codes: readonly ProviderCode[]): error is ProviderError {
    return error instanceof ProviderError && (codes.length === 0 || codes.includes(error.code));
  }
}
