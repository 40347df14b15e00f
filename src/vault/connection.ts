import { setTimeout as sleep } from 'node:timers/promises';
import type { VaultHealth, VaultMethod, VaultRequestOptions, VaultResponse, VaultSession } from './client.ts';
import { Login, type LoginSources } from './login.ts';
import { decodeSession, encodeSession, type Lease } from './session.ts';
import { settingsKey, type VaultSettings } from './settings.ts';
import { TokenLife } from './token-life.ts';
import { abortError } from './transport.ts';
import { systemVaultClock, type VaultClock } from './vault-clock.ts';
import { VAULT_CODES, VaultError } from './vault-error.ts';
import { checkVaultPath, isVaultPath } from './vault-path.ts';
import { Wire, type WireCall } from './wire.ts';

export interface ConnectionOptions extends LoginSources {
  /** A session of an earlier process with the same settings; anything else is passed over. */
  readonly resume?: VaultSession | undefined;
  /** Called with each session that is worth keeping, which is wiped when it returns. */
  readonly onSession?: ((session: VaultSession) => void) | undefined;
  readonly clock?: VaultClock | undefined;
  readonly random?: (() => number) | undefined;
}

const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 2000;
/** Revoking is a courtesy at the end: it may not hold up the end. */
const REVOKE_TIMEOUT_MS = 2000;

/** One address, one login, one pool: what clients with equal settings share. */
export class VaultConnection {
  readonly settings: VaultSettings;
  /** Whoever keeps sessions; each is told of every one. */
  readonly keepers = new Set<(session: VaultSession) => void>();
  readonly #wire: Wire;
  readonly #login: Login;
  readonly #tokens: TokenLife;
  readonly #key: string;
  readonly #random: () => number;
  #closed = false;

