/** Filters, updates and projections over documents, as far as they are stood in for; anything else throws. */
import { isDeepStrictEqual } from 'node:util';
import type { Json } from './wire.ts';

export class NotStoodIn extends Error {
  override readonly name = 'NotStoodIn';
}

function comparable(value: unknown): unknown {
  const { _bsontype, toHexString } = (value ?? {}) as { _bsontype?: string; toHexString?(): string };
  if (_bsontype === 'ObjectId') {
    return `oid:${toHexString!.call(value)}`;
  }
  return value instanceof Date ? value.getTime() : value;
}

export function same(one: unknown, other: unknown): boolean {
  return isDeepStrictEqual(comparable(one), comparable(other));
}

/** All that is at a path, through arrays; a member that is missing is undefined. */
function valuesAt(value: unknown, path: readonly string[]): unknown[] {
  const [step, ...rest] = path;
  if (step === undefined) {
    return Array.isArray(value) ? [value, ...value] : [value];
  }
  if (Array.isArray(value)) {
    const element = /^\d+$/.test(step) ? valuesAt(value[Number(step)], rest) : [];
    return [...element, ...value.flatMap((each) => (typeof each === 'object' ? valuesAt(each, path) : []))];
  }
  return typeof value === 'object' && value !== null ? valuesAt((value as Json)[step], rest) : [undefined];
}

export function matches(document: unknown, filter: Json): boolean {
  return Object.entries(filter).every(([name, condition]) => {
    switch (name) {
      case '$and':
        return (condition as Json[]).every((each) => matches(document, each));
      case '$or':
        return (condition as Json[]).some((each) => matches(document, each));
      case '$nor':
        return !(condition as Json[]).some((each) => matches(document, each));
    }
    if (name.startsWith('$')) {
      throw new NotStoodIn(`the filter ${name}`);
    }
    return meets(valuesAt(document, name.split('.')), condition);
  });
}

function meets(values: readonly unknown[], condition: unknown): boolean {
  const operators =
    typeof condition === 'object' && condition !== null
      ? Object.keys(condition).filter((name) => name.startsWith('$'))
      : [];
  const equals = (operand: unknown) => values.some((value) => same(value ?? null, operand ?? null));
  if (operators.length === 0) {
    return equals(condition);
  }
  return operators.every((operator) => {
    const operand = (condition as Json)[operator] as never;
    const some = (test: (value: never) => boolean) =>
      values.some((value) => value !== undefined && value !== null && test(comparable(value) as never));
    switch (operator) {
      case '$eq':
        return equals(operand);
      case '$ne':
        return !equals(operand);
      case '$in':
        return (operand as unknown[]).some(equals);
      case '$exists':
        return values.some((value) => value !== undefined) === Boolean(operand);
      case '$lt':
        return some((value) => value < operand);
      case '$gt':
        return some((value) => value > operand);
      case '$elemMatch':
        return some((value) => Array.isArray(value) && (value as unknown[]).some((each) => matches(each, operand)));
      default:
        throw new NotStoodIn(`the filter ${operator}`);
    }
  });
}

/** Where the last step of a path is written; what is missing on the way is made. */
function holderOf(document: Json, path: string, isMade: boolean): [Json, string] | undefined {
  const steps = path.split('.');
  const last = steps.pop()!;
  let holder = document;
  for (const step of steps) {
    if (step.startsWith('$')) {
      throw new NotStoodIn(`the place ${step}`);
    }
    if (holder[step] === undefined || holder[step] === null) {
      if (!isMade) {
        return undefined;
      }
      holder[step] = {};
    }
    holder = holder[step] as Json;
  }
  return [holder, last];
}

export function updated(document: Json, update: Json, isInserted = false): Json {
  const names = Object.keys(update);
  if (!names.some((name) => name.startsWith('$'))) {
    return { _id: document._id, ...update };
  }
  const copy = structured(document) as Json;
  for (const operator of names) {
    for (const [path, operand] of Object.entries(update[operator] as Json)) {
      const place = holderOf(copy, path, operator !== '$unset' && operator !== '$pull');
      if (place === undefined || (operator === '$setOnInsert' && !isInserted)) {
        continue;
      }
      const [holder, name] = place;
      switch (operator) {
        case '$set':
        case '$setOnInsert':
          holder[name] = operand;
          break;
        case '$unset':
          delete holder[name];
          break;
        case '$inc':
          holder[name] = ((holder[name] as number | undefined) ?? 0) + (operand as number);
          break;
        case '$push': {
          const { $each, ...rest } = (operand ?? {}) as { $each?: unknown[] };
          if ($each !== undefined && Object.keys(rest).length > 0) {
            throw new NotStoodIn('modifiers of $push');
          }
          holder[name] = [...((holder[name] as unknown[] | undefined) ?? []), ...($each ?? [operand])];
          break;
        }
        case '$pull':
          holder[name] = ((holder[name] as unknown[] | undefined) ?? []).filter((each) =>
            typeof operand === 'object' ? !matches(each, operand as Json) : !same(each, operand),
          );
          break;
        default:
          throw new NotStoodIn(`the update ${operator}`);
      }
    }
  }
  return copy;
}

export function projected(document: Json, projection: Json = {}): Json {
  const names = Object.keys(projection).filter((name) => name !== '_id');
  const isKept = (name: string) => projection[name] === 1 || projection[name] === true;
  if (names.some((name) => name.includes('.') || typeof projection[name] === 'object')) {
    throw new NotStoodIn('projections of parts');
  }
  const isInclusive = names.some(isKept) || (names.length === 0 && isKept('_id'));
  return Object.fromEntries(
    Object.entries(document).filter(([name]) => {
      if (name === '_id') {
        return !('_id' in projection) || isKept('_id');
      }
      return isInclusive ? isKept(name) : !(name in projection);
    }),
  );
}

export function sorted(documents: readonly Json[], sort: Json = {}): Json[] {
  return documents.toSorted((one, other) => {
    for (const [name, direction] of Object.entries(sort)) {
      const [a, b] = [comparable(one[name]) as never, comparable(other[name]) as never];
      if (a < b || a > b) {
        return (a < b ? -1 : 1) * (direction as number);
      }
    }
    return 0;
  });
}

/** A copy of objects and arrays; values of BSON are shared. */
function structured(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.map(structured);
  }
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype
    ? Object.fromEntries(Object.entries(value).map(([name, each]) => [name, structured(each)]))
    : value;
}
