import type { CallOptions, EncryptionContext } from '../client/index.ts';
import { DekdError } from '../errors.ts';
import type { IndexDefinition, IndexOptions } from './index-lookup.ts';
import { type DataModel, dataModelOf } from './prisma/data-model.ts';
import { type EncryptedModel, encryptedModel, type ModelDefinition, modelCipher } from './prisma/definition.ts';
import { FilterCheck, isPlain, type Models } from './prisma/filters.ts';
import { openResult, type Selection, Selections } from './prisma/results.ts';
import { Writes } from './prisma/writes.ts';
import type { RowClient } from './row-cipher.ts';

export type { IndexDefinition, IndexOptions } from './index-lookup.ts';
export type { RowClient } from './row-cipher.ts';

/** As much of `Prisma.TypeMap`, which every generated client has, as names and types of fields are read from. */
export interface PrismaTypeMap {
  readonly model: { readonly [model: string]: { readonly payload: { readonly scalars: object } } };
}

type Scalars<
  Types extends PrismaTypeMap,
  Model extends keyof Types['model'],
> = Types['model'][Model]['payload']['scalars'];

/** Names of the fields that can hold ciphertexts: text, lists of text (as `name[]`), JSON. */
export type EncryptableField<Row> = {
  [Name in keyof Row & string]: Encryptable<Name, NonNullable<Row[Name]>>;
}[keyof Row & string];

// A field of type Json may hold anything that JSON can; enums are texts, and no column for a ciphertext.
type Encryptable<Name extends string, Value> = string extends Value
  ? Name
  : Value extends readonly (infer Item)[]
    ? string extends Item
      ? `${Name}[]`
      : never
    : never;

/** How the fields of one model are encrypted. */
export interface PrismaModel<Row> {
  readonly key: string;
  /** The tenant; a function gets the identity fields of the row. */
  readonly partition?: string | ((row: Row) => string) | undefined;
  readonly fields: readonly EncryptableField<Row>[];
  /**
   * Fields that say which row it is, known before it is written and never changed: values are bound to model, field and these,
   * so that none can be moved to another row. `false` binds to model and field only.
   */
  readonly identity: (keyof Row & string) | readonly (keyof Row & string)[] | false;
  /** The context to bind to, instead of `{ model, …identity }`; gets the identity fields of the row. */
  readonly context?: ((row: Row) => EncryptionContext) | undefined;
  /** Makes the identity of a new row that comes without, say `randomUUID`. */
  readonly newId?: (() => string) | undefined;
  /** Blind indexes of encrypted fields, by the field that holds them: they are filled with what they are of. */
  readonly indexes?: { readonly [Name in keyof Row & string]?: IndexDefinition<EncryptableField<Row>> } | undefined;
}

export type PrismaModels<Types extends PrismaTypeMap> = {
  readonly [Model in keyof Types['model']]?: PrismaModel<Scalars<Types, Model>>;
};

/** What `$extends` takes. It changes no types: an encrypted field is written and read as what the schema says it is. */
export interface PrismaExtension<Types extends PrismaTypeMap> {
  (
    client: object,
  ): {
    // biome-ignore lint/complexity/noBannedTypes: what Prisma infers from an extension that adds nothing
    readonly $extends: { readonly extArgs: { result: {}; model: {}; query: {}; client: {} } };
  };
  /**
   * What a field with indexes has where the encrypted one is `value`: to filter by. Rejects with RESOURCE_EXHAUSTED and
   * `retryAfterMs` over the quota.
   */
  index<Model extends keyof Types['model'] & string>(
    model: Model,
    field: keyof Scalars<Types, Model> & string,
    value: string,
    options?: IndexOptions,
  ): Promise<string>;
}

/** What Prisma gives a query extension. */
interface QueryCall {
  readonly model?: string;
  readonly operation: string;
  readonly args: unknown;
  readonly query: (args: unknown) => Promise<unknown>;
  /** Not documented; its `dataPath` is how a fluent call says which part of the result it will give. */
  readonly __internalParams?: { readonly dataPath?: unknown };
}

/**
 * Encrypts fields of Prisma models before a query is sent, and decrypts them in its result, nested writes and relations
 * included: one batch a model and query. Fields that are NULL stay NULL.
 *
 * Queries that ask the database about plaintexts (filters, sorting, `distinct`, `_min` of an encrypted field), and writes whose
 * row is not known by its identity, reject with INVALID_ARGUMENT before anything is sent; so does what an agent that is down or
 * refuses makes impossible, with its own code. A value that does not open rejects with DECRYPTION_FAILED or MALFORMED. Raw
 * queries are not covered.
 *
 * `prismaEncryption<Prisma.TypeMap>()(dekd, { User: { key: 'users', fields: ['email'], identity: 'id' } })`, and
 * `new PrismaClient(…).$extends(…)` with what that gives, which throws INVALID_ARGUMENT for a definition that the schema does
 * not fit.
 */
