/** Which route of a configuration a record takes. */
import { compileGlob } from '../glob.ts';
import type { Route } from './config.ts';

/** What is known of a record, or of the tree that is made for one. */
export interface RoutedRecord {
  readonly level: 2 | 3 | 4;
  /** Empty for none. */
  readonly tenant: string;
  readonly service: string;
  /** Name of the data key; empty where a KEK is meant for no key in particular. */
  readonly key: string;
  readonly region: string | undefined;
}

/** The first route whose fields all match; undefined when none does. A field that is not given matches everything. */
export function routeOf(routes: readonly Route[], record: RoutedRecord): Route | undefined {
  return routes.find(
    (route) =>
      (route.level === undefined || route.level.includes(record.level)) &&
      matches(route.tenant, record.tenant) &&
      matches(route.service, record.service) &&
      matches(route.key, record.key) &&
      matches(route.region, record.region ?? ''),
  );
}

/** Routes are few and asked for when something is made, so nothing is compiled ahead. */
function matches(pattern: string | undefined, name: string): boolean {
  return pattern === undefined || compileGlob(pattern)(name);
}
