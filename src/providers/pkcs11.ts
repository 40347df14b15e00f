import { randomBytes } from 'node:crypto';
import type { Pkcs11Settings } from '../config/config.ts';
import { encodeContext } from '../envelope/context.ts';
import { CKM, CKR, CryptokiError, MECHANISM_FLAG, TOKEN_FLAG, type TokenKey } from './pkcs11/cryptoki.ts';
import { damaged, faultOf, isAmbiguous } from './pkcs11/faults.ts';
import { openModuleThread } from './pkcs11/module-thread.ts';
import { CONFIGURED } from './pkcs11/session-pool.ts';
import type { OpenThread } from './pkcs11/shared-module.ts';
import { quoted, type Ready, TokenAccess } from './pkcs11/token-access.ts';
import type {
  KeyContext,
  Provider,
  ProviderCapabilities,
  ProviderDescription,
  ProviderHealth,
  RootReference,
  WrappedSecret,
} from './provider.ts';
import { ProviderError } from './provider-error.ts';
import type { SessionKeeper } from './session-keeper.ts';

/**
 * First byte of what this provider makes, and of its AAD: says what the rest is, so that a direct ciphertext never passes
 * for a wrapped W, whatever a caller of direct mode had encrypted.
 */
const FORMAT = { WRAPPED_GCM: 1, WRAPPED_KWP: 2, DIRECT_GCM: 3 } as const;

const IV_BYTES = 12;
const TAG_BYTES = 16;
/** One semi-block and its check (RFC 5649). */
const KWP_MIN_BYTES = 16;
/**
 * A device takes a message whole, in one call and in memory of its own. Those known to us that take less say so
 * (CKR_DATA_LEN_RANGE, TOO_LARGE here); above this a data key is the better tool everywhere.
 */
const DIRECT_LIMIT = 65_536;
const PROBE_BYTES = 32;
const PROBE_CONTEXT = encodeContext({ purpose: 'dekd-health' });

