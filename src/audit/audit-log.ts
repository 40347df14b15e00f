/**
 * The audit log of a running agent: takes records, chains them in blocks and has the sink write them.
 *
 * Records of one moment make one block: one MAC, one write. A sink that fails keeps what it has not written, and records go on
 * being taken until what waits is too much; then they are counted and a record of the gap says how many there were, once the sink
 * takes lines again. With `strict` nothing is done that could not be recorded: see `admit` and `commit`.
 */
import { DekdError } from '../errors.ts';
import type { Anchors } from './anchors.ts';
import type { Chain } from './chain.ts';
import { bodyOf, isoTime, type RecordFields } from './format.ts';
import type { AuditSink } from './sink.ts';

/** Bytes of one block, about. */
const BLOCK_BYTES = 64 * 1024;
/** How long a record waits for others to share its block. */
const BLOCK_MS = 20;
/** Bytes that wait for a sink that does not take them. With `strict` only what was admitted before comes on top. */
const MAX_WAITING = 1024 * 1024;
const MAX_WAITING_STRICT = 64 * 1024 * 1024;
/** Between two attempts to write to a sink that failed. */
const RETRY_MS = 250;
const RETRY_ADMIT_MS = 20;

export interface AuditLogOptions {
  readonly sink: AuditSink;
  readonly chain: Chain;
  readonly anchors: Anchors;
  readonly strict: boolean;
  /** What the first record of a file says of the run: id, key, generation. */
  readonly identity: RecordFields;
  /** The sink began to fail, or to lose records, or is well again. */
  readonly trouble: (message: string, reason: string) => void;
}

/** What `status` says. */
export interface AuditStanding {
  readonly sink: string;
  readonly strict: boolean;
  readonly lines: number;
  readonly blocks: number;
  /** Records that were never written, since start. */
  readonly lost: number;
  /** Requests that were refused because they could not be recorded. */
  readonly refused: number;
  readonly failure: string | null;
  readonly waitingBytes: number;
  /** Number of the last line that an anchor is of. */
  readonly anchored: number;
}

export class AuditLog {
  readonly #options: AuditLogOptions;
  #open: string[] = [];
  #openBytes = 0;
  /** Lost since the last record of a gap. */
  #gap = 0;
  #gapSince = 0;
  #lost = 0;
  #refused = 0;
  #owed = 0;
  #failure: string | undefined;
  /** Why a block could not be sealed. */
  #sealFailure: string | undefined;
  #blockTimer: NodeJS.Timeout | undefined;
  #retryTimer: NodeJS.Timeout | undefined;
  #triedAt = 0;
  #isClosed = false;

  constructor(options: AuditLogOptions) {
    this.#options = options;
  }

  /** How many records so far say of something that must not leave before them. */
  get owed(): number {
    return this.#owed;
  }

  /**
   * Takes a record that may wait a moment for others.
   * @param body as `bodyOf` makes it
   * @param isOwed false of what leaves without it, such as a refusal: while the sink fails, `strict` keeps none of these
   */
  append(body: string, isOwed = true): void {
    if (isOwed) {
      this.#owed += 1;
    } else if (this.#options.strict && !this.#isWell()) {
      this.#lose();
      return;
    }
    const waiting = this.#options.sink.pending + this.#openBytes;
    if (waiting > (this.#options.strict ? MAX_WAITING_STRICT : MAX_WAITING) || this.#isClosed) {
      this.#lose();
      return;
    }
    this.#open.push(body);
    this.#openBytes += body.length;
    if (this.#openBytes >= BLOCK_BYTES) {
      this.#seal();
    } else if (this.#blockTimer === undefined) {
      this.#blockTimer = setTimeout(() => this.#seal(), BLOCK_MS);
      this.#blockTimer.unref();
    }
  }

  /** Takes a record and writes it at once: what happens to keys, and to the agent. */
  record(event: string, fields: RecordFields): void {
    this.append(bodyOf(Date.now(), event, fields));
    this.#seal();
  }

  /**
   * With `strict`, whether a request may be done at all: its record must have a place.
   * @throws RESOURCE_EXHAUSTED while the sink does not take what it has
   */
  admit(): void {
    if (!this.#options.strict || this.#isWell() || this.#tryAgain(RETRY_ADMIT_MS)) {
      return;
    }
    this.#refused += 1;
    throw this.#refusal();
  }

  /**
   * With `strict`, before answers leave: writes what was recorded.
   * @returns false when it could not be; the answers must not leave then
   */
  commit(): boolean {
    if (!this.#options.strict) {
      return true;
    }
    this.#seal();
    const { sink } = this.#options;
    return this.#isWell() && sink.drain() && sink.sync() && this.#checked();
  }

  /** What a caller is told whose request, or whose answer, cannot be recorded. */
  #refusal(): DekdError {
    return new DekdError('RESOURCE_EXHAUSTED', 'the audit log takes no records, and nothing is done without them', {
      retryAfterMs: RETRY_MS,
      reason: `audit.strict: ${this.#options.sink.name}: ${this.#trouble()}`,
    });
  }

