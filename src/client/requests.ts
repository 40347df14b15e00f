/**
 * Requests as the client writes them: the envelope by hand, so that payloads are written once, straight into the slab
 * that the socket sends, or not copied at all.
 */
import { FRAME_PREFIX, varintLength, writeVarint } from '../protocol/frame.ts';
import type { RequestFields } from '../protocol/messages.ts';
import { messages } from '../protocol/messages.ts';

const TAG = { id: 0x08, timeout: 0x10, traceparent: 0x82, traceparentEnd: 0x02 } as const;
const FIELD = {
  key: 0x0a,
  partition: 0x12,
  context: 0x1a,
  anyKey: 0x20,
  mac: 0x22,
  root: 0x32,
  data: 0x7a,
} as const;
const INDEX_FIELD = { table: 0x22, column: 0x2a, fingerprint: 0x30 } as const;
/** Prefix, id, time-out, operation tag and length at their longest, and a traceparent. */
const HEAD_LIMIT = FRAME_PREFIX + 6 + 6 + 6 + 58;
const WIRE_LENGTH_DELIMITED = 2;

/** Which key, and what is bound: as the wire says it. Strings are UTF-8 there. */
export interface WireBinding {
  readonly key: string;
  readonly partition: string;
  /** Canonical bytes. */
  readonly context: Uint8Array;
  readonly anyKey: boolean;
  /** Name of the root that was chosen, if one was. */
  readonly root?: string | undefined;
  /** What is to be the MAC of the value. */
  readonly mac?: Uint8Array | undefined;
  /** Where values for an index lie; of no place, they become fingerprints. */
  readonly place?: IndexPlace | 'nowhere' | undefined;
}

export interface IndexPlace {
  readonly table: string;
  readonly column: string;
}

/** What a stream says of the message that it makes; all 0 where it says nothing. */
export interface StreamValue {
  /** Bytes of plaintext in each frame of the message; 0 for the agent's default. */
  readonly frameLength: number;
  /** Numbers of `COMPRESSION` and `CONTENT`. */
  readonly compression: number;
  readonly content: number;
}

/** One item: what it does not say is undefined and comes from the call. */
export interface WireItem {
  readonly data: Uint8Array;
  readonly key: string | undefined;
  readonly partition: string | undefined;
  readonly context: Uint8Array | undefined;
  readonly root?: string | undefined;
}

const SLAB = 64 * 1024;
/** Up to here a loop copies faster than a call into the runtime. */
const SHORT = 96;
const NO_BYTES = new Uint8Array(0);
/** Says nothing. */
export const UNBOUND: WireBinding = { key: '', partition: '', context: NO_BYTES, anyKey: false };

/** Small frames one behind the other in memory that is never used twice: what is handed out stays intact. */
export class RequestWriter {
  /** Of the call whose frames are written next. */
  traceparent: string | undefined;
  #slab = Buffer.allocUnsafeSlow(SLAB);
  #at = 0;

  /** A whole frame with one value; only for values worth copying. */
  value(operation: number, id: number, timeoutMs: number, binding: WireBinding, data: Uint8Array): Buffer {
    const size = bindingLength(binding) + 1 + varintLength(data.length) + data.length;
    const start = this.#open(size);
    let at = this.#head(operation, id, timeoutMs, size);
    at = this.#binding(at, binding);
    at = this.#tagged(at, FIELD.data, data.length);
    this.#slab.set(data, at);
    return this.#close(start, at + data.length);
  }

  /** The frame up to its payload, which is sent behind it as it is. */
  valueHead(operation: number, id: number, timeoutMs: number, binding: WireBinding, length: number): Buffer {
    return this.head(operation, id, timeoutMs, binding, numberFields([[FIELD.data, length]]), length);
  }

  /** The frame of anything with a binding and other fields; `behind` bytes are sent behind it as they are. */
  head(
    operation: number,
    id: number,
    timeoutMs: number,
    binding: WireBinding,
    fields: Uint8Array,
    behind: number,
  ): Buffer {
    const size = bindingLength(binding) + fields.length;
    const start = this.#open(size);
    const at = this.#binding(this.#head(operation, id, timeoutMs, size + behind), binding);
    this.#slab.set(fields, at);
    const frame = this.#close(start, at + fields.length);
    frame.writeUInt32BE(frame.length - FRAME_PREFIX + behind, 0);
    return frame;
  }

