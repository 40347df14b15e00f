import { DekdError } from '../errors.ts';
import type { Keystore } from '../keystores/keystore.ts';
import { CustodianProvider } from './custodian-provider.ts';
import type { Custodians } from './custodians.ts';
import type { CustodianStanding, Custody, PreparedRoots, Root, RootsChange } from './custody.ts';
import { type InlineCustodyOptions, localProvider } from './inline.ts';
import { RootSet } from './root-set.ts';

export interface ProcessCustodyOptions extends InlineCustodyOptions {
  /** Of every root at a service, and of the keystore if it needs any. Taken over: closed with the custody. */
  readonly custodians: Custodians;
}

/**
 * Providers in a process of their own, one at a time. Local roots stay in the agent, where native code reads
 * the key itself.
 */
export class ProcessCustody implements Custody {
  readonly keystore: Keystore;
  readonly #roots: RootSet;
  readonly #custodians: Custodians;

  private constructor(roots: RootSet, keystore: Keystore, custodians: Custodians) {
    this.#roots = roots;
    this.keystore = keystore;
    this.#custodians = custodians;
  }

  /**
   * Reaches every root. On failure the roots opened so far are closed; keystore and custodians are left to the caller.
   * @throws INVALID_ARGUMENT with the remedy, KMS_UNAVAILABLE, KMS_DENIED.
   */
  static async open({ engine, keystore, custodians, ...options }: ProcessCustodyOptions): Promise<ProcessCustody> {
    const roots = await RootSet.open({
      ...options,
      open: async (root) =>
        root.provider === 'local'
          ? localProvider(engine, root)
          : new CustodianProvider(root.name, custodians.providers!),
    });
    return new ProcessCustody(roots, keystore, custodians);
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

  /** Its custodian is told at its start what roots there are: where they are at a service, a new one takes over. */
  async prepareRoots(change: RootsChange): Promise<PreparedRoots> {
    const added = change.added.filter((root) => root.provider !== 'local');
    const removed = change.removed.filter((name) => this.roots.get(name)?.remote);
    if (added.length === 0 && removed.length === 0) {
      return this.#roots.prepare(change);
    }
    const { providers } = this.#custodians;
    if (providers === undefined) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `root ${added[0]!.name} is the first at a service, and needs a restart: there is no custodian of providers yet`,
      );
    }
    const before = providers.roots;
    await providers.serve([...before, ...added]);
    try {
      const prepared = await this.#roots.prepare(change);
      return {
        commit: () => {
          prepared.commit();
          if (removed.length > 0) {
            void providers.serve(providers.roots.filter(({ name }) => !removed.includes(name)));
          }
        },
        abandon: async () => {
          await prepared.abandon();
          await providers.serve(before);
        },
      };
    } catch (error) {
      await providers.serve(before);
      throw error;
    }
  }

  /** A new custodian for all, and a new login for the roots meant: the process exit is what wipes. */
  async clear(name: string | undefined): Promise<void> {
    const services = this.#roots.remote(name).map((root) => root.name);
    if (services.length > 0) {
      await this.#custodians.providers!.renew(services);
    }
  }

  custodians(): readonly CustodianStanding[] {
    return this.#custodians.standing();
  }

  async close(): Promise<void> {
    // Roots wait for the calls they have, which fail with their custodian.
    const closing = [this.#custodians.providers?.close(), this.#roots.close(), this.#closeKeystore()];
    for (const result of await Promise.allSettled(closing)) {
      if (result.status === 'rejected') {
        throw DekdError.from(result.reason);
      }
    }
  }

  async #closeKeystore(): Promise<void> {
    try {
      await this.keystore.close();
    } finally {
      await this.#custodians.keystores?.close();
    }
  }
}
