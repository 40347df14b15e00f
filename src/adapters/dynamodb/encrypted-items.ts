import { DekdError } from '../../errors.ts';
import type { DocumentCipher, LooseDocument } from '../document-cipher.ts';
import { actionsOf, expressionOf, type Names, namedBy, projectedBy } from './expressions.ts';

/** Parameters of a request, or of the part of one that is about one table. */
export type Part = Readonly<Record<string, unknown>>;

/** Expressions that only read. */
const CONDITIONS = ['ConditionExpression', 'FilterExpression', 'KeyConditionExpression'];
/** What there was before expressions: conditions and values by the name of the attribute. */
const LEGACY = ['Expected', 'KeyConditions', 'QueryFilter', 'ScanFilter', 'AttributeUpdates'];

/** One table with encrypted attributes: what its requests become, and what they may not say. */
export class EncryptedItems {
  readonly cipher: DocumentCipher;
  readonly #name: string;
  readonly #primaryKey: readonly string[];
  readonly #attributes: ReadonlySet<string>;

  constructor(name: string, primaryKey: readonly string[], attributes: ReadonlySet<string>, cipher: DocumentCipher) {
    this.#name = name;
    this.#primaryKey = primaryKey;
    this.#attributes = attributes;
    this.cipher = cipher;
  }

  /** @throws INVALID_ARGUMENT for a condition on an encrypted attribute */
  checkConditions(part: Part): void {
    for (const parameter of CONDITIONS) {
      const expression = part[parameter];
      if (typeof expression === 'string') {
        this.#refuse(namedBy(expression, namesOf(part)), parameter);
      }
    }
    for (const parameter of LEGACY) {
      const conditions = part[parameter];
      if (conditions !== undefined && conditions !== null) {
        const named = new Set(Object.keys(conditions));
        this.#refuse(named, parameter);
        if (parameter === 'AttributeUpdates') {
          this.#refuseIndexes(named);
        }
      }
    }
  }

