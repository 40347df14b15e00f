import { DekdError } from '../errors.ts';
import type { Keystore } from '../keystores/keystore.ts';
import type { Hierarchy } from './hierarchy.ts';
import type { KeyLife } from './key-life.ts';
import { checkPartition } from './key-name.ts';
import type { KeyInfo } from './keyring.ts';
import { allRecords } from './listing.ts';
import { keksAbove, type Placement } from './placement.ts';

/** Names destroyed in one call, so that an admin command ends in time; the rest is for the next. */
const NAMES_AT_ONCE = 50;

export interface TenantParts {
  readonly keystore: Keystore;
  readonly hierarchy: Hierarchy;
  readonly life: KeyLife;
  readonly placement: Placement;
  readonly service: string;
}

export interface TenantDestruction {
  /** Versions destroyed by this call. */
  readonly destroyed: number;
  /** Names with versions that are left for another call; 0 when the tenant is gone. */
  readonly left: number;
}

/** A tenant as a whole: its tree of keys made ready, or shredded. */
export class Tenants {
  readonly #parts: TenantParts;

  constructor(parts: TenantParts) {
    this.#parts = parts;
  }

  /**
   * Makes the KEKs of a tenant, if they are not there, and loads them: its first key then costs no call to the provider.
   * @throws INVALID_ARGUMENT where tenants have no tree of their own, and what making a KEK throws
   */
  async prepare(tenant: string): Promise<readonly KeyInfo[]> {
    const { hierarchy, life, placement, service } = this.#parts;
    this.#check(tenant);
    await hierarchy.withSealingKek(tenant, '', () => undefined);
    const infos: KeyInfo[] = [];
    for (const { name } of keksAbove(placement.levels, service, tenant)) {
      infos.push(...(await life.describe(name, tenant)));
    }
    return infos;
  }

  /**
   * Shreds every key of a tenant, data keys first and what wraps them last, so that no record ever hangs under one that is
   * gone. What was encrypted for the tenant opens never again, wherever a copy of it lies. Whoever is stopped in between
   * runs it again.
   */
  async destroy(tenant: string): Promise<TenantDestruction> {
    this.#check(tenant);
    const names = new Map<string, number>();
    for await (const row of allRecords(this.#parts.keystore, { partition: tenant })) {
      if (row.state !== 'destroyed') {
        names.set(row.name, row.level);
      }
    }
    const lowestFirst = [...names].sort(([, a], [, b]) => b - a);
    let destroyed = 0;
    for (const [name] of lowestFirst.slice(0, NAMES_AT_ONCE)) {
      destroyed += await this.#parts.life.shred(name, tenant);
    }
    return { destroyed, left: Math.max(0, lowestFirst.length - NAMES_AT_ONCE) };
  }

  #check(tenant: string): void {
    checkPartition(tenant);
    if (tenant === '') {
      throw new DekdError('INVALID_ARGUMENT', 'a tenant has a name');
    }
    if (!this.#parts.placement.levels.includes('tenant')) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        'tenants share the key-encryption key of the service: hierarchy.levels has no tenant',
      );
    }
  }
}
