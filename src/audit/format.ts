/**
 * Lines of the audit log (docs/audit.md).
 *
 * A line is `{"audit":SEQ,BODY}`, one JSON object; the last line of a block also has `,"mac":"MAC"` before its brace. The bytes
 * that a MAC is over are those of the lines as they are written, so nothing has to be put into another form to verify them.
 */

/** Version of the format, in the first record of every file. */
export const AUDIT_FORMAT = 1;
/** What every line begins with, and no line of the program's log. */
export const LINE_START = '{"audit":';
const MAC_START = ',"mac":"';
const MAC_END = '"}';
/** Characters of a MAC: 32 bytes in base64url without padding. */
const MAC_TEXT = 43;
/** The MAC before the first of a run. */
export const NO_MAC = new Uint8Array(32);
/** The longest line; what is longer was not written by an agent. */
export const MAX_LINE = 64 * 1024;

/** Labels of HKDF-SHA-256, see docs/audit.md, "Keys". */
export const LABEL = {
  /** From the key of a generation to that of the next run. */
  generation: 'dekd/v1/audit/generation',
  /** From the key of a generation to the first key of one run; the id of the run follows. */
  run: 'dekd/v1/audit/run ',
  /** From the key of a block to that of the next. */
  next: 'dekd/v1/audit/next',
  /** From the key of a block to the key of its MAC. */
  mac: 'dekd/v1/audit/mac',
  /** From the first key to that of the digests of contexts. */
  context: 'dekd/v1/audit/context',
} as const;

/** A value that a record may have: names and numbers, never a plaintext, token, key or context value. */
export type RecordValue = string | number | boolean | undefined | readonly string[] | RecordFields;
export interface RecordFields {
  readonly [name: string]: RecordValue;
}

/** The body of a line: `"time":"…","event":"…",…`, in the order of `fields`; what is undefined is left out. */
export function bodyOf(time: number, event: string, fields: RecordFields): string {
  let body = `"time":"${isoTime(time)}","event":${JSON.stringify(event)}`;
  for (const name in fields) {
    const value = fields[name];
    if (value !== undefined) {
      body += `,${JSON.stringify(name)}:${JSON.stringify(value)}`;
    }
  }
  return body;
}

let lastTime = Number.NaN;
let lastText = '';

/** ISO 8601 in UTC, with milliseconds. */
export function isoTime(time: number): string {
  if (time !== lastTime) {
    lastTime = time;
    lastText = new Date(time).toISOString();
  }
  return lastText;
}

/** A line without its MAC and without its end. */
export function openLine(seq: number, body: string): string {
  return `${LINE_START}${seq},${body}`;
}

/** What ends a line that has no MAC. */
export const PLAIN_END = '}\n';

/** What ends the last line of a block. */
export function sealedEnd(mac: Uint8Array): string {
  return `${MAC_START}${textOf(mac)}${MAC_END}\n`;
}

export function textOf(mac: Uint8Array): string {
  return Buffer.from(mac.buffer, mac.byteOffset, mac.length).toString('base64url');
}

/** The MAC of a line and where the bytes that it is over end; undefined for a line without one. @param line without its line feed */
export function macOf(line: Buffer): { readonly mac: string; readonly end: number } | undefined {
  const end = line.length - MAC_END.length - MAC_TEXT - MAC_START.length;
  if (
    end <= 0 ||
    line.toString('latin1', end, end + MAC_START.length) !== MAC_START ||
    line.toString('latin1', line.length - MAC_END.length) !== MAC_END
  ) {
    return undefined;
  }
  return { mac: line.toString('latin1', end + MAC_START.length, line.length - MAC_END.length), end };
}
