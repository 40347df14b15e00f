import { createHash } from 'node:crypto';
import type { VaultResponse } from './client.ts';
import {
  openSecretsManager,
  type SecretsManager,
  secretFromAws,
  secretFromEnvironment,
  secretFromFile,
} from './secret-source.ts';
import type { VaultAuth } from './settings.ts';
import { VaultError } from './vault-error.ts';
import { checkVaultName, checkVaultPath } from './vault-path.ts';
import type { WireCall } from './wire.ts';

/** What a login got. */
export interface Grant {
  readonly token: string;
  /** Milliseconds; Infinity when the token has no end, or none that it may tell. */
  readonly ttlMs: number;
  readonly renewable: boolean;
  /** Requests that the token is good for; Infinity when not limited. */
  readonly uses: number;
  /** The token was made by this login: ours to revoke. A batch token cannot be. */
  readonly revocable: boolean;
}

/** A secret id that came out of a wrapping token, which opens once only. */
export interface UnwrappedSecretId {
  readonly secretId: string;
  /** SHA-256 of the wrapping token, so that a new one in its place is seen. */
  readonly wrapping: string;
}

export interface LoginSources {
  readonly environment?: NodeJS.ProcessEnv | undefined;
  readonly openSecretsManager?: ((region: string | undefined) => Promise<SecretsManager>) | undefined;
}

type Send = (call: Omit<WireCall, 'namespace'>) => Promise<VaultResponse>;

/** Gets tokens, by one auth method of one Vault. It keeps no token; files are read again at each login. */
export class Login {
  /** Only with `secretIdWrapped`: set by the first login, and by whoever resumes one. */
  unwrapped: UnwrappedSecretId | undefined;
  readonly #auth: VaultAuth;
  readonly #send: Send;
  readonly #environment: NodeJS.ProcessEnv;
  readonly #openSecretsManager: (region: string | undefined) => Promise<SecretsManager>;

  /** @throws CONFIG naming the setting and the remedy. */
  constructor(auth: VaultAuth, send: Send, sources: LoginSources = {}) {
    checkAuth(auth);
    this.#auth = auth;
    this.#send = send;
    this.#environment = sources.environment ?? process.env;
    this.#openSecretsManager = sources.openSecretsManager ?? openSecretsManager;
  }

  /** Whether a login makes a token, rather than takes the one that is configured. */
  get makesTokens(): boolean {
    return this.#auth.method !== 'token';
  }

  /** @throws UNAUTHENTICATED when it is refused or a secret is missing; what `Wire.send` throws. */
  async logIn(signal: AbortSignal): Promise<Grant> {
    const auth = this.#auth;
    switch (auth.method) {
      case 'token':
        return this.#adopt(await this.configuredToken(), signal);
      case 'approle': {
        const role_id = auth.roleId ?? (await secretFromFile(auth.roleIdFile!, 'role id'));
        const secret_id = await this.#secretId(auth, signal);
        return this.#exchange(auth.mount, { role_id, secret_id }, signal);
      }
      default: {
        const jwt = await secretFromFile(auth.jwtFile, 'JWT');
        return this.#exchange(auth.mount, { role: auth.role, jwt }, signal);
      }
    }
  }

  /** The token of the method `token`, as it is there now. */
  configuredToken(): Promise<string> {
    const { tokenFile } = this.#auth as Extract<VaultAuth, { method: 'token' }>;
    return tokenFile === undefined
      ? Promise.resolve(secretFromEnvironment(this.#environment, 'VAULT_TOKEN', 'token'))
      : secretFromFile(tokenFile, 'token');
  }

  async #adopt(token: string, signal: AbortSignal): Promise<Grant> {
    const grant = { token, ttlMs: Number.POSITIVE_INFINITY, renewable: false, uses: Number.POSITIVE_INFINITY };
    const path = 'auth/token/lookup-self';
    const { status, data } = await this.#send({ method: 'GET', path, token, accept: [403], signal });
    if (status === 403) {
      // It may be void, or without the right to look at itself: the first request tells.
      return { ...grant, revocable: false };
    }
    const about = ((data as { data?: unknown }).data ?? {}) as Record<string, unknown>;
    return {
      token,
      ttlMs: ttlOf(about.ttl),
      renewable: about.renewable === true,
      uses: countOf(about.num_uses),
      // Whoever configured it goes on using it.
      revocable: false,
    };
  }

  async #exchange(mount: string, body: object, signal: AbortSignal): Promise<Grant> {
    const path = `auth/${mount}/login`;
    let reply: VaultResponse;
    try {
      reply = await this.#send({ method: 'POST', path, body, signal });
    } catch (error) {
      if (VaultError.is(error, 'BAD_REQUEST', 'FORBIDDEN', 'NOT_FOUND', 'UNSUPPORTED')) {
        throw new VaultError(
          'UNAUTHENTICATED',
          `the login at ${path} was refused: check the role and its credentials`,
          {
            cause: error,
            status: error.status,
          },
        );
      }
      throw error;
    }
    const auth = ((reply.data as { auth?: unknown } | undefined)?.auth ?? {}) as Record<string, unknown>;
    if (typeof auth.client_token !== 'string' || auth.client_token === '') {
      throw new VaultError('UNAUTHENTICATED', `the login at ${path} gave no token: a second factor is not supported`);
    }
    return {
      token: auth.client_token,
      ttlMs: ttlOf(auth.lease_duration),
      renewable: auth.renewable === true,
      uses: countOf(auth.num_uses),
      revocable: auth.token_type !== 'batch',
    };
  }

