import { printable, printableLines } from '../telemetry/printable.ts';
import { usageError } from './exit.ts';

/** What every command gets from the command line. */
export interface CommandLine {
  /** One JSON object on standard output instead of text. */
  readonly json: boolean;
  /** Data socket named by `--socket`. */
  readonly socket: string | undefined;
  /** How this program is called here. */
  readonly self: string;
}

/** Prints a result in the form asked for. */
export function printResult(line: CommandLine, document: unknown, text: string): void {
  process.stdout.write(line.json ? `${JSON.stringify(document)}\n` : text === '' ? '' : `${text}\n`);
}

export function warn(text: string): void {
  process.stderr.write(`${text}\n`);
}

export type Colour = 'green' | 'red' | 'yellow' | 'bold';

const SGR: Record<Colour, number> = { green: 32, red: 31, yellow: 33, bold: 1 };

/** Colours `text` where standard output is a terminal and nobody objects (no-color.org). */
export function coloured(text: string, colour: Colour): string {
  return process.stdout.isTTY && !process.env.NO_COLOR ? `\u001b[${SGR[colour]}m${text}\u001b[0m` : text;
}

/** Columns padded to their widest cell, two spaces between; the first row is the heading. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** `name  value` lines of a flat or nested object, for people; whatever is in it, each name has one line of its own. */
export function outline(value: unknown, indent = ''): string {
  if (!isObject(value)) {
    return `${indent}${printableLines(scalar(value), indent)}`;
  }
  const rows = Object.entries(value).map(([name, item]) => [printable(name), item] as const);
  const width = Math.max(0, ...rows.map(([name]) => name.length));
  return rows
    .filter(([, item]) => item !== undefined)
    .map(([name, item]) => {
      if (Array.isArray(item) && item.some(isObject)) {
        return [`${indent}${name}`, ...item.map((element) => outline(element, `${indent}  `))].join('\n');
      }
      if (isObject(item) && Object.keys(item).length > 0) {
        return `${indent}${name}\n${outline(item, `${indent}  `)}`;
      }
      const before = `${indent}${name.padEnd(width)}  `;
      return `${before}${printableLines(scalar(item), ' '.repeat(before.length))}`;
    })
    .join('\n');
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function scalar(value: unknown): string {
  if (Array.isArray(value)) {
    return value.length === 0 ? 'none' : value.map(scalar).join(', ');
  }
  if (value === null || value === undefined || value === '' || isObject(value)) {
    return '-';
  }
  return String(value);
}

/** Asks at the terminal whether to `action`; only a typed `yes` counts. Without a terminal, `--yes` is needed. */
export async function confirm(action: string, yes: boolean): Promise<boolean> {
  if (yes) {
    return true;
  }
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw usageError(`to ${action}, a yes is needed, and there is no terminal to ask at`, 'add --yes');
  }
  const { createInterface } = await import('node:readline/promises');
  const asking = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return (await asking.question(`Really ${action}? Type yes: `)).trim() === 'yes';
  } finally {
    asking.close();
  }
}

/** 1234567 → `1,234,567`. */
export function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** Bytes with a unit a person reads: `1.5 MiB`. */
export function byteSize(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}
