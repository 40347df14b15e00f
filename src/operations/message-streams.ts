/** Streams that seal a message or open one, under keys of the keystore. */
import { DATA_KEY_INFO_LENGTH, DATA_KEY_USE, type KeyHandle } from '../crypto/engine.ts';
import { decodeContext, encodeContext } from '../envelope/context.ts';
import { FRAME_OVERHEAD } from '../envelope/message-body.ts';
import { DEFAULT_MESSAGE_LIMITS, type MessageHeader, messageContext } from '../envelope/message-header.ts';
import { KID_LENGTH } from '../envelope/token.ts';
import { DekdError, decryptionFailed } from '../errors.ts';
import type { DataKey } from '../keyring/keyring.ts';
import type { OperationsEnvironment } from './environment.ts';
import { requireContext } from './limits.ts';
import { loadSealing } from './loading.ts';
import { contextToSeal, requiredToOpen } from './message-context.ts';
import { MessageOpening, type MessagePart } from './message-opening.ts';
import { joined, MessageSealing } from './message-sealing.ts';
import { type ExpectedKey, openingHandle } from './opening.ts';
import type { Caller } from './request.ts';

/** Names the keystore's encrypted data keys in a header. */
const KEYSTORE_PROVIDER = 'dekd';
const DEFAULT_FRAME_LENGTH = 64 * 1024;
/** The longest frame that is sealed or opened in a stream: a stream holds one. */
export const MAX_STREAM_FRAME = 1024 * 1024;
/** Bytes that are worked on, and made, in one go. */
const STEP = 256 * 1024;
/** Hex digits of a kid, with which the provider info begins. */
const KID_DIGITS = 2 * KID_LENGTH;

/** What a stream does with what it is given; the bytes are not kept, and the results are fresh. */
export interface MessageWork {
  /** Whether `take` is done with the bytes when it returns. */
  readonly isReady: boolean;
  /** Bytes that `take` is given at most: where frames are short, what is made of them is much longer. */
  readonly step: number;
  take(bytes: Uint8Array): Uint8Array | Promise<Uint8Array>;
  /** Nothing more is to come. */
  end(): Uint8Array;
  /** Wipes keys and plaintext; also in the middle of it. */
  close(): void;
}

/** What makes a message, without ever waiting. */
export interface SealingWork extends MessageWork {
  take(bytes: Uint8Array): Uint8Array;
}

export interface StreamRequest extends ExpectedKey {
  /** Canonical bytes; a copy. */
  readonly context: Uint8Array;
  /** Bytes of plaintext in a frame; 0 for the default. */
  readonly frameLength: number;
  /** Opening only: the frames that follow the header; all of them when undefined. */
  readonly part?: MessagePart | undefined;
}

/**
 * Begins a message under the key of this name, which is made if the caller may.
 * @param right what the caller must be allowed to do with the key
 * @throws as `encryptValue` does
 */
export async function sealingWork(
  env: OperationsEnvironment,
  caller: Caller,
  { key: name, partition, context, frameLength: wanted }: StreamRequest,
  right: 'encrypt' | 'reencrypt' = 'encrypt',
): Promise<SealingWork> {
  const { engine, keyring, volume } = env;
  caller.authorize(right, name, partition);
  const record = decodeContext(context);
  const frameLength = wanted === 0 ? DEFAULT_FRAME_LENGTH : wanted;
  if (frameLength > MAX_STREAM_FRAME) {
    throw new DekdError('INVALID_ARGUMENT', `frames of ${frameLength} bytes are over the limit of ${MAX_STREAM_FRAME}`);
  }
  const key = await loadSealing(env, caller, name, partition, 'message');
  requireContext(key, context, 0, context.length);
  const bound = contextToSeal(key.keyContext, record);
  const dataKey = keyring.room(() => engine.generateKey(DATA_KEY_USE));
  let sealing: MessageSealing;
  try {
    const wrapped = engine.wrapDataKey(key.handle(), dataKey, bound.whole);
    const providerInfo = wrapped.subarray(0, DATA_KEY_INFO_LENGTH);
    const ciphertext = wrapped.subarray(DATA_KEY_INFO_LENGTH);
    const dataKeys = [{ providerId: KEYSTORE_PROVIDER, providerInfo, ciphertext }];
    const { stored, required } = bound;
    sealing = keyring.room(
      () => new MessageSealing({ engine, dataKey, dataKeys, context: stored, required, frameLength }),
    );
  } finally {
    engine.destroyKey(dataKey);
  }
  key.used(1, 0);
  let header: Uint8Array | undefined = sealing.header;
  const led = (frames: Uint8Array): Uint8Array => {
    const bytes = header === undefined ? frames : joined(header, frames);
    header = undefined;
    return bytes;
  };
  return {
    isReady: true,
    step: Math.max(1, Math.floor((STEP * frameLength) / (frameLength + FRAME_OVERHEAD))),
    take(bytes) {
      const frames = sealing.update(bytes);
      key.used(0, bytes.length);
      volume.bytesSealed += bytes.length;
      return led(frames);
    },
    end: () => led(sealing.end()),
    close: () => sealing.close(),
  };
}

