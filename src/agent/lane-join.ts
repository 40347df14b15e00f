/** One connection of the lane socket: it says one thing, is answered, and ends. */
import type { Socket } from 'node:net';
import { DekdError } from '../errors.ts';
import { ReplyWriter, wireError } from '../protocol/reply-writer.ts';
import type { LaneAnswer } from './lane.ts';

/**
 * The greeting follows the connect at once; where it has not come yet, it is looked for again after these times, the last of
 * them repeating. Only recvmsg sees its descriptors, so libuv must not read and cannot say when there is something.
 */
const WAITS_MS = [0, 1, 2, 4, 8, 16, 32, 64] as const;
/** How long the client has to read the answer. */
const FAREWELL_MS = 1_000;

export interface LaneJoinHost {
  /**
   * Takes what has come on the socket behind `fd`; undefined when nothing has.
   * @throws PROTOCOL_ERROR, UNAUTHENTICATED, RESOURCE_EXHAUSTED
   */
  take(fd: number): Promise<LaneAnswer> | LaneAnswer | undefined;
  refused(error: DekdError): void;
  /** The connection is over; called once. */
  done(): void;
  /** Milliseconds in which the greeting must have come. */
  readonly timeoutMs: number;
}

export class LaneJoin {
  readonly #socket: Socket;
  readonly #host: LaneJoinHost;
  readonly #deadline: number;
  #looks = 0;
  #timer: NodeJS.Timeout | undefined;

  /** @param socket accepted and not read from (`pauseOnConnect`) */
  constructor(socket: Socket, host: LaneJoinHost) {
    this.#socket = socket;
    this.#host = host;
    this.#deadline = performance.now() + host.timeoutMs;
    // An 'error' is always followed by 'close'.
    socket.on('error', () => {});
    socket.on('close', () => {
      clearTimeout(this.#timer);
      host.done();
    });
  }

  begin(): void {
    this.#look();
  }

  end(): void {
    this.#socket.destroy();
  }

  #look(): void {
    const fd = descriptorOf(this.#socket);
    if (fd === undefined) {
      this.#socket.destroy();
      return;
    }
    try {
      const answer = this.#host.take(fd);
      if (answer instanceof Promise) {
        void answer.then((late) => this.#answer(late));
      } else if (answer !== undefined) {
        this.#answer(answer);
      } else if (performance.now() >= this.#deadline) {
        throw new DekdError('DEADLINE_EXCEEDED', `no greeting on the lane within ${this.#host.timeoutMs} ms`);
      } else {
        const wait = WAITS_MS[Math.min(this.#looks, WAITS_MS.length - 1)];
        this.#looks += 1;
        this.#timer = setTimeout(() => this.#look(), wait);
      }
    } catch (error) {
      const refusal = DekdError.from(error);
      this.#host.refused(refusal);
      const reply = new ReplyWriter();
      reply.error(0, new DekdError(refusal.code, refusal.message));
      this.#say(reply);
    }
  }

  #answer({ handle, token, error }: LaneAnswer): void {
    if (this.#socket.destroyed) {
      return;
    }
    if (error !== undefined) {
      this.#host.refused(error);
    }
    const reply = new ReplyWriter();
    reply.lane({ handle: handle ?? 0, token, ...(error === undefined ? {} : { error: wireError(error) }) });
    this.#say(reply);
  }

  #say(reply: ReplyWriter): void {
    this.#timer = setTimeout(() => this.#socket.destroy(), FAREWELL_MS);
    reply.flush(this.#socket);
    this.#socket.once('end', () => this.#socket.destroy());
    this.#socket.end();
    // Closing with bytes unread would take the answer from the client.
    this.#socket.resume();
  }
}

/** Node has no public way to the descriptor of a connection; the handle has been there in every release line. */
function descriptorOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as unknown as { _handle: { fd: number } | null };
  return handle === null || handle.fd < 0 ? undefined : handle.fd;
}
