import { DekdError } from '../errors.ts';

/**
 * Canonical bytes of an encryption context: u16 count, then the pairs in ascending order of their UTF-8 names, each
 * u16 length ‖ name ‖ u16 length ‖ value, all big-endian. An empty context has no bytes at all. One map has one
 * encoding, whatever the order its names were set in, and no two maps share one.
 *
 * Pure bytes and no imports but the error: the client uses it too.
 */

/** All bytes of a context, count and lengths included. */
export const MAX_CONTEXT_BYTES = 65_535;
/** Names beginning so belong to the message format (AWS Encryption SDK, encryption context). */
export const RESERVED_NAME_PREFIX = 'aws-crypto-';

const COUNT_BYTES = 2;
const LENGTH_BYTES = 2;
const PAIR_OVERHEAD = 2 * LENGTH_BYTES;
const EMPTY = new Uint8Array(0);
const RESERVED = new TextEncoder().encode(RESERVED_NAME_PREFIX);
const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

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

/**
 * Checks that `bytes[offset, +length)` is what `encodeContext` writes for some context.
 * @throws INVALID_ARGUMENT otherwise.
 */
export function checkContext(bytes: Uint8Array, offset: number, length: number): void {
  if (length === 0) {
    return;
  }
  checkTotal(length);
  const check = new ContextCheck('caller', offset, length);
  if (!check.advance(bytes)) {
    throw check.refusal('it is cut short');
  }
}

/**
 * Where a context is from, and so what is asked of it. A caller's is canonical and has no reserved names, and is an
 * INVALID_ARGUMENT when it is not. One stored in a message may have them and may have its names in any order, because
 * other writers do (see `sortedContext`), and is MALFORMED where it is no context at all.
 */
export type ContextOrigin = 'caller' | 'message';

/**
 * The check of canonical bytes that may still be arriving. Every name and value is judged once, when its last byte is
 * there, and a length when it is there, so the work is the same however the bytes were cut.
 */
export class ContextCheck {
  readonly #origin: ContextOrigin;
  /** Where the next length is. */
  #at: number;
  /** Names and values still to come; -1 before the count has come. */
  #fields = -1;
  /** Bytes that the fields to come have to fill, their lengths aside. */
  #room: number;
  #name = 0;
  #nameLength = -1;

  /**
   * @param offset where the count is in the bytes given to `advance`
   * @param length of the whole context in bytes, never 0
   * @throws when no context has this length
   */
  constructor(origin: ContextOrigin, offset: number, length: number) {
    this.#origin = origin;
    this.#at = offset;
    this.#room = length - COUNT_BYTES;
    if (length < COUNT_BYTES + PAIR_OVERHEAD) {
      throw this.refusal(`no pair has room in ${length} bytes, and an empty context has none`);
    }
  }

  /**
   * Judges what has come since the last call.
   * @param bytes all that has come so far, with what stands in front of the context; bytes behind it are not looked at
   * @returns whether the context is whole, and canonical; false when more bytes are needed
   * @throws INVALID_ARGUMENT or MALFORMED, by origin; the check is of no more use then
   */
  advance(bytes: Uint8Array): boolean {
    if (this.#fields < 0) {
      if (bytes.length < this.#at + COUNT_BYTES) {
        return false;
      }
      this.#readCount(bytes);
    }
    while (this.#fields > 0) {
      const start = this.#at + LENGTH_BYTES;
      if (bytes.length < start) {
        return false;
      }
      const length = readU16(bytes, this.#at);
      if (length > this.#room) {
        throw this.refusal('it is cut short');
      }
      if (this.#fields === 1 && length < this.#room) {
        throw this.refusal(`${this.#room - length} bytes follow its last pair`);
      }
      if (bytes.length < start + length) {
        return false;
      }
      if (!isUtf8(bytes, start, length)) {
        throw this.refusal('it is not UTF-8');
      }
      if (this.#fields % 2 === 0) {
        this.#checkName(bytes, start, length);
      }
      this.#at = start + length;
      this.#room -= length;
      this.#fields--;
    }
    return true;
  }

  /** What to throw about a context of this origin that is not canonical. */
  refusal(reason: string): DekdError {
    return this.#origin === 'caller'
      ? new DekdError('INVALID_ARGUMENT', `context is not in canonical form: ${reason}`)
      : new DekdError('MALFORMED', `malformed context of the message: ${reason}`);
  }

  #readCount(bytes: Uint8Array): void {
    const count = readU16(bytes, this.#at);
    if (count === 0) {
      throw this.refusal('an empty context has no bytes');
    }
    this.#at += COUNT_BYTES;
    this.#fields = 2 * count;
    this.#room -= PAIR_OVERHEAD * count;
    if (this.#room < 0) {
      throw this.refusal('it is cut short');
    }
  }

  #checkName(bytes: Uint8Array, name: number, length: number): void {
    if (this.#origin === 'message') {
      return;
    }
    if (this.#nameLength >= 0 && compareBytes(bytes, this.#name, this.#nameLength, name, length) >= 0) {
      throw this.refusal('its names are not in strictly ascending order');
    }
    if (startsWithReserved(bytes, name, length)) {
      throw new DekdError('INVALID_ARGUMENT', `a context name begins with the reserved ${RESERVED_NAME_PREFIX}`);
    }
    this.#name = name;
    this.#nameLength = length;
  }
}

/**
 * Canonical bytes of the context in a message (checked before), whatever the order of its names there; a fresh array.
 * @throws MALFORMED when two pairs have one name
 */
export function sortedContext(bytes: Uint8Array): Uint8Array {
  const pairs = pairsOf(bytes);
  const sorted = pairs.length === 0 ? EMPTY : encodePairs(pairs);
  if (pairs.some(({ name }, index) => index > 0 && compareArrays(pairs[index - 1]!.name, name) === 0)) {
    throw new DekdError('MALFORMED', 'malformed context of the message: two pairs have one name');
  }
  return sorted;
}

