import { type Engine, type KeyHandle, type KeyUse, SECRET_LENGTH, SECRET_USE } from '../crypto/engine.ts';
import type {
  HandleProvider,
  KeyContext,
  Provider,
  ProviderCapabilities,
  ProviderDescription,
  ProviderHealth,
  RootReference,
  WrappedSecret,
} from '../providers/provider.ts';
import { ProviderError } from '../providers/provider-error.ts';
import { ofProvider } from './provider-failure.ts';

/**
 * A provider inside the agent. Its library leaves copies of W on the heap, which nothing can wipe: that is why the
 * configuration must accept insecure memory for it, and why a process of its own is the default.
 */
export class InlineHandleProvider implements HandleProvider {
  readonly root: string;
  readonly #provider: Provider;
  readonly #engine: Engine;

  constructor(provider: Provider, engine: Engine) {
    this.root = provider.root;
    this.#provider = provider;
    this.#engine = engine;
  }

  describe(signal: AbortSignal): Promise<ProviderDescription> {
    return mapped(this.#provider.describe(signal));
  }

  async wrap(secret: KeyHandle, context: KeyContext, signal: AbortSignal): Promise<WrappedSecret> {
    const bytes = this.#engine.exposeSecret(secret);
    try {
      return await mapped(this.#provider.wrap(bytes, context, signal));
    } finally {
      bytes.fill(0);
    }
  }

  async unwrap(
    wrapped: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
    use: KeyUse = SECRET_USE,
  ): Promise<KeyHandle> {
    const bytes = await mapped(this.#provider.unwrap(wrapped, reference, context, signal));
    if (bytes.length !== SECRET_LENGTH) {
      const { length } = bytes;
      bytes.fill(0);
      throw ofProvider(wrongLength(this.root, length));
    }
    return this.#engine.importSecret(bytes, use);
  }

  async rewrap(
    wrapped: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<WrappedSecret> {
    const { rewrap } = this.#provider;
    if (rewrap === undefined) {
      throw ofProvider(unsupported(this.root, 'rewrap'));
    }
    return mapped(rewrap.call(this.#provider, wrapped, reference, context, signal));
  }

  async encrypt(plaintext: Uint8Array, context: KeyContext, signal: AbortSignal): Promise<WrappedSecret> {
    const { encrypt } = this.#provider;
    if (encrypt === undefined) {
      throw ofProvider(unsupported(this.root, 'encrypt'));
    }
    return mapped(encrypt.call(this.#provider, plaintext, context, signal));
  }

  async decrypt(
    ciphertext: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const { decrypt } = this.#provider;
    if (decrypt === undefined) {
      throw ofProvider(unsupported(this.root, 'decrypt'));
    }
    return mapped(decrypt.call(this.#provider, ciphertext, reference, context, signal));
  }

  health(depth: 'cheap' | 'deep', signal: AbortSignal): Promise<ProviderHealth> {
    return mapped(this.#provider.health(depth, signal));
  }

  capabilities(): ProviderCapabilities {
    return this.#provider.capabilities();
  }

  close(): Promise<void> {
    return this.#provider.close();
  }
}

/** A provider that answers with another length than it was given answers with something else. */
export function wrongLength(root: string, length: number): ProviderError {
  return new ProviderError('CORRUPT', `root ${root} unwrapped ${length} bytes, not ${SECRET_LENGTH}`);
}

export function unsupported(root: string, operation: string): ProviderError {
  return new ProviderError('UNSUPPORTED', `root ${root}: its provider has no ${operation}`);
}

async function mapped<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw ofProvider(error);
  }
}
