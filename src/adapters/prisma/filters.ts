import { DekdError } from '../../errors.ts';
import type { DataModel } from './data-model.ts';
import type { EncryptedModel } from './definition.ts';

export type Models = ReadonlyMap<string, EncryptedModel>;

/** Plain objects are structure; instances (Date, Decimal, Prisma's null values) are values. */
export function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) {
    return false;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** One or many, as Prisma takes them nearly everywhere. */
export function each(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : value === undefined ? [] : [value];
}

/**
 * Refuses what would ask the database about plaintexts that it does not have: a comparison with a ciphertext finds nothing,
 * whatever the value, and an answer of nothing looks like an answer.
 */
export class FilterCheck {
  readonly #data: DataModel;
  readonly #models: Models;

  constructor(data: DataModel, models: Models) {
    this.#data = data;
    this.#models = models;
  }

  /** `where`, `cursor`, `having`. @throws INVALID_ARGUMENT */
  where(model: string, where: unknown): void {
    if (!isPlain(where)) {
      return;
    }
    const encrypted = this.#models.get(model);
    const fields = this.#data.fields(model);
    for (const [name, condition] of Object.entries(where)) {
      if (name === 'AND' || name === 'OR' || name === 'NOT') {
        for (const part of each(condition)) {
          this.where(model, part);
        }
      } else if (encrypted?.cipher.names.has(name)) {
        if (condition !== undefined && !asksForNull(condition)) {
          throw this.#refusal(encrypted, name, 'be filtered by');
        }
      } else {
        const field = fields.get(name);
        if (field?.kind === 'object') {
          this.#relation(field.type, condition);
        } else if (field === undefined && isPlain(condition)) {
          // A unique constraint of several fields, under its name.
          this.where(model, condition);
        }
      }
    }
  }

  orderBy(model: string, orderBy: unknown): void {
    for (const order of each(orderBy)) {
      if (!isPlain(order)) {
        continue;
      }
      for (const [name, direction] of Object.entries(order)) {
        const encrypted = this.#models.get(model);
        if (direction !== undefined && encrypted?.cipher.names.has(name)) {
          throw this.#refusal(encrypted, name, 'be sorted by');
        }
        const field = this.#data.fields(model).get(name);
        if (field?.kind === 'object') {
          this.orderBy(field.type, direction);
        } else if (name === '_relevance' && isPlain(direction)) {
          this.names(model, direction.fields, 'be searched');
        } else if (name.startsWith('_') && isPlain(direction)) {
          // groupBy sorts by its aggregates.
          this.orderBy(model, name === '_count' ? {} : direction);
        }
      }
    }
  }

  /** Names of fields in a list: `distinct`, `by`. */
  names(model: string, names: unknown, what: string): void {
    const encrypted = this.#models.get(model);
    for (const name of each(names)) {
      if (encrypted !== undefined && typeof name === 'string' && encrypted.cipher.names.has(name)) {
        throw this.#refusal(encrypted, name, what);
      }
    }
  }

  /** Aggregates: how many there are can be counted, the least of them cannot be told. */
  aggregates(model: string, args: Record<string, unknown>): void {
    for (const kind of ['_min', '_max', '_sum', '_avg']) {
      const chosen = args[kind];
      if (isPlain(chosen)) {
        this.names(
          model,
          Object.keys(chosen).filter((name) => chosen[name] === true),
          'be aggregated',
        );
      }
    }
  }

  /** A relation's filter: `{ some, every, none, is, isNot }`, or the conditions themselves. */
  #relation(model: string, condition: unknown): void {
    if (!isPlain(condition)) {
      return;
    }
    const fields = this.#data.fields(model);
    for (const [name, part] of Object.entries(condition)) {
      if (['some', 'every', 'none', 'is', 'isNot'].includes(name) && !fields.has(name)) {
        this.where(model, part);
      } else {
        this.where(model, { [name]: part });
      }
    }
  }

  #refusal(encrypted: EncryptedModel, name: string, what: string): DekdError {
    const index = [...encrypted.cipher.indexes].find(([, of]) => of === name)?.[0];
    const remedy =
      index === undefined
        ? 'for equality keep a blind index in a field of its own and filter by that'
        : `for equality filter by its blind index '${index}'`;
    return new DekdError('INVALID_ARGUMENT', `'${encrypted.name}.${name}' is encrypted and cannot ${what}: ${remedy}`);
  }
}

/** NULL is not encrypted, so that there is a value or none can be asked. */
function asksForNull(condition: unknown): boolean {
  if (condition === null || isDatabaseNull(condition)) {
    return true;
  }
  return (
    isPlain(condition) &&
    Object.entries(condition).every(
      ([name, value]) =>
        value === undefined ||
        ((name === 'equals' || name === 'not') && (value === null || isDatabaseNull(value))) ||
        (name === 'not' && isPlain(value) && asksForNull(value)),
    )
  );
}

/** `Prisma.DbNull`. */
function isDatabaseNull(value: unknown): boolean {
  return nullName(value) === 'Prisma.DbNull';
}

/** One of Prisma's names for NULL and for JSON's null, neither of which is encrypted. */
export function isNullValue(value: unknown): boolean {
  const name = nullName(value);
  return name === 'Prisma.DbNull' || name === 'Prisma.JsonNull';
}

/** How Prisma's singletons call themselves; every copy of its run time has its own classes. */
function nullName(value: unknown): string | undefined {
  return typeof value === 'object' && value !== null && !isPlain(value) && !Array.isArray(value)
    ? String(value)
    : undefined;
}