  async #secretId(auth: Extract<VaultAuth, { method: 'approle' }>, signal: AbortSignal): Promise<string> {
    if (auth.secretIdAws !== undefined) {
      return secretFromAws(this.#openSecretsManager, auth.secretIdAws, signal);
    }
    const what = auth.secretIdWrapped ? 'wrapping token of the secret id' : 'secret id';
    const text =
      auth.secretIdFile === undefined
        ? secretFromEnvironment(this.#environment, 'VAULT_SECRET_ID', what)
        : await secretFromFile(auth.secretIdFile, what);
    return auth.secretIdWrapped ? this.#unwrap(auth.mount, text, signal) : text;
  }

  /** Opens a wrapping token the first time it is seen; then its secret id is remembered, for later logins. */
  async #unwrap(mount: string, token: string, signal: AbortSignal): Promise<string> {
    const wrapping = createHash('sha256').update(token).digest('hex');
    if (this.unwrapped?.wrapping === wrapping) {
      return this.unwrapped.secretId;
    }
    try {
      await this.#checkWrapping(mount, token, signal);
      const reply = await this.#send({ method: 'POST', path: 'sys/wrapping/unwrap', token, signal });
      const secretId = (reply.data as { data?: { secret_id?: unknown } }).data?.secret_id;
      if (typeof secretId !== 'string') {
        throw new VaultError('UNAUTHENTICATED', 'the wrapping token holds no secret id');
      }
      this.unwrapped = { secretId, wrapping };
      return secretId;
    } catch (error) {
      if (VaultError.is(error, 'BAD_REQUEST', 'FORBIDDEN', 'NOT_FOUND')) {
        throw new VaultError(
          'UNAUTHENTICATED',
          'the wrapping token of the secret id is used or expired: if nobody here used it, somebody else has the ' +
            'secret id; revoke it and put a new wrapping token in its place',
          { cause: error, status: error.status },
        );
      }
      throw error;
    }
  }

  /** A token that was wrapped elsewhere may hold a secret id that somebody else chose. */
  async #checkWrapping(mount: string, token: string, signal: AbortSignal): Promise<void> {
    const reply = await this.#send({ method: 'POST', path: 'sys/wrapping/lookup', body: { token }, signal });
    const { creation_path: path } = ((reply.data as { data?: unknown }).data ?? {}) as { creation_path?: unknown };
    const begin = `auth/${mount}/role/`;
    if (typeof path !== 'string' || !path.includes(begin) || !/\/(custom-)?secret-id$/.test(path)) {
      throw new VaultError('UNAUTHENTICATED', `the wrapping token was not made under ${begin}: it is not used`);
    }
  }
}

function checkAuth(auth: VaultAuth): void {
  if (auth.method === 'token') {
    return;
  }
  checkVaultPath(auth.mount, 'auth.mount');
  if (auth.method !== 'approle') {
    checkVaultName(auth.role, 'auth.role');
    return;
  }
  if ((auth.roleId === undefined) === (auth.roleIdFile === undefined)) {
    throw new VaultError('CONFIG', 'auth needs exactly one of roleId and roleIdFile');
  }
  if (auth.secretIdFile !== undefined && auth.secretIdAws !== undefined) {
    throw new VaultError('CONFIG', 'auth has both secretIdFile and secretIdAws: name one');
  }
  if (auth.secretIdWrapped && auth.secretIdAws !== undefined) {
    throw new VaultError(
      'CONFIG',
      'secretIdWrapped is for a file or VAULT_SECRET_ID: AWS Secrets Manager holds it bare',
    );
  }
}

/** Vault counts in seconds, and says 0 for a token without an end. */
function ttlOf(seconds: unknown): number {
  return typeof seconds === 'number' && seconds > 0 ? seconds * 1000 : Number.POSITIVE_INFINITY;
}

function countOf(uses: unknown): number {
  return typeof uses === 'number' && uses > 0 ? uses : Number.POSITIVE_INFINITY;
}
