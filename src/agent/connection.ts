/**
 * One client connection: frames in, replies out, and every limit in between.
 *
 * A connection reads while its client reads. When the client stops, the socket's buffer fills, writing asks to wait, and
 * reading stops: a client that never reads costs the replies to one chunk, not a queue. Work that waits for a key
 * counts as in flight and stops reading beyond `maxInFlight`.
 */
import type { Socket } from 'node:net';
import { DekdError, withoutStacks } from '../errors.ts';
import type { MessageWork } from '../operations/message-streams.ts';
import type { DetachedOutput, ItemFailure, Output, ReplyMemory } from '../operations/request.ts';
import { FRAME_ALLOWANCE, FrameReader, ReusedAssembly } from '../protocol/frame.ts';
import type { HelloReplyFields } from '../protocol/messages.ts';
import { messages } from '../protocol/messages.ts';
import { ReplyWriter } from '../protocol/reply-writer.ts';
import { OPERATION, RequestReader } from '../protocol/request-reader.ts';
import type { UsedKey } from '../telemetry/observation.ts';
import { DetachedReply } from './detached-reply.ts';
import type { LaneSeat } from './lane-seat.ts';
import { RequestNotes } from './request-notes.ts';
import { type Intake, readShared } from './shared-reading.ts';
import { AgentStream, INPUT_WINDOW, type StreamOutput } from './stream.ts';

/** The protocol versions this agent serves: the newest and the one before it, once there is one. */
export const PROTOCOL = { min: 1, max: 1 } as const;

const CLIENT_NAME_LIMIT = 128;
/** A frame of the default payload limit; the memory of larger ones is given back. */
const MAX_KEPT_FRAME = 1024 * 1024 + FRAME_ALLOWANCE;
/** A frame whose answer leaves at once, and not together with those to the rest of the chunk. */
const LARGE_FRAME = 128 * 1024;
/** How long the answer to a wrong token takes. */
const WRONG_TOKEN_MS = 100;
/** How long a closing connection waits for its client to read what was said last. */
const FAREWELL_MS = 5_000;
/** Bytes of a connection with streams that may wait to be sent before nothing more is read: one window of a stream each way. */
const STREAMS_WAITING = 2 * INPUT_WINDOW;
/** Bytes of large requests under way beyond which a connection reads no more: two of the default size at least. */
const MAX_DETACHED = 8 * 1024 * 1024;
/** The longest timer there is; a longer one would fire at once. */
const MAX_TIMER_MS = 0x7fffffff;

/** Large frames are put together in one buffer for the process: one of them is dealt with at a time. */
const assembly = new ReusedAssembly(MAX_KEPT_FRAME);

export interface ConnectionLimits {
  /** Largest frame in bytes, without its prefix. */
  readonly maxFrame: number;
  readonly maxInFlight: number;
  /** Milliseconds for the first Hello, and for the rest of any frame once it has begun. */
  readonly headerTimeoutMs: number;
}

/** What a connection asks of the agent around it. */
export interface ConnectionHost<Caller> {
  /** Answers one request; the promise, when there is one, resolves once the reply is written to `connection.output`. */
  handle(connection: Connection<Caller>, request: RequestReader): undefined | Promise<void>;
  /** Milliseconds of a clock that never goes back; 0 where nobody asks how long requests take. */
  now(): number;
  /** Whether contexts of requests that have to wait are to be kept in their notes. */
  readonly wantsContexts: boolean;
  /** A request got what it asked for. @returns whether its answer must not leave before `commit` */
  answered(connection: Connection<Caller>, request: RequestReader, notes: RequestNotes): boolean;
  /** Whether answers can have to wait for records of them. */
  readonly isStrict: boolean;
  /** Writes the records of what was answered. @returns false when they cannot be written: then the answers must not leave */
  commit(): boolean;
  /** What a client is told whose answers do not leave. */
  withheld(): DekdError;
  /**
   * A request fails: gives the error an incident id, counts and logs it, and returns what the client is told.
   * @param request undefined when it is the connection that fails
   */
  failed(
    error: DekdError,
    connection: Connection<Caller>,
    request: RequestReader | undefined,
    notes: RequestNotes,
  ): DekdError;
  /** The same for an item of a batch, which is noted. */
  itemFailed(error: DekdError, connection: Connection<Caller>, request: RequestReader, notes: RequestNotes): DekdError;
  /** The answers to what came together have left. */
  left(): void;
  /**
   * What the first frame is answered. @param token what the client showed, empty for nothing
   * @throws UNAUTHENTICATED for a token that is none
   */
  hello(connection: Connection<Caller>, token: Uint8Array): HelloReplyFields;
  /** The connection is gone; called once. */
  closed(connection: Connection<Caller>): void;
  frameRefused(): void;
}

