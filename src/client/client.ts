import type { Duplex } from 'node:stream';
import { MIN_TOKEN_LENGTH } from '../envelope/token.ts';
import { decodeTokenText, encodeTokenText } from '../envelope/token-text.ts';
import { DekdError } from '../errors.ts';
import { OPERATION } from '../protocol/request-reader.ts';
import { type AnyCall, DocumentCall, PartCall, partition, sender, ValueCall } from './calls.ts';
import type { Channel } from './channel.ts';
import { ContextMemo } from './context-memo.ts';
import { ClientLane, type LaneSlot } from './lane.ts';
import { LaneCall, type LaneWork } from './lane-call.ts';
import { compressionOf, contentOf, maxOutputOf, openedValue, passWhole, valueToSeal } from './large-object.ts';
import { FILE_FRAME_LENGTH, type FileWays, type PassTarget, passFile } from './message-file.ts';
import { readRange, wholeOf } from './message-range.ts';
import { MessageStream, type MessageStreamOptions } from './message-stream.ts';
import type { StreamValue, WireBinding, WireItem } from './requests.ts';
import { Silence } from './silence.ts';
import { findSocket } from './socket-place.ts';
import { type SpawnedAgent, spawnAgent } from './spawn.ts';
import { Transport } from './transport.ts';
import type {
  ByteRange,
  CallOptions,
  Capabilities,
  ConnectOptions,
  DecryptLargeOptions,
  DecryptOptions,
  DekdClient,
  EncryptLargeOptions,
  EncryptOptions,
  EncryptStreamOptions,
  KeyDescription,
  ManyDecryptOptions,
  ManyItem,
  ManyOptions,
  ManyResult,
  MessageSource,
  MessageTransform,
  OpenFile,
  PingReply,
} from './types.ts';
import { WebMessageStream } from './web-message-stream.ts';

const DEFAULT_TIMEOUT_MS = 10_000;
/** Bytes from which copying a value into the lane is cheaper than sending it. */
const WORTH_COPYING = 256 * 1024;
const MAX_TIMEOUT_MS = 0x7fffffff;
/** What comes out of a message was worth encrypting. */
const PLAINTEXT_MODE = 0o600;
const CIPHERTEXT_MODE = 0o666;
/** Bytes of plaintext in one frame of a stream. */
const MAX_STREAM_FRAME = 1024 * 1024;
/** Parts of one batch under way at once: enough to keep both sides busy, few enough to bound memory. */
const PARTS_IN_FLIGHT = 4;
/** What every agent takes in one request, however it is configured. */
const SMALLEST_PAYLOAD = 4096;

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * A client of the agent; nothing happens until the first call.
 * @throws nothing: a missing agent is the first call's AGENT_UNAVAILABLE
 */
export function connect(options: ConnectOptions = {}): DekdClient {
  return new Client(options);
}

/** How files go through the agent of a client; for the command line, which shows how far they are. */
export function fileWays(client: DekdClient): {
  encrypt(options: EncryptStreamOptions): FileWays;
  decrypt(options: DecryptOptions): FileWays;
} {
  if (!(client instanceof Client)) {
    throw new DekdError('INVALID_ARGUMENT', 'the client was not made by connect');
  }
  return {
    encrypt: (options) => client.encryptWays(options),
    decrypt: (options) => client.decryptWays(options),
  };
}

class Client implements DekdClient {
  readonly #timeoutMs: number;
  readonly #transport: Transport<AnyCall>;
  /** Undefined when it was switched off. */
  readonly #lane: ClientLane | undefined;
  /** The private agent, while it starts and runs. */
  #spawned: Promise<SpawnedAgent> | undefined;
  #closed = false;

  constructor(options: ConnectOptions) {
    this.#timeoutMs = checkTimeout(options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    const socket = options.spawn === true ? () => this.#ownAgent(options.socket) : () => findSocket(options.socket);
    const lane = options.lane === false ? undefined : new ClientLane(() => this.#channel());
    this.#lane = lane;
    this.#transport = new Transport(
      { socket, token: options.token, prepare: lane && ((channel) => lane.attach(channel)) },
      sender,
    );
  }

