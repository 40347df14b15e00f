import { readFileSync } from 'node:fs';
import {
  type ClientRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
  Agent as PlainAgent,
  request,
} from 'node:http';
import { Agent as SecureAgent, request as secureRequest } from 'node:https';
import { isLoopback } from '../loopback.ts';
import { currentTraceparent } from '../trace.ts';
import type { VaultSettings } from './settings.ts';
import { VaultError } from './vault-error.ts';
import { isVaultPath } from './vault-path.ts';

/** What node-vault hands over for one request. */
export interface WireRequest {
  readonly method: string;
  readonly uri: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly json?: unknown;
  readonly signal: AbortSignal;
}

export interface WireReply {
  readonly statusCode: number;
  /** The parsed body; undefined when there was none, or none that is JSON. */
  readonly body: unknown;
  readonly headers: IncomingHttpHeaders;
}

/** Answers are key records and lists; more than this is not a Vault. */
const MAX_REPLY_BYTES = 32 * 1024 * 1024;

/**
 * The connections to one address: kept alive, bounded in number, dropped when idle. It follows no redirect, asks no proxy
 * of the environment and verifies every certificate, whatever NODE_TLS_REJECT_UNAUTHORIZED or VAULT_SKIP_VERIFY say.
 */
export class Transport {
  /** Without a slash at the end. */
  readonly endpoint: string;
  /** Host and port, for messages. */
  readonly place: string;
  readonly #agent: PlainAgent | SecureAgent;
  readonly #send: (url: string, options: Record<string, unknown>) => ClientRequest;

  /** @throws CONFIG naming the setting and the remedy. */
  constructor(settings: VaultSettings) {
    const url = parseAddress(settings.address);
    this.endpoint = `${url.origin}${url.pathname.replace(/\/+$/, '')}`;
    this.place = url.host;
    const pool = {
      keepAlive: true,
      maxSockets: settings.connections,
      maxFreeSockets: settings.connections,
      // Of a socket that lies free; one in use is under the deadline of its request.
      timeout: settings.idleTimeout,
      scheduling: 'lifo' as const,
    };
    if (url.protocol === 'http:') {
      this.#agent = new PlainAgent(pool);
      this.#send = request;
    } else {
      this.#agent = new SecureAgent({
        ...pool,
        ...(settings.caFile === undefined ? {} : { ca: readAuthorities(settings.caFile) }),
        ...(settings.serverName === undefined ? {} : { servername: settings.serverName }),
        rejectUnauthorized: true,
        minVersion: 'TLSv1.2',
      });
      this.#send = secureRequest;
    }
  }

  /** @throws UNAVAILABLE, TIMEOUT or CANCELLED; every status is an answer. */
  send(wire: WireRequest): Promise<WireReply> {
    return new Promise((resolve, reject) => {
      const traceparent = currentTraceparent();
      const headers = traceparent === undefined ? wire.headers : { ...wire.headers, traceparent };
      const body = wire.json === undefined ? undefined : Buffer.from(JSON.stringify(wire.json));
      const outgoing = this.#send(wire.uri, {
        method: wire.method,
        agent: this.#agent,
        signal: wire.signal,
        headers:
          body === undefined
            ? headers
            : { 'content-type': 'application/json', ...headers, 'content-length': body.length },
      });
      const fail = (error: unknown) => reject(this.#failure(error, wire.signal));
      // By itself a request that waits for a connection hears of an abort only when it gets one.
      const abort = () => reject(abortError(wire.signal, this.place));
      wire.signal.addEventListener('abort', abort, { once: true });
      outgoing.on('close', () => wire.signal.removeEventListener('abort', abort));
      outgoing.on('error', fail);
      outgoing.on('response', (incoming) => {
        readBody(incoming).then((text) => resolve(reply(incoming, text)), fail);
      });
      outgoing.end(body);
    });
  }

  close(): void {
    this.#agent.destroy();
  }

  #failure(error: unknown, signal: AbortSignal): VaultError {
    if (signal.aborted) {
      return abortError(signal, this.place);
    }
    const { code, syscall } = error as NodeJS.ErrnoException;
    const reason = code ?? 'broken';
    if (/CERT|ERR_TLS|UNABLE_TO|SELF_SIGNED|ISSUER/.test(reason)) {
      return new VaultError(
        'UNAVAILABLE',
        `the certificate of ${this.place} is not trusted (${reason}): set caFile to its authority, serverName to its name`,
        { cause: error },
      );
    }
    // A connection that was never made carried nothing.
    const ambiguous = syscall !== 'connect' && syscall !== 'getaddrinfo';
    const what = ambiguous ? 'the connection broke before an answer' : 'no connection';
    return new VaultError('UNAVAILABLE', `${this.place}: ${what} (${reason})`, { cause: error, ambiguous });
  }
}

/** What an aborted signal means: TIMEOUT for a deadline, else CANCELLED. */
export function abortError(signal: AbortSignal, place: string): VaultError {
  return (signal.reason as Error | undefined)?.name === 'TimeoutError'
    ? new VaultError('TIMEOUT', `${place} did not answer in time`, { ambiguous: true })
    : new VaultError('CANCELLED', `the call to ${place} was cancelled`, { ambiguous: true });
}

function parseAddress(address: string): URL {
  const url = URL.parse(address);
  if (url === null || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    throw new VaultError('CONFIG', 'address must be an https:// URL');
  }
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
    throw new VaultError('CONFIG', 'address must be scheme, host, port and path only: credentials belong into auth');
  }
  const path = url.pathname.replace(/^\/|\/+$/g, '');
  if (path !== '' && !isVaultPath(path)) {
    throw new VaultError('CONFIG', 'address has a path that is not letters, digits, "_", "." and "-" between slashes');
  }
  if (url.protocol === 'http:' && !isLoopback(url.hostname)) {
    throw new VaultError(
      'CONFIG',
      'address must be https://: http:// would show every token, and is for loopback only',
    );
  }
  return url;
}

function readAuthorities(caFile: string): string {
  let text: string;
  try {
    text = readFileSync(caFile, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new VaultError('CONFIG', `caFile ${caFile} cannot be read (${code})`, { cause: error });
  }
  if (!text.includes('-----BEGIN CERTIFICATE-----')) {
    throw new VaultError('CONFIG', `caFile ${caFile} holds no certificate in PEM form`);
  }
  return text;
}

async function readBody(incoming: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_REPLY_BYTES) {
      throw Object.assign(new Error('reply too long'), { code: 'REPLY_TOO_LONG' });
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function reply(incoming: IncomingMessage, text: string): WireReply {
  let body: unknown;
  try {
    body = text === '' ? undefined : JSON.parse(text);
  } catch {
    // A page of a proxy: its status says enough.
    body = undefined;
  }
  return { statusCode: incoming.statusCode ?? 0, body, headers: incoming.headers };
}
