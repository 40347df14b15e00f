import { joined } from '../bytes.ts';
import type { BegunMessage, Engine, KeyHandle } from '../crypto/engine.ts';
import { FINAL_FRAME_OVERHEAD, FRAME_OVERHEAD, sealedBodyLength } from '../envelope/message-body.ts';
import { type EncryptedDataKey, encodeMessageHeader } from '../envelope/message-header.ts';
import { DekdError } from '../errors.ts';

const NOTHING = new Uint8Array(0);

export interface MessageSealingOptions {
  readonly engine: Engine;
  /** Stays the caller's. */
  readonly dataKey: KeyHandle;
  /** The data key as each recipient can open it. */
  readonly dataKeys: readonly EncryptedDataKey[];
  /** Canonical bytes of the context that the header stores. */
  readonly context: Uint8Array;
  /** Canonical bytes of the pairs that are bound and not stored. */
  readonly required: Uint8Array;
  /** Bytes of plaintext in every frame but the last. */
  readonly frameLength: number;
}

/** Seals frames elsewhere; `length` is that of the result. */
export type SealFrames = (
  message: KeyHandle,
  plaintext: Uint8Array,
  isFinal: boolean,
  length: number,
) => Promise<Uint8Array>;

/**
 * One message while it is made: first its header, then what `update` and `end` give. Holds back at most one frame of
 * plaintext, because the last frame is another kind of frame and only `end` says which one that is.
 */
export class MessageSealing {
  /** Header body and tag. */
  readonly header: Uint8Array;
  readonly #engine: Engine;
  readonly #message: KeyHandle;
  readonly #frameLength: number;
  /** Plaintext of a frame that is not full, or not known to be followed by another; grows up to one. */
  #held = new Uint8Array(0);
  #heldLength = 0;
  #isOver = false;
  /** A worker is sealing. */
  #isAway = false;

  /** @throws INVALID_ARGUMENT for a header that cannot be written; RESOURCE_EXHAUSTED when the key table is full */
  constructor({ engine, dataKey, dataKeys, context, required, frameLength }: MessageSealingOptions) {
    const begun = engine.beginMessage(dataKey, frameLength);
    try {
      this.header = headerOf(engine, begun, { dataKeys, context, required, frameLength });
    } catch (error) {
      engine.destroyKey(begun.message);
      throw error;
    }
    this.#engine = engine;
    this.#message = begun.message;
    this.#frameLength = frameLength;
  }

  /** The message in work, for who makes its frames himself; the sealing's to destroy. */
  get message(): KeyHandle {
    return this.#message;
  }

