import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import {
  CKR,
  type Cryptoki,
  CryptokiError,
  type CryptokiThread,
  type GcmCall,
  type Handle,
  type KeyCall,
  type KeyTemplate,
  MECHANISM_FLAG,
  TOKEN_FLAG,
  type Token,
  type TokenKey,
} from '../../src/providers/pkcs11/cryptoki.ts';

const KWP_IV = Buffer.from('a65959a6', 'hex');
const TAG_BYTES = 16;

export interface FakeKey {
  readonly label: string;
  readonly id: string;
  readonly value: Uint8Array;
  /** Attributes that are not what they are for a root key. */
  readonly attributes?: Partial<TokenKey>;
}

export interface FakeToken {
  readonly label: string;
  readonly serial: string;
  readonly pin: string;
  flags: number;
  readonly keys: FakeKey[];
  /** Whether it is in its slot. */
  present: boolean;
}

/** The next calls of a function fail so; `times` Infinity for all of them. */
interface Injection {
  readonly call: keyof Cryptoki;
  readonly fault: number | Error;
  times: number;
}

interface Session {
  readonly token: FakeToken;
}

/**
 * A PKCS#11 library in memory, with real AES: a fake, whose every function can be made to fail or to hang. It checks what
 * a library does: sessions, logins (a login is the token's), handles, the tag.
 */
export class FakeCryptoki {
  readonly tokens: FakeToken[];
  readonly logins: string[] = [];
  /** Threads opened, and of these the ones that have not ended. */
  opened = 0;
  living = 0;
  initialisations = 0;
  finalisations = 0;
  readonly #sessions = new Map<Handle, Session>();
  readonly #loggedIn = new Set<FakeToken>();
  /** Handles of keys are of one login: they do not survive a logout. */
  readonly #keys = new Map<Handle, { readonly token: FakeToken; readonly key: FakeKey }>();
  readonly #injections: Injection[] = [];
  readonly #hangs = new Map<string, Promise<void>>();
  #initialised = false;
  #next = 1n;

  constructor(tokens: readonly FakeToken[]) {
    this.tokens = [...tokens];
  }

  get openSessions(): number {
    return this.#sessions.size;
  }

  /** @param fault a return value, or what is no answer of a library at all */
  fail(call: keyof Cryptoki, fault: number | Error, times = 1): void {
    this.#injections.push({ call, fault, times });
  }

  heal(): void {
    this.#injections.length = 0;
  }

