/**
 * Readers turn one YAML scalar (or small value) into what the agent uses. A reader returns undefined for what it does
 * not accept; its `expected` then completes the sentence "expected …".
 */

/** How a text from a variable or flag becomes the YAML value it stands for. */
export type TextKind = 'text' | 'number' | 'boolean' | 'path' | 'json';

export interface Reader<T> {
  readonly expected: string;
  readonly kind: TextKind;
  read(raw: unknown): T | undefined;
}

const KIB = 1024;
const SIZE_UNITS: Readonly<Record<string, number>> = {
  B: 1,
  KiB: KIB,
  MiB: KIB ** 2,
  GiB: KIB ** 3,
  TiB: KIB ** 4,
  PiB: KIB ** 5,
};
const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

function measure(raw: unknown, units: Readonly<Record<string, number>>): number | undefined {
  const match = typeof raw === 'string' ? /^(\d{1,15})\s?([A-Za-z]{1,3})$/.exec(raw) : null;
  const unit = match && Object.hasOwn(units, match[2]!) ? units[match[2]!] : undefined;
  const value = unit === undefined ? Number.NaN : Number(match![1]) * unit;
  return Number.isSafeInteger(value) ? value : undefined;
}

function bounded(value: number | undefined, min: number, max: number): number | undefined {
  return value !== undefined && value >= min && value <= max ? value : undefined;
}

/** Bytes, written `64KiB`, `1MiB`; a bare number counts bytes. */
export function size(min: string, max: string): Reader<number> {
  const [least, most] = [measure(min, SIZE_UNITS)!, measure(max, SIZE_UNITS)!];
  return {
    expected: `a size from ${min} to ${max}, such as 64KiB or 1MiB`,
    kind: 'text',
    read: (raw) => bounded(wholeNumber(raw) ?? measure(raw, SIZE_UNITS), least, most),
  };
}

/** Milliseconds, written `500ms`, `10s`, `5m`, `1h`, `90d`; a bare number is refused, since its unit would be a guess. */
export function duration(min: string, max: string): Reader<number> {
  const [least, most] = [measure(min, DURATION_UNITS)!, measure(max, DURATION_UNITS)!];
  return {
    expected: `a duration from ${min} to ${max}, such as 30s, 5m or 90d`,
    kind: 'text',
    read: (raw) => bounded(measure(raw, DURATION_UNITS), least, most),
  };
}

function wholeNumber(raw: unknown): number | undefined {
  if (typeof raw === 'string' && /^\d{1,15}$/.test(raw)) {
    return Number(raw);
  }
  return typeof raw === 'number' && Number.isSafeInteger(raw) ? raw : undefined;
}

export function integer(min: number, max: number): Reader<number> {
  return {
    expected: `a whole number from ${min} to ${max}`,
    kind: 'number',
    read: (raw) => (typeof raw === 'number' && Number.isSafeInteger(raw) ? bounded(raw, min, max) : undefined),
  };
}

/** A share from 0 to 1. */
export const fraction: Reader<number> = {
  expected: 'a number from 0 to 1',
  kind: 'json',
  read: (raw) => (typeof raw === 'number' && raw >= 0 && raw <= 1 ? raw : undefined),
};

/** `auto`, for the program to choose, beside what `reader` accepts. */
export function orAuto(reader: Reader<number>): Reader<number | 'auto'> {
  return {
    expected: `${reader.expected}, or auto`,
    kind: reader.kind,
    read: (raw) => (raw === 'auto' ? 'auto' : reader.read(raw)),
  };
}

/** `never` beside what `reader` accepts; reads as Infinity. */
export function orNever(reader: Reader<number>): Reader<number> {
  return {
    expected: `${reader.expected}, or never`,
    kind: reader.kind,
    read: (raw) => (raw === 'never' ? Number.POSITIVE_INFINITY : reader.read(raw)),
  };
}

export const flag: Reader<boolean> = {
  expected: 'true or false',
  kind: 'boolean',
  read: (raw) => (typeof raw === 'boolean' ? raw : undefined),
};

export function oneOf<const T extends string>(...names: readonly T[]): Reader<T> {
  return {
    expected: names.length === 1 ? names[0]! : `one of ${names.join(', ')}`,
    kind: 'text',
    read: (raw) => names.find((name) => name === raw),
  };
}

