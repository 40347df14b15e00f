import type { Engine, KeyHandle } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';
import type { Keystore } from '../keystores/keystore.ts';
import { LocalProvider } from '../providers/local.ts';
import type {
  Provider,
  ProviderCapabilities,
  ProviderDescription,
  ProviderHealth,
  RootReference,
  WrappedSecret,
} from '../providers/provider.ts';
import type { Custody, Root } from './custody.ts';

/** A root whose provider runs in the agent itself; today that is a local key. */
export interface InlineRootOptions {
  readonly name: string;
  readonly kind: 'local';
  readonly keyFile?: string | undefined;
  readonly keyFd?: number | undefined;
  /** A root key drawn at start and kept nowhere. */
  readonly ephemeral?: boolean | undefined;
  /** Makes `keyFile` when it is not there. */
  readonly createKeyFile?: boolean | undefined;
  /** Demanded for a local root; a development agent passes true. */
  readonly allowLocalRoot: boolean;
  /** Resolved ids that stored records may still name. */
  readonly formerly?: readonly string[];
}

export interface InlineCustodyOptions {
  readonly engine: Engine;
  /** At least one; the first is the default unless `defaultRoot` names another. */
  readonly roots: readonly InlineRootOptions[];
  readonly defaultRoot?: string;
  /** Taken over: closed with the custody. */
  readonly keystore: Keystore;
  /** Told every warning of every provider, at each start. */
  readonly warn: (warning: string) => void;
}

/** Providers and keystore inside the agent: for local roots and embedded keystores, which load no foreign code. */
export class InlineCustody implements Custody {
  readonly roots: ReadonlyMap<string, Root>;
  readonly defaultRoot: Root;
  readonly keystore: Keystore;
  readonly #providers: readonly Provider[];

  private constructor(roots: ReadonlyMap<string, Root>, defaultRoot: Root, keystore: Keystore, providers: Provider[]) {
    this.roots = roots;
    this.defaultRoot = defaultRoot;
    this.keystore = keystore;
    this.#providers = providers;
  }

  /**
   * Reaches every root. On failure the roots opened so far are closed, the keystore is left to the caller.
   * @throws INVALID_ARGUMENT with the remedy, KMS_UNAVAILABLE, KMS_DENIED.
   */
  static async open(options: InlineCustodyOptions): Promise<InlineCustody> {
    const providers: Provider[] = [];
    const roots = new Map<string, Root>();
    try {
      for (const root of options.roots) {
        if (roots.has(root.name)) {
          throw new DekdError('INVALID_ARGUMENT', `root ${root.name} is configured twice`);
        }
        const provider = new LocalProvider({
          engine: options.engine,
          root: root.name,
          keyFile: root.keyFile,
          keyFd: root.keyFd,
          ephemeral: root.ephemeral,
          createKeyFile: root.createKeyFile,
          allowLocalRoot: root.allowLocalRoot,
        });
        providers.push(provider);
        const description = await provider.describe();
        for (const warning of description.warnings) {
          options.warn(`root ${root.name}: ${warning}`);
        }
        roots.set(root.name, new GuardedRoot(provider, description, root.formerly ?? []));
      }
      const name = options.defaultRoot ?? options.roots[0]?.name ?? '';
      const defaultRoot = roots.get(name);
      if (defaultRoot === undefined) {
        throw new DekdError('INVALID_ARGUMENT', `the default root ${JSON.stringify(name)} is not configured`);
      }
      return new InlineCustody(roots, defaultRoot, options.keystore, providers);
    } catch (error) {
      await Promise.allSettled(providers.map((provider) => provider.close()));
      throw error;
    }
  }

  async close(): Promise<void> {
    const closing = [...this.#providers.map((provider) => provider.close()), this.keystore.close()];
    for (const result of await Promise.allSettled(closing)) {
      if (result.status === 'rejected') {
        throw result.reason;
      }
    }
  }
}

/** A row never chooses: what a record names is used only when configuration says the same. */
class GuardedRoot implements Root {
  readonly name: string;
  readonly description: ProviderDescription;
  readonly formerly: readonly string[];
  readonly capabilities: ProviderCapabilities;
  readonly #provider: Provider;

  constructor(provider: Provider, description: ProviderDescription, formerly: readonly string[]) {
    this.name = provider.root;
    this.description = description;
    this.formerly = formerly;
    this.capabilities = provider.capabilities();
    this.#provider = provider;
  }

  wrap(secret: KeyHandle, context: Uint8Array): Promise<WrappedSecret> {
    return this.#provider.wrap(secret, context);
  }

  async unwrap(wrapped: Uint8Array, reference: RootReference, context: Uint8Array): Promise<KeyHandle> {
    const { resolvedId } = this.description;
    if (reference.root !== this.name) {
      throw new DekdError('KMS_DENIED', `the record names root ${reference.root}, not ${this.name}`);
    }
    if (reference.resolvedId !== resolvedId && !this.formerly.includes(reference.resolvedId)) {
      throw new DekdError(
        'KMS_DENIED',
        `the record was made under root key ${reference.resolvedId}; root ${this.name} is ${resolvedId}`,
        { reason: `if that is right, list ${reference.resolvedId} under roots.${this.name}.formerly` },
      );
    }
    return this.#provider.unwrap(wrapped, reference, context);
  }

  health(depth: 'cheap' | 'deep'): Promise<ProviderHealth> {
    return this.#provider.health(depth);
  }
}
