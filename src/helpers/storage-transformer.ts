/**
 * Objects in a store of the application's, S3 or alike, as messages: compressed when asked for, then encrypted, piece by piece, and
 * never the other way round, since what is encrypted does not compress.
 */
import { type Duplex, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ByteRange, CompressionChoice, DekdClient, MessageSource } from '../client/types.ts';
import { DekdError } from '../errors.ts';
import {
  Binding,
  type BoundArgument,
  type BoundCall,
  checkText,
  type GivenOptions,
  type HelperOptions,
} from './binding.ts';
import { notValid, saysNotValid } from './validity.ts';

const WHAT = 'the stored object';

/** What the application's store must be able to do. Errors pass as they are. */
export interface ObjectStore {
  /**
   * Keeps all that `body` gives, a Node stream, under this name, or rejects. Resolves when the object is there. A body that fails
   * is no object: what was written of it is removed, or opens nowhere as a whole.
   */
  put(name: string, body: AsyncIterable<Uint8Array>): Promise<unknown>;
  /** What is kept under this name, from its beginning. */
  get(name: string): Promise<AsyncIterable<Uint8Array>>;
  /** For ranges: size and parts of what is kept under this name. */
  source?(name: string): Promise<MessageSource>;
}

export type StreamClient = Pick<DekdClient, 'encryptStream' | 'decryptStream' | 'decryptRangeStream'>;

export interface StorageTransformerOptions<Name extends string = never> extends HelperOptions<Name> {
  readonly store: ObjectStore;
  /**
   * Compresses before it encrypts, in the agent; off unless given. The length of a compressed object says something of what is in
   * it, and parts of it cannot be read.
   */
  readonly compression?: CompressionChoice | undefined;
  /** Bytes of plaintext in each frame, 1 to 1,048,576; default 65,536. A range reads whole frames. */
  readonly frameLength?: number | undefined;
}

/**
 * Uploads and downloads, at constant memory. Each object is one message, with its encrypted data key inside, bound to its name and
 * the fields of `bindTo`: copied to another name it does not open. `timeoutMs` of a call is how long the agent may be silent.
 */
export class StorageTransformer<Name extends string = never> {
  readonly #dekd: StreamClient;
  readonly #options: StorageTransformerOptions<Name>;
  readonly #binding: Binding;

  /** @throws INVALID_ARGUMENT */
  constructor(dekd: StreamClient, options: StorageTransformerOptions<Name>) {
    this.#dekd = dekd;
    this.#options = options;
    this.#binding = new Binding('stored-object', options);
  }

  /**
   * Encrypts what `source` gives into the store. What fails of source, agent or store stops all three.
   * @throws INVALID_ARGUMENT; what source, store and client throw
   */
  async upload(
    name: string,
    source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
    ...[options]: BoundArgument<Name>
  ): Promise<void> {
    const { compression, frameLength, store } = this.#options;
    const body = this.#dekd.encryptStream({ ...this.#call(name, options), compression, frameLength }) as Duplex;
    const failures: unknown[] = [];
    const failed = (error: unknown): void => {
      failures.push(error);
      body.destroy(error as Error);
    };
    // Whoever reads the body may have gone when it fails.
    body.on('error', () => undefined);
    const stored = async (): Promise<void> => {
      await store.put(name, body);
      if (!body.readableEnded) {
        throw new DekdError('INVALID_ARGUMENT', 'the put of the store resolved before it had read the whole body');
      }
    };
    await Promise.all([pipeline(source, body).catch(failed), stored().catch(failed)]);
    if (failures.length > 0) {
      // That nobody reads the body any more is how the failure of a store is seen that takes its time to reject.
      throw failures.find((error) => !isEcho(error)) ?? failures[0];
    }
  }

  /**
   * The plaintext of an object, each piece verified before it is given out. That nothing is missing only the end says: do not act
   * on what was read before it.
   * @throws DECRYPTION_FAILED for what is not the whole of this object; what store and client throw
   */
  download(name: string, ...[options]: BoundArgument<Name>): AsyncIterable<Uint8Array> {
    const call = this.#call(name, options);
    return opened(whole(this.#dekd, this.#options.store, name, call));
  }

  /**
   * What `plaintext.subarray(start, end)` of an object is, of which only the frames that it lies in are read, as
   * `DekdClient.decryptRange` has it.
   * @throws UNSUPPORTED for a compressed object, which has no parts, and for a store without `source`; else as `download`
   */
  downloadRange(name: string, range: ByteRange, ...[options]: BoundArgument<Name>): AsyncIterable<Uint8Array> {
    const call = this.#call(name, options);
    return opened(part(this.#dekd, this.#options.store, name, range, call));
  }

  #call(name: string, options: GivenOptions): BoundCall {
    return this.#binding.of(options, { object: checkText('the name of an object', name) });
  }
}

/** What Node says of a stream that its reader has left. */
function isEcho(error: unknown): boolean {
  const { code } = (error ?? {}) as NodeJS.ErrnoException;
  return code === 'ERR_STREAM_PREMATURE_CLOSE' || code === 'ABORT_ERR';
}

async function* whole(
  dekd: StreamClient,
  store: ObjectStore,
  name: string,
  call: BoundCall,
): AsyncGenerator<Uint8Array, void, undefined> {
  const source = await store.get(name);
  const message = dekd.decryptStream(call) as Duplex;
  // What fails of the source destroys the message, and the reverse; who reads is told by the message.
  const fed = pipeline(Readable.from(source, { objectMode: false }), message).catch(() => undefined);
  try {
    yield* message as AsyncIterable<Uint8Array>;
  } finally {
    await fed;
  }
}

async function* part(
  dekd: StreamClient,
  store: ObjectStore,
  name: string,
  range: ByteRange,
  call: BoundCall,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (store.source === undefined) {
    throw new DekdError('UNSUPPORTED', 'the store has no source, which ranges are read from: download the object');
  }
  yield* dekd.decryptRangeStream(await store.source(name), range, call);
}

/** The pieces, and one text for all that is wrong with the object. */
async function* opened(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    yield* pieces;
  } catch (error) {
    throw saysNotValid(error) ? notValid(WHAT, error) : error;
  }
}
