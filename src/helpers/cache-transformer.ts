import type { DekdClient, ManyResult } from '../client/types.ts';
import { decodeTokenText, encodeTokenText } from '../envelope/token-text.ts';
import { DekdError } from '../errors.ts';
import {
  Binding,
  type BoundArgument,
  type BoundCall,
  checkText,
  checkWhole,
  type GivenOptions,
  type HelperOptions,
} from './binding.ts';
import { notValid, saysNotValid } from './validity.ts';

const WHAT = 'the cached value';
/** Characters: what the agent takes at once by default, as base64url, and some more. */
const DEFAULT_MAX_LENGTH = 2 * 1024 * 1024;

/** What sends a command: ioredis by `call`, node-redis by `sendCommand`. */
export type RedisCommands =
  | { call(command: string, ...args: string[]): Promise<unknown> }
  | { sendCommand(args: string[]): Promise<unknown> };

/** What a cache needs of a client. */
export type BatchClient = Pick<DekdClient, 'encryptMany' | 'decryptMany'>;

export interface CacheTransformerOptions<Name extends string = never> extends HelperOptions<Name> {
  /** Which cache this is, where several share one Redis: a value of one is none of another. Default `cache`. */
  readonly kind?: string | undefined;
  /** What comes of a value that does not open: `miss`, as if there were none, or `error`, DECRYPTION_FAILED. Default `miss`. */
  readonly onInvalid?: 'miss' | 'error' | undefined;
  /** Characters that a value in Redis may have; a longer one is not looked at. Default 2,097,152. */
  readonly maxLength?: number | undefined;
}

/** When a value ends: Redis sees to that, and nothing in the value does. */
export interface CacheTime {
  /** Milliseconds until Redis drops the value; it stays without. */
  readonly ttlMs?: number | undefined;
  /** Leaves the end that the key has already. */
  readonly keepTtl?: boolean | undefined;
}

/**
 * A cache in Redis that holds only ciphertext: texts, each sealed and bound to the name that it lies under. The names are for
 * Redis to read. Whoever can write to Redis can put an older value of the same name back, or keep one beyond its time.
 */
export class CacheTransformer<Name extends string = never> {
  readonly #dekd: BatchClient;
  readonly #run: (command: string, ...args: string[]) => Promise<unknown>;
  readonly #binding: Binding;
  readonly #isError: boolean;
  readonly #maxLength: number;

  /** @throws INVALID_ARGUMENT */
  constructor(dekd: BatchClient, redis: RedisCommands, options: CacheTransformerOptions<Name>) {
    this.#dekd = dekd;
    // ioredis has a `sendCommand` as well, which takes something else.
    this.#run =
      'call' in redis ? (...all) => redis.call(...all) : (command, ...args) => redis.sendCommand([command, ...args]);
    this.#binding = new Binding('cache-value', options, { kind: options?.kind ?? 'cache' });
    this.#isError = options.onInvalid === 'error';
    this.#maxLength = checkWhole('maxLength', options.maxLength ?? DEFAULT_MAX_LENGTH, 1);
  }

  /** The value; null where there is none. @throws as `mget` */
  async get(name: string, ...options: BoundArgument<Name>): Promise<string | null> {
    const [value] = await this.mget([name], ...options);
    return value ?? null;
  }

