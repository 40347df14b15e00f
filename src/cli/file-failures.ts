/** What goes wrong in a run over many files: with one of them, or with all that would follow. */
import { DekdError } from '../errors.ts';
import { printable } from '../telemetry/printable.ts';
import { CommandError, type ErrorReport, exitCodeOf, reportOf } from './exit.ts';
import type { TreeFile } from './file-tree.ts';
import { type CommandLine, plural, warn } from './terminal.ts';

const SHOWN_FAILURES = 20;
/** What a failure of the file system says about the run, not about one file. */
const ENDS_THE_RUN: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EIO', 'EMFILE', 'ENFILE']);
/** What an error says about one message, not about key, policy or agent. */
const ABOUT_THE_MESSAGE: ReadonlySet<string> = new Set(['MALFORMED', 'UNSUPPORTED_VERSION', 'DECRYPTION_FAILED']);

export interface FileFailure {
  readonly path: string;
  readonly error: ErrorReport;
}

/** Whether no file after this one could do better. */
function endsTheRun(error: unknown): boolean {
  if (error instanceof CommandError) {
    return false;
  }
  const { code, cause } = DekdError.from(error);
  const { code: systemCode, syscall } = (cause ?? error ?? {}) as NodeJS.ErrnoException;
  if (code === 'INTERNAL' && syscall !== undefined) {
    return ENDS_THE_RUN.has(systemCode ?? '');
  }
  return !ABOUT_THE_MESSAGE.has(code);
}

/** The error that ended a run, with how many files had been done before. */
export function endOfRun(error: unknown, done: number, self: string): CommandError {
  const { code, message, remedy } = reportOf(error, self);
  const resume = 'run the same command again: what is done is left as it is';
  return new CommandError(
    exitCodeOf(error),
    code,
    `${message} (after ${plural(done, 'file')})`,
    remedy === undefined ? resume : `${remedy}; then ${resume}`,
  );
}

/** The files that failed: each is named as it happens, the first of them also in the result. */
export class FileFailures {
  count = 0;
  /** The first twenty. */
  readonly first: FileFailure[] = [];
  readonly #line: CommandLine;
  readonly #clear: () => void;

  /** @param clear makes room on the terminal for a line */
  constructor(line: CommandLine, clear: () => void) {
    this.#line = line;
    this.#clear = clear;
  }

  add(path: string, error: unknown): void {
    this.count += 1;
    const report = reportOf(error, this.#line.self);
    if (this.first.length < SHOWN_FAILURES) {
      this.first.push({ path, error: report });
      this.say(`failed ${path}: ${report.message}${report.remedy === undefined ? '' : `; ${report.remedy}`}`);
    } else if (this.count === SHOWN_FAILURES + 1) {
      this.say('more failed; they are counted');
    }
  }

  /** A line about a file, for people. */
  say(text: string): void {
    if (!this.#line.json) {
      this.#clear();
      warn(printable(text));
    }
  }
}

/**
 * Does something to every file, `atOnce` at a time. What fails with one file is added to `failures`.
 * @returns what ended the run, when something did; what was begun is done then
 */
export async function eachFile(
  files: AsyncGenerator<TreeFile>,
  atOnce: number,
  one: (file: TreeFile) => Promise<void>,
  failures: FileFailures,
): Promise<{ readonly error: unknown } | undefined> {
  let fatal: { error: unknown } | undefined;
  const worker = async (): Promise<void> => {
    // All of them take from one generator, which a `for await` would end for the others.
    for (let next = await files.next(); next.done !== true && fatal === undefined; next = await files.next()) {
      try {
        await one(next.value);
      } catch (error) {
        if (endsTheRun(error)) {
          fatal ??= { error };
        } else {
          failures.add(next.value.path, error);
        }
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return fatal;
}
