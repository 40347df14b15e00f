/** The way of one key through a configuration: which entry holds for it, what it hangs under, and where its rows lie. */
import type { Config, KeyDefinition, Route } from '../config/config.ts';
import { routeOf } from '../config/routing.ts';
import { DekdError } from '../errors.ts';
import { compileGlob } from '../glob.ts';
import { serviceKekName, tenantKekName } from '../keyring/key-name.ts';
import { keystoreRoutes, placementOf } from './placement.ts';

/** One record on the way, outermost first. */
export interface WayStep {
  readonly level: 2 | 3 | 4;
  readonly name: string;
  readonly partition: string;
  /** Root that it hangs under directly; undefined under the step before. */
  readonly root: string | undefined;
  readonly keystore: string;
  readonly formerKeystores: readonly string[];
  /** Index of the route that chose, from 0; undefined where there are no routes. */
  readonly route: number | undefined;
}

export interface KeyWay {
  readonly key: string;
  readonly partition: string;
  /** Index in `keys` of the entry that holds, from 0; undefined when the common settings do. */
  readonly entry: number | undefined;
  readonly definition: Pick<KeyDefinition, 'keyContext' | 'requiredContext' | 'rotation' | 'direct'>;
  /** Root of the provider that encrypts, for a direct key; it has no steps. */
  readonly directRoot: string | undefined;
  readonly steps: readonly WayStep[];
}

/** @throws INVALID_ARGUMENT when there are routes and none is for a step */
export function wayOf(config: Config, key: string, partition: string): KeyWay {
  const entry = config.keys.findIndex(({ name }) => compileGlob(name)(key));
  const { direct, rotation } = config;
  const definition = config.keys[entry] ?? { keyContext: {}, requiredContext: [], rotation, direct };
  const { levels, rootOf } = placementOf(config);
  const tenant = levels.includes('tenant') ? partition : '';
  const top = tenant === '' ? 3 : 2;
  const root = rootOf({ level: top, tenant, key }) ?? config.defaultRoot;
  const way = { key, partition, entry: entry < 0 ? undefined : entry, definition };
  if (definition.direct) {
    return { ...way, directRoot: root, steps: [] };
  }
  const steps: WayStep[] = [];
  if (tenant !== '') {
    steps.push(stepOf(config, 2, tenantKekName(tenant), tenant, root));
  }
  if (tenant === '' || levels.includes('service')) {
    steps.push(stepOf(config, 3, serviceKekName(config.service), tenant, steps.length === 0 ? root : undefined));
  }
  steps.push(stepOf(config, 4, key, partition, undefined));
  return { ...way, directRoot: undefined, steps };
}

function stepOf(config: Config, level: 2 | 3 | 4, name: string, partition: string, root: string | undefined): WayStep {
  const placement = keystoreRoutes(config)({ name, partition, level, purpose: level === 4 ? 'seal' : 'wrap' });
  if (placement === undefined) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `no route is for level ${level}: ${name}${partition && ` of ${partition}`}`,
    );
  }
  const { routes, service, region } = config;
  const key = level === 4 ? name : '';
  const route: Route | undefined = routeOf(routes, { level, tenant: partition, service, key, region });
  return {
    level,
    name,
    partition,
    root,
    keystore: placement.keystore,
    formerKeystores: placement.former,
    route: route === undefined ? undefined : routes.indexOf(route),
  };
}
