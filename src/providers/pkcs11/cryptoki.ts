/**
 * The part of PKCS#11 (Cryptoki 2.40) that dekd uses, as one narrow interface: calls block, and are made in a thread of
 * their own (thread.ts). A test implements it in memory.
 */

/** CK_ULONG: the number of a slot, a session or an object. */
export type Handle = bigint;

export interface Token {
  readonly slot: Handle;
  /** Trailing blanks removed; empty for a token that was never initialised. */
  readonly label: string;
  readonly serial: string;
  /** CKF_ of CK_TOKEN_INFO. */
  readonly flags: number;
}

/** What a secret AES-256 key says of itself; an attribute that the token does not know reads as undefined. */
export interface TokenKey {
  readonly handle: Handle;
  readonly label: string;
  /** CKA_ID in lower hex, empty when the key has none. */
  readonly id: string;
  readonly encrypt: boolean | undefined;
  readonly decrypt: boolean | undefined;
  readonly wrap: boolean | undefined;
  readonly unwrap: boolean | undefined;
  readonly sensitive: boolean | undefined;
  readonly extractable: boolean | undefined;
}

export interface KeyTemplate {
  readonly label: string | undefined;
  /** Lower hex. */
  readonly id: string | undefined;
}

export interface KeyCall {
  readonly session: Handle;
  readonly key: Handle;
  /** CKM_ number. */
  readonly mechanism: number;
}

export interface GcmCall extends KeyCall {
  readonly iv: Uint8Array;
  readonly aad: Uint8Array;
}

/** Every method throws CryptokiError, and `initialize` ModuleLoadError as well. Byte arguments are overwritten. */
export interface Cryptoki {
  /** @returns whether this call did it: false when the process had initialised the library before. */
  initialize(): boolean;
  finalize(): void;
  /** Tokens that are present and answer. */
  tokens(): readonly Token[];
  /** CKF_ of CK_MECHANISM_INFO; undefined when the token does not have the mechanism. */
  mechanismFlags(slot: Handle, mechanism: number): number | undefined;
  openSession(slot: Handle): Handle;
  closeSession(session: Handle): void;
  /** Whether the user is logged in to the token of this session; a login is shared by all sessions of the process. */
  isLoggedIn(session: Handle): boolean;
  login(session: Handle, pin: Uint8Array): void;
  /** Secret AES keys of 32 bytes that fit, at most `limit`. */
  findKeys(session: Handle, template: KeyTemplate, limit: number): readonly TokenKey[];
  encrypt(call: GcmCall, plaintext: Uint8Array): Uint8Array;
  /** @returns the caller's to wipe. */
  decrypt(call: GcmCall, ciphertext: Uint8Array): Uint8Array;
  /** Makes the secret a session object, wraps it and destroys it. */
  wrapSecret(call: KeyCall, secret: Uint8Array): Uint8Array;
  /** Unwraps to a session object, reads its value and destroys it. @returns the caller's to wipe. */
  unwrapSecret(call: KeyCall, wrapped: Uint8Array): Uint8Array;
}

/** The same calls made in a thread that a hanging library can block without harm. Calls are run in order. */
export type CryptokiThread = {
  readonly [Name in keyof Cryptoki]: (
    ...args: Parameters<Cryptoki[Name]>
  ) => Promise<Awaited<ReturnType<Cryptoki[Name]>>>;
} & {
  /** Lets the process end although a call never returned. */
  abandon(): void;
  /** Ends the thread once its calls have returned. */
  exit(): Promise<void>;
};

/** A function that returned something else than CKR_OK. */
export class CryptokiError extends Error {
  override readonly name = 'CryptokiError';
  /** CKR_ number. */
  readonly rv: number;
  /** C_ name of the function; empty where the library did not get that far. */
  readonly call: string;

  constructor(rv: number, call: string) {
    super(`${call} returned 0x${rv.toString(16)}`);
    this.rv = rv;
    this.call = call;
  }
}

/** `package`: pkcs11js is not installed. `build`: its native part is missing. `library`: the module does not load. */
export type LoadFault = 'package' | 'build' | 'library';

export class ModuleLoadError extends Error {
  override readonly name = 'ModuleLoadError';
  readonly fault: LoadFault;

  constructor(fault: LoadFault) {
    super(`PKCS#11 module not loaded: ${fault}`);
    this.fault = fault;
  }
}

/** The thread ended by itself. */
export class ThreadLostError extends Error {
  override readonly name = 'ThreadLostError';
}

