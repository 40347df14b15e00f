import { closeSync, constants, fstatSync, fsyncSync, openSync, type Stats } from 'node:fs';
import { dirname } from 'node:path';
import type { Engine, KeyHandle, KeyUse } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';
import type {
  Provider,
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
export class LocalProvider implements Provider {
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
      this.#resolvedId = `local:${Buffer.from(engine.kid(this.#key)).toString('hex')}`;
    }
    const warning = this.#options.ephemeral === true ? EPHEMERAL_WARNING : WARNING;
    return { kind: 'local', resolvedId: this.#resolvedId, materialVersion: '', warnings: [warning] };
  }

  async wrap(secret: KeyHandle, context: Uint8Array): Promise<WrappedSecret> {
    const wrapped = this.#options.engine.wrapKey(this.#rootKey(), LABEL, secret, context);
    return { wrapped, reference: { root: this.root, resolvedId: this.#resolvedId, materialVersion: '' } };
  }

  async unwrap(wrapped: Uint8Array, _reference: RootReference, context: Uint8Array): Promise<KeyHandle> {
    return this.#options.engine.unwrapKey(this.#rootKey(), LABEL, wrapped, context, SECRET_USE);
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
    return { nativeContext: true, serverRewrap: false };
  }

  async close(): Promise<void> {
    if (this.#key !== undefined) {
      this.#options.engine.destroyKey(this.#key);
      this.#key = undefined;
    }
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
      return readFrom(engine, keyFd!, `descriptor ${keyFd} of root ${this.root}`);
    }
    if (createKeyFile === true) {
      makeKeyFile(engine, keyFile);
    }
    const fd = openKeyFile(keyFile);
    try {
      // Checked on the open descriptor: whoever can rename files under the path cannot change what is read.
      checkKeyFile(keyFile, fstatSync(fd));
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    return readFrom(engine, fd, `root key file ${keyFile}`);
  }
}

/** Closes `fd` whatever comes of it: nothing that this process starts may inherit it. */
function readFrom(engine: Engine, fd: number, what: string): KeyHandle {
  try {
    return engine.readRootKey(fd);
  } catch (error) {
    if (DekdError.is(error, 'RESOURCE_EXHAUSTED')) {
      throw error;
    }
    const detail = error instanceof Error ? error.message : String(error);
    throw new DekdError('INVALID_ARGUMENT', `${what} does not hold a root key: ${detail}; dekd keygen makes one`, {
      cause: error,
    });
  } finally {
    tryClose(fd);
  }
}

/** Writes a new root key (0600) unless the file is there already. */
function makeKeyFile(engine: Engine, path: string): void {
  let fd: number;
  try {
    fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') {
      return;
    }
    throw new DekdError('INVALID_ARGUMENT', `root key file ${path} cannot be made (${code}): ${remedyOf(code, path)}`, {
      cause: error,
    });
  }
  try {
    engine.writeRootKey(fd);
    // Records wrapped under a root key that a power cut takes away would be lost with it.
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  const folder = openSync(dirname(path), constants.O_RDONLY);
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

function openKeyFile(path: string): number {
  try {
    // Without NONBLOCK the open of a FIFO put in the place of the key would hang the agent.
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') {
      throw new DekdError('INVALID_ARGUMENT', `root key file ${path} does not exist; dekd keygen makes one`);
    }
    throw new DekdError(
      'INVALID_ARGUMENT',
      `root key file ${path} cannot be opened (${code}): ${remedyOf(code, path)}`,
      {
        cause: error,
      },
    );
  }
}

function remedyOf(code: string | undefined, path: string): string {
  return code === 'EACCES' || code === 'EPERM'
    ? `run chown ${ownUid()} ${quoted(path)} && chmod 600 ${quoted(path)}`
    : 'check the path';
}

function checkKeyFile(path: string, stats: Stats): void {
  if (!stats.isFile()) {
    throw new DekdError('INVALID_ARGUMENT', `root key file ${path} is not a regular file`);
  }
  if (stats.uid !== ownUid() && stats.uid !== 0) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `root key file ${path} belongs to uid ${stats.uid}, not to uid ${ownUid()} or root: ` +
        `run chown ${ownUid()} ${quoted(path)}`,
    );
  }
  if ((stats.mode & 0o077) !== 0) {
    const mode = (stats.mode & 0o7777).toString(8).padStart(4, '0');
    throw new DekdError(
      'INVALID_ARGUMENT',
      `root key file ${path} is open to group or others (mode ${mode}): run chmod 600 ${quoted(path)}`,
    );
  }
}

function ownUid(): number {
  return process.geteuid?.() ?? 0;
}

function quoted(path: string): string {
  return /^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}

function tryClose(fd: number): void {
  try {
    closeSync(fd);
  } catch {
    // An inherited descriptor that was never open is reported by the read before.
  }
}
