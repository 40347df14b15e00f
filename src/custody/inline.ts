import type { LocalRootConfig } from '../config/config.ts';
import type { Engine } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';
import type { Keystore } from '../keystores/keystore.ts';
import { LocalProvider } from '../providers/local.ts';
import { openProvider } from '../providers/open-provider.ts';
import type { HandleProvider } from '../providers/provider.ts';
import { MemorySessionKeeper } from '../providers/session-keeper.ts';
import type { CustodianStanding, Custody, PreparedRoots, Root, RootsChange } from './custody.ts';
import { InlineHandleProvider } from './inline-provider.ts';
import { ofProvider } from './provider-failure.ts';
import { RootSet, type RootsOptions } from './root-set.ts';

export interface InlineCustodyOptions extends RootsOptions {
  readonly engine: Engine;
  /** Taken over: closed with the custody. */
  readonly keystore: Keystore;
}

/**
 * Providers and keystore inside the agent: for local roots and embedded keystores, which load no foreign code, and for the
 * others where the configuration accepts that.
 */
export class InlineCustody implements Custody {
  readonly keystore: Keystore;
  readonly #roots: RootSet;

  private constructor(roots: RootSet, keystore: Keystore) {
    this.#roots = roots;
    this.keystore = keystore;
  }

  /**
   * Reaches every root. On failure the roots opened so far are closed, the keystore is left to the caller.
   * @throws INVALID_ARGUMENT with the remedy, KMS_UNAVAILABLE, KMS_DENIED.
   */
  static async open({ engine, keystore, ...options }: InlineCustodyOptions): Promise<InlineCustody> {
    const roots = await RootSet.open({
      ...options,
      open: async (root) => {
        if (root.provider === 'local') {
          return localProvider(engine, root);
        }
        try {
          return new InlineHandleProvider(await openProvider(root, new MemorySessionKeeper()), engine);
        } catch (error) {
          throw ofProvider(error);
        }
      },
    });
    return new InlineCustody(roots, keystore);
  }

  get roots(): ReadonlyMap<string, Root> {
    return this.#roots.byName;
  }

  get defaultRoot(): Root {
    return this.#roots.defaultRoot;
  }

  setDefaultRoot(name: string): void {
    this.#roots.setDefault(name);
  }

  prepareRoots(change: RootsChange): Promise<PreparedRoots> {
    return this.#roots.prepare(change);
  }

  clear(name: string | undefined): Promise<void> {
    return this.#roots.reopen(name);
  }

  custodians(): readonly CustodianStanding[] {
    return [];
  }

  async close(): Promise<void> {
    for (const result of await Promise.allSettled([this.#roots.close(), this.keystore.close()])) {
      if (result.status === 'rejected') {
        throw DekdError.from(result.reason);
      }
    }
  }
}

/** The provider of a root key on this node. */
export function localProvider(engine: Engine, { name, keyDescriptor, ...root }: LocalRootConfig): HandleProvider {
  return new LocalProvider({ ...root, engine, root: name, keyFd: keyDescriptor });
}
