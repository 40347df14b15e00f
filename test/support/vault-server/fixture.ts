import { onTestFinished } from 'vitest';
import type { VaultClient } from '../../../src/vault/client.ts';
import { type ConnectionOptions, VaultConnection } from '../../../src/vault/connection.ts';
import { openVaultClient } from '../../../src/vault/open-client.ts';
import type { VaultSettings } from '../../../src/vault/settings.ts';
import type { Policy } from './policies.ts';
import { type StandInOptions, StandInVault } from './server.ts';
import type { TokenOptions } from './tokens.ts';
import { TransitEngine } from './transit.ts';

/** The least that dekd needs of a Transit key, as docs/keys.md has it. */
export function transitPolicy(key: string, mount = 'transit'): Policy {
  return {
    [`${mount}/keys/${key}`]: ['read'],
    [`${mount}/encrypt/${key}`]: ['update'],
    [`${mount}/decrypt/${key}`]: ['update'],
    [`${mount}/rewrap/${key}`]: ['update'],
    [`${mount}/datakey/plaintext/${key}`]: ['update'],
  };
}

/** A stand-in Vault with one Transit key `root` and the policy `dekd` for it; stopped when the test ends. */
export async function startVault(
  options: StandInOptions = {},
): Promise<{ vault: StandInVault; transit: TransitEngine }> {
  const vault = await StandInVault.start(options);
  onTestFinished(() => vault.stop());
  const transit = new TransitEngine(options);
  vault.mount('transit', transit);
  transit.create('root');
  vault.policies.set('dekd', transitPolicy('root'));
  return { vault, transit };
}

/** Settings that log in with VAULT_TOKEN unless `changes` says otherwise. */
export function settingsFor(address: string, changes: Partial<VaultSettings> = {}): VaultSettings {
  return {
    address,
    namespace: undefined,
    caFile: undefined,
    serverName: undefined,
    timeout: 3000,
    retries: 0,
    connections: 8,
    idleTimeout: 30_000,
    auth: { method: 'token', tokenFile: undefined },
    ...changes,
  };
}

/** A token of `vault` with the policy `dekd`. */
export function tokenOf(vault: StandInVault, options: Partial<TokenOptions> = {}): string {
  return vault.tokens.issue({ policies: ['default', 'dekd'], ttl: 3600, ...options }).id;
}

/** A client of its own, closed when the test ends. */
export async function clientOf(settings: VaultSettings, options: ConnectionOptions = {}): Promise<VaultClient> {
  const client = await openVaultClient(settings, options);
  onTestFinished(() => client.close());
  return client;
}

/** A client with a token of `vault` for VAULT_TOKEN. */
export function tokenClient(
  vault: StandInVault,
  changes: Partial<VaultSettings> = {},
  token: Partial<TokenOptions> = {},
): Promise<VaultClient> {
  return clientOf(settingsFor(vault.address, changes), { environment: { VAULT_TOKEN: tokenOf(vault, token) } });
}

/** A connection that nothing shares, closed when the test ends. */
export async function connectionOf(settings: VaultSettings, options: ConnectionOptions = {}): Promise<VaultConnection> {
  const connection = await VaultConnection.open(settings, options);
  onTestFinished(() => connection.close(false));
  return connection;
}