  get capabilities(): Capabilities {
    return this.#lane?.capabilities ?? { lane: false, reason: 'it was switched off: connect({ lane: false })' };
  }

  async allocate(length: number, options: CallOptions = {}): Promise<Uint8Array> {
    options.signal?.throwIfAborted();
    if (!Number.isSafeInteger(length) || length < 0) {
      throw new DekdError('INVALID_ARGUMENT', `length is ${length}; it is a whole number of bytes`);
    }
    if (this.#lane === undefined) {
      return new Uint8Array(length);
    }
    const offer = (await this.#channel(options))?.lane?.offer;
    if (offer !== undefined && length > offer.maxPayload + MIN_TOKEN_LENGTH) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `buffer of ${length} bytes is over the agent's lane.maxPayload of ${offer.maxPayload} (limits.maxPayload, which is ` +
          `for what is sent, is ${this.#transport.maxPayload}): make a message of it, or split it`,
      );
    }
    const buffer = offer && (await this.#lane.allocate(length));
    return buffer ?? new Uint8Array(length);
  }

  encrypt(data: Uint8Array, options: EncryptOptions): Promise<Uint8Array> {
    return this.#value(OPERATION.encrypt, data, bindingOf, options);
  }

  async encryptText(text: string, options: EncryptOptions): Promise<string> {
    if (typeof text !== 'string') {
      throw new DekdError('INVALID_ARGUMENT', `encryptText takes a string, not ${typeof text}`);
    }
    if (!text.isWellFormed()) {
      throw new DekdError('INVALID_ARGUMENT', 'the text has a lone surrogate, which UTF-8 cannot carry');
    }
    return encodeTokenText(await this.encrypt(new TextEncoder().encode(text), options));
  }

  decrypt(token: Uint8Array, options: DecryptOptions): Promise<Uint8Array> {
    return this.#value(OPERATION.decrypt, token, decryptBinding, options);
  }

  async decryptText(token: string, options: DecryptOptions): Promise<string> {
    const plaintext = await this.decrypt(decodeTokenText(token), options);
    try {
      return decoder.decode(plaintext);
    } catch {
      throw new DekdError('INVALID_ARGUMENT', 'the plaintext is not UTF-8 text: use decrypt for bytes');
    }
  }

  encryptMany(items: readonly ManyItem[], options: ManyOptions = {}): Promise<ManyResult[]> {
    return this.#many(OPERATION.encryptMany, items, options, false);
  }

  decryptMany(items: readonly ManyItem[], options: ManyDecryptOptions = {}): Promise<ManyResult[]> {
    return this.#many(OPERATION.decryptMany, items, options, options.anyKey === true);
  }

  reencrypt(token: Uint8Array, options: EncryptOptions): Promise<Uint8Array> {
    return this.#value(OPERATION.reencrypt, token, bindingOf, options);
  }

  reencryptMany(items: readonly ManyItem[], options: ManyOptions = {}): Promise<ManyResult[]> {
    return this.#many(OPERATION.reencryptMany, items, options, false);
  }

