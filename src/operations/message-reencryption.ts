/**
 * A stream that takes a message and gives the same plaintext as a new message under the newest version of the same key.
 *
 * Never the old data key under another header: the tag of a header has nonce 0 under a key that data key and message id make,
 * so two headers of one message would be two messages under one nonce of AES-GCM, whose authentication key whoever sees both
 * can compute (SP 800-38D appendix A), and forge frames with it.
 */
import { joined } from '../bytes.ts';
import { type MessageHeader, messageContext } from '../envelope/message-header.ts';
import { DekdError } from '../errors.ts';
import { storedValuePairs } from './compressed-value.ts';
import type { OperationsEnvironment } from './environment.ts';
import { beginOpening, type MessageRequest } from './message-begin.ts';
import { type MessageWork, owned, sealingWork } from './message-streams.ts';
import type { Caller } from './request.ts';

/** Bytes that are opened and sealed in one go: both take their time. */
const STEP = 128 * 1024;

/**
 * Opens a message of the key of this name and seals every verified part at once. Frames stay as long as they were; where
 * the message has none they get the usual length. The new header comes with the first bytes that are given, before any frame.
 * @throws as `openingWork` and `sealingWork` do
 */
export async function reencryptingWork(
  env: OperationsEnvironment,
  caller: Caller,
  request: MessageRequest,
): Promise<MessageWork> {
  if (request.anyKey) {
    throw new DekdError('INVALID_ARGUMENT', 'a message is re-encrypted under the key that is named');
  }
  const opening = beginOpening(env, caller, request, 'reencrypt');
  let sealing: MessageWork | undefined;
  let isClosed = false;
  const begin = async (header: MessageHeader): Promise<MessageWork> => {
    // A compressed value passes as it is.
    const wanted = { ...request, frameLength: header.frameLength, codec: undefined, content: undefined };
    const begun = await sealingWork(env, caller, wanted, 'reencrypt', storedValuePairs(messageContext(header)));
    if (isClosed) {
      begun.close();
      throw new DekdError('CANCELLED', 'the message was given up');
    }
    return begun;
  };
  const seal = (plaintext: Uint8Array): Uint8Array | Promise<Uint8Array> => {
    env.volume.bytesOpened += plaintext.length;
    return owned(sealing!.take(plaintext));
  };
  return {
    isReady: false,
    step: STEP,
    async take(bytes) {
      const plaintext = await opening.push(bytes);
      try {
        if (opening.header === undefined) {
          return plaintext;
        }
        sealing ??= await begin(opening.header);
        return await seal(plaintext);
      } finally {
        plaintext.fill(0);
      }
    },
    async end() {
      // Of a signed message: until now nothing of it was known to be right.
      const plaintext = opening.end();
      try {
        return joined([await seal(plaintext), await sealing!.end()]);
      } finally {
        plaintext.fill(0);
      }
    },
    close() {
      isClosed = true;
      opening.close();
      sealing?.close();
    },
  };
}
