/** Replies as the client reads them: values as views of the frame they came in, which nothing else refers to. */
import { DekdError, errorCodeOf } from '../errors.ts';
import { LANE_RESULT_LENGTH, STREAM_PART } from '../protocol/frame.ts';
import type { ErrorFields, Reply } from '../protocol/messages.ts';
import { messages } from '../protocol/messages.ts';
import { Reader } from '../protocol/runtime.ts';
import type { ManyResult } from './types.ts';

const FIELD = { id: 1, stream: 13, many: 14, value: 15, laneResult: 17 } as const;
/** Fields of `Reply.result`; what a newer agent says beside it is ignored. */
function isResult(field: number): boolean {
  return field >= FIELD.stream ? field <= FIELD.laneResult : field >= 2 && field <= 4;
}

/** What the other side of a stream says. */
export interface StreamPart {
  /** Bytes that may be sent beyond those allowed before. */
  readonly credit: number;
  /** Nothing follows. */
  readonly isEnd: boolean;
  readonly data: Uint8Array;
}

const NO_BYTES = new Uint8Array(0);

/** What came back for one request; `many` and `value` are read on demand, anything else is decoded whole. */
export class ReplyReader {
  id = 0;
  /** Field number of the result. */
  result = 0;
  #frame: Buffer = Buffer.alloc(0);
  #start = 0;
  #end = 0;

  /** @throws RangeError when the bytes are not a reply */
  read(frame: Buffer): void {
    this.#frame = frame;
    this.id = 0;
    this.result = 0;
    const reader = new Reader(frame);
    while (reader.pos < reader.len) {
      const tag = reader.uint32();
      if (tag >>> 3 === FIELD.id) {
        this.id = reader.uint32();
      } else if ((tag & 7) === 2) {
        const length = reader.uint32();
        const start = reader.pos;
        reader.skip(length);
        if (isResult(tag >>> 3)) {
          this.result = tag >>> 3;
          this.#start = start;
          this.#end = reader.pos;
        }
      } else {
        reader.skipType(tag & 7);
      }
    }
  }

  get isValue(): boolean {
    return this.result === FIELD.value;
  }

  get isMany(): boolean {
    return this.result === FIELD.many;
  }

  get isStream(): boolean {
    return this.result === FIELD.stream;
  }

  get isLaneResult(): boolean {
    return this.result === FIELD.laneResult;
  }

  /** Bytes of a result that lies in the lane. @throws RangeError when they are more than there is room for */
  laneLength(room: number): number {
    const reader = new Reader(this.#frame);
    reader.pos = this.#start;
    reader.len = this.#end;
    let length = 0;
    while (reader.pos < reader.len) {
      const tag = reader.uint32();
      if (tag === LANE_RESULT_LENGTH) {
        length = reader.uint32();
      } else {
        reader.skipType(tag & 7);
      }
    }
    if (length > room) {
      throw new RangeError(`result of ${length} bytes in room for ${room}`);
    }
    return length;
  }

  /** A part of a stream; its data lies as that of `value` does. */
  part(): StreamPart {
    const reader = new Reader(this.#frame);
    reader.pos = this.#start;
    reader.len = this.#end;
    let credit = 0;
    let isEnd = false;
    let data: Uint8Array = NO_BYTES;
    while (reader.pos < reader.len) {
      const tag = reader.uint32();
      if (tag === STREAM_PART.credit) {
        credit = reader.uint32();
      } else if (tag === STREAM_PART.end) {
        isEnd = reader.bool();
      } else if (tag === STREAM_PART.data) {
        const length = reader.uint32();
        data = this.#bytes(reader.pos, length);
        reader.skip(length);
      } else {
        reader.skipType(tag & 7);
      }
    }
    return { credit, isEnd, data };
  }

  /** The value: in memory of its own when it is small, else the frame itself, which nothing else refers to. */
  value(): Uint8Array {
    return this.#bytes(this.#start, this.#end - this.#start);
  }

  #bytes(start: number, length: number): Uint8Array {
    const { buffer, byteOffset } = this.#frame;
    const value = new Uint8Array(buffer, byteOffset + start, length);
    return buffer.byteLength === this.#frame.length ? value : value.slice();
  }

  /** One result per item. @throws RangeError when there are not `count` */
  many(count: number): ManyResult[] {
    const results: ManyResult[] = new Array(count);
    // A frame that came in one read lies among others: its values must neither keep those alive nor lie beside them.
    const frame = this.#frame.buffer.byteLength === this.#frame.length ? this.#frame : ownCopy(this.#frame);
    const reader = new Reader(frame);
    const { buffer, byteOffset } = frame;
    reader.pos = this.#start;
    reader.len = this.#end;
    let index = 0;
    while (reader.pos < reader.len) {
      const tag = reader.uint32();
      if (tag === 0x0a) {
        const length = reader.uint32();
        const at = reader.pos;
        reader.skip(length);
        results[index++] = { ok: true, value: new Uint8Array(buffer, byteOffset + at, length) };
      } else if (tag === 0x12) {
        const failure = messages.ItemError.decode(reader, reader.uint32());
        if (failure.index >= count) {
          throw new RangeError(`result ${failure.index} of ${count} items`);
        }
        results[failure.index] = { ok: false, error: errorOf(failure.error ?? {}) };
      } else {
        reader.skipType(tag & 7);
      }
    }
    if (index !== count) {
      throw new RangeError(`${index} results for ${count} items`);
    }
    return results;
  }

  /** The whole reply through the generated code. */
  decode(): Reply {
    return messages.Reply.decode(this.#frame);
  }
}

function ownCopy(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return copy;
}

/** The error a reply carries, as the class the caller knows. */
export function errorOf(fields: ErrorFields): DekdError {
  return new DekdError(errorCodeOf(fields.code ?? 0), fields.message ?? '', {
    ...(fields.incident ? { incident: fields.incident } : {}),
    ...(fields.retryAfterMs ? { retryAfterMs: fields.retryAfterMs } : {}),
  });
}