  encryptStream(options: EncryptStreamOptions): Duplex {
    return new MessageStream(this.#transport, this.#sealing(options));
  }

  decryptStream(options: DecryptOptions): Duplex {
    return new MessageStream(this.#transport, this.#opening(options));
  }

  encryptWebStream(options: EncryptStreamOptions): MessageTransform {
    return new WebMessageStream(this.#transport, this.#sealing(options));
  }

  decryptWebStream(options: DecryptOptions): MessageTransform {
    return new WebMessageStream(this.#transport, this.#opening(options));
  }

  reencryptStream(options: EncryptOptions): Duplex {
    return new MessageStream(this.#transport, this.#streaming(OPERATION.reencryptStream, bindingOf(options), options));
  }

  async encryptLarge(object: unknown, options: EncryptLargeOptions): Promise<Uint8Array> {
    const binding = bindingOf(options);
    const compression = compressionOf(options.compression);
    const { bytes, content } = valueToSeal(object);
    const value = { ...valueSaying(options.frameLength), compression, content };
    try {
      const streaming = this.#streaming(OPERATION.encryptStream, binding, options, value);
      return await passWhole(new MessageStream(this.#transport, streaming), bytes, Number.POSITIVE_INFINITY);
    } finally {
      if (bytes !== object) {
        bytes.fill(0);
      }
    }
  }

  async decryptLarge<T = unknown>(message: Uint8Array, options: DecryptLargeOptions): Promise<T> {
    checkBytes(message);
    const maxOutput = maxOutputOf(options.maxOutput);
    const content = contentOf(message);
    const stream = this.decryptStream(options);
    return openedValue(await passWhole(stream, message, maxOutput), content) as T;
  }

  async encryptFile(source: string, target: string, options: EncryptStreamOptions): Promise<void> {
    await passFile(source, this.encryptWays(options), target, CIPHERTEXT_MODE);
  }

  async decryptFile(source: string, target: string, options: DecryptOptions): Promise<void> {
    await passFile(source, this.decryptWays(options), target, PLAINTEXT_MODE);
  }

  encryptWays(options: EncryptStreamOptions): FileWays {
    const frameLength = options.frameLength === undefined ? FILE_FRAME_LENGTH : checkFrameLength(options.frameLength);
    return {
      through: () => this.encryptStream({ ...options, frameLength }),
      pass: (source, into) =>
        this.#passFiles(source, into, options, (handle) => ({
          fileEncrypt: { ...bindingOf(options), frameLength, handle },
        })),
    };
  }

  decryptWays(options: DecryptOptions): FileWays {
    return {
      through: () => this.decryptStream(options),
      pass: (source, into) =>
        this.#passFiles(source, into, options, (handle) => ({ fileDecrypt: { ...decryptBinding(options), handle } })),
    };
  }

  async decryptRange(
    source: string | OpenFile | MessageSource,
    range: ByteRange,
    options: DecryptOptions,
  ): Promise<Uint8Array> {
    return wholeOf(this.decryptRangeStream(source, range, options));
  }

  decryptRangeStream(
    source: string | OpenFile | MessageSource,
    range: ByteRange,
    options: DecryptOptions,
  ): AsyncIterable<Uint8Array> {
    const opening = this.#opening(options);
    return readRange(source, range, (part) => {
      // The header was read meanwhile.
      options.signal?.throwIfAborted();
      return new MessageStream(this.#transport, { ...opening, part });
    });
  }

  async reencryptFile(source: string, target: string, options: EncryptOptions): Promise<void> {
    await passFile(source, { through: () => this.reencryptStream(options) }, target, CIPHERTEXT_MODE);
  }

  async keyInfo(
    key: string,
    options: CallOptions & { readonly partition?: string | undefined } = {},
  ): Promise<KeyDescription> {
    const fields = { keyInfo: { key: checkKey(key), partition: checkPartition(options.partition) } };
    return this.#document(fields, options) as Promise<KeyDescription>;
  }

  async ping(options: CallOptions = {}): Promise<PingReply> {
    const begun = performance.now();
    const reply = (await this.#document({ ping: {} }, options)) as Omit<PingReply, 'roundTripMs'>;
    return { ...reply, roundTripMs: performance.now() - begun };
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#transport.close();
    this.#lane?.close();
    const agent = await this.#spawned?.catch(() => undefined);
    await agent?.stop();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #ownAgent(socket: string | undefined): Promise<string> {
    const known = await this.#spawned?.catch(() => undefined);
    if (known?.isRunning()) {
      return known.socket;
    }
    await known?.stop();
    try {
      return findSocket(socket);
    } catch (error) {
      if (!DekdError.is(error, 'AGENT_UNAVAILABLE')) {
        throw error;
      }
    }
    if (this.#closed) {
      throw new DekdError('AGENT_UNAVAILABLE', 'the client was closed');
    }
    this.#spawned = spawnAgent();
    return (await this.#spawned).socket;
  }

  #value<Options extends CallOptions>(
    operation: number,
    data: Uint8Array,
    bind: (options: Options) => WireBinding,
    options: Options,
  ): Promise<Uint8Array> {
    // What is wrong with the arguments is thrown inside, so that it rejects like everything else.
    return new Promise((resolve, reject) => {
      checkBytes(data);
      const binding = bind(options);
      const { signal } = options;
      signal?.throwIfAborted();
      const deadline = this.#deadline(options);
      const lane = operation === OPERATION.reencrypt ? undefined : this.#lane;
      const own = lane?.slotOf(data);
      if (own !== undefined) {
        this.#fromBuffer(operation, binding, data, own, deadline, signal, resolve, reject);
        return;
      }
      if (lane !== undefined && data.length >= WORTH_COPYING) {
        const slot = lane.tryReserve(data.length);
        if (slot !== undefined) {
          this.#byCopy(lane, operation, binding, data, slot, deadline, signal, resolve, reject);
          return;
        }
        if (lane.mayGrow) {
          lane
            .reserve(data.length)
            .then((made) => {
              signal?.throwIfAborted();
              if (made === undefined) {
                this.#sent(operation, binding, data, deadline, signal, resolve, reject);
              } else {
                this.#byCopy(lane, operation, binding, data, made, deadline, signal, resolve, reject);
              }
            })
            .catch(reject);
          return;
        }
      }
      this.#sent(operation, binding, data, deadline, signal, resolve, reject);
    });
  }

  #sent(
    operation: number,
    binding: WireBinding,
    data: Uint8Array,
    deadline: number,
    signal: AbortSignal | undefined,
    resolve: (value: Uint8Array) => void,
    reject: (error: unknown) => void,
  ): void {
    const call = new ValueCall(this.#transport, operation, binding, data, deadline, signal, resolve, reject);
    this.#transport.submit(call);
  }

  /** A call with a buffer of `allocate`. */
  #fromBuffer(
    operation: number,
    binding: WireBinding,
    data: Uint8Array,
    slot: LaneSlot,
    deadline: number,
    signal: AbortSignal | undefined,
    resolve: (value: Uint8Array) => void,
    reject: (error: unknown) => void,
  ): void {
    if (slot.isBusy) {
      throw new DekdError('INVALID_ARGUMENT', 'the buffer is in use by a call that has not ended: one call at a time');
    }
    slot.isBusy = true;
    const work: LaneWork = {
      operation,
      binding,
      data,
      slot,
      offset: slot.offset + data.byteOffset,
      result: (length) => new Uint8Array(data.buffer, slot.resultOffset - slot.offset, length),
      over: () => {
        slot.isBusy = false;
      },
    };
    this.#transport.submit(new LaneCall(this.#transport, work, deadline, signal, resolve, reject));
  }

  /** A call whose bytes are copied to the lane and whose result is copied from it. */
  #byCopy(
    lane: ClientLane,
    operation: number,
    binding: WireBinding,
    data: Uint8Array,
    slot: LaneSlot,
    deadline: number,
    signal: AbortSignal | undefined,
    resolve: (value: Uint8Array) => void,
    reject: (error: unknown) => void,
  ): void {
    lane.native.copyIn(slot.region, slot.offset, data);
    const work: LaneWork = {
      operation,
      binding,
      data,
      slot,
      offset: slot.offset,
      result: (length) => {
        const value = Buffer.allocUnsafeSlow(length);
        lane.native.copyOut(slot.region, slot.resultOffset, value);
        return new Uint8Array(value.buffer, value.byteOffset, length);
      },
      over: () => lane.giveBack(slot),
    };
    this.#transport.submit(new LaneCall(this.#transport, work, deadline, signal, resolve, reject));
  }

  /** The connection, made if there is none. @throws as every call */
  async #channel(options: CallOptions = {}): Promise<Channel | undefined> {
    if (this.#transport.channel === undefined) {
      await this.#document({ ping: {} }, options);
    }
    return this.#transport.channel;
  }

  #sealing(options: EncryptStreamOptions): MessageStreamOptions {
    const value = valueSaying(options.frameLength);
    return this.#streaming(OPERATION.encryptStream, bindingOf(options), options, value);
  }

  #opening(options: DecryptOptions): MessageStreamOptions {
    return this.#streaming(OPERATION.decryptStream, decryptBinding(options), options);
  }

  #streaming(
    operation: number,
    binding: WireBinding,
    options: CallOptions,
    value: StreamValue = valueSaying(),
  ): MessageStreamOptions {
    const { signal, timeoutMs } = options;
    signal?.throwIfAborted();
    return {
      operation,
      binding,
      value,
      timeoutMs: timeoutMs === undefined ? this.#timeoutMs : checkTimeout(timeoutMs),
      signal,
    };
  }

