/** Which version of a key seals now, by what agents say and by what they do. */
import { hex } from '../../bytes.ts';
import type { DekdClient } from '../../client/types.ts';
import { tokenKid } from '../../envelope/token.ts';
import { DekdError } from '../../errors.ts';

const AGENT_BEHIND_RETRY_MS = 2_000;

/**
 * The newest version of a key, by partition. Several agents may serve one keystore, and each hears of a rotation a while after
 * it: what one that has not heard yet seals is older than what may be there already, and must not take its place.
 */
export class NewestVersions {
  readonly #client: DekdClient;
  readonly #key: string;
  readonly #kids = new Map<string, string>();

  constructor(client: DekdClient, key: string) {
    this.#client = client;
    this.#key = key;
  }

  /** Lower hex of its kid. @throws KEY_NOT_FOUND, PERMISSION_DENIED and what else `keyInfo` rejects with */
  async kid(partition: string): Promise<string> {
    return this.#kids.get(partition) ?? (await this.#ask(partition));
  }

  /**
   * @param token what an agent made just now
   * @throws CONFLICT, to be tried again, when it is of another version than the newest
   */
  async check(token: Uint8Array, partition: string): Promise<void> {
    const kid = hex(tokenKid(token, 0));
    if (kid !== (await this.kid(partition)) && kid !== (await this.#ask(partition))) {
      throw new DekdError('CONFLICT', 'the agent has not heard of the newest version of the key yet', {
        retryAfterMs: AGENT_BEHIND_RETRY_MS,
      });
    }
  }

  async #ask(partition: string): Promise<string> {
    const { versions } = await this.#client.keyInfo(this.#key, { partition });
    const active = versions.findLast(({ purpose, state }) => purpose === 'seal' && state === 'active');
    if (active === undefined) {
      throw new DekdError('KEY_DISABLED', `key '${this.#key}' has no version that seals tokens`);
    }
    this.#kids.set(partition, active.kid);
    return active.kid;
  }
}
