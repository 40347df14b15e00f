import { randomUUID } from 'node:crypto';
import { type Engine, type EngineReply, type EngineRequest, failed, ok } from './engine.ts';
import type { StandInVault } from './server.ts';
import type { TokenOptions } from './tokens.ts';

interface SecretId {
  readonly role: string;
  /** Milliseconds on the server's clock. */
  readonly expiresAt: number;
  usesLeft: number;
}

/** AppRole: roles with secret ids that end, by time or by use. */
export class AppRoleAuth implements Engine {
  readonly #vault: StandInVault;
  readonly #mount: string;
  readonly #namespace: string;
  readonly #roles = new Map<string, { readonly roleId: string; readonly token: TokenOptions }>();
  readonly #secretIds = new Map<string, SecretId>();

  /** Mounts itself at `auth/MOUNT`. */
  constructor(vault: StandInVault, mount = 'approle', namespace = '') {
    this.#vault = vault;
    this.#mount = mount;
    this.#namespace = namespace;
    vault.mount(`${namespace === '' ? '' : `${namespace}/`}auth/${mount}`, this);
  }

  /** @returns the role id. */
  role(name: string, token: TokenOptions): string {
    const roleId = randomUUID();
    this.#roles.set(name, { roleId, token: { ...token, namespace: this.#namespace } });
    return roleId;
  }

  /** A secret id of `role`; 0 uses and 0 seconds do not limit it. */
  secretId(role: string, limits: { numUses?: number; ttl?: number } = {}): string {
    const id = randomUUID();
    this.#secretIds.set(id, {
      role,
      usesLeft: limits.numUses || Number.POSITIVE_INFINITY,
      expiresAt: limits.ttl ? this.#vault.now() + limits.ttl * 1000 : Number.POSITIVE_INFINITY,
    });
    return id;
  }

  /** A secret id of `role` inside a wrapping token. */
  wrappedSecretId(role: string, limits: { numUses?: number; wrapTtl?: number } = {}): string {
    const data = { secret_id: this.secretId(role, limits), secret_id_accessor: randomUUID() };
    return this.#vault.wrap({ data }, limits.wrapTtl ?? 60, `auth/${this.#mount}/role/${role}/secret-id`);
  }

  forget(secretId: string): void {
    this.#secretIds.delete(secretId);
  }

  unauthenticated(path: string): boolean {
    return path === 'login';
  }

  handle({ path, body }: EngineRequest): EngineReply {
    const made = /^role\/([^/]+)\/secret-id$/.exec(path);
    if (made !== null) {
      return ok({ secret_id: this.secretId(made[1]!), secret_id_accessor: randomUUID() });
    }
    if (path !== 'login') {
      return failed(404, 'unsupported path');
    }
    const secret = this.#secretIds.get(String(body.secret_id));
    const role = [...this.#roles].find(([, each]) => each.roleId === body.role_id);
    if (secret === undefined || role?.[0] !== secret.role || secret.expiresAt <= this.#vault.now()) {
      return failed(400, 'invalid role or secret ID');
    }
    secret.usesLeft -= 1;
    if (secret.usesLeft <= 0) {
      this.#secretIds.delete(String(body.secret_id));
    }
    const { tokens } = this.#vault;
    return { status: 200, body: { auth: tokens.authBlock(tokens.issue(role[1].token)) } };
  }
}