  /** For answers that `commit` keeps back. */
  withheld(): DekdError {
    this.#refused += 1;
    return this.#refusal();
  }

  standing(): AuditStanding {
    const { sink, chain, strict, anchors } = this.#options;
    return {
      sink: sink.name,
      strict,
      lines: chain.lines,
      blocks: chain.blocks,
      lost: this.#lost,
      refused: this.#refused,
      failure: this.#isWell() ? null : this.#trouble(),
      waitingBytes: sink.pending + this.#openBytes,
      anchored: anchors.last?.seq ?? 0,
    };
  }

  /** Writes the last record, what waits and the last anchor. */
  close(): void {
    if (this.#isClosed) {
      return;
    }
    this.record('stop', {});
    this.#isClosed = true;
    clearTimeout(this.#blockTimer);
    clearTimeout(this.#retryTimer);
    const { sink, anchors, chain } = this.#options;
    sink.drain();
    anchors.close();
    sink.close();
    chain.close();
  }

  #lose(): void {
    if (this.#gap === 0) {
      this.#gapSince = Date.now();
    }
    this.#gap += 1;
    this.#lost += 1;
    this.#checked();
  }

  #seal(): void {
    clearTimeout(this.#blockTimer);
    this.#blockTimer = undefined;
    const { sink, chain, anchors, identity } = this.#options;
    if (this.#gap > 0 && sink.drain()) {
      const gap = { lost: this.#gap, since: isoTime(this.#gapSince), reason: this.#failure };
      this.#open.unshift(bodyOf(Date.now(), 'gap', gap));
      this.#gap = 0;
    }
    if (this.#open.length === 0) {
      return;
    }
    if (sink.isRotationDue) {
      const { place } = chain;
      sink.rotate();
      // The first line of a file says where in which chain it is, so that it can be verified by itself.
      const continued = { ...identity, blocks: chain.blocks, previous: { seq: place?.seq ?? 0, mac: place?.mac } };
      this.#write([bodyOf(Date.now(), 'continue', continued)]);
    }
    const bodies = this.#open;
    if (this.#write(bodies)) {
      this.#open = [];
      this.#openBytes = 0;
    }
    if (sink.pending === 0 && chain.place !== undefined) {
      anchors.reached(chain.place);
    }
    this.#checked();
  }

  #write(bodies: readonly string[]): boolean {
    const { sink, chain } = this.#options;
    let block: Buffer;
    try {
      block = chain.seal(bodies);
    } catch (error) {
      // No slot of the key table was free for this moment: the lines wait.
      this.#sealFailure = DekdError.from(error).message;
      return false;
    }
    this.#sealFailure = undefined;
    sink.write(block);
    return true;
  }

  /** Whether everything recorded so far is where it belongs. */
  #isWell(): boolean {
    const { sink } = this.#options;
    return this.#sealFailure === undefined && this.#gap === 0 && sink.pending === 0 && sink.failure === undefined;
  }

  #trouble(): string {
    return this.#sealFailure ?? this.#options.sink.failure ?? 'what was recorded waits to be written';
  }

  /** Says what changed, and looks again later while it is not well. @returns whether it is */
  #checked(): boolean {
    const { sink, trouble, strict } = this.#options;
    // A reader that is slow for a moment is no failure until something is lost or refused by it.
    const isFailing = this.#gap > 0 || sink.failure !== undefined || (strict && sink.pending > 0);
    const reason = isFailing ? this.#trouble() : undefined;
    if (reason !== undefined && this.#failure === undefined) {
      trouble('audit log fails', `${sink.name}: ${reason}`);
    } else if (reason === undefined && this.#failure !== undefined) {
      trouble('audit log is well again', sink.name);
    }
    this.#failure = reason;
    const isWell = this.#isWell();
    if (!isWell && this.#retryTimer === undefined && !this.#isClosed) {
      this.#retryTimer = setTimeout(() => {
        this.#retryTimer = undefined;
        this.#tryAgain(0);
      }, RETRY_MS);
      this.#retryTimer.unref();
    }
    return isWell;
  }

  #tryAgain(notBeforeMs: number): boolean {
    const now = performance.now();
    if (now - this.#triedAt < notBeforeMs) {
      return false;
    }
    this.#triedAt = now;
    const { sink } = this.#options;
    if (sink.isRotationDue && sink.failure !== undefined) {
      // A file that cannot be trusted any more is left, also when nothing waits.
      this.append(bodyOf(Date.now(), 'healed', { reason: sink.failure }));
    } else {
      sink.drain();
    }
    this.#seal();
    return this.#checked();
  }
}