/** One request whose answer waits for something. */
interface InFlight {
  readonly request: RequestReader;
  readonly notes: RequestNotes;
  timer: NodeJS.Timeout | undefined;
}

export class Connection<Caller> implements Output, StreamOutput, Intake {
  /** Replaced when rules are; what is in work keeps the one that it began with. */
  caller: Caller;
  /** What the client calls itself; for the log only. */
  client = '';
  /** What it shares with the agent; undefined where there is no lane. */
  readonly lane: LaneSeat | undefined;
  readonly #socket: Socket;
  readonly #host: ConnectionHost<Caller>;
  readonly #limits: ConnectionLimits;
  readonly #reader: FrameReader;
  readonly #request = new RequestReader();
  /** Of the request at hand; those of one that waits are its own. */
  #notes = new RequestNotes();
  /** When the chunk at hand came. */
  #arrived = 0;
  readonly #writer = new ReplyWriter();
  readonly #inFlight = new Map<number, InFlight>();
  /** By the id they were opened with; each is in flight until it ends. */
  readonly #streams = new Map<number, AgentStream>();
  /** Bytes that the work on each large request holds, by its id. */
  readonly #detached = new Map<number, number>();
  #detachedBytes = 0;
  /** Answered with CANCELLED or DEADLINE_EXCEEDED while their work still runs. */
  readonly #abandoned = new Set<number>();
  #greeted = false;
  /** It showed a token that is none. */
  #refused = false;
  #blocked = false;
  #ending = false;
  /** Nothing more is read or written: a frame was broken, or all has been said. */
  #finished = false;
  #closed = false;
  #flushScheduled = false;
  /** What is written must not leave before records of it. */
  #mustCommit = false;
  #manyId = 0;
  /** Whole frames so far, to tell a frame that grows slowly from one that follows another. */
  #frames = 0;
  #farewell: NodeJS.Timeout | undefined;
  /** When the wait for a Hello or for the rest of a frame began, by the monotonic clock; 0 when nothing is awaited. */
  #waitingSince: number;

