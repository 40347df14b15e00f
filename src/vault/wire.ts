import type { VaultMethod, VaultResponse } from './client.ts';
import { statusFailure } from './failure.ts';
import type { VaultSettings } from './settings.ts';
import { abortError, Transport, type WireReply, type WireRequest } from './transport.ts';
import { VaultError } from './vault-error.ts';

/** One request as it goes out, once. */
export interface WireCall {
  readonly method: VaultMethod;
  /** What follows `/v1/`; the caller has checked that it is a path. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string>> | undefined;
  readonly body?: unknown;
  readonly token?: string | undefined;
  /** Undefined or empty: none. */
  readonly namespace?: string | undefined;
  readonly wrapTtl?: string | undefined;
  /** Statuses outside 2xx that are answers. */
  readonly accept?: readonly number[] | undefined;
  readonly signal: AbortSignal;
}

/** What of node-vault is used: its `request`, over connections and with an answer handler of our own. */
interface NodeVaultClient {
  token: string;
  namespace: string;
  pathPrefix: string;
  handleVaultResponse(reply: unknown): unknown;
  request(options: object): Promise<unknown>;
}

type OpenNodeVault = (options: object) => NodeVaultClient;

/**
 * Requests to a Vault through node-vault, each of them once.
 *
 * Of node-vault 0.12 this keeps what builds a request, and takes the hooks it has for the rest, because by itself it waits
 * for ever, follows redirects with the token in hand, shakes hands anew for each request with an own authority, escapes
 * names for HTML, prints bodies under DEBUG, keeps one reason of several, drops the headers of an answer and takes token,
 * namespace and path prefix from the environment.
 */
export class Wire {
  /** Host and port, for messages. */
  readonly place: string;
  readonly #transport: Transport;
  readonly #vault: NodeVaultClient;

  private constructor(transport: Transport, open: OpenNodeVault) {
    this.place = transport.place;
    this.#transport = transport;
    this.#vault = open({
      endpoint: transport.endpoint,
      apiVersion: 'v1',
      'request-promise': { defaults: () => (options: WireRequest) => transport.send(options) },
      debug: () => {},
      // None of its commands: they render paths as HTML templates.
      commands: {},
    });
    // Its constructor takes these from VAULT_TOKEN, VAULT_NAMESPACE and VAULT_PREFIX; here each request says its own.
    this.#vault.token = '';
    this.#vault.namespace = '';
    this.#vault.pathPrefix = '';
    this.#vault.handleVaultResponse = (reply) => reply;
  }

  /** @throws CONFIG when a setting is wrong. */
  static async open(settings: VaultSettings): Promise<Wire> {
    const transport = new Transport(settings);
    const { default: open } = (await import('node-vault')) as unknown as { default: OpenNodeVault };
    return new Wire(transport, open);
  }

  /** @throws VaultError for everything but a 2xx and what `accept` names. */
  async send(call: WireCall): Promise<VaultResponse> {
    if (call.signal.aborted) {
      throw abortError(call.signal, this.place);
    }
    const reply = (await this.#vault.request({
      // Vault takes both; proxies, and the parser of Node itself, know of no LIST.
      method: call.method === 'LIST' ? 'GET' : call.method,
      path: `/${call.path}${queryOf(call.method === 'LIST' ? { ...call.query, list: 'true' } : call.query)}`,
      // A fresh object each time: node-vault writes into it.
      headers: headersOf(call),
      ...(call.body === undefined ? {} : { json: call.body }),
      signal: call.signal,
    })) as WireReply;
    const { statusCode: status, body: data, headers } = reply;
    if (status >= 200 && status < 300) {
      if (data === undefined && status !== 204) {
        throw new VaultError('UNAVAILABLE', `${this.place} answered ${status} with what is no JSON`, {
          status,
          ambiguous: true,
        });
      }
      return { status, data, headers };
    }
    if (call.accept?.includes(status) === true) {
      return { status, data, headers };
    }
    throw statusFailure(this.place, reply);
  }

  close(): void {
    this.#transport.close();
  }
}

function headersOf({ token, namespace, wrapTtl }: WireCall): Record<string, string> {
  return {
    'X-Vault-Request': 'true',
    ...(token === undefined ? {} : { 'X-Vault-Token': token }),
    ...(namespace === undefined || namespace === '' ? {} : { 'X-Vault-Namespace': namespace }),
    ...(wrapTtl === undefined ? {} : { 'X-Vault-Wrap-TTL': wrapTtl }),
  };
}

function queryOf(query: Readonly<Record<string, string>> | undefined): string {
  return query === undefined ? '' : `?${new URLSearchParams(query)}`;
}
