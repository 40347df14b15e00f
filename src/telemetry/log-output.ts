/** Standard output as the log uses it: it never blocks the agent and never ends it, whatever becomes of the reader. */
import { constants, fstatSync, openSync, writeSync } from 'node:fs';

const STANDARD_OUTPUT = 1;
/** Bytes kept for a reader that does not keep up; beyond them lines are dropped, and requests go on. */
const MAX_BUFFERED = 1024 * 1024;
const RETRY_MS = 20;
/** How long the end of the process waits for a reader that does not read. */
const FLUSH_MS = 250;

let own: LogOutput | undefined;

/** The one output of this process on standard output: whoever writes lines there does it through this, or lines would mix. */
export function standardLogOutput(): LogOutput {
  own ??= new LogOutput();
  return own;
}

/**
 * Writes lines at once while the reader takes them, and keeps what it does not take. When the reader is gone, lines go
 * nowhere.
 *
 * Own code, because the destinations of the usual loggers either block on a full pipe or, in their flush, retry for ever
 * on one whose reader is gone (EPIPE), which would keep a stopping agent alive.
 */
export class LogOutput {
  readonly #descriptor: number;
  #pending: Buffer[] = [];
  #bytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #isGone = false;

  constructor(descriptor: number = standardOutput()) {
    this.#descriptor = descriptor;
  }

  write(line: string): void {
    this.offer(Buffer.from(line));
  }

  /** @returns whether the bytes were taken: written now, or as soon as the reader reads */
  offer(bytes: Buffer): boolean {
    if (this.#isGone || this.#bytes > MAX_BUFFERED) {
      return false;
    }
    this.#pending.push(bytes);
    this.#bytes += bytes.length;
    if (this.#timer === undefined) {
      this.#drain();
    }
    return !this.#isGone;
  }

  /** Bytes taken and not written yet. */
  get pendingBytes(): number {
    return this.#bytes;
  }

  /** Whether the reader has gone, and everything goes nowhere. */
  get isGone(): boolean {
    return this.#isGone;
  }

  /** Tries again to write what is kept. */
  drain(): void {
    if (this.#bytes > 0) {
      this.#drain();
    }
  }

  /** Writes what is kept, waiting for the reader only so long. */
  flushSync(): void {
    const deadline = performance.now() + FLUSH_MS;
    while (this.#bytes > 0 && performance.now() < deadline) {
      this.#drain();
      if (this.#bytes > 0) {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
      }
    }
  }

  #drain(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    while (this.#pending.length > 0) {
      const [first] = this.#pending;
      let written: number;
      try {
        written = writeSync(this.#descriptor, first!);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EAGAIN') {
          this.#timer = setTimeout(() => this.#drain(), RETRY_MS);
          this.#timer.unref();
        } else {
          this.#isGone = true;
          this.#pending = [];
          this.#bytes = 0;
        }
        return;
      }
      this.#bytes -= written;
      if (written === first!.length) {
        this.#pending.shift();
      } else {
        this.#pending[0] = first!.subarray(written);
      }
    }
  }
}

/**
 * A pipe is opened anew, so that not blocking is a matter between the log and it: the descriptor itself may be shared
 * with processes that would be surprised. Files and terminals take what is written.
 */
function standardOutput(): number {
  try {
    if (fstatSync(STANDARD_OUTPUT).isFIFO()) {
      return openSync(`/proc/self/fd/${STANDARD_OUTPUT}`, constants.O_WRONLY | constants.O_NONBLOCK);
    }
  } catch {
    // No /proc, or standard output is closed: what is there has to do.
  }
  return STANDARD_OUTPUT;
}
