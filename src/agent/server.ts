/** The two sockets and everybody connected to them. */
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import type { Config } from '../config/config.ts';
import { laneSocketPath } from '../config/paths.ts';
import { DekdError } from '../errors.ts';
import type { Outcome } from '../operations/environment.ts';
import type { Caller } from '../operations/request.ts';
import type { LivePolicy } from '../policy/live-policy.ts';
import type { Peer } from '../policy/policy.ts';
import { FRAME_ALLOWANCE } from '../protocol/frame.ts';
import type { HelloReplyFields } from '../protocol/messages.ts';
import { ReplyWriter } from '../protocol/reply-writer.ts';
import type { RequestReader } from '../protocol/request-reader.ts';
import type { Counters } from '../telemetry/counters.ts';
import type { Log } from '../telemetry/log.ts';
import { carriedTraceparent } from '../telemetry/trace-context.ts';
import { withTraceparent } from '../trace.ts';
import type { AgentAudit } from './audit.ts';
import type { CallerTokens } from './caller-tokens.ts';
import { Connection, type ConnectionHost, type ConnectionLimits } from './connection.ts';
import type { Dispatcher } from './dispatcher.ts';
import type { Lane } from './lane.ts';
import { LANE_DESCRIPTORS } from './lane-limits.ts';
import { type Listener, listen } from './listener.ts';
import { type PeerCredentials, peerOf } from './peer.ts';
import type { Reporter } from './reporter.ts';

/** Descriptors left for the keystore, the log, libuv and a file or two. */
const RESERVED_DESCRIPTORS = 64;
/** Connections on the admin socket, beside those on the data socket: a full agent must still take commands. */
const ADMIN_CONNECTIONS = 16;
const PATIENCE_INTERVAL_MS = 1_000;
/** Connections that are only told why they are refused, at once. */
const REFUSALS = 64;
/** How long a refused client has to read why. */
const REFUSAL_MS = 1_000;

export interface ServerOptions {
  readonly config: Config;
  readonly policy: LivePolicy;
  readonly tokens: CallerTokens;
  readonly dispatcher: Dispatcher;
  readonly reporter: Reporter;
  readonly counters: Counters;
  /** For what callers can cause, so of limited rate. */
  readonly log: Log;
  readonly hello: HelloReplyFields;
  readonly credentials: PeerCredentials | undefined;
  /** Undefined where there is none. */
  readonly audit: AgentAudit | undefined;
  /** Undefined without the native engine, or where it is switched off. */
  readonly lane: Lane | undefined;
  readonly lock: (fd: number) => boolean | undefined;
  readonly replace: boolean;
}

/** What the sockets have at the moment. */
export interface Traffic {
  /** Requests whose answer is not written yet, and those of them that are streams. */
  readonly inFlight: number;
  readonly streams: number;
  /** Connections on each socket, and how many there may be on that of the data. */
  readonly data: number;
  readonly admin: number;
  readonly limit: number;
}

export class Server {
  readonly #options: ServerOptions;
  readonly #limits: ConnectionLimits;
  readonly #descriptors: number;
  /** What the kernel said of each. */
  readonly #connections = new Map<Connection<Caller>, Peer>();
  readonly #adminHost: ConnectionHost<Caller>;
  readonly #dataHost: ConnectionHost<Caller>;
  #listeners: Listener[] = [];
  #patience: NodeJS.Timeout | undefined;
  #refusals = 0;
  #adminConnections = 0;
  #drained: (() => void) | undefined;

  constructor(options: ServerOptions) {
    this.#options = options;
    options.policy.onReplaced(() => this.#askAgain());
    const { limits } = options.config;
    this.#limits = {
      maxFrame: limits.maxPayload + FRAME_ALLOWANCE,
      // Asked each time: the limits in force change when the configuration is read again.
      get maxInFlight() {
        return limits.maxInFlight;
      },
      get headerTimeoutMs() {
        return limits.headerTimeout;
      },
    };
    const descriptors = descriptorLimit();
    const lane = options.lane === undefined ? 0 : LANE_DESCRIPTORS;
    const reserved = Math.min(RESERVED_DESCRIPTORS + ADMIN_CONNECTIONS + lane, Math.floor(descriptors / 2));
    this.#descriptors = descriptors - reserved;
    this.#dataHost = this.#host((connection, request) => options.dispatcher.handleData(connection, request));
    this.#adminHost = this.#host((connection, request) => options.dispatcher.handleAdmin(connection, request));
  }

