import { createHash } from 'node:crypto';

/** How a Vault or OpenBao is logged in to. Files are read again at every login. */
export type VaultAuth =
  | {
      readonly method: 'token';
      /** Else VAULT_TOKEN. */
      readonly tokenFile: string | undefined;
    }
  | {
      readonly method: 'approle';
      readonly mount: string;
      /** Exactly one of the two. */
      readonly roleId: string | undefined;
      readonly roleIdFile: string | undefined;
      /** Else `secretIdAws`, else VAULT_SECRET_ID. */
      readonly secretIdFile: string | undefined;
      /** File or variable hold a response-wrapping token with the secret id in it. */
      readonly secretIdWrapped: boolean;
      /** Name or ARN of the secret in AWS Secrets Manager that holds the secret id. */
      readonly secretIdAws: string | undefined;
    }
  | {
      readonly method: 'kubernetes' | 'jwt';
      readonly mount: string;
      readonly role: string;
      readonly jwtFile: string;
    };

export interface VaultSettings {
  /** https://…, or http:// to a loopback address; may have a path. */
  readonly address: string;
  readonly namespace: string | undefined;
  /** PEM file with the only authorities trusted; undefined: those of the system. */
  readonly caFile: string | undefined;
  /** Name that the certificate must have, where it is not that of the address. */
  readonly serverName: string | undefined;
  /** Milliseconds for one call: login, waiting for a connection and attempts together. */
  readonly timeout: number;
  /** Attempts after the first; 0 is exactly one request. */
  readonly retries: number;
  /** Connections at once. */
  readonly connections: number;
  /** Milliseconds that an unused connection is kept. */
  readonly idleTimeout: number;
  readonly auth: VaultAuth;
}

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