  /** Calls of this name do not return before the result is called. */
  hang(call: keyof Cryptoki): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#hangs.set(call, promise);
    return () => {
      this.#hangs.delete(call);
      resolve();
    };
  }

  /** What another part of the process does with C_Logout. */
  logOut(): void {
    this.#loggedIn.clear();
    this.#keys.clear();
  }

  endSessions(): void {
    this.#sessions.clear();
    this.logOut();
  }

  readonly openThread = (): CryptokiThread => {
    this.opened++;
    this.living++;
    const calls = this.#calls();
    let before: Promise<unknown> = Promise.resolve();
    const inTurn =
      <Name extends keyof Cryptoki>(name: Name) =>
      (...args: Parameters<Cryptoki[Name]>): Promise<Awaited<ReturnType<Cryptoki[Name]>>> => {
        const made = before.then(async () => {
          await this.#hangs.get(name);
          this.#maybeFail(name, FUNCTION_OF[name]);
          return (calls[name] as (...all: unknown[]) => unknown)(...args);
        });
        before = made.catch(() => {});
        return made as Promise<Awaited<ReturnType<Cryptoki[Name]>>>;
      };
    const names = Object.keys(FUNCTION_OF) as (keyof Cryptoki)[];
    const thread = Object.fromEntries(names.map((name) => [name, inTurn(name)])) as unknown as CryptokiThread;
    return {
      ...thread,
      abandon: () => {},
      exit: async () => {
        await before;
        this.living--;
      },
    };
  };

  #maybeFail(name: string, call: string): void {
    const injection = this.#injections.find((each) => each.times > 0 && each.call === name);
    if (injection !== undefined) {
      injection.times--;
      throw typeof injection.fault === 'number' ? new CryptokiError(injection.fault, call) : injection.fault;
    }
  }

  #calls(): Cryptoki {
    return {
      initialize: () => {
        const isOurs = !this.#initialised;
        this.#initialised = true;
        this.initialisations++;
        return isOurs;
      },
      finalize: () => {
        this.#initialised = false;
        this.finalisations++;
        this.endSessions();
      },
      tokens: () => this.#present(),
      mechanismFlags: (_slot, mechanism) => MECHANISMS.get(mechanism),
      openSession: (slot) => {
        const token = this.tokens[Number(slot)];
        if (token?.present !== true) {
          throw new CryptokiError(CKR.TOKEN_NOT_PRESENT, 'C_OpenSession');
        }
        return this.#put(this.#sessions, { token });
      },
      closeSession: (session) => {
        this.#session(session, 'C_CloseSession');
        this.#sessions.delete(session);
      },
      isLoggedIn: (session) => this.#loggedIn.has(this.#session(session, 'C_GetSessionInfo').token),
      login: (session, pin) => this.#login(session, Buffer.from(pin).toString('utf8')),
      findKeys: (session, template, limit) => this.#find(session, template, limit),
      encrypt: (call, plaintext) => this.#encrypt(call, plaintext),
      decrypt: (call, ciphertext) => this.#decrypt(call, ciphertext),
      wrapSecret: (call, secret) => {
        const cipher = createCipheriv('id-aes256-wrap-pad', this.#key(call, 'C_WrapKey'), KWP_IV);
        return Buffer.concat([cipher.update(secret), cipher.final()]);
      },
      unwrapSecret: (call, wrapped) => {
        const decipher = createDecipheriv('id-aes256-wrap-pad', this.#key(call, 'C_UnwrapKey'), KWP_IV);
        try {
          return new Uint8Array(Buffer.concat([decipher.update(wrapped), decipher.final()]));
        } catch {
          throw new CryptokiError(CKR.WRAPPED_KEY_INVALID, 'C_UnwrapKey');
        }
      },
    };
  }

  #present(): readonly Token[] {
    return this.tokens.flatMap(({ label, serial, flags, present }, slot) =>
      present ? [{ slot: BigInt(slot), label, serial, flags }] : [],
    );
  }

  #login(session: Handle, pin: string): void {
    const { token } = this.#session(session, 'C_Login');
    this.logins.push(pin);
    if (pin !== token.pin) {
      throw new CryptokiError(CKR.PIN_INCORRECT, 'C_Login');
    }
    this.#loggedIn.add(token);
  }

  #find(session: Handle, { label, id }: KeyTemplate, limit: number): TokenKey[] {
    const { token } = this.#session(session, 'C_FindObjectsInit');
    const fits = (key: FakeKey) => (label ?? key.label) === key.label && (id ?? key.id) === key.id;
    return token.keys
      .filter((key) => token.present && this.#loggedIn.has(token) && fits(key))
      .slice(0, limit)
      .map((key) => ({
        handle: this.#put(this.#keys, { token, key }),
        label: key.label,
        id: key.id,
        encrypt: true,
        decrypt: true,
        wrap: true,
        unwrap: true,
        sensitive: true,
        extractable: false,
        ...key.attributes,
      }));
  }

  #encrypt(call: GcmCall, plaintext: Uint8Array): Uint8Array {
    const cipher = createCipheriv('aes-256-gcm', this.#key(call, 'C_EncryptInit'), call.iv).setAAD(call.aad);
    return new Uint8Array(Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]));
  }

  #decrypt(call: GcmCall, ciphertext: Uint8Array): Uint8Array {
    const end = ciphertext.length - TAG_BYTES;
    const decipher = createDecipheriv('aes-256-gcm', this.#key(call, 'C_DecryptInit'), call.iv).setAAD(call.aad);
    decipher.setAuthTag(ciphertext.subarray(end));
    try {
      return new Uint8Array(Buffer.concat([decipher.update(ciphertext.subarray(0, end)), decipher.final()]));
    } catch {
      throw new CryptokiError(CKR.ENCRYPTED_DATA_INVALID, 'C_Decrypt');
    }
  }

  #session(handle: Handle, call: string): Session {
    if (!this.#initialised) {
      throw new CryptokiError(CKR.CRYPTOKI_NOT_INITIALIZED, call);
    }
    const session = this.#sessions.get(handle);
    if (session === undefined) {
      throw new CryptokiError(CKR.SESSION_HANDLE_INVALID, call);
    }
    return session;
  }

  #key({ session, key }: KeyCall, call: string): Uint8Array {
    const { token } = this.#session(session, call);
    const found = this.#keys.get(key);
    if (!token.present || found?.token !== token || !token.keys.includes(found.key)) {
      throw new CryptokiError(CKR.KEY_HANDLE_INVALID, call);
    }
    return found.key.value;
  }

  #put<T>(map: Map<Handle, T>, value: T): Handle {
    const handle = this.#next++;
    map.set(handle, value);
    return handle;
  }
}

const { ENCRYPT, DECRYPT, WRAP, UNWRAP } = MECHANISM_FLAG;
const MECHANISMS: ReadonlyMap<number, number> = new Map([
  [0x1087, ENCRYPT | DECRYPT],
  [0x210b, WRAP | UNWRAP],
]);

/** The C function that fails when the call of this name does. */
const FUNCTION_OF: Readonly<Record<keyof Cryptoki, string>> = {
  initialize: 'C_Initialize',
  finalize: 'C_Finalize',
  tokens: 'C_GetSlotList',
  mechanismFlags: 'C_GetMechanismInfo',
  openSession: 'C_OpenSession',
  closeSession: 'C_CloseSession',
  isLoggedIn: 'C_GetSessionInfo',
  login: 'C_Login',
  findKeys: 'C_FindObjects',
  encrypt: 'C_Encrypt',
  decrypt: 'C_Decrypt',
  wrapSecret: 'C_WrapKey',
  unwrapSecret: 'C_UnwrapKey',
};

/** A token with one key, as most tests need it. */
export function fakeToken(overrides: Partial<FakeToken> = {}): FakeToken {
  return {
    label: 'dekd',
    serial: 'f00d',
    pin: '5678',
    flags: TOKEN_FLAG.INITIALIZED | TOKEN_FLAG.LOGIN_REQUIRED,
    keys: [{ label: 'root', id: '01', value: randomBytes(32) }],
    present: true,
    ...overrides,
  };
}
