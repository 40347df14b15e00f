import {
  CKR,
  type Cryptoki,
  CryptokiError,
  type GcmCall,
  type Handle,
  type KeyCall,
  type KeyTemplate,
  ModuleLoadError,
  type Token,
  type TokenKey,
} from './cryptoki.ts';
import type { Attribute, Library, Mechanism } from './library.ts';

/** CKF_OS_LOCKING_OK: without it a library may take it that one thread calls it. */
const OS_LOCKING_OK = 0x2;
/** Read-only sessions: session objects need no more, and nothing here may ever change the token. */
const SERIAL_SESSION = 0x4;
const USER = 1;
/** CKS_RO_USER_FUNCTIONS and CKS_RW_USER_FUNCTIONS. */
const USER_STATES: readonly number[] = [1, 3];

const SECRET_KEY = 4;
const GENERIC_SECRET = 0x10;
const AES = 0x1f;
const AES_256_BYTES = 32;
/** pkcs11js: CK_GCM_PARAMS with ulIvBits, as in Cryptoki 2.40; older headers had left it out. */
const GCM_PARAMS = 7;
const IV_BITS = 96;
const TAG_BITS = 128;
const TAG_BYTES = TAG_BITS / 8;
/** RFC 5649: up to 7 bytes of padding and 8 of the integrity check. */
const KWP_OVERHEAD = 15;

const CKA = {
  CLASS: 0x0,
  TOKEN: 0x1,
  PRIVATE: 0x2,
  LABEL: 0x3,
  VALUE: 0x11,
  KEY_TYPE: 0x100,
  ID: 0x102,
  SENSITIVE: 0x103,
  ENCRYPT: 0x104,
  DECRYPT: 0x105,
  WRAP: 0x106,
  UNWRAP: 0x107,
  VALUE_LEN: 0x161,
  EXTRACTABLE: 0x162,
} as const;

/**
 * A PKCS#11 library behind pkcs11js, called synchronously: its asynchronous twins cover only the last step of an
 * operation, hold no reference to the buffers they work on, and occupy the four threads that Node shares.
 */
export class LoadedModule implements Cryptoki {
  readonly #path: string;
  readonly #library: Library;

  private constructor(path: string, library: Library) {
    this.#path = path;
    this.#library = library;
  }

  /** @throws ModuleLoadError */
  static async load(path: string): Promise<LoadedModule> {
    return new LoadedModule(path, await loadLibrary(path));
  }

  initialize(): boolean {
    try {
      this.#call('C_Initialize', (library) => library.C_Initialize({ flags: OS_LOCKING_OK }));
      return true;
    } catch (error) {
      if (error instanceof CryptokiError && error.rv === CKR.CRYPTOKI_ALREADY_INITIALIZED) {
        return false;
      }
      throw error;
    }
  }

  finalize(): void {
    this.#call('C_Finalize', (library) => library.C_Finalize());
  }

  tokens(): readonly Token[] {
    const slots = this.#call('C_GetSlotList', (library) => library.C_GetSlotList(true));
    const tokens: Token[] = [];
    for (const slot of slots) {
      try {
        const info = this.#call('C_GetTokenInfo', (library) => library.C_GetTokenInfo(slot));
        tokens.push({
          slot: toHandle(slot),
          label: trimmed(info.label),
          serial: trimmed(info.serialNumber),
          flags: info.flags,
        });
      } catch (error) {
        if (!(error instanceof CryptokiError)) {
          throw error;
        }
        // A token that does not answer is as good as absent, and says nothing about the others.
      }
    }
    return tokens;
  }

  mechanismFlags(slot: Handle, mechanism: number): number | undefined {
    try {
      return this.#call('C_GetMechanismInfo', (library) => library.C_GetMechanismInfo(fromHandle(slot), mechanism))
        .flags;
    } catch (error) {
      if (error instanceof CryptokiError && error.rv === CKR.MECHANISM_INVALID) {
        return undefined;
      }
      throw error;
    }
  }

