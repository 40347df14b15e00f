/** One stream of a connection: what comes is worked on as it comes, and what is made leaves as the client has room. */
import { DekdError } from '../errors.ts';
import type { MessageWork } from '../operations/message-streams.ts';
import { MAX_STREAM_PART } from '../protocol/frame.ts';

/**
 * Bytes that a client may send ahead, and after which no more is made of them until some has left: at worst a stream has
 * both waiting.
 */
export const INPUT_WINDOW = 512 * 1024;
/** Credit is given back in pieces worth a frame of their own. */
const CREDIT_STEP = INPUT_WINDOW / 4;
/** Bytes in one part: a part of the client's and the overhead of its frames leave together. */
const MAX_PART = MAX_STREAM_PART + MAX_STREAM_PART / 64;
const NOTHING = new Uint8Array(0);

/** Where a stream's parts go. */
export interface StreamOutput {
  streamPart(id: number, credit: number, isEnd: boolean, data: Uint8Array): void;
}

export class AgentStream {
  /** Resolves when the last part is written; rejects with what ended the stream. */
  readonly done: Promise<void>;
  readonly #id: number;
  readonly #output: StreamOutput;
  #work: MessageWork | undefined;
  /** What has come and cannot be worked on yet; copies. */
  readonly #input: Uint8Array[] = [];
  /** Bytes that the client may still send. */
  #window = 0;
  #isInputOver = false;
  /** What was made and cannot leave yet. */
  readonly #made: Uint8Array[] = [];
  #madeLength = 0;
  /** Bytes that the client has room for. */
  #room: number;
  /** Bytes that came. */
  taken = 0;
  /** Bytes worked on for which the client has no new credit yet. */
  #owed = 0;
  #isBusy = false;
  #isMadeOver = false;
  #isOver = false;
  /** Why the client can give no more room, when it cannot. */
  #lastRoom: DekdError | undefined;
  readonly #pace: ((bytes: number) => number) | undefined;
  #paid = 0;
  /** Until the quota has more. */
  #patience: NodeJS.Timeout | undefined;
  readonly #opening: Promise<unknown>;
  #resolve!: () => void;
  #reject!: (error: unknown) => void;