export const CKM = {
  AES_GCM: 0x1087,
  AES_KEY_WRAP_KWP: 0x210b,
} as const;

/** Flags of CK_TOKEN_INFO. */
export const TOKEN_FLAG = {
  LOGIN_REQUIRED: 0x4,
  INITIALIZED: 0x400,
  USER_PIN_FINAL_TRY: 0x20000,
  USER_PIN_LOCKED: 0x40000,
} as const;

/** Flags of CK_MECHANISM_INFO. */
export const MECHANISM_FLAG = { ENCRYPT: 0x100, DECRYPT: 0x200, WRAP: 0x20000, UNWRAP: 0x40000 } as const;

/** The return values that something here depends on; faults.ts knows what each means to a caller. */
export const CKR = {
  HOST_MEMORY: 0x2,
  SLOT_ID_INVALID: 0x3,
  GENERAL_ERROR: 0x5,
  FUNCTION_FAILED: 0x6,
  ARGUMENTS_BAD: 0x7,
  NEED_TO_CREATE_THREADS: 0x9,
  CANT_LOCK: 0xa,
  ATTRIBUTE_SENSITIVE: 0x11,
  ATTRIBUTE_TYPE_INVALID: 0x12,
  ATTRIBUTE_VALUE_INVALID: 0x13,
  ACTION_PROHIBITED: 0x1b,
  DATA_INVALID: 0x20,
  DATA_LEN_RANGE: 0x21,
  DEVICE_ERROR: 0x30,
  DEVICE_MEMORY: 0x31,
  DEVICE_REMOVED: 0x32,
  ENCRYPTED_DATA_INVALID: 0x40,
  ENCRYPTED_DATA_LEN_RANGE: 0x41,
  FUNCTION_CANCELED: 0x50,
  FUNCTION_NOT_SUPPORTED: 0x54,
  KEY_HANDLE_INVALID: 0x60,
  KEY_SIZE_RANGE: 0x62,
  KEY_TYPE_INCONSISTENT: 0x63,
  KEY_CHANGED: 0x65,
  KEY_FUNCTION_NOT_PERMITTED: 0x68,
  KEY_NOT_WRAPPABLE: 0x69,
  KEY_UNEXTRACTABLE: 0x6a,
  MECHANISM_INVALID: 0x70,
  MECHANISM_PARAM_INVALID: 0x71,
  OBJECT_HANDLE_INVALID: 0x82,
  OPERATION_ACTIVE: 0x90,
  OPERATION_NOT_INITIALIZED: 0x91,
  PIN_INCORRECT: 0xa0,
  PIN_INVALID: 0xa1,
  PIN_LEN_RANGE: 0xa2,
  PIN_EXPIRED: 0xa3,
  PIN_LOCKED: 0xa4,
  SESSION_CLOSED: 0xb0,
  SESSION_COUNT: 0xb1,
  SESSION_HANDLE_INVALID: 0xb3,
  SESSION_READ_ONLY: 0xb5,
  TEMPLATE_INCOMPLETE: 0xd0,
  TEMPLATE_INCONSISTENT: 0xd1,
  TOKEN_NOT_PRESENT: 0xe0,
  TOKEN_NOT_RECOGNIZED: 0xe1,
  UNWRAPPING_KEY_HANDLE_INVALID: 0xf0,
  UNWRAPPING_KEY_SIZE_RANGE: 0xf1,
  UNWRAPPING_KEY_TYPE_INCONSISTENT: 0xf2,
  USER_ALREADY_LOGGED_IN: 0x100,
  USER_NOT_LOGGED_IN: 0x101,
  USER_PIN_NOT_INITIALIZED: 0x102,
  USER_ANOTHER_ALREADY_LOGGED_IN: 0x104,
  USER_TOO_MANY_TYPES: 0x105,
  WRAPPED_KEY_INVALID: 0x110,
  WRAPPED_KEY_LEN_RANGE: 0x112,
  WRAPPING_KEY_HANDLE_INVALID: 0x113,
  WRAPPING_KEY_SIZE_RANGE: 0x114,
  WRAPPING_KEY_TYPE_INCONSISTENT: 0x115,
  BUFFER_TOO_SMALL: 0x150,
  CRYPTOKI_NOT_INITIALIZED: 0x190,
  CRYPTOKI_ALREADY_INITIALIZED: 0x191,
  FUNCTION_REJECTED: 0x200,
} as const;
