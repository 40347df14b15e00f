import { isUtf8 } from 'node:buffer';
import { existsSync, statSync } from 'node:fs';
import { fileWays } from '../../client/client.ts';
import type { EncryptStreamOptions } from '../../client/types.ts';
import { FILE_FRAME_LENGTH, STREAM_FRAME_LENGTH } from '../../envelope/frame-lengths.ts';
import { decodeTokenText, encodeTokenText, TOKEN_TEXT_PREFIX } from '../../envelope/token-text.ts';
import { openClient } from '../agent-client.ts';
import { usageError } from '../exit.ts';
import { openTarget } from '../target-file.ts';
import { byteSize, type CommandLine, printResult, warn } from '../terminal.ts';
import { runFolders } from './folder-run.ts';
import { spliceFields } from './json-lines.ts';
import { passMessage } from './messages.ts';
import { folderOf, openSource, operandOf, readValueOptions, readWhole, type ValueOptions } from './value-options.ts';

/** Tokens are not secret. */
const TOKEN_MODE = 0o666;
const SHOWN_BYTES = 1_024;

export async function encrypt(
  line: CommandLine,
  raw: Record<string, unknown>,
  operands: readonly string[],
): Promise<number | undefined> {
  const options = readValueOptions(raw);
  const { key, partition, context } = options;
  if (key === undefined) {
    throw usageError('no key is named', 'add --key NAME');
  }
  if (isFolderRun(raw, operands)) {
    return encryptFolders(line, raw, operands, options, { key, partition, context });
  }
  if (operands.length > 1) {
    throw usageError('one value at a time', 'of several files messages are made: add --message and -o FOLDER');
  }
  const value = operands[0];
  const binary = raw.binary === true;
  const show = raw.show === true;
  if (options.fields.length > 0) {
    if (binary || show) {
      throw usageError(`--${binary ? 'binary' : 'show'} does not go with --fields: tokens in JSON are text`);
    }
    await spliceFields(line, 'encrypt', options, value, { key, partition, context });
    return undefined;
  }
  if (raw.message === true) {
    await encryptMessage(line, options, value, raw, { key, partition, context });
    return undefined;
  }
  if (raw.frameLength !== undefined) {
    throw usageError('--frame-length is of messages', 'add --message');
  }
  await using agent = await openClient(line);
  const { client, limits } = agent;
  const plaintext = await plaintextOf(limits.maxPayload, options, value);
  const binding = { key, partition, context };
  const token = await client.encrypt(plaintext, binding);
  const target = await openTarget(options.output, TOKEN_MODE);
  const text = encodeTokenText(token);
  if (target.isStandardOutput && line.json) {
    printResult(line, { token: text, key, partition: partition ?? '', bytes: plaintext.length }, '');
  } else {
    await target.write(binary ? token : Buffer.from(`${text}\n`, 'latin1'));
    await target.commit();
    if (!target.isStandardOutput) {
      report(line, options.output!, plaintext.length);
    }
  }
  if (show) {
    warn(`opens again: ${shown(await client.decrypt(decodeTokenText(text), binding))}`);
  }
  return undefined;
}

/** A folder, or several files, each of which becomes a message of its own. */
function isFolderRun(raw: Record<string, unknown>, operands: readonly string[]): boolean {
  return raw.recursive === true || (raw.message === true && operands.length > 1);
}

async function encryptFolders(
  line: CommandLine,
  raw: Record<string, unknown>,
  paths: readonly string[],
  options: ValueOptions,
  binding: EncryptStreamOptions,
): Promise<number> {
  refuseTokenOptions(raw);
  const output = folderOf(options, paths);
  await using agent = await openClient(line);
  const frameLength = (raw.frameLength as number | undefined) ?? FILE_FRAME_LENGTH;
  return await runFolders(line, {
    direction: 'encrypt',
    paths,
    isRecursive: raw.recursive === true,
    output,
    overwrite: raw.overwrite === true,
    mode: TOKEN_MODE,
    ways: fileWays(agent.client).encrypt({ ...binding, frameLength }),
  });
}

async function encryptMessage(
  line: CommandLine,
  options: ValueOptions,
  value: string | undefined,
  raw: Record<string, unknown>,
  binding: EncryptStreamOptions,
): Promise<void> {
  refuseTokenOptions(raw);
  const input = inputOf(options, value);
  if (options.output === undefined && process.stdout.isTTY) {
    throw usageError('a message is bytes, and standard output is a terminal', 'name a file with -o');
  }
  const source = await openSource(input);
  await using agent = await openClient(line);
  await passMessage(line, {
    direction: 'encrypt',
    source,
    ways: fileWays(agent.client).encrypt({
      ...binding,
      frameLength:
        (raw.frameLength as number | undefined) ??
        (source.size === undefined ? STREAM_FRAME_LENGTH : FILE_FRAME_LENGTH),
    }),
    output: options.output,
    mode: TOKEN_MODE,
  });
}

function refuseTokenOptions(raw: Record<string, unknown>): void {
  if (raw.show === true || raw.binary === true || raw.text === true) {
    throw usageError('--show, --binary and --text are of tokens; they do not go with --message and -r');
  }
}

/** The file that a message is made of; undefined for standard input. */
function inputOf(options: ValueOptions, operand: string | undefined): string | undefined {
  const given = operandOf(operand, options.input, 'file');
  if (given !== undefined && !existsSync(given)) {
    throw usageError(`'${given}' is no file: a message is made of a file or of standard input`);
  }
  return given ?? options.input;
}

async function plaintextOf(limit: number, options: ValueOptions, operand: string | undefined): Promise<Uint8Array> {
  const value = operandOf(operand, options.input, 'value');
  if (value === undefined) {
    return await readWhole(await openSource(options.input), limit);
  }
  // Someone who means the file would otherwise keep a token of its name, and perhaps delete the file.
  if (statSync(value, { throwIfNoEntry: false })?.isFile()) {
    throw usageError(
      `'${value}' is the name of a file here`,
      `--input '${value}' encrypts what is in it; to encrypt the name itself, write it to standard input`,
    );
  }
  if (value.startsWith(TOKEN_TEXT_PREFIX)) {
    warn('the value is a token already; it is encrypted once more');
  }
  return Buffer.from(value, 'utf8');
}

function report(line: CommandLine, output: string, bytes: number): void {
  if (line.json) {
    printResult(line, { output, bytes }, '');
  } else if (process.stderr.isTTY) {
    warn(`${byteSize(bytes)} encrypted to ${output}`);
  }
}

function shown(plaintext: Uint8Array): string {
  return plaintext.length <= SHOWN_BYTES && isUtf8(plaintext)
    ? Buffer.from(plaintext).toString('utf8')
    : `${plaintext.length} bytes`;
}
