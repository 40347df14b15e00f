import type { CallOptions } from '../../client/index.ts';
import type { DataModel } from './data-model.ts';
import type { EncryptedModel } from './definition.ts';
import { type FilterCheck, isPlain, type Models } from './filters.ts';

type Args = Record<string, unknown>;

/** What a query was asked for at one of its levels. */
export interface Selection {
  readonly model: string;
  /** Fields that were added so that values can be decrypted, and are taken away again. */
  readonly added: readonly string[];
  readonly relations: ReadonlyMap<string, Selection>;
}

/**
 * Goes through `select`, `include` and `omit` of a query's own copy of its arguments: refuses filters on encrypted fields, and
 * adds the identity of rows of which encrypted fields are selected.
 */
export class Selections {
  readonly #data: DataModel;
  readonly #models: Models;
  readonly #filters: FilterCheck;

  constructor(data: DataModel, models: Models, filters: FilterCheck) {
    this.#data = data;
    this.#models = models;
    this.#filters = filters;
  }

  of(model: string, args: Args): Selection {
    const fields = this.#data.fields(model);
    const relations = new Map<string, Selection>();
    for (const chosen of [args.select, args.include]) {
      if (!isPlain(chosen)) {
        continue;
      }
      for (const [name, choice] of Object.entries(chosen)) {
        const field = fields.get(name);
        if (field?.kind === 'object' && choice) {
          relations.set(name, this.#related(field.type, isPlain(choice) ? choice : {}));
        } else if (name === '_count' && isPlain(choice) && isPlain(choice.select)) {
          this.#counted(model, choice.select);
        }
      }
    }
    return { model, added: this.#withIdentity(model, args), relations };
  }

  #related(model: string, args: Args): Selection {
    this.#filters.where(model, args.where);
    this.#filters.where(model, args.cursor);
    this.#filters.orderBy(model, args.orderBy);
    this.#filters.names(model, args.distinct, 'be made distinct');
    return this.of(model, args);
  }

  #counted(model: string, counted: Args): void {
    for (const [name, choice] of Object.entries(counted)) {
      const field = this.#data.fields(model).get(name);
      if (field?.kind === 'object' && isPlain(choice)) {
        this.#filters.where(field.type, choice.where);
      }
    }
  }

  /** @returns names of the fields that were added. */
  #withIdentity(model: string, args: Args): string[] {
    const encrypted = this.#models.get(model);
    if (encrypted === undefined) {
      return [];
    }
    const { select, omit } = args;
    const names = [...encrypted.cipher.names];
    if (isPlain(select)) {
      // What a computed field needs is selected without being told here.
      const fields = this.#data.fields(model);
      const computed = Object.keys(select).some((name) => select[name] && !fields.has(name) && name !== '_count');
      const isNeeded = computed || names.some((name) => select[name]);
      const missing = isNeeded ? encrypted.cipher.identity.filter((name) => !select[name]) : [];
      for (const name of missing) {
        select[name] = true;
      }
      return computed ? [] : missing;
    }
    if (isPlain(omit)) {
      const missing = names.every((name) => omit[name]) ? [] : encrypted.cipher.identity.filter((name) => omit[name]);
      for (const name of missing) {
        omit[name] = false;
      }
      return missing;
    }
    return [];
  }
}

/**
 * A copy of a result with its rows decrypted, one batch a model. Nothing is changed in place: whom else Prisma gives a row to,
 * it does not say.
 */
export async function openResult(
  models: Models,
  selection: Selection,
  result: unknown,
  options: CallOptions,
): Promise<unknown> {
  const found = new Map<EncryptedModel, Args[]>();
  const added: [Args, readonly string[]][] = [];
  const copied = (level: Selection, value: unknown): unknown => {
    if (Array.isArray(value)) {
      return value.map((one) => copied(level, one));
    }
    if (typeof value !== 'object' || value === null) {
      return value;
    }
    const row: Args = { ...value };
    const encrypted = models.get(level.model);
    if (encrypted !== undefined) {
      const rows = found.get(encrypted) ?? [];
      rows.push(row);
      found.set(encrypted, rows);
      added.push([row, level.added]);
    }
    for (const [name, relation] of level.relations) {
      if (row[name] !== undefined) {
        row[name] = copied(relation, row[name]);
      }
    }
    return row;
  };
  const copy = copied(selection, result);
  await Promise.all(
    [...found].map(async ([encrypted, rows]) => {
      const opened = await encrypted.cipher.open(rows, options);
      rows.forEach((row, index) => {
        Object.assign(row, opened[index]);
      });
    }),
  );
  for (const [row, names] of added) {
    for (const name of names) {
      delete row[name];
    }
  }
  return copy;
}
