import { Binding, type BoundArgument, checkText, type HelperOptions } from './binding.ts';
import { type TextClient, type TimedOptions, TimedValues } from './timed-values.ts';

const DEFAULTS = { ttlMs: 86_400_000, maxLength: 2048 };

export interface PaginationTokensOptions<Name extends string = never> extends HelperOptions<Name>, TimedOptions {
  /** What is paged through: the token of one kind is none of another. */
  readonly kind: string;
}

/**
 * Opaque tokens for the next page: safe in URLs, bound to kind, tenant and the fields of `bindTo`, good for a day unless
 * `ttlMs` says otherwise, and 2,048 characters at most unless `maxLength` does.
 *
 * A token is 91 characters and four for each three bytes of the cursor's JSON. It may be used any number of times.
 */
export class PaginationTokens<Cursor, Name extends string = never> {
  readonly #binding: Binding;
  readonly #tokens: TimedValues;

  /** @throws INVALID_ARGUMENT */
  constructor(dekd: TextClient, options: PaginationTokensOptions<Name>) {
    this.#binding = new Binding('pagination-token', options, { kind: checkText('kind', options?.kind) });
    this.#tokens = new TimedValues(dekd, 'the pagination token', options, DEFAULTS);
  }

  /** @param cursor where the next page begins: anything that JSON can carry. @throws INVALID_ARGUMENT for anything else */
  async issue(cursor: Cursor, ...[options]: BoundArgument<Name>): Promise<string> {
    return this.#tokens.seal(cursor, this.#tokens.endOf(), this.#binding.of(options));
  }

  /**
   * The cursor of a token, which may be anything that a stranger sent.
   * @throws DECRYPTION_FAILED, with one text, for what is no token of this kind, tenant and context; EXPIRED for one that was
   */
  async read(token: string, ...[options]: BoundArgument<Name>): Promise<Cursor> {
    const { value } = await this.#tokens.open(token, this.#binding.of(options));
    return value as Cursor;
  }
}
