import type { Engine, KeyHandle, OpenedFrames } from '../crypto/engine.ts';
import { MAX_SIGNATURE_LENGTH, MessageSignature } from '../crypto/message-signature.ts';
import { readU16 } from '../envelope/context.ts';
import {
  checkHasParts,
  FINAL_FRAME_OVERHEAD,
  FRAME_OVERHEAD,
  MAX_FRAMES,
  NON_FRAMED_OVERHEAD,
} from '../envelope/message-body.ts';
import {
  DEFAULT_MESSAGE_LIMITS,
  MESSAGE_TAG_LENGTH,
  type MessageHeader,
  MessageHeaderReader,
  type MessageLimits,
  messageContext,
  SIGNED_MESSAGE_SUITE,
} from '../envelope/message-header.ts';
import { DekdError, decryptionFailed } from '../errors.ts';

export interface MessageOpeningOptions {
  readonly engine: Engine;
  readonly limits?: MessageLimits;
  /**
   * Finds the data key of a message by its header, which nobody has vouched for yet. Taken over.
   * @throws what keeps the message from being opened
   */
  readonly dataKeyOf: (header: MessageHeader) => Promise<KeyHandle>;
  /** Canonical bytes of the pairs that are bound and that the header does not store. */
  readonly requiredOf: (header: MessageHeader) => Uint8Array;
  /** Runs what takes a slot of the key table, and makes room for it where that is full; just runs it unless given. */
  readonly room?: <T>(make: () => T) => T;
  /** What `Engine.openFrames` does, maybe elsewhere and later; the engine's own unless given. */
  readonly openFrames?: (
    message: KeyHandle,
    body: Uint8Array,
    output: Uint8Array,
  ) => OpenedFrames | undefined | Promise<OpenedFrames | undefined>;
  /** Gives plaintext of a signed message out before its signature was verified. */
  readonly allowUnverifiedSignature?: boolean;
  /** Bytes of a signed message that are held back until then; 16 MiB unless given. */
  readonly maxHeldBack?: number;
  /** What follows the header, when it is not the whole body. */
  readonly part?: MessagePart | undefined;
}

/**
 * Frames of a message without those before and, maybe, those behind. Each is verified to be the frame of its number in this
 * message; that the others are there and right is not, and only a part with the final frame says how long the message is.
 */
export interface MessagePart {
  /** Sequence number of the first, from 1 to 2^32 - 2. */
  readonly firstFrame: number;
  /** How many there are, fewer only when the final frame is among them; 0 for all, to the final one. */
  readonly frames: number;
}

const MAX_HELD_BACK = 16 * 1024 * 1024;
const PUBLIC_KEY = 'aws-crypto-public-key';
const FINAL_MARK = 0xffffffff;
const MARK_LENGTH = 4;
/** Bytes up to and with the length, of a final frame and of a body that is not framed. */
const FINAL_HEAD = FINAL_FRAME_OVERHEAD - MESSAGE_TAG_LENGTH;
const SINGLE_HEAD = NON_FRAMED_OVERHEAD - MESSAGE_TAG_LENGTH;
const NOTHING = new Uint8Array(0);

/**
 * One message while it is opened, in pieces of any size. Plaintext is given out frame by frame, each verified; a signed
 * message as a whole, once its signature is. That it was complete only `end` says.
 *
 * Calls follow each other: `push` again when the last one has resolved. After an error there is no more.
 */
export class MessageOpening {
  readonly #options: MessageOpeningOptions;
  readonly #limits: MessageLimits;
  readonly #headerReader: MessageHeaderReader;
  #header: MessageHeader | undefined;
  #message: KeyHandle | undefined;
  #signature: MessageSignature | undefined;
  /** What has come of something that is not whole: header, frame or signature. */
  #waiting = NOTHING;
  #waitingLength = 0;
  /** Bytes of the waiting frame that the engine has looked at. */
  #headChecked = 0;
  /** Frames of the part that have not come; without end where the final frame says which is the last. */
  #framesLeft: number;
  #isBodyOver = false;
  #isOver = false;
  /** A worker is opening frames. */
  #isAway = false;
  #heldBack = NOTHING;
  #heldBackLength = 0;
  #failure: unknown;

  /** @throws INVALID_ARGUMENT for a part that no message has */
  constructor(options: MessageOpeningOptions) {
    const { part } = options;
    if (part !== undefined && !(part.firstFrame >= 1 && part.firstFrame <= MAX_FRAMES)) {
      throw new DekdError('INVALID_ARGUMENT', `frames are numbered from 1 to ${MAX_FRAMES}, not ${part.firstFrame}`);
    }
    this.#framesLeft = part?.frames || Number.POSITIVE_INFINITY;
    this.#options = options;
    this.#limits = options.limits ?? DEFAULT_MESSAGE_LIMITS;
    this.#headerReader = new MessageHeaderReader(this.#limits);
  }

