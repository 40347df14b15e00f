import type { ChildProcess } from 'node:child_process';
import type { Duplex, Readable } from 'node:stream';
import type { KeyHandle, KeyUse } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';
import { currentTraceparent } from '../trace.ts';
import { CustodianChannel } from './custodian-channel.ts';
import {
  CUSTODIAN_FD,
  CUSTODIAN_PROTOCOL,
  type CustodianOperation,
  type CustodianRole,
  type Failure,
  type FromCustodian,
  fromCustodian,
  MAX_ROWS,
  MAX_ROWS_LENGTH,
  type Targets,
  type ToCustodian,
} from './custodian-messages.ts';
import { spawnCustodian } from './custodian-spawn.ts';
import type { AgentKeyPipe } from './key-pipe.ts';
import { Garbage } from './untrusted.ts';

/** Characters kept of what a custodian says before it is ready. After that it may have seen secrets, and is not quoted. */
const SAID_LENGTH = 2_000;
/** How long the exit of a process and the end of what it sent wait for each other. */
const LAST_WORDS_MS = 200;
/** Logins that one process may hand over. One that renews its token each second hands over sixty. */
const MAX_SESSIONS = 1_000;
const MAX_ID = 2 ** 32 - 1;

/** One call, and how its answer is read. */
export interface CustodianCall<T> {
  /** Name of the root or of the keystore. */
  readonly target: string;
  readonly operation: CustodianOperation;
  readonly args: Readonly<Record<string, unknown>>;
  readonly body?: Uint8Array;
  /** Writes the frame that goes ahead of the call. @throws as `AgentKeyPipe` */
  readonly ahead?: (pipe: AgentKeyPipe, id: number) => void;
  /** The reply comes with a key, which is for this. */
  readonly bringsKey?: KeyUse;
  /** The reply comes with rows. */
  readonly bringsRows?: boolean;
  /** Key material of a caller is in the custodian's memory from this call on. */
  readonly revealing?: boolean;
  /** What the reply says; a key in it becomes the caller's. @throws Garbage when it is none of ours */
  read(answer: CustodianAnswer): T;
  /** The error for a failure. @throws Garbage when it is none of ours */
  failed(failure: Failure): Error;
}

export interface CustodianAnswer {
  readonly value: unknown;
  readonly body: Uint8Array;
  readonly rows: readonly unknown[];
  /** There for a call with `bringsKey`, and only then. */
  readonly key: KeyHandle | undefined;
}

/** The custodian of a call is no more, or was never there. */
export class CustodianLost extends Error {
  override readonly name = 'CustodianLost';
  readonly retryAfterMs: number | undefined;

  constructor(message: string, retryAfterMs?: number) {
    super(message);
    this.retryAfterMs = retryAfterMs;
  }
}

export interface Departure {
  readonly reason: string;
  /** It did not end because it was told to. */
  readonly fault: boolean;
}

export interface CustodianProcessOptions {
  readonly role: CustodianRole;
  readonly entry: string;
  /** Taken over: closed with the process. */
  readonly pipe: AgentKeyPipe | undefined;
  readonly targets: Targets;
  /** Milliseconds until it must be ready. */
  readonly startMs: number;
  /** Milliseconds in which a call that was cancelled must be answered: its provider was told to stop. */
  readonly graceMs: number;
  /** Milliseconds after its first plaintext when it ends by itself. */
  readonly limitMs: number;
  /** A login to keep; takes its frame. @throws as `KeptSessions.take` */
  readonly onSession: (pipe: AgentKeyPipe, id: number, root: string) => void;
  /** A call was answered, which makes room for another. */
  readonly onAnswer: () => void;
  /** No call can be made from now on; those in flight fail next. Not before the constructor has returned. */
  readonly onLost: (departure: Departure) => void;
}

