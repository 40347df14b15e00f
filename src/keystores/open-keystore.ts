/** The keystore that a configuration names; the driver of no other is loaded. */
import type { KeystoreConfig } from '../config/config.ts';
import type { SessionKeeper } from '../providers/session-keeper.ts';
import type { Keystore } from './keystore.ts';

/**
 * @param keeper keeps a login from one process to the next; without it, closing ends the login
 * @param identity of the store that was opened before under this configuration; another one is refused
 * @throws DekdError as each keystore says, with the remedy
 */
export async function openKeystore(
  config: KeystoreConfig,
  keeper?: SessionKeeper,
  identity?: string,
): Promise<Keystore> {
  switch (config.kind) {
    case 'memory': {
      const { MemoryKeystore } = await import('./memory.ts');
      return new MemoryKeystore();
    }
    case 'sqlite': {
      const { SqliteKeystore } = await import('./sqlite.ts');
      return SqliteKeystore.open({ path: config.path! });
    }
    case 'bundle': {
      const { BundleKeystore } = await import('./bundle.ts');
      return BundleKeystore.open({ path: config.path! });
    }
    case 'postgres': {
      const { PostgresKeystore } = await import('./postgres.ts');
      return PostgresKeystore.open(config.postgres, { identity });
    }
    case 'openbao-kv': {
      const { openOpenbaoKv } = await import('./openbao-kv.ts');
      return openOpenbaoKv(config.vault, config.kv, keeper);
    }
  }
}