/**
 * Opens a message of the key of this name, or a part of it, which takes the same right.
 * @throws PERMISSION_DENIED, INVALID_ARGUMENT
 */
export async function openingWork(
  env: OperationsEnvironment,
  caller: Caller,
  request: StreamRequest,
): Promise<MessageWork> {
  const { volume } = env;
  const opening = beginOpening(env, caller, request, 'decrypt');
  let isReady = false;
  return {
    get isReady() {
      return isReady;
    },
    step: STEP,
    async take(bytes) {
      const plaintext = await opening.push(bytes);
      isReady = opening.header !== undefined;
      volume.bytesOpened += plaintext.length;
      return plaintext;
    },
    end: () => opening.end(),
    close: () => opening.close(),
  };
}

/**
 * What opens a message of the key that the request names.
 * @param right what the caller must be allowed to do with the key
 * @throws PERMISSION_DENIED, INVALID_ARGUMENT
 */
export function beginOpening(
  env: OperationsEnvironment,
  caller: Caller,
  request: StreamRequest,
  right: 'decrypt' | 'reencrypt',
): MessageOpening {
  if (!request.anyKey) {
    caller.authorize(right, request.key, request.partition);
  }
  const record = decodeContext(request.context);
  return new MessageOpening({
    engine: env.engine,
    limits: { ...DEFAULT_MESSAGE_LIMITS, maxFrameLength: MAX_STREAM_FRAME },
    part: request.part,
    room: (make) => env.keyring.room(make),
    dataKeyOf: (header) => dataKeyOf(env, caller, right, request, header, record),
    requiredOf: (header) => requiredToOpen(messageContext(header), record),
  });
}

/**
 * The data key of a message by the first of its encrypted data keys that is of this keystore and opens. One of another key
 * than the named one costs the work of a failed unwrap and says nothing else.
 */
async function dataKeyOf(
  env: OperationsEnvironment,
  caller: Caller,
  right: 'decrypt' | 'reencrypt',
  expected: ExpectedKey,
  header: MessageHeader,
  record: Readonly<Record<string, string>>,
): Promise<KeyHandle> {
  const whole = encodeContext({ ...messageContext(header), ...record });
  let failure: unknown = decryptionFailed('the message has no data key of this keystore');
  for (const { providerId, providerInfo, ciphertext } of header.dataKeys) {
    if (providerId !== KEYSTORE_PROVIDER || providerInfo.length !== DATA_KEY_INFO_LENGTH) {
      continue;
    }
    const kid = Buffer.from(Buffer.from(providerInfo.subarray(0, KID_DIGITS)).toString('latin1'), 'hex');
    const key: DataKey | undefined =
      kid.length === KID_LENGTH
        ? (env.keyring.opening(kid, 0) ?? (await env.keyring.prepareOpening(new Uint8Array(kid), caller.share)))
        : undefined;
    let refusal: string | undefined;
    try {
      // Asked for the handle again each time: making room may take its slot.
      return env.keyring.room(() => {
        const opening = openingHandle(env, caller, right, key, expected, 'message');
        refusal = opening.refusal;
        return env.engine.unwrapDataKey(opening.handle, providerInfo, ciphertext, whole);
      });
    } catch (error) {
      failure = refusal === undefined ? error : decryptionFailed(refusal);
    }
  }
  throw failure;
}
