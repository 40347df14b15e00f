/** What is wrong with a configuration, all of it at once. */
import { DekdError } from '../errors.ts';

export interface ConfigProblem {
  /** Dotted path of the key (`limits.maxPayload`), or empty for the whole. */
  readonly path: string;
  /** Where it was said: `file:line`, a variable or a flag; empty when it was not said at all. */
  readonly source: string;
  /** What is wrong and what to do. */
  readonly message: string;
}

/** A configuration that cannot be used: the agent refuses to start, or keeps the one it has. Its message has a line a problem. */
export class ConfigError extends DekdError {
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[]) {
    const lines = problems.map(problemLine);
    const count = problems.length === 1 ? '1 problem' : `${problems.length} problems`;
    super('INVALID_ARGUMENT', `configuration: ${count}\n${lines.map((line) => `  ${line}`).join('\n')}`);
    this.problems = problems;
  }
}

function problemLine({ path, source, message }: ConfigProblem): string {
  return [source, path, message].filter((part) => part !== '').join(': ');
}

/** The nearest of `names` when it is near enough to be a slip of the hand. */
export function nearestName(name: string, names: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.min(3, Math.ceil(name.length / 3)) + 1;
  for (const candidate of names) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Insertions, deletions, replacements and swaps of neighbours between two short strings. */
function editDistance(a: string, b: string): number {
  let twoBack: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let least = Math.min(replaced, previous[j]! + 1, row[j - 1]! + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        least = Math.min(least, twoBack[j - 2]! + 1);
      }
      row.push(least);
    }
    twoBack = previous;
    previous = row;
  }
  return previous[b.length]!;
}

export function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Names that every object has, or that make it another: no key of a configuration is called so, and checks may not see them. */
export function isNameOfJavaScript(name: string): boolean {
  return ['__proto__', 'constructor', 'prototype'].includes(name);
}

/** Whether a text has the shape of a 32-byte key, in base64 or hex. */
export function looksLikeKeyMaterial(text: string): boolean {
  return /^[A-Za-z0-9+/_-]{43}=?$/.test(text) || /^[0-9a-fA-F]{64}$/.test(text);
}

/** A value as an error may show it: never one that could be a key, never a long one. */
export function shownValue(value: unknown): string {
  if (value === undefined || value === null || value === '') {
    return 'nothing';
  }
  if (typeof value === 'string') {
    return value.length > 40 || looksLikeKeyMaterial(value)
      ? `a text of ${value.length} characters`
      : JSON.stringify(value);
  }
  if (Array.isArray(value)) {
    return 'a list';
  }
  return typeof value === 'object' ? 'a mapping' : String(value);
}