interface Pending {
  readonly bringsKey: KeyUse | undefined;
  readonly bringsRows: boolean;
  readonly rows: unknown[];
  rowsLength: number;
  /** Nobody waits for it any more. */
  abandoned: boolean;
  /** Ends the process when a call that was cancelled is not answered. */
  grace: NodeJS.Timeout | undefined;
  /** @throws Garbage */
  answer(answer: CustodianAnswer): void;
  /** @throws Garbage */
  fail(failure: Failure): void;
  /** Fails the call with whatever happened here. */
  lose(error: Error): void;
}

/**
 * One custodian, from its start to its end. Whatever it does that ours do not do ends it at once, and with it every call
 * that it has.
 */
export class CustodianProcess {
  /** Resolves when calls can be made. @throws CustodianLost when it ends before that */
  readonly ready: Promise<void>;
  /** Resolves when the process is no more. */
  readonly gone: Promise<Departure>;
  readonly #options: CustodianProcessOptions;
  readonly #child: ChildProcess;
  readonly #channel: CustodianChannel;
  readonly #calls = new Map<number, Pending>();
  #nextId = 1;
  #sessions = 0;
  #isReady = false;
  #isEnding = false;
  /** Why it was killed, or found gone. */
  #lost: Departure | undefined;
  #said = '';
  #whenReady!: () => void;
  #whenNotReady!: (error: Error) => void;
  #whenGone!: (departure: Departure) => void;
  readonly #startTimer: NodeJS.Timeout;