/** A thread must be started from a file of its own; the path leads there from src/providers and from dist/cli alike. */
const THREAD = new URL(`../providers/pkcs11/thread.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url);

const openPackageThread: OpenThread = (path) => openModuleThread(THREAD, path);

/**
 * Opens a root on a PKCS#11 token; nothing is loaded yet.
 * @param keeper remembers a refused PIN for the next process
 * @throws ProviderError CONFIG with the remedy
 */
export async function openPkcs11(
  root: string,
  settings: Pkcs11Settings,
  keeper?: SessionKeeper,
): Promise<Pkcs11Provider> {
  return new Pkcs11Provider({ root, settings, keeper });
}

export interface Pkcs11ProviderOptions {
  /** Name of the root in the configuration. */
  readonly root: string;
  readonly settings: Pkcs11Settings;
  readonly keeper?: SessionKeeper | undefined;
  /** Starts a thread of the module at a path; unless given, one of pkcs11js. */
  readonly openThread?: OpenThread;
}

/**
 * An AES-256 key on a PKCS#11 token, which it never leaves.
 *
 * `aes-gcm`: 01 ‖ iv 12 ‖ ciphertext ‖ tag 16 (03 in direct mode) with AAD = first byte ‖ canonical key context. The iv is
 * of node:crypto and not of the token: what counts is that none comes twice, every token would be asked once more per
 * wrap, and some have no generator. SP 800-38D 8.3 allows 2^32 random ones a key, which wrapping never reaches and direct
 * mode may: it is for few and small values.
 * `aes-kwp`: 02 ‖ W wrapped by RFC 5649, which binds no context.
 */
export class Pkcs11Provider implements Provider {
  readonly root: string;
  readonly #settings: Pkcs11Settings;
  readonly #access: TokenAccess;
  readonly #mechanism: number;

  constructor({ root, settings, keeper, openThread = openPackageThread }: Pkcs11ProviderOptions) {
    checkSettings(root, settings);
    this.root = root;
    this.#settings = settings;
    this.#access = new TokenAccess({ root, settings, keeper, openThread });
    this.#mechanism =
      settings.mechanismNumber ?? (settings.mechanism === 'aes-gcm' ? CKM.AES_GCM : CKM.AES_KEY_WRAP_KWP);
  }

  async describe(signal: AbortSignal): Promise<ProviderDescription> {
    return this.#access.perform('describe', signal, async (ready, keyOf) => {
      const key = await keyOf(CONFIGURED);
      await this.#checkMechanism(ready);
      this.#checkUse(key);
      return {
        kind: 'pkcs11',
        resolvedId: this.#access.resolvedId!,
        materialVersion: key.id,
        warnings: warningsOf(key),
      };
    });
  }

  async wrap(secret: Uint8Array, context: KeyContext, signal: AbortSignal): Promise<WrappedSecret> {
    const bound = this.#bytesOf(context);
    return this.#access.perform('seal', signal, async (ready, keyOf) => {
      const key = await keyOf(CONFIGURED);
      return { wrapped: await this.#wrapUnder(ready, key, secret, bound), reference: this.#reference(key) };
    });
  }

  async unwrap(
    wrapped: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    this.#checkFormat(wrapped, this.#isGcm ? FORMAT.WRAPPED_GCM : FORMAT.WRAPPED_KWP);
    const bound = this.#bytesOf(context);
    return this.#access.perform('open', signal, async (ready, keyOf) => {
      const key = await keyOf(reference.resolvedId);
      return this.#opened(ready, key, () => this.#unwrapUnder(ready, key, wrapped, bound));
    });
  }

  /** Direct mode; only with aes-gcm. @throws TOO_LARGE, UNSUPPORTED also for no bytes at all, which not all tokens take */
  async encrypt(plaintext: Uint8Array, context: KeyContext, signal: AbortSignal): Promise<WrappedSecret> {
    this.#checkDirect();
    if (plaintext.length === 0) {
      throw new ProviderError('UNSUPPORTED', `root ${this.root}: a PKCS#11 token encrypts at least one byte`);
    }
    if (plaintext.length > DIRECT_LIMIT) {
      throw new ProviderError(
        'TOO_LARGE',
        `root ${this.root} encrypts at most ${DIRECT_LIMIT} bytes itself, not ${plaintext.length}`,
      );
    }
    const bound = this.#bytesOf(context);
    return this.#access.perform('seal', signal, async (ready, keyOf) => {
      const key = await keyOf(CONFIGURED);
      const wrapped = await this.#seal(ready, key, FORMAT.DIRECT_GCM, plaintext, bound);
      return { wrapped, reference: this.#reference(key) };
    });
  }

  async decrypt(
    ciphertext: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    this.#checkDirect();
    this.#checkFormat(ciphertext, FORMAT.DIRECT_GCM);
    const bound = this.#bytesOf(context);
    return this.#access.perform('open', signal, async (ready, keyOf) => {
      const key = await keyOf(reference.resolvedId);
      return this.#opened(ready, key, () => this.#open(ready, key, ciphertext, bound));
    });
  }

  async health(depth: 'cheap' | 'deep', signal: AbortSignal): Promise<ProviderHealth> {
    try {
      await this.#access.perform('health', signal, async (ready, keyOf) => {
        await checkPresent(ready);
        if (depth === 'deep') {
          await this.#proveRoundTrip(ready, await keyOf(CONFIGURED));
        }
      });
      return { ok: true, detail: this.#access.resolvedId ?? 'the token answers' };
    } catch (error) {
      const { message, detail, code } = faultOf(error, this.root, 'health');
      return { ok: false, detail: detail === undefined ? message : `${message} (${detail})`, code };
    }
  }

  capabilities(): ProviderCapabilities {
    const nativeContext = this.#isGcm;
    // Another key is another resolved id here: no key of a token has versions.
    return { nativeContext, serverRewrap: false, directLimit: this.#isGcm ? DIRECT_LIMIT : 0, versioned: false };
  }

  close(): Promise<void> {
    return this.#access.close();
  }

  get #isGcm(): boolean {
    return this.#settings.mechanism === 'aes-gcm';
  }

  async #checkMechanism({ thread, token }: Ready): Promise<void> {
    const flags = await thread.mechanismFlags(token.slot, this.#mechanism);
    const { ENCRYPT, DECRYPT, WRAP, UNWRAP } = MECHANISM_FLAG;
    const needed = this.#isGcm ? ENCRYPT | DECRYPT : WRAP | UNWRAP;
    if (flags === undefined || (flags & needed) !== needed) {
      const what = flags === undefined ? 'does not have' : `cannot ${this.#isGcm ? 'encrypt' : 'wrap'} with`;
      throw new ProviderError(
        'CONFIG',
        `root ${this.root}: token ${quoted(token.label)} ${what} mechanism 0x${this.#mechanism.toString(16)} for ` +
          `${this.#settings.mechanism}: set mechanismNumber to that of the device` +
          `${this.#isGcm ? '' : ' (0x210a for SoftHSM2)'}, or another mechanism`,
      );
    }
  }

  /** How a key is taken out of use on a token. An attribute that the token does not have is left to the use itself. */
  #checkUse(key: TokenKey): void {
    const uses = this.#isGcm
      ? { CKA_ENCRYPT: key.encrypt, CKA_DECRYPT: key.decrypt }
      : { CKA_WRAP: key.wrap, CKA_UNWRAP: key.unwrap };
    const off = Object.entries(uses).filter(([, value]) => value === false);
    if (off.length > 0) {
      const names = off.map(([name]) => name).join(' and ');
      throw new ProviderError(
        'KEY_DISABLED',
        `root ${this.root}: ${this.#settings.mechanism} needs ${names} of the key, which is false`,
      );
    }
  }

  #reference({ id }: TokenKey): RootReference {
    return { root: this.root, resolvedId: this.#access.resolvedId!, materialVersion: id };
  }

  async #wrapUnder(ready: Ready, key: TokenKey, secret: Uint8Array, bound: Uint8Array): Promise<Uint8Array> {
    if (this.#isGcm) {
      return this.#seal(ready, key, FORMAT.WRAPPED_GCM, secret, bound);
    }
    const { thread, session } = ready;
    const wrapped = await thread.wrapSecret({ session, key: key.handle, mechanism: this.#mechanism }, secret);
    return joined(FORMAT.WRAPPED_KWP, wrapped);
  }

  async #unwrapUnder(ready: Ready, key: TokenKey, wrapped: Uint8Array, bound: Uint8Array): Promise<Uint8Array> {
    if (this.#isGcm) {
      return this.#open(ready, key, wrapped, bound);
    }
    const { thread, session } = ready;
    return thread.unwrapSecret({ session, key: key.handle, mechanism: this.#mechanism }, wrapped.subarray(1));
  }

  async #seal(
    { thread, session }: Ready,
    key: TokenKey,
    format: number,
    plaintext: Uint8Array,
    bound: Uint8Array,
  ): Promise<Uint8Array> {
    const iv = randomBytes(IV_BYTES);
    const call = { session, key: key.handle, mechanism: this.#mechanism, iv, aad: joined(format, bound) };
    return joined(format, iv, await thread.encrypt(call, plaintext));
  }

  async #open({ thread, session }: Ready, key: TokenKey, sealed: Uint8Array, bound: Uint8Array): Promise<Uint8Array> {
    const iv = sealed.subarray(1, 1 + IV_BYTES);
    const call = { session, key: key.handle, mechanism: this.#mechanism, iv, aad: joined(sealed[0]!, bound) };
    return thread.decrypt(call, sealed.subarray(1 + IV_BYTES));
  }

  /**
   * Opens something, and finds out whose fault a failure is that says nothing: when the same key still does a round trip,
   * it is the input's. Telling it by the token alone would take a broken cipher unit for thousands of damaged keys.
   */
  async #opened(ready: Ready, key: TokenKey, open: () => Promise<Uint8Array>): Promise<Uint8Array> {
    try {
      return await open();
    } catch (error) {
      if (!isAmbiguous(error)) {
        throw error;
      }
      try {
        await this.#proveRoundTrip(ready, key);
      } catch {
        throw error;
      }
      throw damaged(error, this.root);
    }
  }

  async #proveRoundTrip(ready: Ready, key: TokenKey): Promise<void> {
    const secret = randomBytes(PROBE_BYTES);
    const wrapped = await this.#wrapUnder(ready, key, secret, PROBE_CONTEXT);
    const again = await this.#unwrapUnder(ready, key, wrapped, PROBE_CONTEXT);
    if (!secret.equals(again)) {
      throw new ProviderError('UNAVAILABLE', `root ${this.root}: the token opens to something else than it sealed`);
    }
  }

  /** Before anything is sent: bytes of another mechanism, or of another provider, never reach the device. */
  #checkFormat(bytes: Uint8Array, format: number): void {
    const least = 1 + (format === FORMAT.WRAPPED_KWP ? KWP_MIN_BYTES : IV_BYTES + TAG_BYTES);
    if (bytes.length < least || bytes[0] !== format) {
      throw new ProviderError('CORRUPT', `root ${this.root}: not wrapped by ${this.#settings.mechanism}, or damaged`);
    }
  }

  /** @throws ProviderError CONFIG: a key context is part of the definition of a key. */
  #bytesOf(context: KeyContext): Uint8Array {
    try {
      return encodeContext(context);
    } catch (error) {
      throw new ProviderError('CONFIG', `root ${this.root}: the key context cannot be bound`, { cause: error });
    }
  }

  #checkDirect(): void {
    if (!this.#isGcm) {
      throw new ProviderError('UNSUPPORTED', `root ${this.root}: direct mode needs the mechanism aes-gcm`);
    }
  }
}

