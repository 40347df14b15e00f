/** Which version of a key a stored ciphertext is of, without opening it. */
import { hex } from '../bytes.ts';
import { KEYSTORE_PROVIDER, readMessageHeader } from '../envelope/message-header.ts';
import { readTokenHead, TOKEN_FORMAT, tokenKid } from '../envelope/token.ts';
import { decodeTokenText } from '../envelope/token-text.ts';
import { DekdError } from '../errors.ts';

/** What a key id looks like at the beginning of that copy's name. */
const KEY_ID = /^[0-9a-f]{32}(?=\.)/;

/**
 * The id of the key version that a token or a message was made with, as `keyInfo` lists it: what an inventory of stored values
 * counts. Nothing is opened, so nobody has vouched for it. Of a direct token, which has no version, it is what all tokens of the
 * same root, key and partition have in common.
 * @param ciphertext a token, as bytes or as text, or a message: its header is enough
 * @returns 32 digits in lower hex; undefined for a message that the keystore has no key for
 * @throws DekdError MALFORMED, UNSUPPORTED_VERSION
 */
export function keyIdOf(ciphertext: Uint8Array | string): string | undefined {
  const bytes = typeof ciphertext === 'string' ? decodeTokenText(ciphertext) : ciphertext;
  if (!(bytes instanceof Uint8Array)) {
    throw new DekdError('INVALID_ARGUMENT', `a ciphertext is bytes or a text, not ${typeof ciphertext}`);
  }
  if (bytes.length === 0 || bytes[0] === TOKEN_FORMAT) {
    readTokenHead(bytes, 0, bytes.length);
    return hex(tokenKid(bytes, 0));
  }
  const header = readMessageHeader(bytes);
  if (header === undefined) {
    throw new DekdError('MALFORMED', 'the message is cut short: its header is not whole');
  }
  const own = header.dataKeys.find(({ providerId }) => providerId === KEYSTORE_PROVIDER);
  return own && KEY_ID.exec(Buffer.from(own.providerInfo).toString('latin1'))?.[0];
}
