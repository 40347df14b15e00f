/**
 * Anchors: from time to time, the number and the MAC of the last line go to a place that whoever changes the log does not reach.
 * Verification then finds a log that was cut before the last of them.
 */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import type { ChainPlace } from './chain.ts';
import { isoTime } from './format.ts';

export interface Anchor extends ChainPlace {
  /** Which run of an agent. */
  readonly run: string;
  /** ISO 8601; empty where it is not known. */
  readonly time: string;
}

export interface AnchorsOptions {
  readonly run: string;
  /** Lines and milliseconds after which there is a new one, whichever comes first; none for a log that stands still. */
  readonly lines: number;
  readonly intervalMs: number;
  /** File that each is appended to; undefined for none. */
  readonly file: string | undefined;
  /** The log of the agent has each too. */
  readonly log: (anchor: string) => void;
  /** An anchor could not be written to the file. */
  readonly failed: (reason: string) => void;
}

export class Anchors {
  readonly #options: AnchorsOptions;
  readonly #timer: NodeJS.Timeout;
  #place: ChainPlace | undefined;
  #last: ChainPlace | undefined;

  constructor(options: AnchorsOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.write(), options.intervalMs);
    this.#timer.unref();
  }

  /** The last one; undefined before the first. */
  get last(): ChainPlace | undefined {
    return this.#last;
  }

  /** Everything up to this place has been written. */
  reached(place: ChainPlace): void {
    this.#place = place;
    if (place.seq - (this.#last?.seq ?? 0) >= this.#options.lines) {
      this.write();
    }
  }

  /** Writes one now, unless the last is of the same place. */
  write(): void {
    const place = this.#place;
    if (place === undefined || place.seq === this.#last?.seq) {
      return;
    }
    const { run, file, log, failed } = this.#options;
    this.#last = place;
    log(anchorText({ run, ...place }));
    if (file !== undefined) {
      try {
        append(
          file,
          `${JSON.stringify({ anchor: 1, time: isoTime(Date.now()), run, seq: place.seq, mac: place.mac })}\n`,
        );
      } catch (error) {
        failed(`${file}: ${(error as NodeJS.ErrnoException).code ?? String(error)}`);
      }
    }
  }

  /** Writes the last one. */
  close(): void {
    clearInterval(this.#timer);
    this.write();
  }
}

/** Opened anew each time: the place may be another machine's, and come and go. */
function append(path: string, line: string): void {
  const { O_WRONLY, O_APPEND, O_CREAT, O_NOFOLLOW } = constants;
  const fd = openSync(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0o640);
  try {
    writeSync(fd, line);
  } finally {
    closeSync(fd);
  }
}

/** `RUN.SEQ.MAC`, as lines of the log have it in their field `anchor`. */
export function anchorText({ run, seq, mac }: Pick<Anchor, 'run' | 'seq' | 'mac'>): string {
  return `${run}.${seq}.${mac}`;
}

/**
 * The anchor in a line of an anchor file, or in a line of the agent's log. Undefined for any other line.
 */
export function anchorOf(line: string): Anchor | undefined {
  let read: Record<string, unknown>;
  try {
    read = JSON.parse(line) as Record<string, unknown>;
  } catch {
    return undefined;
  }
  const time = typeof read?.time === 'string' ? read.time : '';
  if (read?.anchor === 1) {
    return checked(read.run, read.seq, read.mac, time);
  }
  const [, run, seq, mac] = /^([\w-]+)\.(\d+)\.([\w-]{43})$/.exec(String(read?.anchor)) ?? [];
  return checked(run, Number(seq), mac, time);
}

function checked(run: unknown, seq: unknown, mac: unknown, time: string): Anchor | undefined {
  return typeof run === 'string' && Number.isSafeInteger(seq) && typeof mac === 'string'
    ? { run, seq: seq as number, mac, time }
    : undefined;
}