  /** Connections there may be: what is configured, or what the limit of open files leaves. */
  get maxConnections(): number {
    return Math.max(1, Math.min(this.#options.config.limits.connections, this.#descriptors));
  }

  traffic(): Traffic {
    let inFlight = 0;
    let streams = 0;
    for (const connection of this.#connections.keys()) {
      inFlight += connection.inFlight;
      streams += connection.streams;
    }
    const admin = this.#adminConnections;
    return { inFlight, streams, data: this.#connections.size - admin, admin, limit: this.maxConnections };
  }

  /**
   * Other rules decide now, about connections that are open too: the next request of each is judged by them. One whose caller is no
   * longer known is closed after what is in flight; an open stream goes on to its end.
   */
  #askAgain(): void {
    for (const [connection, peer] of [...this.#connections]) {
      try {
        connection.caller = this.#options.policy.callerFor(peer);
      } catch {
        connection.end();
      }
    }
  }

  /** Opens every socket; on failure none is left. @throws as `listen` */
  async open(): Promise<void> {
    const { config, lock, replace } = this.#options;
    const { socket, sockets, admin } = config;
    // Without the addon nobody can be told apart, so only the own uid gets to the socket.
    const alone = config.dev || this.#options.credentials === undefined;
    try {
      for (const { name, path, mode, group } of [{ name: 'data', ...socket }, ...sockets]) {
        this.#listeners.push(
          await listen({
            path,
            mode: alone ? 0o600 : mode,
            group: alone ? undefined : group,
            folderMode: alone ? 0o700 : 0o750,
            replace,
            lock,
            accept: (connection) => this.#accept(connection, name),
          }),
        );
      }
      this.#listeners.push(
        await listen({
          path: admin.path,
          mode: 0o600,
          group: undefined,
          folderMode: 0o700,
          replace,
          lock,
          accept: (connection) => this.#accept(connection, 'admin'),
        }),
      );
    } catch (error) {
      this.stopListening();
      throw error;
    }
    await this.#openLane(alone);
    this.#patience = setInterval(() => {
      const now = performance.now();
      for (const connection of this.#connections.keys()) {
        connection.checkPatience(now);
      }
    }, PATIENCE_INTERVAL_MS);
    this.#patience.unref();
  }

  /** The lane is no more than a faster way: an agent that cannot have it serves without. */
  async #openLane(alone: boolean): Promise<void> {
    const { config, lane, lock, replace, log } = this.#options;
    const folders = new Set<string>();
    for (const { path, mode, group } of [config.socket, ...config.sockets]) {
      const beside = laneSocketPath(path);
      if (folders.has(beside)) {
        continue;
      }
      folders.add(beside);
      try {
        await lane?.open((accept) =>
          listen({
            path: beside,
            mode: alone ? 0o600 : mode,
            group: alone ? undefined : group,
            folderMode: alone ? 0o700 : 0o750,
            replace,
            lock,
            accept,
          }),
        );
      } catch (error) {
        log.warn('no lane', { path: beside, reason: DekdError.from(error).message });
      }
    }
  }

  stopListening(): void {
    this.#options.lane?.stopListening();
    for (const listener of this.#listeners.splice(0)) {
      listener.stop();
    }
    clearInterval(this.#patience);
  }

  /** Answers what has arrived, then closes every connection; those not done by the deadline are cut. */
  async drain(deadlineMs: number): Promise<void> {
    this.stopListening();
    // What the kernel already holds is read and answered first: two turns of the loop see it.
    await turn();
    await turn();
    const drained = new Promise<void>((resolve) => {
      this.#drained = resolve;
    });
    for (const connection of this.#connections.keys()) {
      connection.end();
    }
    if (this.#connections.size === 0) {
      return;
    }
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, deadlineMs);
    });
    await Promise.race([drained, late]);
    clearTimeout(timer);
    for (const connection of this.#connections.keys()) {
      connection.destroy();
    }
  }

  #accept(socket: Socket, name: string): void {
    const { counters, log, policy, credentials } = this.#options;
    counters.connectionsAccepted += 1;
    const isAdmin = name === 'admin';
    const limit = isAdmin ? ADMIN_CONNECTIONS : this.maxConnections;
    const open = isAdmin ? this.#adminConnections : this.#connections.size - this.#adminConnections;
    if (open >= limit) {
      log.warn('connection refused', { code: 'RESOURCE_EXHAUSTED', socket: name, limit });
      this.#refuse(
        socket,
        new DekdError('RESOURCE_EXHAUSTED', `over the limit of ${limit} connections`, { retryAfterMs: 1_000 }),
      );
      return;
    }
    let peer: Peer;
    let caller: Caller;
    try {
      peer = peerOf(socket, name, credentials);
      if (name === 'admin' && peer.uid !== 0 && peer.uid !== process.getuid!()) {
        throw new DekdError('UNAUTHENTICATED', 'the caller is not known', {
          reason: `uid ${peer.uid} is neither the agent's own nor root, and only they are answered on the admin socket`,
        });
      }
      caller = policy.callerFor(peer);
    } catch (error) {
      const refusal = DekdError.from(error);
      log.warn('connection refused', { code: refusal.code, reason: refusal.reason, socket: name });
      this.#options.audit?.refused(refusal, name);
      this.#refuse(socket, new DekdError(refusal.code, refusal.message));
      return;
    }
    counters.connectionsOpen += 1;
    const host = isAdmin ? this.#adminHost : this.#dataHost;
    this.#adminConnections += isAdmin ? 1 : 0;
    const seat = isAdmin ? undefined : this.#options.lane?.seat(caller.share, peer.uid);
    this.#connections.set(new Connection(socket, caller, host, this.#limits, seat), peer);
  }

  /** The caller is who has the token of this name, too. */
  #known(connection: Connection<Caller>, token: string): void {
    const peer = { ...this.#connections.get(connection)!, token };
    this.#connections.set(connection, peer);
    connection.caller = this.#options.policy.callerFor(peer);
  }

  /** Says why and closes; when too many are being told, the rest is only closed. */
  #refuse(socket: Socket, error: DekdError): void {
    this.#options.counters.connectionsRefused += 1;
    socket.on('error', () => {});
    if (this.#refusals >= REFUSALS) {
      socket.destroy();
      return;
    }
    this.#refusals += 1;
    const farewell = setTimeout(() => socket.destroy(), REFUSAL_MS);
    socket.once('end', () => socket.destroy());
    socket.once('close', () => {
      clearTimeout(farewell);
      this.#refusals -= 1;
    });
    const reply = new ReplyWriter();
    reply.error(0, error);
    reply.flush(socket);
    socket.end();
    // What the client says meanwhile is dropped: closing with bytes unread would take the answer from it, too.
    socket.resume();
  }

  #host(handle: (connection: Connection<Caller>, request: RequestReader) => Outcome): ConnectionHost<Caller> {
    const { reporter, counters, hello, tokens, audit } = this.#options;
    const host: ConnectionHost<Caller> = {
      handle: (connection, request) =>
        request.traceparent === ''
          ? handle(connection, request)
          : withTraceparent(carriedTraceparent(request.traceparent), () => handle(connection, request)),
      wantsContexts: reporter.wantsContexts,
      now: () => reporter.now(),
      answered: (connection, request, notes) => {
        const owed = audit?.owed;
        reporter.answered(connection, request, notes);
        return audit?.isStrict === true && audit.owed !== owed;
      },
      isStrict: audit?.isStrict ?? false,
      commit: () => audit?.commit() ?? true,
      withheld: () => audit?.withheld() ?? new DekdError('INTERNAL', 'answers were kept back for nothing'),
      failed: (error, connection, request, notes) => reporter.failed(error, connection, request, notes),
      itemFailed: (error, connection, request, notes) => reporter.itemFailed(error, connection, request, notes),
      left: () => reporter.left(),
      hello: (connection, token) => {
        if (token.length > 0) {
          this.#known(connection, tokens.identify(token));
        }
        const { lane } = connection;
        return lane === undefined ? hello : { ...hello, ...lane.offer() };
      },
      closed: (connection) => {
        this.#connections.delete(connection);
        this.#adminConnections -= host === this.#adminHost ? 1 : 0;
        counters.connectionsOpen -= 1;
        if (this.#connections.size === 0) {
          this.#drained?.();
        }
      },
      frameRefused: () => {
        counters.framesRefused += 1;
      },
    };
    return host;
  }
}

/** The soft limit of open files; what cannot be read counts as the smallest there is in practice. */
function descriptorLimit(): number {
  try {
    const line = readFileSync('/proc/self/limits', 'utf8').match(/^Max open files\s+(\d+|unlimited)/m);
    return line?.[1] === 'unlimited' ? Number.MAX_SAFE_INTEGER : Number(line?.[1] ?? 1024);
  } catch {
    return 1024;
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