  /**
   * The values, in the order of their names, opened as one batch.
   * @throws DECRYPTION_FAILED for a value that does not open, with `onInvalid: 'error'`; what Redis throws, and what the client
   *     does: an agent that is down is no miss
   */
  async mget(names: readonly string[], ...[options]: BoundArgument<Name>): Promise<(string | null)[]> {
    const calls = names.map((name) => this.#call(name, options));
    const [first] = names;
    if (first === undefined) {
      return [];
    }
    const replies = names.length === 1 ? [await this.#run('GET', first)] : await this.#run('MGET', ...names);
    const tokens = (replies as readonly unknown[]).map((reply) => this.#tokenOf(reply));
    const present = [...tokens.keys()].filter((at) => tokens[at] !== undefined);
    const items = present.map((at) => ({ ...bound(calls[at]!), data: tokens[at]! }));
    const results = items.length === 0 ? [] : await this.#dekd.decryptMany(items, waiting(calls[0]!));
    const values: (string | null)[] = names.map(() => null);
    for (const [index, result] of results.entries()) {
      values[present[index]!] = this.#valueOf(result);
    }
    return values;
  }

  /** @throws INVALID_ARGUMENT for what is no text, or would be longer than `maxLength`; what Redis and the client throw */
  async set(name: string, value: string, ...options: BoundArgument<Name, CacheTime>): Promise<void> {
    await this.mset([[name, value]], ...options);
  }

  /**
   * Sets many, sealed as one batch: with MSET, at once; with a time, one SET after the other on one connection.
   * @throws as `set`, before anything is set
   */
  async mset(
    entries: readonly (readonly [name: string, value: string])[],
    ...[options]: BoundArgument<Name, CacheTime>
  ): Promise<void> {
    const time = timeOf(options);
    const items = entries.map(([name, value]) => ({ ...bound(this.#call(name, options)), data: bytesOf(value) }));
    const { signal, timeoutMs } = options ?? {};
    const results = await this.#dekd.encryptMany(items, { signal, timeoutMs });
    const sealed = entries.map(([name], at) => [name, this.#sealedOf(results[at]!)] as const);
    if (time.length === 0 && sealed.length > 1) {
      await this.#run('MSET', ...sealed.flat());
    } else {
      await Promise.all(sealed.map((each) => this.#run('SET', ...each, ...time)));
    }
  }

  /** @returns how many there were */
  async del(...names: string[]): Promise<number> {
    return names.length === 0 ? 0 : Number(await this.#run('DEL', ...names));
  }

  #call(name: string, options: GivenOptions): BoundCall {
    return this.#binding.of(options, { entry: checkText('the name of an entry', name) });
  }

  /** The token that Redis has; undefined for none, and for what is none. @throws as `mget` */
  #tokenOf(reply: unknown): Uint8Array | undefined {
    if (reply === null || reply === undefined) {
      return undefined;
    }
    const text = reply instanceof Uint8Array ? Buffer.from(reply).toString('latin1') : String(reply);
    try {
      if (text.length > this.#maxLength) {
        throw notValid(WHAT);
      }
      return decodeTokenText(text);
    } catch (error) {
      this.#missed(error);
      return undefined;
    }
  }

  #valueOf(result: ManyResult): string | null {
    if (result.ok) {
      return Buffer.from(result.value.buffer, result.value.byteOffset, result.value.length).toString();
    }
    this.#missed(result.error);
    return null;
  }

  /** @throws unless it is about the value, and a miss is what comes of that */
  #missed(error: unknown): void {
    if (!saysNotValid(error)) {
      throw error;
    }
    if (this.#isError) {
      throw notValid(WHAT, error);
    }
  }

  #sealedOf(result: ManyResult): string {
    if (!result.ok) {
      throw result.error;
    }
    const text = encodeTokenText(result.value);
    if (text.length > this.#maxLength) {
      throw new DekdError('INVALID_ARGUMENT', `${WHAT} becomes longer than maxLength of ${this.#maxLength}`);
    }
    return text;
  }
}

/** What an item of a batch says, and what the batch does. */
function bound({ key, partition, context }: BoundCall): Pick<BoundCall, 'key' | 'partition' | 'context'> {
  return { key, partition, context };
}

function waiting({ signal, timeoutMs }: BoundCall): Pick<BoundCall, 'signal' | 'timeoutMs'> {
  return { signal, timeoutMs };
}

function bytesOf(value: unknown): Uint8Array {
  if (typeof value !== 'string' || !value.isWellFormed()) {
    throw new DekdError('INVALID_ARGUMENT', 'a cached value is a text, without lone surrogates');
  }
  return Buffer.from(value);
}

/** As SET takes it. */
function timeOf({ ttlMs, keepTtl = false }: CacheTime = {}): readonly string[] {
  if (ttlMs === undefined) {
    return keepTtl ? ['KEEPTTL'] : [];
  }
  if (keepTtl) {
    throw new DekdError('INVALID_ARGUMENT', 'ttlMs and keepTtl are not given together');
  }
  return ['PX', String(checkWhole('ttlMs', ttlMs, 1))];
}
