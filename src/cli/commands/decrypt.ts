import { isUtf8 } from 'node:buffer';
import { statSync } from 'node:fs';
import type { DecryptOptions } from '../../client/types.ts';
import { decodeTokenText, TOKEN_TEXT_PREFIX } from '../../envelope/token-text.ts';
import { openClient } from '../agent-client.ts';
import { usageError } from '../exit.ts';
import { openTarget } from '../target-file.ts';
import { byteSize, type CommandLine, printResult, warn } from '../terminal.ts';
import { spliceFields } from './json-lines.ts';
import { openSource, readValueOptions, readWhole, type ValueOptions } from './value-options.ts';

/** What comes out was worth encrypting. */
const PLAINTEXT_MODE = 0o600;
/** First byte of a token in bytes; no UTF-8 text begins with it. */
const TOKEN_MAGIC = 0xc1;
/** Head, tag and line end around a token, with room to spare: what is longer cannot open. */
const TEXT_ALLOWANCE = 128;

export async function decrypt(
  line: CommandLine,
  raw: Record<string, unknown>,
  operand: string | undefined,
): Promise<void> {
  const options = readValueOptions(raw);
  const binding = bindingOf(options, raw.anyKey === true);
  if (options.fields.length > 0) {
    await spliceFields(line, 'decrypt', options, operand, binding);
    return;
  }
  await using agent = await openClient(line);
  const { client, limits } = agent;
  const token = await tokenOf(limits.maxPayload, options, operand);
  const plaintext = await client.decrypt(token, binding);
  const target = await openTarget(options.output, PLAINTEXT_MODE);
  if (target.isStandardOutput && line.json) {
    const text = Buffer.from(plaintext.buffer, plaintext.byteOffset, plaintext.length);
    const document = isUtf8(text) ? { plaintext: text.toString('utf8') } : { plaintextBase64: text.toString('base64') };
    printResult(line, { ...document, bytes: plaintext.length }, '');
    return;
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

async function tokenOf(maxPayload: number, options: ValueOptions, operand: string | undefined): Promise<Uint8Array> {
  if (operand !== undefined && operand !== '-') {
    if (options.input !== undefined) {
      throw usageError('both a token and --input are given');
    }
    if (!operand.startsWith(TOKEN_TEXT_PREFIX) && statSync(operand, { throwIfNoEntry: false })?.isFile()) {
      throw usageError(`'${operand}' is the name of a file here`, `--input '${operand}' decrypts what is in it`);
    }
    return decodeTokenText(operand);
  }
  const limit = Math.ceil(maxPayload / 3) * 4 + TEXT_ALLOWANCE;
  const bytes = await readWhole(await openSource(options.input), limit);
  return bytes[0] === TOKEN_MAGIC ? bytes : decodeTokenText(bytes.toString('latin1').trimEnd());
}
