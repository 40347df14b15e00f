import { DekdError, type ErrorCode } from '../errors.ts';
import { type ProviderCode, ProviderError } from '../providers/provider-error.ts';

/** What callers hear of each failure of a provider. Only what the service answered in so many words is a refusal. */
const CODE_OF: Readonly<Record<ProviderCode, ErrorCode>> = {
  UNAVAILABLE: 'KMS_UNAVAILABLE',
  TIMEOUT: 'KMS_UNAVAILABLE',
  RATE_LIMITED: 'KMS_UNAVAILABLE',
  SEALED: 'KMS_UNAVAILABLE',
  UNAUTHENTICATED: 'KMS_DENIED',
  FORBIDDEN: 'KMS_DENIED',
  KEY_NOT_FOUND: 'KMS_DENIED',
  KEY_DISABLED: 'KMS_DENIED',
  KEY_PENDING_DELETION: 'KMS_DENIED',
  WRONG_KEY: 'DECRYPTION_FAILED',
  CONTEXT_MISMATCH: 'DECRYPTION_FAILED',
  CORRUPT: 'DECRYPTION_FAILED',
  TOO_LARGE: 'INVALID_ARGUMENT',
  UNSUPPORTED: 'UNSUPPORTED',
  CONFIG: 'INVALID_ARGUMENT',
  CANCELLED: 'CANCELLED',
};

const TEXT_OF: Readonly<Partial<Record<ErrorCode, string>>> = {
  KMS_UNAVAILABLE: 'the provider of the root key does not answer',
  KMS_DENIED: 'the provider of the root key refuses',
  DECRYPTION_FAILED: 'decryption failed',
};

/**
 * The error that leaves custody for what a provider threw; the ProviderError stays its `cause`, and what it says is the
 * operator's `reason`, except for errors that name a limit or a setting.
 */
export function ofProvider(error: unknown): DekdError {
  if (!(error instanceof ProviderError)) {
    return DekdError.from(error);
  }
  const code = CODE_OF[error.code];
  const reason = error.detail === undefined ? error.message : `${error.message} (${error.detail})`;
  return new DekdError(code, TEXT_OF[code] ?? error.message, {
    cause: error,
    reason,
    ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
  });
}

/** What the provider said, when `error` is of one. */
export function providerCodeOf(error: unknown): ProviderCode | undefined {
  const { cause } = (error ?? {}) as { cause?: unknown };
  return cause instanceof ProviderError ? cause.code : undefined;
}

/** Refusals of the key itself, after which nothing has to be asked twice. */
const FINAL: ReadonlySet<ProviderCode> = new Set(['KEY_DISABLED', 'KEY_PENDING_DELETION', 'KEY_NOT_FOUND']);

/**
 * What a failure says of the right to use a key that opened before: `refused` at once, `denied` when it is said twice
 * (policies take a moment to spread, and a credential may be replaced), `silent` when it says nothing.
 */
export function verdictOf(error: unknown): 'refused' | 'denied' | 'silent' {
  const code = providerCodeOf(error);
  if (code === undefined) {
    return DekdError.is(error, 'KMS_DENIED') || DekdError.is(error, 'DECRYPTION_FAILED') ? 'denied' : 'silent';
  }
  if (FINAL.has(code)) {
    return 'refused';
  }
  return code === 'FORBIDDEN' || code === 'WRONG_KEY' || code === 'CONTEXT_MISMATCH' || code === 'CORRUPT'
    ? 'denied'
    : 'silent';
}
