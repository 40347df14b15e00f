/**
 * Finds the byte ranges of named values in JSON Lines without building anything.
 *
 * The grammar is RFC 8259, whole and strict, except that a newline ends the record. Every line must end in a newline
 * byte: it is the sentinel that lets the loops below run without comparing against an end. (A newline stops a string, a
 * number, a literal and white space alike.) UTF-8 is not checked here; the whole block is, at once, by the caller.
 */
import type { FieldNode, FieldSet } from '../../client/fields/field-path.ts';

/** Deeper JSON is refused: recursion has to end somewhere, well before the stack does. */
export const MAX_DEPTH = 1_000;

/** Words of one row in `Matches`. */
const MATCH_WORDS = 3;

/** Not JSON at `offset` of the bytes scanned. */
export class JsonSyntaxError extends Error {
  override readonly name = 'JsonSyntaxError';
  /** Byte offset from the start of the scanned bytes. */
  readonly offset: number;

  constructor(offset: number, message: string) {
    super(message);
    this.offset = offset;
  }
}

/** Ranges found, in the order of the bytes: field index, first byte, byte after the last. */
export class Matches {
  #words = new Int32Array(MATCH_WORDS * 1_024);
  count = 0;
  /** Values on the way of a path that were neither null nor of the shape the path says, and the offset of the first. */
  misshapen = 0;
  firstMisshapen = -1;

  add(field: number, start: number, end: number): void {
    const at = this.count * MATCH_WORDS;
    if (at === this.#words.length) {
      const larger = new Int32Array(at * 2);
      larger.set(this.#words);
      this.#words = larger;
    }
    this.#words[at] = field;
    this.#words[at + 1] = start;
    this.#words[at + 2] = end;
    this.count += 1;
  }

  field(index: number): number {
    return this.#words[index * MATCH_WORDS]!;
  }

  start(index: number): number {
    return this.#words[index * MATCH_WORDS + 1]!;
  }

  end(index: number): number {
    return this.#words[index * MATCH_WORDS + 2]!;
  }

  /** Drops the matches from `offset` on. */
  cutAt(offset: number): void {
    while (this.count > 0 && this.start(this.count - 1) >= offset) {
      this.count -= 1;
    }
  }
}

const TAB = 0x09;
const NEWLINE = 0x0a;
const RETURN = 0x0d;
const SPACE = 0x20;
const QUOTE = 0x22;
const COMMA = 0x2c;
const MINUS = 0x2d;
const DOT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;
const COLON = 0x3a;
const OPEN_BRACKET = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_BRACKET = 0x5d;
const LOWER_F = 0x66;
const LOWER_N = 0x6e;
const LOWER_T = 0x74;
const LOWER_U = 0x75;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/** 1 where a byte simply continues a string: no control character, quote or backslash. */
const PLAIN = new Uint8Array(256).map((_, byte) => (byte >= 0x20 && byte !== QUOTE && byte !== BACKSLASH ? 1 : 0));
/** 1 where a byte may follow a backslash, `u` aside. */
const ESCAPE = new Uint8Array(256);
for (const byte of Buffer.from('"\\/bfnrt', 'latin1')) {
  ESCAPE[byte] = 1;
}
const HEX = new Uint8Array(256);
for (const byte of Buffer.from('0123456789abcdefABCDEF', 'latin1')) {
  HEX[byte] = 1;
}

/**
 * Scans the line that starts at `start` and adds the ranges of the named values to `matches`.
 *
 * @param bytes holds a newline at or after `start`.
 * @returns the offset of the newline that ends the line, or its complement (`~offset`, negative) when the line is blank.
 * @throws JsonSyntaxError
 */
export function scanLine(bytes: Uint8Array, start: number, fields: FieldSet, matches: Matches): number {
  let at = skipSpace(bytes, start);
  if (bytes[at] === NEWLINE) {
    return ~at;
  }
  at = skipSpace(bytes, walk(bytes, at, fields.root, matches, 0));
  if (bytes[at] !== NEWLINE) {
    throw new JsonSyntaxError(at, 'more follows the value of the line');
  }
  return at;
}

/**
 * Checks that `[start, end)` is exactly one JSON value on one line; `bytes[end]` must be a newline.
 *
 * @throws JsonSyntaxError
 */
export function checkValue(bytes: Uint8Array, start: number, end: number): void {
  const at = skipValue(bytes, start, 0);
  if (at !== end) {
    throw new JsonSyntaxError(at, 'more follows the value');
  }
}

function walk(bytes: Uint8Array, at: number, node: FieldNode, matches: Matches, depth: number): number {
  if (node.field >= 0) {
    const end = skipValue(bytes, at, depth);
    matches.add(node.field, at, end);
    return end;
  }
  const first = bytes[at]!;
  if (first === OPEN_BRACE && node.members.length > 0) {
    return walkObject(bytes, at, node, matches, depth);
  }
  if (first === OPEN_BRACKET && node.element !== undefined) {
    return walkArray(bytes, at, node.element, matches, depth);
  }
  if (first !== LOWER_N) {
    matches.misshapen += 1;
    if (matches.firstMisshapen < 0) {
      matches.firstMisshapen = at;
    }
  }
  return skipValue(bytes, at, depth);
}

function walkObject(bytes: Uint8Array, open: number, node: FieldNode, matches: Matches, depth: number): number {
  if (depth === MAX_DEPTH) {
    throw tooDeep(open);
  }
  let at = skipSpace(bytes, open + 1);
  if (bytes[at] === CLOSE_BRACE) {
    return at + 1;
  }
  for (;;) {
    const nameStart = at;
    at = skipName(bytes, at);
    const child = memberAt(bytes, nameStart, at, node);
    at = skipColon(bytes, at);
    at = child === undefined ? skipValue(bytes, at, depth + 1) : walk(bytes, at, child, matches, depth + 1);
    at = skipSpace(bytes, at);
    if (bytes[at] === CLOSE_BRACE) {
      return at + 1;
    }
    at = skipComma(bytes, at, 'object');
  }
}

function walkArray(bytes: Uint8Array, open: number, node: FieldNode, matches: Matches, depth: number): number {
  if (depth === MAX_DEPTH) {
    throw tooDeep(open);
  }
  let at = skipSpace(bytes, open + 1);
  if (bytes[at] === CLOSE_BRACKET) {
    return at + 1;
  }
  for (;;) {
    at = skipSpace(bytes, walk(bytes, at, node, matches, depth + 1));
    if (bytes[at] === CLOSE_BRACKET) {
      return at + 1;
    }
    at = skipComma(bytes, at, 'array');
  }
}

/** The child a member name leads to; `start` is its opening quote, `end` the byte after its closing one. */
function memberAt(bytes: Uint8Array, start: number, end: number, node: FieldNode): FieldNode | undefined {
  const length = end - start - 2;
  for (const member of node.members) {
    const name = member.bytes;
    // An escaped name is longer than what it says, so a shorter text cannot be this name in any spelling.
    if (length === name.length && equalAt(bytes, start + 1, name)) {
      return member.node;
    }
  }
  for (let at = start + 1; at < end - 1; at += 1) {
    if (bytes[at] === BACKSLASH) {
      const name = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('utf8'));
      return node.members.find((member) => member.name === name)?.node;
    }
  }
  return undefined;
}