  /**
   * @param room bytes that the client takes before it says more
   * @param opening what gives the work; until then the client has no credit
   * @param pace takes bytes that came from a quota; returns 0, or in how many milliseconds more may come
   */
  constructor(
    id: number,
    room: number,
    output: StreamOutput,
    opening: Promise<MessageWork>,
    pace?: (bytes: number) => number,
  ) {
    this.#pace = pace;
    this.#id = id;
    this.#room = room;
    this.#output = output;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#opening = opening.then(
      (work) => this.#begin(work),
      (error: unknown) => this.fail(error),
    );
  }

  /**
   * Takes a part from the client; `data` is not kept.
   * @throws PROTOCOL_ERROR when the client sends more than it may, or something after its end
   */
  part(data: Uint8Array, isEnd: boolean, credit: number): void {
    if (this.#isOver) {
      return;
    }
    if (data.length > this.#window || (this.#isInputOver && (data.length > 0 || isEnd))) {
      throw new DekdError(
        'PROTOCOL_ERROR',
        this.#isInputOver
          ? `stream ${this.#id} goes on after its end`
          : `stream ${this.#id} sent ${data.length} bytes and may send ${this.#window}`,
      );
    }
    this.#window -= data.length;
    this.taken += data.length;
    this.#room += credit;
    this.#isInputOver ||= isEnd;
    const taken = this.#input.length === 0 && this.#work?.isReady === true ? this.#takeAll(data) : 0;
    if (taken < data.length && !this.#isOver) {
      this.#input.push(new Uint8Array(data.subarray(taken)));
    }
    this.#run();
  }

  /** The client says nothing more: what it has room for it still gets. */
  halfClosed(error: DekdError): void {
    this.#lastRoom = error;
    if (this.#isInputOver) {
      this.#run();
    } else {
      this.fail(error);
    }
  }

  /** Ends the stream; nothing more is written for it. `done` rejects once nothing is under way for it either. */
  fail(error: unknown): void {
    if (this.#isOver) {
      return;
    }
    const isOpening = this.#work === undefined;
    this.#close();
    if (isOpening) {
      // Finding its key still runs, and counts as long as it does.
      void this.#opening.then(() => this.#reject(error));
    } else {
      this.#reject(error);
    }
  }

  #begin(work: MessageWork): void {
    if (this.#isOver) {
      work.close();
      return;
    }
    this.#work = work;
    this.#owed = INPUT_WINDOW;
    this.#run();
  }

  /** Works on what has come, and sends what has been made, for as long as either goes on. */
  #run(): void {
    while (!this.#isOver && this.#work !== undefined) {
      this.#takeWaiting();
      if (this.#isOver || this.#isBusy) {
        return;
      }
      if (this.#isInputOver && this.#input.length === 0 && !this.#isMadeOver && !this.#hasMore) {
        this.#takeEnd();
      }
      this.#send();
      if ((this.#input.length === 0 && !this.#hasMore) || this.#isFull) {
        return;
      }
    }
  }

  #takeWaiting(): void {
    while (this.#hasMore && !this.#isOver && !this.#isBusy && !this.#isFull) {
      this.#take(NOTHING);
    }
    for (let data = this.#input[0]; data !== undefined; data = this.#input[0]) {
      // Else the work may go on with the bytes after it has returned.
      const isDone = this.#work!.isReady;
      const taken = this.#takeAll(data);
      if (isDone) {
        // The copies are of plaintext, where the stream seals.
        data.fill(0, 0, taken);
      }
      if (taken < data.length) {
        this.#input[0] = data.subarray(taken);
        return;
      }
      this.#input.shift();
    }
  }

  /** Whether what was taken makes more than has been made. */
  get #hasMore(): boolean {
    try {
      return !this.#isOver && this.#work?.hasMore === true;
    } catch (error) {
      this.fail(error);
      return false;
    }
  }

  #takeEnd(): void {
    try {
      const last = this.#work!.end();
      if (last instanceof Uint8Array) {
        this.#keep(last);
        this.#isMadeOver = true;
        return;
      }
      this.#keepLater(last, () => {
        this.#isMadeOver = true;
      });
    } catch (error) {
      this.fail(error);
    }
  }

  /** Keeps what is being made, unless the stream is over by then. @param kept notes it, before the stream goes on */
  #keepLater(making: Promise<Uint8Array>, kept: () => void): void {
    this.#isBusy = true;
    making.then(
      (bytes) => {
        this.#isBusy = false;
        if (this.#isOver) {
          bytes.fill(0);
          return;
        }
        this.#keep(bytes);
        kept();
        this.#run();
      },
      (error: unknown) => this.fail(error),
    );
  }

  /** Whether enough is made until some of it has left. */
  get #isFull(): boolean {
    return this.#madeLength >= INPUT_WINDOW;
  }

  /** Works on `data` as far as that can be done now. @returns how much was taken */
  #takeAll(data: Uint8Array): number {
    let taken = 0;
    while (taken < data.length && !this.#isOver && !this.#isBusy && !this.#isFull && !this.#hasMore) {
      const piece = data.subarray(taken, taken + this.#work!.step);
      this.#take(piece);
      taken += piece.length;
    }
    return taken;
  }

  #take(data: Uint8Array): void {
    const { length } = data;
    try {
      const made = this.#work!.take(data);
      if (made instanceof Uint8Array) {
        this.#keep(this.#work!.lends === true ? this.#sendLent(made) : made);
        this.#owed += length;
        return;
      }
      this.#keepLater(made, () => {
        this.#owed += length;
      });
    } catch (error) {
      this.fail(error);
    }
  }

  /** Sends what there is room for now. @returns a copy of the rest */
  #sendLent(made: Uint8Array): Uint8Array {
    let sent = 0;
    while (sent < made.length && this.#room > 0 && this.#made.length === 0) {
      const length = Math.min(made.length - sent, this.#room, MAX_PART);
      this.#output.streamPart(this.#id, 0, false, made.subarray(sent, sent + length));
      this.#room -= length;
      sent += length;
    }
    return sent === made.length ? NOTHING : made.slice(sent);
  }

  /** Takes what came since the last time from the quota. @returns as `pace` */
  #pay(): number {
    const unpaid = this.taken - this.#paid;
    this.#paid = this.taken;
    return this.#pace?.(unpaid) ?? 0;
  }

  /** Whether the quota is used up; then it is asked again when there is some. */
  #mustWait(): boolean {
    if (this.#patience !== undefined) {
      return true;
    }
    const waitMs = this.#pay();
    if (waitMs === 0) {
      return false;
    }
    this.#patience = setTimeout(() => {
      this.#patience = undefined;
      this.#run();
    }, waitMs);
    return true;
  }

  #keep(made: Uint8Array): void {
    if (made.length > 0) {
      this.#made.push(made);
      this.#madeLength += made.length;
    }
  }

  #send(): void {
    if (this.#isOver) {
      return;
    }
    for (let made = this.#made[0]; made !== undefined && this.#room > 0; made = this.#made[0]) {
      const length = Math.min(made.length, this.#room, MAX_PART);
      const isLast = this.#isMadeOver && this.#made.length === 1 && length === made.length;
      this.#output.streamPart(this.#id, 0, isLast, made.subarray(0, length));
      if (this.#work!.lends !== true) {
        made.fill(0, 0, length);
      }
      this.#room -= length;
      this.#madeLength -= length;
      if (length < made.length) {
        this.#made[0] = made.subarray(length);
      } else {
        this.#made.shift();
      }
      if (isLast) {
        this.#finish();
        return;
      }
    }
    if (this.#made.length > 0) {
      // The client has no room: it gets no credit for more.
      if (this.#lastRoom !== undefined) {
        this.fail(this.#lastRoom);
      }
      return;
    }
    if (this.#isMadeOver) {
      this.#output.streamPart(this.#id, 0, true, NOTHING);
      this.#finish();
    } else if (this.#owed >= CREDIT_STEP && !this.#isInputOver && this.#input.length === 0 && !this.#mustWait()) {
      this.#window += this.#owed;
      this.#output.streamPart(this.#id, this.#owed, false, NOTHING);
      this.#owed = 0;
    }
  }

  #finish(): void {
    this.#close();
    this.#resolve();
  }

  #close(): void {
    this.#isOver = true;
    this.#pay();
    clearTimeout(this.#patience);
    this.#work?.close();
    for (const piece of [...this.#made.splice(0), ...this.#input.splice(0)]) {
      piece.fill(0);
    }
  }
}
