import { isBearer, lookupOf, newBearer } from './bearer.ts';
import { Binding, type BoundArgument, checkText, type HelperOptions } from './binding.ts';
import { type TextClient, type TimedOptions, TimedValues } from './timed-values.ts';
import { notValid } from './validity.ts';

const DEFAULTS = { ttlMs: 86_400_000, maxLength: 65_536 };
const WHAT = 'the session';

export interface SessionsOptions<Name extends string = never> extends HelperOptions<Name>, TimedOptions {
  /** Which sessions these are, `web` or `admin`: what belongs to one kind opens as no other. */
  readonly kind: string;
}

/** What the store keeps of a session. */
export interface StoredSession {
  /** Under which name: not the id, so that whoever reads the store has no session. */
  readonly lookup: string;
  /** The content, `dk1.…`. */
  readonly sealed: string;
  /** When the store may forget it, in milliseconds since 1970. */
  readonly expiresAt: number;
}

/**
 * The content of sessions, sealed and bound to the session's id, its kind, and the fields of `bindTo`: what a store holds of
 * one session opens with the id of no other. Good for a day from the last `seal` on unless `ttlMs` says otherwise.
 *
 * Whoever can write to the store can put an older content of the same session back, as long as that is not expired.
 */
export class Sessions<Content, Name extends string = never> {
  readonly #binding: Binding;
  readonly #contents: TimedValues;

  /** @throws INVALID_ARGUMENT */
  constructor(dekd: TextClient, options: SessionsOptions<Name>) {
    this.#binding = new Binding('session', options, { kind: checkText('kind', options?.kind) });
    this.#contents = new TimedValues(dekd, WHAT, options, DEFAULTS);
  }

  /** A new session: `id` is for the cookie, 43 characters, and all else for the store. @throws as `seal` */
  async begin(content: Content, ...options: BoundArgument<Name>): Promise<StoredSession & { readonly id: string }> {
    const id = newBearer();
    return { id, ...(await this.seal(id, content, ...options)) };
  }

  /**
   * New content of a session, whose time begins anew. The id may also be one that another library made: it must not be
   * guessable.
   * @throws INVALID_ARGUMENT for what JSON cannot carry, and what would be longer than `maxLength`, 65,536 characters
   */
  async seal(id: string, content: Content, ...[options]: BoundArgument<Name>): Promise<StoredSession> {
    const lookup = this.lookup(id);
    const expiresAt = this.#contents.endOf();
    const sealed = await this.#contents.seal(content, expiresAt, this.#binding.of(options, { session: lookup }));
    return { lookup, sealed, expiresAt };
  }

  /**
   * @param sealed what the store has, nothing included
   * @throws DECRYPTION_FAILED for what is not the content of this session; EXPIRED
   */
  async open(id: string, sealed: string | undefined | null, ...[options]: BoundArgument<Name>): Promise<Content> {
    if (!isBearer(id)) {
      throw notValid(WHAT);
    }
    const { value } = await this.#contents.open(sealed, this.#binding.of(options, { session: this.lookup(id) }));
    return value as Content;
  }

  /** Under which name the store has the session. @throws INVALID_ARGUMENT unless the id is a text of 1 to 1,024 characters */
  lookup(id: string): string {
    return lookupOf('session', id);
  }
}
