/**
 * JSON values with an end of their time, each as one `dk1.` text: what pagination tokens, sessions, refresh tokens and one-shot
 * secrets are made of. The plaintext is the second since 1970 in which the time is over, in base 36, a colon, and the JSON text.
 */
import { jsonText } from '../client/json-text.ts';
import type { DekdClient } from '../client/types.ts';
import { DekdError } from '../errors.ts';
import { type BoundCall, checkWhole } from './binding.ts';
import { expired, notValid, opening } from './validity.ts';

/** What these helpers need of a client. */
export type TextClient = Pick<DekdClient, 'encryptText' | 'decryptText'>;

/** The last second that a Date can say. */
const LAST_SECOND = 8_640_000_000_000;

export interface TimedOptions {
  /** Milliseconds that a value is good for, rounded up to seconds. */
  readonly ttlMs?: number | undefined;
  /** Characters that a token may have; a longer one is not looked at. */
  readonly maxLength?: number | undefined;
  /** The time in milliseconds since 1970; default `Date.now`. */
  readonly now?: (() => number) | undefined;
}

export interface OpenedValue {
  readonly value: unknown;
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
}

export class TimedValues {
  readonly #client: TextClient;
  readonly #what: string;
  readonly #ttlMs: number;
  readonly #maxLength: number;
  readonly #now: () => number;

  /**
   * @param what names a value in errors: `the pagination token`
   * @throws INVALID_ARGUMENT
   */
  constructor(client: TextClient, what: string, options: TimedOptions, defaults: { ttlMs: number; maxLength: number }) {
    this.#client = client;
    this.#what = what;
    this.#ttlMs = checkWhole('ttlMs', options.ttlMs ?? defaults.ttlMs, 1);
    this.#maxLength = checkWhole('maxLength', options.maxLength ?? defaults.maxLength, 1);
    this.#now = options.now ?? Date.now;
  }

  /** When a value that is sealed now ends, in milliseconds since 1970: in whole seconds. @throws INVALID_ARGUMENT */
  endOf(ttlMs: number = this.#ttlMs): number {
    const end = Math.ceil((this.#now() + checkWhole('ttlMs', ttlMs, 1)) / 1000);
    if (!(end >= 0 && end <= LAST_SECOND)) {
      throw new DekdError('INVALID_ARGUMENT', `ttlMs of ${ttlMs} ends at no time that can be said`);
    }
    return end * 1000;
  }

  /**
   * @param expiresAt as `endOf` gives it
   * @throws INVALID_ARGUMENT for what JSON cannot carry, or when the token would be longer than `maxLength`
   */
  async seal(value: unknown, expiresAt: number, call: BoundCall): Promise<string> {
    const json = jsonText(value);
    // A token is longer than what is in it.
    const token =
      json.length > this.#maxLength
        ? undefined
        : await this.#client.encryptText(`${(expiresAt / 1000).toString(36)}:${json}`, call);
    if (token === undefined || token.length > this.#maxLength) {
      throw new DekdError('INVALID_ARGUMENT', `${this.#what} becomes longer than maxLength of ${this.#maxLength}`);
    }
    return token;
  }

  /** @throws DECRYPTION_FAILED for all that is no such token, EXPIRED for one whose time is over; never with its content */
  async open(token: unknown, call: BoundCall): Promise<OpenedValue> {
    if (typeof token !== 'string' || token.length > this.#maxLength) {
      throw notValid(this.#what);
    }
    const text = await opening(this.#what, () => this.#client.decryptText(token, call));
    const opened = this.#parsed(text);
    if (this.#now() >= opened.expiresAt) {
      throw expired(this.#what);
    }
    return opened;
  }

  #parsed(text: string): OpenedValue {
    const colon = text.indexOf(':');
    const second = text.slice(0, colon);
    if (colon > 0 && /^[0-9a-z]{1,9}$/.test(second)) {
      try {
        return { value: JSON.parse(text.slice(colon + 1)), expiresAt: Number.parseInt(second, 36) * 1000 };
      } catch {
        // What it would say quotes the plaintext.
      }
    }
    throw notValid(this.#what);
  }
}
