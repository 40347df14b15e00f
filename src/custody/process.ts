import type { ServiceRootConfig } from '../config/config.ts';
import { DekdError } from '../errors.ts';
import type { Keystore } from '../keystores/keystore.ts';
import { CustodianProvider } from './custodian-provider.ts';
import type { CustodianStanding, Custody, Root } from './custody.ts';
import { type InlineCustodyOptions, localProvider } from './inline.ts';
import { RootSet } from './root-set.ts';
import { type CustodianTimes, Succession } from './succession.ts';

export interface ProcessCustodyOptions extends InlineCustodyOptions {
  /** Whose custodians the keystore needs, if it needs any. Taken over: closed after the keystore. */
  readonly keystoreCustodians?: Succession | undefined;
  readonly times?: Partial<CustodianTimes> | undefined;
  /** What provider custodians run instead of their own entry. */
  readonly entry?: string | undefined;
}

/**
 * Providers in a process of their own, started when one is needed. Local roots stay in the agent, where native code reads
 * the key itself.
 */
export class ProcessCustody implements Custody {
  readonly keystore: Keystore;
  readonly #roots: RootSet;
  readonly #providers: Succession;
  readonly #keystores: Succession | undefined;

  private constructor(roots: RootSet, keystore: Keystore, providers: Succession, keystores: Succession | undefined) {
    this.#roots = roots;
    this.keystore = keystore;
    this.#providers = providers;
    this.#keystores = keystores;
  }

  /**
   * Reaches every root. On failure everything opened so far is closed; the keystore and its custodians are left to the
   * caller.
   * @throws INVALID_ARGUMENT with the remedy, KMS_UNAVAILABLE, KMS_DENIED.
   */
  static async open({
    engine,
    keystore,
    keystoreCustodians,
    times,
    entry,
    ...options
  }: ProcessCustodyOptions): Promise<ProcessCustody> {
    const { roots, warn } = options;
    const services = roots.filter((root): root is ServiceRootConfig => root.provider !== 'local');
    const targets = { role: 'provider', roots: services } as const;
    const providers = new Succession({ engine, targets, notice: warn, times, entry });
    try {
      const set = await RootSet.open({
        ...options,
        open: async (root) =>
          root.provider === 'local' ? localProvider(engine, root) : new CustodianProvider(root.name, providers),
      });
      return new ProcessCustody(set, keystore, providers, keystoreCustodians);
    } catch (error) {
      await providers.close();
      throw error;
    }
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

  /** A new custodian for all, and a new login for the roots meant: the process exit is what wipes. */
  async clear(name: string | undefined): Promise<void> {
    const services = this.#roots.remote(name).map((root) => root.name);
    if (services.length > 0) {
      await this.#providers.renew(services);
    }
  }

  custodians(): readonly CustodianStanding[] {
    return [this.#providers, this.#keystores].flatMap((each) => (each === undefined ? [] : [each.standing]));
  }

  async close(): Promise<void> {
    // Roots wait for the calls they have, which fail with their custodian.
    const closing = [this.#providers.close(), this.#roots.close(), this.#closeKeystore()];
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
      await this.#keystores?.close();
    }
  }
}
