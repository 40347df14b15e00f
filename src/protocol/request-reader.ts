/**
 * Reads requests the way the agent needs them: the envelope and the operations that carry values by offset, without
 * making objects; everything else through the generated code.
 */
import { DekdError } from '../errors.ts';
import { LANE_RANGE, STREAM_PART } from './frame.ts';
import { Reader } from './runtime.ts';

/** Field numbers of `Request.operation`. */
export const OPERATION = {
  hello: 3,
  cancel: 4,
  ping: 5,
  keyInfo: 6,
  admin: 7,
  encrypt: 8,
  decrypt: 9,
  reencrypt: 10,
  encryptMany: 11,
  decryptMany: 12,
  reencryptMany: 13,
  encryptStream: 14,
  decryptStream: 15,
  streamPart: 16,
  laneEncrypt: 17,
  laneDecrypt: 18,
  fileEncrypt: 19,
  fileDecrypt: 20,
  hmac: 21,
  blindIndex: 22,
  reencryptStream: 23,
  verifyHmac: 24,
  hmacMany: 25,
  verifyHmacMany: 26,
  roots: 27,
  rights: 28,
  openLegacy: 30,
  migrateLegacy: 31,
} as const;
/** What this reader knows; a field beyond is of a newer client. */
const KNOWN: ReadonlySet<number> = new Set(Object.values(OPERATION));

const WIRE_LENGTH_DELIMITED = 2;
/** Field number and wire type together: a field of another type is a field not known. */
const ENVELOPE = { id: 0x08, timeout: 0x10, traceparent: 0x102 } as const;
/** Of version 00 of W3C Trace Context. */
const TRACEPARENT_LENGTH = 55;
const FIELD = {
  key: 0x0a,
  partition: 0x12,
  context: 0x1a,
  anyKey: 0x20,
  mac: 0x22,
  frameLength: 0x28,
  credit: 0x30,
  compression: 0x38,
  content: 0x40,
  firstFrame: 0x48,
  frames: 0x50,
  /** Of values and batches; a stream's and a lane call's have numbers of their own. */
  root: 0x32,
  streamRoot: 0x5a,
  data: 0x7a,
} as const;
/** Of BlindIndex, beside what it shares with the others. */
const INDEX_FIELD = { table: 0x22, column: 0x2a, fingerprint: 0x30 } as const;
/** Of LaneCall, beside what it shares with the others. */
const LANE_FIELD = { input: 0x2a, result: 0x32, root: 0x3a } as const;

/** A range of a region, as the wire says it: nothing of it has been checked. */
export interface WireRange {
  handle: number;
  /** Above 2^53 the numbers are about right, and larger than any region. */
  offset: number;
  length: number;
}

/** Takes one item of a batch; offsets count from the start of the frame, `undefined` means the item does not say. */
export interface ItemVisitor {
  item(
    dataOffset: number,
    dataLength: number,
    contextOffset: number,
    contextLength: number,
    key: string | undefined,
    partition: string | undefined,
    macOffset?: number,
    macLength?: number,
    root?: string | undefined,
  ): void;
}

/**
 * One request, read in place. The object is reused for every frame of a connection: `copy` what must outlive the call.
 * Every method throws PROTOCOL_ERROR on bytes that are not a request.
 */
export class RequestReader {
  frame: Buffer = EMPTY;
  id = 0;
  timeoutMs = 0;
  /** Field number of the operation; 0 when the request has none. */
  operation = 0;
  /** As it came: whether it is one has not been looked at. Empty without. */
  traceparent = '';
  /** Bytes of the whole frame. */
  frameBytes = 0;
  key = '';
  partition = '';
  /** Name of the root that was chosen; empty for none. */
  root = '';
  anyKey = false;
  contextOffset = 0;
  contextLength = 0;
  dataOffset = 0;
  dataLength = 0;
  /** Of a MAC to be verified. */
  macOffset = 0;
  macLength = 0;
  /** Items of a batch. */
  count = 0;
  /** Of a stream: bytes of plaintext in a frame, bytes that may be sent to the client, and whether its part is the last. */
  frameLength = 0;
  credit = 0;
  isEnd = false;
  /** Of a stream, too: numbers of `COMPRESSION` and `CONTENT`. */
  compression = 0;
  content = 0;
  /** Of a stream that opens a part of a message: the number of the first frame, and how many follow; 0 where it does not say. */
  firstFrame = 0;
  frames = 0;
  /** Of values for an index: where they lie, and whether fingerprints are asked for. */
  table = '';
  column = '';
  isFingerprint = false;
  /** Of a call through the lane: where its bytes lie, and where the result goes. */
  readonly input: WireRange = { handle: 0, offset: 0, length: 0 };
  readonly result: WireRange = { handle: 0, offset: 0, length: 0 };
  #start = 0;
  #end = 0;

