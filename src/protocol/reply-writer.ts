/**
 * Writes replies into slabs that one `socket.write` sends: small replies of one tick leave together, and values are
 * produced by the engine straight at their place in the frame.
 */
import { type DekdError, ERROR_CODES } from '../errors.ts';
import { FRAME_PREFIX, LANE_RESULT_LENGTH, STREAM_PART, varintLength, writeVarint } from './frame.ts';
import { type ErrorFields, type HelloReplyFields, type LaneReplyFields, messages } from './messages.ts';

const TAG = { id: 0x08, error: 0x12, hello: 0x1a, document: 0x22, stream: 0x6a, many: 0x72, value: 0x7a } as const;
/** Of the results with numbers above 15, whose tags take two bytes. */
const LANE_TAG = { lane: 16, result: 17 } as const;
const TAG_MANY_VALUE = 0x0a;
const TAG_MANY_ERROR = 0x12;
/** A varint padded to five bytes, for a length that is known only after what it counts was written. */
const PADDED_VARINT = 5;
const WIRE_LENGTH_DELIMITED = 2;
/** Prefix, id field, result tag and length at their longest. */
const REPLY_HEAD = FRAME_PREFIX + 6 + 6;

const SLAB = 64 * 1024;
const SPARE_SLABS = 8;
/** Larger buffers than this are not kept: a few big replies must not pin memory. */
const SPARE_LIMIT = 2 * 1024 * 1024 + SLAB;

/** Slabs between uses, for the whole process. What was in them is wiped when they come back: it may be plaintext. */
const spares: Buffer[] = [];

function takeSlab(size: number): Buffer {
  for (let i = spares.length - 1; i >= 0; i--) {
    if (spares[i]!.length >= size) {
      return spares.splice(i, 1)[0]!;
    }
  }
  return Buffer.allocUnsafeSlow(Math.max(size, SLAB));
}

function giveSlab(slab: Buffer, used: number): void {
  slab.fill(0, 0, used);
  if (slab.length > SPARE_LIMIT) {
    return;
  }
  if (spares.length < SPARE_SLABS) {
    spares.push(slab);
  } else if (slab.length > SLAB) {
    const small = spares.findIndex((spare) => spare.length === SLAB);
    if (small >= 0) {
      spares[small] = slab;
    }
  }
}

/** Where the slabs of a writer come from, and go when they were sent. */
export interface SlabMemory {
  /** At least `size` bytes. */
  take(size: number): Buffer;
  /** Wipes the first `used` bytes. */
  give(slab: Buffer, used: number): void;
}

const COMMON: SlabMemory = { take: takeSlab, give: giveSlab };

interface FullSlab {
  readonly slab: Buffer;
  readonly used: number;
  readonly memory: SlabMemory;
}

/** Where bytes go: the writable half of a socket, as far as a reply needs it. */
export interface ReplySink {
  write(bytes: Buffer, done: () => void): boolean;
}

export class ReplyWriter {
  /** The slab being written; valid until the next `reserve…`, `flush` or reply. */
  buffer: Buffer = NO_SLAB;
  #at = 0;
  #frame = 0;
  #manyLength = 0;
  #full: FullSlab[] = [];
  readonly #memory: SlabMemory;

  constructor(memory: SlabMemory = COMMON) {
    this.#memory = memory;
  }

  /** Whether there is anything to flush. */
  get pending(): boolean {
    return this.#at > 0 || this.#full.length > 0;
  }

  /** Opens a reply with one value of `length` bytes; returns where in `buffer` the value goes. */
  reserveValue(id: number, length: number): number {
    this.#room(REPLY_HEAD + length);
    this.#frame = this.#at;
    let at = this.#head(id, 1 + varintLength(length) + length);
    this.buffer[at++] = TAG.value;
    at = writeVarint(this.buffer, at, length);
    this.#at = at + length;
    return at;
  }

