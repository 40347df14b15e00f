/**
 * Frames on the socket: u32 big-endian length, then that many bytes of one protobuf message.
 */
import { DekdError } from '../errors.ts';

/** Bytes of the length prefix. */
export const FRAME_PREFIX = 4;

/** What a frame may hold beyond the largest payload: the fields around it. */
export const FRAME_ALLOWANCE = 64 * 1024;

/** What a batch item counts towards the payload limit beside its bytes and its context. */
export const ITEM_ALLOWANCE = 80;

/** Fields of the part of a stream, number and wire type together; the same in both directions. */
export const STREAM_PART = { credit: 0x08, end: 0x10, data: 0x7a } as const;

/** How a stream compresses its plaintext, and what it says that it is: numbers of OpenStream. */
export const COMPRESSION = { none: 0, best: 1, gzip: 2, zstd: 3 } as const;
export const CONTENT = { none: 0, bytes: 1, json: 2 } as const;

/** Fields of a range of a lane region, number and wire type together. */
export const LANE_RANGE = { handle: 0x08, offset: 0x10, length: 0x18 } as const;

/** Field of the result of a call through the lane: how long it is. */
export const LANE_RESULT_LENGTH = 0x08;

/** Bytes of a stream in one frame, so that streams and small calls take turns. */
export const MAX_STREAM_PART = 256 * 1024;

/**
 * Takes one whole frame, as a view without its prefix. How long the view stays intact is the chunk's matter, or, for a
 * frame that came in several chunks, that of the reader's `assembly`.
 */
export type FrameSink = (frame: Buffer) => void;

/** Where frames that span chunks are put together. */
export interface Assembly {
  /** A buffer of exactly `length` bytes. */
  take(length: number): Buffer;
  /** The frame in it has been dealt with. */
  give(buffer: Buffer): void;
}

/** Below this, a read into a frame saves less than it costs: what follows the frame would take a read of its own. */
const WORTH_READING_INTO = 64 * 1024;

/** A buffer for each frame, never used again: the frame's memory is whose the frame is. */
const FRESH: Assembly = {
  // Not a slice of the shared pool: it may outlive many chunks.
  take: (length) => Buffer.allocUnsafeSlow(length),
  give: () => {},
};

/** Frames are put together in memory that is used again; every view of it ends with the sink's return. */
export class ReusedAssembly implements Assembly {
  readonly #keepLimit: number;
  #spare: Buffer | undefined;

  /** @param keepLimit the largest buffer worth keeping, in bytes */
  constructor(keepLimit: number) {
    this.#keepLimit = keepLimit;
  }

  take(length: number): Buffer {
    const spare = this.#spare;
    if (spare !== undefined && spare.length >= length) {
      this.#spare = undefined;
      return spare.subarray(0, length);
    }
    return Buffer.allocUnsafeSlow(length);
  }

  /** Wipes the frame: it may be plaintext. */
  give(buffer: Buffer): void {
    buffer.fill(0);
    const whole = Buffer.from(buffer.buffer, 0, buffer.buffer.byteLength);
    if (whole.length <= this.#keepLimit && whole.length > (this.#spare?.length ?? 0)) {
      this.#spare = whole;
    }
  }
}

/**
 * Cuts a byte stream into frames without ever concatenating: a frame inside one chunk is a view of it; one that spans
 * chunks is copied once, into a buffer of its assembly. The limit is checked when the length is known, before that buffer
 * exists. After an error the reader is dead.
 */
export class FrameReader {
  readonly #sink: FrameSink;
  readonly #limit: number;
  readonly #assembly: Assembly;
  #prefix = 0;
  #prefixBytes = 0;
  #body: Buffer | undefined;
  #filled = 0;
  #dead = false;

  /** @param limit largest frame in bytes, without its prefix */
  constructor(limit: number, sink: FrameSink, assembly: Assembly = FRESH) {
    this.#limit = limit;
    this.#sink = sink;
    this.#assembly = assembly;
  }

  /** Whether the bytes so far end inside a frame. */
  get isMidFrame(): boolean {
    return this.#body !== undefined || this.#prefixBytes > 0;
  }

  /**
   * Where the rest of a large frame belongs, for a socket that can read straight to it; undefined when little or nothing
   * is missing. What was read there is told with `fill`, before anything is pushed.
   */
  get space(): Buffer | undefined {
    const body = this.#body;
    return body === undefined || this.#dead || body.length - this.#filled < WORTH_READING_INTO
      ? undefined
      : body.subarray(this.#filled);
  }

  /** The first `length` bytes of `space` have been received. @throws what the sink throws */
  fill(length: number): void {
    const body = this.#body!;
    this.#filled += length;
    if (this.#filled === body.length) {
      this.#complete(body);
    }
  }

  /** Feeds received bytes. @throws PROTOCOL_ERROR when a frame claims more than the limit. */
  push(chunk: Buffer): void {
    if (this.#dead) {
      throw new DekdError('PROTOCOL_ERROR', 'frame reader used after an error');
    }
    const end = chunk.length;
    let at = 0;
    while (at < end) {
      const body = this.#body;
      if (body !== undefined) {
        const wanted = body.length - this.#filled;
        const taken = Math.min(wanted, end - at);
        chunk.copy(body, this.#filled, at, at + taken);
        at += taken;
        if (taken === wanted) {
          this.#complete(body);
        } else {
          this.#filled += taken;
        }
        continue;
      }
      let length: number;
      if (this.#prefixBytes === 0 && end - at >= FRAME_PREFIX) {
        length = chunk.readUInt32BE(at);
        at += FRAME_PREFIX;
      } else {
        this.#prefix = this.#prefix * 256 + chunk[at]!;
        at += 1;
        this.#prefixBytes += 1;
        if (this.#prefixBytes < FRAME_PREFIX) {
          continue;
        }
        length = this.#prefix;
        this.#prefix = 0;
        this.#prefixBytes = 0;
      }
      if (length > this.#limit) {
        this.#dead = true;
        throw new DekdError('PROTOCOL_ERROR', `frame of ${length} bytes is over the limit of ${this.#limit}`);
      }
      if (end - at >= length) {
        const frame = chunk.subarray(at, at + length);
        at += length;
        this.#sink(frame);
      } else {
        this.#body = this.#assembly.take(length);
        this.#filled = 0;
      }
    }
  }

  #complete(body: Buffer): void {
    this.#body = undefined;
    this.#filled = 0;
    try {
      this.#sink(body);
    } finally {
      this.#assembly.give(body);
    }
  }
}

/** Encoded size of a protobuf varint. */
export function varintLength(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x200000 ? 3 : value < 0x10000000 ? 4 : 5;
}

/** Writes an unsigned 32-bit varint; returns the offset after it. */
export function writeVarint(target: Uint8Array, offset: number, value: number): number {
  let rest = value;
  let at = offset;
  while (rest > 0x7f) {
    target[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  target[at++] = rest;
  return at;
}
