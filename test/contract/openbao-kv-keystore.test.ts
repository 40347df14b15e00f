import { randomUUID } from 'node:crypto';
import { OpenbaoKvKeystore } from '../../src/keystores/openbao-kv.ts';
import { openVaultClient } from '../../src/vault/open-client.ts';
import { settingsFor } from '../support/vault-server/fixture.ts';
import { KvPlace } from '../support/vault-server/kv-place.ts';
import { keystoreContract } from './keystore.contract.ts';

for (const product of ['vault', 'openbao'] as const) {
  keystoreContract(`openbao-kv (${product})`, async () => {
    const place = await KvPlace.start(product);
    return {
      keystore: await place.open(),
      reopen: () => place.open(),
      dump: async () => Buffer.from(place.engine.dump()),
      cleanUp: () => place.stop(),
    };
  });
}

const { DEKD_TEST_VAULT_ADDR: address, DEKD_TEST_VAULT_TOKEN: token, DEKD_TEST_VAULT_KV: mount } = process.env;

// A real server, with a mount of version 2. What a run leaves lies below a prefix of its own.
if (address !== undefined && token !== undefined) {
  keystoreContract('openbao-kv (live)', async () => {
    const kv = { mount: mount ?? 'secret', prefix: `dekd-test/${randomUUID()}` };
    const open = async () => {
      const client = await openVaultClient(settingsFor(address), { environment: { VAULT_TOKEN: token } });
      return OpenbaoKvKeystore.open({ client, kv });
    };
    return { keystore: await open(), reopen: open, cleanUp: async () => undefined };
  });
}