function equalAt(bytes: Uint8Array, at: number, name: Uint8Array): boolean {
  for (let index = 0; index < name.length; index += 1) {
    if (bytes[at + index] !== name[index]) {
      return false;
    }
  }
  return true;
}

/** @returns the offset after the value that starts at `at`. */
function skipValue(bytes: Uint8Array, at: number, depth: number): number {
  const first = bytes[at]!;
  if (first === QUOTE) {
    return skipString(bytes, at);
  }
  if (first === MINUS || (first >= ZERO && first <= NINE)) {
    return skipNumber(bytes, at);
  }
  if (first === OPEN_BRACE) {
    return skipObject(bytes, at, depth);
  }
  if (first === OPEN_BRACKET) {
    return skipArray(bytes, at, depth);
  }
  if (first === LOWER_T) {
    return skipWord(bytes, at, TRUE);
  }
  if (first === LOWER_F) {
    return skipWord(bytes, at, FALSE);
  }
  if (first === LOWER_N) {
    return skipWord(bytes, at, NULL);
  }
  throw new JsonSyntaxError(at, first === NEWLINE ? 'the line ends where a value is due' : 'no value starts here');
}

function skipObject(bytes: Uint8Array, open: number, depth: number): number {
  if (depth === MAX_DEPTH) {
    throw tooDeep(open);
  }
  let at = skipSpace(bytes, open + 1);
  if (bytes[at] === CLOSE_BRACE) {
    return at + 1;
  }
  for (;;) {
    at = skipColon(bytes, skipName(bytes, at));
    at = skipSpace(bytes, skipValue(bytes, at, depth + 1));
    if (bytes[at] === CLOSE_BRACE) {
      return at + 1;
    }
    at = skipComma(bytes, at, 'object');
  }
}

