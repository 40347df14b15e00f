/** Messages in files, each replaced by its re-encrypted self, so that a run may be stopped at any moment and run again. */
import { lstat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { PassThrough } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fileStream, writableTo } from '../../client/message-file.ts';
import type { MessageDuplex } from '../../client/types.ts';
import { type MessageHeader, MessageHeaderReader } from '../../envelope/message-header.ts';
import { DekdError } from '../../errors.ts';
import { ByteProgress } from '../byte-progress.ts';
import { hasMessageName, wholeMilliseconds } from '../commands/folder-run.ts';
import { CommandError, EXIT, usageError } from '../exit.ts';
import { eachFile, endOfRun, FileFailures } from '../file-failures.ts';
import { filesOf, type Operand, operandsOf, type TreeFile } from '../file-tree.ts';
import { openTarget } from '../target-file.ts';
import { removeLeftovers } from '../temporary-file.ts';
import { byteSize, type CommandLine, plural, printResult, warn } from '../terminal.ts';
import { HeaderGate, Unchanged } from './header-gate.ts';

/** As many files at once as other runs over folders have. */
const AT_ONCE = 4;
const MESSAGE_MODE = 0o666;

export interface MessageRunOptions {
  readonly paths: readonly string[];
  /** Whether folders are gone into, and in them what is named like a message is taken. */
  readonly isRecursive: boolean;
  /** Whether messages that are as they should be get a new data key all the same. */
  readonly force: boolean;
  /** Makes what a file is put through. */
  readonly through: () => MessageDuplex;
}

/**
 * Replaces every message by its re-encrypted self, whole or not at all. What is under the newest version with the recipients
 * configured now is left as it is, so that the same command goes on after an interruption. Times of last change stay, because
 * `decrypt -r` goes by them.
 *
 * @returns exit code 1 when a file failed
 * @throws what stands in the way of every file: the agent, key or policy, a disk that is full
 */
export async function runMessages(line: CommandLine, options: MessageRunOptions): Promise<number> {
  return await new MessageRun(line, options).toEnd();
}

class MessageRun {
  readonly #line: CommandLine;
  readonly #options: MessageRunOptions;
  readonly #operands: readonly Operand[];
  readonly #failures: FileFailures;
  readonly #cleared = new Set<string>();
  #progress = new ByteProgress(undefined);
  #done = 0;
  #unchanged = 0;
  #skipped = 0;

  constructor(line: CommandLine, options: MessageRunOptions) {
    this.#line = line;
    this.#options = options;
    this.#operands = operandsOf(options.paths);
    this.#failures = new FileFailures(line, () => this.#progress.clear());
  }

  async toEnd(): Promise<number> {
    await this.#checkOperands();
    if (process.stderr.isTTY) {
      this.#progress = new ByteProgress(await this.#bytesInAll());
    }
    const files = filesOf(this.#operands, undefined, (path, error) => this.#failures.add(path, error));
    const fatal = await eachFile(files, AT_ONCE, (file) => this.#one(file), this.#failures);
    this.#progress.clear();
    if (fatal !== undefined) {
      throw endOfRun(fatal.error, this.#done + this.#unchanged, this.#line.self);
    }
    this.#report();
    return this.#failures.count > 0 ? EXIT.failed : EXIT.ok;
  }

  /** Before anything is done: a name that was mistyped is no file that failed. */
  async #checkOperands(): Promise<void> {
    for (const { path } of this.#operands) {
      const stats = await lstat(path).catch((error: NodeJS.ErrnoException) => {
        throw error.code === 'ENOENT' ? usageError(`'${path}' is neither file nor folder`) : error;
      });
      if (stats.isDirectory() && !this.#options.isRecursive) {
        throw usageError(`${path} is a folder`, 'add -r');
      }
    }
  }

  async #bytesInAll(): Promise<number> {
    let bytes = 0;
    for await (const file of filesOf(this.#operands, undefined, () => {})) {
      bytes += this.#whySkipped(file) === undefined ? file.stats.size : 0;
    }
    return bytes;
  }

  /** A file that was named itself is meant, whatever it is called. */
  #whySkipped({ path, place, stats }: TreeFile): string | undefined {
    if (!stats.isFile()) {
      return 'no regular file';
    }
    const isNamed = this.#operands.some((operand) => operand.path === path);
    return isNamed || hasMessageName(place) ? undefined : 'its name does not end in .dk';
  }

  async #one(file: TreeFile): Promise<void> {
    const why = this.#whySkipped(file);
    if (why !== undefined) {
      this.#skipped += 1;
      this.#failures.say(`skipped ${file.path}: ${why}`);
      return;
    }
    const folder = dirname(file.path);
    if (!this.#cleared.has(folder)) {
      this.#cleared.add(folder);
      removeLeftovers(folder);
    }
    if (await this.#replace(file)) {
      this.#done += 1;
    } else {
      this.#unchanged += 1;
    }
  }

  /** @returns false when the message is as it should be */
  async #replace({ path, stats }: TreeFile): Promise<boolean> {
    const { force, through } = this.#options;
    const gate = force ? new PassThrough() : new HeaderGate(await headerAt(path));
    const target = await openTarget(path, MESSAGE_MODE);
    try {
      await pipeline(fileStream(path), this.#progress.counting(), through(), gate, writableTo(target));
      const now = await lstat(path);
      if (now.ino !== stats.ino || now.size !== stats.size || now.mtimeMs !== stats.mtimeMs) {
        throw new CommandError(EXIT.failed, 'CONFLICT', `${path} was changed meanwhile`, 'run the same command again');
      }
      await target.commit(wholeMilliseconds(stats));
      return true;
    } catch (error) {
      await target.discard();
      if (error instanceof Unchanged) {
        return false;
      }
      throw error;
    }
  }

  #report(): void {
    const { bytes, elapsedMs } = this.#progress;
    const [done, unchanged, skipped, failed] = [this.#done, this.#unchanged, this.#skipped, this.#failures.count];
    if (this.#line.json) {
      const seconds = Number((elapsedMs / 1_000).toFixed(3));
      const failures = this.#failures.first;
      printResult(this.#line, { done, unchanged, skipped, failed, bytesRead: bytes, seconds, failures }, '');
      return;
    }
    const parts = [
      `${plural(done, 'message')} re-encrypted`,
      ...(unchanged > 0 ? [`${unchanged} unchanged`] : []),
      ...(skipped > 0 ? [`${skipped} skipped`] : []),
      ...(failed > 0 ? [`${failed} failed`] : []),
    ];
    const rate = byteSize(Math.round((bytes / elapsedMs) * 1_000));
    warn(`${parts.join(', ')}; ${byteSize(bytes)} in ${(elapsedMs / 1_000).toFixed(1)} s, ${rate}/s`);
  }
}

/** The header of the message in a file; nothing of it is verified. @throws MALFORMED and what else reading it throws */
async function headerAt(path: string): Promise<MessageHeader> {
  const reader = new MessageHeaderReader();
  let bytes = Buffer.alloc(0);
  for await (const chunk of fileStream(path)) {
    bytes = Buffer.concat([bytes, chunk as Buffer]);
    const header = reader.read(bytes);
    if (header !== undefined) {
      return header;
    }
  }
  throw new DekdError('MALFORMED', 'the message is cut short: its header is not whole');
}
