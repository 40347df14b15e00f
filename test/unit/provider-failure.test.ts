import { describe, expect, it } from 'vitest';
import { ofProvider, providerCodeOf, verdictOf } from '../../src/custody/provider-failure.ts';
import { DekdError } from '../../src/errors.ts';
import { PROVIDER_CODES, type ProviderCode, ProviderError } from '../../src/providers/provider-error.ts';

/** code → what callers hear, whether they may retry, whether it counts for the breaker, what it says of the key. */
const TABLE: readonly (readonly [ProviderCode, string, boolean, boolean, string])[] = [
  ['UNAVAILABLE', 'KMS_UNAVAILABLE', true, true, 'silent'],
  ['TIMEOUT', 'KMS_UNAVAILABLE', true, true, 'silent'],
  ['RATE_LIMITED', 'KMS_UNAVAILABLE', true, true, 'silent'],
  ['SEALED', 'KMS_UNAVAILABLE', true, true, 'silent'],
  ['UNAUTHENTICATED', 'KMS_DENIED', false, false, 'silent'],
  ['FORBIDDEN', 'KMS_DENIED', false, false, 'denied'],
  ['KEY_NOT_FOUND', 'KMS_DENIED', false, false, 'refused'],
  ['KEY_DISABLED', 'KMS_DENIED', false, false, 'refused'],
  ['KEY_PENDING_DELETION', 'KMS_DENIED', false, false, 'refused'],
  ['WRONG_KEY', 'DECRYPTION_FAILED', false, false, 'denied'],
  ['CONTEXT_MISMATCH', 'DECRYPTION_FAILED', false, false, 'denied'],
  ['CORRUPT', 'DECRYPTION_FAILED', false, false, 'denied'],
  ['TOO_LARGE', 'INVALID_ARGUMENT', false, false, 'silent'],
  ['UNSUPPORTED', 'UNSUPPORTED', false, false, 'silent'],
  ['CONFIG', 'INVALID_ARGUMENT', false, false, 'silent'],
  ['CANCELLED', 'CANCELLED', false, false, 'silent'],
];

describe('the failure of a provider', () => {
  it('has a row here for every code', () => {
    expect(TABLE.map(([code]) => code).sort()).toEqual(Object.keys(PROVIDER_CODES).sort());
  });

  for (const [code, told, retryable, trips, verdict] of TABLE) {
    it(`${code} reaches callers as ${told}`, () => {
      const failure = new ProviderError(code, 'root main: what happened', {
        detail: 'NameOfTheService',
        retryAfterMs: 7,
      });
      const error = ofProvider(failure);
      expect(error).toMatchObject({ code: told, retryable, retryAfterMs: 7 });
      expect(PROVIDER_CODES[code].trip).toBe(trips);
      expect(providerCodeOf(error)).toBe(code);
      expect(verdictOf(error)).toBe(verdict);
    });
  }

  it('keeps what the provider said for the operator, and tells callers one text for each code', () => {
    const error = ofProvider(
      new ProviderError('FORBIDDEN', 'root main: no kms:Decrypt on arn:secret', { detail: 'X' }),
    );
    expect(error.message).toBe('the provider of the root key refuses');
    expect(error.reason).toBe('root main: no kms:Decrypt on arn:secret (X)');
  });

  it('that is no ProviderError is a defect of dekd', () => {
    expect(ofProvider(new TypeError('x is undefined'))).toMatchObject({ code: 'INTERNAL', message: 'internal error' });
  });

  it('takes a refusal without a provider behind it for a denial, and anything else for silence', () => {
    expect(verdictOf(new DekdError('KMS_DENIED', 'x'))).toBe('denied');
    expect(verdictOf(new DekdError('KEYSTORE_UNAVAILABLE', 'x'))).toBe('silent');
    expect(verdictOf(new Error('x'))).toBe('silent');
  });
});
