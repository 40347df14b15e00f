/** Paths as MongoDB writes them, against paths of encrypted fields: `cards.0.pan` and `cards.$[].pan` are of `cards[].pan`. */
import type { LooseDocument } from '../document-cipher.ts';

/** A step into an array. */
const ELEMENT = '[]';

/** Steps of the path of a field, or of one in an update. */
export function stepsOf(path: string): string[] {
  return path
    .replaceAll('[]', '.[]')
    .split('.')
    .map((step) => (/^(\d+|\$|\$\[.*\])$/.test(step) ? ELEMENT : step));
}

export type Relation = 'same' | 'above' | 'below' | 'none';

/** Where a path of a query is, seen from an encrypted one. Steps into arrays do not count: queries leave them out. */
export function relationOf(path: readonly string[], encrypted: readonly string[]): Relation {
  const one = path.filter((step) => step !== ELEMENT);
  const other = encrypted.filter((step) => step !== ELEMENT);
  const common = Math.min(one.length, other.length);
  for (let i = 0; i < common; i++) {
    if (one[i] !== other[i]) {
      return 'none';
    }
  }
  return one.length === other.length ? 'same' : one.length < other.length ? 'above' : 'below';
}

/** Where a path of an update is: steps into arrays count, so that an element is not its array. */
export function placeOf(path: readonly string[], encrypted: readonly string[]): Relation {
  const relation = relationOf(path, encrypted);
  if (relation !== 'same') {
    return relation;
  }
  return path.length === encrypted.length ? 'same' : path.length < encrypted.length ? 'above' : 'below';
}

/** An object with `value` where the steps lead. */
export function nested(steps: readonly string[], value: unknown): unknown {
  return steps.reduceRight<unknown>((inner, step) => (step === ELEMENT ? [inner] : { [step]: inner }), value);
}

/** What is where the steps lead, through the first element of arrays. */
export function valueAt(holder: unknown, steps: readonly string[]): unknown {
  return steps.reduce<unknown>((inner, step) => {
    if (inner === null || inner === undefined) {
      return undefined;
    }
    return step === ELEMENT ? (inner as unknown[])[0] : (inner as LooseDocument)[step];
  }, holder);
}

interface Convertible {
  toBSON?(): unknown;
  readonly _bsontype?: unknown;
}

/** Objects of Mongoose as the plain ones that would be stored; values of BSON as they are. */
export function plain(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) {
    return value;
  }
  const { toBSON, _bsontype } = value as Convertible;
  if (_bsontype !== undefined || value instanceof Date || value instanceof Uint8Array) {
    return value;
  }
  if (Array.isArray(value)) {
    return Array.from(value, plain);
  }
  if (value instanceof Map) {
    return Object.fromEntries(Array.from(value, ([name, each]) => [String(name), plain(each)]));
  }
  if (typeof toBSON === 'function') {
    const converted = toBSON.call(value);
    return converted === value ? value : plain(converted);
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null
    ? Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each)]))
    : value;
}
