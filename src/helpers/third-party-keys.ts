import { DekdError } from '../errors.ts';
import { Binding, type BoundArgument, checkText, type HelperOptions } from './binding.ts';
import type { TextClient } from './timed-values.ts';
import { notValid, opening } from './validity.ts';

const WHAT = 'the third-party key';
const MAX_LENGTH = 65_536;

/**
 * API keys of other people's services that the application must keep to use them: sealed, and bound to the service that they are
 * for and the fields of `bindTo`, which should name whose they are. What was kept for one service opens for no other.
 */
export class ThirdPartyKeys<Name extends string = never> {
  readonly #dekd: TextClient;
  readonly #binding: Binding;

  /** @throws INVALID_ARGUMENT */
  constructor(dekd: TextClient, options: HelperOptions<Name>) {
    this.#dekd = dekd;
    this.#binding = new Binding('third-party-key', options);
  }

  /** @returns `dk1.…`, for the store. @throws INVALID_ARGUMENT for a key that is no text or makes over 65,536 characters */
  async seal(apiKey: string, service: string, ...[options]: BoundArgument<Name>): Promise<string> {
    const call = this.#binding.of(options, { service: checkText('service', service) });
    checkText('the API key', apiKey);
    const sealed = apiKey.length > MAX_LENGTH ? undefined : await this.#dekd.encryptText(apiKey, call);
    if (sealed === undefined || sealed.length > MAX_LENGTH) {
      throw new DekdError('INVALID_ARGUMENT', `${WHAT} becomes longer than ${MAX_LENGTH} characters`);
    }
    return sealed;
  }

  /** @throws DECRYPTION_FAILED for what was not kept for this service */
  async open(sealed: string, service: string, ...[options]: BoundArgument<Name>): Promise<string> {
    const call = this.#binding.of(options, { service: checkText('service', service) });
    if (typeof sealed !== 'string' || sealed.length > MAX_LENGTH) {
      throw notValid(WHAT);
    }
    return opening(WHAT, () => this.#dekd.decryptText(sealed, call));
  }
}
