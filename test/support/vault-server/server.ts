/**
 * A stand-in for Vault and OpenBao, for tests: no server of theirs can be installed here. It enforces what they enforce
 * towards a client (tokens and their leases, policies with create apart from update, namespaces, wrapping, sealing), as far
 * as dekd's client meets it, and can be told to misbehave. It is not their code, and what it accepts proves nothing
 * about a real server: the same tests run against one where DEKD_TEST_VAULT_ADDR is set.
 */
import { randomUUID } from 'node:crypto';
import { createServer as createHttpServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { type Engine, type EngineReply, type EngineRequest, failed, noContent, type Operation, ok } from './engine.ts';
import { allows, DEFAULT_POLICY, type Policy } from './policies.ts';
import { type Token, TokenStore } from './tokens.ts';

/** What a node answers to `sys/health`, and to everything else. */
export type NodeState = 'active' | 'standby' | 'secondary' | 'performance-standby' | 'sealed' | 'uninitialized';

const HEALTH_STATUS: Readonly<Record<NodeState, number>> = {
  active: 200,
  standby: 429,
  secondary: 472,
  'performance-standby': 473,
  sealed: 503,
  uninitialized: 501,
};

/** A request as it arrived. */
export interface SeenRequest {
  readonly method: string;
  /** Without `/v1/` and query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
  /** Of the connection that it came by; equal for two requests on one connection. */
  readonly connection: number;
}

/** How one request goes wrong. */
export type Misbehaviour =
  | { readonly kind: 'answer'; readonly reply: EngineReply }
  /** Sends `body` as it is. */
  | { readonly kind: 'raw'; readonly status: number; readonly body: string; readonly headers?: Record<string, string> }
  /** Takes the request and never answers. */
  | { readonly kind: 'hang' }
  /** Handles the request as usual, and answers late. */
  | { readonly kind: 'slow'; readonly ms: number }
  /** Handles the request, sends half of an answer and ends the connection. */
  | { readonly kind: 'half-close' }
  /** Resets the connection before handling anything. */
  | { readonly kind: 'reset' }
  /** Handles the request and resets the connection instead of answering. */
  | { readonly kind: 'lost-answer' };

interface Fault {
  readonly path: string | RegExp;
  readonly misbehaviour: Misbehaviour;
  left: number;
}

export interface StandInOptions {
  readonly product?: 'vault' | 'openbao';
  readonly tls?: { readonly key: string; readonly cert: string };
  /** Bytes of a request body; beyond it is 413. */
  readonly maxRequestSize?: number;
  /** Milliseconds that an idle connection is kept open. */
  readonly keepAliveMs?: number;
}

interface Wrapped {
  readonly body: Record<string, unknown>;
  readonly expiresAt: number;
  readonly creationPath: string;
}

export class StandInVault {
  readonly product: 'vault' | 'openbao';
  /** Secrets engines and auth methods (`auth/approle`) by mount, which begins with the namespace where there is one. */
  readonly engines = new Map<string, Engine>();
  /** Policies by name, which begins with `NAMESPACE/` where there is one. */
  readonly policies = new Map<string, Policy>([['default', DEFAULT_POLICY]]);
  readonly tokens: TokenStore;
  readonly requests: SeenRequest[] = [];
  readonly rootToken: string;
  state: NodeState = 'active';
  handshakes = 0;
  /** Largest number of connections open at the same time. */
  peakConnections = 0;
  readonly #server: Server;
  readonly #secure: boolean;
  readonly #maxRequestSize: number;
  readonly #sockets = new Map<Socket, number>();
  readonly #wrapped = new Map<string, Wrapped>();
  readonly #faults: Fault[] = [];
  #offsetMs = 0;
  #connections = 0;

  private constructor(options: StandInOptions) {
    this.product = options.product ?? 'vault';
    this.#maxRequestSize = options.maxRequestSize ?? 32 * 1024 * 1024;
    this.tokens = new TokenStore(() => this.now());
    this.rootToken = this.tokens.issue({ policies: ['root'], ttl: 0 }).id;
    this.#secure = options.tls !== undefined;
    const listener = (request: IncomingMessage, response: ServerResponse) => this.#receive(request, response);
    this.#server = options.tls === undefined ? createHttpServer(listener) : createHttpsServer(options.tls, listener);
    this.#server.keepAliveTimeout = options.keepAliveMs ?? 60_000;
    this.#server.on(this.#secure ? 'secureConnection' : 'connection', (socket: Socket | TLSSocket) => {
      this.handshakes += 1;
      this.#sockets.set(socket, ++this.#connections);
      this.peakConnections = Math.max(this.peakConnections, this.#sockets.size);
      socket.on('error', () => {});
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  static async start(options: StandInOptions = {}): Promise<StandInVault> {
    const vault = new StandInVault(options);
    await new Promise<void>((resolve) => vault.#server.listen(0, '127.0.0.1', resolve));
    return vault;
  }

  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets.keys()) {
      socket.destroy();
    }
    await closed;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get address(): string {
    return `${this.#secure ? 'https' : 'http'}://127.0.0.1:${this.port}`;
  }

  get openConnections(): number {
    return this.#sockets.size;
  }

  /** Milliseconds on the clock that leases are measured by. */
  now(): number {
    return Date.now() + this.#offsetMs;
  }

  /** Lets time pass for leases. */
  advance(ms: number): void {
    this.#offsetMs += ms;
  }

  mount(path: string, engine: Engine): void {
    this.engines.set(path, engine);
  }

  /** The next `times` requests whose path equals or matches `path` go wrong. */
  misbehave(path: string | RegExp, misbehaviour: Misbehaviour, times = 1): void {
    this.#faults.push({ path, misbehaviour, left: times });
  }

  /** Requests seen at a path, or at those that match. */
  seen(path: string | RegExp): SeenRequest[] {
    return this.requests.filter((request) => isAt(request.path, path));
  }

  /** Puts the answer `body` into a single-use wrapping token. */
  wrap(body: Record<string, unknown>, ttlSeconds: number, creationPath: string): string {
    const id = `hvs.wrap${randomUUID().replaceAll('-', '')}`;
    this.#wrapped.set(id, { body, expiresAt: this.now() + ttlSeconds * 1000, creationPath });
    return id;
  }

  #receive(request: IncomingMessage, response: ServerResponse): void {
    const chunks: Buffer[] = [];
    let size = 0;
    request.on('error', () => {});
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= this.#maxRequestSize) {
        chunks.push(chunk);
      }
    });
    request.on('end', () => {
      const url = new URL(request.url ?? '/', 'http://stand-in');
      const seen: SeenRequest = {
        method: request.method ?? '',
        path: url.pathname.replace(/^\/v1\//, ''),
        query: url.searchParams,
        headers: request.headers,
        body: Buffer.concat(chunks).toString(),
        connection: this.#sockets.get(request.socket) ?? 0,
      };
      this.requests.push(seen);
      const act = () =>
        size > this.#maxRequestSize ? failed(413, 'http: request body too large') : this.#answer(seen);
      const fault = this.#faults.find((each) => each.left > 0 && isAt(seen.path, each.path));
      if (fault === undefined) {
        send(response, act());
        return;
      }
      fault.left -= 1;
      this.#misbehave(fault.misbehaviour, request, response, act);
    });
  }

  #misbehave(how: Misbehaviour, request: IncomingMessage, response: ServerResponse, act: () => EngineReply): void {
    switch (how.kind) {
      case 'answer':
        send(response, how.reply);
        return;
      case 'raw':
        response.writeHead(how.status, how.headers);
        response.end(how.body);
        return;
      case 'hang':
        return;
      case 'slow':
        setTimeout(() => send(response, act()), how.ms).unref();
        return;
      case 'half-close': {
        const text = JSON.stringify(act().body ?? {});
        response.writeHead(200, { 'content-type': 'application/json', 'content-length': text.length + 10 });
        response.write(text.slice(0, text.length >> 1), () => request.socket.end());
        return;
      }
      case 'reset':
        request.socket.destroy();
        return;
      case 'lost-answer':
        act();
        request.socket.destroy();
    }
  }

  #answer(seen: SeenRequest): EngineReply {
    if (seen.path === 'sys/health') {
      return this.#health();
    }
    if (seen.headers['x-vault-request'] !== 'true') {
      return failed(412, "missing 'X-Vault-Request' header");
    }
    if (this.state === 'sealed') {
      return failed(503, 'Vault is sealed');
    }
    if (this.state === 'uninitialized') {
      return failed(503, 'Vault is not initialized');
    }
    let body: Record<string, unknown>;
    try {
      body = seen.body === '' ? {} : (JSON.parse(seen.body) as Record<string, unknown>);
    } catch {
      return failed(400, 'failed to parse JSON input');
    }
    const namespace = (seen.headers['x-vault-namespace'] as string | undefined)?.replace(/^\/|\/$/g, '') ?? '';
    const reply = this.#route(seen, body, namespace);
    const wrapTtl = seen.headers['x-vault-wrap-ttl'];
    return typeof wrapTtl === 'string' && reply.status === 200
      ? this.#wrapReply(reply, Number.parseInt(wrapTtl, 10), seen.path)
      : reply;
  }

  #health(): EngineReply {
    return {
      status: HEALTH_STATUS[this.state],
      body: {
        initialized: this.state !== 'uninitialized',
        sealed: this.state === 'sealed' || this.state === 'uninitialized',
        standby: this.state === 'standby',
        performance_standby: this.state === 'performance-standby',
        replication_dr_mode: this.state === 'secondary' ? 'secondary' : 'disabled',
        version: this.product === 'openbao' ? '2.4.1' : '1.20.4',
        cluster_name: 'stand-in',
      },
    };
  }

  #wrapReply(reply: EngineReply, ttl: number, path: string): EngineReply {
    const token = this.wrap({ ...reply.body }, ttl, path);
    return {
      status: 200,
      body: { wrap_info: { token, ttl, creation_time: new Date(this.now()).toISOString(), creation_path: path } },
    };
  }

  #route(seen: SeenRequest, body: Record<string, unknown>, namespace: string): EngineReply {
    const { path } = seen;
    const tokenId = seen.headers['x-vault-token'] as string | undefined;
    if (path === 'sys/wrapping/unwrap') {
      return this.#unwrap(typeof body.token === 'string' ? body.token : tokenId);
    }
    if (path === 'sys/wrapping/lookup') {
      return this.#lookupWrapping(typeof body.token === 'string' ? body.token : tokenId);
    }
    const full = namespace === '' ? path : `${namespace}/${path}`;
    const found = this.#engineOf(full);
    const inner = found === undefined ? '' : full.slice(found.mount.length + 1);
    const operation = operationOf(seen, found?.engine, inner, body);
    let token: Token | undefined;
    if (found?.engine.unauthenticated?.(inner) !== true) {
      token = this.tokens.use(tokenId);
      if (token === undefined || !this.#isAllowed(token, full, operation)) {
        return failed(403, 'permission denied');
      }
    }
    if (path.startsWith('auth/token/')) {
      return this.#tokenStore(path.slice('auth/token/'.length), token!, body);
    }
    if (found === undefined) {
      return failed(404, `no handler for route "${path}". route entry not found.`);
    }
    return found.engine.handle({
      operation,
      method: seen.method,
      path: inner,
      query: seen.query,
      body,
      namespace,
      policies: token?.policies ?? [],
    });
  }

  /** The engine with the longest mount that `full` begins with. */
  #engineOf(full: string): { mount: string; engine: Engine } | undefined {
    let best: { mount: string; engine: Engine } | undefined;
    for (const [mount, engine] of this.engines) {
      if (full.startsWith(`${mount}/`) && mount.length > (best?.mount.length ?? 0)) {
        best = { mount, engine };
      }
    }
    return best;
  }

  #isAllowed(token: Token, full: string, operation: Operation): boolean {
    const prefix = token.namespace === '' ? '' : `${token.namespace}/`;
    if (!full.startsWith(prefix)) {
      return false;
    }
    if (token.policies.includes('root')) {
      return true;
    }
    const policies = token.policies
      .map((name) => this.policies.get(prefix + name) ?? this.policies.get(name))
      .filter((policy) => policy !== undefined);
    return allows(policies, full.slice(prefix.length), operation);
  }

  #tokenStore(path: string, token: Token, body: Record<string, unknown>): EngineReply {
    switch (path) {
      case 'lookup-self':
        return ok({
          id: token.id,
          accessor: token.accessor,
          policies: token.policies,
          type: token.type,
          ttl: this.tokens.remaining(token),
          creation_ttl: token.ttl,
          explicit_max_ttl: token.explicitMaxTtl,
          period: token.period,
          renewable: token.renewable,
          num_uses: token.usesLeft === Number.POSITIVE_INFINITY ? 0 : token.usesLeft,
          expire_time: token.ttl === 0 ? null : new Date(token.expiresAt).toISOString(),
        });
      case 'renew-self': {
        if (!token.renewable) {
          return failed(400, 'lease is not renewable');
        }
        const granted = this.tokens.renew(token, seconds(body.increment));
        return { status: 200, body: { auth: this.tokens.authBlock(token, granted) } };
      }
      case 'revoke-self':
        return this.tokens.revoke(token) ? noContent() : failed(400, 'batch tokens cannot be revoked');
      case 'create': {
        const { policies, ttl, num_uses } = body as { policies?: string[]; ttl?: string; num_uses?: number };
        const made = this.tokens.issue({
          policies: ['default', ...(policies ?? [])],
          ttl: seconds(ttl) ?? 0,
          numUses: num_uses ?? 0,
        });
        return { status: 200, body: { auth: this.tokens.authBlock(made) } };
      }
      default:
        return failed(404, `unsupported path`);
    }
  }

  #unwrap(id: string | undefined): EngineReply {
    const wrapped = this.#liveWrapping(id);
    if (wrapped === undefined) {
      return failed(400, 'wrapping token is not valid or does not exist');
    }
    this.#wrapped.delete(id!);
    return { status: 200, body: wrapped.body };
  }

  #lookupWrapping(id: string | undefined): EngineReply {
    const wrapped = this.#liveWrapping(id);
    return wrapped === undefined
      ? failed(400, 'wrapping token is not valid or does not exist')
      : ok({ creation_path: wrapped.creationPath, creation_ttl: 60 });
  }

  #liveWrapping(id: string | undefined): Wrapped | undefined {
    const wrapped = id === undefined ? undefined : this.#wrapped.get(id);
    return wrapped !== undefined && wrapped.expiresAt > this.now() ? wrapped : undefined;
  }
}