  /** @param accepted not read from yet; the connection takes it over */
  constructor(
    accepted: Socket,
    caller: Caller,
    host: ConnectionHost<Caller>,
    limits: ConnectionLimits,
    lane?: LaneSeat,
  ) {
    this.caller = caller;
    this.lane = lane;
    this.#host = host;
    this.#limits = limits;
    this.#waitingSince = performance.now();
    this.#reader = new FrameReader(limits.maxFrame, (frame) => this.#take(frame), assembly);
    const socket = readShared(accepted, this);
    this.#socket = socket;
    socket.on('drain', () => this.#unblock());
    // The client has said all it will say: what is in flight is still answered.
    socket.on('end', () => {
      const error = new DekdError('CANCELLED', 'the client closed its side before the end of the stream');
      for (const stream of [...this.#streams.values()]) {
        stream.halfClosed(error);
      }
      this.end();
    });
    // An 'error' is always followed by 'close', which is where things are put away.
    socket.on('error', () => {});
    socket.on('close', () => this.#closedBySocket());
  }

  /** Requests whose answer is not written yet. */
  get inFlight(): number {
    return this.#inFlight.size;
  }

  // ── output of the operations ──────────────────────────────────────────────────────────────────────────────────

  get buffer(): Uint8Array {
    return this.#writer.buffer;
  }

  reserveValue(id: number, length: number): number {
    this.checkWanted(id);
    return this.#writer.reserveValue(id, length);
  }

  rewind(): void {
    this.#writer.rewind();
  }

  beginMany(id: number, bound: number): void {
    this.checkWanted(id);
    this.#manyId = id;
    this.#writer.beginMany(id, bound);
  }

  manyValue(length: number): number {
    return this.#writer.manyValue(length);
  }

  endMany(failures: readonly ItemFailure[]): void {
    const { request, notes } = this.#asked(this.#manyId);
    this.#writer.endMany(
      failures.length === 0
        ? failures
        : withoutStacks(() =>
            failures.map(({ index, error }) => ({ index, error: this.#host.itemFailed(error, this, request, notes) })),
          ),
    );
  }

  keyUsed(id: number, key: UsedKey): void {
    this.#asked(id).notes.used = key;
  }

  /** The request of this id that waits, or else the one at hand. */
  #asked(id: number): Pick<InFlight, 'request' | 'notes'> {
    const waiting = this.#inFlight.size === 0 ? undefined : this.#inFlight.get(id);
    return waiting ?? { request: this.#request, notes: this.#notes };
  }

  laneResult(id: number, length: number): void {
    this.#writer.laneResult(id, length);
  }

  get owner(): object {
    return this;
  }

  detach(id: number, bytes: number, memory: ReplyMemory): DetachedOutput {
    this.#detached.set(id, bytes);
    this.#detachedBytes += bytes;
    // Of the request as it was read: by the time it is answered, another one is being read.
    const request = this.#request.outline();
    const notes = this.#notes;
    return new DetachedReply(memory, {
      isWanted: () => !this.#closed && !this.#abandoned.has(id),
      itemFailed: (error) => withoutStacks(() => this.#host.itemFailed(error, this, request, notes)),
      keyUsed: (key) => {
        notes.used = key;
      },
      send: (writer) => {
        this.checkWanted(id);
        this.#writer.adopt(writer);
        this.#flushSoon();
      },
    });
  }

  /** What is written from here on leaves only when the records of it are written. */
  keepUntilCommitted(): void {
    this.#mustCommit = this.#host.isStrict;
  }

  /** Replies with a JSON document. */
  document(id: number, document: unknown): void {
    this.checkWanted(id);
    this.#writer.document(id, document);
  }

  /** Streams that are open. */
  get streams(): number {
    return this.#streams.size;
  }

  /** No new work is begun: what there is is answered, and then it closes. */
  get isEnding(): boolean {
    return this.#ending;
  }

  /** Opens a stream under the id of `request`; what resolves is its end. @param pace as of AgentStream */
  async stream(request: RequestReader, opening: Promise<MessageWork>, pace?: (bytes: number) => number): Promise<void> {
    const { id } = request;
    const stream = new AgentStream(id, request.credit, this, opening, pace);
    this.#streams.set(id, stream);
    try {
      await stream.done;
    } finally {
      this.#asked(id).notes.taken = stream.taken;
      this.#streams.delete(id);
    }
  }

  streamPart(id: number, credit: number, isEnd: boolean, data: Uint8Array): void {
    this.#writer.streamPart(id, credit, isEnd, data);
    this.#flushSoon();
  }

  #failStreams(error: DekdError): void {
    for (const stream of [...this.#streams.values()]) {
      stream.fail(error);
    }
  }

  /** Stops late work from answering a request that was answered already: cancelled, past its deadline, or gone. */
  checkWanted(id: number): void {
    if (this.#closed || (this.#abandoned.size > 0 && this.#abandoned.has(id))) {
      throw new DekdError('CANCELLED', 'the request was given up');
    }
  }

  // ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Closes when a Hello or the rest of a frame has been awaited for too long; called from time to time. */
  checkPatience(now: number): void {
    // While the agent itself does not read, the client cannot be blamed.
    if (this.#finished || this.#socket.isPaused()) {
      return;
    }
    if (this.#waitingSince > 0 && now - this.#waitingSince > this.#limits.headerTimeoutMs) {
      this.#host.frameRefused();
      this.#fail(
        new DekdError(
          'DEADLINE_EXCEEDED',
          `no complete ${this.#greeted ? 'frame' : 'hello'} within ${this.#limits.headerTimeoutMs} ms`,
        ),
      );
    }
  }

  /** Answers what is in flight, then closes. */
  end(): void {
    if (this.#ending) {
      return;
    }
    this.#ending = true;
    if (this.#inFlight.size === 0) {
      this.#finish();
    }
  }

  /** Closes at once. */
  destroy(): void {
    this.#socket.destroy();
  }

  // ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────

  get space(): Buffer | undefined {
    return this.#finished ? undefined : this.#reader.space;
  }

  push(chunk: Buffer): void {
    this.#receive(chunk, chunk.length);
  }

  fill(length: number): void {
    this.#receive(undefined, length);
  }

  /** Takes a chunk, or, without one, `length` bytes that are where they belong already. */
  #receive(chunk: Buffer | undefined, length: number): void {
    if (this.#finished || this.#refused) {
      return;
    }
    const before = this.#frames;
    this.#arrived = this.#host.now();
    try {
      if (chunk === undefined) {
        this.#reader.fill(length);
      } else {
        this.#reader.push(chunk);
      }
      if (this.#greeted) {
        if (!this.#reader.isMidFrame) {
          this.#waitingSince = 0;
        } else if (this.#waitingSince === 0 || this.#frames !== before) {
          this.#waitingSince = performance.now();
        }
      }
    } catch (error) {
      const dekdError = DekdError.from(error);
      if (dekdError.code === 'UNAUTHENTICATED') {
        this.#refuse(dekdError);
        return;
      }
      this.#host.frameRefused();
      this.#fail(dekdError);
      return;
    }
    this.#flush();
    this.#host.left();
    // Only now, and not when an answer that had to wait is written: a paused socket would not say that its client is
    // gone, and one that sends nothing costs nothing.
    if (this.#blocked) {
      this.#socket.pause();
    }
  }

  #take(frame: Buffer): void {
    if (this.#closed) {
      return;
    }
    this.#frames += 1;
    const request = this.#request;
    request.read(frame);
    if (!this.#greeted) {
      this.#greet(request);
      return;
    }
    const { id } = request;
    if (request.operation === OPERATION.cancel) {
      this.#cancel(request.decode(messages.Cancel).id);
      return;
    }
    if (id === 0) {
      throw new DekdError('PROTOCOL_ERROR', 'request id 0 is not used');
    }
    if (request.operation === OPERATION.streamPart) {
      request.readStreamPart();
      const { dataOffset, dataLength, isEnd, credit } = request;
      // Of a stream that is over, which the client has not heard yet, nothing is wanted.
      this.#streams.get(id)?.part(frame.subarray(dataOffset, dataOffset + dataLength), isEnd, credit);
      return;
    }
    if (this.#inFlight.has(id)) {
      throw new DekdError('PROTOCOL_ERROR', `request id ${id} is already in flight`);
    }
    this.#notes.clear(this.#arrived);
    let outcome: undefined | Promise<void>;
    try {
      if (this.#abandoned.size > 0 && this.#abandoned.has(id)) {
        // Its answer has been sent, so the client may use it again; its work cannot be told apart yet.
        throw new DekdError(
          'RESOURCE_EXHAUSTED',
          `the work of the request ${id} that was given up has not ended: use another id`,
        );
      }
      outcome = this.#host.handle(this, request);
    } catch (error) {
      const dekdError = DekdError.from(error);
      if (dekdError.code === 'PROTOCOL_ERROR') {
        throw dekdError;
      }
      this.#writer.error(id, this.#host.failed(dekdError, this, request, this.#notes));
      return;
    }
    if (outcome !== undefined) {
      this.#await(request, outcome);
      return;
    }
    this.#mustCommit = this.#host.answered(this, request, this.#notes) || this.#mustCommit;
    if (frame.length >= LARGE_FRAME) {
      // The client gets its answer while the frame is being wiped.
      this.#flush();
    }
  }

  #greet(request: RequestReader): void {
    if (request.operation !== OPERATION.hello) {
      throw new DekdError('PROTOCOL_ERROR', 'the first request must be hello');
    }
    const hello = request.decode(messages.Hello);
    this.client = hello.client.slice(0, CLIENT_NAME_LIMIT).replace(/[^\x20-\x7e]/g, '?');
    if (hello.minVersion > PROTOCOL.max || hello.maxVersion < PROTOCOL.min) {
      throw new DekdError(
        'UNSUPPORTED_VERSION',
        `client speaks protocol ${hello.minVersion} to ${hello.maxVersion}, agent ${PROTOCOL.min} to ${PROTOCOL.max}`,
      );
    }
    const reply = this.#host.hello(this, hello.token);
    this.#greeted = true;
    this.#waitingSince = 0;
    this.#writer.hello(request.id, { ...reply, version: Math.min(hello.maxVersion, PROTOCOL.max) });
  }

  // ── work that waits ───────────────────────────────────────────────────────────────────────────────────────────

  /** Work given up still runs, so it counts: else requests and cancels in turn would pile it up. */
  get #isFull(): boolean {
    // Streams have a limit of their own: the parts that would end them must be read.
    return (
      this.#detachedBytes >= MAX_DETACHED ||
      this.#inFlight.size - this.#streams.size + this.#abandoned.size >= this.#limits.maxInFlight
    );
  }

  /** @param asked the request at hand, whose frame is intact */
  #await(asked: RequestReader, outcome: Promise<void>): void {
    const request = asked.outline();
    const notes = this.#notes;
    this.#notes = new RequestNotes();
    if (this.#host.wantsContexts) {
      const { frame, contextOffset, contextLength } = asked;
      notes.context = new Uint8Array(frame.subarray(contextOffset, contextOffset + contextLength));
    }
    const entry: InFlight = { request, notes, timer: undefined };
    if (request.timeoutMs > 0) {
      entry.timer = setTimeout(
        () => this.#abandon(entry, new DekdError('DEADLINE_EXCEEDED', 'the deadline of the request has passed')),
        Math.min(request.timeoutMs, MAX_TIMER_MS),
      );
    }
    this.#inFlight.set(request.id, entry);
    if (this.#isFull) {
      this.#socket.pause();
    }
    outcome.then(
      () => {
        if (this.#isWaiting(entry)) {
          this.#mustCommit = this.#host.answered(this, request, notes) || this.#mustCommit;
        }
        this.#settled(entry);
      },
      (error: unknown) => {
        if (this.#isWaiting(entry)) {
          this.#writer.error(request.id, this.#host.failed(DekdError.from(error), this, request, notes));
        }
        this.#settled(entry);
      },
    );
  }