  /** Reads the envelope: id, time-out, trace and which operation. */
  read(frame: Buffer): void {
    this.frame = frame;
    this.frameBytes = frame.length;
    this.id = 0;
    this.timeoutMs = 0;
    this.operation = 0;
    this.traceparent = '';
    this.key = '';
    this.partition = '';
    this.root = '';
    this.contextLength = 0;
    this.dataLength = 0;
    this.count = 0;
    guarded(() => {
      const reader = new Reader(frame);
      while (reader.pos < reader.len) {
        const tag = reader.uint32();
        const field = tag >>> 3;
        if (tag === ENVELOPE.id) {
          this.id = reader.uint32();
        } else if (tag === ENVELOPE.timeout) {
          this.timeoutMs = reader.uint32();
        } else if (tag === ENVELOPE.traceparent) {
          const length = reader.uint32();
          const start = reader.pos;
          reader.skip(length);
          // Of another length it is none, and nothing is made of it.
          this.traceparent = length === TRACEPARENT_LENGTH ? frame.toString('latin1', start, reader.pos) : '';
        } else if (field >= OPERATION.hello && (tag & 7) === WIRE_LENGTH_DELIMITED) {
          const length = reader.uint32();
          const start = reader.pos;
          reader.skip(length);
          // A field that a newer client added beside the operation is ignored; alone, it is an operation not known.
          if (KNOWN.has(field) || this.operation === 0) {
            this.operation = field;
            this.#start = start;
            this.#end = reader.pos;
          }
        } else {
          reader.skipType(tag & 7);
        }
      }
    });
  }

  /** Reads what OpenStream says, where it says more than `readBinding` reads. */
  readOpenStream(): void {
    this.readBinding();
    this.frameLength = 0;
    this.credit = 0;
    this.compression = 0;
    this.content = 0;
    this.firstFrame = 0;
    this.frames = 0;
    guarded(() => {
      const reader = this.#operationReader();
      while (reader.pos < reader.len) {
        const tag = reader.uint32();
        if (tag === FIELD.frameLength) {
          this.frameLength = reader.uint32();
        } else if (tag === FIELD.credit) {
          this.credit = reader.uint32();
        } else if (tag === FIELD.compression) {
          this.compression = reader.uint32();
        } else if (tag === FIELD.content) {
          this.content = reader.uint32();
        } else if (tag === FIELD.firstFrame) {
          this.firstFrame = reader.uint32();
        } else if (tag === FIELD.frames) {
          this.frames = reader.uint32();
        } else if (tag === FIELD.streamRoot) {
          this.root = textOf(reader);
        } else {
          reader.skipType(tag & 7);
        }
      }
    });
  }

  /** Reads what LaneCall says beyond what `readBinding` reads. */
  readLaneCall(): void {
    this.readBinding();
    clearRange(this.input);
    clearRange(this.result);
    guarded(() => {
      const reader = this.#operationReader();
      while (reader.pos < reader.len) {
        const tag = reader.uint32();
        if (tag === LANE_FIELD.input) {
          readRange(reader, this.input);
        } else if (tag === LANE_FIELD.result) {
          readRange(reader, this.result);
        } else if (tag === LANE_FIELD.root) {
          this.root = textOf(reader);
        } else {
          reader.skipType(tag & 7);
        }
      }
    });
  }

  /** Reads what BlindIndex says beyond what `readBinding` reads. */
  readBlindIndex(): void {
    this.readBinding();
    this.table = '';
    this.column = '';
    this.isFingerprint = false;
    guarded(() => {
      const reader = this.#operationReader();
      while (reader.pos < reader.len) {
        const tag = reader.uint32();
        if (tag === INDEX_FIELD.table) {
          this.table = textOf(reader);
        } else if (tag === INDEX_FIELD.column) {
          this.column = textOf(reader);
        } else if (tag === INDEX_FIELD.fingerprint) {
          this.isFingerprint = reader.bool();
        } else {
          reader.skipType(tag & 7);
        }
      }
    });
  }

  /** Reads a part of a stream; its data is at `dataOffset`. */
  readStreamPart(): void {
    this.credit = 0;
    this.isEnd = false;
    this.dataOffset = this.#end;
    this.dataLength = 0;
    guarded(() => {
      const reader = this.#operationReader();
      while (reader.pos < reader.len) {
        const tag = reader.uint32();
        switch (tag) {
          case STREAM_PART.credit:
            this.credit = reader.uint32();
            break;
          case STREAM_PART.end:
            this.isEnd = reader.bool();
            break;
          case STREAM_PART.data:
            this.dataLength = reader.uint32();
            this.dataOffset = reader.pos;
            reader.skip(this.dataLength);
            break;
          default:
            reader.skipType(tag & 7);
        }
      }
    });
  }