  /** Once it was read and verified. */
  get header(): MessageHeader | undefined {
    return this.#message === undefined && !this.#isBodyOver ? undefined : this.#header;
  }

  /** The message in work once its header was verified, for who opens its frames himself; the opening's to destroy. */
  get message(): KeyHandle | undefined {
    return this.#message;
  }

  /**
   * Takes the next bytes of the message, which are not kept.
   * @returns plaintext that may be used now, maybe none; a fresh array
   * @throws DECRYPTION_FAILED; MALFORMED; UNSUPPORTED_VERSION; INVALID_ARGUMENT naming a limit; what `dataKeyOf` throws
   */
  async push(bytes: Uint8Array): Promise<Uint8Array> {
    if (this.#failure !== undefined) {
      throw this.#failure;
    }
    try {
      return await this.#take(bytes);
    } catch (error) {
      this.#failure = error;
      this.close();
      throw error;
    }
  }

  /**
   * Says that there is no more to come.
   * @returns what was held back of a signed message
   * @throws MALFORMED when the message, or the part of it, is not complete
   */
  end(): Uint8Array {
    if (this.#failure !== undefined) {
      throw this.#failure;
    }
    if (!this.#isOver) {
      this.#failure = this.#cutShort();
      this.close();
      throw this.#failure;
    }
    const plaintext = this.#heldBack.slice(0, this.#heldBackLength);
    this.#failure = new DekdError('INTERNAL', 'a message goes on after its end');
    this.close();
    return plaintext;
  }

  /** Wipes the key of the message and the plaintext held back; also in the middle of it. Nothing can follow. */
  close(): void {
    this.#failure ??= new DekdError('CANCELLED', 'the message was given up');
    // While a worker is at it, it stays.
    if (!this.#isAway) {
      this.#destroyMessage();
    }
    this.#heldBack.fill(0);
    this.#heldBack = NOTHING;
    this.#heldBackLength = 0;
    this.#waiting = NOTHING;
    this.#waitingLength = 0;
  }