function operationOf(
  seen: SeenRequest,
  engine: Engine | undefined,
  path: string,
  body: Readonly<Record<string, unknown>>,
): Operation {
  switch (seen.method) {
    case 'LIST':
      return 'list';
    case 'GET':
      return seen.query.get('list') === 'true' ? 'list' : 'read';
    case 'DELETE':
      return 'delete';
    case 'PATCH':
      return 'patch';
    default:
      return engine?.exists?.(path, body) === false ? 'create' : 'update';
  }
}

function isAt(path: string, wanted: string | RegExp): boolean {
  return typeof wanted === 'string' ? path === wanted : wanted.test(path);
}

function seconds(value: unknown): number | undefined {
  const parsed = typeof value === 'number' ? value : Number.parseInt(String(value ?? ''), 10);
  return Number.isFinite(parsed) && parsed > 0 ? parsed : undefined;
}

function send(response: ServerResponse, reply: EngineReply): void {
  if (reply.status === 204) {
    response.writeHead(204, reply.headers);
    response.end();
    return;
  }
  // Every answer of a Vault has these fields; an error has `errors` only.
  const body = reply.body?.errors === undefined ? { request_id: randomUUID(), ...reply.body } : reply.body;
  const text = JSON.stringify(body);
  response.writeHead(reply.status, { 'content-type': 'application/json', ...reply.headers });
  response.end(text);
}

export type { Engine, EngineReply, EngineRequest };
