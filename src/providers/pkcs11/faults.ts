/** What each failure of a PKCS#11 library means to a caller. */
import { type ProviderCode, ProviderError } from '../provider-error.ts';
import { CKR, CryptokiError, type LoadFault, ModuleLoadError, ThreadLostError } from './cryptoki.ts';
import { PinFileError } from './pin-file.ts';

/** `open` is decryption or unwrapping: the only operation that bad input can make fail. */
export type Operation = 'describe' | 'seal' | 'open' | 'health';

interface Meaning {
  readonly code: ProviderCode;
  readonly text: string;
}

const ABSENT: Meaning = { code: 'UNAVAILABLE', text: 'the token is not there' };
const FAILED: Meaning = { code: 'UNAVAILABLE', text: 'the device failed' };
const SESSION: Meaning = { code: 'UNAVAILABLE', text: 'the session ended and could not be renewed' };
const LOCKING: Meaning = { code: 'CONFIG', text: 'the module cannot be called from several threads' };
const VANISHED: Meaning = { code: 'UNAVAILABLE', text: 'the handle of the key is invalid, though the key is there' };
const OTHER_KEY: Meaning = { code: 'WRONG_KEY', text: 'the device says that these bytes are not of this key' };
const DAMAGED: Meaning = { code: 'CORRUPT', text: 'these bytes do not open' };
const WRONG_TYPE: Meaning = { code: 'CONFIG', text: 'the mechanism does not go with this key' };
const NO_MECHANISM: Meaning = {
  code: 'CONFIG',
  text: 'the token does not take the mechanism: set mechanism or mechanismNumber',
};
const NO_SESSION_KEY: Meaning = {
  code: 'UNSUPPORTED',
  text: 'the token does not let a secret in or out as a session object: use the mechanism aes-gcm',
};
const PIN: Meaning = { code: 'UNAUTHENTICATED', text: 'the token refused the PIN' };
const LOGIN: Meaning = { code: 'UNAUTHENTICATED', text: 'the user is not logged in to the token' };
const NOT_PERMITTED: Meaning = { code: 'FORBIDDEN', text: 'the token does not permit this use of the key' };

const MEANINGS: Readonly<Partial<Record<keyof typeof CKR, Meaning>>> = {
  HOST_MEMORY: FAILED,
  SLOT_ID_INVALID: ABSENT,
  NEED_TO_CREATE_THREADS: LOCKING,
  CANT_LOCK: LOCKING,
  ATTRIBUTE_SENSITIVE: NO_SESSION_KEY,
  ATTRIBUTE_TYPE_INVALID: NO_SESSION_KEY,
  ATTRIBUTE_VALUE_INVALID: NO_SESSION_KEY,
  ACTION_PROHIBITED: NOT_PERMITTED,
  DATA_LEN_RANGE: { code: 'TOO_LARGE', text: 'the token takes fewer bytes in one call' },
  DEVICE_ERROR: FAILED,
  DEVICE_MEMORY: { code: 'RATE_LIMITED', text: 'the device has no memory left' },
  DEVICE_REMOVED: ABSENT,
  ENCRYPTED_DATA_INVALID: OTHER_KEY,
  ENCRYPTED_DATA_LEN_RANGE: DAMAGED,
  FUNCTION_CANCELED: FAILED,
  FUNCTION_NOT_SUPPORTED: { code: 'UNSUPPORTED', text: 'the module lacks this function' },
  KEY_HANDLE_INVALID: VANISHED,
  KEY_SIZE_RANGE: WRONG_TYPE,
  KEY_TYPE_INCONSISTENT: WRONG_TYPE,
  KEY_CHANGED: VANISHED,
  KEY_FUNCTION_NOT_PERMITTED: NOT_PERMITTED,
  KEY_NOT_WRAPPABLE: NO_SESSION_KEY,
  KEY_UNEXTRACTABLE: NO_SESSION_KEY,
  MECHANISM_INVALID: NO_MECHANISM,
  MECHANISM_PARAM_INVALID: NO_MECHANISM,
  OBJECT_HANDLE_INVALID: VANISHED,
  OPERATION_ACTIVE: SESSION,
  OPERATION_NOT_INITIALIZED: SESSION,
  PIN_INCORRECT: PIN,
  PIN_INVALID: PIN,
  PIN_LEN_RANGE: PIN,
  PIN_EXPIRED: { code: 'UNAUTHENTICATED', text: 'the PIN has expired: set a new one' },
  PIN_LOCKED: { code: 'UNAUTHENTICATED', text: 'the PIN is locked: the security officer unlocks it' },
  SESSION_CLOSED: SESSION,
  SESSION_COUNT: { code: 'RATE_LIMITED', text: 'the token has no session left: lower sessions' },
  SESSION_HANDLE_INVALID: SESSION,
  SESSION_READ_ONLY: NO_SESSION_KEY,
  TEMPLATE_INCOMPLETE: NO_SESSION_KEY,
  TEMPLATE_INCONSISTENT: NO_SESSION_KEY,
  TOKEN_NOT_PRESENT: ABSENT,
  TOKEN_NOT_RECOGNIZED: ABSENT,
  UNWRAPPING_KEY_HANDLE_INVALID: VANISHED,
  UNWRAPPING_KEY_SIZE_RANGE: WRONG_TYPE,
  UNWRAPPING_KEY_TYPE_INCONSISTENT: WRONG_TYPE,
  USER_NOT_LOGGED_IN: LOGIN,
  USER_PIN_NOT_INITIALIZED: { code: 'UNAUTHENTICATED', text: 'the token has no user PIN yet' },
  USER_ANOTHER_ALREADY_LOGGED_IN: LOGIN,
  USER_TOO_MANY_TYPES: LOGIN,
  WRAPPED_KEY_INVALID: OTHER_KEY,
  WRAPPED_KEY_LEN_RANGE: DAMAGED,
  WRAPPING_KEY_HANDLE_INVALID: VANISHED,
  WRAPPING_KEY_SIZE_RANGE: WRONG_TYPE,
  WRAPPING_KEY_TYPE_INCONSISTENT: WRONG_TYPE,
  CRYPTOKI_NOT_INITIALIZED: SESSION,
  FUNCTION_REJECTED: NOT_PERMITTED,
};