  async #many(
    operation: number,
    items: readonly ManyItem[],
    options: ManyOptions,
    anyKey: boolean,
  ): Promise<ManyResult[]> {
    options.signal?.throwIfAborted();
    const deadline = this.#deadline(options);
    const binding = {
      key: options.key === undefined ? '' : checkKey(options.key),
      partition: checkPartition(options.partition),
      context: contexts.bytesOf(options.context),
      anyKey,
    };
    const wire = wireItems(items, binding, anyKey);
    const { maxPayload } = this.#transport;
    let ends = partition(operation, wire, maxPayload ?? SMALLEST_PAYLOAD);
    if (ends.length > 1 && maxPayload === undefined) {
      // How to cut it only the agent can say.
      await this.#document({ ping: {} }, options);
      ends = partition(operation, wire, this.#transport.maxPayload ?? SMALLEST_PAYLOAD);
    }
    if (ends.length === 1) {
      return this.#part(operation, binding, wire, 0, wire.length, deadline, options.signal);
    }
    const results: ManyResult[] = [];
    let next = 0;
    const parts: ManyResult[][] = new Array(ends.length);
    const worker = async (): Promise<void> => {
      while (next < ends.length) {
        const index = next++;
        const from = index === 0 ? 0 : ends[index - 1]!;
        parts[index] = await this.#part(operation, binding, wire, from, ends[index]!, deadline, options.signal);
      }
    };
    await Promise.all(Array.from({ length: Math.min(PARTS_IN_FLIGHT, ends.length) }, worker));
    for (const part of parts) {
      for (const result of part) {
        results.push(result);
      }
    }
    return results;
  }

  #part(
    operation: number,
    binding: WireBinding,
    items: readonly WireItem[],
    from: number,
    to: number,
    deadline: number,
    signal: AbortSignal | undefined,
  ): Promise<ManyResult[]> {
    return new Promise((resolve, reject) => {
      const call = new PartCall(
        this.#transport,
        operation,
        binding,
        items,
        from,
        to,
        deadline,
        signal,
        resolve,
        reject,
      );
      this.#transport.submit(call);
    });
  }

  #document(fields: DocumentCall['fields'], options: CallOptions): Promise<unknown> {
    return new Promise((resolve, reject) => {
      options.signal?.throwIfAborted();
      const deadline = this.#deadline(options);
      this.#transport.submit(
        new DocumentCall(this.#transport, fields, true, deadline, options.signal, resolve, reject),
      );
    });
  }

  async #passFiles(
    source: number,
    target: PassTarget,
    options: CallOptions,
    fieldsOf: (handle: number) => DocumentCall['fields'],
  ): Promise<boolean> {
    const { signal, timeoutMs } = options;
    signal?.throwIfAborted();
    const passed = await this.#lane?.passFiles(source, target.descriptor);
    if (passed === undefined) {
      return false;
    }
    const silence = new Silence(target, timeoutMs === undefined ? this.#timeoutMs : checkTimeout(timeoutMs));
    try {
      await new Promise((resolve, reject) => {
        const stop = signal === undefined ? silence.signal : AbortSignal.any([signal, silence.signal]);
        stop.throwIfAborted();
        const deadline = performance.now() + MAX_TIMEOUT_MS;
        const fields = fieldsOf(passed.handle);
        const { channel } = passed;
        this.#transport.submit(
          new DocumentCall(this.#transport, fields, false, deadline, stop, resolve, reject, channel),
        );
      });
      return true;
    } catch (error) {
      // The agent cannot do it this way, or not now.
      if (DekdError.is(error, 'UNSUPPORTED') || DekdError.is(error, 'RESOURCE_EXHAUSTED')) {
        return false;
      }
      throw error;
    } finally {
      silence.end();
    }
  }

  #deadline(options: CallOptions): number {
    const { timeoutMs } = options;
    return performance.now() + (timeoutMs === undefined ? this.#timeoutMs : checkTimeout(timeoutMs));
  }
}