  openSession(slot: Handle): Handle {
    return toHandle(this.#call('C_OpenSession', (library) => library.C_OpenSession(fromHandle(slot), SERIAL_SESSION)));
  }

  closeSession(session: Handle): void {
    this.#call('C_CloseSession', (library) => library.C_CloseSession(fromHandle(session)));
  }

  isLoggedIn(session: Handle): boolean {
    const { state } = this.#call('C_GetSessionInfo', (library) => library.C_GetSessionInfo(fromHandle(session)));
    return USER_STATES.includes(state);
  }

  login(session: Handle, pin: Uint8Array): void {
    // pkcs11js takes a string, which nothing can wipe: it goes with the heap of this thread.
    const text = Buffer.from(pin.buffer, pin.byteOffset, pin.length).toString('utf8');
    pin.fill(0);
    try {
      this.#call('C_Login', (library) => library.C_Login(fromHandle(session), USER, text));
    } catch (error) {
      if (!(error instanceof CryptokiError && error.rv === CKR.USER_ALREADY_LOGGED_IN)) {
        throw error;
      }
    }
  }

  findKeys(session: Handle, { label, id }: KeyTemplate, limit: number): readonly TokenKey[] {
    const at = fromHandle(session);
    const template: Attribute[] = [
      { type: CKA.CLASS, value: SECRET_KEY },
      { type: CKA.KEY_TYPE, value: AES },
      ...(label === undefined ? [] : [{ type: CKA.LABEL, value: Buffer.from(label, 'utf8') }]),
      ...(id === undefined ? [] : [{ type: CKA.ID, value: Buffer.from(id, 'hex') }]),
    ];
    this.#call('C_FindObjectsInit', (library) => library.C_FindObjectsInit(at, template));
    const found: Buffer[] = [];
    try {
      // CKA_VALUE_LEN is no search term on every token, so keys of other sizes are passed over here.
      for (let batch = this.#findMore(at); batch.length > 0; batch = this.#findMore(at)) {
        found.push(...batch);
      }
    } finally {
      this.#call('C_FindObjectsFinal', (library) => library.C_FindObjectsFinal(at));
    }
    const keys: TokenKey[] = [];
    for (const object of found) {
      if (keys.length < limit && this.#lengthOf(at, object) === AES_256_BYTES) {
        keys.push(this.#keyAt(at, object));
      }
    }
    return keys;
  }

  encrypt({ session, key, mechanism, iv, aad }: GcmCall, plaintext: Uint8Array): Uint8Array {
    const at = fromHandle(session);
    const input = bufferOf(plaintext);
    const output = Buffer.alloc(plaintext.length + TAG_BYTES);
    try {
      this.#call('C_EncryptInit', (library) =>
        library.C_EncryptInit(at, gcmMechanism(mechanism, iv, aad), fromHandle(key)),
      );
      return exact(this.#call('C_Encrypt', (library) => library.C_Encrypt(at, input, output)));
    } finally {
      input.fill(0);
    }
  }

  decrypt({ session, key, mechanism, iv, aad }: GcmCall, ciphertext: Uint8Array): Uint8Array {
    const at = fromHandle(session);
    // As long as the ciphertext: some libraries ask for that much before they have looked at the tag.
    const output = Buffer.alloc(ciphertext.length);
    try {
      this.#call('C_DecryptInit', (library) =>
        library.C_DecryptInit(at, gcmMechanism(mechanism, iv, aad), fromHandle(key)),
      );
      return exact(this.#call('C_Decrypt', (library) => library.C_Decrypt(at, bufferOf(ciphertext), output)));
    } finally {
      output.fill(0);
    }
  }

  wrapSecret({ session, key, mechanism }: KeyCall, secret: Uint8Array): Uint8Array {
    const at = fromHandle(session);
    const value = bufferOf(secret);
    let object: Buffer;
    try {
      object = this.#call('C_CreateObject', (library) =>
        library.C_CreateObject(at, [
          { type: CKA.CLASS, value: SECRET_KEY },
          { type: CKA.KEY_TYPE, value: GENERIC_SECRET },
          { type: CKA.TOKEN, value: false },
          { type: CKA.PRIVATE, value: true },
          { type: CKA.SENSITIVE, value: true },
          { type: CKA.EXTRACTABLE, value: true },
          { type: CKA.VALUE, value },
        ]),
      );
    } finally {
      value.fill(0);
    }
    try {
      const output = Buffer.alloc(secret.length + KWP_OVERHEAD);
      return exact(
        this.#call('C_WrapKey', (library) => library.C_WrapKey(at, { mechanism }, fromHandle(key), object, output)),
      );
    } finally {
      this.#destroy(at, object);
    }
  }

  unwrapSecret({ session, key, mechanism }: KeyCall, wrapped: Uint8Array): Uint8Array {
    const at = fromHandle(session);
    const object = this.#call('C_UnwrapKey', (library) =>
      library.C_UnwrapKey(at, { mechanism }, fromHandle(key), bufferOf(wrapped), [
        { type: CKA.CLASS, value: SECRET_KEY },
        { type: CKA.KEY_TYPE, value: GENERIC_SECRET },
        { type: CKA.TOKEN, value: false },
        { type: CKA.PRIVATE, value: true },
        { type: CKA.SENSITIVE, value: false },
        { type: CKA.EXTRACTABLE, value: true },
      ]),
    );
    try {
      const value = this.#bytesOf(at, object, CKA.VALUE);
      try {
        return exact(value);
      } finally {
        value.fill(0);
      }
    } finally {
      this.#destroy(at, object);
    }
  }

