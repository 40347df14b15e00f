/** A message that is encrypted or decrypted while it passes: a pair of web streams over one stream of the wire. */
import { DekdError } from '../errors.ts';
import { MAX_STREAM_PART } from '../protocol/frame.ts';
import type { AnyCall } from './calls.ts';
import type { MessageStreamOptions, StreamCall } from './stream-call.ts';
import type { Transport } from './transport.ts';
import type { MessageTransform } from './types.ts';

/** A promise that somebody waits for. */
interface Waiting {
  readonly resolve: () => void;
  readonly reject: (reason: unknown) => void;
}

/**
 * What TransformStream would be over a call: whichever side or the agent ends it, both sides end alike, and `close` of the
 * writable waits until the agent has said that all of it was right.
 *
 * Results that nobody has read wait here and nowhere else, 512 KiB at most: the agent gets room as they are taken. Not
 * `Duplex.toWeb`: its `abort` waits for a chunk that waits for the reader, and a chunk that is no bytes ends one side only.
 */
export class WebMessageStream implements MessageTransform {
  readonly readable: ReadableStream<Uint8Array>;
  readonly writable: WritableStream<Uint8Array>;
  readonly #transport: Transport<AnyCall>;
  readonly #options: MessageStreamOptions;
  /** Undefined until its code is there, before which neither side asks for anything. */
  #call: StreamCall | undefined;
  #reading!: ReadableStreamDefaultController<Uint8Array>;
  #writing!: WritableStreamDefaultController;
  readonly #results: Uint8Array[] = [];
  /** The reader, when it has asked and there was nothing. */
  #asked: Waiting | undefined;
  /** The writer, until its chunk has left or what it closed was right. */
  #given: Waiting | undefined;
  /** The agent has sent everything. */
  #isComplete = false;
  #isOver = false;
  #forgetSignal = () => {};

  constructor(transport: Transport<AnyCall>, options: MessageStreamOptions) {
    this.#transport = transport;
    this.#options = options;
    const begun = this.#begin();
    this.readable = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#reading = controller;
          return begun;
        },
        pull: () => this.#pull(),
        cancel: (reason: unknown) => this.#fail(reason ?? new DekdError('CANCELLED', 'the reader gave the stream up')),
      },
      // So that it asks only when somebody reads.
      { highWaterMark: 0 },
    );
    this.writable = new WritableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#writing = controller;
          // Not `abort` of the sink, which waits for a write that may itself be waiting for the agent. (The types of Node
          // lack it.)
          const { signal } = controller as unknown as { readonly signal: AbortSignal };
          signal.addEventListener('abort', () => this.#stop(signal.reason), { once: true });
          return begun;
        },
        write: (chunk) => this.#write(chunk),
        close: () => this.#close(),
      },
      // What is no bytes is refused by `write`, which can say so.
      { highWaterMark: MAX_STREAM_PART, size: (chunk) => (chunk instanceof Uint8Array ? chunk.length : 0) },
    );
    const { signal } = options;
    if (signal !== undefined) {
      const abort = () => this.#fail(signal.reason);
      signal.addEventListener('abort', abort, { once: true });
      this.#forgetSignal = () => signal.removeEventListener('abort', abort);
    }
  }

  async #begin(): Promise<void> {
    const { StreamCall } = await import('./stream-call.ts');
    if (this.#isOver) {
      return;
    }
    this.#call = new StreamCall(this.#transport, this.#options, {
      data: (bytes) => this.#take(bytes),
      end: () => this.#complete(),
      failed: (error) => this.#fail(error),
    });
    this.#transport.submit(this.#call);
  }

  #pull(): Promise<void> | undefined {
    const next = this.#results.shift();
    if (next === undefined) {
      return new Promise((resolve, reject) => {
        this.#asked = { resolve, reject };
      });
    }
    this.#give(next);
    return undefined;
  }

  #take(bytes: Uint8Array): void {
    const asked = this.#asked;
    if (asked === undefined) {
      this.#results.push(bytes);
      return;
    }
    this.#asked = undefined;
    this.#give(bytes);
    asked.resolve();
  }

  #give(bytes: Uint8Array): void {
    this.#reading.enqueue(bytes);
    this.#call!.taken(bytes.length);
    if (this.#isComplete && this.#results.length === 0) {
      this.#reading.close();
    }
  }

  #write(chunk: Uint8Array): Promise<void> {
    if (!(chunk instanceof Uint8Array)) {
      const error = new DekdError('INVALID_ARGUMENT', `a chunk of the stream is ${typeof chunk}, not a Uint8Array`);
      this.#stop(error);
      return Promise.reject(error);
    }
    return new Promise((resolve, reject) => {
      this.#given = { resolve, reject };
      this.#call!.send(chunk, resolve);
    });
  }

  #close(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#given = { resolve, reject };
      this.#call!.end();
    });
  }

  #complete(): void {
    this.#isComplete = true;
    this.#isOver = true;
    this.#forgetSignal();
    if (this.#results.length === 0) {
      this.#reading.close();
      this.#asked?.resolve();
    }
    this.#given?.resolve();
  }

  /** Ends both sides; `reason` is what each of them says then. */
  #fail(reason: unknown): void {
    this.#writing.error(reason);
    this.#stop(reason);
  }

  /** Ends all but the writable, which knows already or hears it from what its writer waits for. */
  #stop(reason: unknown): void {
    if (this.#isOver) {
      return;
    }
    this.#isOver = true;
    this.#forgetSignal();
    this.#call?.giveUp();
    for (const bytes of this.#results.splice(0)) {
      bytes.fill(0);
    }
    this.#reading.error(reason);
    this.#asked?.resolve();
    this.#given?.reject(reason);
  }
}
