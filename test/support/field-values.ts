/** Random rows and the paths in them, found in another way than the client finds them. */
import fc from 'fast-check';

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type JsonRow = { [name: string]: Json };

/** A value in a row, by the member names and indices that lead to it. */
export interface Place {
  readonly path: string;
  readonly steps: readonly (string | number)[];
}

const HOSTILE_NAMES = ['__proto__', 'constructor', 'toString', 'field', 'length', '0', ' ', 'é', '\u{1f600}'];
const NO_NAME = /[.[\]]|^$/;

/** What has the form of a token and is none. */
const lookAlike = fc
  .uint8Array({ minLength: 56, maxLength: 90 })
  .map((bytes) => `dk1.${Buffer.from([0xc1, 0x01, ...bytes]).toString('base64url')}`);

const name = fc.oneof(
  fc.constantFrom('a', 'b', 'c', 'd'),
  fc.constantFrom(...HOSTILE_NAMES),
  fc.string({ unit: 'grapheme', maxLength: 6 }),
);

const text = fc.oneof(
  fc.string({ maxLength: 20 }),
  fc.string({ unit: 'binary', maxLength: 20 }),
  fc.constantFrom('', '"', '\\', '\u2028', '\ufeff', '\ufffd', 'dk1.', 'dk1.AAAA', 'null'),
  lookAlike,
);

const number = fc.oneof(
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.constantFrom(0, -0, 1e21, 5e-324, Number.MAX_SAFE_INTEGER, 2 ** 53),
);

export const { value: jsonValue } = fc.letrec<{ value: Json }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, depthSize: 'small' },
    fc.constant(null),
    fc.boolean(),
    number,
    text,
    fc.array(tie('value'), { maxLength: 4 }),
    // Rows of one array often have one shape.
    fc.array(fc.record({ a: tie('value'), b: tie('value') }, { requiredKeys: ['a'], noNullPrototype: true }), {
      maxLength: 3,
    }),
    fc.array(fc.tuple(name, tie('value')), { maxLength: 5 }).map(objectOf),
  ),
}));

export const jsonRow: fc.Arbitrary<JsonRow> = fc
  .array(fc.tuple(name, jsonValue), { minLength: 1, maxLength: 7 })
  .map(objectOf);

/** A plain object, of which every name is its own: `__proto__` too. */
export function objectOf(entries: readonly (readonly [string, Json])[]): JsonRow {
  const object: JsonRow = {};
  for (const [key, value] of entries) {
    Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
  }
  return object;
}

/** Every value in a row that can be named, with its path. */
export function placesIn(row: JsonRow): Place[] {
  const places: Place[] = [];
  const walk = (value: Json, path: string, steps: readonly (string | number)[]): void => {
    if (path !== '') {
      places.push({ path, steps });
    }
    if (Array.isArray(value)) {
      for (const [index, element] of value.entries()) {
        walk(element, `${path}[]`, [...steps, index]);
      }
    } else if (typeof value === 'object' && value !== null) {
      for (const key of Object.keys(value)) {
        if (!NO_NAME.test(key)) {
          walk(value[key]!, path === '' ? key : `${path}.${key}`, [...steps, key]);
        }
      }
    }
  };
  walk(row, '', []);
  return places;
}

/** Some of the paths of a row: none lies in another, and all that is met on the way has the shape that the path says. */
export function fieldsOf(row: JsonRow, places: readonly Place[], wishes: readonly number[]): string[] {
  const chosen: string[] = [];
  if (places.length === 0) {
    return chosen;
  }
  for (const wish of wishes) {
    const path = places[wish % places.length]!.path;
    const overlaps = (other: string): boolean => path === other || begins(path, other) || begins(other, path);
    if (!chosen.some(overlaps) && hasShape(row, path)) {
      chosen.push(path);
    }
  }
  return chosen;
}

function begins(inner: string, outer: string): boolean {
  return inner.startsWith(`${outer}.`) || inner.startsWith(`${outer}[`);
}

function hasShape(row: JsonRow, path: string): boolean {
  const steps = path.split(/\.|(?=\[\])/);
  const fits = (value: Json | undefined, at: number): boolean => {
    if (at === steps.length || value === null || value === undefined) {
      return true;
    }
    if (steps[at] === '[]') {
      return Array.isArray(value) && value.every((element) => fits(element, at + 1));
    }
    return (
      typeof value === 'object' &&
      !Array.isArray(value) &&
      fits(Object.hasOwn(value, steps[at]!) ? value[steps[at]!] : undefined, at + 1)
    );
  };
  return fits(row, 0);
}

export function valueAt(row: unknown, { steps }: Place): unknown {
  return steps.reduce<unknown>((value, step) => (value as Record<string, unknown>)[step], row);
}

/** A copy of a row with another value at a place. */
export function withValueAt<R>(row: R, place: Place, value: unknown): R {
  const copy = structuredClone(row);
  const holder = valueAt(copy, { ...place, steps: place.steps.slice(0, -1) });
  Object.defineProperty(holder, place.steps.at(-1)!, { value, enumerable: true, configurable: true, writable: true });
  return copy;
}

/** Where two values differ: order of names, prototypes and the sign of 0 count. Undefined when they do not. */
export function difference(a: unknown, b: unknown, where = '$'): string | undefined {
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) {
    return Object.is(a, b) ? undefined : where;
  }
  if (Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) {
    return `${where} (prototype)`;
  }
  const names = Object.keys(a);
  if (names.join('\0') !== Object.keys(b).join('\0')) {
    return `${where} (names)`;
  }
  for (const key of names) {
    const found = difference((a as JsonRow)[key], (b as JsonRow)[key], `${where}.${key}`);
    if (found !== undefined) {
      return found;
    }
  }
  return undefined;
}
