/**
 * What helpers bind their ciphertexts to. Each has a purpose of its own in every context, so that what one of them made
 * opens with no other, whichever keys they share.
 */
import type { CallOptions, EncryptionContext } from '../client/types.ts';
import { DekdError } from '../errors.ts';

export type Purpose =
  | 'pagination-token'
  | 'session'
  | 'refresh-token'
  | 'api-key'
  | 'third-party-key'
  | 'one-shot-secret'
  | 'stored-object'
  | 'cache-value';

/** Names of fields that helpers bind by themselves. */
const OWN_NAMES: ReadonlySet<string> = new Set(['purpose', 'kind', 'session', 'secret', 'service', 'object', 'entry']);

/** What every helper is made with. */
export interface HelperOptions<Name extends string = never> {
  /** Name of the key in the agent. Helpers may share one: what they make is kept apart by its purpose. */
  readonly key: string;
  /** Names of the fields that every call must give in `context`, beside what the helper binds by itself. */
  readonly bindTo?: readonly Name[] | undefined;
}

/** What every call of a helper takes: exactly the fields of `bindTo`, and the tenant if there are tenants. */
export type BoundOptions<Name extends string> = CallOptions & {
  readonly partition?: string | undefined;
} & ([Name] extends [never] ? { readonly context?: undefined } : { readonly context: Readonly<Record<Name, string>> });

/** The last argument of a call, which may be left out where nothing must be given. */
export type BoundArgument<Name extends string, More = unknown> = [Name] extends [never]
  ? [options?: BoundOptions<Name> & More]
  : [options: BoundOptions<Name> & More];

/** The same without the names. */
export type GivenOptions = BoundOptions<string> | BoundOptions<never> | undefined;

/** A call's options as the client takes them. */
export interface BoundCall extends CallOptions {
  readonly key: string;
  readonly partition?: string | undefined;
  readonly context: EncryptionContext;
}

/** Makes the contexts of one helper. */
export class Binding {
  readonly #key: string;
  readonly #own: EncryptionContext;
  readonly #names: readonly string[];

  /**
   * @param own fields of the helper that are the same in every call
   * @throws INVALID_ARGUMENT
   */
  constructor(purpose: Purpose, options: HelperOptions<string>, own: EncryptionContext = {}) {
    if (typeof options?.key !== 'string' || options.key === '') {
      throw new DekdError('INVALID_ARGUMENT', 'key is a name, not empty');
    }
    for (const [name, value] of Object.entries(own)) {
      checkText(name, value);
    }
    this.#key = options.key;
    this.#own = { ...own, purpose };
    const names: unknown = options.bindTo ?? [];
    if (!Array.isArray(names)) {
      throw new DekdError('INVALID_ARGUMENT', 'bindTo is a list of names');
    }
    this.#names = names.map((name) => checkText('a name in bindTo', name));
    const taken = this.#names.find((name) => OWN_NAMES.has(name));
    if (taken !== undefined) {
      throw new DekdError('INVALID_ARGUMENT', `bindTo names ${taken}, which helpers bind by themselves`);
    }
  }

  /**
   * The options of one call for the client.
   * @param varying fields of the helper that differ from call to call
   * @throws INVALID_ARGUMENT unless the caller gave exactly the fields that the helper is bound to
   */
  of(options: GivenOptions, varying: EncryptionContext = {}): BoundCall {
    const { signal, timeoutMs, partition, context: given = {} } = options ?? {};
    const named = this.#names.map((name) => {
      const value: unknown = Object.hasOwn(given, name) ? given[name] : undefined;
      if (typeof value !== 'string') {
        throw new DekdError('INVALID_ARGUMENT', `context has no text for ${name}, which bindTo names`);
      }
      return [name, value];
    });
    if (Object.keys(given).some((name) => !this.#names.includes(name))) {
      throw new DekdError('INVALID_ARGUMENT', 'context has a field that bindTo does not name');
    }
    const context = { ...this.#own, ...varying, ...Object.fromEntries(named) };
    return { key: this.#key, partition, context, signal, timeoutMs };
  }
}

/** @throws INVALID_ARGUMENT unless it is a text with something in it */
export function checkText(name: string, value: unknown): string {
  if (typeof value !== 'string' || value === '') {
    throw new DekdError('INVALID_ARGUMENT', `${name} is a text, not empty`);
  }
  return value;
}

/** @throws INVALID_ARGUMENT unless it is a whole number of at least `least` */
export function checkWhole(name: string, value: number, least: number): number {
  if (!Number.isSafeInteger(value) || value < least) {
    throw new DekdError('INVALID_ARGUMENT', `${name} is ${value}; it is a whole number from ${least} on`);
  }
  return value;
}
