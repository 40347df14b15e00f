import type { CallOptions } from '../../client/index.ts';
import { DekdError } from '../../errors.ts';
import type { DataModel } from './data-model.ts';
import { type EncryptedModel, sameIdentity } from './definition.ts';
import { each, type FilterCheck, isNullValue, isPlain, type Models } from './filters.ts';

type Data = Record<string, unknown>;

/** Where a ciphertext is put once it is there. */
interface Place {
  readonly holder: Data;
  readonly member: string;
  readonly field: string;
  /** One element of a list, which is pushed as it is. */
  readonly isElement?: boolean;
}

/** The values of one row, or of one operation on it, that become ciphertexts together. */
interface PendingRow {
  readonly values: Data;
  readonly places: readonly Place[];
}

/**
 * The plaintexts of one query, found in its arguments, which are the extension's own copy. They are encrypted in one batch a
 * model before the query is sent: when that fails, nothing was written.
 */
export class Writes {
  readonly #data: DataModel;
  readonly #models: Models;
  readonly #filters: FilterCheck;
  readonly #pending = new Map<EncryptedModel, PendingRow[]>();

  constructor(data: DataModel, models: Models, filters: FilterCheck) {
    this.#data = data;
    this.#models = models;
    this.#filters = filters;
  }

  /** The data of a row that is made. @throws INVALID_ARGUMENT */
  create(model: string, data: unknown): void {
    if (!isPlain(data)) {
      return;
    }
    const encrypted = this.#models.get(model);
    if (encrypted !== undefined) {
      this.#collect(encrypted, data, () => this.#ownIdentity(encrypted, data));
    }
    this.#relations(model, data);
  }

  /** The data of rows that are changed, and the condition that says which. @throws INVALID_ARGUMENT */
  update(model: string, where: unknown, data: unknown): void {
    if (!isPlain(data)) {
      return;
    }
    const encrypted = this.#models.get(model);
    if (encrypted !== undefined) {
      const bound = this.#boundBy(encrypted, where);
      for (const name of encrypted.cipher.identity) {
        const given = isPlain(data[name]) ? data[name].set : data[name];
        if (data[name] !== undefined && !sameIdentity(given, bound.get(name))) {
          throw new DekdError(
            'INVALID_ARGUMENT',
            `'${model}.${name}' is what the ciphertexts of its row are bound to, and cannot be changed: make a new row`,
          );
        }
      }
      this.#collect(encrypted, data, () => {
        for (const name of encrypted.cipher.identity) {
          if (!bound.has(name)) {
            throw new DekdError(
              'INVALID_ARGUMENT',
              `an update of encrypted fields of ${model} says which row by '${name}' in its where: values are bound to it`,
            );
          }
        }
        return Object.fromEntries(bound);
      });
    }
    this.#relations(model, data);
  }

  /** Encrypts what was found and puts it in its place. */
  async seal(options: CallOptions): Promise<void> {
    await Promise.all(
      [...this.#pending].map(async ([encrypted, rows]) => {
        const sealed = await encrypted.cipher.seal(
          rows.map(({ values }) => values),
          options,
        );
        rows.forEach(({ places }, index) => {
          for (const { holder, member, field, isElement } of places) {
            const value = sealed[index]![field];
            holder[member] = isElement === true ? (value as unknown[])[0] : value;
          }
        });
      }),
    );
  }

  /** Takes the encrypted fields of `data`; `identify` is asked only when there are any. */
  #collect(encrypted: EncryptedModel, data: Data, identify: () => Data): void {
    const values: Data = {};
    const places: Place[] = [];
    for (const field of encrypted.cipher.names) {
      const place = placeOf(encrypted, data, field);
      if (place === undefined) {
        continue;
      }
      values[field] = checked(encrypted, field, place.holder[place.member]);
      places.push(place);
    }
    places.push(...indexPlaces(encrypted, data, values));
    if (places.length === 0) {
      return;
    }
    const rows = this.#pending.get(encrypted) ?? [];
    rows.push({ values: { ...identify(), ...values }, places });
    this.#pending.set(encrypted, rows);
  }

  /** The identity that a new row says of itself, or is given. */
  #ownIdentity(encrypted: EncryptedModel, data: Data): Data {
    for (const name of encrypted.cipher.identity) {
      if (data[name] === undefined && encrypted.newId !== undefined) {
        data[name] = encrypted.newId();
      }
      if (data[name] === undefined || data[name] === null) {
        throw new DekdError(
          'INVALID_ARGUMENT',
          `a new ${encrypted.name} says its '${name}': ciphertexts are bound to it, and one that the database makes is known too late; give it, or set newId`,
        );
      }
    }
    return Object.fromEntries(encrypted.cipher.identity.map((name) => [name, data[name]]));
  }

  /** Identity fields that a condition fixes by equality, alone or in the name of a unique constraint. */
  #boundBy(encrypted: EncryptedModel, where: unknown): Map<string, unknown> {
    const bound = new Map<string, unknown>();
    if (!isPlain(where)) {
      return bound;
    }
    const fields = this.#data.fields(encrypted.name);
    for (const [name, condition] of Object.entries(where)) {
      if (encrypted.cipher.identity.includes(name)) {
        const value = isPlain(condition) && Object.keys(condition).length === 1 ? condition.equals : condition;
        if (value !== undefined && value !== null && typeof value !== 'object') {
          bound.set(name, value);
        }
      } else if (!fields.has(name) && isPlain(condition) && !['AND', 'OR', 'NOT'].includes(name)) {
        for (const [part, value] of this.#boundBy(encrypted, condition)) {
          bound.set(part, value);
        }
      }
    }
    return bound;
  }

  #relations(model: string, data: Data): void {
    const fields = this.#data.fields(model);
    for (const [name, operations] of Object.entries(data)) {
      const field = fields.get(name);
      if (field?.kind === 'object' && isPlain(operations)) {
        for (const [operation, operand] of Object.entries(operations)) {
          for (const one of each(operand)) {
            this.#nested(field.type, operation, one);
          }
        }
      }
    }
  }

  /** One operation of a nested write on rows of `model`. */
  #nested(model: string, operation: string, operand: unknown): void {
    if (!isPlain(operand)) {
      return;
    }
    switch (operation) {
      case 'create':
        this.create(model, operand);
        break;
      case 'createMany':
        for (const data of each(operand.data)) {
          this.create(model, data);
        }
        break;
      case 'connectOrCreate':
        this.#filters.where(model, operand.where);
        this.create(model, operand.create);
        break;
      case 'connect':
      case 'disconnect':
      case 'delete':
      case 'deleteMany':
      case 'set':
        this.#filters.where(model, operand);
        break;
      case 'update': {
        // Of a single relation the data itself, unless it comes with a condition.
        const wrapped = isPlain(operand.data) && Object.keys(operand).every((key) => key === 'data' || key === 'where');
        this.#filters.where(model, wrapped ? operand.where : undefined);
        this.update(model, wrapped ? operand.where : undefined, wrapped ? operand.data : operand);
        break;
      }
      case 'updateMany':
        this.#filters.where(model, operand.where);
        this.update(model, operand.where, operand.data);
        break;
      case 'upsert':
        this.#filters.where(model, operand.where);
        this.create(model, operand.create);
        this.update(model, operand.where, operand.update);
        break;
      default:
        throw new DekdError('UNSUPPORTED', `the nested write '${operation}' is not known: nothing of it was encrypted`);
    }
  }
}

