/** One connected socket: greeting, frames out, replies matched to what asked for them. It ends once, for one reason. */
import { connect, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { DekdError } from '../errors.ts';
import { FRAME_PREFIX, FrameReader } from '../protocol/frame.ts';
import type { HelloReplyFields, RequestFields } from '../protocol/messages.ts';
import { LaneLink } from './lane-link.ts';
import { IdTable } from './outstanding.ts';
import { errorOf, ReplyReader } from './replies.ts';
import { joined, RequestWriter } from './requests.ts';

/** Protocol versions this client speaks. */
const VERSIONS = { minVersion: 1, maxVersion: 1 } as const;
/** What no agent may exceed: the largest payload there is, and what may be around it. */
export const MAX_REPLY = 16 * 1024 * 1024 + 128 * 1024;

/**
 * What sockets are read into, one for all: it is emptied before anything else is read. Larger than a socket's buffer in
 * the kernel, so that a large reply takes few reads.
 */
const READ_BUFFER = 256 * 1024;
let sharedReadBuffer: Uint8Array | undefined;

function readBuffer(): Uint8Array {
  sharedReadBuffer ??= new Uint8Array(READ_BUFFER);
  return sharedReadBuffer;
}

/** Whatever waits for a reply. */
export interface Exchange {
  /** It has several replies, and says by `forget` when it has had the last. */
  readonly repeats?: boolean;
  /** Takes the reply; what it throws ends the channel. */
  reply(reply: ReplyReader): void;
  /** The channel ended before the reply came. */
  lost(error: DekdError): void;
}

export interface ChannelLimits {
  readonly version: number;
  readonly maxPayload: number;
  readonly maxFrame: number;
  readonly engine: string;
  readonly lockLevel: string;
  readonly agent: string;
  /** Whether callers may choose roots. */
  readonly choosesRoots: boolean;
}

export class Channel {
  readonly limits: ChannelLimits;
  /** The agent's lane; undefined when it offers none. */
  readonly lane: LaneLink | undefined;
  readonly writer = new RequestWriter();
  readonly #socket: Socket;
  readonly #exchanges = new IdTable<Exchange>();
  readonly #onEnd: (hasAnswered: boolean) => void;
  readonly #reply = new ReplyReader();
  #frames: Buffer[] = [];
  #ended = false;
  #hasAnswered = false;

  private constructor(
    socket: Socket,
    limits: ChannelLimits,
    lane: LaneLink | undefined,
    onEnd: (hasAnswered: boolean) => void,
  ) {
    this.#socket = socket;
    // Until something waits for a reply.
    socket.unref();
    this.limits = limits;
    this.lane = lane;
    this.#onEnd = onEnd;
  }

  /**
   * Connects and greets; `onEnd` is told whether any request was answered before the end.
   * @throws AGENT_UNAVAILABLE when nobody answers; UNSUPPORTED_VERSION, UNAUTHENTICATED and what else the agent may say
   * to a greeting.
   */
  static open(
    path: string,
    token: Uint8Array | undefined,
    timeoutMs: number,
    onEnd: (hasAnswered: boolean) => void,
  ): Promise<Channel> {
    return new Promise((resolve, reject) => {
      let channel: Channel | undefined;
      const receive = (chunk: Buffer | undefined, length: number): void => {
        try {
          if (chunk === undefined) {
            reader.fill(length);
          } else {
            reader.push(chunk);
          }
        } catch (error) {
          fail(notAReply(error));
        }
      };
      const reader = new FrameReader(MAX_REPLY, (frame) => {
        if (channel !== undefined) {
          channel.#take(frame);
          return;
        }
        const hello = greeting(frame);
        clearTimeout(timer);
        channel = new Channel(socket, limitsOf(hello), laneOf(path, hello), onEnd);
        resolve(channel);
      });
      const socket = connect({
        path,
        onread: {
          // Asked after each read for the memory of the next: a large reply is read straight to its place.
          buffer: () => reader.space ?? readBuffer(),
          callback: (length, buffer) => {
            receive(
              buffer === readBuffer() ? Buffer.from(buffer.buffer, buffer.byteOffset, length) : undefined,
              length,
            );
            return true;
          },
        },
      });
      const fail = (error: DekdError): void => {
        clearTimeout(timer);
        socket.destroy();
        if (channel === undefined) {
          reject(error);
        } else {
          channel.#end(error);
        }
      };
      const timer = setTimeout(() => fail(unavailable(path, `no greeting within ${timeoutMs} ms`)), timeoutMs);
      socket.once('connect', () => {
        socket.write(new RequestWriter().message(helloOf(token)));
      });
      socket.once('error', (error) => fail(unavailable(path, error.message)));
      socket.once('close', () => fail(unavailable(path, 'the connection was closed')));
    });
  }

  get isOpen(): boolean {
    return !this.#ended;
  }

  /** Whether anything waits for a reply. */
  get isIdle(): boolean {
    return this.#exchanges.size === 0;
  }

  /** An id for a request of `exchange`, which now waits for its reply. Ids wrap and skip those in flight. */
  expect(exchange: Exchange): number {
    if (this.#exchanges.size === 0) {
      this.#socket.ref();
    }
    return this.#exchanges.add(exchange);
  }

  /** Queues a frame made by `writer`; `flush` sends. @throws INVALID_ARGUMENT when it is larger than the agent takes */
  push(frame: Buffer): void {
    this.#checkFrame(frame.length);
    this.#frames.push(frame);
  }

  /** Queues a frame whose payload follows its head; `payload` must stay as it is until the reply. */
  pushWithPayload(head: Buffer, payload: Uint8Array): void {
    this.#checkFrame(head.length + payload.length);
    this.#frames.push(head);
    this.flush(payload);
  }

  /** The agent would close the connection, and every other call on it would be lost. */
  #checkFrame(length: number): void {
    checkFrame(length, this.limits);
  }

  flush(payload?: Uint8Array): void {
    const frames = this.#frames;
    if (frames.length === 0 || this.#ended) {
      return;
    }
    this.#frames = [];
    if (payload === undefined) {
      this.#socket.write(joined(frames));
      return;
    }
    this.#socket.cork();
    this.#socket.write(joined(frames));
    this.#socket.write(payload);
    this.#socket.uncork();
  }

  /** There is no further reply to `id`. */
  forget(id: number): void {
    this.#exchanges.delete(id);
    this.#idle();
  }

  /** Sends a frame whose payload follows its head; `sent` is called when the payload may change again. */
  pushPart(head: Buffer, payload: Uint8Array, sent: () => void): void {
    this.#checkFrame(head.length + payload.length);
    this.flush();
    if (this.#ended) {
      return;
    }
    this.#socket.cork();
    this.#socket.write(head);
    this.#socket.write(payload, () => sent());
    this.#socket.uncork();
  }

  /** Tells the agent that nobody waits for `id` any more. */
  cancel(id: number): void {
    if (this.#exchanges.delete(id)) {
      // The agent may still answer; an answer nobody expects is dropped.
      this.push(this.writer.message({ id: 0, cancel: { id } }));
      this.flush();
      this.#idle();
    }
  }

  /** The same for an exchange that still waits for the answer, of whatever kind it will be. */
  cancelKeeping(id: number): void {
    if (this.#exchanges.get(id) !== undefined) {
      this.push(this.writer.message({ id: 0, cancel: { id } }));
      this.flush();
    }
  }

  /** @throws UNSUPPORTED */
  checkChoice(isChosen: boolean): void {
    checkChoice(isChosen, this.limits);
  }

  /** Closes once what is queued has been sent. */
  close(): void {
    this.#end(new DekdError('AGENT_UNAVAILABLE', 'the client was closed'));
    this.#socket.end();
    this.#socket.unref();
  }

  #take(frame: Buffer): void {
    const reply = this.#reply;
    reply.read(frame);
    const exchange = this.#exchanges.get(reply.id);
    if (exchange === undefined) {
      if (reply.id === 0) {
        // The agent says why it is about to close.
        throw errorOf(reply.decode().error ?? {});
      }
      return;
    }
    this.#hasAnswered = true;
    if (exchange.repeats !== true) {
      this.forget(reply.id);
    }
    try {
      exchange.reply(reply);
    } catch (error) {
      exchange.lost(notAReply(error));
      throw error;
    }
  }

  /** An idle client must not keep its process alive. */
  #idle(): void {
    if (this.#exchanges.size === 0) {
      this.#socket.unref();
    }
  }

  #end(error: DekdError): void {
    if (this.#ended) {
      return;
    }
    this.#ended = true;
    this.#onEnd(this.#hasAnswered);
    for (const exchange of this.#exchanges.drain()) {
      exchange.lost(error);
    }
  }
}

