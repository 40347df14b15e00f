import { hex } from '../bytes.ts';
import type { Engine, KeyHandle, KeyUse } from '../crypto/engine.ts';
import { encodeContext } from '../envelope/context.ts';
import { DekdError } from '../errors.ts';
import { makeKeyFile, readKeyFile, readKeyFrom } from './key-file.ts';
import type {
  HandleProvider,
  KeyContext,
  ProviderCapabilities,
  ProviderDescription,
  ProviderHealth,
  RootReference,
  WrappedSecret,
} from './provider.ts';

const LABEL = 'dekd/v1/local';
const SECRET_USE: KeyUse = { algorithm: 'hkdf-sha-256', purpose: 'wrap' };
const WARNING =
  'the root key is a local file: it protects nothing from whoever can read that file or is root on this node';
const EPHEMERAL_WARNING = 'the root key is kept nowhere: every ciphertext is lost when the agent stops';

export interface LocalProviderOptions {
  readonly engine: Engine;
  /** Name of the root in the configuration. */
  readonly root: string;
  /** A file with the root key, 32 bytes as one base64 line, or an inherited descriptor; exactly one of the three. */
  readonly keyFile?: string | undefined;
  readonly keyFd?: number | undefined;
  /** Or a root key drawn at start and kept nowhere. */
  readonly ephemeral?: boolean | undefined;
  /** Makes `keyFile` when it is not there; for development agents. */
  readonly createKeyFile?: boolean | undefined;
  /** Said in configuration, or implied by a development agent; without it the provider does not start. */
  readonly allowLocalRoot: boolean;
}

/** A root key that lies on this node. The engine reads it straight into the key table; its id is the hash of the key. */
export class LocalProvider implements HandleProvider {
  readonly root: string;
  readonly #options: LocalProviderOptions;
  #key: KeyHandle | undefined;
  #resolvedId = '';

  constructor(options: LocalProviderOptions) {
    this.root = options.root;
    this.#options = options;
  }

  /** @throws INVALID_ARGUMENT with the remedy when the key may not or cannot be used; RESOURCE_EXHAUSTED. */
  async describe(): Promise<ProviderDescription> {
    if (this.#key === undefined) {
      const { engine, allowLocalRoot } = this.#options;
      if (!allowLocalRoot) {
        throw new DekdError(
          'INVALID_ARGUMENT',
          `root ${this.root} is a local key: it needs allowLocalRoot: true outside of dev, because ${WARNING}`,
        );
      }
      this.#key = this.#readKey();
      this.#resolvedId = `local:${hex(engine.kid(this.#key))}`;
    }
    const warning = this.#options.ephemeral === true ? EPHEMERAL_WARNING : WARNING;
    return { kind: 'local', resolvedId: this.#resolvedId, materialVersion: '', warnings: [warning] };
  }

  async wrap(secret: KeyHandle, context: KeyContext): Promise<WrappedSecret> {
    const wrapped = this.#options.engine.wrapKey(this.#rootKey(), LABEL, secret, encodeContext(context));
    return { wrapped, reference: { root: this.root, resolvedId: this.#resolvedId, materialVersion: '' } };
  }

  async unwrap(
    wrapped: Uint8Array,
    _reference: RootReference,
    context: KeyContext,
    _signal?: AbortSignal,
    use: KeyUse = SECRET_USE,
  ): Promise<KeyHandle> {
    return this.#options.engine.unwrapKey(this.#rootKey(), LABEL, wrapped, encodeContext(context), use);
  }

  /** A root key in a file has one version only. */
  async rewrap(): Promise<WrappedSecret> {
    throw this.#unsupported('rewrap');
  }

  async encrypt(): Promise<WrappedSecret> {
    throw this.#unsupported('encrypt');
  }

  async decrypt(): Promise<Uint8Array> {
    throw this.#unsupported('decrypt');
  }

  async health(depth: 'cheap' | 'deep'): Promise<ProviderHealth> {
    if (this.#key === undefined) {
      return { ok: false, detail: 'the root key is not loaded' };
    }
    if (depth === 'deep') {
      try {
        this.#proveRoundTrip();
      } catch (error) {
        return { ok: false, detail: error instanceof Error ? error.message : String(error) };
      }
    }
    return { ok: true, detail: this.#resolvedId };
  }

  capabilities(): ProviderCapabilities {
    return { nativeContext: true, serverRewrap: false, directLimit: 0, versioned: false };
  }

  async close(): Promise<void> {
    if (this.#key !== undefined) {
      this.#options.engine.destroyKey(this.#key);
      this.#key = undefined;
    }
  }

  #unsupported(operation: string): DekdError {
    return new DekdError('UNSUPPORTED', `root ${this.root}: the provider local has no ${operation}`);
  }

  #rootKey(): KeyHandle {
    if (this.#key === undefined) {
      throw new DekdError('KMS_UNAVAILABLE', `root ${this.root} is not loaded`);
    }
    return this.#key;
  }

  #proveRoundTrip(): void {
    const { engine } = this.#options;
    const root = this.#rootKey();
    const empty = new Uint8Array(0);
    const secret = engine.generateKey(SECRET_USE);
    try {
      const wrapped = engine.wrapKey(root, LABEL, secret, empty);
      engine.destroyKey(engine.unwrapKey(root, LABEL, wrapped, empty, SECRET_USE));
    } finally {
      engine.destroyKey(secret);
    }
  }

  #readKey(): KeyHandle {
    const { engine, keyFile, keyFd, ephemeral, createKeyFile } = this.#options;
    if ([keyFile !== undefined, keyFd !== undefined, ephemeral === true].filter(Boolean).length !== 1) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `root ${this.root} needs exactly one of a key file, a descriptor and ephemeral`,
      );
    }
    if (ephemeral === true) {
      return engine.generateKey(SECRET_USE);
    }
    if (keyFile === undefined) {
      return readKeyFrom(engine, keyFd!, `descriptor ${keyFd} of root ${this.root}`);
    }
    if (createKeyFile === true) {
      makeKeyFile(engine, keyFile);
    }
    return readKeyFile(engine, keyFile, 'root key file');
  }
}