const NAME_OF = new Map<number, keyof typeof CKR>(
  Object.entries(CKR).map(([name, rv]) => [rv, name as keyof typeof CKR]),
);

const LOAD_TEXT: Readonly<Record<LoadFault, string>> = {
  package: 'the package pkcs11js is not installed: run npm install pkcs11js',
  build:
    'the package pkcs11js is installed without its native part: npm did not run its install script, or ran it for ' +
    'another Node; allow the script (npm approve-scripts pkcs11js) and run npm rebuild pkcs11js',
  library: 'the PKCS#11 module does not load: check its path, its architecture, and with ldd what it needs',
};

/** The login, session, object or device that a call relied on is gone: worth one new session and a second try. */
const STALE = rvs(
  'CRYPTOKI_NOT_INITIALIZED',
  'DEVICE_REMOVED',
  'KEY_CHANGED',
  'KEY_HANDLE_INVALID',
  'OBJECT_HANDLE_INVALID',
  'OPERATION_ACTIVE',
  'OPERATION_NOT_INITIALIZED',
  'SESSION_CLOSED',
  'SESSION_HANDLE_INVALID',
  'SLOT_ID_INVALID',
  'TOKEN_NOT_PRESENT',
  'TOKEN_NOT_RECOGNIZED',
  'UNWRAPPING_KEY_HANDLE_INVALID',
  'USER_NOT_LOGGED_IN',
  'WRAPPING_KEY_HANDLE_INVALID',
);

/** Said of the token as a whole, some libraries stay with it until they are initialised again. */
const GONE = rvs(
  'CRYPTOKI_NOT_INITIALIZED',
  'DEVICE_REMOVED',
  'FUNCTION_FAILED',
  'GENERAL_ERROR',
  'SLOT_ID_INVALID',
  'TOKEN_NOT_PRESENT',
  'TOKEN_NOT_RECOGNIZED',
);

const HANDLE = rvs(
  'KEY_CHANGED',
  'KEY_HANDLE_INVALID',
  'OBJECT_HANDLE_INVALID',
  'UNWRAPPING_KEY_HANDLE_INVALID',
  'WRAPPING_KEY_HANDLE_INVALID',
);

