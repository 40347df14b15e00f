/**
 * The life of the one token that a client uses: got on first need, whoever else needs it meanwhile waiting for the same
 * login; renewed at about two thirds of its lease; replaced in good time when renewal has met a maximum; looked at when a
 * request is refused; revoked at the end if a login made it.
 *
 * A token is never given up because its renewal failed: it serves until its lease ends. And no refusal, of a login or of
 * a request, makes more logins than one: a service that logs in for every failure fills a Vault with leases.
 */
import type { Grant, Login } from './login.ts';
import type { Lease } from './session.ts';
import type { VaultClock } from './vault-clock.ts';
import { VaultError } from './vault-error.ts';

/** Requests about the token in use, each sent once; they throw what `Wire.send` throws. */
export interface TokenCalls {
  /** Whether the token is live, which only a token that may look at itself can say. */
  lookup(token: string): Promise<boolean>;
  renew(token: string): Promise<{ readonly ttlMs: number; readonly renewable: boolean }>;
  revoke(token: string): Promise<void>;
}

export interface TokenLifeOptions {
  readonly login: Login;
  readonly calls: TokenCalls;
  readonly clock: VaultClock;
  /** A number from 0 up to 1. */
  readonly random: () => number;
  /** Milliseconds for one login. */
  readonly timeoutMs: number;
  /** Host and port, for messages. */
  readonly place: string;
  /** Called when there is another lease to be kept. */
  readonly onChange: () => void;
}

/** Renewal and replacement happen between these shares of the lease, so that a fleet does not do it all at once. */
const RENEW_AT = { from: 0.6, to: 0.7 };
const MIN_BACK_OFF_MS = 1000;
const MAX_RENEWAL_BACK_OFF_MS = 5 * 60_000;
/** Short, for a person may be waiting to see the role that they just repaired work. */
const MAX_LOGIN_BACK_OFF_MS = 30_000;
/** How often a token that may not look at itself is replaced because something was refused to it. */
const BLIND_PAUSE_MS = 30_000;

export class TokenLife {
  /** Logins made. */
  logins = 0;
  readonly #options: TokenLifeOptions;
  #lease: Lease | undefined;
  /** When the lease was got, on the clock; of a resumed one: never. */
  #gotAt = Number.NEGATIVE_INFINITY;
  #flight: Promise<Lease> | undefined;
  #refusal: { readonly error: VaultError; readonly until: number; readonly pauseMs: number } | undefined;
  readonly #lookups = new WeakMap<Lease, Promise<boolean>>();
  /** A token fresh from a login could not look at itself: no refusal to look means anything. */
  #blind = false;
  #cancelTimer: () => void = () => {};
  #failedRenewals = 0;
  readonly #retired = new Map<string, () => void>();
  #closed = false;

  constructor(options: TokenLifeOptions) {
    this.#options = options;
  }

  /** The lease in use, for whoever keeps it. */
  get lease(): Lease | undefined {
    return this.#lease !== undefined && this.#isUsable(this.#lease) ? this.#lease : undefined;
  }

  /** Goes on with the lease of an earlier process, unless it is over. */
  resume(lease: Lease): void {
    if (this.#lease === undefined && this.#isUsable(lease)) {
      this.#lease = lease;
      this.#scheduleRenewal(lease);
    }
  }

