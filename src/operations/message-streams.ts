/** Streams that seal a message or open one. */
import { joined } from '../bytes.ts';
import { decodeContext } from '../envelope/context.ts';
import { FRAME_OVERHEAD } from '../envelope/message-body.ts';
import { DEFAULT_MESSAGE_LIMITS, messageContext } from '../envelope/message-header.ts';
import { DekdError } from '../errors.ts';
import type { OperationsEnvironment } from './environment.ts';
import { requiredToOpen } from './message-context.ts';
import { openingDataKey, sealingDataKey } from './message-data-keys.ts';
import { MessageOpening, type MessageOpeningOptions, type MessagePart } from './message-opening.ts';
import { MessageSealing, type SealFrames } from './message-sealing.ts';
import type { ExpectedKey } from './opening.ts';
import type { Caller } from './request.ts';

const DEFAULT_FRAME_LENGTH = 64 * 1024;
/** The longest frame that is sealed or opened in a stream: a stream holds one. */
export const MAX_STREAM_FRAME = 1024 * 1024;
/** Bytes that are worked on, and made, in one go. */
const STEP = 256 * 1024;
/** Overhead of frames that is not worth a smaller step, as a share of what they hold. */
const SMALL_OVERHEAD = 1 / 256;

/** What a stream does with what it is given; the bytes are not kept. */
export interface MessageWork {
  /**
   * What `take` gives at once is lent only until anything is asked of any work: ciphertext, which needs no wiping. Without
   * it, it is fresh and the caller's to wipe. What `take` promises, and what `end` gives, is fresh.
   */
  readonly lends?: true;
  /** Whether `take` is done with the bytes when it returns. */
  readonly isReady: boolean;
  /** Bytes that `take` is given at most: where frames are short, what is made of them is much longer. */
  readonly step: number;
  take(bytes: Uint8Array): Uint8Array | Promise<Uint8Array>;
  /** Nothing more is to come. */
  end(): Uint8Array | Promise<Uint8Array>;
  /** Wipes keys and plaintext; also in the middle of it. */
  close(): void;
}

export interface StreamRequest extends ExpectedKey {
  /** Canonical bytes; a copy. */
  readonly context: Uint8Array;
  /** Bytes of plaintext in a frame; 0 for the default. */
  readonly frameLength: number;
  /** Opening only: the frames that follow the header; all of them when undefined. */
  readonly part?: MessagePart | undefined;
  /** Whose stream it is: owners of large work take turns. */
  readonly owner: object;
}

/**
 * Begins a message under the key of this name, which is made if the caller may.
 * @param right what the caller must be allowed to do with the key
 * @throws as `encryptValue` does
 */
export async function sealingWork(
  env: OperationsEnvironment,
  caller: Caller,
  { key: name, partition, context, frameLength: wanted, owner }: StreamRequest,
  right: 'encrypt' | 'reencrypt' = 'encrypt',
): Promise<MessageWork> {
  const { engine, keyring, pool, volume } = env;
  caller.authorize(right, name, partition);
  const record = decodeContext(context);
  const frameLength = wanted === 0 ? DEFAULT_FRAME_LENGTH : wanted;
  if (frameLength > MAX_STREAM_FRAME) {
    throw new DekdError('INVALID_ARGUMENT', `frames of ${frameLength} bytes are over the limit of ${MAX_STREAM_FRAME}`);
  }
  const { dataKey, dataKeys, context: bound, used } = await sealingDataKey(env, caller, name, partition, record);
  let sealing: MessageSealing;
  try {
    const { stored, required } = bound;
    sealing = keyring.room(
      () => new MessageSealing({ engine, dataKey, dataKeys, context: stored, required, frameLength }),
    );
  } finally {
    engine.destroyKey(dataKey);
  }
  used(1, 0);
  let header: Uint8Array | undefined = sealing.header;
  const led = (frames: Uint8Array): Uint8Array => {
    const bytes = header === undefined ? frames : joined([header, frames]);
    header = undefined;
    return bytes;
  };
  const isSmall = FRAME_OVERHEAD <= SMALL_OVERHEAD * frameLength;
  const inWorker: SealFrames = (message, plaintext, isFinal, length) =>
    pool.sealFrames(owner, message, plaintext, isFinal, length);
  return {
    lends: true,
    isReady: true,
    // A part of the client's in one step, where what is made of it is hardly longer.
    step: isSmall ? STEP : Math.max(1, Math.floor((STEP * frameLength) / (frameLength + FRAME_OVERHEAD))),
    take(bytes) {
      used(0, bytes.length);
      volume.bytesSealed += bytes.length;
      const frames = sealing.framesOf(bytes.length);
      return pool.isWorthHop(frames, frames * frameLength)
        ? sealing.updateBy(bytes, inWorker).then(led)
        : led(sealing.update(bytes, scratch()));
    },
    end: () => (pool.isWorthHop(1, sealing.heldLength) ? sealing.endBy(inWorker).then(led) : led(sealing.end())),
    close: () => sealing.close(),
  };
}

let sealed: Uint8Array | undefined;

/**
 * Where all streams seal to: fresh memory for each step is a fifth of the time that a stream takes, to be made and collected.
 * Room for a step and for the frame that was held back.
 */
function scratch(): Uint8Array {
  sealed ??= new Uint8Array(STEP + MAX_STREAM_FRAME + MAX_STREAM_FRAME * SMALL_OVERHEAD);
  return sealed;
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
  const { engine, pool, volume } = env;
  const opening = beginOpening(env, caller, request, 'decrypt', (message, body, output) =>
    inWorker ? pool.openFrames(request.owner, message, body, output) : engine.openFrames(message, body, output),
  );
  let isReady = false;
  let inWorker = false;
  return {
    get isReady() {
      return isReady;
    },
    step: STEP,
    async take(bytes) {
      const frameLength = opening.header?.frameLength || bytes.length;
      inWorker = isReady && pool.isWorthHop(Math.ceil(bytes.length / frameLength), bytes.length);
      // What a worker does goes on after this has returned, and what was given is not kept.
      const plaintext = await opening.push(inWorker ? Uint8Array.from(bytes) : bytes);
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
  openFrames?: MessageOpeningOptions['openFrames'],
): MessageOpening {
  if (!request.anyKey) {
    caller.authorize(right, request.key, request.partition);
  }
  const record = decodeContext(request.context);
  return new MessageOpening({
    engine: env.engine,
    limits: { ...DEFAULT_MESSAGE_LIMITS, maxFrameLength: MAX_STREAM_FRAME },
    part: request.part,
    ...(openFrames === undefined ? {} : { openFrames }),
    room: (make) => env.keyring.room(make),
    dataKeyOf: (header) => openingDataKey(env, caller, right, request, header, record),
    requiredOf: (header) => requiredToOpen(messageContext(header), record),
  });
}
