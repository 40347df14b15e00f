import { isVaultName, isVaultPath } from '../../vault/vault-path.ts';

const KIND = 'vault-transit:';

/** Where a Transit key is. */
export interface TransitKeyId {
  /** Empty for the root namespace. */
  readonly namespace: string;
  readonly mount: string;
  readonly key: string;
}

/**
 * `vault-transit:MOUNT/KEY`, or `vault-transit:NAMESPACE:MOUNT/KEY`. It does not name a server: an address changes when a
 * cluster moves, and the root in the configuration says which one it is.
 */
export function formatKeyId({ namespace, mount, key }: TransitKeyId): string {
  return `${KIND}${namespace === '' ? '' : `${namespace}:`}${mount}/${key}`;
}

/** Undefined for what is no id of a Transit key. */
export function parseKeyId(id: string): TransitKeyId | undefined {
  if (!id.startsWith(KIND)) {
    return undefined;
  }
  const parts = id.slice(KIND.length).split(':');
  const [namespace, path] = parts.length === 2 ? [parts[0]!, parts[1]!] : ['', parts[0]!];
  const slash = path.lastIndexOf('/');
  const [mount, key] = [path.slice(0, Math.max(0, slash)), path.slice(slash + 1)];
  const sound = parts.length <= 2 && (parts.length === 1 || isVaultPath(namespace));
  return sound && isVaultPath(mount) && isVaultName(key) ? { namespace, mount, key } : undefined;
}