/** Of all clients of the process. */
const contexts = new ContextMemo();

function bindingOf(options: EncryptOptions): WireBinding {
  return {
    key: checkKey(options?.key),
    partition: checkPartition(options.partition),
    context: contexts.bytesOf(options.context),
    anyKey: false,
  };
}

function decryptBinding(options: DecryptOptions): WireBinding {
  if ((options as { anyKey?: boolean } | undefined)?.anyKey === true) {
    return { key: '', partition: '', context: contexts.bytesOf(options.context), anyKey: true };
  }
  return bindingOf(options as EncryptOptions);
}

function wireItems(items: readonly ManyItem[], binding: WireBinding, anyKey: boolean): WireItem[] {
  if (!Array.isArray(items)) {
    throw new DekdError('INVALID_ARGUMENT', 'items is an array of bytes or of { data, key?, partition?, context? }');
  }
  const wire: WireItem[] = new Array(items.length);
  for (let i = 0; i < items.length; i++) {
    const item = items[i] as ManyItem;
    if (item instanceof Uint8Array) {
      wire[i] = new BareItem(item);
    } else {
      checkBytes(item?.data, i);
      wire[i] = {
        data: item.data,
        key: item.key === undefined ? undefined : checkKey(item.key),
        partition: item.partition === undefined ? undefined : checkPartition(item.partition),
        context: item.context === undefined ? undefined : contexts.bytesOf(item.context),
      };
    }
    if (binding.key === '' && !anyKey && wire[i]!.key === undefined) {
      throw new DekdError('INVALID_ARGUMENT', `item ${i} has no key, and neither has the call`);
    }
  }
  return wire;
}