/** The pairs in the order in which they stand; views. */
function pairsOf(bytes: Uint8Array): Pair[] {
  const pairs: Pair[] = [];
  let at = COUNT_BYTES;
  while (at < bytes.length) {
    const name = fieldAt(bytes, at);
    const value = fieldAt(bytes, at + LENGTH_BYTES + name.length);
    at += PAIR_OVERHEAD + name.length + value.length;
    pairs.push({ name, value });
  }
  return pairs;
}

/** What stands behind the u16 length at `at`; a view. */
export function fieldAt(bytes: Uint8Array, at: number): Uint8Array {
  const start = at + LENGTH_BYTES;
  return bytes.subarray(start, start + readU16(bytes, at));
}

/** Whether canonical bytes (checked before) hold a pair of this name. */
export function hasContextName(bytes: Uint8Array, offset: number, length: number, name: string): boolean {
  const wanted = encoder.encode(name);
  const end = offset + length;
  let at = offset + COUNT_BYTES;
  while (at < end) {
    const nameLength = readU16(bytes, at);
    at += LENGTH_BYTES;
    if (nameLength === wanted.length && sameBytes(bytes, at, wanted)) {
      return true;
    }
    at += nameLength;
    at += LENGTH_BYTES + readU16(bytes, at);
  }
  return false;
}

/** The names in canonical bytes (checked before), in their order. */
export function contextNames(bytes: Uint8Array, offset = 0, length: number = bytes.length - offset): string[] {
  const names: string[] = [];
  const end = offset + length;
  let at = offset + COUNT_BYTES;
  while (at < end) {
    const nameLength = readU16(bytes, at);
    at += LENGTH_BYTES;
    names.push(decoder.decode(bytes.subarray(at, at + nameLength)));
    at += nameLength;
    at += LENGTH_BYTES + readU16(bytes, at);
  }
  return names;
}

/**
 * The context in canonical bytes, as an object without prototype, so that every name is data.
 * @throws INVALID_ARGUMENT when the bytes are not canonical.
 */
export function decodeContext(
  bytes: Uint8Array,
  offset = 0,
  length: number = bytes.length - offset,
): Record<string, string> {
  checkContext(bytes, offset, length);
  return contextOf(bytes, offset, length);
}

/** The context in canonical bytes (checked before, whatever its origin), as an object without prototype. */
export function contextOf(bytes: Uint8Array, offset: number, length: number): Record<string, string> {
  const context = Object.create(null) as Record<string, string>;
  const end = offset + length;
  let at = offset + COUNT_BYTES;
  while (at < end) {
    const nameLength = readU16(bytes, at);
    const name = decoder.decode(bytes.subarray(at + LENGTH_BYTES, at + LENGTH_BYTES + nameLength));
    at += LENGTH_BYTES + nameLength;
    const valueLength = readU16(bytes, at);
    context[name] = decoder.decode(bytes.subarray(at + LENGTH_BYTES, at + LENGTH_BYTES + valueLength));
    at += LENGTH_BYTES + valueLength;
  }
  return context;
}

/**
 * Canonical bytes of the pairs of two canonical contexts (checked before), which have no name in common. Unlike
 * `encodeContext` it takes the reserved names that a message may store; a fresh array.
 * @throws INVALID_ARGUMENT when they are too long together
 */
export function mergedContext(one: Uint8Array, other: Uint8Array): Uint8Array {
  if (one.length === 0 || other.length === 0) {
    return (one.length === 0 ? other : one).slice();
  }
  return encodePairs([...pairsOf(one), ...pairsOf(other)]);
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

interface Pair {
  readonly name: Uint8Array;
  readonly value: Uint8Array;
}

/** Sorts the pairs, which have different names, and writes them. @throws INVALID_ARGUMENT when they are too long */
function encodePairs(pairs: Pair[]): Uint8Array {
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

function checkTotal(length: number): void {
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

/** RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
export function isUtf8(bytes: Uint8Array, offset: number, length: number): boolean {
  const end = offset + length;
  let at = offset;
  while (at < end) {
    const lead = bytes[at]!;
    if (lead < 0x80) {
      at++;
      continue;
    }
    const extra = lead < 0xc2 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : lead < 0xf5 ? 3 : 0;
    if (extra === 0 || at + extra >= end) {
      return false;
    }
    const second = bytes[at + 1]!;
    const low = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
    const high = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
    if (second < low || second > high) {
      return false;
    }
    for (let i = 2; i <= extra; i++) {
      if ((bytes[at + i]! & 0xc0) !== 0x80) {
        return false;
      }
    }
    at += extra + 1;
  }
  return true;
}

function compareBytes(bytes: Uint8Array, a: number, aLength: number, b: number, bLength: number): number {
  const shared = Math.min(aLength, bLength);
  for (let i = 0; i < shared; i++) {
    const difference = bytes[a + i]! - bytes[b + i]!;
    if (difference !== 0) {
      return difference;
    }
  }
  return aLength - bLength;
}

function compareArrays(a: Uint8Array, b: Uint8Array): number {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i++) {
    const difference = a[i]! - b[i]!;
    if (difference !== 0) {
      return difference;
    }
  }
  return a.length - b.length;
}

function sameBytes(bytes: Uint8Array, at: number, wanted: Uint8Array): boolean {
  for (let i = 0; i < wanted.length; i++) {
    if (bytes[at + i] !== wanted[i]) {
      return false;
    }
  }
  return true;
}

function startsWithReserved(bytes: Uint8Array, at: number, length: number): boolean {
  return length >= RESERVED.length && sameBytes(bytes, at, RESERVED);
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
