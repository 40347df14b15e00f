import { randomBytes } from 'node:crypto';
import type { DekdClient, EncryptOptions } from '../client/types.ts';
import { DekdError } from '../errors.ts';
import { BEARER_BYTES } from './bearer.ts';
import { Binding, type BoundArgument, checkText, type GivenOptions, type HelperOptions } from './binding.ts';

/** Makes ids that never meet. 12 bytes are 16 characters, so that id and secret share none. */
const ID_BYTES = 12;
const ID_LENGTH = 16;
const BODY = /^[\w-]{59}$/;

/** What API keys need of a client. */
export type MacClient = Pick<DekdClient, 'hmacText' | 'verifyHmac'>;

export interface ApiKeysOptions<Name extends string = never> extends HelperOptions<Name> {
  /** What keys begin with, before `_`: 1 to 16 small letters and digits; default `svc`. Scanners find leaked keys by it. */
  readonly prefix?: string | undefined;
}

/** What the store keeps of a key. */
export interface StoredApiKey {
  /** The MAC of the key, `dm1.…`: worth nothing to whoever reads it. */
  readonly mac: string;
}

export interface IssuedApiKey extends StoredApiKey {
  /** `svc_` and 59 characters: for its owner, shown once and kept nowhere. */
  readonly apiKey: string;
  /** The first 16 characters after the prefix: no secret, to look the key up by, to show and to log. */
  readonly id: string;
}

/**
 * API keys that the application hands out, each for one service. The store has an id and a MAC under a key in the agent, so that
 * neither the store nor what is in it makes or guesses one. Takes the rights to make and to verify MACs.
 */
export class ApiKeys<Name extends string = never> {
  readonly #dekd: MacClient;
  readonly #binding: Binding;
  readonly #prefix: string;

  /** @throws INVALID_ARGUMENT */
  constructor(dekd: MacClient, options: ApiKeysOptions<Name>) {
    this.#dekd = dekd;
    this.#binding = new Binding('api-key', options);
    const prefix = options.prefix ?? 'svc';
    if (typeof prefix !== 'string' || !/^[a-z0-9]{1,16}$/.test(prefix)) {
      throw new DekdError('INVALID_ARGUMENT', 'prefix is 1 to 16 small letters and digits');
    }
    this.#prefix = `${prefix}_`;
  }

  /** A new key of 32 random bytes for this service. */
  async issue(service: string, ...[options]: BoundArgument<Name>): Promise<IssuedApiKey> {
    const apiKey = this.#prefix + randomBytes(ID_BYTES + BEARER_BYTES).toString('base64url');
    const mac = await this.#dekd.hmacText(apiKey, this.#call(service, options));
    return { apiKey, id: this.#idOf(apiKey)!, mac };
  }

  /**
   * The row of a presented key, which may be anything that a stranger sent; undefined when it is none of this service. A wrong key
   * and an unknown one cost the same: one look-up, one MAC made, one verified, compared in the agent in constant time. Only what
   * does not look like a key is refused before.
   * @param find the row of an id, or undefined or null
   * @throws what `find` throws, and the client: it never says no because it could not ask
   */
  async verify<Row extends StoredApiKey>(
    presented: string,
    service: string,
    find: (id: string) => Promise<Row | undefined | null>,
    ...[options]: BoundArgument<Name>
  ): Promise<Row | undefined> {
    const call = this.#call(service, options);
    const id = this.#idOf(presented);
    if (id === undefined) {
      return undefined;
    }
    // What an unknown key is compared with: of the same key and version as any row's, and nobody's.
    const decoy = randomBytes(BEARER_BYTES).toString('base64url');
    const [row, nobodys] = await Promise.all([find(id), this.#dekd.hmacText(decoy, call)]);
    const matches = await this.#dekd.verifyHmac(presented, row?.mac ?? nobodys, call);
    return matches && row != null ? row : undefined;
  }

  #idOf(presented: unknown): string | undefined {
    if (typeof presented !== 'string' || presented.length > 128 || !presented.startsWith(this.#prefix)) {
      return undefined;
    }
    const body = presented.slice(this.#prefix.length);
    return BODY.test(body) ? body.slice(0, ID_LENGTH) : undefined;
  }

  #call(service: string, options: GivenOptions): EncryptOptions {
    return this.#binding.of(options, { service: checkText('service', service) });
  }
}
