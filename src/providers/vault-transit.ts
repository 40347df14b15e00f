import { randomBytes, timingSafeEqual } from 'node:crypto';
import type { TransitSettings } from '../config/config.ts';
import type { VaultClient, VaultMethod, VaultRequestOptions } from '../vault/client.ts';
import { openVaultClient } from '../vault/open-client.ts';
import type { VaultSettings } from '../vault/settings.ts';
import { type VaultCode, VaultError } from '../vault/vault-error.ts';
import { checkVaultName, checkVaultPath } from '../vault/vault-path.ts';
import type {
  KeyContext,
  Provider,
  ProviderCapabilities,
  ProviderDescription,
  ProviderHealth,
  RootReference,
  WrappedSecret,
} from './provider.ts';
import { type ProviderCode, ProviderError } from './provider-error.ts';
import type { SessionKeeper } from './session-keeper.ts';
import { parseCiphertext, type TransitCiphertext } from './vault-transit/ciphertext.ts';
import { formatKeyId, parseKeyId, type TransitKeyId } from './vault-transit/key-id.ts';
import { AEAD_TYPE_NAMES, isAead, keyWarnings, readKeyState, type TransitKeyState } from './vault-transit/key-state.ts';

/**
 * Longest plaintext of direct mode. A Vault takes 32 MiB a request, but the plaintext crosses it as base64 inside JSON, in
 * several copies on both heaps, within one deadline of a few seconds; and more than this does not come in one request of an
 * application either.
 */
const DIRECT_LIMIT_BYTES = 1024 * 1024;
/** As much in base64, with room for the prefix and the tag. */
const MAX_CIPHERTEXT_BYTES = Math.ceil((DIRECT_LIMIT_BYTES * 4) / 3) + 128;
const PROBE_BYTES = 32;

const CODE_OF: Readonly<Record<VaultCode, ProviderCode>> = {
  UNAVAILABLE: 'UNAVAILABLE',
  TIMEOUT: 'TIMEOUT',
  RATE_LIMITED: 'RATE_LIMITED',
  SEALED: 'SEALED',
  UNAUTHENTICATED: 'UNAUTHENTICATED',
  FORBIDDEN: 'FORBIDDEN',
  NOT_FOUND: 'KEY_NOT_FOUND',
  BAD_REQUEST: 'UNSUPPORTED',
  TOO_LARGE: 'TOO_LARGE',
  UNSUPPORTED: 'UNSUPPORTED',
  CONFIG: 'CONFIG',
  CANCELLED: 'CANCELLED',
};

/**
 * Opens a root in the Transit engine of a Vault or OpenBao; nothing is sent yet. Roots with equal settings of the Vault
 * share connections and login.
 * @param keeper keeps the login from one process to the next
 * @throws ProviderError CONFIG with the remedy
 */
export async function openVaultTransit(
  root: string,
  settings: VaultSettings & TransitSettings,
  keeper?: SessionKeeper,
): Promise<VaultTransitProvider> {
  const { mount, key, ...vault } = settings;
  try {
    checkVaultPath(mount, 'mount');
    checkVaultName(key, 'key');
    const kept = keeper?.load();
    const client = await openVaultClient(vault, {
      resume: kept,
      onSession: keeper === undefined ? undefined : (session) => keeper.save(session),
    });
    kept?.fill(0);
    return new VaultTransitProvider(root, { mount, key }, client);
  } catch (error) {
    throw ofVault(error, `root ${root}`);
  }
}

/**
 * A symmetric key in Transit. W is wrapped by `encrypt` without associated data: no version of `rewrap` takes any, and
 * with it W could not move to newer key versions without being revealed. The context is bound by dekd's own envelope.
 */
export class VaultTransitProvider implements Provider {
  readonly root: string;
  readonly #client: VaultClient;
  readonly #configured: TransitKeyId;
  /** Direct mode has seen that this server binds associated data. */
  #bindsContext = false;

  /** `client` becomes the provider's to close. */
  constructor(root: string, settings: TransitSettings, client: VaultClient) {
    this.root = root;
    this.#client = client;
    this.#configured = { namespace: client.settings.namespace ?? '', mount: settings.mount, key: settings.key };
  }

