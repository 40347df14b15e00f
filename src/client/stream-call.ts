/** A stream of the wire, for as long as it lasts: most clients never make one, and none reads this code before its first. */
import { DekdError } from '../errors.ts';
import { MAX_STREAM_PART, STREAM_PART } from '../protocol/frame.ts';
import type { RequestFields } from '../protocol/messages.ts';
import { OPERATION } from '../protocol/request-reader.ts';
import type { AnyCall } from './calls.ts';
import type { Channel } from './channel.ts';
import type { Linkable } from './outstanding.ts';
import { errorOf, type ReplyReader } from './replies.ts';
import { type NumberField, numberFields, type StreamValue, UNBOUND, type WireBinding } from './requests.ts';
import type { CallTrace } from './tracing.ts';
import type { Call, Transport } from './transport.ts';

/** Bytes that the agent may send ahead of the reader. */
const READ_WINDOW = 512 * 1024;
/** Of long frames as many, for a frame that does not fit has to wait in the agent until it does. */
const FRAMES_AHEAD = 2;
/** Room is given back in pieces worth a frame of their own. */
const CREDIT_STEP = READ_WINDOW / 4;

export interface MessageStreamOptions {
  /** `OPERATION.encryptStream`, `decryptStream` or `reencryptStream`. */
  readonly operation: number;
  readonly binding: WireBinding;
  readonly value: StreamValue;
  /** The frames that are sent behind the header; the whole message when undefined. */
  readonly part?: StreamedPart | undefined;
  /** Milliseconds that the agent may be silent while the stream waits for it. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

/** Frames of a message, as the wire says it. */
export interface StreamedPart {
  /** Number of the first, from 1. */
  readonly firstFrame: number;
  /** 0 for all, to the final one. */
  readonly frames: number;
}

/** What the stream hears of its call. */
export interface StreamListener {
  data(bytes: Uint8Array): void;
  end(): void;
  failed(error: Error): void;
}

/** The request of a stream, for as long as it lasts. */
export class StreamCall implements Call {
  readonly isStep = false;
  /** Never sent again: what was sent is gone. */
  readonly isIdempotent = false;
  readonly operation: number;
  readonly binding: WireBinding;
  sharing = 0;
  trace: CallTrace | undefined = undefined;
  readonly repeats = true;
  isDone = false;
  isListed = false;
  previous: Linkable | undefined = undefined;
  next: Linkable | undefined = undefined;
  /** By the monotonic clock; moves on with every word of the agent, and stands still while it is not the agent's turn. */
  deadline: number;
  readonly #transport: Transport<AnyCall>;
  readonly #options: MessageStreamOptions;
  readonly #listener: StreamListener;
  #channel: Channel | undefined;
  #id = 0;
  #isEnded = false;
  /** What is being sent, and how much of it was. */
  #chunk: { readonly bytes: Uint8Array; readonly sent: () => void } | undefined;
  #sent = 0;
  /** Bytes that may be sent. */
  #window = 0;
  /** Bytes taken for which the agent has no new room yet. */
  #owed = 0;
  /** Parts that have not left this process. */
  #unsent = 0;
  /** Bytes that the agent may send. */
  #room: number;

  constructor(transport: Transport<AnyCall>, options: MessageStreamOptions, listener: StreamListener) {
    this.#transport = transport;
    this.#options = options;
    this.operation = options.operation;
    this.binding = options.binding;
    this.#listener = listener;
    this.#room = Math.max(READ_WINDOW, FRAMES_AHEAD * options.value.frameLength);
    this.deadline = performance.now() + options.timeoutMs;
  }

