/** A socket that can be waited on: the side of the caller, who blocks; see `thread-program.ts` for the other. */
import { writeSync } from 'node:fs';
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { DekdError } from '../../errors.ts';
import { FRAME_PREFIX } from '../../protocol/frame.ts';
import type { AgentCommand } from '../agent-command.ts';
import { MAX_REPLY } from '../channel.ts';
import {
  HALF,
  KIND,
  NO_DESCRIPTOR,
  PLACE,
  THREAD_PROGRAM,
  type ThreadCommand,
  type ThreadData,
  type ThreadNews,
} from './thread-program.ts';

/** Above this a frame is sent by the thread: the buffer of a Unix socket takes less in one write. */
const DIRECT_LIMIT = 64 * 1024;
const MAX_CONNECTION = 0x0fffffff;

/** The connection has ended, or was given up; the thread may make another. */
export class ConnectionLost extends Error {}
/** Nothing was heard until the deadline. The connection was given up: what still comes on it has no taker. */
export class NothingHeard extends Error {}

export class SocketThread {
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #control = new Int32Array(new SharedArrayBuffer(PLACE.length * Int32Array.BYTES_PER_ELEMENT));
  readonly #inbox = new Uint8Array(new SharedArrayBuffer(2 * HALF));
  readonly #halves = [0, 1].map((half) => Buffer.from(this.#inbox.buffer, half * HALF, HALF));
  /** Number of the connection. */
  #connection = 0;
  #isConnected = false;
  #childSaid = '';

