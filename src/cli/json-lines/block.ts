/**
 * One stretch of whole lines on its way through: named values out, ciphertexts (or plaintexts) spliced in.
 *
 * A block is cut short at the first line that cannot be done; what comes before it is still good, so that an output is
 * always a prefix of whole lines of the right result.
 */
import { isUtf8 } from 'node:buffer';
import type { FieldSet } from '../../client/fields/field-path.ts';
import type { ManyResult } from '../../client/types.ts';
import { DekdError, type ErrorCode } from '../../errors.ts';
import { checkValue, JsonSyntaxError, Matches, scanLine } from './scanner.ts';
import { looksLikeToken, quotedTokenLength, readQuotedToken, writeQuotedToken } from './token-text.ts';

const NEWLINE = 0x0a;
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf]);

export interface BlockPosition {
  /** Number of the first line, from 1. */
  readonly line: number;
  /** Bytes of the input before the block. */
  readonly offset: number;
}

/** What was done, and the error that stopped it, if any. */
export interface BlockOutcome {
  readonly output: Buffer;
  readonly problem: DekdError | undefined;
}

export class Block {
  /** Whole lines; the last byte is a newline. */
  readonly #bytes: Buffer;
  readonly #position: BlockPosition;
  readonly #fields: FieldSet;
  readonly #matches = new Matches();
  /** Offset of the first line that is not done; the length of the block when all are. */
  #end: number;
  #problem: DekdError | undefined;
  /** Lines scanned, blank ones among them, and without them; of no meaning once there is a problem. */
  lines = 0;
  records = 0;
  /** Line of the first value whose surroundings have another shape than its path says, or 0. */
  readonly firstMisshapenLine: number;

  /** Scans at once; `bytes` must not change until the outcome is there. */
  constructor(bytes: Buffer, position: BlockPosition, fields: FieldSet) {
    this.#bytes = bytes;
    this.#position = position;
    this.#fields = fields;
    this.#end = bytes.length;
    this.#scan();
    this.firstMisshapenLine = this.#matches.firstMisshapen < 0 ? 0 : this.#lineOf(this.#matches.firstMisshapen);
  }

  get problem(): DekdError | undefined {
    return this.#problem;
  }

  get misshapen(): number {
    return this.#matches.misshapen;
  }

  /** The JSON texts to encrypt, by field index: views of the block. */
  plaintexts(): Uint8Array[][] {
    const values = this.#perField();
    for (let index = 0; index < this.#matches.count; index += 1) {
      values[this.#matches.field(index)]!.push(
        this.#bytes.subarray(this.#matches.start(index), this.#matches.end(index)),
      );
    }
    return values;
  }

