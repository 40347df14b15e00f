/** What AWS KMS, its SDK and the network under it call their errors, and what each is here. By name, never by text. */
import { type ProviderCode, ProviderError } from '../provider-error.ts';

export type KmsOperation = 'DescribeKey' | 'Encrypt' | 'Decrypt' | 'ReEncrypt';

export interface FailedCall {
  readonly root: string;
  readonly operation: KmsOperation;
  readonly region: string;
}

const CODE_OF: ReadonlyMap<string, ProviderCode> = new Map(
  Object.entries({
    RATE_LIMITED: [
      'ThrottlingException',
      'Throttling',
      'ThrottledException',
      'TooManyRequestsException',
      'RequestThrottled',
      'RequestThrottledException',
      'RequestLimitExceeded',
      'LimitExceededException',
      'BandwidthLimitExceeded',
      'PriorRequestNotComplete',
      'SlowDown',
    ],
    UNAVAILABLE: [
      'KMSInternalException',
      'DependencyTimeoutException',
      'KeyUnavailableException',
      'InternalFailure',
      'InternalServerError',
      'ServiceUnavailable',
      'ServiceUnavailableException',
      'RequestTimeout',
      'RequestTimeoutException',
      // Key stores of the customer's own, behind the service.
      'CloudHsmClusterInvalidConfigurationException',
      'CloudHsmClusterNotActiveException',
      'CustomKeyStoreInvalidStateException',
      // No source of credentials answered. Nobody refused anything: a metadata service that is away comes back.
      'CredentialsProviderError',
      'IDPCommunicationError',
    ],
    UNAUTHENTICATED: [
      'ExpiredTokenException',
      'ExpiredToken',
      'UnrecognizedClientException',
      'InvalidClientTokenId',
      'InvalidAccessKeyId',
      'InvalidSignatureException',
      'SignatureDoesNotMatch',
      'IncompleteSignature',
      'IncompleteSignatureException',
      'MissingAuthenticationToken',
      'MissingAuthenticationTokenException',
      'RequestExpired',
      'RequestTimeTooSkewed',
      // From the exchange of a projected token for credentials.
      'InvalidIdentityToken',
      'InvalidIdentityTokenException',
      'IDPRejectedClaim',
      'TokenProviderError',
    ],
    FORBIDDEN: [
      'AccessDeniedException',
      'AccessDenied',
      'UnauthorizedOperation',
      'NotAuthorized',
      'OptInRequired',
      'InvalidGrantTokenException',
    ],
    KEY_NOT_FOUND: ['NotFoundException', 'InvalidArnException'],
    // Which of the two, and whether it is a refusal at all, only DescribeKey tells: `stateError`.
    KEY_DISABLED: ['DisabledException', 'KMSInvalidStateException'],
    WRONG_KEY: ['IncorrectKeyException'],
    CORRUPT: ['InvalidCiphertextException'],
    CONFIG: ['InvalidKeyUsageException', 'UnsupportedOperationException', 'EndpointError', 'InsecureEndpoint'],
  } satisfies Partial<Record<ProviderCode, string[]>>).flatMap(([code, names]) =>
    names.map((name) => [name, code as ProviderCode]),
  ),
);

/** Sizes and forms are checked before a request is sent, so that this is about what is left of them. */
const VALIDATION: Readonly<Record<KmsOperation, ProviderCode>> = {
  DescribeKey: 'CONFIG',
  Encrypt: 'TOO_LARGE',
  Decrypt: 'CORRUPT',
  ReEncrypt: 'CORRUPT',
};

/**
 * The ProviderError for anything that a call threw. An error nobody knows is a silence, never a refusal: a page of a
 * proxy, a broken connection and a service of tomorrow all leave the keys that are loaded alone.
 */
export function kmsError(error: unknown, call: FailedCall): ProviderError {
  if (error instanceof ProviderError) {
    return error;
  }
  const detail = detailOf(error);
  const code = codeOf(error, call.operation);
  const retryAfterMs = code === 'RATE_LIMITED' ? retryAfterOf(error) : undefined;
  return new ProviderError(code, message(code, call), {
    cause: error,
    detail,
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  });
}

/** For a call that ended because its signal did. */
export function abortError(reason: unknown, { root, operation }: FailedCall): ProviderError {
  return nameOf(reason) === 'TimeoutError'
    ? new ProviderError(
        'TIMEOUT',
        `root ${root}: AWS KMS did not answer ${operation} in time, waiting for a connection included; ` +
          'see timeout and connections of the root',
      )
    : new ProviderError('CANCELLED', `root ${root}: ${operation} was cancelled`);
}

