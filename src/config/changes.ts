/** What differs between two configurations, and what of it an agent can take over while it runs. */
import type { Config, KeyDefinition } from './config.ts';
import { shownValue } from './problems.ts';
import { KEYSTORE } from './recipients.ts';

export interface ConfigChange {
  /** Dotted path of the key; entries with a name stand by it: `policy.rules[shop].operations`. */
  readonly path: string;
  /** As an operator may see it: never a value of a key context, never a long one. `absent` where there was, or is, none. */
  readonly from: string;
  readonly to: string;
  /** Whether it takes effect without a restart. */
  readonly live: boolean;
}

/**
 * What a running agent takes over. The rest is what sockets, processes, memory and open keystores were made from: those
 * are only made at start.
 */
const LIVE: readonly RegExp[] = [
  /^policy\.rules\b/,
  /^keys\b(?!.*\.(direct|recipients|formerRecipients)$)/,
  /^rotation\./,
  /^coast\./,
  /^revocation\./,
  // Frames, buffers and what clients were told are as large as maxPayload says.
  /^limits\.(?!maxPayload$)/,
  /^log\./,
  /^defaultRoot$/,
  // A root that comes or goes, whole. One that changes is another.
  /^roots\[[^\]]*\]$/,
];

/** Lists of which the first entry that matches counts. */
const ORDERED: ReadonlySet<string> = new Set(['policy.rules', 'keys']);
const ABSENT = 'absent';
const MAX_SHOWN_LIST = 80;

/** In the order of the configuration; empty when both say the same. */
export function changesBetween(before: Config, after: Config): ConfigChange[] {
  const changes: ConfigChange[] = [];
  compare(before, after, '', changes);
  return changes;
}

function compare(before: unknown, after: unknown, path: string, changes: ConfigChange[]): void {
  if (isSection(before) && isSection(after)) {
    for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
      compare(before[name], after[name], path === '' ? name : `${path}.${name}`, changes);
    }
    return;
  }
  const [was, is] = [namedEntries(before), namedEntries(after)];
  if (was !== undefined && is !== undefined) {
    for (const name of new Set([...was.keys(), ...is.keys()])) {
      compare(was.get(name), is.get(name), `${path}[${name}]`, changes);
    }
    // The first that matches counts.
    if (ORDERED.has(path) && orderOf(was, is) !== orderOf(is, was)) {
      add(changes, path, `the order ${orderOf(was, is)}`, orderOf(is, was), ![before, after].some(decidesKind));
    }
    return;
  }
  if (textOf(before) !== textOf(after)) {
    const isWhole = /^keys\[/.test(path) && (before === undefined || after === undefined);
    const isLive = !isWhole || !decidesKind([before ?? after]);
    add(changes, path, shown(before, path), shown(after, path), isLive);
  }
}

function add(changes: ConfigChange[], path: string, from: string, to: string, mayBeLive: boolean): void {
  changes.push({ path, from, to, live: mayBeLive && LIVE.some((pattern) => pattern.test(path)) });
}

/** Whether entries of `keys` say of what kind ciphertexts are: which keys are direct, and who else opens messages. */
function decidesKind(entries: unknown): boolean {
  return (entries as readonly Partial<KeyDefinition>[]).some(
    ({ direct, recipients = [], formerRecipients = [] }) =>
      direct === true || recipients.join() !== KEYSTORE || formerRecipients.length > 0,
  );
}

function isSection(value: unknown): value is Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null) {
    return false;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** Of a mapping of names, or of a list whose entries have names; undefined for anything else. */
function namedEntries(value: unknown): ReadonlyMap<string, unknown> | undefined {
  if (value instanceof Map) {
    return value as Map<string, unknown>;
  }
  if (!Array.isArray(value) || !value.every((entry) => isSection(entry) && typeof entry.name === 'string')) {
    return undefined;
  }
  const entries = new Map<string, unknown>();
  for (const entry of value as readonly { readonly name: string }[]) {
    let name = entry.name;
    for (let n = 2; entries.has(name); n++) {
      name = `${entry.name} ${n}`;
    }
    entries.set(name, entry);
  }
  return entries;
}

/** The names that are in both, in the order of the first. */
function orderOf(entries: ReadonlyMap<string, unknown>, other: ReadonlyMap<string, unknown>): string {
  return [...entries.keys()].filter((name) => other.has(name)).join(', ');
}

/** Equal for what means the same. JSON has no word for Infinity, which is `never` in the file. */
function textOf(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) => (part === Number.POSITIVE_INFINITY ? 'never' : part)) ?? '';
}

function shown(value: unknown, path: string): string {
  if (value === undefined) {
    return ABSENT;
  }
  if (/\bkeyContext\b/.test(path)) {
    return 'another value';
  }
  if (value === Number.POSITIVE_INFINITY) {
    return 'never';
  }
  if (isSection(value)) {
    return 'there';
  }
  if (Array.isArray(value)) {
    const text = textOf(value);
    const isPlain = value.every((item) => typeof item === 'number' || (typeof item === 'string' && item.length <= 40));
    return isPlain && text.length <= MAX_SHOWN_LIST ? text : `a list of ${value.length}`;
  }
  return shownValue(value);
}
