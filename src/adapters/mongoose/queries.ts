/** What queries may not ask of encrypted paths. */
import { DekdError } from '../../errors.ts';
import type { LooseDocument } from '../document-cipher.ts';
import { relationOf, stepsOf } from './paths.ts';

export interface EncryptedPath {
  readonly path: string;
  readonly steps: readonly string[];
  /** Name of the field that holds its blind index. */
  readonly index: string | undefined;
}

/** Checks queries of one model. Everything here throws INVALID_ARGUMENT and nothing else. */
export class QueryCheck {
  readonly #model: string;
  readonly #paths: readonly EncryptedPath[];

  constructor(model: string, paths: readonly EncryptedPath[]) {
    this.#model = model;
    this.#paths = paths;
  }

  /** @param base steps of the path that the names of the filter are below of */
  filter(filter: unknown, base: readonly string[] = []): void {
    for (const [name, condition] of entriesOf(filter)) {
      if (name === '$and' || name === '$or' || name === '$nor') {
        for (const each of Array.isArray(condition) ? condition : []) {
          this.filter(each, base);
        }
      } else if (name.startsWith('$')) {
        // $expr, $where, $text, $jsonSchema: anything that may name a path.
        this.mentions(condition, name);
      } else {
        this.#condition([...base, ...stepsOf(name)], condition);
      }
    }
  }

  /** What is sorted by, grouped by or made distinct. */
  names(names: Iterable<string>, what: string): void {
    for (const name of names) {
      const found = this.#found(stepsOf(name), ['same', 'below', 'above']);
      if (found !== undefined) {
        throw this.#refused(found, what);
      }
    }
  }

  sort(sort: unknown): void {
    if (typeof sort === 'string') {
      this.names([sort.replace(/^[-+]/, '')], 'a sort');
    } else if (Array.isArray(sort)) {
      this.names(
        sort.flatMap((each) => (Array.isArray(each) ? String(each[0]) : typeof each === 'string' ? each : [])),
        'a sort',
      );
    } else {
      this.names(sort instanceof Map ? sort.keys() : Object.keys((sort ?? {}) as object), 'a sort');
    }
  }

