import { stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { fileStream } from '../../client/message-file.ts';
import { lookAlike, TOKEN_FORMAT } from '../../envelope/token.ts';
import { decodeTokenText, TOKEN_TEXT_PREFIX } from '../../envelope/token-text.ts';
import { DekdError } from '../../errors.ts';
import { CommandError, EXIT, usageError } from '../exit.ts';
import { byteSize, warn } from '../terminal.ts';

/** What `encrypt` and `decrypt` have in common. */
export interface ValueOptions {
  readonly key: string | undefined;
  readonly partition: string | undefined;
  readonly context: Readonly<Record<string, string>>;
  /** Paths of JSON Lines; empty when the whole input is one value. */
  readonly fields: readonly string[];
  readonly input: string | undefined;
  readonly output: string | undefined;
}

export function readValueOptions(options: Record<string, unknown>): ValueOptions {
  return {
    key: options.key as string | undefined,
    partition: options.partition as string | undefined,
    context: parseContext(options.context as string[]),
    fields: options.fields as string[],
    input: options.input as string | undefined,
    output: options.output as string | undefined,
  };
}

/**
 * The operand, unless there is none or it stands for standard input.
 * @param what the operand is
 * @throws CommandError (usage) when `--input` is given as well
 */
export function operandOf(operand: string | undefined, input: string | undefined, what: string): string | undefined {
  if (operand === undefined || operand === '-') {
    return undefined;
  }
  if (input !== undefined) {
    throw usageError(`both a ${what} and --input are given`);
  }
  return operand;
}

/** `name=value` pairs; the value is everything after the first `=`. */
export function parseContext(pairs: readonly string[]): Record<string, string> {
  const context: Record<string, string> = Object.create(null);
  for (const pair of pairs) {
    const at = pair.indexOf('=');
    if (at < 1) {
      throw usageError(`context '${pair}' is not name=value`);
    }
    const name = pair.slice(0, at);
    if (name in context) {
      throw usageError(`context '${name}' is given twice`);
    }
    context[name] = pair.slice(at + 1);
  }
  return context;
}

/** The folder that the results of many files go to. @throws CommandError (usage) */
export function folderOf({ input, output, fields }: ValueOptions, paths: readonly string[]): string {
  if (input !== undefined || fields.length > 0) {
    throw usageError('--input and --fields are of one value; they do not go with several files or -r');
  }
  if (paths.length === 0) {
    throw usageError('no file or folder is named');
  }
  if (output === undefined || output === '-') {
    throw usageError('many files need a folder to go to', 'add -o FOLDER');
  }
  return output;
}

/** Where the bytes come from: a file, or standard input. */
export interface Source {
  /** For messages. */
  readonly name: string;
  /** Size in bytes where it is known beforehand. */
  readonly size: number | undefined;
  /** Of a regular file; undefined for anything else. */
  readonly path: string | undefined;
  open(): Readable;
}

export async function openSource(path: string | undefined): Promise<Source> {
  if (path === undefined || path === '-') {
    if (process.stdin.isTTY) {
      warn('reading from the terminal; end with Ctrl-D on a line of its own');
    }
    return { name: 'standard input', size: undefined, path: undefined, open: () => process.stdin };
  }
  const stats = await stat(path);
  if (stats.isDirectory()) {
    throw usageError(`${path} is a folder`);
  }
  return {
    name: path,
    size: stats.isFile() ? stats.size : undefined,
    path: stats.isFile() ? path : undefined,
    open: () => fileStream(path),
  };
}

/**
 * The whole of a source.
 *
 * @param limit bytes beyond which nothing is kept
 * @throws when there is more, naming size (where known) and limit
 */
export async function readWhole(source: Source, limit: number): Promise<Buffer> {
  if (source.size !== undefined && source.size > limit) {
    throw tooLarge(source, limit, source.size);
  }
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of source.open()) {
    chunks.push(chunk as Buffer);
    length += (chunk as Buffer).length;
    if (length > limit) {
      throw tooLarge(source, limit, undefined);
    }
  }
  return Buffer.concat(chunks, length);
}

/** The token that a source holds, in either form. @throws MALFORMED */
export function tokenIn(
  bytes: Buffer,
  source: Source,
): { readonly token: Uint8Array; readonly form: 'binary' | 'text' } {
  if (bytes[0] === TOKEN_FORMAT) {
    return { token: bytes, form: 'binary' };
  }
  const text = bytes.toString('latin1').trimEnd();
  if (text !== '' && !text.startsWith(TOKEN_TEXT_PREFIX)) {
    const known = lookAlike(text);
    throw new DekdError(
      'MALFORMED',
      `${source.name} is neither a token nor a message${known === undefined ? '' : `: ${known}`}`,
    );
  }
  return { token: decodeTokenText(text), form: 'text' };
}

function tooLarge(source: Source, limit: number, size: number | undefined): CommandError {
  const found = size === undefined ? `more than ${limit} bytes` : `${size} bytes (${byteSize(size)})`;
  return new CommandError(
    EXIT.failed,
    'INVALID_ARGUMENT',
    `${source.name} has ${found}; the limit for one value is ${limit} bytes (${byteSize(limit)})`,
    'a message has no such limit: add --message; or encrypt JSON Lines with --fields',
  );
}