  /** @throws RESOURCE_EXHAUSTED when there is no process for it; the pipe is then the caller's again */
  constructor(options: CustodianProcessOptions) {
    const { entry, role, pipe, startMs, targets, limitMs } = options;
    this.#options = options;
    this.ready = new Promise((resolve, reject) => {
      this.#whenReady = resolve;
      this.#whenNotReady = reject;
    });
    // Whoever waits for the start hears of it; nobody has to.
    this.ready.catch(() => {});
    this.gone = new Promise((resolve) => {
      this.#whenGone = resolve;
    });
    this.#child = spawnCustodian(entry, role, pipe?.custodianEnds);
    pipe?.handedOver();
    this.#listenToChild();
    this.#channel = new CustodianChannel(this.#child.stdio[CUSTODIAN_FD.channel] as Duplex, {
      message: (head, body, size) => this.#take(fromCustodian(head), body, size),
      garbage: (error) => this.#sentGarbage(error),
      // As a rule because it ended, which is said next, and why.
      closed: () => setTimeout(() => this.kill('its channel closed', true), LAST_WORDS_MS),
    });
    this.#startTimer = setTimeout(() => this.kill(`it was not ready after ${startMs} ms`, true), startMs);
    this.#send({ kind: 'begin', targets, limitMs });
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** Calls that were not answered yet, those that nobody waits for included. */
  get inFlight(): number {
    return this.#calls.size;
  }

  /**
   * Makes a call. Calls are answered in any order, and begun in theirs.
   * @throws what `read` and `failed` of the call say; CustodianLost when the process ends first; the reason of `signal`
   * when that is aborted first; DekdError of the engine for the secret of the call
   */
  call<T>(call: CustodianCall<T>, signal: AbortSignal): Promise<T> {
    if (this.#lost !== undefined || !this.#isReady) {
      return Promise.reject(new CustodianLost(this.#lost?.reason ?? 'it is not ready'));
    }
    const id = this.#nextId;
    this.#nextId = id === MAX_ID ? 1 : id + 1;
    const { target, operation, args, body, ahead, bringsKey, bringsRows = false } = call;
    if (ahead !== undefined) {
      try {
        ahead(this.#options.pipe!, id);
      } catch (error) {
        this.#pipeFailed(error);
        return Promise.reject(error);
      }
    }
    try {
      const traceparent = currentTraceparent();
      const call: ToCustodian = { kind: 'call', id, target, operation, args };
      this.#channel.send(traceparent === undefined ? call : { ...call, traceparent }, body);
    } catch (error) {
      // Its frame may be in the pipe already, and nothing will ever take it out.
      if (ahead !== undefined) {
        this.kill('a call did not follow its secret', true);
      }
      return Promise.reject(new DekdError('INVALID_ARGUMENT', (error as Error).message));
    }
    return new Promise<T>((resolve, reject) => {
      const abort = () => this.#cancel(id, signal, reject);
      const settled = () => {
        signal.removeEventListener('abort', abort);
        clearTimeout(pending.grace);
      };
      const pending: Pending = {
        bringsKey,
        bringsRows,
        rows: [],
        rowsLength: 0,
        abandoned: false,
        grace: undefined,
        answer: (answer) => {
          settled();
          resolve(call.read(answer));
        },
        fail: (failure) => {
          settled();
          reject(call.failed(failure));
        },
        lose: (error) => {
          settled();
          reject(error);
        },
      };
      this.#calls.set(id, pending);
      if (signal.aborted) {
        abort();
      } else {
        signal.addEventListener('abort', abort, { once: true });
      }
    });
  }

  /**
   * Tells it to end, logins of the roots in `forget` included; it is killed when it has not after `endMs`. Calls in
   * flight fail. Resolves when it is gone.
   */
  async end(forget: readonly string[], endMs: number): Promise<void> {
    if (this.#lost === undefined && !this.#isEnding) {
      this.#isEnding = true;
      if (this.#isReady) {
        this.#send({ kind: 'end', forget });
        const timer = setTimeout(() => this.kill('it did not end', false), endMs);
        void this.gone.then(() => clearTimeout(timer));
      } else {
        this.kill('it was not needed any more', false);
      }
    }
    await this.gone;
  }

  /** Ends it at once; every call that it has fails. */
  kill(reason: string, fault: boolean): void {
    this.#lose({ reason, fault: fault && !this.#isEnding });
    this.#child.kill('SIGKILL');
  }

  #listenToChild(): void {
    const child = this.#child;
    const stderr = child.stderr as Readable;
    stderr.setEncoding('utf8').on('data', (text: string) => {
      if (!this.#isReady && this.#said.length < SAID_LENGTH) {
        this.#said = (this.#said + text).slice(0, SAID_LENGTH);
      }
    });
    child.once('exit', (code, signal) => {
      const reason = signal === null ? `it ended with code ${code}` : `it ended by ${signal}`;
      const depart = () => {
        const said = this.#said.trim();
        this.#lose({ reason: said === '' ? reason : `${reason}: ${said}`, fault: !this.#isEnding });
        this.#whenGone(this.#lost!);
      };
      // What it sent just before is still on its way; whoever inherited its descriptors does not hold this up for long.
      const timer = setTimeout(depart, LAST_WORDS_MS);
      child.once('close', () => {
        clearTimeout(timer);
        depart();
      });
    });
  }

  /** The first reason counts. */
  #lose(departure: Departure): void {
    if (this.#lost !== undefined) {
      return;
    }
    this.#lost = departure;
    clearTimeout(this.#startTimer);
    this.#channel.close();
    this.#options.pipe?.close();
    this.#options.onLost(departure);
    const error = new CustodianLost(departure.reason);
    this.#whenNotReady(error);
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const pending of calls) {
      pending.lose(error);
    }
  }

  #send(message: ToCustodian): void {
    if (this.#lost === undefined) {
      this.#channel.send(message);
    }
  }

  #cancel(id: number, signal: AbortSignal, reject: (reason: unknown) => void): void {
    reject(signal.reason);
    const pending = this.#calls.get(id);
    if (pending === undefined) {
      return;
    }
    pending.abandoned = true;
    this.#send({ kind: 'cancel', id, timedOut: (signal.reason as Error | undefined)?.name === 'TimeoutError' });
    const { graceMs } = this.#options;
    pending.grace = setTimeout(() => this.kill(`it did not answer ${graceMs} ms after the deadline`, true), graceMs);
  }

  /** @throws Garbage, or what the key pipe does */
  #take(message: FromCustodian, body: Uint8Array, size: number): void {
    if (!this.#isReady) {
      this.#begin(message);
      return;
    }
    switch (message.kind) {
      case 'ready':
        throw new Garbage('it was ready before');
      case 'session':
        this.#takeSession(message.id, message.root);
        return;
      case 'rows': {
        const pending = this.#pending(message.id);
        pending.rowsLength += size;
        if (!pending.bringsRows) {
          throw new Garbage('rows that nobody asked for');
        }
        if (pending.rows.length + message.rows.length > MAX_ROWS || pending.rowsLength > MAX_ROWS_LENGTH) {
          throw new Garbage('more rows than any keystore has');
        }
        if (!pending.abandoned) {
          pending.rows.push(...message.rows);
        }
        return;
      }
      case 'failure':
        this.#settle(message.id, (pending) => pending.fail(message));
        return;
      case 'reply':
        this.#settle(message.id, (pending) => this.#answer(message.id, pending, message.value, body));
    }
  }

  #begin(message: FromCustodian): void {
    if (message.kind !== 'ready' || message.role !== this.#options.role) {
      throw new Garbage('it did not say what it is');
    }
    if (message.protocol !== CUSTODIAN_PROTOCOL) {
      throw new Garbage(
        `it speaks version ${message.protocol} and not ${CUSTODIAN_PROTOCOL}: dekd was upgraded, start the agent anew`,
      );
    }
    clearTimeout(this.#startTimer);
    this.#isReady = true;
    this.#said = '';
    this.#whenReady();
  }

  #pending(id: number): Pending {
    const pending = this.#calls.get(id);
    if (pending === undefined) {
      throw new Garbage(`there is no call ${id}`);
    }
    return pending;
  }

  /** Takes a call off the list, and fails it with what ends the process when its answer is that. */
  #settle(id: number, take: (pending: Pending) => void): void {
    const pending = this.#pending(id);
    this.#calls.delete(id);
    clearTimeout(pending.grace);
    try {
      if (!pending.abandoned || pending.bringsKey) {
        take(pending);
      }
    } catch (error) {
      pending.lose(new CustodianLost(reasonOf(error)));
      throw error;
    }
    this.#options.onAnswer();
  }

  #answer(id: number, pending: Pending, value: unknown, body: Uint8Array): void {
    const { pipe } = this.#options;
    let key: KeyHandle | undefined;
    if (pending.bringsKey) {
      try {
        key = pipe!.receive(id, pending.bringsKey);
      } catch (error) {
        if (DekdError.is(error, 'KMS_UNAVAILABLE')) {
          throw error;
        }
        // The table is full: the frame is off the pipe and lost, and so is this call, but no other.
        pending.lose(error as Error);
        return;
      }
    }
    if (pending.abandoned) {
      pipe!.destroy(key!);
      return;
    }
    try {
      pending.answer({ value, body, rows: pending.rows, key });
    } catch (error) {
      if (key !== undefined) {
        pipe!.destroy(key);
      }
      throw error;
    }
  }

  #takeSession(id: number, root: string): void {
    const { pipe, onSession } = this.#options;
    if (pipe === undefined || ++this.#sessions > MAX_SESSIONS) {
      throw new Garbage('a login that nobody asked for');
    }
    try {
      onSession(pipe, id, root);
    } catch (error) {
      if (!(error instanceof DekdError) || DekdError.is(error, 'KMS_UNAVAILABLE')) {
        throw error;
      }
      // It cannot be sealed: the next custodian logs in again.
    }
    this.#send({ kind: 'kept', id });
  }

  #sentGarbage(error: unknown): void {
    this.kill(`it sent garbage: ${reasonOf(error)}`, true);
  }

  /** After what these errors mean, both ends of the pipe still agree; after any other they do not. */
  #pipeFailed(error: unknown): void {
    if (!(error instanceof DekdError) || DekdError.is(error, 'KMS_UNAVAILABLE')) {
      this.kill(reasonOf(error), true);
    }
  }
}

function reasonOf(error: unknown): string {
  const { reason, message } = DekdError.from(error);
  return error instanceof Garbage ? error.message : (reason ?? message);
}
