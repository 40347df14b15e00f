/** What has been denied since the agent started, for the suggestion of rules. */
import { type Denial, obstacleOf } from './remedy.ts';

/** Different denials kept, and of them those of one caller, so that one that tries names out leaves room for the others. */
const MAX_DENIALS = 1000;
const MAX_OF_CALLER = 250;

export class Denials {
  /** By what tells them apart. Only those that a rule could allow. */
  readonly #kept = new Map<string, Denial>();
  readonly #ofCaller = new Map<string, number>();
  #missed = 0;

  /** @param share of the caller */
  record(share: string, denial: Denial): void {
    const { peer, wanted, key, partition, root } = denial;
    // No key can have a name with a control character, and no rule of a configuration either.
    if (obstacleOf(denial) !== undefined || /\p{Cc}/u.test(key + partition)) {
      return;
    }
    const identity = JSON.stringify([peer, wanted, key, partition, root]);
    if (this.#kept.has(identity)) {
      return;
    }
    const ofCaller = this.#ofCaller.get(share) ?? 0;
    if (this.#kept.size >= MAX_DENIALS || ofCaller >= MAX_OF_CALLER) {
      this.#missed += 1;
      return;
    }
    this.#ofCaller.set(share, ofCaller + 1);
    this.#kept.set(identity, denial);
  }

  list(): readonly Denial[] {
    return [...this.#kept.values()];
  }

  /** How often a denial was not kept because there were too many others. */
  get missed(): number {
    return this.#missed;
  }
}
