/** Where keys hang and rows are kept, as the routes of a configuration say. */
import type { Config } from '../config/config.ts';
import { DEFAULT_KEYSTORE } from '../config/keystores.ts';
import { routeOf } from '../config/routing.ts';
import { DekdError } from '../errors.ts';
import { serviceKekName } from '../keyring/key-name.ts';
import type { Placement } from '../keyring/placement.ts';
import type { RoutedKeystoreOptions } from '../keystores/routed.ts';

/** @throws (when asked) INVALID_ARGUMENT when there are routes and none is for the place */
export function placementOf({ routes, region, service, hierarchy }: Config): Placement {
  return {
    levels: hierarchy.levels,
    rootOf({ level, tenant, key }) {
      if (routes.length === 0) {
        return undefined;
      }
      const route = routeOf(routes, { level, tenant, service, key, region });
      if (route === undefined) {
        throw noRoute(level, key, tenant);
      }
      return route.root;
    },
  };
}

/** The keystore of each record. Undefined where no route is for it. */
export function keystoreRoutes({ routes, region, service }: Config): RoutedKeystoreOptions['route'] {
  return ({ name, partition, level }) => {
    if (routes.length === 0) {
      return { keystore: DEFAULT_KEYSTORE, former: [] };
    }
    const key = level === 4 ? name : '';
    const owner = level === 3 ? name.slice(serviceKekName('').length) : service;
    const route = routeOf(routes, { level, tenant: partition, service: owner, key, region });
    return route === undefined
      ? undefined
      : { keystore: route.keystore ?? DEFAULT_KEYSTORE, former: route.formerKeystores };
  };
}

/** No match is an error, and says what would have had to match. */
function noRoute(level: number, key: string, tenant: string): DekdError {
  const what = key === '' ? `level ${level}` : `level ${level} of key '${key}'`;
  const whose = tenant === '' ? '' : ` of partition '${tenant}'`;
  return new DekdError('INVALID_ARGUMENT', `no route is for ${what}${whose}; dekd config explain shows the routes`);
}