/** Where the value of a field is to be found in `data`; nothing when there is none to encrypt. */
function placeOf(encrypted: EncryptedModel, data: Data, field: string): Place | undefined {
  const value = data[field];
  if (isPlain(value) && (!encrypted.json.has(field) || encrypted.cipher.lists.has(field))) {
    const [member, ...more] = Object.keys(value).filter((name) => value[name] !== undefined);
    const known = member === 'set' || (member === 'push' && encrypted.cipher.lists.has(field));
    if (!known || more.length > 0) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `'${encrypted.name}.${field}' is encrypted and takes its value, { set }${encrypted.cipher.lists.has(field) ? ' or { push }' : ''}`,
      );
    }
    const given = value[member];
    if (member === 'push' && encrypted.json.has(field) && Array.isArray(given)) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `a push to '${encrypted.name}.${field}' takes one value: several are for { set }`,
      );
    }
    return isAbsent(given)
      ? undefined
      : { holder: value, member, field, isElement: !Array.isArray(given) && member === 'push' };
  }
  return isAbsent(value) ? undefined : { holder: data, member: field, field };
}

/** Where indexes go: beside a value that is written, and NULL beside NULL. */
function indexPlaces(encrypted: EncryptedModel, data: Data, values: Data): Place[] {
  return [...encrypted.cipher.indexes].flatMap(([column, of]) => {
    if (values[of] !== undefined) {
      return [{ holder: data, member: column, field: column }];
    }
    if (data[of] !== undefined) {
      data[column] = null;
    } else if (data[column] !== undefined) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `'${encrypted.name}.${column}' is the index of '${of}', and is written with it`,
      );
    }
    return [];
  });
}

function isAbsent(value: unknown): boolean {
  return value === undefined || value === null || isNullValue(value);
}

/** What a field of its type may hold: its ciphertext is text, so the database checks nothing of it any more. */
function checked(encrypted: EncryptedModel, field: string, value: unknown): unknown {
  const list = encrypted.cipher.lists.has(field);
  const values = list ? each(value) : [value];
  if (!encrypted.json.has(field) && !values.every((one) => typeof one === 'string')) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `'${encrypted.name}.${field}' takes ${list ? 'strings' : 'a string'}, as its type says`,
    );
  }
  return list ? values : value;
}