  /** A whole frame with the items `from` up to `to`. */
  many(
    operation: number,
    id: number,
    timeoutMs: number,
    binding: WireBinding,
    items: readonly WireItem[],
    from: number,
    to: number,
  ): Buffer {
    let size = bindingLength(binding);
    for (let i = from; i < to; i++) {
      const inner = itemLength(items[i]!);
      size += 1 + varintLength(inner) + inner;
    }
    const start = this.#open(size);
    let at = this.#head(operation, id, timeoutMs, size);
    at = this.#binding(at, binding);
    for (let i = from; i < to; i++) {
      const item = items[i]!;
      at = this.#tagged(at, FIELD.data, itemLength(item));
      if (item.key !== undefined) {
        at = this.#string(at, FIELD.key, item.key);
      }
      if (item.partition !== undefined) {
        at = this.#string(at, FIELD.partition, item.partition);
      }
      if (item.context !== undefined) {
        at = this.#bytes(at, FIELD.context, item.context);
      }
      if (item.root !== undefined) {
        at = this.#string(at, FIELD.root, item.root);
      }
      at = this.#bytes(at, FIELD.data, item.data);
    }
    return this.#close(start, at);
  }

  /** A whole frame with values that each have a binding of their own; what the first says holds for the call. */
  shared(
    operation: number,
    id: number,
    timeoutMs: number,
    values: readonly { readonly data: Uint8Array; readonly binding: WireBinding }[],
  ): Buffer {
    const { key, partition } = values[0]!.binding;
    const common = { key, partition, context: NO_BYTES, anyKey: false, root: undefined };
    let size = bindingLength(common);
    for (const { data, binding } of values) {
      const inner = sharedLength(data, binding, key, partition);
      size += 1 + varintLength(inner) + inner;
    }
    const start = this.#open(size);
    let at = this.#head(operation, id, timeoutMs, size);
    at = this.#binding(at, common);
    for (const { data, binding } of values) {
      at = this.#tagged(at, FIELD.data, sharedLength(data, binding, key, partition));
      if (binding.key !== key) {
        at = this.#string(at, FIELD.key, binding.key);
      }
      if (binding.partition !== partition) {
        at = this.#string(at, FIELD.partition, binding.partition);
      }
      at = this.#bytes(at, FIELD.context, binding.context);
      if (binding.mac !== undefined) {
        at = this.#bytes(at, FIELD.mac, binding.mac);
      }
      if (binding.root !== undefined) {
        at = this.#string(at, FIELD.root, binding.root);
      }
      at = this.#bytes(at, FIELD.data, data);
    }
    return this.#close(start, at);
  }

  /** Any request, through the generated code. */
  message(fields: RequestFields): Buffer {
    const { traceparent } = this;
    const body = messages.Request.encode(traceparent === undefined ? fields : { ...fields, traceparent }).finish();
    const start = this.#open(body.length);
    this.#slab.set(body, start + FRAME_PREFIX);
    return this.#close(start, start + FRAME_PREFIX + body.length);
  }

  #open(size: number): number {
    const wanted = HEAD_LIMIT + size;
    if (this.#slab.length - this.#at < wanted) {
      this.#slab = Buffer.allocUnsafeSlow(Math.max(SLAB, wanted));
      this.#at = 0;
    }
    return this.#at;
  }

  #head(operation: number, id: number, timeoutMs: number, size: number): number {
    const slab = this.#slab;
    let at = this.#at + FRAME_PREFIX;
    slab[at++] = TAG.id;
    at = writeVarint(slab, at, id);
    slab[at++] = TAG.timeout;
    at = writeVarint(slab, at, timeoutMs);
    if (this.traceparent !== undefined) {
      // Its tag has two bytes, of which the last stands where a tag stands.
      slab[at++] = TAG.traceparent;
      at = this.#string(at, TAG.traceparentEnd, this.traceparent);
    }
    at = writeVarint(slab, at, (operation << 3) | WIRE_LENGTH_DELIMITED);
    return writeVarint(slab, at, size);
  }

  #binding(offset: number, binding: WireBinding): number {
    let at = offset;
    if (binding.key !== '') {
      at = this.#string(at, FIELD.key, binding.key);
    }
    if (binding.partition !== '') {
      at = this.#string(at, FIELD.partition, binding.partition);
    }
    if (binding.context.length > 0) {
      at = this.#bytes(at, FIELD.context, binding.context);
    }
    if (binding.anyKey) {
      this.#slab[at++] = FIELD.anyKey;
      this.#slab[at++] = 1;
    }
    if (binding.root !== undefined) {
      at = this.#string(at, FIELD.root, binding.root);
    }
    if (binding.mac !== undefined) {
      at = this.#bytes(at, FIELD.mac, binding.mac);
    }
    return binding.place === undefined ? at : this.#place(at, binding.place);
  }

  #place(at: number, place: IndexPlace | 'nowhere'): number {
    if (place === 'nowhere') {
      this.#slab[at] = INDEX_FIELD.fingerprint;
      this.#slab[at + 1] = 1;
      return at + 2;
    }
    return this.#string(this.#string(at, INDEX_FIELD.table, place.table), INDEX_FIELD.column, place.column);
  }

  #tagged(at: number, tag: number, length: number): number {
    this.#slab[at] = tag;
    return writeVarint(this.#slab, at + 1, length);
  }

  #string(offset: number, tag: number, text: string): number {
    const length = utf8Length(text);
    const at = this.#tagged(offset, tag, length);
    if (length === text.length && length < 24) {
      for (let i = 0; i < length; i++) {
        this.#slab[at + i] = text.charCodeAt(i);
      }
    } else {
      this.#slab.write(text, at, 'utf8');
    }
    return at + length;
  }

  #bytes(offset: number, tag: number, bytes: Uint8Array): number {
    const { length } = bytes;
    const at = this.#tagged(offset, tag, length);
    const slab = this.#slab;
    if (length <= SHORT) {
      for (let i = 0; i < length; i++) {
        slab[at + i] = bytes[i]!;
      }
    } else {
      slab.set(bytes, at);
    }
    return at + length;
  }

  #close(start: number, end: number): Buffer {
    this.#slab.writeUInt32BE(end - start - FRAME_PREFIX, start);
    this.#at = end;
    return this.#slab.subarray(start, end);
  }
}