  async describe(signal: AbortSignal): Promise<ProviderDescription> {
    const { mount, key } = this.#configured;
    let state: TransitKeyState;
    try {
      state = await this.#readKey(this.#configured, signal);
    } catch (error) {
      const failure = this.#failure(error, 'read');
      if (failure.code === 'KEY_NOT_FOUND') {
        // Said here, for no request that follows may make the key.
        throw new ProviderError(
          'KEY_NOT_FOUND',
          `root ${this.root}: there is no key ${key} in ${mount}: check the spelling, or run vault write -f ${mount}/keys/${key}`,
          { cause: error },
        );
      }
      if (failure.code === 'FORBIDDEN') {
        throw new ProviderError(
          'FORBIDDEN',
          `root ${this.root}: the policy lacks read on ${mount}/keys/${key}; it needs update on ` +
            `${mount}/encrypt/${key}, ${mount}/decrypt/${key} and ${mount}/rewrap/${key} too, and create on none`,
          { cause: error },
        );
      }
      throw failure;
    }
    this.#checkUsable(state);
    return {
      kind: 'vault-transit',
      resolvedId: formatKeyId(this.#configured),
      materialVersion: String(state.latestVersion),
      warnings: keyWarnings(`${mount}/keys/${key}`, state),
    };
  }

  wrap(secret: Uint8Array, _context: KeyContext, signal: AbortSignal): Promise<WrappedSecret> {
    return this.#encrypt(secret, undefined, signal);
  }

  unwrap(
    wrapped: Uint8Array,
    reference: RootReference,
    _context: KeyContext,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    return this.#decrypt(wrapped, reference, undefined, signal);
  }

  async rewrap(
    wrapped: Uint8Array,
    reference: RootReference,
    _context: KeyContext,
    signal: AbortSignal,
  ): Promise<WrappedSecret> {
    const id = this.#keyOf(reference);
    if (formatKeyId(id) !== formatKeyId(this.#configured)) {
      throw new ProviderError(
        'UNSUPPORTED',
        `root ${this.root}: transit rewraps under the same key only; from another key: unwrap and wrap`,
      );
    }
    const ciphertext = this.#parse(wrapped);
    try {
      const data = await this.#post(id, 'rewrap', { ciphertext: ciphertext.text }, signal);
      return this.#wrapped(data);
    } catch (error) {
      throw await this.#refusal(error, id, ciphertext, 'rewrap', signal);
    }
  }

  /** W drawn by the Vault, as one request. @returns `secret` is the caller's to wipe. */
  async generate(signal: AbortSignal): Promise<{ readonly secret: Uint8Array; readonly wrapped: WrappedSecret }> {
    const { mount, key } = this.#configured;
    try {
      const { data } = await this.#request('POST', `${mount}/datakey/plaintext/${key}`, { bits: 256 }, { signal });
      return { secret: this.#bytesOf(dataOf(data).plaintext), wrapped: this.#wrapped(dataOf(data)) };
    } catch (error) {
      throw await this.#refusal(error, this.#configured, undefined, 'datakey', signal);
    }
  }

  /** The context is associated data here: a direct ciphertext is its own envelope, and is re-encrypted, not rewrapped. */
  async encrypt(plaintext: Uint8Array, context: KeyContext, signal: AbortSignal): Promise<WrappedSecret> {
    if (plaintext.length > DIRECT_LIMIT_BYTES) {
      throw new ProviderError(
        'TOO_LARGE',
        `root ${this.root}: plaintext of ${plaintext.length} bytes is over the ${DIRECT_LIMIT_BYTES} of direct mode`,
      );
    }
    const associated = associatedData(context);
    const result = await this.#encrypt(plaintext, associated, signal);
    if (!this.#bindsContext) {
      await this.#proveBinding(result, signal);
      this.#bindsContext = true;
    }
    return result;
  }

  decrypt(
    ciphertext: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    return this.#decrypt(ciphertext, reference, associatedData(context), signal);
  }

  async health(depth: 'cheap' | 'deep', signal: AbortSignal): Promise<ProviderHealth> {
    try {
      const { initialized, sealed, secondary } = await this.#client.health(signal);
      if (!initialized || sealed || secondary) {
        const state =
          sealed && initialized ? 'sealed' : secondary ? 'a disaster-recovery secondary' : 'not initialized';
        return { ok: false, detail: `the vault is ${state}`, code: secondary ? 'UNAVAILABLE' : 'SEALED' };
      }
      this.#checkUsable(await this.#readKey(this.#configured, signal));
      if (depth === 'deep') {
        await this.#proveRoundTrip(signal);
      }
      return { ok: true, detail: formatKeyId(this.#configured) };
    } catch (error) {
      const { message, code } = this.#failure(error, 'health');
      return { ok: false, detail: message, code };
    }
  }

  capabilities(): ProviderCapabilities {
    return { nativeContext: false, serverRewrap: true, directLimit: DIRECT_LIMIT_BYTES, versioned: true };
  }

  close(): Promise<void> {
    return this.#client.close();
  }

  /** As `close`, but whoever goes on with the kept session finds its token valid. */
  closeKeepingSession(): Promise<void> {
    return this.#client.closeKeepingSession();
  }

  async #encrypt(plaintext: Uint8Array, associated: string | undefined, signal: AbortSignal): Promise<WrappedSecret> {
    const body = {
      plaintext: Buffer.from(plaintext.buffer, plaintext.byteOffset, plaintext.length).toString('base64'),
      ...(associated === undefined ? {} : { associated_data: associated }),
      // Looked at only when the key is missing and the policy grants create: then the server would make one, and refuses
      // instead, for convergent encryption needs a context. A key that somebody deleted must not come back empty.
      convergent_encryption: true,
    };
    try {
      return this.#wrapped(await this.#post(this.#configured, 'encrypt', body, signal));
    } catch (error) {
      throw await this.#refusal(error, this.#configured, undefined, 'encrypt', signal);
    }
  }

  async #decrypt(
    wrapped: Uint8Array,
    reference: RootReference,
    associated: string | undefined,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const id = this.#keyOf(reference);
    const ciphertext = this.#parse(wrapped);
    const body = { ciphertext: ciphertext.text, ...(associated === undefined ? {} : { associated_data: associated }) };
    try {
      return this.#bytesOf((await this.#post(id, 'decrypt', body, signal)).plaintext);
    } catch (error) {
      throw await this.#refusal(error, id, ciphertext, 'decrypt', signal);
    }
  }

  /** A server from before `associated_data` ignores it without a word, and would open the ciphertext in every context. */
  async #proveBinding({ wrapped, reference }: WrappedSecret, signal: AbortSignal): Promise<void> {
    let opened: Uint8Array;
    try {
      opened = await this.#decrypt(wrapped, reference, undefined, signal);
    } catch (error) {
      if (ProviderError.is(error, 'CORRUPT')) {
        return;
      }
      throw error;
    }
    opened.fill(0);
    throw new ProviderError(
      'UNSUPPORTED',
      `root ${this.root}: this vault is too old for direct mode: it binds no context`,
    );
  }

  async #proveRoundTrip(signal: AbortSignal): Promise<void> {
    const probe = randomBytes(PROBE_BYTES);
    const { wrapped, reference } = await this.wrap(probe, {}, signal);
    const again = await this.unwrap(wrapped, reference, {}, signal);
    if (again.length !== probe.length || !timingSafeEqual(again, probe)) {
      throw new ProviderError('CORRUPT', `root ${this.root}: a probe came back changed`);
    }
  }

  async #readKey({ namespace, mount, key }: TransitKeyId, signal: AbortSignal): Promise<TransitKeyState> {
    const { data } = await this.#request('GET', `${mount}/keys/${key}`, undefined, { signal, namespace });
    const state = readKeyState(data);
    if (state === undefined) {
      throw new ProviderError('CONFIG', `root ${this.root}: ${mount} is not a transit engine`);
    }
    return state;
  }

