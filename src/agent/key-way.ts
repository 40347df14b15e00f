/** The way of one key through a configuration: which entry holds for it, what it hangs under, and where its rows lie. */
import type { Config, KeyDefinition, RootConfig, RouteMatch } from '../config/config.ts';
import { routeOf } from '../config/routing.ts';
import { DekdError } from '../errors.ts';
import { compileGlob } from '../glob.ts';
import { checkKeyName, checkPartition } from '../keyring/key-name.ts';
import { keksAbove } from '../keyring/placement.ts';
import { keystoreRoutes, placementOf } from './placement.ts';

/** The entry of `routes` that chose. */
export interface ChosenRoute {
  /** From 0. */
  readonly index: number;
  /** The fields that it gives, all of which match. */
  readonly match: Partial<RouteMatch>;
}

/** A record on the way. */
export interface WayStep {
  readonly level: 2 | 3 | 4;
  readonly name: string;
  readonly partition: string;
  /** Name of the root or of the record that it is wrapped under. */
  readonly under: string;
  readonly keystore: string;
  /** Read as well, since it may still lie there. */
  readonly formerKeystores: readonly string[];
  /** What chose the keystore; undefined where there are no routes. */
  readonly route: ChosenRoute | undefined;
}

export interface KeyWay {
  readonly key: string;
  readonly partition: string;
  /** Index in `keys` of the entry that holds, from 0; undefined when the common settings do. */
  readonly entry: number | undefined;
  readonly definition: Pick<
    KeyDefinition,
    'keyContext' | 'requiredContext' | 'rotation' | 'direct' | 'recipients' | 'formerRecipients'
  >;
  /** What all of it hangs under, or what encrypts each value of a direct key. */
  readonly root: {
    readonly name: string;
    readonly provider: RootConfig['provider'];
    /** What chose it; undefined where there are no routes. */
    readonly route: ChosenRoute | undefined;
  };
  /** Outermost first; none for a direct key. */
  readonly steps: readonly WayStep[];
}

/** @throws INVALID_ARGUMENT for what is no name, and when there are routes and none is for a step */
export function wayOf(config: Config, key: string, partition: string): KeyWay {
  checkKeyName(key);
  checkPartition(partition);
  const entry = config.keys.findIndex(({ name }) => compileGlob(name)(key));
  const { direct, rotation, message } = config;
  const { recipients, formerRecipients } = message;
  const common = { keyContext: {}, requiredContext: [], rotation, direct, recipients, formerRecipients };
  const definition = config.keys[entry] ?? common;
  const { levels, rootOf } = placementOf(config);
  const keks = keksAbove(levels, config.service, partition);
  const [{ level, tenant }] = keks;
  const top = { level, tenant, key };
  const name = rootOf(top) ?? config.defaultRoot;
  const { provider } = config.roots.find((root) => root.name === name)!;
  const root = { name, provider, route: chosenRoute(config, top) };
  const way = { key, partition, entry: entry < 0 ? undefined : entry, definition, root };
  if (definition.direct) {
    return { ...way, steps: [] };
  }
  const records: Pick<WayStep, 'level' | 'name' | 'partition'>[] = [
    ...keks.map((kek) => ({ level: kek.level, name: kek.name, partition: kek.tenant })),
    { level: 4, name: key, partition },
  ];
  const steps = records.map((record, index) => ({
    ...record,
    under: records[index - 1]?.name ?? name,
    ...placeOf(config, record),
  }));
  return { ...way, steps };
}

function placeOf(config: Config, { level, name, partition }: Pick<WayStep, 'level' | 'name' | 'partition'>) {
  const placement = keystoreRoutes(config)({ name, partition, level, purpose: level === 4 ? 'seal' : 'wrap' });
  if (placement === undefined) {
    const whose = partition === '' ? '' : ` of partition '${partition}'`;
    throw new DekdError('INVALID_ARGUMENT', `no route is for level ${level}, ${name}${whose}`);
  }
  const route = chosenRoute(config, { level, tenant: partition, key: level === 4 ? name : '' });
  return { keystore: placement.keystore, formerKeystores: placement.former, route };
}

function chosenRoute(
  { routes, service, region }: Config,
  place: { readonly level: 2 | 3 | 4; readonly tenant: string; readonly key: string },
): ChosenRoute | undefined {
  const route = routeOf(routes, { ...place, service, region });
  if (route === undefined) {
    return undefined;
  }
  const { root: _root, keystore: _keystore, formerKeystores: _former, ...fields } = route;
  const match = Object.fromEntries(Object.entries(fields).filter(([, field]) => field !== undefined));
  return { index: routes.indexOf(route), match };
}