  /** How many of the values are tokens already. */
  countTokens(): number {
    let count = 0;
    for (let index = 0; index < this.#matches.count; index += 1) {
      count += looksLikeToken(this.#bytes, this.#matches.start(index), this.#matches.end(index)) ? 1 : 0;
    }
    return count;
  }

  /** The tokens to decrypt, by field index. A value that is no token cuts the block short at its line. */
  tokens(): Uint8Array[][] {
    const values = this.#perField();
    // Base64url grows what it carries, so all tokens together are shorter than the block.
    const room = Buffer.allocUnsafeSlow(this.#bytes.length);
    let used = 0;
    for (let index = 0; index < this.#matches.count; index += 1) {
      const length = this.#readToken(index, room, used);
      if (length <= 0) {
        this.#stopAt(index, 'MALFORMED', 'the value is not a token (a string that begins with dk1.)');
        break;
      }
      values[this.#matches.field(index)]!.push(room.subarray(used, used + length));
      used += length;
    }
    // Tokens after the cut are not asked for.
    const left = this.#perField().map(() => 0);
    for (let index = 0; index < this.#matches.count; index += 1) {
      left[this.#matches.field(index)]! += 1;
    }
    return values.map((list, field) => list.slice(0, left[field]));
  }

  /** Splices the tokens in. */
  withTokens(results: readonly (readonly ManyResult[])[]): BlockOutcome {
    return this.#splice(
      results,
      (value) => quotedTokenLength(value.length),
      (out, at, value) => writeQuotedToken(out, at, value),
    );
  }

  /** Splices the plaintexts in, each checked to be one JSON value: anything else would change the line around it. */
  withPlaintexts(results: readonly (readonly ManyResult[])[]): BlockOutcome {
    return this.#splice(
      results,
      (value) => value.length,
      (out, at, value) => {
        out.set(value, at);
        const end = at + value.length;
        out[end] = NEWLINE;
        checkValue(out, at, end);
        if (!isUtf8(value)) {
          throw new JsonSyntaxError(at, 'not UTF-8');
        }
        return end;
      },
    );
  }

  #scan(): void {
    const bytes = this.#bytes;
    const allUtf8 = isUtf8(bytes);
    let start = this.#position.offset === 0 && bytes.subarray(0, 3).equals(BYTE_ORDER_MARK) ? 3 : 0;
    while (start < bytes.length) {
      try {
        const end = scanLine(bytes, start, this.#fields, this.#matches);
        const newline = end < 0 ? ~end : end;
        if (!allUtf8 && !isUtf8(bytes.subarray(start, newline))) {
          throw new JsonSyntaxError(start, 'the line is not UTF-8');
        }
        this.records += end < 0 ? 0 : 1;
        this.lines += 1;
        start = newline + 1;
      } catch (error) {
        if (!(error instanceof JsonSyntaxError)) {
          throw error;
        }
        this.#stop(error.offset, 'INVALID_ARGUMENT', `not valid JSON: ${error.message}`);
        return;
      }
    }
  }

  #readToken(index: number, room: Buffer, used: number): number {
    const start = this.#matches.start(index);
    const end = this.#matches.end(index);
    if (looksLikeToken(this.#bytes, start, end)) {
      return readQuotedToken(this.#bytes, start, end, room, used);
    }
    const text = this.#bytes.subarray(start, end);
    if (text[0] !== 0x22 || !text.includes(0x5c)) {
      return -1;
    }
    // A writer of JSON may escape any character; the string it says is what counts.
    const plain = Buffer.from(`"${JSON.parse(text.toString('utf8'))}"`, 'utf8');
    return looksLikeToken(plain, 0, plain.length) ? readQuotedToken(plain, 0, plain.length, room, used) : -1;
  }

  #splice(
    results: readonly (readonly ManyResult[])[],
    lengthOf: (value: Uint8Array) => number,
    write: (out: Buffer, at: number, value: Uint8Array) => number,
  ): BlockOutcome {
    const matches = this.#matches;
    const cursors = results.map(() => 0);
    const values: Uint8Array[] = [];
    let grown = 0;
    for (let index = 0; index < matches.count; index += 1) {
      const field = matches.field(index);
      const result = results[field]![cursors[field]!++]!;
      if (!result.ok) {
        const { code, message, incident } = result.error;
        this.#stopAt(index, code, message, incident);
        break;
      }
      values.push(result.value);
      grown += lengthOf(result.value) - (matches.end(index) - matches.start(index));
    }
    // One byte more: the check of a plaintext puts a newline after it. What a cut leaves out only makes it shorter.
    const out = Buffer.allocUnsafeSlow(this.#bytes.length + Math.max(grown, 0) + 1);
    let at = 0;
    let copied = 0;
    for (let index = 0; index < matches.count; index += 1) {
      at += this.#bytes.copy(out, at, copied, matches.start(index));
      try {
        at = write(out, at, values[index]!);
      } catch (error) {
        if (!(error instanceof JsonSyntaxError)) {
          throw error;
        }
        this.#stopAt(
          index,
          'INVALID_ARGUMENT',
          'the plaintext is not one JSON value: it was not encrypted with --fields',
        );
        // The lines before this one, again: what was written of it is not worth unpicking.
        return this.#splice(results, lengthOf, write);
      }
      copied = matches.end(index);
    }
    at += this.#bytes.copy(out, at, copied, this.#end);
    return { output: out.subarray(0, at), problem: this.#problem };
  }

  /** Cuts the block before the line of match `index`. */
  #stopAt(index: number, code: ErrorCode, message: string, incident?: string): void {
    const path = this.#fields.paths[this.#matches.field(index)]!;
    this.#stop(this.#matches.start(index), code, `field '${path}': ${message}`, incident);
  }

  #stop(offset: number, code: ErrorCode, message: string, incident?: string): void {
    const lineStart = this.#lineStart(offset);
    const line = this.#lineOf(offset);
    const where = `line ${line}, byte ${offset - lineStart + 1} (offset ${this.#position.offset + offset})`;
    this.#problem = new DekdError(code, `${where}: ${message}`, incident === undefined ? {} : { incident });
    this.#end = lineStart;
    this.#matches.cutAt(lineStart);
  }

  #lineStart(offset: number): number {
    return offset === 0 ? 0 : this.#bytes.lastIndexOf(NEWLINE, offset - 1) + 1;
  }

  #lineOf(offset: number): number {
    let line = this.#position.line;
    let at = this.#bytes.indexOf(NEWLINE);
    while (at >= 0 && at < offset) {
      line += 1;
      at = this.#bytes.indexOf(NEWLINE, at + 1);
    }
    return line;
  }

  #perField(): Uint8Array[][] {
    return this.#fields.paths.map(() => []);
  }
}
