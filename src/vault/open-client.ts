import type {
  VaultClient,
  VaultHealth,
  VaultMethod,
  VaultRequestOptions,
  VaultResponse,
  VaultSession,
} from './client.ts';
import { type ConnectionOptions, VaultConnection } from './connection.ts';
import { settingsKey, type VaultSettings } from './settings.ts';
import { VaultError } from './vault-error.ts';

interface Shared {
  readonly connection: Promise<VaultConnection>;
  holders: number;
}

/** Connections of this process, by their settings. */
const shared = new Map<string, Shared>();

/**
 * A client for `settings`. Those with equal settings share one login and one pool, which end with the last of them; `resume`
 * and the sources of a login count for the first.
 * @throws VaultError CONFIG with the remedy.
 */
export async function openVaultClient(settings: VaultSettings, options: ConnectionOptions = {}): Promise<VaultClient> {
  const key = settingsKey(settings);
  let entry = shared.get(key);
  if (entry === undefined) {
    entry = { connection: VaultConnection.open(settings, options), holders: 0 };
    shared.set(key, entry);
  }
  entry.holders += 1;
  try {
    return new SharedClient(key, entry, await entry.connection, options.onSession);
  } catch (error) {
    release(key, entry);
    throw error;
  }
}

/** @returns whether nobody holds the connection any more. */
function release(key: string, entry: Shared): boolean {
  entry.holders -= 1;
  if (entry.holders > 0) {
    return false;
  }
  if (shared.get(key) === entry) {
    shared.delete(key);
  }
  return true;
}

class SharedClient implements VaultClient {
  readonly settings: VaultSettings;
  readonly #key: string;
  readonly #entry: Shared;
  readonly #connection: VaultConnection;
  readonly #keep: ((session: VaultSession) => void) | undefined;
  #closed = false;

  constructor(
    key: string,
    entry: Shared,
    connection: VaultConnection,
    keep: ((session: VaultSession) => void) | undefined,
  ) {
    this.settings = connection.settings;
    this.#key = key;
    this.#entry = entry;
    this.#connection = connection;
    this.#keep = keep;
    if (keep !== undefined && !connection.keepers.has(keep)) {
      connection.keepers.add(keep);
      connection.tell([keep]);
    }
  }

  get logins(): number {
    return this.#connection.logins;
  }

  async request(
    method: VaultMethod,
    path: string,
    body?: unknown,
    options?: VaultRequestOptions,
  ): Promise<VaultResponse> {
    this.#checkOpen();
    return this.#connection.request(method, path, body, options);
  }

  async health(signal?: AbortSignal): Promise<VaultHealth> {
    this.#checkOpen();
    return this.#connection.health(signal);
  }

  close(): Promise<void> {
    return this.#close(false);
  }

  closeKeepingSession(): Promise<void> {
    return this.#close(true);
  }

  async #close(keepSession: boolean): Promise<void> {
    if (this.#closed) {
      return;
    }
    this.#closed = true;
    if (release(this.#key, this.#entry)) {
      await this.#connection.close(keepSession);
    } else if (this.#keep !== undefined) {
      if (keepSession) {
        this.#connection.tell([this.#keep]);
      }
      this.#connection.keepers.delete(this.#keep);
    }
  }

  #checkOpen(): void {
    if (this.#closed) {
      throw new VaultError('UNAVAILABLE', 'this client is closed');
    }
  }
}
