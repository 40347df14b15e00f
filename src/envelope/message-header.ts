import { DekdError } from '../errors.ts';
import { ContextCheck, checkContext, contextOf, fieldAt, isUtf8, putBytes, readU16, sortedContext } from './context.ts';
import { lookAlike, TOKEN_FORMAT } from './token.ts';

/**
 * The header of a message, which is an AWS Encryption SDK message of version 2. All numbers are big-endian.
 *
 *     body: 02 ‖ suite u16 ‖ message id 32
 *           ‖ length u16 ‖ context                  pairs as in canonical bytes; an empty context has length 0
 *           ‖ count u16 ‖ count × encrypted data key: three times length u16 ‖ bytes
 *           ‖ content type u8 ‖ frame length u32 ‖ commitment 32
 *     tag:  16, which authenticates the body
 *
 * Pure bytes, no keys: that a header can be read says nothing about who wrote it.
 */

/** AES-256-GCM, HKDF-SHA-512, commits to its key: the suite that is written. */
export const MESSAGE_SUITE = 0x0478;
/** The same with an ECDSA P-384 signature behind the body: read only. */
export const SIGNED_MESSAGE_SUITE = 0x0578;
export type MessageSuite = typeof MESSAGE_SUITE | typeof SIGNED_MESSAGE_SUITE;

export const MESSAGE_ID_LENGTH = 32;
export const COMMITMENT_LENGTH = 32;
export const MESSAGE_TAG_LENGTH = 16;
/** The largest frame length the format can state, in bytes of plaintext. */
export const MAX_FRAME_LENGTH = 0xffffffff;

const VERSION = 0x02;
const NON_FRAMED = 0x01;
const FRAMED = 0x02;
const MAX_U16 = 0xffff;

const U8_LENGTH = 1;
const U16_LENGTH = 2;
const U32_LENGTH = 4;
const SUITE_OFFSET = 1;
const MESSAGE_ID_OFFSET = 3;
const CONTEXT_LENGTH_OFFSET = MESSAGE_ID_OFFSET + MESSAGE_ID_LENGTH;
const CONTEXT_OFFSET = CONTEXT_LENGTH_OFFSET + U16_LENGTH;
/** What follows the encrypted data keys in the header body. */
const TRAILER_LENGTH = U8_LENGTH + U32_LENGTH + COMMITMENT_LENGTH;
/** A header body around its context and its encrypted data keys. */
const FIXED_LENGTH = CONTEXT_OFFSET + U16_LENGTH + TRAILER_LENGTH;
const FIELDS_PER_DATA_KEY = 3;
const MIN_DATA_KEY_LENGTH = FIELDS_PER_DATA_KEY * U16_LENGTH;

/** Suites of the same format that let one ciphertext open to different plaintexts under different keys. */
const NON_COMMITTING: ReadonlySet<number> = new Set([
  0x0014, 0x0046, 0x0078, 0x0114, 0x0146, 0x0178, 0x0214, 0x0346, 0x0378,
]);

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Provider id of the keystore's encrypted data keys. */
export const KEYSTORE_PROVIDER = 'dekd';

/** The data key of a message as one recipient can open it. */
export interface EncryptedDataKey {
  /** What kind of recipient: `aws-kms`, or the namespace of a raw key. */
  readonly providerId: string;
  /** Which key of it; up to 65,535 bytes that mean something to the provider alone. */
  readonly providerInfo: Uint8Array;
  /** Up to 65,535 bytes. */
  readonly ciphertext: Uint8Array;
}

/**
 * What a reader puts up with. The format allows 65,535 data keys, each a call to a KMS, headers of gigabytes, and
 * frames of 4 GiB that have to be held until their tag is checked.
 */
export interface MessageLimits {
  /** Bytes of a header with its tag. */
  readonly maxHeader: number;
  readonly maxDataKeys: number;
  /** Bytes of plaintext in one frame. */
  readonly maxFrameLength: number;
}

export const DEFAULT_MESSAGE_LIMITS: MessageLimits = {
  maxHeader: 65_536,
  maxDataKeys: 8,
  maxFrameLength: 16 * 1024 * 1024,
};

