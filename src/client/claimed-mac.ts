/** What somebody says is a MAC, and what the agent says of it. */
import { decodeMacText, STORED_MAC_LENGTH } from '../envelope/mac.ts';
import { DekdError } from '../errors.ts';

/** Has no head, and so is no MAC. */
const NO_MAC = new Uint8Array(STORED_MAC_LENGTH);

/** The bytes to be sent, those of no MAC for what has not the form of one: who asks learns all the same whether he may. */
export function claimedMac(mac: Uint8Array | string): Uint8Array {
  if (typeof mac === 'string') {
    return decodeMacText(mac) ?? NO_MAC;
  }
  if (!(mac instanceof Uint8Array)) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `mac is ${mac === null ? 'null' : typeof mac}, not a Uint8Array or a string`,
    );
  }
  return mac.length === STORED_MAC_LENGTH ? mac : NO_MAC;
}

/** Only the one byte that says so is a yes. */
export function isVerified(answer: Uint8Array): boolean {
  return answer.length === 1 && answer[0] === 1;
}
