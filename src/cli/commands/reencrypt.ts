/** `dekd reencrypt`: ciphertexts where they lie, moved to the newest version of their key inside the agent. */

import type { EncryptOptions } from '../../client/types.ts';
import { decodeTokenText, encodeTokenText, TOKEN_TEXT_PREFIX } from '../../envelope/token-text.ts';
import { openClient } from '../agent-client.ts';
import { usageError } from '../exit.ts';
import { runMessages } from '../reencrypt/message-run.ts';
import { type CommandLine, printResult } from '../terminal.ts';
import { spliceFields } from './json-lines.ts';
import { passMessage } from './messages.ts';
import { openSource, readValueOptions, type ValueOptions } from './value-options.ts';

const MESSAGE_MODE = 0o666;

export async function reencrypt(
  line: CommandLine,
  raw: Record<string, unknown>,
  operands: readonly string[],
): Promise<number | undefined> {
  const options = readValueOptions(raw);
  const { key, partition, context } = options;
  if (key === undefined) {
    throw usageError('no key is named', 'add --key NAME: the key the ciphertexts are of');
  }
  const binding = { key, partition, context };
  if (raw.table !== undefined) {
    if (operands.length > 0 || options.input !== undefined || options.output !== undefined || raw.recursive === true) {
      throw usageError('--table is of a database; it does not go with files');
    }
    const { reencryptTable } = await import('../reencrypt/table-command.ts');
    return await reencryptTable(line, raw, binding);
  }
  refuseTableOptions(raw);
  if (options.fields.length > 0) {
    if (operands.length > 1) {
      throw usageError('one file of JSON Lines at a time');
    }
    await spliceFields(line, 'reencrypt', options, operands[0], binding);
    return undefined;
  }
  const [operand] = operands;
  if (operand?.startsWith(TOKEN_TEXT_PREFIX)) {
    if (operands.length > 1 || options.output !== undefined) {
      throw usageError('one token at a time', 'many are for --fields, --table, or a program with the client');
    }
    await reencryptToken(line, operand, binding);
    return undefined;
  }
  const paths = options.input === undefined ? operands : [...operands, options.input];
  if (paths.length > 0 && !paths.includes('-') && options.output === undefined) {
    await using agent = await openClient(line);
    return await runMessages(line, {
      paths,
      isRecursive: raw.recursive === true,
      force: raw.force === true,
      through: () => agent.client.reencryptStream(binding),
    });
  }
  await reencryptOne(line, raw, paths, options, binding);
  return undefined;
}

async function reencryptToken(line: CommandLine, text: string, binding: EncryptOptions): Promise<void> {
  await using agent = await openClient(line);
  const token = encodeTokenText(await agent.client.reencrypt(decodeTokenText(text), binding));
  printResult(line, { token, key: binding.key, partition: binding.partition ?? '' }, token);
}

/** A message from one place to another. */
async function reencryptOne(
  line: CommandLine,
  raw: Record<string, unknown>,
  paths: readonly string[],
  { output }: ValueOptions,
  binding: EncryptOptions,
): Promise<void> {
  if (raw.recursive === true || paths.length > 1) {
    throw usageError('several files are re-encrypted where they are', 'leave -o out');
  }
  if (line.json && output === undefined) {
    throw usageError('a message is bytes, which are no JSON', 'name a file with -o');
  }
  await using agent = await openClient(line);
  const source = await openSource(paths[0]);
  await passMessage(line, {
    direction: 'reencrypt',
    source,
    ways: { through: () => agent.client.reencryptStream(binding) },
    output,
    mode: MESSAGE_MODE,
  });
}

/** Options of --table, which would be passed over without it. */
const TABLE_OPTIONS = [
  'column',
  'idColumn',
  'contextColumn',
  'partitionColumn',
  'pg',
  'pgUrlFile',
  'pgCa',
  'jobSchema',
  'batch',
  'rateLimit',
  'lease',
  'dryRun',
  'verify',
  'again',
];

function refuseTableOptions(raw: Record<string, unknown>): void {
  const given = TABLE_OPTIONS.find((name) => raw[name] !== undefined && raw[name] !== false && !isEmptyList(raw[name]));
  if (given !== undefined) {
    const option = given.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    throw usageError(`--${option} is of a database`, 'add --table NAME');
  }
}

function isEmptyList(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0;
}