  /** Puts the call on a channel. */
  leave(channel: Channel): void {
    const { binding } = this.#options;
    channel.checkChoice(binding.root !== undefined);
    this.#channel = channel;
    this.#id = channel.expect(this);
    channel.push(channel.writer.message({ id: this.#id, ...openingOf(this.#options, this.#room) }));
    if (this.#isEnded) {
      channel.push(this.#partHead(channel, 0, true, 0));
    }
  }

  /**
   * Sends a chunk as the agent allows, one at a time.
   * @param sent called when all of it has left this process, and it is its writer's again
   */
  send(bytes: Uint8Array, sent: () => void): void {
    this.#chunk = { bytes, sent };
    this.#sent = 0;
    this.#pump();
  }

  /** Says that nothing follows. */
  end(): void {
    this.#isEnded = true;
    if (this.#channel !== undefined && !this.isDone) {
      this.#say(0, true);
    }
    this.#setClock();
  }

  /** So many bytes of what came have been taken: the agent has room for as many more. */
  taken(bytes: number): void {
    this.#owed += bytes;
    if (this.#owed >= CREDIT_STEP && this.#channel !== undefined && !this.isDone) {
      this.#room += this.#owed;
      this.#say(this.#owed, false);
      this.#owed = 0;
      this.#setClock();
    }
  }

  /** Nobody is interested any more. */
  giveUp(): void {
    if (!this.isDone) {
      this.#channel?.cancel(this.#id);
      this.#settle(new DekdError('CANCELLED', 'nobody reads the stream any more'));
    }
  }

  reply(reply: ReplyReader): void {
    if (!reply.isStream) {
      this.#channel!.forget(this.#id);
      this.reject(errorOf(reply.decode().error ?? {}));
      return;
    }
    const { credit, isEnd, data } = reply.part();
    this.#window += credit;
    this.#room -= data.length;
    if (isEnd) {
      this.#channel!.forget(this.#id);
      if (!this.#isEnded) {
        this.#id = 0;
        this.reject(new DekdError('PROTOCOL_ERROR', 'the agent ended a stream that goes on'));
        return;
      }
      this.#settle();
    } else {
      this.#setClock();
    }
    if (data.length > 0) {
      this.#listener.data(data);
    }
    if (isEnd) {
      this.#listener.end();
    } else if (credit > 0) {
      this.#pump();
    }
  }

  lost(error: DekdError): void {
    this.#id = 0;
    this.reject(error);
  }

  reject(error: unknown): void {
    if (this.isDone) {
      return;
    }
    if (this.#id !== 0) {
      this.#channel?.cancel(this.#id);
    }
    this.#settle(error);
    this.#listener.failed(error as Error);
  }

  /** Sends of the chunk what the agent allows. */
  #pump(): void {
    const chunk = this.#chunk;
    if (chunk === undefined || this.isDone) {
      return;
    }
    const { bytes, sent } = chunk;
    while (this.#sent < bytes.length && this.#window > 0) {
      const part = bytes.subarray(this.#sent, this.#sent + Math.min(MAX_STREAM_PART, this.#window));
      this.#sent += part.length;
      this.#sendPart(part, this.#sent === bytes.length ? sent : undefined);
    }
    if (this.#sent === bytes.length) {
      this.#chunk = undefined;
      if (bytes.length === 0) {
        sent();
      }
    }
  }

  #sendPart(part: Uint8Array, sent: (() => void) | undefined): void {
    const channel = this.#channel!;
    this.#window -= part.length;
    this.#unsent++;
    channel.pushPart(this.#partHead(channel, 0, false, part.length), part, () => {
      this.#unsent--;
      if (!this.isDone) {
        this.#setClock();
      }
      sent?.();
    });
    this.#setClock();
  }

  #say(credit: number, isEnd: boolean): void {
    const channel = this.#channel!;
    channel.push(this.#partHead(channel, credit, isEnd, 0));
    channel.flush();
  }

  /** The frame of a part up to its data, which is sent behind it as it is. */
  #partHead(channel: Channel, credit: number, isEnd: boolean, length: number): Buffer {
    const fields: NumberField[] = [];
    if (credit > 0) {
      fields.push([STREAM_PART.credit, credit]);
    }
    if (isEnd) {
      fields.push([STREAM_PART.end, 1]);
    }
    if (length > 0) {
      fields.push([STREAM_PART.data, length]);
    }
    return channel.writer.head(OPERATION.streamPart, this.#id, 0, UNBOUND, numberFields(fields), length);
  }

  /**
   * The clock runs while it is the agent's turn: it does not read what was sent; or it has room for what it makes, and we
   * can send nothing before it speaks.
   */
  #setClock(): void {
    const isItsTurn = this.#unsent > 0 || (this.#room > 0 && (this.#window === 0 || this.#isEnded));
    this.deadline = isItsTurn ? performance.now() + this.#options.timeoutMs : Number.POSITIVE_INFINITY;
    if (isItsTurn) {
      this.#transport.watch(this);
    }
  }

  #settle(failure?: unknown): void {
    this.isDone = true;
    this.#transport.settled(this, failure);
  }
}

/** What opens a stream whose results the client has `credit` bytes of room for. */
function openingOf({ operation, binding, value, part }: MessageStreamOptions, credit: number): RequestFields {
  const { firstFrame, frames } = part ?? { firstFrame: 0, frames: 0 };
  const open = { ...binding, root: binding.root ?? '', ...value, credit, firstFrame, frames };
  switch (operation) {
    case OPERATION.encryptStream:
      return { encryptStream: open };
    case OPERATION.reencryptStream:
      return { reencryptStream: open };
    default:
      return { decryptStream: open };
  }
}