/** A header that was read. All its bytes are views of one copy of it, which nobody else has. */
export interface MessageHeader {
  readonly suite: MessageSuite;
  /** 32 bytes. */
  readonly messageId: Uint8Array;
  /** Canonical bytes (`context.ts`) of the context that the message stores; it may have reserved names, or be empty. */
  readonly context: Uint8Array;
  /** At least one, in the order of the message. */
  readonly dataKeys: readonly EncryptedDataKey[];
  /** Bytes of plaintext in every frame but the last; 0 when the message is not framed. */
  readonly frameLength: number;
  /** 32 bytes that only the right data key gives. */
  readonly commitment: Uint8Array;
  /** The header body, byte for byte as it came: what the tag authenticates. */
  readonly body: Uint8Array;
  /** 16 bytes. */
  readonly tag: Uint8Array;
  /** Bytes of header body and tag together: where the message's body begins. */
  readonly length: number;
}

/** What a header to be written says. */
export type MessageHeaderFields = Pick<
  MessageHeader,
  'messageId' | 'context' | 'dataKeys' | 'frameLength' | 'commitment'
>;

/**
 * The header body of a framed message of the suite 0x0478, without the tag; a fresh array. `context` is what
 * `encodeContext` gives. Whether a reader takes a header of this size is a matter of its limits.
 * @throws INVALID_ARGUMENT when a field is not of its length, the context not canonical or a provider id no Unicode.
 */
export function encodeMessageHeader(fields: MessageHeaderFields): Uint8Array {
  const { messageId, context, dataKeys, frameLength, commitment } = fields;
  checkLength('message id', messageId, MESSAGE_ID_LENGTH);
  checkLength('commitment', commitment, COMMITMENT_LENGTH);
  checkFrameLength(frameLength);
  checkContext(context, 0, context.length);
  if (dataKeys.length === 0 || dataKeys.length > MAX_U16) {
    throw new DekdError('INVALID_ARGUMENT', `a message has 1 to ${MAX_U16} data keys, not ${dataKeys.length}`);
  }
  const parts = dataKeys.flatMap(fieldsOf);
  let length = FIXED_LENGTH + context.length;
  for (const part of parts) {
    length += U16_LENGTH + part.length;
  }
  const body = new Uint8Array(length);
  body[0] = VERSION;
  putU16(body, SUITE_OFFSET, MESSAGE_SUITE);
  body.set(messageId, MESSAGE_ID_OFFSET);
  let at = putBytes(body, CONTEXT_LENGTH_OFFSET, context);
  putU16(body, at, dataKeys.length);
  at += U16_LENGTH;
  for (const part of parts) {
    at = putBytes(body, at, part);
  }
  body[at] = FRAMED;
  putU16(body, at + U8_LENGTH, frameLength >>> 16);
  putU16(body, at + U8_LENGTH + U16_LENGTH, frameLength);
  body.set(commitment, at + U8_LENGTH + U32_LENGTH);
  return body;
}

/** @throws INVALID_ARGUMENT for what is no number of bytes that a frame can have */
export function checkFrameLength(frameLength: number): void {
  if (!Number.isInteger(frameLength) || frameLength < 1 || frameLength > MAX_FRAME_LENGTH) {
    throw new DekdError('INVALID_ARGUMENT', `a frame length is 1 to ${MAX_FRAME_LENGTH} bytes, not ${frameLength}`);
  }
}

/**
 * Reads the header that `bytes` begins with.
 * @param bytes what has come of a message so far, its header first; not kept
 * @returns undefined when more bytes are needed. A stream keeps a `MessageHeaderReader`, which judges every byte once.
 * @throws what `MessageHeaderReader.read` throws
 */
export function readMessageHeader(bytes: Uint8Array, limits?: MessageLimits): MessageHeader | undefined {
  return new MessageHeaderReader(limits).read(bytes);
}

/**
 * Reads one header from bytes that are still arriving. A field is judged when its last byte is there and a length, with
 * the limits, when it is there: what will be refused is refused before the rest of it has to be received, and the same
 * refusal comes however the bytes were cut. Nothing is copied or allocated for a header before it is whole.
 */
export class MessageHeaderReader {
  readonly #parser: Parser<MessageHeader>;

  constructor(limits: MessageLimits = DEFAULT_MESSAGE_LIMITS) {
    this.#parser = parse(limits);
    this.#parser.next(NOTHING);
  }