  /** Reads what Encrypt, Reencrypt and Many say; for Many, counts the items. */
  readValues(): void {
    this.readBinding(true);
  }

  /**
   * Reads the fields that all operations on values share; for Many, counts the items.
   * @param hasRoot whether the root stands where Encrypt has it: others have other fields there
   */
  readBinding(hasRoot = false): void {
    this.key = '';
    this.partition = '';
    this.root = '';
    this.anyKey = false;
    this.contextOffset = 0;
    this.contextLength = 0;
    this.dataOffset = this.#end;
    this.dataLength = 0;
    this.macOffset = 0;
    this.macLength = 0;
    this.count = 0;
    guarded(() => {
      const reader = this.#operationReader();
      while (reader.pos < reader.len) {
        const tag = reader.uint32();
        switch (tag) {
          case FIELD.key:
            this.key = textOf(reader);
            break;
          case FIELD.partition:
            this.partition = textOf(reader);
            break;
          case FIELD.context: {
            const length = reader.uint32();
            this.contextOffset = reader.pos;
            this.contextLength = length;
            reader.skip(length);
            break;
          }
          case FIELD.anyKey:
            this.anyKey = reader.bool();
            break;
          case FIELD.mac:
            this.macLength = reader.uint32();
            this.macOffset = reader.pos;
            reader.skip(this.macLength);
            break;
          case FIELD.data: {
            const length = reader.uint32();
            this.dataOffset = reader.pos;
            this.dataLength = length;
            reader.skip(length);
            this.count += 1;
            break;
          }
          case FIELD.root:
            if (hasRoot) {
              this.root = textOf(reader);
            } else {
              reader.skipType(tag & 7);
            }
            break;
          default:
            reader.skipType(tag & 7);
        }
      }
    });
  }

  /** Visits the items of a batch in order, after `readBinding`. */
  visitItems(visitor: ItemVisitor): void {
    this.visitSome(visitor, 0, Number.POSITIVE_INFINITY);
  }

  /**
   * Visits the next `count` items.
   * @param position 0 for the first items, else what the visit of those before returned
   */
  visitSome(visitor: ItemVisitor, position: number, count: number): number {
    return guarded(() => {
      const reader = this.#operationReader();
      reader.pos = position === 0 ? reader.pos : position;
      let left = count;
      while (reader.pos < reader.len && left > 0) {
        if (this.#visitPlainItem(reader, visitor)) {
          left--;
          continue;
        }
        const tag = reader.uint32();
        if (tag !== FIELD.data) {
          reader.skipType(tag & 7);
          continue;
        }
        const length = reader.uint32();
        const end = reader.pos + length;
        let key: string | undefined;
        let partition: string | undefined;
        let root: string | undefined;
        let contextOffset = this.contextOffset;
        let contextLength = this.contextLength;
        let dataOffset = end;
        let dataLength = 0;
        let macOffset = 0;
        let macLength = 0;
        while (reader.pos < end) {
          const inner = reader.uint32();
          switch (inner) {
            case FIELD.key:
              key = textOf(reader);
              break;
            case FIELD.partition:
              partition = textOf(reader);
              break;
            case FIELD.root:
              root = textOf(reader);
              break;
            case FIELD.context:
              contextLength = reader.uint32();
              contextOffset = reader.pos;
              reader.skip(contextLength);
              break;
            case FIELD.mac:
              macLength = reader.uint32();
              macOffset = reader.pos;
              reader.skip(macLength);
              break;
            case FIELD.data:
              dataLength = reader.uint32();
              dataOffset = reader.pos;
              reader.skip(dataLength);
              break;
            default:
              reader.skipType(inner & 7);
          }
        }
        if (reader.pos !== end) {
          throw new RangeError('item runs over its length');
        }
        visitor.item(dataOffset, dataLength, contextOffset, contextLength, key, partition, macOffset, macLength, root);
        left--;
      }
      return reader.pos;
    });
  }

