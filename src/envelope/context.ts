import { DekdError } from '../errors.ts';
import {
  COUNT_BYTES,
  checkTotal,
  compareArrays,
  encodePairs,
  LENGTH_BYTES,
  PAIR_OVERHEAD,
  type Pair,
  RESERVED_NAME_PREFIX,
  readU16,
} from './context-encoding.ts';

/** Reading of contexts, and of those that messages store; the bytes are described where they are written. */
export { encodeContext, MAX_CONTEXT_BYTES, putBytes, RESERVED_NAME_PREFIX, readU16 } from './context-encoding.ts';

const EMPTY = new Uint8Array(0);
const RESERVED = new TextEncoder().encode(RESERVED_NAME_PREFIX);
const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

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
