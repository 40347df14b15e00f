import { readFileSync } from 'node:fs';
import { Session } from 'node:inspector';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const SOURCE = join(import.meta.dirname, '../../src');

interface Range {
  readonly startOffset: number;
  readonly endOffset: number;
  readonly count: number;
}

interface ScriptReach {
  readonly url: string;
  readonly functions: readonly { readonly isBlockCoverage: boolean; readonly ranges: readonly Range[] }[];
}

/**
 * What of some source files was run: V8 counts blocks, whose places in the source are right because types are only
 * blanked out. `isNew` says whether anything ran since the last call that never ran before.
 */
export class Reach {
  readonly #session = new Session();
  readonly #files: ReadonlyMap<string, string>;
  readonly #seen = new Set<string>();
  /** Of each file, lines that were run, and lines that lie in a function. */
  readonly #lines = new Map<string, Set<number>>();
  readonly #inside = new Map<string, Set<number>>();

  constructor(files: readonly string[]) {
    this.#files = new Map(files.map((file) => [pathToFileURL(join(SOURCE, file)).href, join(SOURCE, file)]));
    this.#session.connect();
    this.#post('Profiler.enable');
    this.#post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  isNew(): boolean {
    const before = this.#seen.size;
    const { result } = this.#post('Profiler.takePreciseCoverage') as { result: readonly ScriptReach[] };
    for (const script of result) {
      const file = this.#files.get(script.url);
      if (file === undefined) {
        continue;
      }
      const ranges = script.functions.flatMap((one) => one.ranges);
      for (const { startOffset, endOffset, count } of ranges) {
        if (count > 0) {
          this.#seen.add(`${script.url} ${startOffset} ${endOffset}`);
        }
      }
      this.#note(file, script);
    }
    return this.#seen.size > before;
  }

  /** Lines of code inside of functions, and which of those were not run. */
  report(): { readonly file: string; readonly lines: number; readonly run: number; readonly missed: number[] }[] {
    return [...this.#files.values()].map((path) => {
      const code = codeLines(readFileSync(path, 'utf8')).filter((line) => this.#inside.get(path)?.has(line) === true);
      const run = this.#lines.get(path) ?? new Set();
      const missed = code.filter((line) => !run.has(line));
      return { file: path.slice(SOURCE.length + 1), lines: code.length, run: code.length - missed.length, missed };
    });
  }

  close(): void {
    this.#session.disconnect();
  }

  /** Inner ranges say better than outer ones, so they are laid over them: functions are listed from the outside in. */
  #note(path: string, script: ScriptReach): void {
    const text = readFileSync(path, 'utf8');
    const counts = new Int32Array(text.length);
    const inside = new Uint8Array(text.length);
    for (const { ranges } of script.functions) {
      const [whole] = ranges;
      if (whole !== undefined && whole.endOffset - whole.startOffset < text.length - 1) {
        inside.fill(1, whole.startOffset, whole.endOffset);
      }
      for (const { startOffset, endOffset, count } of ranges) {
        counts.fill(count, startOffset, endOffset);
      }
    }
    const lines = this.#lines.get(path) ?? new Set();
    const functions = this.#inside.get(path) ?? new Set();
    let line = 1;
    for (let at = 0; at < text.length; at++) {
      if (text[at] === '\n') {
        line++;
      } else if (text[at] !== ' ') {
        if (counts[at]! > 0) {
          lines.add(line);
        }
        if (inside[at] === 1) {
          functions.add(line);
        }
      }
    }
    this.#lines.set(path, lines);
    this.#inside.set(path, functions);
  }

  #post(method: string, parameters?: object): unknown {
    let answer: unknown;
    let failure: Error | null = null;
    // Answered before post returns, as everything of the profiler is.
    this.#session.post(method, parameters, (error, result) => {
      failure = error;
      answer = result;
    });
    if (failure !== null) {
      throw failure;
    }
    return answer;
  }
}

/** Numbers of lines that are neither blank, comment, closing bracket nor declaration of a type. */
function codeLines(text: string): number[] {
  const lines: number[] = [];
  let inside: 'code' | 'comment' | 'type' = 'code';
  for (const [index, line] of text.split('\n').entries()) {
    const trimmed = line.trim();
    if (inside === 'comment') {
      inside = trimmed.endsWith('*/') ? 'code' : 'comment';
    } else if (inside === 'type') {
      inside = /^\}|;$/.test(line) ? 'code' : 'type';
    } else if (trimmed.startsWith('/*')) {
      inside = trimmed.endsWith('*/') ? 'code' : 'comment';
    } else if (/^(export )?(interface|type) /.test(line)) {
      inside = /[;}]$/.test(trimmed) && !trimmed.endsWith('{') ? 'code' : 'type';
    } else if (!/^($|\/\/|[\]})]+[;,]*$|import |export \{|\} from )/.test(trimmed)) {
      lines.push(index + 1);
    }
  }
  return lines;
}
