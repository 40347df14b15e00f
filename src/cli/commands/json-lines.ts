import type { DecryptOptions, DekdClient, EncryptOptions, ManyDecryptOptions, ManyResult } from '../../client/types.ts';
import { openClient } from '../agent-client.ts';
import { usageError } from '../exit.ts';
import { parseFields } from '../json-lines/field-list.ts';
import { type Direction, type SpliceReport, spliceJsonLines } from '../json-lines/splice.ts';
import { keepingCurrent } from '../reencrypt/tokens.ts';
import { openTarget, type Target } from '../target-file.ts';
import { byteSize, type CommandLine, count, plural, warn } from '../terminal.ts';
import { openSource, type ValueOptions } from './value-options.ts';

const MODE: Record<Direction, number> = { encrypt: 0o666, decrypt: 0o600, reencrypt: 0o666 };
const DONE: Record<Direction, string> = { encrypt: 'encrypted', decrypt: 'decrypted', reencrypt: 're-encrypted' };
const PROGRESS_INTERVAL_MS = 200;

/**
 * `encrypt --fields`, `decrypt --fields` and `reencrypt --fields`: JSON Lines in, JSON Lines out.
 *
 * The record context of a value is the one given and `field`, its path. A file is re-encrypted in its place unless another is
 * named, and left as it is when every token of it is under the newest version.
 */
export async function spliceFields(
  line: CommandLine,
  direction: Direction,
  options: ValueOptions,
  operand: string | undefined,
  binding: EncryptOptions | DecryptOptions,
): Promise<void> {
  if (operand !== undefined && options.input !== undefined) {
    throw usageError('two inputs are given');
  }
  if (options.context.field !== undefined) {
    throw usageError("context 'field' is the path of each value; --fields sets it", 'name your context otherwise');
  }
  const fields = readFields(options.fields);
  const source = await openSource(operand ?? options.input);
  await using agent = await openClient(line);
  const { client } = agent;
  const output = options.output ?? (direction === 'reencrypt' ? fileOf(operand ?? options.input) : undefined);
  const target = await openTarget(output, MODE[direction]);
  const progress = new Progress(source.size);
  let moved = 0;
  const contexts = new Map(fields.paths.map((path) => [path, { ...options.context, field: path }]));
  try {
    const report = await spliceJsonLines(source.open(), (bytes) => target.write(bytes), {
      direction,
      fields,
      onProgress: (state) => progress.show(state),
      cipher: async (values, path, signal) => {
        const call: ManyDecryptOptions = { ...binding, context: contexts.get(path), signal };
        const results = await CIPHER[direction](client, values, call);
        moved += results.filter((result, index) => result.ok && result.value !== values[index]).length;
        return results;
      },
    });
    const isUnchanged = direction === 'reencrypt' && options.output === undefined && moved === 0;
    await (isUnchanged && !target.isStandardOutput ? target.discard() : target.commit());
    progress.clear();
    const said = direction === 'reencrypt' ? { ...report, moved } : report;
    summarise(line, direction, said, progress.elapsedMs, target, output);
  } catch (error) {
    progress.clear();
    await target.discard();
    throw error;
  }
}

const CIPHER: Record<
  Direction,
  (client: DekdClient, values: readonly Uint8Array[], call: ManyDecryptOptions) => Promise<readonly ManyResult[]>
> = {
  encrypt: (client, values, call) => client.encryptMany(values, call),
  decrypt: (client, values, call) => client.decryptMany(values, call),
  reencrypt: async (client, values, call) => keepingCurrent(values, await client.reencryptMany(values, call)),
};

/** The path of an input that is a file. */
function fileOf(input: string | undefined): string | undefined {
  return input === '-' ? undefined : input;
}

function readFields(lists: readonly string[]) {
  try {
    return parseFields(lists);
  } catch (error) {
    throw usageError((error as Error).message);
  }
}

/** One line on standard error, redrawn in place, where that is a terminal. */
class Progress {
  readonly #size: number | undefined;
  readonly #started = performance.now();
  #shown = 0;

  constructor(size: number | undefined) {
    this.#size = size;
  }

  get elapsedMs(): number {
    return performance.now() - this.#started;
  }

  show(report: SpliceReport): void {
    const now = performance.now();
    if (!process.stderr.isTTY || now - this.#shown < PROGRESS_INTERVAL_MS) {
      return;
    }
    this.#shown = now;
    const share = this.#size ? `  ${Math.floor((report.bytesRead / this.#size) * 100)} %` : '';
    const rate = (report.records / this.elapsedMs) * 1_000;
    process.stderr.write(
      `\r${count(report.records)} records  ${count(rate)}/s  ${byteSize(report.bytesRead)}${share}\u001b[K`,
    );
  }

  clear(): void {
    if (this.#shown > 0) {
      process.stderr.write('\r\u001b[K');
    }
  }
}

/** A line for people at a terminal; JSON otherwise, on standard output where that is free. */
function summarise(
  line: CommandLine,
  direction: Direction,
  report: SpliceReport & { readonly moved?: number },
  elapsedMs: number,
  target: Target,
  output: string | undefined,
): void {
  const seconds = elapsedMs / 1_000;
  if (line.json || !process.stderr.isTTY) {
    const document = {
      ...report,
      seconds: Number(seconds.toFixed(3)),
      recordsPerSecond: Math.round(report.records / seconds),
      ...(target.isStandardOutput ? {} : { output }),
    };
    const free = line.json && !target.isStandardOutput ? process.stdout : process.stderr;
    free.write(`${JSON.stringify(document)}\n`);
    return;
  }
  const perField = Object.entries(report.fields).map(([path, values]) => `${path} ${count(values)}`);
  warn(
    `${plural(report.records, 'record')}, ${plural(report.values, 'value')} ${DONE[direction]} (${perField.join(', ')}) ` +
      `in ${seconds.toFixed(1)} s, ${count(report.records / seconds)}/s`,
  );
  if (report.moved !== undefined) {
    warn(`${count(report.moved)} of them moved, ${count(report.values - report.moved)} were under the newest version`);
  }
  if (report.misshapen > 0) {
    warn(
      `${plural(report.misshapen, 'value')} on the way of a field had another shape than its path and stayed as ` +
        `${report.misshapen === 1 ? 'it was' : 'they were'}, first at line ${report.firstMisshapenLine}`,
    );
  }
  if (report.tokensEncrypted > 0) {
    warn(`${plural(report.tokensEncrypted, 'value was a token', 'values were tokens')} already, now encrypted twice`);
  }
}