  #checkUsable(state: TransitKeyState): void {
    if (state.softDeleted) {
      throw new ProviderError(
        'KEY_PENDING_DELETION',
        `root ${this.root}: the transit key is deleted; it can be restored`,
      );
    }
    if (!isAead(state.type)) {
      throw new ProviderError(
        'CONFIG',
        `root ${this.root}: the transit key is of type ${plain(state.type)}; it must be one of ${AEAD_TYPE_NAMES}`,
      );
    }
    if (state.derived) {
      throw new ProviderError(
        'CONFIG',
        `root ${this.root}: the transit key is derived, which binds each ciphertext to a context of Vault; name one that is not`,
      );
    }
  }

  /** The key that wrapped, which may be a former one of this root; the caller has checked that it may be used. */
  #keyOf({ resolvedId }: RootReference): TransitKeyId {
    const id = parseKeyId(resolvedId);
    if (id === undefined) {
      throw new ProviderError('CORRUPT', `root ${this.root}: the reference does not name a transit key`);
    }
    return id;
  }

  #parse(wrapped: Uint8Array): TransitCiphertext {
    const ciphertext = wrapped.length > MAX_CIPHERTEXT_BYTES ? undefined : parseCiphertext(wrapped);
    if (ciphertext === undefined) {
      throw new ProviderError('CORRUPT', `root ${this.root}: this is no ciphertext of transit`);
    }
    return ciphertext;
  }

  async #post(
    { namespace, mount, key }: TransitKeyId,
    verb: string,
    body: object,
    signal: AbortSignal,
  ): Promise<Record<string, unknown>> {
    const { data } = await this.#request('POST', `${mount}/${verb}/${key}`, body, { signal, namespace });
    return dataOf(data);
  }

  #request(method: VaultMethod, path: string, body: object | undefined, options: VaultRequestOptions) {
    return this.#client.request(method, path, body, options);
  }

  #wrapped(data: Record<string, unknown>): WrappedSecret {
    const bytes = Buffer.from(typeof data.ciphertext === 'string' ? data.ciphertext : '');
    const ciphertext = parseCiphertext(bytes);
    if (ciphertext === undefined) {
      throw new ProviderError('UNAVAILABLE', `root ${this.root}: the vault answered with what is no ciphertext`);
    }
    return {
      wrapped: bytes,
      reference: {
        root: this.root,
        resolvedId: formatKeyId(this.#configured),
        materialVersion: String(ciphertext.version),
      },
    };
  }

  #bytesOf(plaintext: unknown): Uint8Array {
    if (typeof plaintext !== 'string') {
      throw new ProviderError('UNAVAILABLE', `root ${this.root}: the vault answered without a plaintext`);
    }
    return Buffer.from(plaintext, 'base64');
  }

  /**
   * What a failed request about `ciphertext` means. Transit says 400 for a missing key, for versions that are switched off
   * and for damage alike, and words are no contract: the key is looked at instead.
   */
  async #refusal(
    error: unknown,
    id: TransitKeyId,
    ciphertext: TransitCiphertext | undefined,
    operation: string,
    signal: AbortSignal,
  ): Promise<ProviderError> {
    // 403 too: to encrypt under a key that is gone takes the right to create it.
    if (!VaultError.is(error, 'BAD_REQUEST', 'FORBIDDEN')) {
      return this.#failure(error, operation);
    }
    let state: TransitKeyState;
    try {
      state = await this.#readKey(id, signal);
      this.#checkUsable(state);
    } catch (failure) {
      return this.#failure(failure, operation);
    }
    if (ciphertext === undefined || error.code === 'FORBIDDEN') {
      return this.#failure(error, operation);
    }
    if (ciphertext.version < state.minDecryptionVersion) {
      return new ProviderError(
        'KEY_DISABLED',
        `root ${this.root}: version ${ciphertext.version} is below min_decryption_version ${state.minDecryptionVersion}`,
        { cause: error },
      );
    }
    return new ProviderError('CORRUPT', `root ${this.root}: transit does not open this ciphertext`, { cause: error });
  }

  #failure(error: unknown, operation: string): ProviderError {
    return ofVault(error, `root ${this.root}: ${operation}`);
  }
}

/** The same failure in the words of providers. */
function ofVault(error: unknown, what: string): ProviderError {
  if (error instanceof ProviderError) {
    return error;
  }
  if (!(error instanceof VaultError)) {
    return new ProviderError('UNAVAILABLE', `${what}: the vault client failed`, { cause: error });
  }
  return new ProviderError(CODE_OF[error.code], `${what}: ${error.message}`, {
    cause: error,
    ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
    ...(error.status === undefined ? {} : { detail: `status ${error.status}` }),
  });
}

function dataOf(body: unknown): Record<string, unknown> {
  return ((body as { data?: unknown } | undefined)?.data ?? {}) as Record<string, unknown>;
}

/** Base64 of the pairs as JSON, in the order of their names: no two contexts are alike. */
function associatedData(context: KeyContext): string {
  const pairs = Object.entries(context).sort(([a], [b]) => (a < b ? -1 : 1));
  return Buffer.from(JSON.stringify(['dekd/v1/transit', ...pairs])).toString('base64');
}

/** A type as the server says it, without what could forge a line of a log. */
function plain(text: string): string {
  return text.replace(/[^\w.-]/g, '?').slice(0, 40);
}