  /**
   * The token in use, after a login where there is none; one use of it is counted.
   * @throws UNAUTHENTICATED; what a login throws; the error of `signal`, while the login goes on for others.
   */
  async acquire(signal: AbortSignal, abortError: () => VaultError): Promise<Lease> {
    // Again after each login: of many that waited, a token with few uses serves few.
    while (this.#lease === undefined || !this.#isUsable(this.#lease)) {
      await unlessAborted(this.#logIn(), signal, abortError);
    }
    this.#lease.usesLeft -= 1;
    return this.#lease;
  }

  /**
   * After a 403: whether the request is worth another try, because `lease` is void and another one can be had. False says
   * that the token is good, and what it asked for is forbidden.
   */
  async isWorthRetrying(lease: Lease): Promise<boolean> {
    if (this.#lease !== lease) {
      return true;
    }
    if (Number.isFinite(lease.usesLeft)) {
      // A look would cost a use.
      this.#drop(lease);
      return true;
    }
    if (await this.#lookup(lease)) {
      return false;
    }
    if (this.#blind && this.#options.clock.now() - this.#gotAt < BLIND_PAUSE_MS) {
      return false;
    }
    if (this.#lease === lease) {
      this.#drop(lease);
    }
    return true;
  }

  /** After a 403 again, under a new lease: what it is. */
  async judge(lease: Lease, refusal: VaultError): Promise<VaultError> {
    const live = Number.isFinite(lease.usesLeft) || (await this.#lookup(lease));
    if (live) {
      return refusal;
    }
    if (this.#options.login.makesTokens) {
      // Minutes old at most, and made by a login that was granted: it is good, and may not look at itself.
      this.#blind = true;
      return refusal;
    }
    const error = new VaultError(
      'UNAUTHENTICATED',
      `${this.#options.place} refuses the configured token for this and for looking itself up: it is expired, revoked or ` +
        'without policies; put a new one in its place',
      { status: 403 },
    );
    this.#drop(lease);
    this.#remember(error);
    return error;
  }

  /** Revokes the tokens that logins made; with `keep` all but the one in use. The caller has stopped asking. */
  async close(keep: boolean): Promise<void> {
    this.#cancelTimer();
    // A login under way ends first: its token is one to revoke, or to keep.
    await this.#flight?.catch(() => {});
    this.#closed = true;
    this.#cancelTimer();
    const tokens = [...this.#retired.keys()];
    for (const cancel of this.#retired.values()) {
      cancel();
    }
    this.#retired.clear();
    if (!keep && this.#lease?.revocable === true && this.#isUsable(this.#lease)) {
      tokens.push(this.#lease.token);
    }
    await Promise.allSettled(tokens.map((token) => this.#options.calls.revoke(token)));
  }

  #isUsable(lease: Lease): boolean {
    return lease.usesLeft > 0 && lease.expiresAt > this.#options.clock.now();
  }

  #logIn(): Promise<Lease> {
    this.#flight ??= this.#startLogin().finally(() => {
      this.#flight = undefined;
    });
    return this.#flight;
  }

  async #startLogin(): Promise<Lease> {
    const { login, clock, timeoutMs } = this.#options;
    if (this.#refusal !== undefined && clock.now() < this.#refusal.until) {
      throw this.#refusal.error;
    }
    const asked = clock.now();
    let grant: Grant;
    try {
      grant = await login.logIn(AbortSignal.timeout(timeoutMs));
    } catch (error) {
      if (VaultError.is(error, 'UNAUTHENTICATED')) {
        this.#remember(error);
      }
      throw error;
    }
    this.#refusal = undefined;
    this.logins += 1;
    return this.#adopt(grant, asked);
  }

  #adopt(grant: Grant, asked: number): Lease {
    const lease: Lease = {
      token: grant.token,
      expiresAt: asked + grant.ttlMs,
      grantedMs: grant.ttlMs,
      renewable: grant.renewable,
      usesLeft: grant.uses,
      revocable: grant.revocable,
    };
    const former = this.#lease;
    this.#lease = lease;
    this.#gotAt = asked;
    this.#failedRenewals = 0;
    if (former !== undefined && former.token !== lease.token) {
      this.#retire(former);
    }
    if (!this.#closed) {
      this.#scheduleRenewal(lease);
      this.#options.onChange();
    }
    return lease;
  }

  /** The next login asks again only when a pause is over, which doubles from refusal to refusal. */
  #remember(error: VaultError): void {
    const pauseMs = Math.min(MAX_LOGIN_BACK_OFF_MS, (this.#refusal?.pauseMs ?? MIN_BACK_OFF_MS / 2) * 2);
    this.#refusal = { error, until: this.#options.clock.now() + pauseMs, pauseMs };
  }

  #drop(lease: Lease): void {
    this.#cancelTimer();
    this.#lease = undefined;
    this.#retire(lease);
  }

