/** What one connection shares with its agent: regions by their handles there. */
import { connect, type Socket } from 'node:net';
import { DekdError } from '../errors.ts';
import { FrameReader } from '../protocol/frame.ts';
import type { LaneReplyFields } from '../protocol/messages.ts';
import { messages } from '../protocol/messages.ts';
import { errorOf } from './replies.ts';

/** How long the agent may take to answer; it has nothing to wait for. */
const ANSWER_TIMEOUT_MS = 5_000;
/** An answer holds a handle, a token and at most an error's text. */
const MAX_ANSWER = 64 * 1024;

/** What the agent's greeting says of its lane. */
export interface LaneOffer {
  /** Path of the lane socket. */
  readonly socket: string;
  /** What joins the lane, once. */
  readonly token: Uint8Array;
  /** Largest plaintext of one request, in bytes. */
  readonly maxPayload: number;
  /** Largest region that the agent would take, in bytes; what it takes makes it less. */
  readonly regionLimit: number;
}

/** Says a greeting with descriptors on the connected socket behind `fd`; native. @throws DekdError */
export type SayGreeting = (fd: number, token: Uint8Array) => void;

export class LaneLink {
  readonly offer: LaneOffer;
  readonly #handles = new Map<number, number>();
  /** What joins next; undefined once an answer was lost, and with it the token in it. */
  #token: Uint8Array | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(offer: LaneOffer) {
    this.offer = offer;
    this.#token = offer.token;
  }

  /** The agent's handle of a region; undefined when it has not got it. */
  handle(region: number): number | undefined {
    return this.#handles.get(region);
  }

  /** Shares a region with the agent. @throws what it refuses it with; AGENT_UNAVAILABLE when there is no answer */
  async share(region: number, say: SayGreeting): Promise<void> {
    this.#handles.set(region, await this.#inTurn(say));
  }

  /** Passes two files to the agent. @returns their handle, good for one call. @throws as `share` */
  passFiles(say: SayGreeting): Promise<number> {
    return this.#inTurn(say);
  }

  /** One after the other: each answer has the token of the next. */
  #inTurn(say: SayGreeting): Promise<number> {
    const turn = this.#last.then(() => this.#join(say));
    this.#last = turn.catch(() => {});
    return turn;
  }

  async #join(say: SayGreeting): Promise<number> {
    const token = this.#token;
    if (token === undefined) {
      throw new DekdError('AGENT_UNAVAILABLE', 'the lane of this connection was lost');
    }
    this.#token = undefined;
    const reply = await converse(this.offer.socket, (fd) => say(fd, token));
    this.#token = reply.token ?? undefined;
    if (reply.error) {
      throw errorOf(reply.error);
    }
    return reply.handle ?? 0;
  }
}

/** Connects, says one thing and takes the one answer. */
function converse(path: string, say: (fd: number) => void): Promise<LaneReplyFields> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const fail = (error: unknown): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(DekdError.from(error));
    };
    const lost = (why: string) => fail(new DekdError('AGENT_UNAVAILABLE', `no answer on ${path}: ${why}`));
    const timer = setTimeout(() => lost(`within ${ANSWER_TIMEOUT_MS} ms`), ANSWER_TIMEOUT_MS);
    const reader = new FrameReader(MAX_ANSWER, (frame) => {
      const { lane, error } = messages.Reply.decode(frame);
      if (!lane) {
        throw error ? errorOf(error) : new DekdError('PROTOCOL_ERROR', 'the agent sent what is not a reply');
      }
      clearTimeout(timer);
      socket.end();
      resolve(lane);
    });
    socket.once('connect', () => attempt(() => say(descriptorOf(socket)), fail));
    socket.on('data', (chunk: Buffer) => attempt(() => reader.push(chunk), fail));
    socket.once('error', (error) => lost(error.message));
    socket.once('close', () => lost('the connection was closed'));
  });
}

function attempt(step: () => void, failed: (error: unknown) => void): void {
  try {
    step();
  } catch (error) {
    failed(error);
  }
}

/** Node has no public way to the descriptor of a socket; the handle has been there in every release line. */
function descriptorOf(socket: Socket): number {
  const { _handle: handle } = socket as unknown as { _handle: { fd: number } | null };
  if (handle === null) {
    throw new DekdError('AGENT_UNAVAILABLE', 'the lane connection was closed');
  }
  return handle.fd;
}