const REFUSED_PIN = rvs('PIN_EXPIRED', 'PIN_INCORRECT', 'PIN_INVALID', 'PIN_LEN_RANGE', 'PIN_LOCKED');

/** Functions that use a key on bytes; what any other function says is about session and token. */
const KEY_FUNCTIONS: ReadonlySet<string> = new Set([
  'C_EncryptInit',
  'C_Encrypt',
  'C_DecryptInit',
  'C_Decrypt',
  'C_WrapKey',
  'C_UnwrapKey',
  'C_CreateObject',
]);

/** The error that leaves the provider. */
export function faultOf(error: unknown, root: string, operation: Operation): ProviderError {
  if (error instanceof ProviderError) {
    return error;
  }
  if (error instanceof CryptokiError) {
    return cryptokiFault(error, root);
  }
  if (error instanceof ModuleLoadError) {
    return new ProviderError('CONFIG', `root ${root}: ${LOAD_TEXT[error.fault]}`);
  }
  if (error instanceof PinFileError) {
    // While an agent runs, a file that is being replaced is a login that fails, and no refusal of the key.
    const code = operation === 'describe' ? 'CONFIG' : 'UNAUTHENTICATED';
    return new ProviderError(code, `root ${root}: ${error.message}`);
  }
  const what =
    error instanceof ThreadLostError ? 'the thread of the PKCS#11 module ended' : 'the PKCS#11 module failed';
  return new ProviderError('UNAVAILABLE', `root ${root}: ${what}`, { cause: error });
}

function cryptokiFault(error: CryptokiError, root: string): ProviderError {
  const name = NAME_OF.get(error.rv);
  const { code, text } = (name === undefined ? undefined : MEANINGS[name]) ?? FAILED;
  return new ProviderError(code, `root ${root}: ${text}`, { cause: error, detail: detailOf(error) });
}

/** What the library called it: the function, and the name or at least the number. */
export function detailOf({ rv, call }: CryptokiError): string {
  const name = NAME_OF.get(rv);
  return `${call}: ${name === undefined ? `CKR 0x${rv.toString(16)}` : `CKR_${name}`}`;
}

export function isStale(error: unknown): boolean {
  const fault = cryptokiOf(error);
  return fault !== undefined && (STALE.has(fault.rv) || isGone(error));
}

export function isGone(error: unknown): boolean {
  const fault = cryptokiOf(error);
  return fault !== undefined && GONE.has(fault.rv) && !KEY_FUNCTIONS.has(fault.call);
}

export function isHandleFault(error: unknown): boolean {
  const fault = cryptokiOf(error);
  return fault !== undefined && HANDLE.has(fault.rv);
}

export function isRefusedPin(error: unknown): error is CryptokiError {
  return error instanceof CryptokiError && REFUSED_PIN.has(error.rv);
}

/**
 * Whether a failed decryption may be the fault of its input or of the device: some modules answer CKR_GENERAL_ERROR to a
 * tag that does not verify, others keep that for a broken device.
 */
export function isAmbiguous(error: unknown): error is CryptokiError {
  if (!(error instanceof CryptokiError) || !KEY_FUNCTIONS.has(error.call)) {
    return false;
  }
  const name = NAME_OF.get(error.rv);
  return name === undefined || MEANINGS[name] === undefined;
}

/** The input of a decryption is at fault, as a round trip with the same key has shown. */
export function damaged(error: CryptokiError, root: string): ProviderError {
  return new ProviderError('CORRUPT', `root ${root}: ${DAMAGED.text}`, { cause: error, detail: detailOf(error) });
}

export function aborted(reason: unknown, root: string): ProviderError {
  return (reason as { readonly name?: unknown } | undefined)?.name === 'TimeoutError'
    ? new ProviderError('TIMEOUT', `root ${root}: the PKCS#11 module did not answer in time`)
    : new ProviderError('CANCELLED', `root ${root}: the call was cancelled`);
}

function cryptokiOf(error: unknown): CryptokiError | undefined {
  const fault = error instanceof ProviderError ? error.cause : error;
  return fault instanceof CryptokiError ? fault : undefined;
}

function rvs(...names: readonly (keyof typeof CKR)[]): ReadonlySet<number> {
  return new Set(names.map((name) => CKR[name]));
}