/** @param length with its prefix. @throws INVALID_ARGUMENT */
export function checkFrame(length: number, { maxFrame }: ChannelLimits): void {
  if (length - FRAME_PREFIX > maxFrame) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `request of ${length - FRAME_PREFIX} bytes, names and contexts included, is over the agent's ${maxFrame}`,
    );
  }
}

/**
 * An agent that knows nothing of roots of a caller's choice would encrypt under its own.
 * @throws UNSUPPORTED
 */
export function checkChoice(isChosen: boolean, { choosesRoots, agent }: ChannelLimits): void {
  if (isChosen && !choosesRoots) {
    throw new DekdError('UNSUPPORTED', `${agent} lets callers choose no root: update the agent`);
  }
}

export function notAReply(error: unknown): DekdError {
  return error instanceof DekdError
    ? error
    : new DekdError('PROTOCOL_ERROR', 'the agent sent what is not a reply', { cause: error });
}

/** What a client says first. */
export function helloOf(token: Uint8Array | undefined): RequestFields {
  return { id: 1, hello: { ...VERSIONS, client: `dekd-client node/${process.version}`, ...(token ? { token } : {}) } };
}

/** The answer to it. @throws PROTOCOL_ERROR, and what the agent refuses it with */
export function greeting(frame: Buffer): HelloReplyFields {
  const reader = new ReplyReader();
  reader.read(frame);
  const { error, hello } = reader.decode();
  if (error) {
    throw errorOf(error);
  }
  if (!hello) {
    throw new DekdError('PROTOCOL_ERROR', 'the agent did not greet');
  }
  return hello;
}

