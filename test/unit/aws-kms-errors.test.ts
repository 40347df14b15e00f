import { describe, expect, it } from 'vitest';
import {
  abortError,
  isStateRefusal,
  type KmsOperation,
  kmsError,
  stateError,
} from '../../src/providers/aws-kms/kms-errors.ts';
import { PROVIDER_CODES, type ProviderCode } from '../../src/providers/provider-error.ts';

const SECRET = 'hunter2 arn:aws:kms:eu-central-1:111122223333:key/canary';

function call(operation: KmsOperation) {
  return { root: 'aws', operation, region: 'eu-central-1' };
}

function named(name: string, status = 400, rest: object = {}): Error {
  return Object.assign(new Error(SECRET), { name, $metadata: { httpStatusCode: status }, ...rest });
}

function mapped(error: unknown, operation: KmsOperation = 'Decrypt') {
  return kmsError(error, call(operation));
}

/** Every row of the service's errors: name, HTTP status, code, retry and trip. */
const TABLE: readonly (readonly [string, number, ProviderCode, boolean, boolean])[] = [
  ['ThrottlingException', 400, 'RATE_LIMITED', true, true],
  ['Throttling', 400, 'RATE_LIMITED', true, true],
  ['TooManyRequestsException', 429, 'RATE_LIMITED', true, true],
  ['RequestLimitExceeded', 503, 'RATE_LIMITED', true, true],
  ['LimitExceededException', 400, 'RATE_LIMITED', true, true],
  ['KMSInternalException', 500, 'UNAVAILABLE', true, true],
  ['DependencyTimeoutException', 503, 'UNAVAILABLE', true, true],
  ['KeyUnavailableException', 500, 'UNAVAILABLE', true, true],
  ['InternalFailure', 500, 'UNAVAILABLE', true, true],
  ['ServiceUnavailable', 503, 'UNAVAILABLE', true, true],
  ['CloudHsmClusterNotActiveException', 400, 'UNAVAILABLE', true, true],
  ['CredentialsProviderError', 0, 'UNAVAILABLE', true, true],
  ['ExpiredTokenException', 400, 'UNAUTHENTICATED', false, false],
  ['UnrecognizedClientException', 400, 'UNAUTHENTICATED', false, false],
  ['InvalidClientTokenId', 403, 'UNAUTHENTICATED', false, false],
  ['InvalidSignatureException', 400, 'UNAUTHENTICATED', false, false],
  ['IncompleteSignatureException', 400, 'UNAUTHENTICATED', false, false],
  ['MissingAuthenticationTokenException', 400, 'UNAUTHENTICATED', false, false],
  ['InvalidIdentityToken', 400, 'UNAUTHENTICATED', false, false],
  ['AccessDeniedException', 400, 'FORBIDDEN', false, false],
  ['AccessDenied', 403, 'FORBIDDEN', false, false],
  ['OptInRequired', 403, 'FORBIDDEN', false, false],
  ['InvalidGrantTokenException', 400, 'FORBIDDEN', false, false],
  ['NotFoundException', 400, 'KEY_NOT_FOUND', false, false],
  ['InvalidArnException', 400, 'KEY_NOT_FOUND', false, false],
  ['DisabledException', 400, 'KEY_DISABLED', false, false],
  ['KMSInvalidStateException', 400, 'KEY_DISABLED', false, false],
  ['IncorrectKeyException', 400, 'WRONG_KEY', false, false],
  ['InvalidCiphertextException', 400, 'CORRUPT', false, false],
  ['InvalidKeyUsageException', 400, 'CONFIG', false, false],
  ['UnsupportedOperationException', 400, 'CONFIG', false, false],
  ['EndpointError', 0, 'CONFIG', false, false],
];