  /**
   * Goes on with what has come since the last call.
   * @param bytes all that has come of the message so far, its header first; not kept, so that it may move between calls
   * @returns undefined when more bytes are needed; after the header, and after an error, the reader is of no more use
   * @throws MALFORMED for what is no message of this version or contradicts itself; UNSUPPORTED_VERSION for another
   *   version or suite; INVALID_ARGUMENT naming the limit that the header is over
   */
  read(bytes: Uint8Array): MessageHeader | undefined {
    const { done, value } = this.#parser.next(bytes);
    if (done === true && value === undefined) {
      throw new DekdError('INTERNAL', 'message header reader used after its end');
    }
    return value;
  }
}

/** The context that a message stores, as an object without prototype. It is authentic only when the tag was checked. */
export function messageContext(header: MessageHeader): Record<string, string> {
  return contextOf(header.context, 0, header.context.length);
}

/** Yields when more bytes are needed, and is then given all that have come. */
type Parser<T> = Generator<undefined, T, Uint8Array>;

const NOTHING = new Uint8Array(0);

function* until(length: number, bytes: Uint8Array): Parser<Uint8Array> {
  let have = bytes;
  while (have.length < length) {
    have = yield;
  }
  return have;
}

function* parse(limits: MessageLimits): Parser<MessageHeader> {
  let bytes = yield* parseSuite();
  // What the header takes at least, by all lengths that are known.
  let least = FIXED_LENGTH + MESSAGE_TAG_LENGTH + MIN_DATA_KEY_LENGTH;

  bytes = yield* until(CONTEXT_OFFSET, bytes);
  const contextLength = readU16(bytes, CONTEXT_LENGTH_OFFSET);
  least += contextLength;
  checkHeaderLimit(least, limits);
  if (contextLength > 0) {
    const check = new ContextCheck('message', CONTEXT_OFFSET, contextLength);
    while (!check.advance(bytes)) {
      bytes = yield;
    }
  }

  let at = CONTEXT_OFFSET + contextLength;
  bytes = yield* until(at + U16_LENGTH, bytes);
  const count = readU16(bytes, at);
  at += U16_LENGTH;
  if (count === 0) {
    throw malformed('it has no encrypted data key');
  }
  if (count > limits.maxDataKeys) {
    throw overLimit(`${count} encrypted data keys are`, 'maxDataKeys', limits);
  }
  least += (count - 1) * MIN_DATA_KEY_LENGTH;
  checkHeaderLimit(least, limits);
  for (let field = 0; field < count * FIELDS_PER_DATA_KEY; field++) {
    const start = at + U16_LENGTH;
    bytes = yield* until(start, bytes);
    const length = readU16(bytes, at);
    least += length;
    checkHeaderLimit(least, limits);
    bytes = yield* until(start + length, bytes);
    if (field % FIELDS_PER_DATA_KEY === 0 && !isUtf8(bytes, start, length)) {
      throw malformed('a provider id is not UTF-8');
    }
    at = start + length;
  }

  bytes = yield* until(at + U8_LENGTH, bytes);
  const contentType = bytes[at]!;
  if (contentType !== FRAMED && contentType !== NON_FRAMED) {
    throw malformed(`its content type is ${contentType}, neither 1 nor 2`);
  }
  bytes = yield* until(at + U8_LENGTH + U32_LENGTH, bytes);
  const frameLength = readU32(bytes, at + U8_LENGTH);
  if ((contentType === FRAMED) !== frameLength > 0) {
    throw malformed(
      contentType === FRAMED ? 'it is framed with frame length 0' : 'it is not framed but has a frame length',
    );
  }
  if (frameLength > limits.maxFrameLength) {
    throw overLimit(`frames of ${frameLength} bytes are`, 'maxFrameLength', limits);
  }
  const bodyLength = at + TRAILER_LENGTH;
  bytes = yield* until(bodyLength + MESSAGE_TAG_LENGTH, bytes);
  // Not slice(), which gives a view when the bytes are a Buffer.
  return headerOf(new Uint8Array(bytes.subarray(0, bodyLength + MESSAGE_TAG_LENGTH)));
}

/** @returns the bytes that have come when the header is known to be one of a suite that can be read */
function* parseSuite(): Parser<Uint8Array> {
  let bytes = yield* until(1, NOTHING);
  if (bytes[0] === 0x01) {
    bytes = yield* until(2, bytes);
    if (bytes[1] === 0x80) {
      throw new DekdError(
        'UNSUPPORTED_VERSION',
        'messages of version 1 are not supported: they do not commit to their key',
      );
    }
  }
  if (bytes[0] !== VERSION) {
    throw notAMessage(bytes);
  }
  bytes = yield* until(MESSAGE_ID_OFFSET, bytes);
  const suite = readU16(bytes, SUITE_OFFSET);
  if (suite !== MESSAGE_SUITE && suite !== SIGNED_MESSAGE_SUITE) {
    throw unknownSuite(suite);
  }
  return bytes;
}