/** @param path of the data socket, beside which the lane socket lies */
function laneOf(path: string, hello: HelloReplyFields): LaneLink | undefined {
  const { laneToken, laneSocket, laneMaxPayload, laneRegionLimit } = hello;
  // A name alone: the agent does not choose where the client connects to.
  if (!laneToken || laneToken.length === 0 || !laneSocket || laneSocket.includes('/')) {
    return undefined;
  }
  return new LaneLink({
    socket: join(dirname(path), laneSocket),
    // A copy: the frame it came in is in a larger buffer.
    token: new Uint8Array(laneToken),
    maxPayload: laneMaxPayload ?? 0,
    regionLimit: laneRegionLimit ?? 0,
  });
}

export function limitsOf(hello: HelloReplyFields): ChannelLimits {
  return {
    version: hello.version ?? 0,
    maxPayload: hello.maxPayload ?? 0,
    maxFrame: hello.maxFrame ?? 0,
    engine: hello.engine ?? '',
    lockLevel: hello.lockLevel ?? '',
    agent: hello.agent ?? '',
    choosesRoots: hello.choosesRoots ?? false,
  };
}

export function unavailable(path: string, why: string): DekdError {
  return new DekdError('AGENT_UNAVAILABLE', `no agent answers on ${path}: ${why}`);
}