  private constructor(settings: VaultSettings, wire: Wire, options: ConnectionOptions) {
    this.settings = settings;
    this.#wire = wire;
    this.#key = settingsKey(settings);
    this.#random = options.random ?? Math.random;
    const send = (call: Omit<WireCall, 'namespace'>) => wire.send({ ...call, namespace: settings.namespace });
    this.#login = new Login(settings.auth, send, options);
    this.#tokens = new TokenLife({
      login: this.#login,
      calls: {
        lookup: async (token) => {
          const { status } = await send({
            method: 'GET',
            path: 'auth/token/lookup-self',
            token,
            accept: [403],
            signal: AbortSignal.timeout(settings.timeout),
          });
          return status !== 403;
        },
        renew: async (token) => {
          const { data } = await send({
            method: 'POST',
            path: 'auth/token/renew-self',
            body: {},
            token,
            signal: AbortSignal.timeout(settings.timeout),
          });
          const auth = ((data as { auth?: unknown } | undefined)?.auth ?? {}) as Record<string, unknown>;
          return { ttlMs: Number(auth.lease_duration ?? 0) * 1000, renewable: auth.renewable === true };
        },
        revoke: async (token) => {
          const signal = AbortSignal.timeout(Math.min(settings.timeout, REVOKE_TIMEOUT_MS));
          await send({ method: 'POST', path: 'auth/token/revoke-self', body: {}, token, signal });
        },
      },
      clock: options.clock ?? systemVaultClock,
      random: this.#random,
      timeoutMs: settings.timeout,
      place: wire.place,
      onChange: () => this.tell(),
    });
  }

  /** Sends nothing yet, unless a token is configured and a session of it is resumed. @throws CONFIG with the remedy. */
  static async open(settings: VaultSettings, options: ConnectionOptions = {}): Promise<VaultConnection> {
    if (settings.namespace !== undefined && settings.namespace !== '') {
      checkVaultPath(settings.namespace, 'namespace');
    }
    const connection = new VaultConnection(settings, await Wire.open(settings), options);
    if (options.onSession !== undefined) {
      connection.keepers.add(options.onSession);
    }
    if (options.resume !== undefined) {
      await connection.#resume(options.resume);
    }
    return connection;
  }

  get logins(): number {
    return this.#tokens.logins;
  }

  session(): VaultSession | undefined {
    const { lease } = this.#tokens;
    return lease === undefined ? undefined : encodeSession(this.#key, { lease, unwrapped: this.#login.unwrapped });
  }

  /** Gives the session to all keepers, or to one. */
  tell(keepers: Iterable<(session: VaultSession) => void> = this.keepers): void {
    const session = this.session();
    if (session !== undefined) {
      for (const keep of keepers) {
        keep(session);
      }
      session.fill(0);
    }
  }

  async request(
    method: VaultMethod,
    path: string,
    body: unknown,
    options: VaultRequestOptions = {},
  ): Promise<VaultResponse> {
    if (!isVaultPath(path)) {
      throw new VaultError('CONFIG', 'a name in the path of a request has characters that are not safe in a path');
    }
    const signal = this.#deadline(options.signal);
    const call = {
      method,
      path,
      body,
      query: options.query,
      namespace: options.namespace ?? this.settings.namespace,
      wrapTtl: options.wrapTtl,
      accept: options.accept,
      signal,
    };
    const refusal = { met: false };
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#attempt(call, refusal);
      } catch (error) {
        const pauseMs = this.#pauseAfter(error, attempt, options.once === true);
        if (pauseMs === undefined) {
          throw error;
        }
        await this.#pause(pauseMs, signal);
      }
    }
  }

  async health(signal: AbortSignal | undefined): Promise<VaultHealth> {
    this.#checkOpen();
    const { data } = await this.#wire.send({
      method: 'GET',
      path: 'sys/health',
      // Not in a namespace: it is about the node. Each status below is a state that the body spells out.
      accept: [429, 472, 473, 501, 503],
      signal: this.#deadline(signal),
    });
    const state = (data ?? {}) as Record<string, unknown>;
    if (typeof state.initialized !== 'boolean' || typeof state.sealed !== 'boolean') {
      throw new VaultError('UNAVAILABLE', `${this.#wire.place} does not answer sys/health as a Vault does`);
    }
    return {
      initialized: state.initialized,
      sealed: state.sealed,
      standby: state.standby === true || state.performance_standby === true,
      secondary: state.replication_dr_mode === 'secondary',
    };
  }

  async close(keepSession: boolean): Promise<void> {
    if (this.#closed) {
      return;
    }
    this.#closed = true;
    if (keepSession) {
      // Uses are counted without telling anybody.
      this.tell();
    }
    await this.#tokens.close(keepSession);
    this.#wire.close();
  }

  async #resume(session: VaultSession): Promise<void> {
    const content = decodeSession(this.#key, session);
    if (content === undefined) {
      return;
    }
    this.#login.unwrapped = content.unwrapped;
    if (!this.#login.makesTokens) {
      // The configured token may be another by now, and that is the one to use.
      const configured = await this.#login.configuredToken().catch(() => undefined);
      if (configured !== content.lease.token) {
        return;
      }
    }
    this.#tokens.resume(content.lease);
  }

  /** Once over the wire, or twice where the first token turns out to be void; `refusal` lets that happen once a request. */
  async #attempt(call: WireCall, refusal: { met: boolean }): Promise<VaultResponse> {
    const first = await this.#acquire(call.signal);
    try {
      return await this.#send(call, first);
    } catch (error) {
      if (!VaultError.is(error, 'FORBIDDEN') || refusal.met || !(await this.#tokens.isWorthRetrying(first))) {
        throw error;
      }
      refusal.met = true;
    }
    const second = await this.#acquire(call.signal);
    try {
      return await this.#send(call, second);
    } catch (error) {
      throw VaultError.is(error, 'FORBIDDEN') ? await this.#tokens.judge(second, error) : error;
    }
  }

  #acquire(signal: AbortSignal): Promise<Lease> {
    this.#checkOpen();
    return this.#tokens.acquire(signal, () => abortError(signal, this.#wire.place));
  }

  async #send(call: WireCall, { token }: Lease): Promise<VaultResponse> {
    try {
      return await this.#wire.send({ ...call, token });
    } catch (error) {
      if (VaultError.is(error, 'UNAVAILABLE') && error.status === 503 && (await this.#isSealed(call.signal))) {
        throw new VaultError('SEALED', `${this.#wire.place} is sealed`, { status: 503, said: error.said });
      }
      throw error;
    }
  }

  async #isSealed(signal: AbortSignal): Promise<boolean> {
    return this.health(signal).then(
      ({ sealed }) => sealed,
      () => false,
    );
  }

  /** Milliseconds to wait before sending again; undefined when it is not to be sent again. */
  #pauseAfter(error: unknown, attempt: number, once: boolean): number | undefined {
    if (!VaultError.is(error) || !VAULT_CODES[error.code].resend || attempt >= this.settings.retries) {
      return undefined;
    }
    if (once && error.ambiguous) {
      return undefined;
    }
    // Anything from nothing to the ceiling: what failed together does not come back together.
    const jittered = this.#random() * Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempt);
    const asked = error.retryAfterMs ?? 0;
    // To wait for the deadline and fail then would only hide what is wrong.
    return asked < this.settings.timeout ? Math.max(asked, jittered) : undefined;
  }

  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    try {
      await sleep(ms, undefined, { signal });
    } catch {
      throw abortError(signal, this.#wire.place);
    }
  }

  #deadline(signal: AbortSignal | undefined): AbortSignal {
    const own = AbortSignal.timeout(this.settings.timeout);
    return signal === undefined ? own : AbortSignal.any([signal, own]);
  }

  #checkOpen(): void {
    if (this.#closed) {
      throw new VaultError('UNAVAILABLE', `the connection to ${this.#wire.place} is closed`);
    }
  }
}
