import { DekdError } from '../errors.ts';

/**
 * Canonical bytes of an encryption context: u16 count, then the pairs in ascending order of their UTF-8 names, each
 * u16 length ‖ name ‖ u16 length ‖ value, all big-endian. An empty context has no bytes at all. One map has one
 * encoding, whatever the order its names were set in, and no two maps share one.
 *
 * Pure bytes and no imports but the error, and apart from the reading of contexts: this much the client needs before all else.
 */

/** All bytes of a context, count and lengths included. */
export const MAX_CONTEXT_BYTES = 65_535;
/** Names beginning so belong to the message format (AWS Encryption SDK, encryption context). */
export const RESERVED_NAME_PREFIX = 'aws-crypto-';

export const COUNT_BYTES = 2;
export const LENGTH_BYTES = 2;
export const PAIR_OVERHEAD = 2 * LENGTH_BYTES;
const EMPTY = new Uint8Array(0);
const encoder = new TextEncoder();

/**
 * The canonical bytes of `context`; a fresh array, empty for an empty context. Only own enumerable names count, so
 * `__proto__` is a name like any other when it is one.
 * @throws INVALID_ARGUMENT naming the field: values that are no strings, lone surrogates, reserved names, too long.
 */
export function encodeContext(context: Readonly<Record<string, string>>): Uint8Array {
  checkPlainObject(context);
  const names = Object.keys(context);
  const count = names.length;
  if (count === 0) {
    return EMPTY;
  }
  let ascii = true;
  let length = COUNT_BYTES + count * PAIR_OVERHEAD;
  for (let i = 0; i < count; i++) {
    const name = names[i]!;
    const value: unknown = context[name];
    if (typeof value !== 'string') {
      throw new DekdError('INVALID_ARGUMENT', `context value of ${quote(name)} is ${typeName(value)}, not a string`);
    }
    if (name.startsWith(RESERVED_NAME_PREFIX)) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `context name ${quote(name)} begins with the reserved ${RESERVED_NAME_PREFIX}`,
      );
    }
    ascii = ascii && isAscii(name) && isAscii(value);
    length += name.length + value.length;
  }
  if (!ascii) {
    return encodeUnicode(context, names);
  }
  checkTotal(length);
  if (count > 1) {
    names.sort(compareAscii);
  }
  const bytes = new Uint8Array(length);
  bytes[0] = count >> 8;
  bytes[1] = count;
  let at = COUNT_BYTES;
  for (let i = 0; i < count; i++) {
    const name = names[i]!;
    at = putAscii(bytes, at, name);
    at = putAscii(bytes, at, context[name]!);
  }
  return bytes;
}

/** The general case: encode first, then sort by bytes, because UTF-16 order is another order above U+FFFF. */
function encodeUnicode(context: Readonly<Record<string, string>>, names: readonly string[]): Uint8Array {
  const pairs: Pair[] = names.map((name) => {
    const value = context[name]!;
    if (!name.isWellFormed()) {
      throw new DekdError('INVALID_ARGUMENT', `context name ${quote(name)} has a lone surrogate`);
    }
    if (!value.isWellFormed()) {
      throw new DekdError('INVALID_ARGUMENT', `context value of ${quote(name)} has a lone surrogate`);
    }
    return { name: encoder.encode(name), value: encoder.encode(value) };
  });
  return encodePairs(pairs);
}

export interface Pair {
  readonly name: Uint8Array;
  readonly value: Uint8Array;
}

/** Sorts the pairs, which have different names, and writes them. @throws INVALID_ARGUMENT when they are too long */
export function encodePairs(pairs: Pair[]): Uint8Array {
  let length = COUNT_BYTES;
  for (const { name, value } of pairs) {
    length += PAIR_OVERHEAD + name.length + value.length;
  }
  checkTotal(length);
  pairs.sort((a, b) => compareArrays(a.name, b.name));
  const bytes = new Uint8Array(length);
  bytes[0] = pairs.length >> 8;
  bytes[1] = pairs.length;
  let at = COUNT_BYTES;
  for (const { name, value } of pairs) {
    at = putBytes(bytes, at, name);
    at = putBytes(bytes, at, value);
  }
  return bytes;
}

/** A Map or an array has no names of its own: taken for a context it would silently bind nothing. */
function checkPlainObject(context: unknown): void {
  if (typeof context === 'object' && context !== null) {
    const prototype: unknown = Object.getPrototypeOf(context);
    if (prototype === Object.prototype || prototype === null) {
      return;
    }
    if (Object.prototype.toString.call(context) === '[object Object]') {
      return;
    }
  }
  throw new DekdError('INVALID_ARGUMENT', `context is ${typeName(context)}, not an object of strings`);
}

export function checkTotal(length: number): void {
  if (length > MAX_CONTEXT_BYTES) {
    throw new DekdError('INVALID_ARGUMENT', `context of ${length} bytes is over the limit of ${MAX_CONTEXT_BYTES}`);
  }
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    if (text.charCodeAt(i) > 0x7f) {
      return false;
    }
  }
  return true;
}

function compareAscii(a: string, b: string): number {
  return a < b ? -1 : 1;
}

function putAscii(bytes: Uint8Array, at: number, text: string): number {
  const length = text.length;
  bytes[at] = length >> 8;
  bytes[at + 1] = length;
  const start = at + LENGTH_BYTES;
  for (let i = 0; i < length; i++) {
    bytes[start + i] = text.charCodeAt(i);
  }
  return start + length;
}

/** Writes u16 length ‖ part at `at`; returns the offset after it. */
export function putBytes(bytes: Uint8Array, at: number, part: Uint8Array): number {
  bytes[at] = part.length >> 8;
  bytes[at + 1] = part.length;
  bytes.set(part, at + LENGTH_BYTES);
  return at + LENGTH_BYTES + part.length;
}

/** The big-endian u16 at `at`. */
export function readU16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

export function compareArrays(a: Uint8Array, b: Uint8Array): number {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i++) {
    const difference = a[i]! - b[i]!;
    if (difference !== 0) {
      return difference;
    }
  }
  return a.length - b.length;
}

/** Names are not secret and are shown, cut to a readable length. */
function quote(name: string): string {
  return JSON.stringify(name.length > 64 ? `${name.slice(0, 64)}…` : name);
}

function typeName(value: unknown): string {
  if (value === null) {
    return 'null';
  }
  if (Array.isArray(value)) {
    return 'an array';
  }
  if (typeof value === 'object') {
    return `a ${Object.prototype.toString.call(value).slice(8, -1)}`;
  }
  return typeof value;
}