/** Whether the service refused a key for its state without saying which: `stateError` can, after a DescribeKey. */
export function isStateRefusal({ cause }: ProviderError): boolean {
  return nameOf(cause) === 'KMSInvalidStateException';
}

/** The error for a key that cannot be used in the state that DescribeKey reports; undefined when it can. */
export function stateError(state: string, call: FailedCall): ProviderError | undefined {
  const code = STATES[state] ?? (state === 'Enabled' ? undefined : 'UNAVAILABLE');
  return code === undefined ? undefined : new ProviderError(code, message(code, call), { detail: state });
}

/** A key store that is disconnected, and a key that is being made, are no refusals. Every other state is. */
const STATES: Readonly<Record<string, ProviderCode>> = {
  Disabled: 'KEY_DISABLED',
  PendingImport: 'KEY_DISABLED',
  PendingDeletion: 'KEY_PENDING_DELETION',
  PendingReplicaDeletion: 'KEY_PENDING_DELETION',
};

function codeOf(error: unknown, operation: KmsOperation): ProviderCode {
  const { $metadata } = (error ?? {}) as { $metadata?: { httpStatusCode?: number; clockSkewCorrected?: boolean } };
  if ($metadata?.clockSkewCorrected === true) {
    // The SDK took the time from the refusal: the next request is signed with it.
    return 'UNAVAILABLE';
  }
  const name = nameOf(error);
  if (name === 'ValidationException' || name === 'SerializationException') {
    return VALIDATION[operation];
  }
  return CODE_OF.get(name) ?? ($metadata?.httpStatusCode === 429 ? 'RATE_LIMITED' : 'UNAVAILABLE');
}

function message(code: ProviderCode, { root, operation, region }: FailedCall): string {
  const start = `root ${root}: `;
  switch (code) {
    case 'RATE_LIMITED':
      return `${start}AWS KMS throttles ${operation} in ${region}`;
    case 'UNAVAILABLE':
      return `${start}AWS KMS cannot be used in ${region} (${operation}): check network, endpoint and credentials`;
    case 'UNAUTHENTICATED':
      return `${start}AWS does not accept the credentials of this process: renew them, and check the clock`;
    case 'FORBIDDEN':
      return `${start}AWS KMS does not allow kms:${operation}: allow it in the key policy and in IAM`;
    case 'KEY_NOT_FOUND':
      return `${start}AWS KMS has no such key in ${region}: check key, account and region`;
    case 'KEY_DISABLED':
      return `${start}the KMS key is disabled or has no material: enable it (aws kms enable-key), or import its material`;
    case 'KEY_PENDING_DELETION':
      return `${start}the KMS key is about to be deleted: aws kms cancel-key-deletion keeps it`;
    case 'WRONG_KEY':
      return `${start}the ciphertext is of another KMS key`;
    case 'CORRUPT':
      return `${start}the ciphertext does not open: it is damaged, or its key context is another`;
    case 'TOO_LARGE':
      return `${start}plaintext and key context are more than AWS KMS takes (4,096 and 8,192 bytes)`;
    default:
      return `${start}AWS KMS cannot do ${operation} with this key or endpoint: it takes a symmetric key for encryption`;
  }
}

/** An error name, a code of Node or a status: short and from a small alphabet, whatever sent it. */
function detailOf(error: unknown): string {
  const { code, $metadata } = (error ?? {}) as { code?: unknown; $metadata?: { httpStatusCode?: number } };
  const words = [nameOf(error), typeof code === 'string' ? code : undefined, $metadata?.httpStatusCode];
  return words
    .filter((word) => word !== undefined && word !== '')
    .join(' ')
    .replaceAll(/[^\w .-]/g, '?')
    .slice(0, 100);
}

function nameOf(error: unknown): string {
  const { name } = (error ?? {}) as { name?: unknown };
  return typeof name === 'string' ? name : '';
}

/** Milliseconds of `retry-after` (seconds or a date). */
function retryAfterOf(error: unknown): number | undefined {
  const { $response } = error as { $response?: { headers?: Record<string, string> } };
  const text = $response?.headers?.['retry-after'];
  if (text === undefined) {
    return undefined;
  }
  const ms = /^\d+(\.\d+)?$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isFinite(ms) && ms >= 0 ? Math.round(ms) : undefined;
}
