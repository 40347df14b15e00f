import type { ServiceKeystoreConfig, ServiceRootConfig } from '../config/config.ts';
import type { Engine } from '../crypto/engine.ts';
import type { CustodianStanding } from './custody.ts';
import { type CustodianTimes, Succession } from './succession.ts';

export interface CustodiansOptions {
  readonly engine: Engine;
  /** Those at a service. */
  readonly roots: readonly ServiceRootConfig[];
  readonly keystores: ReadonlyMap<string, ServiceKeystoreConfig>;
  /** Told of every custodian that did not end because it was told to. */
  readonly notice: (message: string) => void;
  readonly times?: Partial<CustodianTimes> | undefined;
  /** What custodians run instead of their own entry. */
  readonly entry?: string | undefined;
}

/** The processes beside an agent: those of its providers, one after the other, and those of its keystores. */
export class Custodians {
  /** Undefined where every root is local. */
  readonly providers: Succession | undefined;
  /** Undefined where every keystore is in the agent. */
  readonly keystores: Succession | undefined;

  private constructor(providers: Succession | undefined, keystores: Succession | undefined) {
    this.providers = providers;
    this.keystores = keystores;
  }

  /**
   * Starts the first of each, so that they are ready, or nearly, when the agent has its first call for them.
   * @throws RESOURCE_EXHAUSTED when the key table is full
   */
  static start({ roots, keystores, ...options }: CustodiansOptions): Custodians {
    const providers =
      roots.length === 0 ? undefined : new Succession({ ...options, targets: { role: 'provider', roots } });
    providers?.begin();
    const keepers =
      keystores.size === 0
        ? undefined
        : new Succession({ ...options, targets: { role: 'keystore', keystores: Object.fromEntries(keystores) } });
    keepers?.begin();
    return new Custodians(providers, keepers);
  }

  standing(): CustodianStanding[] {
    return [this.providers, this.keystores].flatMap((each) => (each === undefined ? [] : [each.standing]));
  }

  async close(): Promise<void> {
    await Promise.all([this.providers?.close(), this.keystores?.close()]);
  }
}
