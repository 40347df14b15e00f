import type { Duplex } from 'node:stream';
import { FILE_FRAME_LENGTH } from '../envelope/frame-lengths.ts';
import { decodeTokenText, encodeTokenText } from '../envelope/token-text.ts';
import { DekdError } from '../errors.ts';
import type { RequestFields } from '../protocol/messages.ts';
import { OPERATION } from '../protocol/request-reader.ts';
import {
  bindingOf,
  bytesOfText,
  checkBytes,
  checkFrameLength,
  checkKey,
  checkPartition,
  compressionOf,
  decryptBinding,
  textOfBytes,
  utf8Of,
  valueSaying,
} from './arguments.ts';
import { passBatch } from './batch.ts';
import { Caller } from './caller.ts';
import { tokenToShow } from './caller-token.ts';
import { type AnyCall, sender, ValueCall } from './calls.ts';
import { defineFields } from './fields/fields.ts';
import type { FieldPath, Fields, FieldsDefinition } from './fields/types.ts';
import type { FileWays, PassTarget } from './file-ways.ts';
import { LaneDoor } from './lane-door.ts';
import { MessageStream } from './message-stream.ts';
import type { StreamValue, WireBinding } from './requests.ts';
import { findSocket } from './socket-place.ts';
import type { SpawnedAgent } from './spawn.ts';
import type { MessageStreamOptions } from './stream-call.ts';
import { tracing } from './tracing.ts';
import { Transport } from './transport.ts';
import type {
  BlindIndexItem,
  BlindIndexOptions,
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
  FingerprintOptions,
  HmacOptions,
  KeyDescription,
  KeyRights,
  ManyBlindIndexOptions,
  ManyDecryptOptions,
  ManyItem,
  ManyOptions,
  ManyResult,
  MessageSource,
  MessageTransform,
  OpenFile,
  PingReply,
  RootDescription,
  TextResult,
} from './types.ts';
import { WebMessageStream } from './web-message-stream.ts';

