/** What one connection shares with its agent: regions by their handles there. */
import { DekdError } from '../errors.ts';
import { errorOf } from './replies.ts';

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
    const { converse } = await import('./lane-greeting.ts');
    const reply = await converse(this.offer.socket, (fd) => say(fd, token));
    this.#token = reply.token ?? undefined;
    if (reply.error) {
      throw errorOf(reply.error);
    }
    return reply.handle ?? 0;
  }
}
