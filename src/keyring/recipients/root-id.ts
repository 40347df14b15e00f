import type { Root } from '../../custody/custody.ts';
import type { RootReference } from '../../providers/provider.ts';

/** Whether a provider info is the id of the root's key: as it is now, or one that configuration or provider vouch for. */
export function hasId(root: Root, providerInfo: Uint8Array): boolean {
  const id = Buffer.from(providerInfo).toString('utf8');
  return id === root.description.resolvedId || root.earlierIds().includes(id);
}

/** What the root is asked to unwrap with: the key that wrapped, which `hasId` has looked at. */
export function referenceTo(root: Root, providerInfo: Uint8Array): RootReference {
  return { root: root.name, resolvedId: Buffer.from(providerInfo).toString('utf8'), materialVersion: '' };
}
