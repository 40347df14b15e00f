import { isBearer, lookupOf, newBearer } from './bearer.ts';
import { Binding, type BoundArgument, type HelperOptions } from './binding.ts';
import { type TextClient, type TimedOptions, TimedValues } from './timed-values.ts';
import { notValid } from './validity.ts';

const DEFAULTS = { ttlMs: 3_600_000, maxLength: 65_536 };
const WHAT = 'the one-shot secret';

export interface OneShotSecretsOptions<Name extends string = never> extends HelperOptions<Name>, TimedOptions {
  /** Where secrets wait: the application's own store. */
  readonly store: OneShotStore;
}

/** What the application's store must be able to do. */
export interface OneShotStore {
  /** Keeps a secret under a new name until `expiresAt`, in milliseconds since 1970. */
  put(lookup: string, sealed: string, expiresAt: number): Promise<unknown>;
  /** The secret of that name, which stays where it is; undefined or null when there is none. */
  load(lookup: string): Promise<string | undefined | null>;
  /**
   * Takes the secret away, at once and for ever, and says whether this call did: of any number of calls at the same time one
   * gets true. `DELETE … WHERE lookup = $1` of one row, `DEL` of Redis with the answer 1.
   */
  consume(lookup: string): Promise<boolean>;
}

/**
 * Secrets that are read once: by whoever has the link first. Good for an hour unless `ttlMs` says otherwise.
 *
 * A secret is consumed after it was opened and before it is given out: neither an agent that is down nor a wrong link uses it
 * up, and nobody is given it twice. A process that ends between the two takes the secret with it.
 */
export class OneShotSecrets<Secret = string, Name extends string = never> {
  readonly #binding: Binding;
  readonly #secrets: TimedValues;
  readonly #store: OneShotStore;

  /** @throws INVALID_ARGUMENT */
  constructor(dekd: TextClient, options: OneShotSecretsOptions<Name>) {
    this.#binding = new Binding('one-shot-secret', options);
    this.#secrets = new TimedValues(dekd, WHAT, options, DEFAULTS);
    this.#store = options.store;
  }

  /**
   * Keeps a secret. @returns what belongs into the link, 43 characters: the store knows only a hash of it
   * @throws INVALID_ARGUMENT for what JSON cannot carry, and what would be longer than `maxLength`, 65,536 characters; what
   *     `put` throws
   */
  async keep(secret: Secret, ...[options]: BoundArgument<Name>): Promise<string> {
    const id = newBearer();
    const lookup = lookupOf('one-shot-secret', id);
    const expiresAt = this.#secrets.endOf();
    const sealed = await this.#secrets.seal(secret, expiresAt, this.#binding.of(options, { secret: lookup }));
    await this.#store.put(lookup, sealed, expiresAt);
    return id;
  }

  /**
   * Gives the secret out, if nobody was given it before.
   * @throws DECRYPTION_FAILED, with one text, when there is none, when it is taken, and when what the store has is not it; EXPIRED
   *     for one that nobody took in time, which stays for the store to remove; what `load` and `consume` throw
   */
  async take(id: string, ...[options]: BoundArgument<Name>): Promise<Secret> {
    if (!isBearer(id)) {
      throw notValid(WHAT);
    }
    const lookup = lookupOf('one-shot-secret', id);
    const call = this.#binding.of(options, { secret: lookup });
    const { value } = await this.#secrets.open(await this.#store.load(lookup), call);
    // Exactly true: a count, a row or a promise of one that was forgotten to be awaited is no answer.
    if ((await this.#store.consume(lookup)) !== true) {
      throw notValid(WHAT);
    }
    return value as Secret;
  }
}
