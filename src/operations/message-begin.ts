/** Messages that are begun: their data key is found and their header stands, and whoever asked makes or opens the frames. */

import { decodeContext } from '../envelope/context.ts';
import { MAX_FRAME_LENGTH, STREAM_FRAME_LENGTH } from '../envelope/frame-lengths.ts';
import { DEFAULT_MESSAGE_LIMITS, messageContext } from '../envelope/message-header.ts';
import { DekdError } from '../errors.ts';
import type { Codec } from './compressed-value.ts';
import type { OperationsEnvironment } from './environment.ts';
import { authorizeSealing } from './loading.ts';
import { requiredToOpen } from './message-context.ts';
import { openingDataKey, sealingDataKey } from './message-data-keys.ts';
import { MessageOpening, type MessageOpeningOptions, type MessagePart } from './message-opening.ts';
import { MessageSealing } from './message-sealing.ts';
import type { ExpectedKey } from './opening.ts';
import type { Caller } from './request.ts';

/** A message whose header is made, and whose frames are not. */
export interface BegunSealing {
  readonly sealing: MessageSealing;
  /** Bytes of plaintext in each frame. */
  readonly frameLength: number;
  /** Counts plaintext that is sealed. */
  count(bytes: number): void;
}

export interface MessageRequest extends ExpectedKey {
  /** Name of the root that was chosen for what is sealed; empty for none. */
  readonly root: string;
  /** Canonical bytes; a copy. */
  readonly context: Uint8Array;
  /** Bytes of plaintext in a frame; 0 for the default. */
  readonly frameLength: number;
  /** Opening only: the frames that follow the header; all of them when undefined. */
  readonly part?: MessagePart | undefined;
  /** How the plaintext is compressed, and what the message says that it is. */
  readonly codec: Codec | undefined;
  readonly content: string | undefined;
  /** Whose stream it is: owners of large work take turns. */
  readonly owner: object;
}

/**
 * Begins a message under the key of this name, which is made if the caller may.
 * @param right what the caller must be allowed to do with the key
 * @param said what the message stores of its value
 * @throws as `encryptValue` does
 */
export async function beginSealing(
  env: OperationsEnvironment,
  caller: Caller,
  { key: name, partition, root, context, frameLength: wanted }: MessageRequest,
  right: 'encrypt' | 'reencrypt',
  said: Readonly<Record<string, string>>,
): Promise<BegunSealing> {
  const { engine, keyring, volume } = env;
  authorizeSealing(caller, right, name, partition, root);
  const record = decodeContext(context);
  const frameLength = wanted === 0 ? STREAM_FRAME_LENGTH : wanted;
  if (frameLength > MAX_FRAME_LENGTH) {
    throw new DekdError('INVALID_ARGUMENT', `frames of ${frameLength} bytes are over the limit of ${MAX_FRAME_LENGTH}`);
  }
  const sealingKey = await sealingDataKey(env, caller, { name, partition, root }, record, said);
  const { dataKey, dataKeys, context: bound, used } = sealingKey;
  try {
    const { stored, required } = bound;
    const sealing = keyring.room(
      () => new MessageSealing({ engine, dataKey, dataKeys, context: stored, required, frameLength }),
    );
    used(1, 0);
    return {
      sealing,
      frameLength,
      count(bytes) {
        used(0, bytes);
        volume.bytesSealed += bytes;
      },
    };
  } finally {
    engine.destroyKey(dataKey);
  }
}

/**
 * What opens a message of the key that the request names.
 * @param right what the caller must be allowed to do with the key
 * @throws PERMISSION_DENIED, INVALID_ARGUMENT
 */
export function beginOpening(
  env: OperationsEnvironment,
  caller: Caller,
  request: MessageRequest,
  right: 'decrypt' | 'reencrypt',
  openFrames?: MessageOpeningOptions['openFrames'],
): MessageOpening {
  if (!request.anyKey) {
    caller.authorize(right, request.key, request.partition);
  }
  const record = decodeContext(request.context);
  return new MessageOpening({
    engine: env.engine,
    limits: { ...DEFAULT_MESSAGE_LIMITS, maxFrameLength: MAX_FRAME_LENGTH },
    part: request.part,
    ...(openFrames === undefined ? {} : { openFrames }),
    room: (make) => env.keyring.room(make),
    dataKeyOf: (header) => openingDataKey(env, caller, right, request, header, record),
    requiredOf: (header) => requiredToOpen(messageContext(header), record),
  });
}