function skipArray(bytes: Uint8Array, open: number, depth: number): number {
  if (depth === MAX_DEPTH) {
    throw tooDeep(open);
  }
  let at = skipSpace(bytes, open + 1);
  if (bytes[at] === CLOSE_BRACKET) {
    return at + 1;
  }
  for (;;) {
    at = skipSpace(bytes, skipValue(bytes, at, depth + 1));
    if (bytes[at] === CLOSE_BRACKET) {
      return at + 1;
    }
    at = skipComma(bytes, at, 'array');
  }
}

function skipName(bytes: Uint8Array, at: number): number {
  if (bytes[at] !== QUOTE) {
    throw new JsonSyntaxError(at, bytes[at] === NEWLINE ? 'the line ends inside an object' : 'a member name is due');
  }
  return skipString(bytes, at);
}

function skipColon(bytes: Uint8Array, from: number): number {
  const at = skipSpace(bytes, from);
  if (bytes[at] !== COLON) {
    throw new JsonSyntaxError(at, bytes[at] === NEWLINE ? 'the line ends inside an object' : 'a colon is due');
  }
  return skipSpace(bytes, at + 1);
}

function skipComma(bytes: Uint8Array, at: number, inside: 'object' | 'array'): number {
  if (bytes[at] !== COMMA) {
    const due = inside === 'object' ? 'a comma or } is due' : 'a comma or ] is due';
    throw new JsonSyntaxError(at, bytes[at] === NEWLINE ? `the line ends inside an ${inside}` : due);
  }
  return skipSpace(bytes, at + 1);
}

function skipString(bytes: Uint8Array, open: number): number {
  let at = open + 1;
  for (;;) {
    while (PLAIN[bytes[at]!] === 1) {
      at += 1;
    }
    const byte = bytes[at]!;
    if (byte === QUOTE) {
      return at + 1;
    }
    if (byte !== BACKSLASH) {
      throw new JsonSyntaxError(
        at,
        byte === NEWLINE ? 'the line ends inside a string' : 'a control character in a string',
      );
    }
    const escaped = bytes[at + 1]!;
    if (ESCAPE[escaped] === 1) {
      at += 2;
    } else if (
      escaped === LOWER_U &&
      HEX[bytes[at + 2]!] === 1 &&
      HEX[bytes[at + 3]!] === 1 &&
      HEX[bytes[at + 4]!] === 1 &&
      HEX[bytes[at + 5]!] === 1
    ) {
      at += 6;
    } else {
      throw new JsonSyntaxError(at, 'an unknown escape in a string');
    }
  }
}

function skipNumber(bytes: Uint8Array, start: number): number {
  let at = bytes[start] === MINUS ? start + 1 : start;
  at = bytes[at] === ZERO ? at + 1 : skipDigits(bytes, at);
  if (bytes[at] === DOT) {
    at = skipDigits(bytes, at + 1);
  }
  if (bytes[at] === 0x65 || bytes[at] === 0x45) {
    at += 1;
    if (bytes[at] === MINUS || bytes[at] === 0x2b) {
      at += 1;
    }
    at = skipDigits(bytes, at);
  }
  return at;
}

function skipDigits(bytes: Uint8Array, from: number): number {
  let at = from;
  let byte = bytes[at]!;
  if (byte < ZERO || byte > NINE) {
    throw new JsonSyntaxError(at, 'a digit is due');
  }
  while (byte >= ZERO && byte <= NINE) {
    at += 1;
    byte = bytes[at]!;
  }
  return at;
}

const TRUE = Buffer.from('true', 'latin1');
const FALSE = Buffer.from('false', 'latin1');
const NULL = Buffer.from('null', 'latin1');

function skipWord(bytes: Uint8Array, at: number, word: Uint8Array): number {
  for (let index = 1; index < word.length; index += 1) {
    if (bytes[at + index] !== word[index]) {
      throw new JsonSyntaxError(at, 'no value starts here');
    }
  }
  return at + word.length;
}

function skipSpace(bytes: Uint8Array, from: number): number {
  let at = from;
  let byte = bytes[at];
  while (byte === SPACE || byte === RETURN || byte === TAB) {
    at += 1;
    byte = bytes[at];
  }
  return at;
}

function tooDeep(at: number): JsonSyntaxError {
  return new JsonSyntaxError(at, `nested deeper than ${MAX_DEPTH} levels`);
}
