import { createHash } from 'node:crypto';
import type { VaultSettings } from '../config/config.ts';

export type { VaultAuth, VaultSettings } from '../config/config.ts';

/** Equal for equal settings, whatever the order of their fields: what clients and kept sessions are told apart by. */
export function settingsKey(settings: VaultSettings): string {
  return createHash('sha256').update(canonical(settings)).digest('hex');
}

function canonical(value: unknown): string {
  if (typeof value !== 'object' || value === null) {
    return JSON.stringify(value) ?? 'null';
  }
  const fields = Object.entries(value)
    .filter(([, field]) => field !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${fields.map(([name, field]) => `${JSON.stringify(name)}:${canonical(field)}`).join()}}`;
}
