/** Where every request ends: counted, its failure logged and kept for the operator, and told to who observes. */
import { DekdError } from '../errors.ts';
import type { Caller } from '../operations/request.ts';
import type { RequestReader } from '../protocol/request-reader.ts';
import type { CountedOperation, Counters, Outcome } from '../telemetry/counters.ts';
import type { Incidents } from '../telemetry/incidents.ts';
import type { Log } from '../telemetry/log.ts';
import type { Observation, Observer, RequestForm, UsedKey } from '../telemetry/observation.ts';
import { carriedTraceparent, traceIdOf } from '../telemetry/trace-context.ts';
import { kindOf } from './request-kinds.ts';
import { RequestNotes } from './request-notes.ts';

/** Who asked, on which connection. */
export interface Asker {
  readonly caller: Caller;
  /** What the client calls itself. */
  readonly client: string;
}

export interface ReporterOptions {
  /** For what callers can cause, so of limited rate. */
  readonly log: Log;
  readonly incidents: Incidents;
  readonly counters: Counters;
  /** Undefined when nobody wants to know: then no clock is read and nothing is put together. */
  readonly observer: Observer | undefined;
}

const NO_NOTES = new RequestNotes();
const NO_BYTES = new Uint8Array(0);

export class Reporter {
  /** Whether contexts are kept of requests that have to wait. */
  readonly wantsContexts: boolean;
  readonly #options: ReporterOptions;
  readonly #observer: Observer | undefined;
  readonly #counters: Counters;
  /** One for all that is told. */
  readonly #told = new Told();

  constructor(options: ReporterOptions) {
    this.#options = options;
    this.#observer = options.observer;
    this.#counters = options.counters;
    this.wantsContexts = options.observer?.wantsContexts ?? false;
  }

  /** When a chunk arrived; 0 when nobody asks how long requests take. */
  now(): number {
    return this.#observer === undefined ? 0 : performance.now();
  }

  /** What has been answered since the last call leaves. */
  left(): void {
    this.#observer?.left();
  }

  /** A request got what it asked for, or a batch its answer. */
  answered(asker: Asker, request: RequestReader, notes: RequestNotes): void {
    const { operation, form } = kindOf(request.operation);
    if (form === 'batch') {
      this.#counters.batches += 1;
      this.#counters.count(operation, 'ok', request.count - notes.failed);
    } else {
      this.#counters.count(operation, 'ok');
    }
    this.#tell(asker, request, notes, 'ok', notes.incident);
  }

  /**
   * A request failed, or a connection as a whole. Keeps the reason under an incident id, counts, logs and tells it, and
   * returns what may travel: the reason stays here.
   * @param request undefined when it is the connection that failed
   */
  failed(error: DekdError, asker: Asker, request: RequestReader | undefined, notes: RequestNotes): DekdError {
    const told = this.#report(error, asker, request);
    this.#tell(asker, request, notes, error.code, told.incident!);
    return told;
  }

  /** An item of a batch failed: the same but for the telling, which is done when its batch is answered. */
  itemFailed(error: DekdError, asker: Asker, request: RequestReader, notes: RequestNotes): DekdError {
    const told = this.#report(error, asker, request);
    notes.itemFailed(error.code, told.incident!);
    return told;
  }

  #report(error: DekdError, { caller }: Asker, request: RequestReader | undefined): DekdError {
    const { log, incidents } = this.#options;
    const reason = error.reason ?? error.message;
    const operation: CountedOperation = request === undefined ? 'unknown' : kindOf(request.operation).operation;
    const key = request?.key ?? '';
    const partition = request?.partition ?? '';
    const incident = incidents.record({ code: error.code, reason, operation, key, partition, caller: caller.share });
    this.#counters.count(operation, error.code);
    const fields = {
      code: error.code,
      reason,
      incident,
      operation,
      key: key || undefined,
      partition: partition || undefined,
      caller: caller.share,
      trace: traceIdOf(carriedTraceparent(request?.traceparent ?? '')),
    };
    if (error.code === 'INTERNAL') {
      log.error('request failed by a defect', fields);
    } else if (WARNED.has(error.code)) {
      log.warn('request refused', fields);
    } else {
      log.debug('request failed', fields);
    }
    return new DekdError(error.code, error.message, {
      incident,
      ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
    });
  }

  #tell(
    asker: Asker,
    request: RequestReader | undefined,
    notes: RequestNotes,
    outcome: Outcome,
    incident: string,
  ): void {
    if (this.#observer !== undefined) {
      this.#told.set(asker, request, notes, outcome, incident);
      this.#observer.answered(this.#told);
      this.#told.clear();
    }
  }
}

/** A view of what is at hand: nothing is made for a request but what is asked for. */
class Told implements Observation {
  operation: CountedOperation = 'unknown';
  form: RequestForm = 'command';
  caller = '';
  gid: number | undefined;
  socket: string | undefined;
  client = '';
  outcome: Outcome = 'ok';
  incident = '';
  #request: RequestReader | undefined;
  #notes: RequestNotes = NO_NOTES;

  set(asker: Asker, request: RequestReader | undefined, notes: RequestNotes, outcome: Outcome, incident: string): void {
    const { operation, form } = kindOf(request === undefined ? 0 : request.operation);
    this.operation = operation;
    this.form = form;
    this.caller = asker.caller.share;
    this.gid = asker.caller.gid;
    this.socket = asker.caller.socket;
    this.client = asker.client;
    this.outcome = outcome;
    this.incident = incident;
    this.#request = request;
    this.#notes = notes;
  }

  /** Lets go of the request. */
  clear(): void {
    this.#request = undefined;
    this.#notes = NO_NOTES;
  }

  get key(): string {
    return this.#request?.key ?? '';
  }

  get partition(): string {
    return this.#request?.partition ?? '';
  }

  get used(): UsedKey | undefined {
    return this.outcome === 'ok' ? this.#notes.used : undefined;
  }

  get items(): number {
    return this.form === 'batch' ? this.#request!.count : 1;
  }

  get failed(): number {
    return this.#notes.failed;
  }

  get failure(): Observation['failure'] {
    return this.#notes.failure;
  }

  get bytes(): number {
    const request = this.#request;
    switch (this.form) {
      case 'value':
        return request!.dataLength;
      case 'batch':
        return request!.frameBytes;
      case 'lane':
        return request!.input.length;
      case 'stream':
        return this.#notes.taken;
      default:
        return 0;
    }
  }

  get context(): Uint8Array {
    const request = this.#request;
    if (request === undefined || this.form === 'command') {
      return NO_BYTES;
    }
    const { frame, contextOffset, contextLength } = request;
    return this.#notes.context ?? frame.subarray(contextOffset, contextOffset + contextLength);
  }

  get traceparent(): string {
    return carriedTraceparent(this.#request?.traceparent ?? '');
  }

  get arrived(): number {
    return this.#notes.arrived;
  }
}

/** What an operator has to do something about. The rest is between the caller and its data. */
const WARNED: ReadonlySet<string> = new Set([
  'UNAUTHENTICATED',
  'PERMISSION_DENIED',
  'KMS_UNAVAILABLE',
  'KMS_DENIED',
  'KEYSTORE_UNAVAILABLE',
  'RESOURCE_EXHAUSTED',
  'PROTOCOL_ERROR',
]);