function checkSettings(root: string, { slot, token, key, keyId }: Pkcs11Settings): void {
  if ((slot === undefined) === (token === undefined)) {
    throw new ProviderError('CONFIG', `root ${root} needs exactly one of slot and token`);
  }
  if ((key === undefined) === (keyId === undefined)) {
    throw new ProviderError('CONFIG', `root ${root} needs exactly one of key and keyId`);
  }
  if (keyId !== undefined && !/^([0-9a-f]{2})+$/i.test(keyId)) {
    throw new ProviderError('CONFIG', `root ${root}: keyId must be CKA_ID in hex, two digits a byte`);
  }
}

function warningsOf({ id, sensitive, extractable }: TokenKey): string[] {
  const warnings: string[] = [];
  if (extractable === true || sensitive === false) {
    warnings.push('the root key can be read out of the token: make one with CKA_SENSITIVE and without CKA_EXTRACTABLE');
  }
  if (id === '') {
    warnings.push('the root key has no CKA_ID: another key with its label would be taken for it');
  }
  return warnings;
}

/** That the token is there and lets us in, without cryptography. */
async function checkPresent({ thread, session, token }: Ready): Promise<void> {
  const tokens = await thread.tokens();
  if (!tokens.some(({ slot, serial }) => slot === token.slot && serial === token.serial)) {
    throw new CryptokiError(CKR.TOKEN_NOT_PRESENT, 'C_GetTokenInfo');
  }
  if ((token.flags & TOKEN_FLAG.LOGIN_REQUIRED) !== 0 && !(await thread.isLoggedIn(session))) {
    throw new CryptokiError(CKR.USER_NOT_LOGGED_IN, 'C_GetSessionInfo');
  }
}

function joined(format: number, ...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat([Uint8Array.of(format), ...parts]));
}
