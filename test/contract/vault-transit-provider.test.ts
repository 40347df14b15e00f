import { NodeEngine } from '../../src/crypto/node.ts';
import { InlineHandleProvider } from '../../src/custody/inline-provider.ts';
import { VaultTransitProvider } from '../../src/providers/vault-transit.ts';
import { openVaultClient } from '../../src/vault/open-client.ts';
import { settingsFor, tokenOf, transitPolicy } from '../support/vault-server/fixture.ts';
import { StandInVault } from '../support/vault-server/server.ts';
import { TransitEngine } from '../support/vault-server/transit.ts';
import { providerContract } from './provider.contract.ts';

for (const product of ['vault', 'openbao'] as const) {
  providerContract(`vault-transit (${product})`, async () => {
    const vault = await StandInVault.start({ product });
    const transit = new TransitEngine({ product });
    vault.mount('transit', transit);
    const engine = new NodeEngine();
    // Each with a token for its own key only: Vault is where one root is kept from another.
    const open = async (key: string) => {
      transit.create(key);
      vault.policies.set(key, transitPolicy(key));
      const VAULT_TOKEN = tokenOf(vault, { policies: ['default', key] });
      // Another number of connections each, so that they share nothing.
      const settings = settingsFor(vault.address, { connections: 4 + transit.keys.size });
      const client = await openVaultClient(settings, { environment: { VAULT_TOKEN } });
      return new InlineHandleProvider(new VaultTransitProvider('vault', { mount: 'transit', key }, client), engine);
    };
    return {
      engine,
      provider: await open('first'),
      other: await open('second'),
      cleanUp: async () => {
        engine.close();
        await vault.stop();
      },
    };
  });
}
