/**
 * JSON Lines in, JSON Lines out, the named values encrypted, decrypted or re-encrypted, every other byte as it was.
 *
 * Blocks of whole lines are scanned as they arrive and sent as batches, several in flight; outputs are written in the
 * order of the input. Memory is bounded: blocks in flight, and one block being collected, after which the input is not
 * read. A block is sent as soon as there is room for it, however small, so that a producer that waits for the answer to
 * its last line gets it.
 */
import type { Readable } from 'node:stream';
import type { FieldSet } from '../../client/fields/field-path.ts';
import type { ManyResult } from '../../client/types.ts';
import { DekdError } from '../../errors.ts';
import { Block, type BlockOutcome } from './block.ts';
import { LineCutter } from './line-cutter.ts';

const MAX_BLOCKS_IN_FLIGHT = 4;
/** Enough for batches of a few thousand values, small enough that two of them overlap in a file of a few megabytes. */
const BLOCK_BYTES = 256 * 1024;
/** A line has to be held whole. */
const MAX_LINE_BYTES = 64 * 1024 * 1024;

export type Direction = 'encrypt' | 'decrypt' | 'reencrypt';

/** Encrypts, decrypts or re-encrypts the values of one field; one result per value, in order. */
export type FieldCipher = (
  values: readonly Uint8Array[],
  path: string,
  signal: AbortSignal,
) => Promise<readonly ManyResult[]>;

export interface SpliceOptions {
  readonly direction: Direction;
  readonly fields: FieldSet;
  readonly cipher: FieldCipher;
  /** Called after every write. */
  readonly onProgress?: ((report: SpliceReport) => void) | undefined;
  readonly maxLineBytes?: number | undefined;
}

export interface SpliceReport {
  /** Lines that are not blank. */
  readonly records: number;
  readonly values: number;
  /** Values by path; 0 for a path that no record has. */
  readonly fields: Readonly<Record<string, number>>;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Values left as they were because what holds them is not the object or array that the path says. */
  readonly misshapen: number;
  /** Number of the first line with one, or 0. */
  readonly firstMisshapenLine: number;
  /** Values that were tokens before they were encrypted. */
  readonly tokensEncrypted: number;
}

/**
 * Runs to the end of `input`.
 *
 * @param write takes ownership of the bytes and resolves when more may be written; called one at a time.
 * @throws DekdError naming line and byte; what was written before is a prefix of the right output, in whole lines.
 */
export async function spliceJsonLines(
  input: Readable,
  write: (bytes: Buffer) => Promise<void>,
  options: SpliceOptions,
): Promise<SpliceReport> {
  return new Splicer(input, write, options).run();
}

class Splicer {
  readonly #input: Readable;
  readonly #write: (bytes: Buffer) => Promise<void>;
  readonly #options: SpliceOptions;
  readonly #cutter = new LineCutter();
  readonly #abort = new AbortController();
  readonly #maxLineBytes: number;

  /** Settles when everything sent so far is written. */
  #written: Promise<void> = Promise.resolve();
  #inFlight = 0;
  /** No further block is sent. */
  #stopped = false;
  #failure: unknown;
  #failed = false;
  #wake: (() => void) | undefined;

  #line = 1;
  #offset = 0;
  #records = 0;
  #values = 0;
  #bytesWritten = 0;
  #misshapen = 0;
  #firstMisshapenLine = 0;
  #tokensEncrypted = 0;
  readonly #valuesPerField: number[];

  constructor(input: Readable, write: (bytes: Buffer) => Promise<void>, options: SpliceOptions) {
    this.#input = input;
    this.#write = write;
    this.#options = options;
    this.#maxLineBytes = options.maxLineBytes ?? MAX_LINE_BYTES;
    this.#valuesPerField = options.fields.paths.map(() => 0);
  }

  async run(): Promise<SpliceReport> {
    try {
      await this.#readAll();
    } catch (error) {
      // Stopping destroys the input, which the loop over it reports as an error of its own.
      if (!this.#stopped) {
        this.#fail(error);
      }
    }
    while (!this.#stopped && this.#cutter.length > 0) {
      this.#send();
      if (!this.#stopped && this.#inFlight < MAX_BLOCKS_IN_FLIGHT && this.#cutter.length > 0) {
        this.#sendBlock(this.#cutter.takeRest(), true);
      } else {
        await this.#change();
      }
    }
    await this.#written.catch(() => {});
    if (this.#failed) {
      throw this.#failure;
    }
    return this.#report();
  }