describe('errors of AWS KMS', () => {
  it.each(TABLE)('%s (%i) is %s, retry %s, counted by the breaker %s', (name, status, code, retry, trip) => {
    const error = mapped(named(name, status));
    expect({ code: error.code, retry: error.retry, trip: error.trip }).toEqual({ code, retry, trip });
    expect(error.detail).toContain(name);
  });

  it.each([
    ['DescribeKey', 'CONFIG'],
    ['Encrypt', 'TOO_LARGE'],
    ['Decrypt', 'CORRUPT'],
    ['ReEncrypt', 'CORRUPT'],
  ] as const)('a ValidationException of %s is %s', (operation, code) => {
    expect(mapped(named('ValidationException'), operation).code).toBe(code);
  });

  it.each([
    ['ECONNREFUSED', 'Error'],
    ['ECONNRESET', 'TimeoutError'],
    ['EPIPE', 'TimeoutError'],
    ['ENOTFOUND', 'Error'],
    ['EAI_AGAIN', 'Error'],
    ['DEPTH_ZERO_SELF_SIGNED_CERT', 'Error'],
    ['ERR_TLS_CERT_ALTNAME_INVALID', 'Error'],
    ['CERT_HAS_EXPIRED', 'Error'],
    ['EPROTO', 'Error'],
  ])('%s of the network is UNAVAILABLE, and told by its code', (code, name) => {
    const error = mapped(Object.assign(new Error(SECRET), { name, code }));
    expect(error).toMatchObject({ code: 'UNAVAILABLE', detail: expect.stringContaining(code) });
  });

  it('takes what it does not know for silence, never for a refusal', () => {
    for (const unknown of [named('Unknown', 403), named('SyntaxError', 200), named('', 307), 'text', undefined, null]) {
      expect(mapped(unknown)).toMatchObject({ code: 'UNAVAILABLE' });
    }
  });

  it('takes an unknown error with status 429 for throttling', () => {
    expect(mapped(named('Unknown', 429)).code).toBe('RATE_LIMITED');
  });

  it('retries after the SDK took the time from the refusal of a clock that is off', () => {
    const error = named('InvalidSignatureException', 400, { $metadata: { clockSkewCorrected: true } });
    expect(mapped(error).retry).toBe(true);
  });

  it.each([
    ['3', 3000],
    ['0.25', 250],
    ['soon', undefined],
  ])('reads retry-after %s as %s ms', (text, expected) => {
    const error = named('ThrottlingException', 400, { $response: { headers: { 'retry-after': text } } });
    expect(mapped(error).retryAfterMs).toBe(expected);
  });

  it('reads a date in retry-after', () => {
    const at = new Date(Date.now() + 5000).toUTCString();
    const error = named('ThrottlingException', 400, { $response: { headers: { 'retry-after': at } } });
    expect(mapped(error).retryAfterMs).toBeGreaterThan(3000);
    expect(mapped(error).retryAfterMs).toBeLessThanOrEqual(5000);
  });

  it.each([
    ['Enabled', undefined],
    ['Disabled', 'KEY_DISABLED'],
    ['PendingImport', 'KEY_DISABLED'],
    ['PendingDeletion', 'KEY_PENDING_DELETION'],
    ['PendingReplicaDeletion', 'KEY_PENDING_DELETION'],
    ['Unavailable', 'UNAVAILABLE'],
    ['Creating', 'UNAVAILABLE'],
    ['Updating', 'UNAVAILABLE'],
    ['StateOfTomorrow', 'UNAVAILABLE'],
  ])('a key in state %s is %s', (state, code) => {
    expect(stateError(state, call('DescribeKey'))?.code).toBe(code);
  });

  it('knows the refusal that does not say which state', () => {
    expect(isStateRefusal(mapped(named('KMSInvalidStateException')))).toBe(true);
    expect(isStateRefusal(mapped(named('DisabledException')))).toBe(false);
  });

  it('tells a deadline from a cancelled call by the reason of the signal', () => {
    expect(abortError(new DOMException('', 'TimeoutError'), call('Encrypt')).code).toBe('TIMEOUT');
    expect(abortError(new DOMException('', 'AbortError'), call('Encrypt')).code).toBe('CANCELLED');
    expect(abortError(undefined, call('Encrypt')).code).toBe('CANCELLED');
  });

  it('says root and remedy, and nothing of what the service wrote', () => {
    const every = [...TABLE.map(([name, status]) => named(name, status)), named(SECRET), named('ValidationException')];
    const messages = every.map((error) => mapped(error, 'DescribeKey'));
    for (const { message, detail } of messages) {
      expect(message).toMatch(/^root aws: /);
      expect(message).not.toMatch(/\.$/);
      expect(`${message} ${detail}`).not.toMatch(/arn:aws/);
    }
    expect(new Set(messages.map(({ code }) => code)).size).toBeLessThanOrEqual(Object.keys(PROVIDER_CODES).length);
    expect(mapped(named('AccessDeniedException'), 'DescribeKey').message).toContain('kms:DescribeKey');
    expect(mapped(named('NotFoundException'), 'DescribeKey').message).toContain('eu-central-1');
  });
});
