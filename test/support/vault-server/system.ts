import { type Engine, type EngineReply, type EngineRequest, failed, noContent } from './engine.ts';
import type { Capability, Policy } from './policies.ts';
import type { StandInVault } from './server.ts';
import { TransitEngine } from './transit.ts';

/** `sys` and what of `auth/token` makes tokens, so that one suite sets up the stand-in and a real server alike. */
export class SystemEngine implements Engine {
  readonly #vault: StandInVault;

  constructor(vault: StandInVault) {
    this.#vault = vault;
  }

  handle({ method, path, body }: EngineRequest): EngineReply {
    const [what, ...rest] = path.split('/');
    switch (what) {
      case 'mounts':
        return this.#mount(method, rest.join('/'), body);
      case 'policies':
        this.#vault.policies.set(rest[1]!, parsePolicy(String(body.policy)));
        return noContent();
      default:
        return failed(404, 'unsupported path');
    }
  }

  #mount(method: string, path: string, { type }: Readonly<Record<string, unknown>>): EngineReply {
    if (method === 'DELETE') {
      this.#vault.engines.delete(path);
      return noContent();
    }
    if (type !== 'transit') {
      return failed(400, `plugin not found in the catalog: ${type}`);
    }
    this.#vault.mount(path, new TransitEngine({ product: this.#vault.product }));
    return noContent();
  }
}

/** The JSON form of a policy. */
function parsePolicy(text: string): Policy {
  const { path } = JSON.parse(text) as { path: Record<string, { capabilities: Capability[] }> };
  return Object.fromEntries(Object.entries(path).map(([pattern, { capabilities }]) => [pattern, capabilities]));
}