  /**
   * Takes plaintext, which is not kept.
   * @param room where the frames are put if they fit
   * @returns the frames that are known not to be the last, maybe none; the beginning of `room`, or a fresh array
   * @throws INTERNAL after `end` or `close`
   */
  update(plaintext: Uint8Array, room: Uint8Array = NOTHING): Uint8Array {
    this.#checkOpen();
    const frames = this.framesOf(plaintext.length);
    const length = frames * (this.#frameLength + FRAME_OVERHEAD);
    const sealed = length <= room.length ? room.subarray(0, length) : new Uint8Array(length);
    let from = 0;
    let to = 0;
    if (frames > 0 && this.#heldLength > 0) {
      from = this.#frameLength - this.#heldLength;
      this.#hold(plaintext.subarray(0, from));
      to = this.#frameLength + FRAME_OVERHEAD;
      this.#engine.sealFrames(this.#message, this.#held.subarray(0, this.#frameLength), false, sealed.subarray(0, to));
      this.#heldLength = 0;
    }
    const whole = frames * this.#frameLength - (to === 0 ? 0 : this.#frameLength);
    if (whole > 0) {
      this.#engine.sealFrames(this.#message, plaintext.subarray(from, from + whole), false, sealed.subarray(to));
    }
    this.#hold(plaintext.subarray(from + whole));
    return sealed;
  }

  /** Frames that `update` would make of `length` more bytes. */
  framesOf(length: number): number {
    const total = this.#heldLength + length;
    // One byte at least stays, so that the final frame is empty only when the message is.
    return total === 0 ? 0 : Math.floor((total - 1) / this.#frameLength);
  }

  /** Bytes held back. */
  get heldLength(): number {
    return this.#heldLength;
  }

  /**
   * As `update`, by a worker.
   * @param seal does what `Engine.sealFrames` does, and wipes the plaintext, which lies in shared memory of its own
   */
  async updateBy(plaintext: Uint8Array, seal: SealFrames): Promise<Uint8Array> {
    this.#checkOpen();
    const frames = this.framesOf(plaintext.length);
    if (frames === 0) {
      return this.update(plaintext);
    }
    const whole = new Uint8Array(new SharedArrayBuffer(frames * this.#frameLength));
    whole.set(this.#held.subarray(0, this.#heldLength));
    const taken = whole.length - this.#heldLength;
    whole.set(plaintext.subarray(0, taken), this.#heldLength);
    this.#heldLength = 0;
    this.#hold(plaintext.subarray(taken));
    return this.#away(seal(this.#message, whole, false, frames * (this.#frameLength + FRAME_OVERHEAD)));
  }

  /** The message stays while a worker is at it, also when it is closed meanwhile. */
  async #away(sealing: Promise<Uint8Array>): Promise<Uint8Array> {
    this.#isAway = true;
    try {
      return await sealing;
    } finally {
      this.#isAway = false;
      if (this.#isOver) {
        this.close();
      }
    }
  }

  /** As `end`, by a worker. */
  async endBy(seal: SealFrames): Promise<Uint8Array> {
    this.#checkOpen();
    this.#isOver = true;
    const last = new Uint8Array(new SharedArrayBuffer(this.#heldLength));
    last.set(this.#held.subarray(0, this.#heldLength));
    return this.#away(seal(this.#message, last, true, last.length + FINAL_FRAME_OVERHEAD));
  }

  #hold(bytes: Uint8Array): void {
    const length = this.#heldLength + bytes.length;
    if (length > this.#held.length) {
      const larger = new Uint8Array(Math.min(this.#frameLength, Math.max(length, 2 * this.#held.length)));
      larger.set(this.#held.subarray(0, this.#heldLength));
      this.#held.fill(0);
      this.#held = larger;
    }
    this.#held.set(bytes, this.#heldLength);
    this.#heldLength = length;
  }

  /** The final frame; a fresh array. Nothing can follow. @throws INTERNAL after `end` or `close` */
  end(): Uint8Array {
    this.#checkOpen();
    try {
      const sealed = new Uint8Array(this.#heldLength + FINAL_FRAME_OVERHEAD);
      this.#engine.sealFrames(this.#message, this.#held.subarray(0, this.#heldLength), true, sealed);
      return sealed;
    } finally {
      this.close();
    }
  }

  /** Wipes the key of the message and the plaintext held back; also in the middle of it. */
  close(): void {
    this.#isOver = true;
    if (!this.#isAway) {
      this.#engine.destroyKey(this.#message);
    }
    this.#held.fill(0);
    this.#heldLength = 0;
  }

  #checkOpen(): void {
    if (this.#isOver) {
      throw new DekdError('INTERNAL', 'a message goes on after its end');
    }
  }
}

/** A whole message in one call; a fresh array. @throws as `MessageSealing` */
export function sealMessage(plaintext: Uint8Array, options: MessageSealingOptions): Uint8Array {
  const { engine, dataKey, frameLength } = options;
  const begun = engine.beginMessage(dataKey, frameLength);
  try {
    const header = headerOf(engine, begun, options);
    const message = new Uint8Array(header.length + sealedBodyLength(plaintext.length, frameLength));
    message.set(header);
    engine.sealFrames(begun.message, plaintext, true, message.subarray(header.length));
    return message;
  } finally {
    engine.destroyKey(begun.message);
  }
}

function headerOf(
  engine: Engine,
  { message, id, commitment }: BegunMessage,
  { dataKeys, context, required, frameLength }: Omit<MessageSealingOptions, 'engine' | 'dataKey'>,
): Uint8Array {
  const body = encodeMessageHeader({ messageId: id, context, dataKeys, frameLength, commitment });
  return joined([body, engine.sealHeader(message, body, required)]);
}
