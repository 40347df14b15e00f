/** The client whose calls block. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decodeTokenText, encodeTokenText } from '../../envelope/token-text.ts';
import { DekdError } from '../../errors.ts';
import { OPERATION } from '../../protocol/request-reader.ts';
import { privateAgent, START_TIMEOUT_MS, socketIn } from '../agent-command.ts';
import { bindingOf, bytesOfText, checkBytes, checkTimeout, decryptBinding, textOfBytes } from '../arguments.ts';
import { batchOf } from '../batch.ts';
import { DEFAULT_TIMEOUT_MS } from '../caller.ts';
import { tokenToShow } from '../caller-token.ts';
import { anyChooses, COPY_LIMIT, partition, payloadError } from '../calls.ts';
import {
  type ChannelLimits,
  checkChoice,
  checkFrame,
  greeting,
  helloOf,
  limitsOf,
  notAReply,
  unavailable,
} from '../channel.ts';
import { errorOf, ReplyReader } from '../replies.ts';
import { RequestWriter, type WireBinding } from '../requests.ts';
import { findSocket } from '../socket-place.ts';
import { backOffMs, deadlineExceeded, GREETING_TIMEOUT_MS } from '../transport.ts';
import type {
  CallOptions,
  DecryptOptions,
  EncryptOptions,
  ManyDecryptOptions,
  ManyItem,
  ManyOptions,
  ManyResult,
} from '../types.ts';
import { ConnectionLost, NothingHeard, SocketThread } from './socket-thread.ts';
import type { DekdSyncClient, SyncConnectOptions } from './types.ts';

const ID_LIMIT = 0xffffffff;
/** Between two looks whether a private agent listens. */
const POLL_MS = 4;

/**
 * A client of the agent whose calls block; nothing happens until the first call, which starts a thread.
 * @throws INVALID_ARGUMENT when `timeoutMs` is none
 */
export function connectSync(options: SyncConnectOptions = {}): DekdSyncClient {
  return new SyncClient(options);
}

/** What goes onto the wire: a frame, or the head of one and its payload. */
interface Outgoing {
  readonly frame: Buffer;
  readonly payload?: Uint8Array;
}

/** The connection did not bring an answer; on another the request may be sent again when the reason is a passing one. */
class Unanswered extends Error {
  readonly reason: DekdError;

  constructor(reason: DekdError) {
    super(reason.message);
    this.reason = reason;
  }
}

/** The agent answered with an error. */
class Refused extends Error {
  readonly reason: DekdError;

  constructor(reason: DekdError) {
    super(reason.message);
    this.reason = reason;
  }
}

class SyncClient implements DekdSyncClient {
  readonly #socket: string | undefined;
  readonly #token: () => Uint8Array | undefined;
  readonly #timeoutMs: number;
  readonly #spawns: boolean;
  readonly #writer = new RequestWriter();
  readonly #reply = new ReplyReader();
  #thread: SocketThread | undefined;
  #limits: ChannelLimits | undefined;
  /** Of the private agent, once there was one. */
  #folder: string | undefined;
  #id = 0;
  /** Connections in a row that brought no answer. */
  #losses = 0;
  #closed = false;

  constructor({ socket, token, tokenFile, timeoutMs = DEFAULT_TIMEOUT_MS, spawn = false }: SyncConnectOptions) {
    this.#socket = socket;
    this.#token = () => tokenToShow(token, tokenFile);
    this.#timeoutMs = checkTimeout(timeoutMs);
    this.#spawns = spawn;
  }

  encrypt(data: Uint8Array, options: EncryptOptions): Uint8Array {
    checkBytes(data);
    return this.#value(OPERATION.encrypt, data, bindingOf(options), options);
  }

  encryptText(text: string, options: EncryptOptions): string {
    return encodeTokenText(this.encrypt(bytesOfText(text), options));
  }

  decrypt(token: Uint8Array, options: DecryptOptions): Uint8Array {
    checkBytes(token);
    return this.#value(OPERATION.decrypt, token, decryptBinding(options), options);
  }

  decryptText(token: string, options: DecryptOptions): string {
    return textOfBytes(this.decrypt(decodeTokenText(token), options));
  }

  encryptMany(items: readonly ManyItem[], options: ManyOptions = {}): ManyResult[] {
    return this.#many(OPERATION.encryptMany, items, options, false);
  }

  decryptMany(items: readonly ManyItem[], options: ManyDecryptOptions = {}): ManyResult[] {
    return this.#many(OPERATION.decryptMany, items, options, options.anyKey === true);
  }