  /** A session object that stays costs memory until the session ends, and must not hide what was thrown before. */
  #destroy(session: Buffer, object: Buffer): void {
    try {
      this.#call('C_DestroyObject', (library) => library.C_DestroyObject(session, object));
    } catch (error) {
      if (!(error instanceof CryptokiError)) {
        throw error;
      }
    }
  }

  #findMore(session: Buffer): Buffer[] {
    return this.#call('C_FindObjects', (library) => library.C_FindObjects(session, 16));
  }

  #keyAt(session: Buffer, object: Buffer): TokenKey {
    const flag = (type: number): boolean | undefined => {
      const value = this.#attribute(session, object, type);
      return value === undefined || value.length === 0 ? undefined : value[0] !== 0;
    };
    return {
      handle: toHandle(object),
      label: this.#attribute(session, object, CKA.LABEL)?.toString('utf8') ?? '',
      id: this.#attribute(session, object, CKA.ID)?.toString('hex') ?? '',
      encrypt: flag(CKA.ENCRYPT),
      decrypt: flag(CKA.DECRYPT),
      wrap: flag(CKA.WRAP),
      unwrap: flag(CKA.UNWRAP),
      sensitive: flag(CKA.SENSITIVE),
      extractable: flag(CKA.EXTRACTABLE),
    };
  }

  #lengthOf(session: Buffer, object: Buffer): number | undefined {
    const value = this.#attribute(session, object, CKA.VALUE_LEN);
    return value === undefined || value.length === 0 ? undefined : Number(toHandle(value));
  }

  /** One at a time: a single unknown attribute would fail the whole list. */
  #attribute(session: Buffer, object: Buffer, type: number): Buffer | undefined {
    try {
      return this.#bytesOf(session, object, type);
    } catch (error) {
      const unknown: readonly number[] = [CKR.ATTRIBUTE_TYPE_INVALID, CKR.ATTRIBUTE_SENSITIVE];
      if (error instanceof CryptokiError && unknown.includes(error.rv)) {
        return undefined;
      }
      throw error;
    }
  }

  #bytesOf(session: Buffer, object: Buffer, type: number): Buffer {
    const [attribute] = this.#call('C_GetAttributeValue', (library) =>
      library.C_GetAttributeValue(session, object, [{ type }]),
    );
    const value = attribute?.value;
    if (!Buffer.isBuffer(value)) {
      throw new CryptokiError(CKR.ATTRIBUTE_TYPE_INVALID, 'C_GetAttributeValue');
    }
    return value;
  }

  #call<T>(name: string, make: (library: Library) => T): T {
    try {
      return make(this.#library);
    } catch (error) {
      const rv = returnValue(error);
      if (rv === undefined) {
        throw new Error(`${name} of ${this.#path} could not be called`, { cause: error });
      }
      throw new CryptokiError(rv, name);
    }
  }
}

async function loadLibrary(path: string): Promise<Library> {
  let PKCS11: new (path: string) => Library;
  try {
    const imported = await import('pkcs11js' as string);
    PKCS11 = (imported.default ?? imported).PKCS11;
  } catch (error) {
    // Its own missing file, or one of another Node, against a package that is not there at all.
    throw new ModuleLoadError((error as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND' ? 'package' : 'build');
  }
  try {
    return new PKCS11(path);
  } catch {
    throw new ModuleLoadError('library');
  }
}

/** pkcs11js says the value as a property, or only in its text ("CKR_NAME:number"). */
function returnValue(error: unknown): number | undefined {
  const { code, message } = error as { readonly code?: unknown; readonly message?: unknown };
  if (typeof code === 'number' && code > 0) {
    return code;
  }
  const match = /\bCKR_\w+:(\d+)/.exec(String(message));
  return match === null ? undefined : Number(match[1]);
}

function gcmMechanism(mechanism: number, iv: Uint8Array, aad: Uint8Array): Mechanism {
  const parameter = { type: GCM_PARAMS, iv: bufferOf(iv), ivBits: IV_BITS, aad: bufferOf(aad), tagBits: TAG_BITS };
  return { mechanism, parameter };
}

/** The same bytes: what crosses between threads arrives as Uint8Array. */
function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** A copy with a buffer of its own, which can move to another thread. */
function exact(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}

function toHandle(bytes: Buffer): Handle {
  return bytes.length === 8 ? bytes.readBigUInt64LE() : BigInt(bytes.readUIntLE(0, bytes.length));
}

/** CK_ULONG is eight little-endian bytes on every platform that dekd runs on (Linux, macOS; x64, arm64). */
function fromHandle(handle: Handle): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(handle);
  return bytes;
}

function trimmed(text: string): string {
  return text.replace(/[ \0]+$/, '');
}