  /** Whether its client still waits for it: nobody has been told how it ended. */
  #isWaiting(entry: InFlight): boolean {
    return !this.#closed && this.#inFlight.get(entry.request.id) === entry;
  }

  #cancel(id: number): void {
    const entry = this.#inFlight.get(id);
    if (entry !== undefined) {
      this.#abandon(entry, new DekdError('CANCELLED', 'cancelled by the client'));
    }
  }

  #abandon(entry: InFlight, error: DekdError): void {
    const { id } = entry.request;
    this.#writer.error(id, this.#host.failed(error, this, entry.request, entry.notes));
    clearTimeout(entry.timer);
    this.#inFlight.delete(id);
    this.#abandoned.add(id);
    this.#streams.get(id)?.fail(error);
    this.#streams.delete(id);
    this.#flushSoon();
    this.#host.left();
  }

  /** The work of a request has ended, whether or not its answer was still wanted. */
  #settled(entry: InFlight): void {
    const { id } = entry.request;
    clearTimeout(entry.timer);
    this.#inFlight.delete(id);
    this.#abandoned.delete(id);
    this.#detachedBytes -= this.#detached.get(id) ?? 0;
    this.#detached.delete(id);
    this.#flushSoon();
    this.#host.left();
  }

  // ── writing ───────────────────────────────────────────────────────────────────────────────────────────────────

  #flushSoon(): void {
    if (this.#flushScheduled) {
      return;
    }
    this.#flushScheduled = true;
    const schedule = this.#host.isStrict ? setImmediate : process.nextTick;
    // Where answers wait for records: after every continuation of the work that has just ended, the one that records it too.
    schedule(() => {
      this.#flushScheduled = false;
      this.#flush();
      if (!this.#blocked && !this.#isFull && this.#socket.isPaused()) {
        this.#resume();
      }
      if (this.#ending && this.#inFlight.size === 0) {
        this.#finish();
      }
    });
  }

  #flush(): void {
    if (this.#closed || this.#finished || !this.#writer.pending) {
      return;
    }
    if (this.#mustCommit) {
      this.#mustCommit = false;
      if (!this.#host.commit()) {
        this.#withhold();
        return;
      }
    }
    if (!this.#writer.flush(this.#socket) && this.#socket.writableLength > this.#mayWait) {
      this.#blocked = true;
    }
  }

  /**
   * Bytes that may wait to be sent while more is read. Parts of streams come and go by credit, so reading on adds nothing
   * to what waits for them; stopping at each would have both sides take turns, one always waiting for the other.
   */
  get #mayWait(): number {
    return this.#streams.size > 0 ? STREAMS_WAITING : 0;
  }

  #unblock(): void {
    this.#blocked = false;
    if (!this.#isFull) {
      this.#resume();
    }
  }

  #resume(): void {
    if (this.#finished) {
      return;
    }
    if (this.#waitingSince > 0) {
      this.#waitingSince = performance.now();
    }
    this.#socket.resume();
  }

  /** The same some time later, and nothing is read meanwhile: whoever tries tokens has ten a second on a connection. */
  #refuse(error: DekdError): void {
    this.#refused = true;
    this.#waitingSince = 0;
    this.#farewell = setTimeout(() => this.#fail(error), WRONG_TOKEN_MS);
  }

  /** Says why, as far as the client still listens, and closes: after a broken frame nothing can be trusted. */
  #fail(error: DekdError): void {
    if (this.#closed || this.#finished) {
      return;
    }
    this.#notes.clear(this.#host.now());
    this.#writer.error(0, this.#host.failed(error, this, undefined, this.#notes));
    this.#host.left();
    this.#finish();
  }

  /** Takes back what is written, says why, and closes: the client cannot know which of its requests were done. */
  #withhold(): void {
    this.#writer.discard();
    this.#writer.error(0, this.#host.withheld());
    this.#finish();
  }

  /** Sends what is written and closes, also when the client does not read it. */
  #finish(): void {
    if (this.#closed || this.#finished) {
      return;
    }
    this.#ending = true;
    this.#flush();
    this.#finished = true;
    this.#socket.pause();
    this.#socket.destroySoon();
    clearTimeout(this.#farewell);
    this.#farewell = setTimeout(() => this.#socket.destroy(), FAREWELL_MS);
    this.#farewell.unref();
  }

  #closedBySocket(): void {
    this.#closed = true;
    this.lane?.leave();
    this.#failStreams(new DekdError('CANCELLED', 'the connection was closed'));
    clearTimeout(this.#farewell);
    for (const entry of this.#inFlight.values()) {
      clearTimeout(entry.timer);
    }
    this.#inFlight.clear();
    this.#host.closed(this);
  }
}
