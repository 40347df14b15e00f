import { randomBytes } from 'node:crypto';
import { isBearer, lookupOf } from './bearer.ts';
import {
  Binding,
  type BoundArgument,
  type BoundCall,
  checkText,
  checkWhole,
  type GivenOptions,
  type HelperOptions,
} from './binding.ts';
import { type TextClient, type TimedOptions, TimedValues } from './timed-values.ts';
import { notValid } from './validity.ts';

const DAY_MS = 86_400_000;
const DEFAULTS = { ttlMs: 14 * DAY_MS, maxLength: 4096 };
const DEFAULT_FAMILY_MS = 90 * DAY_MS;
const WHAT = 'the refresh token';

/** Makes a family of tokens known to nobody by its name. */
const FAMILY_BYTES = 16;

export interface RefreshTokensOptions<Name extends string = never> extends HelperOptions<Name>, TimedOptions {
  /** Which tokens these are, `web` or `mobile`: a token of one kind is none of another. */
  readonly kind: string;
  /** Milliseconds from `begin` on, after which no token of the family is good, however often it was rotated; default 90 days. */
  readonly familyTtlMs?: number | undefined;
  /** Which token of each family is the one: the application's own store. */
  readonly store: RefreshTokenStore;
}

/** What the application's store must be able to do: one row a family. */
export interface RefreshTokenStore {
  /** A new family, whose first generation is 0. It may be forgotten after `endsAt`, in milliseconds since 1970. */
  begin(family: string, endsAt: number): Promise<unknown>;
  /**
   * Moves a family from this generation to the next, in one step, and says whether this call did:
   * `UPDATE … SET generation = generation + 1 WHERE family = $1 AND generation = $2` of one row. False for a family that is
   * unknown, revoked or elsewhere.
   */
  advance(family: string, generation: number): Promise<boolean>;
  /**
   * A genuine token was used that is no longer the one of its family: it was stolen, or used twice by a client in a hurry.
   * Revokes the family, unless the application knows better.
   */
  reused(family: string): Promise<unknown>;
}

/** A token and what is in it. */
export interface RefreshedToken<Content> {
  readonly token: string;
  readonly content: Content;
  readonly family: string;
}

/** What is in a token: family, generation, when the family ends in milliseconds since 1970, content. */
type Sealed<Content> = readonly [family: string, generation: number, endsAt: number, content: Content];

/**
 * Refresh tokens that are used once, each for the next (RFC 9700, 4.14.2): sealed, bound to session, kind and the fields of
 * `bindTo`. Whoever uses one again is refused, and the store is told.
 *
 * A token is used up after the next one was made: an agent that is down uses none up. A client that lost the answer to a rotation
 * has a token that was used, and must log in again.
 */
export class RefreshTokens<Content, Name extends string = never> {
  readonly #binding: Binding;
  readonly #tokens: TimedValues;
  readonly #store: RefreshTokenStore;
  readonly #familyMs: number;

  /** @throws INVALID_ARGUMENT */
  constructor(dekd: TextClient, options: RefreshTokensOptions<Name>) {
    this.#binding = new Binding('refresh-token', options, { kind: checkText('kind', options?.kind) });
    this.#tokens = new TimedValues(dekd, WHAT, options, DEFAULTS);
    this.#store = options.store;
    this.#familyMs = checkWhole('familyTtlMs', options.familyTtlMs ?? DEFAULT_FAMILY_MS, 1);
  }

  /**
   * The first token of a new family.
   * @param session what the family belongs to, the name of a session or device, 1 to 1,024 characters; needed again for every
   *     rotation, never stored
   * @throws INVALID_ARGUMENT for what JSON cannot carry, and what would be longer than `maxLength`, 4,096 characters; what
   *     `begin` throws
   */
  async begin(session: string, content: Content, ...[options]: BoundArgument<Name>): Promise<RefreshedToken<Content>> {
    const family = randomBytes(FAMILY_BYTES).toString('base64url');
    const endsAt = this.#tokens.endOf(this.#familyMs);
    const token = await this.#seal([family, 0, endsAt, content], session, options);
    await this.#store.begin(family, endsAt);
    return { token, content, family };
  }

  /**
   * Takes a token for the next one.
   * @throws DECRYPTION_FAILED, with one text, for what is no token of this session, and for one that was used or revoked; EXPIRED;
   *     what the store throws
   */
  async rotate(token: string, session: string, ...[options]: BoundArgument<Name>): Promise<RefreshedToken<Content>> {
    if (!isBearer(session)) {
      throw notValid(WHAT);
    }
    const opened = await this.#tokens.open(token, this.#call(session, options));
    const [family, generation, endsAt, content] = opened.value as Sealed<Content>;
    const next = await this.#seal([family, generation + 1, endsAt, content], session, options);
    if ((await this.#store.advance(family, generation)) !== true) {
      await this.#store.reused(family);
      throw notValid(WHAT);
    }
    return { token: next, content, family };
  }

  #seal(sealed: Sealed<Content>, session: string, options: GivenOptions): Promise<string> {
    const end = Math.min(this.#tokens.endOf(), sealed[2]);
    return this.#tokens.seal(sealed, end, this.#call(session, options));
  }

  #call(session: string, options: GivenOptions): BoundCall {
    return this.#binding.of(options, { session: lookupOf('refresh-token', session) });
  }
}
