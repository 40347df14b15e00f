/**
 * Command lines and what they must print, as text.
 *
 *     # what this part shows: the name of the test
 *     $ a line of shell; `dekd` is on the PATH and its agent is running
 *     a line of standard output
 *     ! a line of standard error
 *     ? 1        the exit code, 0 when not said
 *
 * `…` in an expected line stands for anything within a line; a line that is only `…` (or `! …`) for any
 * number of lines. What one
 * command of a part writes to files, the next ones find there; parts begin with an empty folder.
 */
export interface Step {
  readonly command: string;
  readonly stdout: readonly string[];
  readonly stderr: readonly string[];
  readonly code: number;
  /** In the scenario file. */
  readonly line: number;
}

export interface Part {
  readonly name: string;
  readonly steps: readonly Step[];
}

export function parseScenario(text: string): Part[] {
  const parts: { name: string; steps: Step[] }[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    const part = parts.at(-1);
    const step = part?.steps.at(-1) as { stdout: string[]; stderr: string[]; code: number } | undefined;
    if (line.startsWith('# ')) {
      parts.push({ name: line.slice(2), steps: [] });
    } else if (line.startsWith('$ ')) {
      part!.steps.push({ command: line.slice(2), stdout: [], stderr: [], code: 0, line: index + 1 });
    } else if (line.startsWith('! ')) {
      step!.stderr.push(line.slice(2));
    } else if (line.startsWith('? ')) {
      step!.code = Number(line.slice(2));
    } else if (line !== '') {
      step!.stdout.push(line);
    }
  }
  return parts;
}

/** Expected lines as a pattern for the whole output. */
export function patternOf(lines: readonly string[]): RegExp {
  const source = lines
    .map((line) =>
      line === '…'
        ? '(?:.*\n)*?'
        : `${line
            .split('…')
            .map((text) => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'))
            .join('.*')}\n`,
    )
    .join('');
  return new RegExp(`^${source}$`);
}
