import { pipeline } from 'node:stream/promises';
import { writableTo } from '../../client/message-file.ts';
import type { DecryptOptions } from '../../client/types.ts';
import { openClient } from '../agent-client.ts';
import { ByteProgress } from '../byte-progress.ts';
import { usageError } from '../exit.ts';
import { openTarget } from '../target-file.ts';
import { byteSize, type CommandLine, printResult, warn } from '../terminal.ts';
import type { ByteSpan } from './byte-span.ts';
import { operandOf, type ValueOptions } from './value-options.ts';

/** Writes a part of what a message holds, of which only that is read. @throws what `decryptRange` of the client throws */
export async function decryptRange(
  line: CommandLine,
  { first, last }: ByteSpan,
  options: ValueOptions,
  operands: readonly string[],
  binding: DecryptOptions,
  mode: number,
): Promise<void> {
  const { fields, input, output } = options;
  const path = operandOf(operands[0], input, 'file') ?? input;
  if (operands.length > 1 || fields.length > 0) {
    throw usageError('--range is of one message; it does not go with several files or --fields');
  }
  if (path === undefined || path === '-') {
    throw usageError('a range is read from the middle of a file, which standard input has not', 'name a file');
  }
  if (line.json && output === undefined) {
    throw usageError('what a message holds is bytes of any number, which are no JSON', 'name a file with -o');
  }
  await using agent = await openClient(line);
  const range = { start: first, end: last === undefined ? undefined : last + 1 };
  const target = await openTarget(output, mode);
  const progress = new ByteProgress(last === undefined ? undefined : last + 1 - first);
  try {
    await pipeline(agent.client.decryptRangeStream(path, range, binding), progress.counting(), writableTo(target));
    await target.commit();
  } catch (error) {
    await target.discard();
    throw error;
  } finally {
    progress.clear();
  }
  if (target.isStandardOutput) {
    return;
  }
  if (line.json) {
    printResult(line, { output, bytes: progress.bytes }, '');
  } else if (process.stderr.isTTY) {
    warn(`${byteSize(progress.bytes)} decrypted to ${output}`);
  }
}