export function prismaEncryption<Types extends PrismaTypeMap>(): (
  dekd: RowClient,
  models: PrismaModels<Types>,
  options?: { readonly timeoutMs?: number | undefined },
) => PrismaExtension<Types> {
  return (dekd, models, options = {}) => {
    const definitions = Object.entries(models as Readonly<Record<string, ModelDefinition>>);
    const ciphers = new Map(definitions.map(([name, definition]) => [name, modelCipher(dekd, name, definition)]));
    const extend = (client: object): ReturnType<PrismaExtension<Types>> => {
      const data = dataModelOf(client);
      const known = definitions.map(([name, definition]): [string, EncryptedModel] => [
        name,
        encryptedModel(data, name, definition, ciphers.get(name)!),
      ]);
      const extension = extensionOf(data, new Map(known), options);
      return (client as { $extends(extension: object): ReturnType<PrismaExtension<Types>> }).$extends(extension);
    };
    return Object.assign(extend, {
      index: async (model: string, field: string, value: string, indexOptions?: IndexOptions): Promise<string> => {
        const cipher = ciphers.get(model);
        if (cipher === undefined) {
          throw new DekdError('INVALID_ARGUMENT', `no model '${model}' is encrypted`);
        }
        return cipher.index(field, value, { ...options, ...indexOptions });
      },
    });
  };
}

function extensionOf(data: DataModel, models: Models, options: CallOptions): object {
  const filters = new FilterCheck(data, models);
  const selections = new Selections(data, models, filters);

  async function allOperations({ model, operation, args, query, __internalParams }: QueryCall): Promise<unknown> {
    if (model === undefined) {
      return query(args);
    }
    const own = copied(args ?? {}) as Record<string, unknown>;
    const writes = new Writes(data, models, filters);
    const returnsRows = prepare(model, operation, own, writes);
    const selection = returnsRows ? givenBy(selections.of(model, own), operation, __internalParams) : undefined;
    await writes.seal(options);
    const result = await query(own);
    return selection === undefined ? result : openResult(models, selection, result, options);
  }

  /** Checks the arguments of an operation and finds what it writes. @returns whether it gives rows. */
  function prepare(model: string, operation: string, args: Record<string, unknown>, writes: Writes): boolean {
    filters.where(model, args.where);
    switch (operation) {
      case 'findUnique':
      case 'findUniqueOrThrow':
      case 'findFirst':
      case 'findFirstOrThrow':
      case 'findMany':
      case 'count':
      case 'aggregate':
      case 'groupBy':
        filters.where(model, args.cursor);
        filters.where(model, args.having);
        filters.orderBy(model, args.orderBy);
        filters.names(model, args.distinct, 'be made distinct');
        filters.names(model, args.by, 'be grouped by');
        filters.aggregates(model, args);
        return operation.startsWith('find');
      case 'create':
        writes.create(model, args.data);
        return true;
      case 'createMany':
      case 'createManyAndReturn':
        for (const row of Array.isArray(args.data) ? args.data : [args.data]) {
          writes.create(model, row);
        }
        return operation === 'createManyAndReturn';
      case 'update':
      case 'updateMany':
      case 'updateManyAndReturn':
        writes.update(model, args.where, args.data);
        return operation !== 'updateMany';
      case 'upsert':
        writes.create(model, args.create);
        writes.update(model, args.where, args.update);
        return true;
      case 'delete':
        return true;
      case 'deleteMany':
        return false;
      default:
        throw new DekdError('UNSUPPORTED', `the operation '${operation}' of ${model} is not known to dekd/prisma`);
    }
  }

  return { name: 'dekd', query: { $allModels: { $allOperations: allOperations } } };
}

/**
 * What of a selection a call gives: all of it, or the relation that a fluent call (`findUnique(…).posts()`) leads to, for which
 * Prisma's path is `select, posts`.
 * @throws UNSUPPORTED when Prisma does not say
 */
function givenBy(selection: Selection, operation: string, params: QueryCall['__internalParams']): Selection {
  const path = params?.dataPath ?? [];
  if (!Array.isArray(path) || (params === undefined && operation.startsWith('find'))) {
    throw new DekdError('UNSUPPORTED', 'this Prisma client does not say which part of a result a query gives');
  }
  let given: Selection | undefined = selection;
  for (let index = 1; index < path.length; index += 2) {
    given = given?.relations.get(String(path[index]));
  }
  if (given === undefined) {
    throw new DekdError('UNSUPPORTED', 'this Prisma client gives a part of a result that was not selected');
  }
  return given;
}

/** A copy of plain objects and lists; everything else in it is shared. */
function copied(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.map(copied);
  }
  return isPlain(value)
    ? Object.fromEntries(Object.entries(value).map(([name, member]) => [name, copied(member)]))
    : value;
}