/** An item that is only bytes: a class, so that a batch of them has one shape. */
class BareItem implements WireItem {
  readonly data: Uint8Array;
  readonly key: string | undefined = undefined;
  readonly partition: string | undefined = undefined;
  readonly context: Uint8Array | undefined = undefined;

  constructor(data: Uint8Array) {
    this.data = data;
  }
}

function checkBytes(data: unknown, item?: number): void {
  if (!(data instanceof Uint8Array)) {
    const what = item === undefined ? 'data' : `data of item ${item}`;
    throw new DekdError('INVALID_ARGUMENT', `${what} is ${data === null ? 'null' : typeof data}, not a Uint8Array`);
  }
}

function checkKey(key: unknown): string {
  if (typeof key !== 'string' || key === '') {
    throw new DekdError('INVALID_ARGUMENT', 'key is a name, not empty');
  }
  return key;
}

function checkPartition(partition: unknown): string {
  if (partition !== undefined && typeof partition !== 'string') {
    throw new DekdError('INVALID_ARGUMENT', `partition is ${typeof partition}, not a string`);
  }
  if (partition?.isWellFormed() === false) {
    throw new DekdError('INVALID_ARGUMENT', 'partition has a lone surrogate, which UTF-8 cannot carry');
  }
  return partition ?? '';
}

/** What a stream says whose value is nobody's business. */
function valueSaying(frameLength?: number): StreamValue {
  return {
    frameLength: frameLength === undefined ? 0 : checkFrameLength(frameLength),
    compression: 0,
    content: 0,
  };
}

function checkFrameLength(frameLength: number): number {
  if (!Number.isInteger(frameLength) || frameLength < 1 || frameLength > MAX_STREAM_FRAME) {
    throw new DekdError('INVALID_ARGUMENT', `frameLength is ${frameLength}; it is 1 to ${MAX_STREAM_FRAME} bytes`);
  }
  return frameLength;
}

function checkTimeout(timeoutMs: number): number {
  if (!(timeoutMs > 0 && timeoutMs <= MAX_TIMEOUT_MS)) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `timeoutMs is ${timeoutMs}; it is between 1 and ${MAX_TIMEOUT_MS} milliseconds`,
    );
  }
  return timeoutMs;
}