  /** Opens a reply to a batch whose values, with their heads, take at most `bound` bytes. */
  beginMany(id: number, bound: number): void {
    this.#room(REPLY_HEAD + PADDED_VARINT + bound);
    this.#frame = this.#at;
    const { buffer } = this;
    let at = this.#at + FRAME_PREFIX;
    buffer[at++] = TAG.id;
    at = writeVarint(buffer, at, id);
    buffer[at++] = TAG.many;
    this.#manyLength = at;
    this.#at = at + PADDED_VARINT;
  }

  /** Adds one value of the batch; returns where in `buffer` it goes. */
  manyValue(length: number): number {
    const { buffer } = this;
    let at = this.#at;
    buffer[at++] = TAG_MANY_VALUE;
    at = writeVarint(buffer, at, length);
    this.#at = at + length;
    return at;
  }

  /** Closes the batch with what failed, by index. */
  endMany(errors: readonly { readonly index: number; readonly error: DekdError }[]): void {
    for (const { index, error } of errors) {
      const bytes = messages.ItemError.encode({ index, error: wireError(error) }).finish();
      this.#grow(1 + PADDED_VARINT + bytes.length);
      this.buffer[this.#at++] = TAG_MANY_ERROR;
      this.#at = writeVarint(this.buffer, this.#at, bytes.length);
      this.buffer.set(bytes, this.#at);
      this.#at += bytes.length;
    }
    const { buffer } = this;
    let rest = this.#at - this.#manyLength - PADDED_VARINT;
    for (let i = 0; i < PADDED_VARINT; i++) {
      buffer[this.#manyLength + i] = (rest & 0x7f) | (i < PADDED_VARINT - 1 ? 0x80 : 0);
      rest >>>= 7;
    }
    buffer.writeUInt32BE(this.#at - this.#frame - FRAME_PREFIX, this.#frame);
  }

  /** Takes over what another writer has written, to be sent behind what is here. */
  adopt(other: ReplyWriter): void {
    this.#closeSlab();
    other.#closeSlab();
    this.#full.push(...other.#full.splice(0));
  }

  /** Gives up what was written and not flushed. */
  discard(): void {
    this.#closeSlab();
    for (const { slab, used, memory } of this.#full.splice(0)) {
      memory.give(slab, used);
    }
  }

  #closeSlab(): void {
    if (this.#at > 0) {
      this.#full.push({ slab: this.buffer, used: this.#at, memory: this.#memory });
    } else if (this.buffer.length > 0) {
      this.#memory.give(this.buffer, 0);
    }
    this.buffer = NO_SLAB;
    this.#at = 0;
  }

  /** Takes back the reply opened last, wiping what was written of it. */
  rewind(): void {
    this.buffer.fill(0, this.#frame, this.#at);
    this.#at = this.#frame;
  }

  /** A part of a stream. `data` is copied. */
  streamPart(id: number, credit: number, isEnd: boolean, data: Uint8Array): void {
    const body =
      (credit > 0 ? 1 + varintLength(credit) : 0) +
      (isEnd ? 2 : 0) +
      (data.length > 0 ? 1 + varintLength(data.length) + data.length : 0);
    this.#room(REPLY_HEAD + body);
    this.#frame = this.#at;
    const { buffer } = this;
    let at = this.#head(id, 1 + varintLength(body) + body);
    buffer[at++] = TAG.stream;
    at = writeVarint(buffer, at, body);
    if (credit > 0) {
      buffer[at++] = STREAM_PART.credit;
      at = writeVarint(buffer, at, credit);
    }
    if (isEnd) {
      buffer[at++] = STREAM_PART.end;
      buffer[at++] = 1;
    }
    if (data.length > 0) {
      buffer[at++] = STREAM_PART.data;
      at = writeVarint(buffer, at, data.length);
      buffer.set(data, at);
      at += data.length;
    }
    this.#at = at;
  }

  /** The result of a call through the lane, `length` bytes that lie there already. */
  laneResult(id: number, length: number): void {
    const body = 1 + varintLength(length);
    this.#room(REPLY_HEAD + body + 1);
    this.#frame = this.#at;
    let at = this.#head(id, 2 + varintLength(body) + body);
    at = writeVarint(this.buffer, at, (LANE_TAG.result << 3) | WIRE_LENGTH_DELIMITED);
    at = writeVarint(this.buffer, at, body);
    this.buffer[at++] = LANE_RESULT_LENGTH;
    this.#at = writeVarint(this.buffer, at, length);
  }

  /** The answer on the lane socket. */
  lane(reply: LaneReplyFields): void {
    const bytes = messages.Reply.encode({ lane: reply }).finish();
    this.#room(FRAME_PREFIX + bytes.length);
    this.#frame = this.#at;
    this.buffer.writeUInt32BE(bytes.length, this.#at);
    this.buffer.set(bytes, this.#at + FRAME_PREFIX);
    this.#at += FRAME_PREFIX + bytes.length;
  }

  error(id: number, error: DekdError): void {
    this.#message(id, TAG.error, messages.Error.encode(wireError(error)).finish());
  }

  hello(id: number, reply: HelloReplyFields): void {
    this.#message(id, TAG.hello, messages.HelloReply.encode(reply).finish());
  }

  /** A JSON document. */
  document(id: number, document: unknown): void {
    this.#message(id, TAG.document, Buffer.from(JSON.stringify(document)));
  }

  /** Hands everything to the sink; returns false when the sink asks to wait. Slabs come back once they are sent. */
  flush(sink: ReplySink): boolean {
    let ready = true;
    for (const { slab, used, memory } of this.#full) {
      ready = sink.write(slab.subarray(0, used), () => memory.give(slab, used));
    }
    if (this.#full.length > 0) {
      this.#full = [];
    }
    if (this.#at > 0) {
      const slab = this.buffer;
      const used = this.#at;
      this.buffer = NO_SLAB;
      this.#at = 0;
      ready = sink.write(slab.subarray(0, used), () => this.#memory.give(slab, used));
    }
    return ready;
  }

  #message(id: number, tag: number, bytes: Uint8Array): void {
    this.#room(REPLY_HEAD + bytes.length);
    this.#frame = this.#at;
    let at = this.#head(id, 1 + varintLength(bytes.length) + bytes.length);
    this.buffer[at++] = tag;
    at = writeVarint(this.buffer, at, bytes.length);
    this.buffer.set(bytes, at);
    this.#at = at + bytes.length;
  }

  #head(id: number, rest: number): number {
    const { buffer } = this;
    let at = this.#at;
    buffer.writeUInt32BE(1 + varintLength(id) + rest, at);
    at += FRAME_PREFIX;
    buffer[at++] = TAG.id;
    return writeVarint(buffer, at, id);
  }

  #room(size: number): void {
    if (this.buffer.length - this.#at >= size) {
      return;
    }
    if (this.#at > 0) {
      this.#full.push({ slab: this.buffer, used: this.#at, memory: this.#memory });
    }
    this.buffer = this.#memory.take(size);
    this.#at = 0;
  }

  /** Makes room for `size` more bytes of the open reply, moving it when it has to. */
  #grow(size: number): void {
    if (this.buffer.length - this.#at >= size) {
      return;
    }
    const open = this.#at - this.#frame;
    const larger = this.#memory.take(open * 2 + size);
    this.buffer.copy(larger, 0, this.#frame, this.#at);
    this.buffer.fill(0, this.#frame, this.#at);
    if (this.#frame > 0) {
      this.#full.push({ slab: this.buffer, used: this.#frame, memory: this.#memory });
    } else {
      this.#memory.give(this.buffer, 0);
    }
    this.buffer = larger;
    this.#manyLength -= this.#frame;
    this.#at = open;
    this.#frame = 0;
  }
}

const NO_SLAB = Buffer.alloc(0);

/** An error as its fields on the wire. */
export function wireError(error: DekdError): ErrorFields {
  return {
    code: ERROR_CODES[error.code].number,
    message: error.message,
    incident: error.incident ?? '',
    retryable: error.retryable,
    retryAfterMs: error.retryAfterMs ?? 0,
  };
}
