/** The keystores and the custody that a configuration names; what is not named is not loaded. */
import { hasServices, isService } from '../config/checks.ts';
import type { Config, ServiceKeystoreConfig } from '../config/config.ts';
import type { Engine } from '../crypto/engine.ts';
import type { Custody } from '../custody/custody.ts';
import { InlineCustody } from '../custody/inline.ts';
import type { Succession } from '../custody/succession.ts';
import { DekdError } from '../errors.ts';
import type { Keystore } from '../keystores/keystore.ts';
import { openKeystore } from '../keystores/open-keystore.ts';
import type { RoutedKeystoreOptions } from '../keystores/routed.ts';

type Warn = (warning: string) => void;

/**
 * @param route where records lie when there are several keystores
 * @throws as the keystores and the providers do, with the remedy
 */
export async function openCustody(
  config: Config,
  engine: Engine,
  warn: Warn,
  route: RoutedKeystoreOptions['route'] = () => ({ keystore: 'default', former: [] }),
): Promise<Custody> {
  const { roots, defaultRoot, state: stateFolder } = config;
  const isProcess = takesProcess(config, engine, warn);
  const keystoreCustodians = isProcess ? await custodiansOfKeystores(config, engine, warn) : undefined;
  let keystore: Keystore | undefined;
  try {
    keystore = await openKeystores(config, keystoreCustodians, route);
    const options = { engine, keystore, roots, defaultRoot, stateFolder, warn };
    if (isProcess) {
      const { ProcessCustody } = await import('../custody/process.ts');
      return await ProcessCustody.open({ ...options, keystoreCustodians });
    }
    return await InlineCustody.open(options);
  } catch (error) {
    await keystore?.close();
    await keystoreCustodians?.close();
    throw error;
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

/** Undefined when no keystore needs one. */
async function custodiansOfKeystores(
  { keystores }: Config,
  engine: Engine,
  notice: Warn,
): Promise<Succession | undefined> {
  const services = [...keystores].filter((entry): entry is [string, ServiceKeystoreConfig] => isService(entry[1]));
  if (services.length === 0) {
    return undefined;
  }
  const { Succession } = await import('../custody/succession.ts');
  return new Succession({ engine, notice, targets: { role: 'keystore', keystores: Object.fromEntries(services) } });
}

/** One, or all as one. On failure those opened so far are closed. */
async function openKeystores(
  { keystores }: Config,
  custodians: Succession | undefined,
  route: RoutedKeystoreOptions['route'],
): Promise<Keystore> {
  const opened = new Map<string, Keystore>();
  try {
    for (const [name, keystore] of keystores) {
      if (custodians !== undefined && isService(keystore)) {
        const { CustodianKeystore } = await import('../custody/custodian-keystore.ts');
        opened.set(name, await CustodianKeystore.open(name, custodians));
      } else {
        opened.set(name, await openKeystore(keystore));
      }
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