  /**
   * The item as our own client writes it, data alone or behind a short context, read without a call per field. False,
   * with nothing read, for any other shape: then the general way reads it.
   */
  #visitPlainItem(reader: Reader, visitor: ItemVisitor): boolean {
    const { frame } = this;
    const { pos, len } = reader;
    // An item has three bytes of heads at least; what follows the operation in the frame is read but not believed.
    if (frame[pos] !== FIELD.data) {
      return false;
    }
    let at = pos + 2;
    let length = frame[pos + 1]!;
    if (length > 0x7f) {
      const high = frame[at++]!;
      if (!(high < 0x80)) {
        return false;
      }
      length = (length & 0x7f) | (high << 7);
    }
    const end = at + length;
    let { contextOffset, contextLength } = this;
    if (frame[at] === FIELD.context && frame[at + 1]! < 0x80) {
      contextLength = frame[at + 1]!;
      contextOffset = at + 2;
      at = contextOffset + contextLength;
    }
    if (frame[at] !== FIELD.data) {
      return false;
    }
    let dataLength = frame[at + 1]!;
    at += 2;
    if (dataLength > 0x7f) {
      const high = frame[at++]!;
      if (!(high < 0x80)) {
        return false;
      }
      dataLength = (dataLength & 0x7f) | (high << 7);
    }
    if (at + dataLength !== end || end > len) {
      return false;
    }
    reader.pos = end;
    visitor.item(at, dataLength, contextOffset, contextLength, undefined, undefined, undefined);
    return true;
  }

  /** Decodes the operation with the generated code. */
  decode<T>(message: { decode(bytes: Uint8Array): T }): T {
    // Of a copy: what is decoded outlives the frame.
    return guarded(() => message.decode(Uint8Array.prototype.slice.call(this.frame, this.#start, this.#end)));
  }

  /**
   * An independent reader of a copy of the request, for work that outlives the call.
   * @param memory where the copy goes, as long as the frame at least; fresh memory unless given
   */
  copy(memory?: Buffer): RequestReader {
    const copy = this.outline();
    if (memory === undefined) {
      copy.frame = Buffer.from(this.frame);
    } else {
      this.frame.copy(memory);
      copy.frame = memory.subarray(0, this.frame.length);
    }
    return copy;
  }

  /** What was asked, without the bytes. */
  outline(): RequestReader {
    const copy = new RequestReader();
    copy.id = this.id;
    copy.timeoutMs = this.timeoutMs;
    copy.operation = this.operation;
    copy.traceparent = this.traceparent;
    copy.frameBytes = this.frameBytes;
    copy.key = this.key;
    copy.partition = this.partition;
    copy.root = this.root;
    copy.anyKey = this.anyKey;
    copy.contextOffset = this.contextOffset;
    copy.contextLength = this.contextLength;
    copy.dataOffset = this.dataOffset;
    copy.dataLength = this.dataLength;
    copy.macOffset = this.macOffset;
    copy.macLength = this.macLength;
    copy.count = this.count;
    copy.frameLength = this.frameLength;
    copy.credit = this.credit;
    copy.table = this.table;
    copy.column = this.column;
    copy.isFingerprint = this.isFingerprint;
    Object.assign(copy.input, this.input);
    Object.assign(copy.result, this.result);
    copy.#start = this.#start;
    copy.#end = this.#end;
    return copy;
  }

  #operationReader(): Reader {
    const reader = new Reader(this.frame);
    reader.pos = this.#start;
    reader.len = this.#end;
    return reader;
  }
}

const EMPTY = Buffer.alloc(0);

function clearRange(range: WireRange): void {
  range.handle = 0;
  range.offset = 0;
  range.length = 0;
}

function readRange(reader: Reader, range: WireRange): void {
  const size = reader.uint32();
  const end = reader.pos + size;
  while (reader.pos < end) {
    const tag = reader.uint32();
    switch (tag) {
      case LANE_RANGE.handle:
        range.handle = reader.uint32();
        break;
      case LANE_RANGE.offset:
        range.offset = largeOf(reader);
        break;
      case LANE_RANGE.length:
        range.length = largeOf(reader);
        break;
      default:
        reader.skipType(tag & 7);
    }
  }
  if (reader.pos !== end) {
    throw new RangeError('range runs over its length');
  }
}

/** A uint64 as a number: never negative, and never a small one where the wire has a large one. */
function largeOf(reader: Reader): number {
  let value = 0;
  for (let scale = 1; scale < 2 ** 70; scale *= 0x80) {
    if (reader.pos >= reader.len) {
      throw new RangeError('number runs over its end');
    }
    const byte = reader.buf[reader.pos++]!;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) {
      return value;
    }
  }
  throw new RangeError('number of more than ten bytes');
}

/** A string. Bytes that are no UTF-8 would read as U+FFFD, and the names of two tenants could become one. */
function textOf(reader: Reader): string {
  const start = reader.pos;
  const text = reader.string();
  if (!text.includes('\ufffd')) {
    return text;
  }
  reader.pos = start;
  return reader.stringVerify();
}

/** protobufjs throws RangeError and Error for bytes that are not protobuf; on the wire that is one thing. */
function guarded<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new DekdError('PROTOCOL_ERROR', 'frame is not a readable request', { cause: error });
  }
}