  /**
   * @param isKnown whether the request itself says which item it is
   * @throws INVALID_ARGUMENT for a projection of parts of encrypted attributes, or of those without the primary key
   */
  checkProjection(part: Part, isKnown: boolean): void {
    const { whole, parts } =
      typeof part.ProjectionExpression === 'string'
        ? projectedBy(part.ProjectionExpression, namesOf(part))
        : { whole: new Set((part.AttributesToGet as string[] | undefined) ?? []), parts: new Set<string>() };
    const torn = [...parts].find((name) => this.#attributes.has(name));
    if (torn !== undefined) {
      throw this.#invalid(`'${torn}' is encrypted as a whole, and has no parts to project`);
    }
    const wanted = [...whole].find((name) => this.#attributes.has(name));
    const lacking = this.#primaryKey.filter((name) => !whole.has(name));
    if (!isKnown && wanted !== undefined && lacking.length > 0) {
      throw this.#invalid(
        `'${wanted}' is bound to its item: project ${lacking.map((each) => `'${each}'`).join(', ')} too`,
      );
    }
  }

  /** Items to put, with ciphertexts and the indexes of what is encrypted. */
  async seal(items: readonly LooseDocument[]): Promise<LooseDocument[]> {
    const indexes = Object.entries(this.cipher.indexes);
    const asked = items.flatMap((item) =>
      indexes.map(([attribute, { of }]) => {
        if (item[of] === undefined && item[attribute] !== undefined) {
          throw this.#invalid(`'${attribute}' is the index of '${of}', and is written with it`);
        }
        return { attribute, value: item[of], identity: item };
      }),
    );
    const [sealed, found] = await Promise.all([this.cipher.seal(items), this.cipher.indexesOf(asked)]);
    return sealed.map((item, at) => {
      const whole: Record<string, unknown> = { ...item };
      indexes.forEach(([attribute], place) => {
        const value = found[at * indexes.length + place];
        delete whole[attribute];
        if (value !== undefined) {
          whole[attribute] = value;
        }
      });
      return whole;
    });
  }

  open(items: readonly LooseDocument[]): Promise<LooseDocument[]> {
    return this.cipher.open(items);
  }

  /** Attributes of an answer that may lack the primary key, which the request has. */
  async openOf(key: LooseDocument, attributes: LooseDocument): Promise<LooseDocument> {
    const [opened] = await this.open([{ ...attributes, ...key }]);
    return Object.fromEntries(Object.keys(attributes).map((name) => [name, opened![name]]));
  }

  /** The primary key of an item, to find it again by. */
  keyOf(item: LooseDocument): string {
    return JSON.stringify(this.#primaryKey.map((name) => String(item[name])));
  }

  /** The key alone, of an item that has it. */
  primaryKeyOf(item: LooseDocument): LooseDocument {
    return Object.fromEntries(this.#primaryKey.map((name) => [name, item[name]]));
  }

  /**
   * An update with ciphertexts for the values that `SET attribute = :value` names.
   * @throws INVALID_ARGUMENT for one that does anything else with an encrypted attribute but remove it
   */
  async update(part: Part): Promise<Part> {
    this.checkConditions(part);
    if (typeof part.UpdateExpression !== 'string') {
      return part;
    }
    const names = namesOf(part);
    const key = (part.Key ?? {}) as LooseDocument;
    const given = (part.ExpressionAttributeValues ?? {}) as LooseDocument;
    const actions = actionsOf(part.UpdateExpression, names);
    const plain: Record<string, unknown> = {};
    for (const { section, target, value, reads } of actions) {
      this.#refuse(reads, 'UpdateExpression');
      this.#refuseIndexes([target, ...reads].filter((name) => name === target || section !== 'SET'));
      if (!this.#attributes.has(target)) {
        continue;
      }
      if (section === 'SET' && value === undefined) {
        throw this.#invalid(
          `'${target}' is encrypted: it is set as 'SET ${target} = :value' or removed, and nothing else`,
        );
      }
      if (section === 'SET') {
        if (!Object.hasOwn(given, value!)) {
          throw this.#invalid(`'${value}' is not among ExpressionAttributeValues`);
        }
        plain[target] = given[value!];
      } else if (section === 'REMOVE') {
        plain[target] = undefined;
      }
    }
    const changed = Object.keys(plain);
    if (changed.length === 0) {
      return part;
    }
    const indexes = Object.entries(this.cipher.indexes).filter(([, { of }]) => Object.hasOwn(plain, of));
    const [[sealed], found] = await Promise.all([
      this.cipher.seal([{ ...plain, ...key }]),
      this.cipher.indexesOf(indexes.map(([attribute, { of }]) => ({ attribute, value: plain[of], identity: key }))),
    ]);
    const spoken = new Spoken(names, given);
    const rewritten = actions.map(({ section, tokens, target, value }) =>
      section === 'SET' && this.#attributes.has(target)
        ? { section, tokens: [tokens[0]!, '=', spoken.value(sealed![target])], old: value! }
        : { section, tokens: [...tokens], old: undefined },
    );
    indexes.forEach(([attribute], at) => {
      const name = spoken.name(attribute);
      const tokens = found[at] === undefined ? [name] : [name, '=', spoken.value(found[at])];
      rewritten.push({ section: found[at] === undefined ? 'REMOVE' : 'SET', tokens, old: undefined });
    });
    const UpdateExpression = expressionOf(rewritten);
    // A plaintext goes nowhere, not even as a value that no expression names any more (which DynamoDB refuses anyhow).
    const conditions = CONDITIONS.map((parameter) => part[parameter] ?? '').join(' ');
    const isNamed = (value: string) => placeholders(`${UpdateExpression} ${conditions}`).has(value);
    const replaced = new Set(rewritten.flatMap(({ old }) => old ?? []));
    for (const value of replaced) {
      if (isNamed(value)) {
        throw this.#invalid(
          `'${value}' is the value of an encrypted attribute: use another placeholder for anything else`,
        );
      }
    }
    return { ...part, UpdateExpression, ...spoken.parameters(replaced) };
  }

  #refuse(named: Iterable<string>, parameter: string): void {
    for (const name of named) {
      if (this.#attributes.has(name)) {
        const index = Object.entries(this.cipher.indexes).find(([, { of }]) => of === name)?.[0];
        throw this.#invalid(
          `'${name}' is encrypted, and ${parameter} can only ask whether it is there: ${
            index === undefined ? 'keep a blind index of it' : `use its blind index '${index}'`
          }`,
        );
      }
    }
  }

  #refuseIndexes(named: Iterable<string>): void {
    for (const name of named) {
      if (Object.hasOwn(this.cipher.indexes, name)) {
        throw this.#invalid(`'${name}' is the index of '${this.cipher.indexes[name]!.of}', and is written with it`);
      }
    }
  }

  #invalid(reason: string): DekdError {
    return new DekdError('INVALID_ARGUMENT', `table ${this.#name}: ${reason}`);
  }
}

function namesOf(part: Part): Names {
  return part.ExpressionAttributeNames as Names;
}

function placeholders(expression: string): Set<string> {
  return new Set(expression.match(/:[^\s#:.,()[\]=<>+-]+/g));
}

/** Placeholders of an expression, with new ones that are not taken yet. */
class Spoken {
  readonly #names: Record<string, string>;
  readonly #values: Record<string, unknown>;

  constructor(names: Names, values: LooseDocument) {
    this.#names = { ...names };
    this.#values = { ...values };
  }

  name(attribute: string): string {
    const name = free('#dekd', this.#names);
    this.#names[name] = attribute;
    return name;
  }

  value(value: unknown): string {
    const name = free(':dekd', this.#values);
    this.#values[name] = value;
    return name;
  }

  parameters(without: ReadonlySet<string>): Part {
    const values = Object.entries(this.#values).filter(([name]) => !without.has(name));
    return {
      ...(Object.keys(this.#names).length > 0 ? { ExpressionAttributeNames: this.#names } : {}),
      ...(values.length > 0 ? { ExpressionAttributeValues: Object.fromEntries(values) } : {}),
    };
  }
}

function free(prefix: string, taken: Readonly<Record<string, unknown>>): string {
  let number = 0;
  while (Object.hasOwn(taken, `${prefix}${number}`)) {
    number += 1;
  }
  return `${prefix}${number}`;
}
