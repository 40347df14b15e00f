import { isUtf8 } from 'node:buffer';
import { existsSync, statSync } from 'node:fs';
import { Readable } from 'node:stream';
import { fileWays } from '../../client/client.ts';
import type { DecryptOptions } from '../../client/types.ts';
import { decodeTokenText, TOKEN_TEXT_PREFIX } from '../../envelope/token-text.ts';
import { openClient } from '../agent-client.ts';
import { usageError } from '../exit.ts';
import { openTarget } from '../target-file.ts';
import { byteSize, type CommandLine, printResult, warn } from '../terminal.ts';
import type { ByteSpan } from './byte-span.ts';
import { decryptRange } from './decrypt-range.ts';
import { runFolders } from './folder-run.ts';
import { spliceFields } from './json-lines.ts';
import { MESSAGE_START, passMessage } from './messages.ts';
import {
  folderOf,
  openSource,
  operandOf,
  readValueOptions,
  readWhole,
  type Source,
  tokenIn,
  type ValueOptions,
} from './value-options.ts';

/** What comes out was worth encrypting. */
const PLAINTEXT_MODE = 0o600;
/** Head, tag and line end around a token, with room to spare: what is longer cannot open. */
const TEXT_ALLOWANCE = 128;

export async function decrypt(
  line: CommandLine,
  raw: Record<string, unknown>,
  operands: readonly string[],
): Promise<number | undefined> {
  const options = readValueOptions(raw);
  const binding = bindingOf(options, raw.anyKey === true);
  if (raw.range !== undefined) {
    if (raw.recursive === true) {
      throw usageError('--range is of one message; it does not go with -r');
    }
    await decryptRange(line, raw.range as ByteSpan, options, operands, binding, PLAINTEXT_MODE);
    return undefined;
  }
  if (raw.recursive === true || operands.length > 1) {
    return decryptFolders(line, raw, operands, options, binding);
  }
  const operand = operands[0];
  if (options.fields.length > 0) {
    await spliceFields(line, 'decrypt', options, operand, binding);
    return undefined;
  }
  await using agent = await openClient(line);
  const { client, limits } = agent;
  const given = await inputOf(options, operand);
  if (given instanceof Begun && given.isMessage) {
    if (line.json && options.output === undefined) {
      throw usageError('what a message holds is bytes of any number, which are no JSON', 'name a file with -o');
    }
    await passMessage(line, {
      direction: 'decrypt',
      source: { ...given.source, open: () => given.whole() },
      ways: fileWays(client).decrypt(binding),
      output: options.output,
      mode: PLAINTEXT_MODE,
    });
    return undefined;
  }
  const token = given instanceof Begun ? await tokenOf(limits.maxPayload, given) : given;
  const plaintext = await client.decrypt(token, binding);
  const target = await openTarget(options.output, PLAINTEXT_MODE);
  if (target.isStandardOutput && line.json) {
    const text = Buffer.from(plaintext.buffer, plaintext.byteOffset, plaintext.length);
    const document = isUtf8(text) ? { plaintext: text.toString('utf8') } : { plaintextBase64: text.toString('base64') };
    printResult(line, { ...document, bytes: plaintext.length }, '');
    return undefined;
  }
  await target.write(plaintext);
  await target.commit();
  if (target.isStandardOutput) {
    // The bytes are exact, but a prompt glued to them would hide that.
    if (process.stdout.isTTY && plaintext.at(-1) !== 0x0a) {
      process.stdout.write('\n');
    }
  } else if (line.json) {
    printResult(line, { output: options.output, bytes: plaintext.length }, '');
  } else if (process.stderr.isTTY) {
    warn(`${byteSize(plaintext.length)} decrypted to ${options.output}`);
  }
  return undefined;
}

async function decryptFolders(
  line: CommandLine,
  raw: Record<string, unknown>,
  paths: readonly string[],
  options: ValueOptions,
  binding: DecryptOptions,
): Promise<number> {
  if (paths.some((path) => path.startsWith(TOKEN_TEXT_PREFIX) && !existsSync(path))) {
    throw usageError('one token at a time', 'many values are for --fields, or for a program with the client');
  }
  const output = folderOf(options, paths);
  await using agent = await openClient(line);
  return await runFolders(line, {
    direction: 'decrypt',
    paths,
    isRecursive: raw.recursive === true,
    output,
    overwrite: raw.overwrite === true,
    mode: PLAINTEXT_MODE,
    ways: fileWays(agent.client).decrypt(binding),
  });
}

function bindingOf({ key, partition, context }: ValueOptions, anyKey: boolean): DecryptOptions {
  if (anyKey) {
    if (key !== undefined || partition !== undefined) {
      throw usageError("--any-key takes the token's own key and partition; it does not go with --key or --partition");
    }
    return { anyKey: true, context };
  }
  if (key === undefined) {
    throw usageError('no key is named', 'add --key NAME: the key the token must be of');
  }
  return { key, partition, context };
}

/** The token on the command line, or the beginning of what is read. */
async function inputOf(options: ValueOptions, operand: string | undefined): Promise<Uint8Array | Begun> {
  const given = operandOf(operand, options.input, 'token');
  if (given === undefined) {
    return Begun.of(await openSource(options.input));
  }
  if (!given.startsWith(TOKEN_TEXT_PREFIX) && statSync(given, { throwIfNoEntry: false })?.isFile()) {
    throw usageError(`'${given}' is the name of a file here`, `--input '${given}' decrypts what is in it`);
  }
  return decodeTokenText(given);
}

async function tokenOf(maxPayload: number, begun: Begun): Promise<Uint8Array> {
  const limit = Math.ceil(maxPayload / 3) * 4 + TEXT_ALLOWANCE;
  const bytes = await readWhole({ ...begun.source, open: () => begun.whole() }, limit);
  return tokenIn(bytes, begun.source).token;
}

/** A source whose first bytes were read, to see what it is. */
class Begun {
  readonly source: Source;
  readonly #first: Buffer;
  readonly #rest: AsyncIterator<Buffer>;

  private constructor(source: Source, first: Buffer, rest: AsyncIterator<Buffer>) {
    this.source = source;
    this.#first = first;
    this.#rest = rest;
  }

  static async of(source: Source): Promise<Begun> {
    const chunks: AsyncIterator<Buffer> = source.open()[Symbol.asyncIterator]();
    const { value } = await chunks.next();
    return new Begun(source, value ?? Buffer.alloc(0), chunks);
  }

  get isMessage(): boolean {
    return this.#first[0] === MESSAGE_START;
  }

  /** All of it, from the first byte. */
  whole(): Readable {
    const first = this.#first;
    const rest = this.#rest;
    return Readable.from(
      (async function* () {
        yield first;
        yield* { [Symbol.asyncIterator]: () => rest };
      })(),
      { objectMode: false },
    );
  }
}
