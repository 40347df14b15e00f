/** Whether a message is as the agent would make it now, told by its header alone. */
import { Transform, type TransformCallback } from 'node:stream';
import {
  type EncryptedDataKey,
  KEYSTORE_PROVIDER,
  type MessageHeader,
  MessageHeaderReader,
} from '../../envelope/message-header.ts';
import { KID_LENGTH } from '../../envelope/token.ts';
import { DekdError } from '../../errors.ts';

/** Ends a pipeline whose result would be no news. */
export class Unchanged extends Error {
  override readonly name = 'Unchanged';

  constructor() {
    super('the message is under the newest version already');
  }
}

/**
 * Passes a re-encrypted message on as soon as its header says something else than that of the message it is made of: other
 * keys, another context or suite. Otherwise it fails with `Unchanged` before anything has passed.
 */
export class HeaderGate extends Transform {
  readonly #before: MessageHeader;
  readonly #reader = new MessageHeaderReader();
  #waiting: Buffer | undefined = Buffer.alloc(0);

  constructor(before: MessageHeader) {
    super();
    this.#before = before;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    if (this.#waiting === undefined) {
      done(null, chunk);
      return;
    }
    this.#waiting = Buffer.concat([this.#waiting, chunk]);
    try {
      this.#judge(done);
    } catch (error) {
      done(error as Error);
    }
  }

  override _flush(done: TransformCallback): void {
    // What is held back now would be missing from a file that counts as whole.
    done(this.#waiting === undefined ? null : new DekdError('INTERNAL', 'the message made has no whole header'));
  }

  #judge(done: TransformCallback): void {
    const whole = this.#waiting!;
    const made = this.#reader.read(whole);
    if (made === undefined) {
      done();
    } else if (isAsMade(this.#before, made)) {
      done(new Unchanged());
    } else {
      this.#waiting = undefined;
      done(null, whole);
    }
  }
}

/** Whether two headers say the same but for what is drawn anew for each message. */
export function isAsMade(before: MessageHeader, made: MessageHeader): boolean {
  return (
    before.suite === made.suite &&
    before.frameLength === made.frameLength &&
    Buffer.from(before.context).equals(made.context) &&
    before.dataKeys.map(recipientOf).sort().join() === made.dataKeys.map(recipientOf).sort().join()
  );
}

/** Which key a data key is encrypted under, as far as a header says; base64, so that no name runs into the next. */
function recipientOf({ providerId, providerInfo, ciphertext }: EncryptedDataKey): string {
  const parts = [Buffer.from(providerId), keyOf(providerId, providerInfo), versionOf(ciphertext)];
  return parts.map((part) => part.toString('base64')).join('.');
}

/** Bytes behind the name of a raw AES key: length of the tag in bits, length of the nonce, nonce. */
const RAW_AES_TRAILER = 4 + 4 + 12;
const RAW_AES_LENGTHS = Buffer.from([0, 0, 0, 128, 0, 0, 0, 12]);

function keyOf(providerId: string, info: Uint8Array): Buffer {
  const bytes = Buffer.from(info);
  if (providerId === KEYSTORE_PROVIDER) {
    // The epoch behind the kid changes with the thread.
    return bytes.subarray(0, 2 * KID_LENGTH);
  }
  const end = bytes.length - RAW_AES_TRAILER;
  return end > 0 && bytes.subarray(end, end + RAW_AES_LENGTHS.length).equals(RAW_AES_LENGTHS)
    ? bytes.subarray(0, end)
    : bytes;
}

/** Vault and OpenBao write the version of their key before what it encrypted. */
function versionOf(ciphertext: Uint8Array): Buffer {
  const head = Buffer.from(ciphertext.subarray(0, 32)).toString('latin1');
  return Buffer.from(/^vault:v\d+:/.exec(head)?.[0] ?? '');
}
