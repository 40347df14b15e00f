import { readSync, writeSync } from 'node:fs';
import { DekdError } from '../errors.ts';
import { KEY_LENGTH } from './primitives.ts';

/** Characters of 32 bytes in padded base64 (RFC 4648 section 4): 43 and one `=`. */
const LINE_LENGTH = 44;
const LINE_FEED = 0x0a;
const PAD = 0x3d;

const ALPHABET = new TextEncoder().encode('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/');

/**
 * Reads a root key, 32 bytes as one line of canonical base64 with or without the line feed, from the current position
 * of `fd` to its end. Works on bytes only: a string with the key in it could not be wiped.
 * @param takesRaw whether it may also be the 32 bytes themselves
 * @returns 32 bytes, which the caller wipes. @throws INVALID_ARGUMENT.
 */
export function readRootKeyLine(fd: number, takesRaw = false): Uint8Array {
  // Two bytes more than a valid line, so that a longer file is seen as longer without reading it all.
  const line = new Uint8Array(LINE_LENGTH + 2);
  const key = new Uint8Array(KEY_LENGTH);
  try {
    const length = readToEnd(fd, line);
    if (length === 0) {
      throw refused('it is empty');
    }
    if (takesRaw && length === KEY_LENGTH) {
      key.set(line.subarray(0, KEY_LENGTH));
      return key;
    }
    const end = length === LINE_LENGTH + 1 && line[LINE_LENGTH] === LINE_FEED ? LINE_LENGTH : length;
    if (end > LINE_LENGTH) {
      throw refused(`it is longer than ${LINE_LENGTH} characters and one line feed`);
    }
    if (end < LINE_LENGTH) {
      throw refused(`it has ${end} characters`);
    }
    decodeLine(line, key);
    return key;
  } catch (error) {
    key.fill(0);
    throw error;
  } finally {
    line.fill(0);
  }
}

/** Writes `key` (32 bytes) to `fd` as `readRootKeyLine` reads it, with a line feed. @throws INVALID_ARGUMENT. */
export function writeRootKeyLine(fd: number, key: Uint8Array): void {
  const line = new Uint8Array(LINE_LENGTH + 1);
  try {
    encodeLine(key, line);
    line[LINE_LENGTH] = LINE_FEED;
    let written = 0;
    while (written < line.length) {
      written += writeSync(fd, line, written, line.length - written, null);
    }
  } catch (error) {
    throw new DekdError('INVALID_ARGUMENT', `cannot write the root key: ${codeOf(error)}`, { cause: error });
  } finally {
    line.fill(0);
  }
}

function readToEnd(fd: number, target: Uint8Array): number {
  let length = 0;
  try {
    while (length < target.length) {
      const count = readSync(fd, target, length, target.length - length, null);
      if (count === 0) {
        break;
      }
      length += count;
    }
  } catch (error) {
    throw new DekdError('INVALID_ARGUMENT', `cannot read the root key: ${codeOf(error)}`, { cause: error });
  }
  return length;
}

function decodeLine(line: Uint8Array, key: Uint8Array): void {
  if (line[LINE_LENGTH - 1] !== PAD) {
    throw refused('its last character is not the padding');
  }
  let bits = 0;
  let held = 0;
  let at = 0;
  for (let i = 0; i < LINE_LENGTH - 1; i++) {
    const value = sextet(line[i]!);
    if (value < 0) {
      throw refused(`character ${i + 1} is not base64`);
    }
    bits = ((bits << 6) | value) & 0xffff;
    held += 6;
    if (held >= 8) {
      held -= 8;
      key[at++] = (bits >> held) & 0xff;
    }
  }
  // 43 characters carry 258 bits; RFC 4648 3.5 lets a decoder refuse the two left over unless they are zero.
  if ((bits & 3) !== 0) {
    throw refused('its last two bits are not zero');
  }
}

function encodeLine(key: Uint8Array, line: Uint8Array): void {
  let bits = 0;
  let held = 0;
  let at = 0;
  for (let i = 0; i < KEY_LENGTH; i++) {
    bits = ((bits << 8) | key[i]!) & 0x3fff;
    held += 8;
    while (held >= 6) {
      held -= 6;
      line[at++] = ALPHABET[(bits >> held) & 63]!;
    }
  }
  line[at++] = ALPHABET[(bits << (6 - held)) & 63]!;
  line[at] = PAD;
}

/** The value of one base64 character, or -1. Compared, not looked up: a table's cache lines would depend on the key. */
function sextet(code: number): number {
  const upper = within(code, 0x41, 0x5a);
  const lower = within(code, 0x61, 0x7a);
  const digit = within(code, 0x30, 0x39);
  const plus = within(code, 0x2b, 0x2b);
  const slash = within(code, 0x2f, 0x2f);
  const value = (upper & (code - 65)) | (lower & (code - 71)) | (digit & (code + 4)) | (plus & 62) | (slash & 63);
  return value | ~(upper | lower | digit | plus | slash);
}

/** All ones when low <= code <= high, else zero. */
function within(code: number, low: number, high: number): number {
  return ~(((code - low) | (high - code)) >> 31);
}

function refused(reason: string): DekdError {
  return new DekdError(
    'INVALID_ARGUMENT',
    `a root key is 32 bytes as one line of base64, ${LINE_LENGTH} characters; ${reason}`,
  );
}

function codeOf(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : String(error);
}
