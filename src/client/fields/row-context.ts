/** Puts the pair that says which field a value is of into the canonical context of its row. */
import { MAX_CONTEXT_BYTES, readU16 } from '../../envelope/context-encoding.ts';
import { DekdError } from '../../errors.ts';
import type { Slab } from './slab.ts';

const COUNT_BYTES = 2;
const LENGTH_BYTES = 2;

/** Pairs of one name. */
export class PairSplice {
  readonly #name: Buffer;

  constructor(name: string) {
    this.#name = Buffer.from(name, 'utf8');
  }

  /** The pair of this name and `value`, as it stands in a context; fresh bytes. */
  pair(value: string): Uint8Array {
    const bytes = Buffer.from(value, 'utf8');
    const pair = Buffer.alloc(2 * LENGTH_BYTES + this.#name.length + bytes.length);
    pair.writeUInt16BE(this.#name.length, 0);
    pair.set(this.#name, LENGTH_BYTES);
    pair.writeUInt16BE(bytes.length, LENGTH_BYTES + this.#name.length);
    pair.set(bytes, 2 * LENGTH_BYTES + this.#name.length);
    return pair;
  }

  /** Where in a canonical context the pair belongs; -1 when there is one of that name. */
  placeIn(context: Uint8Array): number {
    let at = COUNT_BYTES;
    while (at < context.length) {
      const length = readU16(context, at);
      const order = this.#compare(context, at + LENGTH_BYTES, length);
      if (order <= 0) {
        return order === 0 ? -1 : at;
      }
      at += LENGTH_BYTES + length;
      at += LENGTH_BYTES + readU16(context, at);
    }
    return at;
  }

  /** Negative when this name stands before the one at `bytes[start, +length)`. */
  #compare(bytes: Uint8Array, start: number, length: number): number {
    const name = this.#name;
    for (let i = 0; i < name.length && i < length; i++) {
      const difference = name[i]! - bytes[start + i]!;
      if (difference !== 0) {
        return difference;
      }
    }
    return name.length - length;
  }
}

/** `context` with a pair more, at `place`. @throws INVALID_ARGUMENT when it is too long */
export function withPair(slab: Slab, context: Uint8Array, place: number, pair: Uint8Array): Uint8Array {
  const before = Math.max(context.length, COUNT_BYTES);
  const length = before + pair.length;
  if (length > MAX_CONTEXT_BYTES) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `the context with the path of its field has ${length} bytes, over the limit of ${MAX_CONTEXT_BYTES}`,
    );
  }
  const bytes = slab.take(length);
  const count = (context.length === 0 ? 0 : readU16(context, 0)) + 1;
  bytes[0] = count >> 8;
  bytes[1] = count;
  copy(context, COUNT_BYTES, place, bytes, COUNT_BYTES);
  copy(pair, 0, pair.length, bytes, place);
  copy(context, place, context.length, bytes, place + pair.length);
  return bytes;
}

/** A loop is faster than a call into the runtime for what contexts have. */
function copy(from: Uint8Array, start: number, end: number, into: Uint8Array, at: number): void {
  const shift = at - start;
  for (let i = start; i < end; i++) {
    into[i + shift] = from[i]!;
  }
}