  /** @throws UNSUPPORTED where no thread may be started */
  constructor() {
    const { port1, port2 } = new MessageChannel();
    const data: ThreadData = {
      control: this.#control,
      inbox: this.#inbox,
      port: port2,
      maxFrame: FRAME_PREFIX + MAX_REPLY,
    };
    Atomics.store(this.#control, PLACE.descriptor, NO_DESCRIPTOR);
    try {
      // What the application's own threads are to load, this one has no use for.
      const own = { execArgv: [], env: { NODE_OPTIONS: '' } };
      this.#worker = new Worker(THREAD_PROGRAM, {
        eval: true,
        name: 'dekd',
        workerData: data,
        transferList: [port2],
        ...own,
      });
    } catch (error) {
      throw new DekdError(
        'UNSUPPORTED',
        `connectSync could not start its thread (node --permission needs --allow-worker): ${(error as Error).message}`,
        { cause: error },
      );
    }
    this.#port = port1;
    // It must neither keep the process alive nor end it.
    this.#worker.unref();
    this.#worker.on('error', () => {});
  }

  get isConnected(): boolean {
    return this.#isConnected && Atomics.load(this.#control, PLACE.descriptor) !== NO_DESCRIPTOR;
  }

  /** Whether the thread has ended, which it does not by itself. */
  get isGone(): boolean {
    return Atomics.load(this.#control, PLACE.gone) === 1;
  }

  /** Connects in place of what there is. @throws ConnectionLost with the reason; NothingHeard */
  connect(path: string, deadline: number): void {
    this.#isConnected = false;
    this.#connection = (this.#connection % MAX_CONNECTION) + 1;
    this.#arm();
    this.#tell({ connection: this.#connection, connect: path });
    this.#await(deadline);
    this.#isConnected = true;
  }

  /**
   * Sends a frame, whose payload may lie elsewhere, and waits for the next that comes.
   * @returns it without its prefix, in shared memory, as it is until the next exchange
   * @throws ConnectionLost, NothingHeard; PROTOCOL_ERROR when it is larger than any agent's
   */
  exchange(frame: Buffer, payload: Uint8Array | undefined, deadline: number): Buffer {
    this.#arm();
    this.#send(frame, payload);
    if (this.#await(deadline) === KIND.posted) {
      return body(Buffer.from(this.#news('frame')!.frame));
    }
    return body(this.#halves[Atomics.load(this.#control, PLACE.half)]!);
  }

  /** Gives the connection up. */
  drop(): void {
    this.#isConnected = false;
    if (this.#connection !== 0) {
      this.#tell({ drop: true });
    }
  }

  /** Starts a child that lives as long as its standard input: as this thread. */
  run({ file, args, env }: AgentCommand): void {
    this.#childSaid = '';
    Atomics.store(this.#control, PLACE.child, 1);
    this.#tell({ run: { file, args, env } });
  }

  get isChildRunning(): boolean {
    return Atomics.load(this.#control, PLACE.child) === 1;
  }

  /** What the child said last, once it has ended. */
  get childSaid(): string {
    for (let news = this.#receive(); news !== undefined; news = this.#receive()) {
      // What else is there is of connections that are over.
      this.#childSaid = 'ended' in news ? news.ended : this.#childSaid;
    }
    return this.#childSaid;
  }

  /** Tells the child to end. @returns whether it did within `timeoutMs` */
  stopChild(timeoutMs: number): boolean {
    if (this.isChildRunning && !this.isGone) {
      this.#tell({ stop: true });
      Atomics.wait(this.#control, PLACE.child, 1, timeoutMs);
    }
    return !this.isChildRunning;
  }

  sleep(ms: number): void {
    Atomics.wait(this.#control, PLACE.sleep, 0, Math.max(0, ms));
  }

  /** Ends the thread, and what it has with it. */
  close(): void {
    this.#port.close();
    void this.#worker.terminate();
  }

  #tell(command: ThreadCommand): void {
    this.#port.postMessage(command);
  }

  /** From here on the thread says what becomes of this connection. */
  #arm(): void {
    Atomics.store(this.#control, PLACE.state, this.#connection * 8 + KIND.waiting);
  }

  #await(deadline: number): number {
    const waiting = this.#connection * 8 + KIND.waiting;
    let state = Atomics.load(this.#control, PLACE.state);
    while (state === waiting) {
      const left = deadline - performance.now();
      if (left <= 0 || this.isGone) {
        this.drop();
        throw this.isGone ? new ConnectionLost('the thread of connectSync has ended') : new NothingHeard();
      }
      Atomics.wait(this.#control, PLACE.state, waiting, left);
      state = Atomics.load(this.#control, PLACE.state);
    }
    if ((state & 7) === KIND.lost) {
      this.#isConnected = false;
      const { lost, isGarbage } = this.#news('lost') ?? { lost: 'the connection was closed', isGarbage: false };
      throw isGarbage ? new DekdError('PROTOCOL_ERROR', lost) : new ConnectionLost(lost);
    }
    return state & 7;
  }

  #send(frame: Buffer, payload: Uint8Array | undefined): void {
    const whole = payload === undefined ? frame : undefined;
    const sent = whole === undefined || whole.length > DIRECT_LIMIT ? 0 : this.#write(whole);
    const rest = frame.length + (payload?.length ?? 0) - sent;
    if (rest === 0) {
      return;
    }
    const shared = new Uint8Array(new SharedArrayBuffer(rest));
    shared.set(frame.subarray(sent));
    if (payload !== undefined) {
      shared.set(payload, frame.length);
    }
    this.#tell({ connection: this.#connection, send: shared.buffer });
  }

  /** Writes what the socket takes now. @returns how many bytes that was @throws ConnectionLost */
  #write(frame: Buffer): number {
    const control = this.#control;
    if (Atomics.compareExchange(control, PLACE.lock, 0, 1) !== 0) {
      // The thread is about to close it.
      return this.#ended();
    }
    try {
      const descriptor = Atomics.load(control, PLACE.descriptor);
      if (descriptor === NO_DESCRIPTOR) {
        return this.#ended();
      }
      return descriptor < 0 ? 0 : writeSync(descriptor, frame);
    } catch (error) {
      if (error instanceof ConnectionLost) {
        throw error;
      }
      // A full socket, or a lost one: the thread waits for the one and says the other.
      return 0;
    } finally {
      Atomics.store(control, PLACE.lock, 0);
    }
  }

  #ended(): never {
    this.#isConnected = false;
    throw new ConnectionLost('the connection was closed');
  }

  /** The next news of that kind about this connection; what there is of others before it is over. */
  #news<Kind extends 'frame' | 'lost'>(kind: Kind): Extract<ThreadNews, Record<Kind, unknown>> | undefined {
    for (let news = this.#receive(); news !== undefined; news = this.#receive()) {
      if ('ended' in news) {
        this.#childSaid = news.ended;
      } else if (news.connection === this.#connection && kind in news) {
        return news as Extract<ThreadNews, Record<Kind, unknown>>;
      }
    }
    return undefined;
  }

  #receive(): ThreadNews | undefined {
    return (receiveMessageOnPort(this.#port) as { message: ThreadNews } | undefined)?.message;
  }
}

function body(frame: Buffer): Buffer {
  return frame.subarray(FRAME_PREFIX, FRAME_PREFIX + frame.readUInt32BE(0));
}