  #destroyMessage(): void {
    if (this.#message !== undefined) {
      this.#options.engine.destroyKey(this.#message);
      this.#message = undefined;
    }
  }

  /** What is wrong with a message that ends here. */
  #cutShort(): unknown {
    let missing = 'its header is not whole';
    if (this.#isBodyOver) {
      missing = 'its signature is not whole';
    } else if (this.#message !== undefined) {
      const { frames = 0 } = this.#options.part ?? {};
      missing =
        frames === 0 ? 'its final frame has not come' : `${this.#framesLeft} of the ${frames} frames have not come`;
      try {
        this.#checkHead();
      } catch (error) {
        return error;
      }
    }
    return new DekdError('MALFORMED', `the message is cut short: ${missing}`);
  }

  async #take(bytes: Uint8Array): Promise<Uint8Array> {
    let rest = bytes;
    if (this.#header === undefined) {
      const body = await this.#takeHeader(bytes);
      if (body === undefined) {
        return NOTHING;
      }
      rest = body;
    }
    const output = new Output(this.#waitingLength + rest.length);
    try {
      while (rest.length > 0 && !this.#isBodyOver) {
        const taken = this.#takeFrames(rest, output);
        rest = rest.subarray(typeof taken === 'number' ? taken : await taken);
      }
      if (this.#isBodyOver && rest.length > 0) {
        this.#takeFooter(rest);
      }
      return this.#given(output.plaintext);
    } catch (error) {
      // Frames before the one that was refused, or all of them when it was given up.
      output.wipe();
      throw error;
    }
  }

  /** @returns what follows the header, once that is whole */
  async #takeHeader(bytes: Uint8Array): Promise<Uint8Array | undefined> {
    const before = this.#waitingLength;
    if (before > 0) {
      this.#wait(bytes);
    }
    const header = this.#headerReader.read(before > 0 ? this.#waited() : bytes);
    if (header === undefined) {
      if (before === 0) {
        this.#wait(bytes);
      }
      return undefined;
    }
    this.#header = header;
    this.#waitingLength = 0;
    await this.#begin(header);
    return bytes.subarray(header.length - before);
  }

  async #begin(header: MessageHeader): Promise<void> {
    const { engine, dataKeyOf, requiredOf, room = (make) => make(), part } = this.#options;
    const publicKey = messageContext(header)[PUBLIC_KEY];
    const isSigned = header.suite === SIGNED_MESSAGE_SUITE;
    if (part !== undefined) {
      checkHasParts(header);
    }
    if (isSigned !== (publicKey !== undefined)) {
      throw new DekdError(
        'MALFORMED',
        `malformed message header: its suite is ${isSigned ? 'signed and it stores no' : 'not signed and it stores a'} public key`,
      );
    }
    if (publicKey !== undefined) {
      this.#signature = new MessageSignature(publicKey);
      this.#signature.update(header.body);
      this.#signature.update(header.tag);
    }
    const dataKey = await dataKeyOf(header);
    try {
      if (this.#failure !== undefined) {
        // It was given up meanwhile.
        throw this.#failure;
      }
      const { suite, messageId, frameLength, commitment } = header;
      this.#message = room(() => engine.resumeMessage(dataKey, suite, messageId, frameLength, commitment));
    } finally {
      engine.destroyKey(dataKey);
    }
    if (!engine.verifyHeader(this.#message, header.body, requiredOf(header), header.tag)) {
      throw decryptionFailed('message header does not authenticate');
    }
    if (part !== undefined) {
      engine.seekFrame(this.#message, part.firstFrame);
    }
  }

  /** Opens what is whole, or waits for the frame that is not. @returns how many of `bytes` were taken, never 0 */
  #takeFrames(bytes: Uint8Array, output: Output): number | Promise<number> {
    const waiting = this.#waitingLength;
    const needed = this.#frameNeeds(waiting > 0 ? this.#waited() : bytes) - waiting;
    if (needed > bytes.length || waiting > 0) {
      const part = bytes.subarray(0, needed);
      this.#wait(part);
      // What was needed may have been the head of the frame, which says how long it is.
      if (part.length === needed && this.#frameNeeds(this.#waited()) <= this.#waitingLength) {
        const opened = this.#open(this.#waited(), output);
        const done = (): number => {
          this.#waitingLength = 0;
          this.#headChecked = 0;
          return part.length;
        };
        return typeof opened === 'number' ? done() : opened.then(done);
      } else if (output.length === 0) {
        // Where there is plaintext, that goes out first.
        this.#checkHead();
      }
      return part.length;
    }
    return this.#open(bytes, output);
  }

  /**
   * Lets the engine look at the head of the frame that waits, which is shorter than any frame: what it refuses by that is
   * not waited for, and refused alike however the message is cut.
   */
  #checkHead(): void {
    const head = this.#waited().subarray(0, FINAL_HEAD);
    if (head.length <= this.#headChecked) {
      return;
    }
    this.#headChecked = head.length;
    if (this.#options.engine.openFrames(this.#message!, head, new Uint8Array(head.length)) === undefined) {
      throw refused();
    }
  }

  /** @returns how many of `bytes` were whole frames; there is one */
  #open(bytes: Uint8Array, output: Output): number | Promise<number> {
    const { engine, openFrames } = this.#options;
    // No frame is opened behind the last of a part, which may be a final one.
    const most =
      this.#framesLeft * (this.#header!.frameLength + FRAME_OVERHEAD) + FINAL_FRAME_OVERHEAD - FRAME_OVERHEAD;
    const frames = bytes.subarray(0, most);
    if (openFrames === undefined) {
      return this.#opened(bytes, output, engine.openFrames(this.#message!, frames, output.room()));
    }
    const opening = openFrames(this.#message!, frames, output.room());
    if (!(opening instanceof Promise)) {
      return this.#opened(bytes, output, opening);
    }
    this.#isAway = true;
    const back = opening.finally(() => {
      this.#isAway = false;
      if (this.#failure !== undefined) {
        this.#destroyMessage();
      }
    });
    return back.then((opened) => {
      if (this.#failure !== undefined) {
        // It was given up meanwhile.
        throw this.#failure;
      }
      return this.#opened(bytes, output, opened);
    });
  }

  #opened(bytes: Uint8Array, output: Output, opened: OpenedFrames | undefined): number {
    if (opened === undefined) {
      throw refused();
    }
    if (opened.consumed === 0) {
      throw new DekdError('INTERNAL', 'the engine takes nothing of a frame that is whole');
    }
    output.length += opened.produced;
    this.#signature?.update(bytes.subarray(0, opened.consumed));
    this.#framesLeft -= Math.floor(opened.consumed / (this.#header!.frameLength + FRAME_OVERHEAD));
    if (opened.final || this.#framesLeft === 0) {
      this.#isBodyOver = true;
      this.#isOver = this.#signature === undefined;
    }
    return opened.consumed;
  }

  /**
   * How long the frame is that `have` begins with; where that is not known yet, how much of it must have come for that.
   * A frame that is longer than its message allows is left to the engine, which refuses it by its head.
   * @throws INVALID_ARGUMENT
   */
  #frameNeeds(have: Uint8Array): number {
    const { frameLength } = this.#header!;
    const view = new DataView(have.buffer, have.byteOffset, have.byteLength);
    if (frameLength === 0) {
      if (have.length < SINGLE_HEAD) {
        return SINGLE_HEAD;
      }
      const length = view.getBigUint64(SINGLE_HEAD - 8);
      if (length > this.#limits.maxFrameLength) {
        throw new DekdError(
          'INVALID_ARGUMENT',
          `body of ${length} bytes in one piece is over maxFrameLength of ${this.#limits.maxFrameLength}`,
        );
      }
      return Number(length) + NON_FRAMED_OVERHEAD;
    }
    if (have.length < MARK_LENGTH) {
      return MARK_LENGTH;
    }
    if (view.getUint32(0) !== FINAL_MARK) {
      return frameLength + FRAME_OVERHEAD;
    }
    if (have.length < FINAL_HEAD) {
      return FINAL_HEAD;
    }
    const length = view.getUint32(FINAL_HEAD - 4);
    return length > frameLength ? FINAL_HEAD : length + FINAL_FRAME_OVERHEAD;
  }

  #takeFooter(bytes: Uint8Array): void {
    if (this.#isOver) {
      throw new DekdError(
        'MALFORMED',
        `${bytes.length} bytes follow the end of the ${this.#options.part === undefined ? 'message' : 'part'}`,
      );
    }
    this.#wait(bytes.subarray(0, 2 + MAX_SIGNATURE_LENGTH));
    const have = this.#waited();
    if (have.length < 2) {
      return;
    }
    const length = readU16(have, 0);
    if (length === 0 || length > MAX_SIGNATURE_LENGTH) {
      throw new DekdError('MALFORMED', `a signature of ${length} bytes is none of P-384`);
    }
    if (have.length < 2 + length) {
      return;
    }
    if (!this.#signature!.verify(have.subarray(2, 2 + length))) {
      throw decryptionFailed('signature of the message does not verify');
    }
    this.#isOver = true;
    const before = this.#waitingLength - Math.min(bytes.length, 2 + MAX_SIGNATURE_LENGTH);
    const after = bytes.subarray(2 + length - before);
    this.#waitingLength = 0;
    if (after.length > 0) {
      this.#takeFooter(after);
    }
  }

  #given(plaintext: Uint8Array): Uint8Array {
    const { allowUnverifiedSignature = false, maxHeldBack = MAX_HELD_BACK } = this.#options;
    if (this.#signature === undefined || allowUnverifiedSignature) {
      return plaintext;
    }
    const length = this.#heldBackLength + plaintext.length;
    if (length > maxHeldBack) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `a signed message is held back until its signature is verified, and this one is over ${maxHeldBack} bytes: ` +
          'allowUnverifiedSignature gives it out before that',
      );
    }
    if (length > this.#heldBack.length) {
      const larger = grown(this.#heldBack, this.#heldBackLength, Math.min(maxHeldBack, 2 * length));
      this.#heldBack.fill(0);
      this.#heldBack = larger;
    }
    this.#heldBack.set(plaintext, this.#heldBackLength);
    this.#heldBackLength = length;
    plaintext.fill(0);
    return NOTHING;
  }

  /** What has come of something that is not whole; a view. */
  #waited(): Uint8Array {
    return this.#waiting.subarray(0, this.#waitingLength);
  }

  /** Keeps bytes of what is not whole; grows with what has come, never with what a length says. */
  #wait(bytes: Uint8Array): void {
    const length = this.#waitingLength + bytes.length;
    if (length > this.#waiting.length) {
      this.#waiting = grown(this.#waiting, this.#waitingLength, Math.max(length, 2 * this.#waiting.length));
    }
    this.#waiting.set(bytes, this.#waitingLength);
    this.#waitingLength = length;
  }
}

function refused(): DekdError {
  return decryptionFailed('message does not authenticate, or its frames are not in order');
}

/** Where the plaintext of one call goes, made when there is some. */
class Output {
  readonly #capacity: number;
  #bytes = NOTHING;
  length = 0;

  /** @param capacity more than this cannot come of the call, in bytes */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get plaintext(): Uint8Array {
    return this.#bytes.subarray(0, this.length);
  }

  wipe(): void {
    this.#bytes.fill(0);
  }

  room(): Uint8Array {
    if (this.#bytes.length === 0) {
      this.#bytes = new Uint8Array(this.#capacity);
    }
    return this.#bytes.subarray(this.length);
  }
}

/** The plaintext of a whole message. @throws as `MessageOpening` */
export async function openMessage(bytes: Uint8Array, options: MessageOpeningOptions): Promise<Uint8Array> {
  const opening = new MessageOpening(options);
  try {
    const plaintext = await opening.push(bytes);
    const rest = opening.end();
    return rest.length === 0 ? plaintext : rest;
  } finally {
    opening.close();
  }
}

/** A larger array with the same beginning. */
function grown(bytes: Uint8Array, length: number, size: number): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(size);
  larger.set(bytes.subarray(0, length));
  return larger;
}