  projection(projection: unknown): void {
    const entries = entriesOf(projection);
    const isInclusive = entries.some(([name, value]) => name !== '_id' && (value === 1 || value === true));
    for (const [name, value] of entries) {
      const below = this.#found(stepsOf(name), ['below']);
      if (below !== undefined && value !== 0 && value !== false) {
        throw this.#invalid(`'${below.path}' is encrypted as a whole, and has no parts to select`);
      }
      if (typeof value === 'object' || typeof value === 'string') {
        this.filter((value as LooseDocument | null)?.$elemMatch, stepsOf(name));
        this.mentions(value, 'a projection');
      }
    }
    const withoutId = entries.some(([name, value]) => name === '_id' && (value === 0 || value === false));
    if (withoutId) {
      const names = entries.map(([name]) => stepsOf(name));
      const kept = this.#paths.find(({ steps }) => {
        const isNamed = names.some((name) => ['same', 'above'].includes(relationOf(name, steps)));
        return isInclusive ? isNamed : !isNamed;
      });
      if (kept !== undefined) {
        throw this.#invalid(`'${kept.path}' is bound to its document: select '_id' too`);
      }
    }
  }

  /** Names of filters for elements of arrays begin with an identifier, so that any end of a path counts. */
  arrayFilters(filters: unknown): void {
    for (const filter of Array.isArray(filters) ? filters : []) {
      for (const [name, condition] of entriesOf(filter)) {
        if (name.startsWith('$')) {
          this.arrayFilters(condition);
          continue;
        }
        const rest = stepsOf(name).slice(1).join('.');
        const found = this.#paths.find(({ path, steps }) => {
          const names = steps.filter((step) => step !== '[]').join('.');
          return rest === '' ? path.includes('[]') : names === rest || names.endsWith(`.${rest}`);
        });
        if (found !== undefined) {
          throw this.#refused(found, 'an array filter');
        }
        this.mentions(condition, 'an array filter');
      }
    }
  }

  /** Whatever names an encrypted path as an expression does, `'$email'`, or as a member. */
  mentions(value: unknown, what: string): void {
    if (typeof value === 'string') {
      const name = /^\$(?:\$(?:ROOT|CURRENT)\.)?([^$].*)$/s.exec(value)?.[1];
      if (/^\$\$(ROOT|CURRENT)$/.test(value)) {
        throw this.#invalid(`${what} takes '${value}', in which there are encrypted values`);
      }
      if (name !== undefined) {
        this.names([name], what);
      }
    } else if (Array.isArray(value)) {
      for (const each of value) {
        this.mentions(each, what);
      }
    } else if (value instanceof Map || (typeof value === 'object' && value !== null && !('_bsontype' in value))) {
      for (const [name, each] of entriesOf(value)) {
        if (name === '$getField' || name === '$setField' || name === '$unsetField') {
          throw this.#invalid(`${name} is not read: name paths as '$path'`);
        }
        if (!name.startsWith('$')) {
          this.names([name], what);
        }
        this.mentions(each, what);
      }
    }
  }

  /** A pipeline whose results are documents of the model, or made of nothing that is encrypted. */
  pipeline(pipeline: readonly unknown[]): void {
    for (const stage of pipeline) {
      for (const [name, value] of entriesOf(stage)) {
        switch (name) {
          case '$match':
            this.filter(value);
            break;
          case '$sort':
            this.sort(value);
            break;
          case '$project':
            this.#projected(value);
            break;
          case '$unset':
            break;
          case '$limit':
          case '$skip':
          case '$count':
          case '$sample':
          case '$indexStats':
          case '$collStats':
            break;
          case '$replaceRoot':
          case '$replaceWith':
          case '$out':
          case '$merge':
            throw this.#invalid(`${name} would take encrypted values away from what they are bound to`);
          default:
            this.mentions(value, name);
        }
      }
    }
  }

  invalid(reason: string): DekdError {
    return this.#invalid(reason);
  }

  /** A projection of a pipeline: what is only kept or left out is no expression. */
  #projected(value: unknown): void {
    this.projection(value);
    for (const [name, each] of entriesOf(value)) {
      if (typeof each !== 'number' && typeof each !== 'boolean') {
        this.names([name], '$project');
        this.mentions(each, '$project');
      }
    }
  }

  #condition(path: readonly string[], condition: unknown): void {
    const at = this.#found(path, ['same', 'below']);
    if (at !== undefined && !asksPresence(condition)) {
      throw this.#refused(at, 'a filter');
    }
    const inside = this.#found(path, ['above']);
    if (inside === undefined || asksPresence(condition)) {
      return;
    }
    for (const [operator, operand] of entriesOf(condition)) {
      switch (operator) {
        case '$elemMatch':
          this.filter(operand, path);
          break;
        case '$not':
          this.#condition(path, operand);
          break;
        case '$all':
          for (const each of Array.isArray(operand) ? operand : []) {
            this.#condition(path, each);
          }
          break;
        case '$size':
        case '$type':
        case '$exists':
          break;
        default:
          throw this.#refused(inside, 'a filter');
      }
    }
  }

  #found(path: readonly string[], relations: readonly string[]): EncryptedPath | undefined {
    return this.#paths.find(({ steps }) => relations.includes(relationOf(path, steps)));
  }

  #refused({ path, index }: EncryptedPath, what: string): DekdError {
    return this.#invalid(
      `'${path}' is encrypted, and ${what} finds nothing by it: ${
        index === undefined ? 'keep a blind index of it' : `use its blind index '${index}'`
      }`,
    );
  }

  #invalid(reason: string): DekdError {
    return new DekdError('INVALID_ARGUMENT', `model ${this.#model}: ${reason}`);
  }
}

/** Whether all that is asked is whether there is a value: null stays null. */
function asksPresence(condition: unknown): boolean {
  if (condition === null) {
    return true;
  }
  const entries = entriesOf(condition);
  return (
    entries.length > 0 &&
    entries.every(
      ([operator, operand]) =>
        operator === '$exists' || ((operator === '$eq' || operator === '$ne') && operand === null),
    )
  );
}

export function entriesOf(value: unknown): [string, unknown][] {
  if (value instanceof Map) {
    return [...value].map(([name, each]) => [String(name), each]);
  }
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !('_bsontype' in value)
    ? Object.entries(value)
    : [];
}
