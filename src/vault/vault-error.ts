/** What can go wrong at a Vault or OpenBao: one closed set, which provider and keystore translate into their own. */

/** Every code, with whether the client itself sends such a request again inside the deadline. */
export const VAULT_CODES = {
  /** 5xx, 412, 472, 473, a redirect, a refused or broken connection, an answer that cannot be read. */
  UNAVAILABLE: { resend: true },
  /** The deadline of the call, which includes logging in and waiting for a connection. */
  TIMEOUT: { resend: false },
  RATE_LIMITED: { resend: true },
  /** It answers and holds no keys until somebody unseals it: more requests inside one deadline change nothing. */
  SEALED: { resend: false },
  /** No login, or the login was refused, or its token was refused again after a new login. */
  UNAUTHENTICATED: { resend: false },
  /** The token is good and its policies do not allow this. */
  FORBIDDEN: { resend: false },
  NOT_FOUND: { resend: false },
  /** 400: what it means is for the operation to say; `said` has the reasons. */
  BAD_REQUEST: { resend: false },
  TOO_LARGE: { resend: false },
  /** 405 and 501: the server has no such operation. */
  UNSUPPORTED: { resend: false },
  /** A setting is wrong; the message says the remedy. */
  CONFIG: { resend: false },
  CANCELLED: { resend: false },
} as const satisfies Record<string, { readonly resend: boolean }>;

export type VaultCode = keyof typeof VAULT_CODES;

export interface VaultErrorOptions {
  readonly cause?: unknown;
  /** HTTP status, when there was an answer. */
  readonly status?: number | undefined;
  readonly retryAfterMs?: number | undefined;
  /** What the server gave for reasons. */
  readonly said?: readonly string[] | undefined;
  /** The request may have taken effect all the same. */
  readonly ambiguous?: boolean | undefined;
}

/** The only error of `src/vault`. `message` is composed here; it never holds a token, a body or what the server said. */
export class VaultError extends Error {
  override readonly name = 'VaultError';
  readonly code: VaultCode;
  readonly status: number | undefined;
  readonly retryAfterMs: number | undefined;
  readonly ambiguous: boolean;
  // Private, so that no logger prints it: a server may repeat in its reasons what it was sent.
  readonly #said: readonly string[];

  constructor(code: VaultCode, message: string, options: VaultErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.status = options.status;
    this.retryAfterMs = options.retryAfterMs;
    this.ambiguous = options.ambiguous ?? false;
    this.#said = options.said ?? [];
  }

  /** Every reason that the server gave, for matching only: never for a message or a log. */
  get said(): readonly string[] {
    return this.#said;
  }

  static is(error: unknown, ...codes: readonly VaultCode[]): error is VaultError {
    return error instanceof VaultError && (codes.length === 0 || codes.includes(error.code));
  }
}
