/**
 * What a MAC is for: a label, and the names that it is bound to, each with its length. It stands before context and data,
 * which have theirs too, so that no two MACs for different things have one input. The labels differ from each other and
 * from "dekd/v1/kid", under which key ids are computed, in the byte behind "dekd/v1/": none begins another.
 */
import { DekdError } from '../errors.ts';

export type MacLabel = 'dekd/v1/hmac' | 'dekd/v1/index' | 'dekd/v1/fingerprint';

const MAX_NAME = 0xffff;

/**
 * u16 length of the scope ‖ label ‖ for each name u16 length ‖ name, as `Engine.macMany` takes it.
 * @param names UTF-8 of at most 65,535 bytes each, and together; the first two are those of the key and its partition
 * @throws INVALID_ARGUMENT on longer ones, which no key has
 */
export function macScope(label: MacLabel, names: readonly string[]): Uint8Array {
  const encoded = names.map((name) => Buffer.from(name, 'utf8'));
  const length = label.length + encoded.reduce((sum, name) => sum + 2 + name.length, 0);
  if (length > MAX_NAME) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `names of ${length} bytes together: no key and no partition has such names`,
    );
  }
  const scope = Buffer.alloc(2 + length);
  let at = scope.writeUInt16BE(length, 0);
  at += scope.write(label, at, 'latin1');
  for (const name of encoded) {
    at = scope.writeUInt16BE(name.length, at);
    at += name.copy(scope, at);
  }
  return new Uint8Array(scope.buffer, scope.byteOffset, scope.length);
}

/** Remembers the last scope: callers ask for many MACs alike. */
export class MacScopeMemo {
  #label: MacLabel | undefined;
  #names: readonly string[] = [];
  #scope = new Uint8Array(0);

  /** The bytes are shared: nobody writes to them. */
  scope(label: MacLabel, ...names: readonly string[]): Uint8Array {
    const isLast =
      label === this.#label && names.length === this.#names.length && names.every((name, i) => name === this.#names[i]);
    if (!isLast) {
      this.#scope = macScope(label, names) as Uint8Array<ArrayBuffer>;
      this.#label = label;
      this.#names = names;
    }
    return this.#scope;
  }
}
