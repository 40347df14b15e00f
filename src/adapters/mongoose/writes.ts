/** What is written: values for encrypted paths are collected, sealed together and put in the place of their plaintexts. */
import type { DocumentCipher, LooseDocument } from '../document-cipher.ts';
import { nested, placeOf, plain, relationOf, stepsOf, valueAt } from './paths.ts';
import { type EncryptedPath, entriesOf, type QueryCheck } from './queries.ts';

type Place = (sealed: unknown) => void;

/** The writes of one call: one batch to the agent, whatever there is of them. */
export class Writes {
  readonly #cipher: DocumentCipher;
  readonly #check: QueryCheck;
  readonly #paths: readonly EncryptedPath[];
  readonly #rows: LooseDocument[] = [];
  readonly #places: Place[] = [];
  readonly #items: { attribute: string; value: unknown; identity: LooseDocument }[] = [];
  readonly #indexPlaces: ((index: string | undefined) => void)[] = [];

  constructor(cipher: DocumentCipher, check: QueryCheck, paths: readonly EncryptedPath[]) {
    this.#cipher = cipher;
    this.#check = check;
    this.#paths = paths;
  }

  /** A whole document. @returns what to send once `run` is done: an object that is filled by then */
  document(given: LooseDocument, id: unknown = given._id): Record<string, unknown> {
    const document = plain(given) as LooseDocument;
    const sent: Record<string, unknown> = {};
    this.#rows.push(document._id === undefined && id !== undefined ? { ...document, _id: id } : document);
    this.#places.push((sealed) => {
      Object.assign(sent, sealed);
      if (document._id === undefined) {
        delete sent._id;
      }
    });
    for (const [attribute, { of }] of Object.entries(this.#cipher.indexes)) {
      const value = valueAt(document, stepsOf(of));
      if (
        (value === undefined || value === null) &&
        document[attribute] !== undefined &&
        document[attribute] !== null
      ) {
        throw this.#check.invalid(`'${attribute}' is the index of '${of}', and is written with it`);
      }
      this.#items.push({ attribute, value, identity: { _id: id } });
      this.#indexPlaces.push((index) => {
        delete sent[attribute];
        if (index !== undefined) {
          sent[attribute] = index;
        }
      });
    }
    return sent;
  }

  /**
   * An update with operators.
   * @param filter says which document it is, where values are encrypted
   */
  update(filter: unknown, update: unknown): unknown {
    if (Array.isArray(update)) {
      for (const stage of update) {
        this.#check.mentions(stage, 'an update');
      }
      return update;
    }
    const id = idOf(filter);
    const sent: Record<string, Record<string, unknown>> = {};
    const put = (operator: string, name: string, value: unknown) => {
      sent[operator] ??= {};
      sent[operator][name] = value;
    };
    for (const [operator, changes] of entriesOf(update)) {
      if (!operator.startsWith('$')) {
        throw this.#check.invalid('an update has operators');
      }
      sent[operator] = {};
      for (const [name, value] of entriesOf(changes)) {
        this.#change(operator, name, value, id, put);
      }
    }
    return sent;
  }

  async run(): Promise<void> {
    const [sealed, found] = await Promise.all([this.#cipher.seal(this.#rows), this.#cipher.indexesOf(this.#items)]);
    sealed.forEach((row, at) => {
      this.#places[at]!(row);
    });
    // An index comes last: it takes the place of what a document has of an older value.
    found.forEach((index, at) => {
      this.#indexPlaces[at]!(index);
    });
  }

  #change(
    operator: string,
    name: string,
    value: unknown,
    id: unknown,
    put: (operator: string, name: string, value: unknown) => void,
  ): void {
    const steps = stepsOf(name);
    if (Object.hasOwn(this.#cipher.indexes, name)) {
      throw this.#check.invalid(
        `'${name}' is the index of '${this.#cipher.indexes[name]!.of}', and is written with it`,
      );
    }
    const touched = this.#paths.filter(({ steps: encrypted }) => relationOf(steps, encrypted) !== 'none');
    put(operator, name, value);
    if (touched.length === 0) {
      if (operator === '$rename') {
        this.#check.names([String(value)], '$rename');
      }
      return;
    }
    const inside = touched.find(({ steps: encrypted }) => placeOf(steps, encrypted) === 'below');
    const whole = touched.find(({ steps: encrypted }) => placeOf(steps, encrypted) === 'same');
    if (inside !== undefined) {
      throw this.#check.invalid(`'${inside.path}' is encrypted as a whole: ${operator} cannot change a part of it`);
    }
    switch (operator) {
      case '$set':
      case '$setOnInsert':
        this.#seal(steps, value, id, (sealed) => put(operator, name, sealed));
        this.#indexChange(operator, steps, plain(value), id, put);
        return;
      case '$unset':
        this.#indexChange(operator, steps, undefined, id, put);
        return;
      case '$pop':
        if (whole === undefined) {
          return;
        }
        break;
      case '$push':
        if (whole === undefined) {
          this.#push(name, steps, value, id, put);
          return;
        }
        break;
      case '$pull':
        // Elements can be taken out by what is not encrypted of them.
        if (whole === undefined && touched.every(({ path }) => !path.endsWith('[]'))) {
          this.#check.filter(value, steps);
          if (entriesOf(value).length > 0) {
            return;
          }
        }
        break;
    }
    throw this.#check.invalid(
      `'${touched[0]!.path}' is encrypted: ${operator} would compute with a ciphertext; read the document, change it and save it`,
    );
  }

  #push(
    name: string,
    steps: readonly string[],
    value: unknown,
    id: unknown,
    put: (operator: string, name: string, value: unknown) => void,
  ): void {
    const element = [...steps, '[]'];
    const { $each, ...modifiers } = (value ?? {}) as { $each?: unknown[] };
    if (Array.isArray($each)) {
      const sort = (modifiers as { $sort?: unknown }).$sort;
      for (const [below] of entriesOf(sort)) {
        this.#check.names([`${name}.${below}`], '$sort');
      }
      const sent = [...$each];
      put('$push', name, { ...modifiers, $each: sent });
      $each.forEach((each, at) => {
        this.#seal(element, each, id, (sealed) => {
          sent[at] = sealed;
        });
      });
      return;
    }
    this.#seal(element, value, id, (sealed) => put('$push', name, sealed));
  }

  /** Seals what of `value` is encrypted where the steps lead, if there is any. */
  #seal(steps: readonly string[], given: unknown, id: unknown, place: Place): void {
    const value = plain(given);
    if (value === null || value === undefined) {
      return;
    }
    if (id === undefined) {
      throw this.#check.invalid(
        `encrypted values are bound to their document: an update that sets them names it by '_id' in its filter`,
      );
    }
    this.#rows.push({ ...(nested(steps, value) as LooseDocument), _id: id });
    this.#places.push((sealed) => place(valueAt(sealed, steps)));
  }

  #indexChange(
    operator: string,
    steps: readonly string[],
    value: unknown,
    id: unknown,
    put: (operator: string, name: string, value: unknown) => void,
  ): void {
    for (const [attribute, { of }] of Object.entries(this.#cipher.indexes)) {
      const path = stepsOf(of);
      const place = placeOf(steps, path);
      if (place !== 'same' && place !== 'above') {
        continue;
      }
      const indexed = valueAt(value, path.slice(steps.length));
      if (indexed === undefined || indexed === null) {
        if (operator !== '$setOnInsert') {
          put('$unset', attribute, 1);
        }
        continue;
      }
      this.#items.push({ attribute, value: indexed, identity: { _id: id } });
      this.#indexPlaces.push((index) => put(operator, attribute, index));
    }
  }
}

/** The id that a filter names by equality. */
export function idOf(filter: unknown): unknown {
  const id = (filter as LooseDocument | undefined | null)?._id;
  const [[operator, operand] = ['', undefined], ...more] = entriesOf(id);
  if (operator === '$eq' && more.length === 0) {
    return operand;
  }
  return operator === '' ? (id ?? undefined) : undefined;
}
