import type { IncomingHttpHeaders } from 'node:http';
import type { VaultSettings } from './settings.ts';

export type VaultMethod = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE' | 'LIST';

export interface VaultRequestOptions {
  /** Cancels the call, on top of the time-out of the settings: TIMEOUT for a TimeoutError, else CANCELLED. */
  readonly signal?: AbortSignal | undefined;
  /** Instead of the namespace of the settings; empty for none. */
  readonly namespace?: string | undefined;
  /** Asks for the answer inside a response-wrapping token that lives this long (`60s`). */
  readonly wrapTtl?: string | undefined;
  readonly query?: Readonly<Record<string, string>> | undefined;
  /** Statuses outside 2xx that are answers to this request and no failures. */
  readonly accept?: readonly number[] | undefined;
  /** Sends again only what cannot have taken effect: for a write that must not happen twice. */
  readonly once?: boolean | undefined;
}

export interface VaultResponse {
  readonly status: number;
  /** The parsed body as it came (Vault puts its own `data` inside); undefined when there was none. */
  readonly data: unknown;
  readonly headers: IncomingHttpHeaders;
}

export interface VaultHealth {
  readonly initialized: boolean;
  readonly sealed: boolean;
  /** The answering node forwards to the active one. */
  readonly standby: boolean;
  /** The answering cluster is a disaster-recovery secondary, which serves nothing. */
  readonly secondary: boolean;
}

/** A login that outlives the process: token and lease, serialised. Secret. */
export type VaultSession = Uint8Array;

/**
 * Logged-in requests to one Vault or OpenBao. Clients with equal settings share connections and login.
 *
 * Every method throws VaultError and nothing else.
 */
export interface VaultClient {
  readonly settings: VaultSettings;
  /**
   * Sends `body` as JSON. `path` is what follows `/v1/`; each of its segments is letters, digits, `_`, `.` and `-`, so
   * that no name can change its meaning on the way: whoever has other names encodes them first.
   */
  request(method: VaultMethod, path: string, body?: unknown, options?: VaultRequestOptions): Promise<VaultResponse>;
  /** What `sys/health` says, whatever status it says it with. Needs no login. */
  health(signal?: AbortSignal): Promise<VaultHealth>;
  /** Logins made so far by all clients that share this one. */
  readonly logins: number;
  /** Closes connections when no other client shares them, and revokes a token that was logged in for. */
  close(): Promise<void>;
  /** As `close`, and leaves the token valid for whoever goes on with the session that its keeper has. */
  closeKeepingSession(): Promise<void>;
}