  async #readAll(): Promise<void> {
    for await (const chunk of this.#input) {
      this.#cutter.push(chunk as Buffer);
      this.#send();
      while (!this.#stopped && this.#cutter.hasLines && this.#cutter.length >= BLOCK_BYTES) {
        await this.#change();
      }
      if (this.#cutter.unfinished > this.#maxLineBytes && !this.#stopped) {
        await this.#written;
        throw new DekdError(
          'INVALID_ARGUMENT',
          `line ${this.#line} is longer than ${this.#maxLineBytes} bytes: is this JSON Lines, one value a line?`,
        );
      }
      if (this.#stopped) {
        return;
      }
    }
  }

  /** Sends what there is, while there is room. */
  #send(): void {
    while (!this.#stopped && this.#cutter.hasLines && this.#inFlight < MAX_BLOCKS_IN_FLIGHT) {
      this.#sendBlock(this.#cutter.takeLines(), false);
    }
  }

  #sendBlock(bytes: Buffer, addedNewline: boolean): void {
    const block = new Block(bytes, { line: this.#line, offset: this.#offset }, this.#options.fields);
    this.#line += block.lines;
    this.#offset += bytes.length - (addedNewline ? 1 : 0);
    this.#records += block.records;
    this.#misshapen += block.misshapen;
    this.#firstMisshapenLine ||= block.firstMisshapenLine;
    this.#inFlight += 1;
    if (block.problem !== undefined) {
      this.#stop();
    }
    const outcome = this.#transform(block);
    // Awaited in its turn below; until then a rejection is not unhandled.
    outcome.catch(() => {});
    this.#written = this.#written.then(() => this.#finish(outcome, addedNewline));
    this.#written.catch((error: unknown) => this.#fail(error));
  }

  async #transform(block: Block): Promise<BlockOutcome> {
    const { direction, cipher, fields } = this.#options;
    const values = direction === 'encrypt' ? block.plaintexts() : block.tokens();
    if (direction === 'encrypt') {
      this.#tokensEncrypted += block.countTokens();
    }
    const results = await Promise.all(
      values.map((list, field) => {
        this.#values += list.length;
        this.#valuesPerField[field]! += list.length;
        return list.length === 0 ? [] : cipher(list, fields.paths[field]!, this.#abort.signal);
      }),
    );
    return direction === 'decrypt' ? block.withPlaintexts(results) : block.withTokens(results);
  }

  async #finish(pending: Promise<BlockOutcome>, addedNewline: boolean): Promise<void> {
    const { output, problem } = await pending;
    const whole = addedNewline && problem === undefined ? output.subarray(0, -1) : output;
    if (whole.length > 0) {
      await this.#write(whole);
      this.#bytesWritten += whole.length;
    }
    if (problem !== undefined) {
      throw problem;
    }
    this.#inFlight -= 1;
    this.#send();
    this.#wake?.();
    this.#options.onProgress?.(this.#report());
  }

  /** Resolves after the next block is written, or when there is nothing more to wait for. */
  #change(): Promise<void> {
    return this.#stopped
      ? Promise.resolve()
      : new Promise((resolve) => {
          this.#wake = resolve;
        });
  }

  #stop(): void {
    this.#stopped = true;
    this.#input.destroy();
    this.#wake?.();
  }

  #fail(error: unknown): void {
    if (this.#failed) {
      return;
    }
    this.#failed = true;
    this.#failure = error;
    this.#abort.abort(error);
    this.#stop();
  }

  #report(): SpliceReport {
    return {
      records: this.#records,
      values: this.#values,
      fields: Object.fromEntries(this.#options.fields.paths.map((path, index) => [path, this.#valuesPerField[index]!])),
      bytesRead: this.#offset,
      bytesWritten: this.#bytesWritten,
      misshapen: this.#misshapen,
      firstMisshapenLine: this.#firstMisshapenLine,
      tokensEncrypted: this.#tokensEncrypted,
    };
  }
}
