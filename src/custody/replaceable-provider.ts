import type { KeyHandle, KeyUse } from '../crypto/engine.ts';
import type {
  HandleProvider,
  KeyContext,
  ProviderCapabilities,
  ProviderDescription,
  ProviderHealth,
  RootReference,
  WrappedSecret,
} from '../providers/provider.ts';

/** A provider that can be made anew while it is in use: the old one is closed once the calls it has are done. */
export class ReplaceableProvider implements HandleProvider {
  readonly root: string;
  readonly #make: () => Promise<HandleProvider>;
  #current: Lent;

  private constructor(make: () => Promise<HandleProvider>, current: Lent) {
    this.root = current.provider.root;
    this.#make = make;
    this.#current = current;
  }

  static async open(make: () => Promise<HandleProvider>): Promise<ReplaceableProvider> {
    return new ReplaceableProvider(make, new Lent(await make()));
  }

  /** When the new one cannot be made, the old one stays. */
  async replace(): Promise<void> {
    const next = new Lent(await this.#make());
    const old = this.#current;
    this.#current = next;
    await old.retire();
  }

  describe(signal: AbortSignal): Promise<ProviderDescription> {
    return this.#current.lend((provider) => provider.describe(signal));
  }

  wrap(secret: KeyHandle, context: KeyContext, signal: AbortSignal): Promise<WrappedSecret> {
    return this.#current.lend((provider) => provider.wrap(secret, context, signal));
  }

  unwrap(
    wrapped: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
    use?: KeyUse,
  ): Promise<KeyHandle> {
    return this.#current.lend((provider) => provider.unwrap(wrapped, reference, context, signal, use));
  }

  rewrap(
    wrapped: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<WrappedSecret> {
    return this.#current.lend((provider) => provider.rewrap(wrapped, reference, context, signal));
  }

  encrypt(plaintext: Uint8Array, context: KeyContext, signal: AbortSignal): Promise<WrappedSecret> {
    return this.#current.lend((provider) => provider.encrypt(plaintext, context, signal));
  }

  decrypt(
    ciphertext: Uint8Array,
    reference: RootReference,
    context: KeyContext,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    return this.#current.lend((provider) => provider.decrypt(ciphertext, reference, context, signal));
  }

  health(depth: 'cheap' | 'deep', signal: AbortSignal): Promise<ProviderHealth> {
    return this.#current.lend((provider) => provider.health(depth, signal));
  }

  capabilities(): ProviderCapabilities {
    return this.#current.provider.capabilities();
  }

  close(): Promise<void> {
    return this.#current.retire();
  }
}

/** A provider and how many calls it has. */
class Lent {
  readonly provider: HandleProvider;
  #calls = 0;
  #idle: (() => void) | undefined;

  constructor(provider: HandleProvider) {
    this.provider = provider;
  }

  async lend<T>(work: (provider: HandleProvider) => Promise<T>): Promise<T> {
    this.#calls++;
    try {
      return await work(this.provider);
    } finally {
      if (--this.#calls === 0) {
        this.#idle?.();
      }
    }
  }

  /** Closes the provider once it has no calls; each call has a deadline of its own. */
  async retire(): Promise<void> {
    if (this.#calls > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    await this.provider.close();
  }
}
