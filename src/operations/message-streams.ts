/** Streams that seal a message or open one. */
import { joined } from '../bytes.ts';
import { MAX_FRAME_LENGTH } from '../envelope/frame-lengths.ts';
import { FRAME_OVERHEAD } from '../envelope/message-body.ts';
import { messageContext } from '../envelope/message-header.ts';
import { DekdError } from '../errors.ts';
import { BlockCompressor, BlockExpander, codecOf, valuePairs } from './compressed-value.ts';
import type { OperationsEnvironment } from './environment.ts';
import { beginOpening, beginSealing, type MessageRequest } from './message-begin.ts';
import type { SealFrames } from './message-sealing.ts';
import type { Caller } from './request.ts';

/** Bytes that are worked on, and made, in one go. */
const STEP = 256 * 1024;
/** Overhead of frames that is not worth a smaller step, as a share of what they hold. */
const SMALL_OVERHEAD = 1 / 256;

const NOTHING = new Uint8Array(0);

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
  /** Whether what was taken makes more than was returned: taking nothing gives the next of it. @throws as `take` */
  readonly hasMore?: boolean;
  /** Nothing more is to come. */
  end(): Uint8Array | Promise<Uint8Array>;
  /** Wipes keys and plaintext; also in the middle of it. */
  close(): void;
}

/**
 * What seals a message under the key that the request names.
 * @param right what the caller must be allowed to do with the key
 * @param said what the message stores of its value; of one that is compressed already, with no codec in the request
 * @throws as `beginSealing` does
 */
export async function sealingWork(
  env: OperationsEnvironment,
  caller: Caller,
  request: MessageRequest,
  right: 'encrypt' | 'reencrypt' = 'encrypt',
  said: Readonly<Record<string, string>> = valuePairs(request.content, request.codec),
): Promise<MessageWork> {
  const { pool } = env;
  const { owner, codec } = request;
  const { sealing, frameLength, count } = await beginSealing(env, caller, request, right, said);
  let header: Uint8Array | undefined = sealing.header;
  const led = (frames: Uint8Array): Uint8Array => {
    const bytes = header === undefined ? frames : joined([header, frames]);
    header = undefined;
    return bytes;
  };
  const isSmall = FRAME_OVERHEAD <= SMALL_OVERHEAD * frameLength;
  const inWorker: SealFrames = (message, plaintext, isFinal, length) =>
    pool.sealFrames(owner, message, plaintext, isFinal, length);
  const work: MessageWork = {
    lends: true,
    isReady: true,
    // A part of the client's in one step, where what is made of it is hardly longer.
    step: isSmall ? STEP : Math.max(1, Math.floor((STEP * frameLength) / (frameLength + FRAME_OVERHEAD))),
    take(bytes) {
      count(bytes.length);
      const frames = sealing.framesOf(bytes.length);
      return pool.isWorthHop(frames, frames * frameLength)
        ? sealing.updateBy(bytes, inWorker).then(led)
        : led(sealing.update(bytes, scratch()));
    },
    end: () => (pool.isWorthHop(1, sealing.heldLength) ? sealing.endBy(inWorker).then(led) : led(sealing.end())),
    close: () => sealing.close(),
  };
  return codec === undefined ? work : compressing(work, new BlockCompressor(pool, owner, codec));
}

/** Compresses what is sealed. */
function compressing(work: MessageWork, blocks: BlockCompressor): MessageWork {
  const sealAll = async (isLast: boolean): Promise<Uint8Array> => {
    const made: Uint8Array[] = [];
    const compressed = await blocks.flush();
    try {
      for (const block of compressed) {
        for (let at = 0; at < block.length; at += work.step) {
          made.push(await owned(work.take(block.subarray(at, at + work.step))));
        }
      }
    } finally {
      for (const block of compressed) {
        block.fill(0);
      }
    }
    if (isLast) {
      made.push(await work.end());
    }
    return Buffer.concat(made);
  };
  return {
    isReady: true,
    step: STEP,
    take: (bytes) => (blocks.push(bytes) ? sealAll(false) : NOTHING),
    end: () => sealAll(true),
    close() {
      blocks.close();
      work.close();
    },
  };
}

/** What was made, in memory of its own: what is lent is taken before anything else runs. */
export function owned(made: Uint8Array | Promise<Uint8Array>): Uint8Array | Promise<Uint8Array> {
  return made instanceof Uint8Array ? made.slice() : made;
}

let sealed: Uint8Array | undefined;

/**
 * Where all streams seal to: fresh memory for each step is a fifth of the time that a stream takes, to be made and collected.
 * Room for a step and for the frame that was held back.
 */
function scratch(): Uint8Array {
  sealed ??= new Uint8Array(STEP + MAX_FRAME_LENGTH + MAX_FRAME_LENGTH * SMALL_OVERHEAD);
  return sealed;
}

/**
 * Opens a message of the key of this name, or a part of it, which takes the same right.
 * @throws PERMISSION_DENIED, INVALID_ARGUMENT
 */
export async function openingWork(
  env: OperationsEnvironment,
  caller: Caller,
  request: MessageRequest,
): Promise<MessageWork> {
  const { engine, pool, volume, maxExpanded } = env;
  const opening = beginOpening(env, caller, request, 'decrypt', (message, body, output) =>
    inWorker ? pool.openFrames(request.owner, message, body, output) : engine.openFrames(message, body, output),
  );
  let isReady = false;
  let inWorker = false;
  let expander: BlockExpander | undefined;
  return {
    get isReady() {
      return isReady;
    },
    step: STEP,
    async take(bytes) {
      const frameLength = opening.header?.frameLength || bytes.length;
      inWorker = isReady && pool.isWorthHop(Math.ceil(bytes.length / frameLength), bytes.length);
      // What a worker does goes on after this has returned, and what was given is not kept.
      const plaintext = bytes.length === 0 ? NOTHING : await opening.push(inWorker ? new Uint8Array(bytes) : bytes);
      if (!isReady && opening.header !== undefined) {
        isReady = true;
        const codec = codecOf(messageContext(opening.header));
        if (codec !== undefined && request.part !== undefined) {
          plaintext.fill(0);
          throw new DekdError('UNSUPPORTED', 'a compressed value has no parts: decrypt it whole');
        }
        expander = codec === undefined ? undefined : new BlockExpander(pool, request.owner, codec, maxExpanded);
      }
      if (expander === undefined) {
        volume.bytesOpened += plaintext.length;
        return plaintext;
      }
      if (plaintext.length > 0) {
        expander.push(plaintext);
      }
      const value = await expander.next();
      volume.bytesOpened += value.length;
      return value;
    },
    get hasMore() {
      return expander?.hasWhole ?? false;
    },
    end() {
      const plaintext = opening.end();
      if (expander !== undefined && plaintext.length > 0) {
        plaintext.fill(0);
        throw new DekdError('UNSUPPORTED', 'a signed message with a compressed value is not read');
      }
      expander?.end();
      return plaintext;
    },
    close() {
      expander?.close();
      opening.close();
    },
  };
}
