import { randomBytes, randomUUID } from 'node:crypto';

/** Seconds: what a Vault grants at most when nothing else is said. */
const SYSTEM_MAX_TTL = 768 * 3600;

export interface TokenOptions {
  readonly policies: readonly string[];
  readonly namespace?: string;
  readonly type?: 'service' | 'batch';
  /** Seconds; 0 never expires, as a root token. */
  readonly ttl?: number;
  /** Seconds that renewal cannot go beyond, counted from the issue. */
  readonly maxTtl?: number;
  /** As `maxTtl`, and ends a periodic token too. */
  readonly explicitMaxTtl?: number;
  /** Seconds; each renewal starts this anew, without end. */
  readonly period?: number;
  /** 0 for any number. */
  readonly numUses?: number;
  readonly renewable?: boolean;
}

export interface Token {
  readonly id: string;
  readonly accessor: string;
  readonly policies: readonly string[];
  readonly namespace: string;
  readonly type: 'service' | 'batch';
  readonly issuedAt: number;
  readonly ttl: number;
  readonly maxTtl: number;
  readonly explicitMaxTtl: number;
  readonly period: number;
  readonly renewable: boolean;
  /** Milliseconds on the clock of the server; Infinity for a root token. */
  expiresAt: number;
  /** Infinity when not limited. */
  usesLeft: number;
}

/** Tokens with leases that end, as the stand-in server knows them. */
export class TokenStore {
  readonly #now: () => number;
  readonly #tokens = new Map<string, Token>();
  /** Ids revoked, in order. */
  readonly revoked: string[] = [];

  constructor(now: () => number) {
    this.#now = now;
  }

  issue(options: TokenOptions): Token {
    const type = options.type ?? 'service';
    const period = options.period ?? 0;
    const explicitMaxTtl = options.explicitMaxTtl ?? 0;
    const maxTtl = Math.min(options.maxTtl || SYSTEM_MAX_TTL, SYSTEM_MAX_TTL);
    const asked = period > 0 ? period : (options.ttl ?? SYSTEM_MAX_TTL);
    const issuedAt = this.#now();
    const ttl = asked === 0 ? 0 : Math.min(asked, period > 0 ? asked : maxTtl, explicitMaxTtl || asked);
    const token: Token = {
      id: `${type === 'batch' ? 'hvb' : 'hvs'}.${randomBytes(24).toString('base64url')}`,
      accessor: type === 'batch' ? '' : randomUUID(),
      policies: options.policies,
      namespace: options.namespace ?? '',
      type,
      issuedAt,
      ttl,
      maxTtl,
      explicitMaxTtl,
      period,
      // A batch token has no entry in storage: it can neither be renewed nor counted down nor revoked.
      renewable: type === 'service' && ttl > 0 && (options.renewable ?? true),
      expiresAt: ttl === 0 ? Number.POSITIVE_INFINITY : issuedAt + ttl * 1000,
      usesLeft: type === 'service' && options.numUses ? options.numUses : Number.POSITIVE_INFINITY,
    };
    this.#tokens.set(token.id, token);
    return token;
  }

  /** The live token with this id; a use of it is counted. */
  use(id: string | undefined): Token | undefined {
    const token = this.find(id);
    if (token !== undefined && --token.usesLeft <= 0) {
      this.#tokens.delete(token.id);
    }
    return token;
  }

  find(id: string | undefined): Token | undefined {
    const token = id === undefined ? undefined : this.#tokens.get(id);
    if (token !== undefined && token.expiresAt <= this.#now()) {
      this.#tokens.delete(token.id);
      return undefined;
    }
    return token;
  }

  /** Extends the lease as far as its limits allow. @returns the seconds granted. */
  renew(token: Token, increment: number | undefined): number {
    const now = this.#now();
    const asked = token.period > 0 ? token.period : increment || token.ttl;
    const ends = [
      now + asked * 1000,
      token.period > 0 ? Number.POSITIVE_INFINITY : token.issuedAt + token.maxTtl * 1000,
      token.explicitMaxTtl > 0 ? token.issuedAt + token.explicitMaxTtl * 1000 : Number.POSITIVE_INFINITY,
    ];
    token.expiresAt = Math.min(...ends);
    return this.remaining(token);
  }

  /** @returns whether the token could be revoked: a batch token lives until its end. */
  revoke(token: Token): boolean {
    if (token.type === 'batch') {
      return false;
    }
    this.revoked.push(token.id);
    return this.#tokens.delete(token.id);
  }

  revokeId(id: string): void {
    this.#tokens.delete(id);
  }

  /** Seconds. */
  remaining(token: Token): number {
    return token.expiresAt === Number.POSITIVE_INFINITY ? 0 : Math.floor((token.expiresAt - this.#now()) / 1000);
  }

  /** Live tokens, for assertions on leaks. */
  live(): Token[] {
    return [...this.#tokens.keys()].flatMap((id) => this.find(id) ?? []);
  }

  /** What the `auth` block of a login or renewal says. */
  authBlock(token: Token, leaseDuration = token.ttl): Record<string, unknown> {
    return {
      client_token: token.id,
      accessor: token.accessor,
      policies: token.policies,
      token_policies: token.policies,
      metadata: {},
      lease_duration: leaseDuration,
      renewable: token.renewable,
      token_type: token.type,
      orphan: true,
      num_uses: token.usesLeft === Number.POSITIVE_INFINITY ? 0 : token.usesLeft,
    };
  }
}