/** A non-empty text of at most `maxLength` characters without control characters. */
export function text(what: string, maxLength = 256): Reader<string> {
  return {
    expected: `${what} of 1 to ${maxLength} characters`,
    kind: 'text',
    read: (raw) => (isPlainText(raw, maxLength) ? raw : undefined),
  };
}

function isPlainText(raw: unknown, maxLength: number): raw is string {
  return typeof raw === 'string' && raw.length > 0 && raw.length <= maxLength && !/\p{Cc}/u.test(raw);
}

/** An absolute path; a relative one from a variable or flag has been made absolute before. */
export const absolutePath: Reader<string> = {
  expected: 'an absolute path',
  kind: 'path',
  read: (raw) => (isPlainText(raw, 4096) && raw.startsWith('/') ? raw : undefined),
};

/**
 * 0600 or 0660. YAML 1.2 reads an unquoted 0660 as the decimal 660 and 0o660 as 432; all three spellings mean the same
 * bits here.
 */
export const socketMode: Reader<number> = {
  expected: '0600 or 0660 (a socket that everybody may write is refused)',
  kind: 'text',
  read: (raw) => {
    const spelled = typeof raw === 'number' && [0o600, 0o660].includes(raw) ? raw.toString(8) : String(raw);
    const match = /^0?o?(600|660)$/.exec(spelled);
    return match ? Number.parseInt(match[1]!, 8) : undefined;
  },
};

/** A group by name or number. */
export const group: Reader<string | number> = {
  expected: 'a group name or number',
  kind: 'text',
  read: (raw) => {
    const number = wholeNumber(raw);
    return number === undefined ? (isPlainText(raw, 64) ? raw : undefined) : bounded(number, 0, 0xfffffffe);
  },
};

/** One value or a list of at least one. */
export function oneOrMany<T>(item: Reader<T>, max = 1000): Reader<readonly T[]> {
  return {
    expected: `${item.expected}, or a list of such`,
    kind: 'json',
    read: (raw) => {
      const values = (Array.isArray(raw) ? raw : [raw]).map((value) => item.read(value));
      return values.length > 0 && values.length <= max && !values.includes(undefined) ? (values as T[]) : undefined;
    },
  };
}

/** A list, which may be empty. */
export function list<T>(item: Reader<T>, max = 1000): Reader<readonly T[]> {
  const many = oneOrMany(item, max);
  return {
    expected: `a list, each ${item.expected}`,
    kind: 'json',
    read: (raw) => (Array.isArray(raw) ? (raw.length === 0 ? [] : many.read(raw)) : undefined),
  };
}

/** A mapping of texts to texts; a bare number or boolean is refused, since its text form would be a guess. */
export const textMapping: Reader<Readonly<Record<string, string>>> = {
  expected: 'a mapping of at most 16 names to quoted texts',
  kind: 'json',
  read: (raw) => {
    if (typeof raw !== 'object' || raw === null || Array.isArray(raw) || Object.keys(raw).length > 16) {
      return undefined;
    }
    const result: Record<string, string> = Object.create(null);
    for (const [name, value] of Object.entries(raw)) {
      if (!isPlainText(name, 128) || !isPlainText(value, 1024)) {
        return undefined;
      }
      result[name] = value;
    }
    return result;
  },
};

/** Whether creation on first use is granted, and how often. */
export const creation: Reader<false | { readonly max: number }> = {
  expected: 'false, or { max: N } with N from 1 to 1000000',
  kind: 'json',
  read: (raw) => {
    if (raw === false) {
      return false;
    }
    const max =
      typeof raw === 'object' && raw !== null && Object.keys(raw).join() === 'max'
        ? (raw as { max: unknown }).max
        : undefined;
    const read = integer(1, 1_000_000).read(max);
    return read === undefined ? undefined : { max: read };
  },
};

/** Five fields of numbers, lists, ranges and steps. Whether it is a time at all is for who reads the schedule. */
export const cronExpression: Reader<string> = {
  expected: 'five fields of cron such as "0 3 1 * *": minute, hour, day of month, month, day of week',
  kind: 'text',
  read: (raw) => (typeof raw === 'string' && /^[\d*,/-]+( [\d*,/-]+){4}$/.test(raw) ? raw : undefined),
};