/** A tag, and a number or the length of what follows. */
export type NumberField = readonly [tag: number, value: number];

/** Fields one behind the other, in new bytes. */
export function numberFields(fields: readonly NumberField[]): Uint8Array {
  const bytes = new Uint8Array(fields.reduce((size, [, value]) => size + 1 + varintLength(value), 0));
  let at = 0;
  for (const [tag, value] of fields) {
    bytes[at] = tag;
    at = writeVarint(bytes, at + 1, value);
  }
  return bytes;
}

/** Whole frames that leave together. */
export function joined(frames: readonly Buffer[]): Buffer {
  const [first] = frames;
  if (frames.length === 1) {
    return first!;
  }
  let end = first!.byteOffset + first!.length;
  for (let i = 1; i < frames.length; i++) {
    const frame = frames[i]!;
    if (frame.buffer !== first!.buffer || frame.byteOffset !== end) {
      return Buffer.concat(frames);
    }
    end += frame.length;
  }
  return Buffer.from(first!.buffer, first!.byteOffset, end - first!.byteOffset);
}

function bindingLength(binding: WireBinding): number {
  let length = binding.anyKey ? 2 : 0;
  length += binding.key === '' ? 0 : textLength(binding.key);
  length += binding.partition === '' ? 0 : textLength(binding.partition);
  length += binding.mac === undefined ? 0 : bytesLength(binding.mac);
  if (binding.place !== undefined) {
    length += binding.place === 'nowhere' ? 2 : textLength(binding.place.table) + textLength(binding.place.column);
  }
  length += binding.root === undefined ? 0 : textLength(binding.root);
  return length + (binding.context.length === 0 ? 0 : bytesLength(binding.context));
}

function itemLength(item: WireItem): number {
  let length = bytesLength(item.data);
  if (item.key !== undefined) {
    length += textLength(item.key);
  }
  if (item.partition !== undefined) {
    length += textLength(item.partition);
  }
  if (item.context !== undefined) {
    length += bytesLength(item.context);
  }
  if (item.root !== undefined) {
    length += textLength(item.root);
  }
  return length;
}

function sharedLength(data: Uint8Array, binding: WireBinding, key: string, partition: string): number {
  let length = bytesLength(data) + bytesLength(binding.context);
  if (binding.mac !== undefined) {
    length += bytesLength(binding.mac);
  }
  if (binding.root !== undefined) {
    length += textLength(binding.root);
  }
  if (binding.key !== key) {
    length += textLength(binding.key);
  }
  if (binding.partition !== partition) {
    length += textLength(binding.partition);
  }
  return length;
}

function textLength(text: string): number {
  const length = utf8Length(text);
  return 1 + varintLength(length) + length;
}

function bytesLength(bytes: Uint8Array): number {
  return 1 + varintLength(bytes.length) + bytes.length;
}

/** Bytes of UTF-8; short ASCII, which key names are, without a call into the runtime. */
function utf8Length(text: string): number {
  const { length } = text;
  if (length < 24) {
    for (let i = 0; i < length; i++) {
      if (text.charCodeAt(i) > 0x7f) {
        return Buffer.byteLength(text);
      }
    }
    return length;
  }
  return Buffer.byteLength(text);
}