  close(): void {
    this.#closed = true;
    this.#stopAgent();
    this.#thread?.close();
    this.#thread = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #value(operation: number, data: Uint8Array, binding: WireBinding, options: CallOptions): Uint8Array {
    const encrypts = operation === OPERATION.encrypt;
    const deadline = this.#begin(options);
    return this.#answered(deadline, (limits) => {
      checkChoice(binding.root !== undefined, limits);
      const error = payloadError({ limits, lane: undefined }, encrypts, data);
      if (error !== undefined) {
        throw error;
      }
      const id = this.#nextId();
      const outgoing =
        data.length <= COPY_LIMIT
          ? { frame: this.#writer.value(operation, id, remaining(deadline), binding, data) }
          : {
              frame: this.#writer.valueHead(operation, id, remaining(deadline), binding, data.length),
              payload: data,
            };
      return this.#exchange(limits, id, outgoing, deadline, (reply) =>
        reply.isValue ? reply.value() : refused(reply),
      );
    });
  }

  #many(operation: number, items: readonly ManyItem[], options: ManyOptions, anyKey: boolean): ManyResult[] {
    const { binding, wire } = batchOf(operation, items, options, anyKey);
    const deadline = this.#begin(options);
    const results: ManyResult[] = [];
    let cut: { readonly maxPayload: number; readonly from: number; readonly ends: readonly number[] } | undefined;
    for (let part = 0; results.length < wire.length; part++) {
      const some = this.#answered(deadline, (limits): ManyResult[] => {
        const from = results.length;
        if (cut === undefined || cut.maxPayload !== limits.maxPayload) {
          // How to cut it only the agent can say, and the next one may say something else.
          const { maxPayload } = limits;
          cut = { maxPayload, from, ends: partition(operation, from === 0 ? wire : wire.slice(from), maxPayload) };
          part = 0;
        }
        const to = cut.from + cut.ends[part]!;
        checkChoice(binding.root !== undefined || anyChooses(wire, from, to), limits);
        if (to - from === 1) {
          const encrypts = operation === OPERATION.encryptMany;
          const error = payloadError({ limits, lane: undefined }, encrypts, wire[from]!.data);
          if (error !== undefined) {
            return [{ ok: false, error }];
          }
        }
        const id = this.#nextId();
        const frame = this.#writer.many(operation, id, remaining(deadline), binding, wire, from, to);
        return this.#exchange(limits, id, { frame }, deadline, (reply) =>
          reply.isMany ? reply.many(to - from) : refused(reply),
        );
      });
      for (const result of some) {
        results.push(result);
      }
    }
    return results;
  }

  /** When the call is over, by the monotonic clock. */
  #begin({ timeoutMs, signal }: CallOptions): number {
    signal?.throwIfAborted();
    return performance.now() + (timeoutMs === undefined ? this.#timeoutMs : checkTimeout(timeoutMs));
  }

  /** Does `work` on a connection, and again on another as long as the call lasts when the one brought no answer. */
  #answered<T>(deadline: number, work: (limits: ChannelLimits) => T): T {
    if (this.#closed) {
      throw new DekdError('AGENT_UNAVAILABLE', 'the client was closed');
    }
    let failure: DekdError | undefined;
    for (;;) {
      let isConnected = false;
      try {
        const limits = this.#connected(deadline);
        isConnected = true;
        const result = work(limits);
        this.#losses = 0;
        return result;
      } catch (error) {
        if (error instanceof NothingHeard) {
          // While it connects, what went wrong before says more.
          throw (!isConnected && failure) || deadlineExceeded();
        }
        if (!(error instanceof Unanswered)) {
          throw error;
        }
        failure = error.reason;
      }
      this.#limits = undefined;
      this.#losses += 1;
      if (failure.retryable) {
        this.#startedThread().sleep(Math.min(backOffMs(this.#losses), deadline - performance.now()));
      }
      if (!failure.retryable || performance.now() >= deadline) {
        throw failure;
      }
    }
  }

  /** What the agent at the other end takes, once there is one. @throws Unanswered, NothingHeard */
  #connected(deadline: number): ChannelLimits {
    const thread = this.#startedThread();
    if (this.#limits !== undefined && thread.isConnected) {
      return this.#limits;
    }
    const path = this.#path(thread, deadline);
    const greetedBy = Math.min(deadline, performance.now() + GREETING_TIMEOUT_MS);
    try {
      thread.connect(path, greetedBy);
      const hello = this.#writer.message(helloOf(this.#token()));
      this.#limits = limitsOf(greeting(thread.exchange(hello, undefined, greetedBy)));
      return this.#limits;
    } catch (error) {
      if (error instanceof NothingHeard) {
        throw greetedBy < deadline
          ? new Unanswered(unavailable(path, `no greeting within ${GREETING_TIMEOUT_MS} ms`))
          : error;
      }
      if (error instanceof ConnectionLost) {
        throw new Unanswered(unavailable(path, error.message));
      }
      thread.drop();
      throw new Unanswered(notAReply(error));
    }
  }

  /** @throws Unanswered, NothingHeard, INVALID_ARGUMENT, and what the agent refused with */
  #exchange<T>(
    limits: ChannelLimits,
    id: number,
    { frame, payload }: Outgoing,
    deadline: number,
    read: (reply: ReplyReader) => T,
  ): T {
    checkFrame(frame.length + (payload?.length ?? 0), limits);
    const thread = this.#thread!;
    try {
      const reply = this.#reply;
      reply.read(thread.exchange(frame, payload, deadline));
      if (reply.id === id) {
        return read(reply);
      }
      // The agent says why it is about to close.
      throw reply.id === 0
        ? errorOf(reply.decode().error ?? {})
        : new DekdError('PROTOCOL_ERROR', `the agent answered request ${reply.id} in place of ${id}`);
    } catch (error) {
      if (error instanceof Refused) {
        // What it refuses only because it is stopping is for its successor.
        throw error.reason.code === 'SHUTTING_DOWN' ? new Unanswered(error.reason) : error.reason;
      }
      if (error instanceof NothingHeard) {
        throw error;
      }
      if (error instanceof ConnectionLost) {
        throw new Unanswered(new DekdError('AGENT_UNAVAILABLE', `the agent was lost: ${error.message}`));
      }
      thread.drop();
      throw new Unanswered(notAReply(error));
    }
  }

  #startedThread(): SocketThread {
    if (this.#thread?.isGone) {
      this.#thread.close();
      this.#thread = undefined;
    }
    this.#thread ??= new SocketThread();
    return this.#thread;
  }

  #nextId(): number {
    this.#id = (this.#id % ID_LIMIT) + 1;
    return this.#id;
  }

  /** @throws Unanswered; AGENT_UNAVAILABLE when a private agent does not start, which it would not do the next time either */
  #path(thread: SocketThread, deadline: number): string {
    if (this.#spawns && this.#folder !== undefined && thread.isChildRunning) {
      return socketIn(this.#folder);
    }
    try {
      return findSocket(this.#socket);
    } catch (error) {
      if (!this.#spawns || !DekdError.is(error, 'AGENT_UNAVAILABLE')) {
        throw new Unanswered(DekdError.from(error));
      }
      return this.#ownAgent(thread, deadline);
    }
  }

  /** Starts the private agent. @returns its socket @throws AGENT_UNAVAILABLE with what it said */
  #ownAgent(thread: SocketThread, deadline: number): string {
    this.#stopAgent();
    this.#folder = mkdtempSync(join(tmpdir(), 'dekd-'));
    thread.run(privateAgent(this.#folder));
    const socket = socketIn(this.#folder);
    const giveUpAt = Math.min(deadline, performance.now() + START_TIMEOUT_MS);
    while (thread.isChildRunning && performance.now() < giveUpAt) {
      try {
        thread.connect(socket, giveUpAt);
        return socket;
      } catch {
        thread.sleep(POLL_MS);
      }
    }
    const why = thread.isChildRunning ? 'it does not listen yet' : thread.childSaid || 'it said nothing';
    this.#stopAgent();
    throw new DekdError('AGENT_UNAVAILABLE', `the private agent did not start: ${why}`);
  }

  #stopAgent(): void {
    if (this.#folder !== undefined) {
      this.#thread?.stopChild(START_TIMEOUT_MS);
      rmSync(this.#folder, { recursive: true, force: true });
      this.#folder = undefined;
    }
  }
}

/** The agent's own word, in place of a result. */
function refused(reply: ReplyReader): never {
  throw new Refused(errorOf(reply.decode().error ?? {}));
}

/** Whole milliseconds left, at least one: zero would mean "did not say". */
function remaining(deadline: number): number {
  return Math.max(1, Math.ceil(deadline - performance.now()));
}
