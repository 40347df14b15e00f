import { randomBytes } from 'node:crypto';
import { OpenbaoKvKeystore } from '../../../src/keystores/openbao-kv.ts';
import type { VaultClient } from '../../../src/vault/client.ts';
import { openVaultClient } from '../../../src/vault/open-client.ts';
import type { VaultSettings } from '../../../src/vault/settings.ts';
import { settingsFor, tokenOf } from './fixture.ts';
import { kvPolicy, StandInKv } from './kv.ts';
import { StandInVault } from './server.ts';

/** Milliseconds: a writer that is dead is waited for that long. */
const GRACE_MS = 25;

/** A prefix in a stand-in's key-value engine, with a token that may do there what dekd needs and nothing else. */
export class KvPlace {
  readonly kv = { mount: 'secret', prefix: 'dekd' };
  readonly vault: StandInVault;
  readonly engine: StandInKv;
  readonly #settings: VaultSettings;
  readonly #environment: NodeJS.ProcessEnv;

  private constructor(vault: StandInVault, engine: StandInKv) {
    this.vault = vault;
    this.engine = engine;
    vault.mount('secret', engine);
    vault.policies.set('dekd', kvPolicy());
    // A pool of its own for each place.
    this.#settings = settingsFor(vault.address, { idleTimeout: 10_000 + randomBytes(2).readUInt16BE() });
    this.#environment = { VAULT_TOKEN: tokenOf(vault) };
  }

  static async start(product: 'vault' | 'openbao'): Promise<KvPlace> {
    const vault = await StandInVault.start({ product });
    return new KvPlace(vault, new StandInKv({ product, now: () => vault.now() }));
  }

  client(changes: Partial<VaultSettings> = {}): Promise<VaultClient> {
    return openVaultClient({ ...this.#settings, ...changes }, { environment: this.#environment });
  }

  async open(client?: VaultClient, graceMs = GRACE_MS): Promise<OpenbaoKvKeystore> {
    return OpenbaoKvKeystore.open({ client: client ?? (await this.client()), kv: this.kv, graceMs });
  }

  stop(): Promise<void> {
    return this.vault.stop();
  }
}
