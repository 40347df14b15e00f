/** The canonical context of every value of a row: what the application says of the row, and the path of the value. */
import { fieldAt, MAX_CONTEXT_BYTES } from '../../envelope/context.ts';
import { DekdError } from '../../errors.ts';

const COUNT_BYTES = 2;
const LENGTH_BYTES = 2;

/** Name of the pair that says which field a value is of: that of `--fields` of the command line too. */
export const FIELD_NAME = 'field';
/** Name of the pair that says where in its arrays a value is, where positions are bound. */
export const POSITION_NAME = 'position';

/** Puts pairs of one name into canonical contexts that have no such pair. */
export class PairSplice {
  readonly #name: Buffer;

  constructor(name: string) {
    this.#name = Buffer.from(name, 'utf8');
  }

  /** The pair of this name and `value`, as it stands in a context. */
  pair(value: string): Uint8Array {
    const bytes = Buffer.from(value, 'utf8');
    const pair = new Uint8Array(2 * LENGTH_BYTES + this.#name.length + bytes.length);
    let at = 0;
    for (const part of [this.#name, bytes]) {
      pair[at++] = part.length >> 8;
      pair[at++] = part.length;
      pair.set(part, at);
      at += part.length;
    }
    return pair;
  }

  /** Where the pair belongs in a context, in bytes; -1 when it has one of that name. */
  placeIn(context: Uint8Array): number {
    let at = COUNT_BYTES;
    while (at < context.length) {
      const name = fieldAt(context, at);
      const order = Buffer.compare(name, this.#name);
      if (order >= 0) {
        return order === 0 ? -1 : at;
      }
      at += LENGTH_BYTES + name.length;
      at += LENGTH_BYTES + fieldAt(context, at).length;
    }
    return COUNT_BYTES;
  }
}

/** `context` with a pair more, put in at `place`; fresh bytes. @throws INVALID_ARGUMENT when it is too long */
export function withPair(context: Uint8Array, place: number, pair: Uint8Array): Uint8Array {
  const length = Math.max(context.length, COUNT_BYTES) + pair.length;
  if (length > MAX_CONTEXT_BYTES) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `context of ${length} bytes with its field is over the limit of ${MAX_CONTEXT_BYTES}`,
    );
  }
  const bytes = new Uint8Array(length);
  const count = (context.length === 0 ? 0 : (context[0]! << 8) | context[1]!) + 1;
  bytes.set(context.subarray(0, place));
  bytes[0] = count >> 8;
  bytes[1] = count;
  bytes.set(pair, place);
  bytes.set(context.subarray(place), place + pair.length);
  return bytes;
}
