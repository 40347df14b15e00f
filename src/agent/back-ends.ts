/** The keystore and the custody that a configuration names; what is not named is not loaded. */
import type { Config, KeystoreConfig } from '../config/config.ts';
import type { Engine } from '../crypto/engine.ts';
import type { Custody } from '../custody/custody.ts';
import { InlineCustody } from '../custody/inline.ts';
import type { Keystore } from '../keystores/keystore.ts';

/** @throws as the keystore and the providers do, with the remedy */
export async function openCustody(config: Config, engine: Engine, warn: (warning: string) => void): Promise<Custody> {
  const keystore = await openKeystore(config.keystore);
  try {
    return await InlineCustody.open({
      engine,
      keystore,
      roots: config.roots.map(({ provider, keyDescriptor, ...root }) => ({
        ...root,
        kind: provider,
        keyFd: keyDescriptor,
      })),
      defaultRoot: config.defaultRoot,
      warn,
    });
  } catch (error) {
    await keystore.close();
    throw error;
  }
}

async function openKeystore({ kind, path }: KeystoreConfig): Promise<Keystore> {
  switch (kind) {
    case 'memory': {
      const { MemoryKeystore } = await import('../keystores/memory.ts');
      return new MemoryKeystore();
    }
    case 'sqlite': {
      const { SqliteKeystore } = await import('../keystores/sqlite.ts');
      return SqliteKeystore.open({ path: path! });
    }
    case 'bundle': {
      const { BundleKeystore } = await import('../keystores/bundle.ts');
      return BundleKeystore.open({ path: path! });
    }
  }
}