  /** Revokes a token that is no longer used, when the requests under way with it are over. */
  #retire(lease: Lease): void {
    if (!lease.revocable || !this.#isUsable(lease) || this.#closed) {
      return;
    }
    const { clock, calls, timeoutMs } = this.#options;
    const cancel = clock.schedule(timeoutMs, () => {
      this.#retired.delete(lease.token);
      calls.revoke(lease.token).catch(() => {});
    });
    this.#retired.set(lease.token, cancel);
  }

  /** One look at a time, however many requests were refused at once. */
  #lookup(lease: Lease): Promise<boolean> {
    let look = this.#lookups.get(lease);
    if (look === undefined) {
      look = this.#options.calls.lookup(lease.token).finally(() => this.#lookups.delete(lease));
      this.#lookups.set(lease, look);
    }
    return look;
  }

  #scheduleRenewal(lease: Lease): void {
    const { clock, random, login } = this.#options;
    if (!Number.isFinite(lease.expiresAt) || (!lease.renewable && !login.makesTokens)) {
      return;
    }
    const share = RENEW_AT.from + (RENEW_AT.to - RENEW_AT.from) * random();
    // Counted back from the end: a lease that was taken over in its last third is due now.
    this.#schedule(lease, lease.expiresAt - lease.grantedMs * (1 - share) - clock.now());
  }

  #schedule(lease: Lease, ms: number): void {
    this.#cancelTimer();
    this.#cancelTimer = this.#options.clock.schedule(Math.max(MIN_BACK_OFF_MS, ms), () => {
      if (this.#lease === lease && !this.#closed) {
        // A token with few uses would spend them on staying alive.
        const renewed = lease.renewable && !Number.isFinite(lease.usesLeft) ? this.#renew(lease) : this.#logIn();
        renewed.catch((error) => this.#renewalFailed(lease, error));
      }
    });
  }

  async #renew(lease: Lease): Promise<void> {
    const { clock, calls, login } = this.#options;
    const asked = clock.now();
    const { ttlMs, renewable } = await calls.renew(lease.token);
    if (this.#lease !== lease || this.#closed) {
      return;
    }
    this.#failedRenewals = 0;
    lease.expiresAt = asked + ttlMs;
    // Less than was granted at first: the maximum is met, and no renewal will move the end again.
    const capped = ttlMs < lease.grantedMs - MIN_BACK_OFF_MS;
    lease.renewable = renewable && !(capped && login.makesTokens);
    if (!login.makesTokens) {
      // It has nothing after it, and is renewed for as long as that lets it live.
      lease.grantedMs = ttlMs;
    }
    this.#scheduleRenewal(lease);
    this.#options.onChange();
  }

  #renewalFailed(lease: Lease, error: unknown): void {
    if (this.#lease !== lease || this.#closed) {
      return;
    }
    if (lease.renewable && VaultError.is(error, 'FORBIDDEN', 'BAD_REQUEST', 'NOT_FOUND')) {
      // It may not, or no more: the next one is got in good time instead.
      lease.renewable = false;
      this.#scheduleRenewal(lease);
      return;
    }
    const { clock, random } = this.#options;
    const ceiling = Math.min(MAX_RENEWAL_BACK_OFF_MS, MIN_BACK_OFF_MS * 2 ** this.#failedRenewals);
    this.#failedRenewals += 1;
    const pauseMs = ceiling * (0.5 + random() / 2);
    if (clock.now() + pauseMs < lease.expiresAt) {
      this.#schedule(lease, pauseMs);
    }
  }
}

/** `work`, or the error of `signal` as soon as that is aborted; `work` goes on. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal, abortError: () => VaultError): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(abortError());
    if (signal.aborted) {
      work.catch(() => {});
      abort();
      return;
    }
    signal.addEventListener('abort', abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