/** What takes text as well as bytes. */
const HASHED: ReadonlySet<number> = new Set([OPERATION.hmac, OPERATION.verifyHmac]);
/** What comes out of a message was worth encrypting. */
const PLAINTEXT_MODE = 0o600;
const CIPHERTEXT_MODE = 0o666;

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
  readonly #transport: Transport<AnyCall>;
  readonly #caller: Caller;
  /** Undefined when it was switched off. */
  readonly #lane: LaneDoor | undefined;
  /** The private agent, while it starts and runs. */
  #spawned: Promise<SpawnedAgent> | undefined;
  #closed = false;

  constructor(options: ConnectOptions) {
    const socket = options.spawn === true ? () => this.#ownAgent(options.socket) : () => findSocket(options.socket);
    const lane = options.lane === false ? undefined : new LaneDoor(() => this.#caller);
    this.#transport = new Transport(
      {
        socket,
        token: () => tokenToShow(options.token, options.tokenFile),
        prepare: lane && ((channel) => lane.attach(channel)),
        trace: options.tracer && tracing(options.tracer, options.traceKeys === true),
      },
      sender,
    );
    this.#caller = new Caller(this.#transport, options.timeoutMs);
    this.#lane = lane;
  }

  get capabilities(): Capabilities {
    return this.#lane?.capabilities ?? { lane: false, reason: 'it was switched off: connect({ lane: false })' };
  }

  async allocate(length: number, options: CallOptions = {}): Promise<Uint8Array> {
    options.signal?.throwIfAborted();
    if (!Number.isSafeInteger(length) || length < 0) {
      throw new DekdError('INVALID_ARGUMENT', `length is ${length}; it is a whole number of bytes`);
    }
    return this.#lane?.allocate(length, options) ?? new Uint8Array(length);
  }

  encrypt(data: Uint8Array, options: EncryptOptions): Promise<Uint8Array> {
    return this.#value(OPERATION.encrypt, data, bindingOf, options);
  }

  async encryptText(text: string, options: EncryptOptions): Promise<string> {
    return encodeTokenText(await this.encrypt(bytesOfText(text), options));
  }

  decrypt(token: Uint8Array, options: DecryptOptions): Promise<Uint8Array> {
    return this.#value(OPERATION.decrypt, token, decryptBinding, options);
  }

  async decryptText(token: string, options: DecryptOptions): Promise<string> {
    return textOfBytes(await this.decrypt(decodeTokenText(token), options));
  }

  encryptMany(items: readonly ManyItem[], options: ManyOptions = {}): Promise<ManyResult[]> {
    return passBatch(this.#caller, OPERATION.encryptMany, items, options, false);
  }

  decryptMany(items: readonly ManyItem[], options: ManyDecryptOptions = {}): Promise<ManyResult[]> {
    return passBatch(this.#caller, OPERATION.decryptMany, items, options, options.anyKey === true);
  }

  reencrypt(token: Uint8Array, options: EncryptOptions): Promise<Uint8Array> {
    return this.#value(OPERATION.reencrypt, token, bindingOf, options);
  }

  async reencryptText(token: string, options: EncryptOptions): Promise<string> {
    return encodeTokenText(await this.reencrypt(decodeTokenText(token), options));
  }

  reencryptMany(items: readonly ManyItem[], options: ManyOptions = {}): Promise<ManyResult[]> {
    return passBatch(this.#caller, OPERATION.reencryptMany, items, options, false);
  }

  openLegacy(envelopes: readonly ManyItem[], options: ManyOptions = {}): Promise<ManyResult[]> {
    return passBatch(this.#caller, OPERATION.openLegacy, envelopes, options, false);
  }

  migrateLegacy(envelopes: readonly ManyItem[], options: ManyOptions = {}): Promise<ManyResult[]> {
    return passBatch(this.#caller, OPERATION.migrateLegacy, envelopes, options, false);
  }

  hmac(data: Uint8Array | string, options: HmacOptions): Promise<Uint8Array> {
    return this.#value(OPERATION.hmac, data, bindingOf, options);
  }

  async hmacText(data: Uint8Array | string, options: HmacOptions): Promise<string> {
    const { encodeMacText } = await import('../envelope/mac.ts');
    return encodeMacText(await this.hmac(data, options));
  }

  async verifyHmac(data: Uint8Array | string, mac: Uint8Array | string, options: HmacOptions): Promise<boolean> {
    const { claimedMac, isVerified } = await import('./claimed-mac.ts');
    const claimed = claimedMac(mac);
    const bind = (given: HmacOptions): WireBinding => ({ ...bindingOf(given), mac: claimed });
    return isVerified(await this.#value(OPERATION.verifyHmac, data, bind, options));
  }

  async blindIndex(value: Uint8Array | string, options: BlindIndexOptions): Promise<string> {
    const { indexValues, textOf } = await import('./blind-index.ts');
    const [result] = await indexValues(this.#caller, [{ value }], options, false);
    return textOf(result!);
  }

  async blindIndexMany(values: readonly BlindIndexItem[], options: ManyBlindIndexOptions): Promise<TextResult[]> {
    const { indexValues } = await import('./blind-index.ts');
    return indexValues(this.#caller, values, options, true);
  }

  async fingerprint(value: Uint8Array | string, options: FingerprintOptions): Promise<string> {
    const { fingerprintOf, textOf } = await import('./blind-index.ts');
    return textOf(await fingerprintOf(this.#caller, value, options));
  }

  encryptStream(options: EncryptLargeOptions): Duplex {
    return new MessageStream(this.#transport, this.#sealing(options));
  }

  decryptStream(options: DecryptOptions): Duplex {
    return new MessageStream(this.#transport, this.#opening(options));
  }

  encryptWebStream(options: EncryptLargeOptions): MessageTransform {
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
    const { passWhole, valueToSeal } = await import('./large-object.ts');
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
    const streaming = this.#opening(options);
    const { contentOf, maxOutputOf, openedValue, passWhole } = await import('./large-object.ts');
    const maxOutput = maxOutputOf(options.maxOutput);
    const content = contentOf(message);
    return openedValue(
      await passWhole(new MessageStream(this.#transport, streaming), message, maxOutput),
      content,
    ) as T;
  }

  async encryptFile(source: string, target: string, options: EncryptStreamOptions): Promise<void> {
    const { passFile } = await import('./message-file.ts');
    await passFile(source, this.encryptWays(options), target, CIPHERTEXT_MODE);
  }

  async decryptFile(source: string, target: string, options: DecryptOptions): Promise<void> {
    const { passFile } = await import('./message-file.ts');
    await passFile(source, this.decryptWays(options), target, PLAINTEXT_MODE);
  }

  encryptWays(options: EncryptStreamOptions): FileWays {
    const binding = bindingOf(options);
    const frameLength = options.frameLength === undefined ? FILE_FRAME_LENGTH : checkFrameLength(options.frameLength);
    return {
      // Compression is no option of files: passed by descriptors they could not have it.
      through: () => this.encryptStream({ ...options, frameLength, compression: undefined }),
      pass: (source, into) =>
        this.#passFiles(source, into, options, (handle) => ({
          fileEncrypt: { ...binding, root: binding.root ?? '', frameLength, handle },
        })),
    };
  }

  decryptWays(options: DecryptOptions): FileWays {
    const binding = decryptBinding(options);
    return {
      through: () => this.decryptStream(options),
      pass: (source, into) =>
        this.#passFiles(source, into, options, (handle) => ({ fileDecrypt: { ...binding, root: '', handle } })),
    };
  }

  async decryptRange(
    source: string | OpenFile | MessageSource,
    range: ByteRange,
    options: DecryptOptions,
  ): Promise<Uint8Array> {
    const { wholeOf } = await import('./message-range.ts');
    return wholeOf(this.decryptRangeStream(source, range, options));
  }

  decryptRangeStream(
    source: string | OpenFile | MessageSource,
    range: ByteRange,
    options: DecryptOptions,
  ): AsyncIterable<Uint8Array> {
    return this.#pieces(source, range, this.#opening(options));
  }

  async reencryptFile(source: string, target: string, options: EncryptOptions): Promise<void> {
    const { passFile } = await import('./message-file.ts');
    await passFile(source, { through: () => this.reencryptStream(options) }, target, CIPHERTEXT_MODE);
  }

  fields<T>(): <const P extends FieldPath<T>>(definition: FieldsDefinition<T, P>) => Fields<T, P> {
    return (definition) => defineFields(this.#caller, definition);
  }

  async keyInfo(
    key: string,
    options: CallOptions & { readonly partition?: string | undefined } = {},
  ): Promise<KeyDescription> {
    const fields = { keyInfo: { key: checkKey(key), partition: checkPartition(options.partition) } };
    return this.#caller.document(fields, options) as Promise<KeyDescription>;
  }

  async roots(
    options: CallOptions & { readonly key?: string | undefined; readonly partition?: string | undefined } = {},
  ): Promise<readonly RootDescription[]> {
    const key = options.key === undefined ? '' : checkKey(options.key);
    const fields = { roots: { key, partition: checkPartition(options.partition) } };
    const { roots } = (await this.#caller.document(fields, options)) as { readonly roots: readonly RootDescription[] };
    return roots;
  }

  async rights(
    key: string,
    options: CallOptions & { readonly partition?: string | undefined } = {},
  ): Promise<KeyRights> {
    const fields = { rights: { key: checkKey(key), partition: checkPartition(options.partition) } };
    return this.#caller.document(fields, options) as Promise<KeyRights>;
  }

  async ping(options: CallOptions = {}): Promise<PingReply> {
    const begun = performance.now();
    const reply = (await this.#caller.ping(options)) as Omit<PingReply, 'roundTripMs'>;
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
    this.#spawned = import('./spawn.ts').then(({ spawnAgent }) => spawnAgent());
    return (await this.#spawned).socket;
  }

  #value<Options extends CallOptions>(
    operation: number,
    value: Uint8Array | string,
    bind: (options: Options) => WireBinding,
    options: Options,
  ): Promise<Uint8Array> {
    // What is wrong with the arguments is thrown inside, so that it rejects like everything else.
    return new Promise((resolve, reject) => {
      const data = typeof value === 'string' && HASHED.has(operation) ? utf8Of(value) : (value as Uint8Array);
      checkBytes(data);
      const binding = bind(options);
      const { signal } = options;
      signal?.throwIfAborted();
      const deadline = this.#caller.deadline(options);
      const lane = operation === OPERATION.encrypt || operation === OPERATION.decrypt ? this.#lane : undefined;
      if (lane?.wants(data)) {
        lane.submit({ operation, binding, data, deadline, signal, resolve, reject });
        return;
      }
      const transport = this.#transport;
      transport.submit(new ValueCall(transport, operation, binding, data, deadline, signal, resolve, reject));
    });
  }

  async *#pieces(
    source: string | OpenFile | MessageSource,
    range: ByteRange,
    opening: MessageStreamOptions,
  ): AsyncGenerator<Uint8Array> {
    const { readRange } = await import('./message-range.ts');
    yield* readRange(source, range, (part) => {
      // The header was read meanwhile.
      opening.signal?.throwIfAborted();
      return new MessageStream(this.#transport, { ...opening, part });
    });
  }

  #sealing(options: EncryptLargeOptions): MessageStreamOptions {
    const binding = bindingOf(options);
    const value = { ...valueSaying(options.frameLength), compression: compressionOf(options.compression) };
    return this.#streaming(OPERATION.encryptStream, binding, options, value);
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
    const { signal } = options;
    signal?.throwIfAborted();
    return { operation, binding, value, timeoutMs: this.#caller.timeoutOf(options), signal };
  }

  async #passFiles(
    source: number,
    target: PassTarget,
    options: CallOptions,
    fieldsOf: (handle: number) => RequestFields,
  ): Promise<boolean> {
    if (this.#lane === undefined) {
      return false;
    }
    const { passByDescriptors } = await import('./passed-files.ts');
    return passByDescriptors(this.#caller, await this.#lane.lane(), source, target, options, fieldsOf);
  }
}
