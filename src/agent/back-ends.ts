/** The keystores and the custody that a configuration names; what is not named is not loaded. */
import { hasServices, isService } from '../config/checks.ts';
import type { Config, ServiceKeystoreConfig } from '../config/config.ts';
import type { Engine } from '../crypto/engine.ts';
import type { Custodians } from '../custody/custodians.ts';
import type { Custody, RootCall } from '../custody/custody.ts';
import { InlineCustody } from '../custody/inline.ts';
import { DekdError } from '../errors.ts';
import type { Keystore } from '../keystores/keystore.ts';
import { openKeystore } from '../keystores/open-keystore.ts';
import type { RoutedKeystoreOptions } from '../keystores/routed.ts';
import type { CallTimes } from '../telemetry/call-times.ts';
import { TimedKeystore } from './timed-keystore.ts';

type Warn = (warning: string) => void;

/** How calls to what is behind an agent ended, by the name of the root or the keystore. */
export interface BackEndCalls {
  readonly providers: CallTimes;
  readonly keystores: CallTimes;
}

export interface BackEndsOptions {
  readonly config: Config;
  readonly engine: Engine;
  readonly warn: Warn;
  /** Told of every call to a provider and to a keystore; undefined when nobody wants to know. */
  readonly calls?: BackEndCalls | undefined;
  /** Where records lie when there are several keystores. */
  readonly route?: RoutedKeystoreOptions['route'];
}

/**
 * What an agent has behind it. Processes take longest to start, so that comes first, and there is time for other things
 * until they are ready.
 */
export class BackEnds {
  readonly #options: BackEndsOptions;
  /** Undefined when everything is in the agent. */
  readonly #custodians: Custodians | undefined;

  private constructor(options: BackEndsOptions, custodians: Custodians | undefined) {
    this.#options = options;
    this.#custodians = custodians;
  }

  /**
   * Starts the processes of providers and keystores.
   * @throws UNSUPPORTED when there should be some and the engine has no way to hand keys over
   */
  static async start(options: BackEndsOptions): Promise<BackEnds> {
    const { config, engine, warn } = options;
    if (!takesProcess(config, engine, warn)) {
      return new BackEnds(options, undefined);
    }
    const { Custodians } = await import('../custody/custodians.ts');
    const roots = config.roots.filter((root) => isService(root));
    const keystores = new Map<string, ServiceKeystoreConfig>();
    for (const [name, keystore] of config.keystores) {
      if (isService(keystore)) {
        keystores.set(name, keystore);
      }
    }
    return new BackEnds(options, Custodians.start({ engine, roots, keystores, notice: warn }));
  }

  /**
   * Opens keystores and roots; closing the custody then closes everything. On failure all is closed.
   * @throws as the keystores and the providers do, with the remedy
   */
  async open(): Promise<Custody> {
    const { config, engine, warn, calls } = this.#options;
    const { roots, defaultRoot, state: stateFolder } = config;
    let keystore: Keystore | undefined;
    try {
      keystore = await this.#openKeystores();
      const called =
        calls === undefined
          ? undefined
          : ({ root, ...call }: RootCall) => calls.providers.ended({ target: root, ...call });
      const options = { engine, keystore, roots, defaultRoot, stateFolder, warn, called };
      if (this.#custodians === undefined) {
        return await InlineCustody.open(options);
      }
      const { ProcessCustody } = await import('../custody/process.ts');
      return await ProcessCustody.open({ ...options, custodians: this.#custodians });
    } catch (error) {
      await keystore?.close();
      await this.close();
      throw error;
    }
  }

  /** Ends the processes. */
  async close(): Promise<void> {
    await this.#custodians?.close();
  }

  async #openInCustodian(name: string): Promise<Keystore> {
    const { CustodianKeystore } = await import('../custody/custodian-keystore.ts');
    return CustodianKeystore.open(name, this.#custodians!.keystores!);
  }

  /** One, or all as one. On failure those opened so far are closed. */
  async #openKeystores(): Promise<Keystore> {
    const { config, calls, route = () => ({ keystore: 'default', former: [] }) } = this.#options;
    const opened = new Map<string, Keystore>();
    try {
      for (const [name, keystore] of config.keystores) {
        const one =
          this.#custodians !== undefined && isService(keystore)
            ? await this.#openInCustodian(name)
            : await openKeystore(keystore);
        opened.set(name, calls === undefined ? one : new TimedKeystore(name, one, calls.keystores));
      }
      const [only] = opened.values();
      if (opened.size === 1) {
        return only!;
      }
      const { RoutedKeystore } = await import('../keystores/routed.ts');
      return new RoutedKeystore({ keystores: opened, route });
    } catch (error) {
      await Promise.allSettled([...opened.values()].map((keystore) => keystore.close()));
      throw error;
    }
  }
}

/**
 * Whether libraries of providers and keystores run in processes of their own.
 * @throws UNSUPPORTED when they should and the engine has no way to hand keys over
 */
function takesProcess(config: Config, engine: Engine, warn: Warn) {
  const { custody, engine: wanted, memory } = config;
  if (!hasServices(config) || custody === 'inline') {
    return false;
  }
  const { name } = engine.info;
  if (name === 'native') {
    return true;
  }
  if (wanted === 'auto' && memory.allowInsecureMemory) {
    warn(`providers and keystores run in the agent: the ${name} engine hands no keys to a process of their own`);
    return false;
  }
  throw new DekdError(
    'UNSUPPORTED',
    `custody: process needs the native engine, and ${name} is in use: build the addon (npm run build:native), ` +
      'or set custody: inline and memory.allowInsecureMemory: true',
  );
}
