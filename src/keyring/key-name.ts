import { DekdError } from '../errors.ts';

export const MAX_NAME_LENGTH = 128;
export const MAX_PARTITION_LENGTH = 128;

const NAME = /^[A-Za-z0-9_/-][A-Za-z0-9._/-]*$/;
/** Control characters, line and paragraph separators, and the characters that reorder a line of text. */
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}\u200e\u200f\u202a-\u202e\u2066-\u2069]/u;

/** @throws INVALID_ARGUMENT unless `name` may name a key of a user. Names that begin with a dot are the agent's own. */
export function checkKeyName(name: string): void {
  if (name.length === 0 || name.length > MAX_NAME_LENGTH || !NAME.test(name)) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `key name must be 1 to ${MAX_NAME_LENGTH} of the characters A-Z a-z 0-9 . _ / - and not begin with a dot`,
    );
  }
}

/** @throws INVALID_ARGUMENT unless `partition` is empty or a printable name. */
export function checkPartition(partition: string): void {
  if (partition.length > MAX_PARTITION_LENGTH || !partition.isWellFormed() || UNPRINTABLE.test(partition)) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `partition must be at most ${MAX_PARTITION_LENGTH} printable characters without control characters`,
    );
  }
}

/** Name of the record of a tenant's KEK. */
export function tenantKekName(tenant: string): string {
  return `.l2/${tenant}`;
}

/** Name of the record of a service's KEK. */
export function serviceKekName(service: string): string {
  return `.l3/${service}`;
}

/** A KEK by its name. */
export interface KekName {
  readonly name: string;
  readonly level: 2 | 3;
  /** Partition of its records; empty for the KEK of a service without tenants. */
  readonly tenant: string;
  /** Name of the root that its tree is to begin under; undefined for the one that new keys of the tenant go to. */
  readonly root?: string;
}

/** Whether `name` is one that the agent gives to its own keys. */
export function isKekName(name: string): boolean {
  return name.startsWith('.');
}

/** The KEK that `name` and `partition` say. @throws INVALID_ARGUMENT when there can be none of that name. */
export function kekNameOf(name: string, partition: string): KekName {
  checkPartition(partition);
  if (name === tenantKekName(partition) && partition !== '') {
    return { name, level: 2, tenant: partition };
  }
  const prefix = serviceKekName('');
  if (name.startsWith(prefix)) {
    checkKeyName(name.slice(prefix.length));
    return { name, level: 3, tenant: partition };
  }
  throw new DekdError(
    'INVALID_ARGUMENT',
    'names that begin with a dot are of KEKs: .l3/SERVICE, and with partition TENANT also .l2/TENANT',
  );
}
