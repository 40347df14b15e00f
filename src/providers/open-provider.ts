/** The provider that a configuration names; the library of no other is loaded. */
import type { ServiceRootConfig } from '../config/config.ts';
import type { Provider } from './provider.ts';
import type { SessionKeeper } from './session-keeper.ts';

/**
 * @param keeper keeps a login from one process to the next
 * @throws ProviderError CONFIG with the remedy when its library is missing or its settings cannot be
 */
export async function openProvider(root: ServiceRootConfig, keeper: SessionKeeper): Promise<Provider> {
  const { name, provider } = root;
  switch (provider) {
    case 'aws-kms': {
      const { openAwsKms } = await import('./aws-kms.ts');
      return openAwsKms(name, root.aws);
    }
    case 'vault-transit': {
      const { openVaultTransit } = await import('./vault-transit.ts');
      return openVaultTransit(name, { ...root.vault, ...root.transit }, keeper);
    }
    case 'pkcs11': {
      const { openPkcs11 } = await import('./pkcs11.ts');
      return openPkcs11(name, root.pkcs11, keeper);
    }
  }
}
