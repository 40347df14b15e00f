import { type KekName, serviceKekName, tenantKekName } from './key-name.ts';

/** What a KEK is made for, where it hangs directly under a root. */
export interface TreePlace {
  /** 2 for the KEK of a tenant, 3 for that of a service. */
  readonly level: 2 | 3;
  /** Empty for none. */
  readonly tenant: string;
  /** Name of the data key that is to hang in the tree; empty where the tree is made for no key in particular. */
  readonly key: string;
}

/** Where new keys hang: how many KEKs there are above them, and under which root each tree begins. */
export interface Placement {
  /** KEKs between a root and the data keys, outermost first. */
  readonly levels: readonly ('tenant' | 'service')[];
  /** Name of the root; undefined for the default root. @throws INVALID_ARGUMENT when no route is for it */
  rootOf(place: TreePlace): string | undefined;
}

/** The KEKs above the data keys of a partition, outermost first; there is at least one. */
export function keksAbove(levels: Placement['levels'], service: string, partition: string): [KekName, ...KekName[]] {
  const tenant = levels.includes('tenant') ? partition : '';
  const serviceKek: KekName = { name: serviceKekName(service), level: 3, tenant };
  if (tenant === '') {
    return [serviceKek];
  }
  const tenantKek: KekName = { name: tenantKekName(tenant), level: 2, tenant };
  return levels.includes('service') ? [tenantKek, serviceKek] : [tenantKek];
}

/** Everything under the default root, below one KEK for the service. */
export const DEFAULT_PLACEMENT: Placement = { levels: ['service'], rootOf: () => undefined };
