/** A message that is encrypted or decrypted while it passes: a Duplex over one stream of the wire. */
import { Duplex } from 'node:stream';
import { DekdError } from '../errors.ts';
import { MAX_STREAM_PART } from '../protocol/frame.ts';
import type { AnyCall } from './calls.ts';
import type { MessageStreamOptions, StreamCall } from './stream-call.ts';
import type { Transport } from './transport.ts';

/**
 * What is written is the one form, what is read the other. It holds two windows of 512 KiB at most, or two frames where those
 * are longer, however long it is, and is never resumed: what breaks it destroys it with a DekdError.
 */
export class MessageStream extends Duplex {
  readonly #transport: Transport<AnyCall>;
  readonly #options: MessageStreamOptions;
  /** Undefined until its code is there. */
  #call: StreamCall | undefined;
  /** The writer of a chunk that has not left yet. */
  #writer: ((error?: Error | null) => void) | undefined;
  /** Bytes pushed that the reader has not asked for. */
  #pushed = 0;

  constructor(transport: Transport<AnyCall>, options: MessageStreamOptions) {
    super({ writableHighWaterMark: MAX_STREAM_PART, readableHighWaterMark: MAX_STREAM_PART });
    this.#transport = transport;
    this.#options = options;
    const { signal } = options;
    if (signal !== undefined) {
      const abort = () => this.destroy(signal.reason as Error);
      signal.addEventListener('abort', abort, { once: true });
      this.once('close', () => signal.removeEventListener('abort', abort));
    }
  }

  /** Not in the constructor: what is wrong is an error of the stream. Until this is done, nothing else is asked of it. */
  override _construct(done: (error?: Error | null) => void): void {
    this.#begin().then(() => done(), done);
  }

  override _write(chunk: unknown, _encoding: string, done: (error?: Error | null) => void): void {
    if (!(chunk instanceof Uint8Array)) {
      done(new DekdError('INVALID_ARGUMENT', `a chunk of the stream is ${typeof chunk}, not a Uint8Array`));
      return;
    }
    this.#writer = done;
    this.#call!.send(chunk, () => {
      if (this.#writer === done) {
        this.#writer = undefined;
        done();
      }
    });
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#call!.end();
    done();
  }

  override _read(): void {
    this.#makeRoom();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#call?.giveUp();
    this.#writer?.(error ?? new DekdError('CANCELLED', 'the stream was destroyed'));
    this.#writer = undefined;
    done(error);
  }

  async #begin(): Promise<void> {
    const { StreamCall } = await import('./stream-call.ts');
    if (this.destroyed) {
      return;
    }
    this.#call = new StreamCall(this.#transport, this.#options, {
      data: (bytes) => {
        this.#pushed += bytes.length;
        if (this.push(bytes)) {
          this.#makeRoom();
        }
      },
      end: () => this.push(null),
      failed: (error) => this.destroy(error),
    });
    this.#transport.submit(this.#call);
  }

  #makeRoom(): void {
    this.#call!.taken(this.#pushed);
    this.#pushed = 0;
  }
}