/** The header in `bytes`, which are exactly it and were judged; its fields are views of them. */
function headerOf(bytes: Uint8Array): MessageHeader {
  const bodyLength = bytes.length - MESSAGE_TAG_LENGTH;
  const commitmentOffset = bodyLength - COMMITMENT_LENGTH;
  const stored = fieldAt(bytes, CONTEXT_LENGTH_OFFSET);
  const dataKeys: EncryptedDataKey[] = [];
  let at = CONTEXT_OFFSET + stored.length;
  const count = readU16(bytes, at);
  at += U16_LENGTH;
  for (let i = 0; i < count; i++) {
    const providerId = fieldAt(bytes, at);
    const providerInfo = fieldAt(bytes, at + U16_LENGTH + providerId.length);
    const ciphertext = fieldAt(bytes, at + 2 * U16_LENGTH + providerId.length + providerInfo.length);
    at += MIN_DATA_KEY_LENGTH + providerId.length + providerInfo.length + ciphertext.length;
    dataKeys.push({ providerId: decoder.decode(providerId), providerInfo, ciphertext });
  }
  return {
    suite: readU16(bytes, SUITE_OFFSET) as MessageSuite,
    messageId: bytes.subarray(MESSAGE_ID_OFFSET, CONTEXT_LENGTH_OFFSET),
    context: sortedContext(stored),
    dataKeys,
    frameLength: readU32(bytes, commitmentOffset - U32_LENGTH),
    commitment: bytes.subarray(commitmentOffset, bodyLength),
    body: bytes.subarray(0, bodyLength),
    tag: bytes.subarray(bodyLength),
    length: bytes.length,
  };
}

/** The three fields of an encrypted data key, in their order. @throws INVALID_ARGUMENT */
function fieldsOf({ providerId, providerInfo, ciphertext }: EncryptedDataKey): Uint8Array[] {
  if (!providerId.isWellFormed()) {
    throw new DekdError('INVALID_ARGUMENT', 'a provider id has a lone surrogate');
  }
  const id = encoder.encode(providerId);
  checkField('provider id', id);
  checkField('provider info', providerInfo);
  checkField('encrypted data key', ciphertext);
  return [id, providerInfo, ciphertext];
}

function checkField(name: string, bytes: Uint8Array): void {
  if (bytes.length > MAX_U16) {
    throw new DekdError('INVALID_ARGUMENT', `${name} of ${bytes.length} bytes is over the limit of ${MAX_U16}`);
  }
}

function checkLength(name: string, bytes: Uint8Array, length: number): void {
  if (bytes.length !== length) {
    throw new DekdError('INVALID_ARGUMENT', `a ${name} has ${length} bytes, not ${bytes.length}`);
  }
}

/** @param least bytes that the header has at least */
function checkHeaderLimit(least: number, limits: MessageLimits): void {
  if (least > limits.maxHeader) {
    throw overLimit(`message header of at least ${least} bytes is`, 'maxHeader', limits);
  }
}

function overLimit(what: string, limit: keyof MessageLimits, limits: MessageLimits): DekdError {
  return new DekdError('INVALID_ARGUMENT', `${what} over ${limit} of ${limits[limit]}`);
}

function malformed(reason: string): DekdError {
  return new DekdError('MALFORMED', `malformed message header: ${reason}`);
}

function unknownSuite(suite: number): DekdError {
  const hex = suite.toString(16).padStart(4, '0');
  const reason = NON_COMMITTING.has(suite) ? ': it does not commit to its key' : '';
  return new DekdError('UNSUPPORTED_VERSION', `message suite 0x${hex} is not supported${reason}`);
}

function notAMessage(bytes: Uint8Array): DekdError {
  const known =
    bytes[0] === TOKEN_FORMAT ? 'this is a dekd token' : lookAlike(String.fromCharCode(...bytes.subarray(0, 16)));
  return new DekdError('MALFORMED', `not a message: ${known ?? 'it does not begin with the byte 02'}`);
}

function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 8;
  bytes[at + 1] = value;
}

function readU32(bytes: Uint8Array, at: number): number {
  return readU16(bytes, at) * 0x10000 + readU16(bytes, at + U16_LENGTH);
}
