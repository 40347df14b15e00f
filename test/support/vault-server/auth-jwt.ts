import { type Engine, type EngineReply, type EngineRequest, failed } from './engine.ts';
import type { StandInVault } from './server.ts';
import type { TokenOptions } from './tokens.ts';

/** The Kubernetes and JWT methods, with a list of the JWTs that are good at the moment in the place of a reviewer. */
export class JwtAuth implements Engine {
  /** JWTs that are accepted now, each with the role that it is good for. */
  readonly accepted = new Map<string, string>();
  readonly #vault: StandInVault;
  readonly #roles = new Map<string, TokenOptions>();

  /** Mounts itself at `auth/MOUNT`. */
  constructor(vault: StandInVault, mount: 'kubernetes' | 'jwt' | (string & {})) {
    this.#vault = vault;
    vault.mount(`auth/${mount}`, this);
  }

  role(name: string, token: TokenOptions): void {
    this.#roles.set(name, token);
  }

  unauthenticated(path: string): boolean {
    return path === 'login';
  }

  handle({ path, body }: EngineRequest): EngineReply {
    if (path !== 'login') {
      return failed(404, 'unsupported path');
    }
    const token = this.#roles.get(String(body.role));
    if (token === undefined) {
      return failed(400, `invalid role name "${body.role}"`);
    }
    if (this.accepted.get(String(body.jwt)) !== body.role) {
      return failed(403, 'permission denied');
    }
    const { tokens } = this.#vault;
    return { status: 200, body: { auth: tokens.authBlock(tokens.issue(token)) } };
  }
}
