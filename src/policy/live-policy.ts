/** The policy of an agent that runs: another can take its place. */
import type { Caller, Peer, Policy } from './policy.ts';

export class LivePolicy implements Omit<Policy, 'successor'> {
  #current: Policy;
  readonly #listeners: (() => void)[] = [];

  constructor(policy: Policy) {
    this.#current = policy;
  }

  get current(): Policy {
    return this.#current;
  }

  get sameUid(): boolean {
    return this.#current.sameUid;
  }

  get ruleNames(): ReadonlySet<string> {
    return this.#current.ruleNames;
  }

  callerFor(peer: Peer): Caller {
    return this.#current.callerFor(peer);
  }

  /** From now on `policy` decides, for connections that are open too. What is in work ends under the rules that it began with. */
  replace(policy: Policy): void {
    this.#current = policy;
    for (const listener of this.#listeners) {
      listener();
    }
  }

  /** @param listener called after each replacement */
  onReplaced(listener: () => void): void {
    this.#listeners.push(listener);
  }
}
