/** Encrypted paths of a Mongoose model: a plugin for its schema. Nothing of Mongoose is loaded here. */
import type { Model, Schema } from 'mongoose';
import type { EncryptionContext, FieldCodec, FieldPath } from '../client/index.ts';
import { DekdError } from '../errors.ts';
import {
  type DocumentCipher,
  type DocumentClient,
  type DocumentIndex,
  type DocumentIndexOptions,
  documentCipher,
  type LooseDocument,
} from './document-cipher.ts';
import { type AnyCollection, encryptCollection } from './mongoose/collection.ts';
import { stepsOf } from './mongoose/paths.ts';
import { type EncryptedPath, QueryCheck } from './mongoose/queries.ts';

export type { DocumentClient, DocumentIndex, DocumentIndexOptions } from './document-cipher.ts';

/** Which paths of the documents of one model are encrypted. */
export interface MongooseDefinition<T, P extends FieldPath<T>, X extends string = string> {
  readonly key: string;
  /** The tenant; a function gets the id of the document. */
  readonly partition?: string | ((identity: { readonly _id: unknown }) => string) | undefined;
  /** `email`, `address.street`, `cards[].pan`, `tags[]`: what a path leads to is encrypted as a whole. */
  readonly paths: readonly P[];
  /** The name to bind to, instead of that of the model (of the base model, for discriminators). */
  readonly boundAs?: string | undefined;
  /** The context to bind to, instead of `{ model, _id }`; gets the id of the document. */
  readonly context?: ((identity: { readonly _id: unknown }) => EncryptionContext) | undefined;
  /** Blind indexes of encrypted texts, by the path of the schema that holds them: a text, at the top. */
  readonly indexes?: { readonly [Name in X]: DocumentIndex<P & string> } | undefined;
  /** For values that are no JSON. Paths of type Date, BigInt and Buffer have theirs. */
  readonly codecs?: { readonly [Path in P]?: FieldCodec<never> | 'date' | 'bigint' | 'bytes' } | undefined;
}

export interface MongooseEncryption<X extends string> {
  /** For the schema of one model, not of subdocuments: `schema.plugin(encryption.plugin)`, before the model is made. */
  // biome-ignore lint/suspicious/noExplicitAny: a schema of any document.
  readonly plugin: (schema: Schema<any, any, any, any, any, any, any, any>) => void;
  /**
   * What an index has in the documents whose encrypted path is `value`: to filter by. Rejects with INVALID_ARGUMENT before
   * the model was made, with RESOURCE_EXHAUSTED and `retryAfterMs` over the quota.
   */
  index(path: X, value: string, options?: DocumentIndexOptions): Promise<string>;
}

/**
 * `encryptedModel<User>()(dekd, { key: 'people', paths: ['email', 'cards[].pan'] })`. Throws INVALID_ARGUMENT for a definition that
 * says something impossible; what the schema has not, or could not hold, the plugin throws.
 */
export function encryptedModel<T>(): <const P extends FieldPath<T>, X extends string = never>(
  dekd: DocumentClient,
  definition: MongooseDefinition<T, P, X>,
) => MongooseEncryption<X> {
  return (dekd, definition) => encryptionOf(dekd, definition as unknown as AnyDefinition);
}

type AnyDefinition = Omit<MongooseDefinition<LooseDocument, string>, 'paths' | 'codecs' | 'indexes'> & {
  readonly paths: readonly string[];
  readonly codecs?: Readonly<Record<string, AnyCodec>> | undefined;
  readonly indexes?: Readonly<Record<string, DocumentIndex>> | undefined;
};

type AnyModel = Omit<Model<unknown>, 'useConnection'> & {
  readonly baseModelName?: string;
  namespace?: () => string;
  useConnection(connection: unknown): unknown;
};

type AnyCodec = FieldCodec<unknown> | string;

/** As the codec 'bytes', and for what Mongoose makes of bytes on their way to the driver, a Binary. */
const BYTES: FieldCodec<Uint8Array | { value(): Uint8Array }, string> = {
  encode: (bytes) => Buffer.from(bytes instanceof Uint8Array ? bytes : bytes.value()).toString('base64'),
  decode: (text) => Buffer.from(text, 'base64'),
};
/** Types of schemas whose values are no JSON, with the codec that they have unless another is given. */
const CODECS: Readonly<Record<string, AnyCodec>> = {
  Date: 'date',
  BigInt: 'bigint',
  Buffer: BYTES as FieldCodec<unknown>,
};
/** Types whose values JSON carries, as far as what is in them is. */
const CARRIED = new Set(['String', 'Number', 'Boolean', 'Mixed', 'Array', 'Embedded', 'Int32']);

function encryptionOf(dekd: DocumentClient, definition: AnyDefinition): MongooseEncryption<string> {
  const { indexes = {} } = definition;
  const paths: EncryptedPath[] = definition.paths.map((path) => ({
    path,
    steps: stepsOf(path),
    index: Object.entries(indexes).find(([, { of }]) => of === path)?.[0],
  }));
  let bound: { readonly name: string; readonly cipher: DocumentCipher } | undefined;
  const encrypted = new WeakSet<object>();
  const models = new WeakSet<object>();
  // Said at once, not when a model is made.
  cipherOf(dekd, definition, 'model', {});

  function plugin(schema: Schema): void {
    const codecs = checkSchema(schema as unknown as AnySchema, definition);
    // biome-ignore lint/suspicious/noExplicitAny: the event is given to plugins and not in the types of schemas.
    (schema as any).on('init', (model: AnyModel) => {
      const name = definition.boundAs ?? model.baseModelName ?? model.modelName;
      encryptModel(model, name, codecs);
      if (models.has(model)) {
        return;
      }
      models.add(model);
      // What a connection writes in bulk goes to the driver without a collection, and asks each model for this just before.
      model.namespace = () => {
        throw new DekdError(
          'INVALID_ARGUMENT',
          `model ${name}: bulk writes of a connection are not encrypted; use bulkWrite of the model`,
        );
      };
      const { useConnection } = model;
      model.useConnection = function (this: AnyModel, connection) {
        const moved = useConnection.call(this, connection);
        encryptModel(this, name, codecs);
        return moved;
      };
    });
    for (const hook of ['save', 'validate'] as const) {
      schema.pre(hook, function (this: unknown) {
        if ((this as { readonly $isSubdocument?: boolean }).$isSubdocument === true) {
          throw new DekdError(
            'INVALID_ARGUMENT',
            'a schema of subdocuments encrypts nothing: name their paths in the schema of the model, and plug in there',
          );
        }
      });
    }
  }

  function encryptModel(model: AnyModel, name: string, codecs: Readonly<Record<string, AnyCodec>>): void {
    const collection = model.collection as unknown as AnyCollection;
    if (encrypted.has(collection)) {
      // A discriminator shares the collection of its base.
      return;
    }
    if (bound !== undefined && bound.name !== name) {
      throw new DekdError('INVALID_ARGUMENT', `model ${name}: this definition is for ${bound.name}; make another`);
    }
    if (Object.hasOwn(collection, 'insertOne')) {
      throw new DekdError('INVALID_ARGUMENT', `model ${name}: its collection is encrypted by another definition`);
    }
    bound ??= { name, cipher: cipherOf(dekd, definition, name, codecs) };
    encrypted.add(collection);
    encryptCollection(collection, bound.cipher, new QueryCheck(name, paths), paths);
  }

  return {
    plugin: plugin as MongooseEncryption<string>['plugin'],
    index: async (path, value, options) => {
      if (bound === undefined) {
        throw new DekdError('INVALID_ARGUMENT', 'indexes are bound to the name of the model, which is not made yet');
      }
      return bound.cipher.index(path, value, options);
    },
  };
}

function cipherOf(
  dekd: DocumentClient,
  definition: AnyDefinition,
  name: string,
  codecs: Readonly<Record<string, AnyCodec>>,
): DocumentCipher {
  const { key, partition, paths, context, indexes } = definition;
  return documentCipher(dekd, {
    name,
    kind: 'model',
    key,
    partition: partition as string | ((row: LooseDocument) => string) | undefined,
    paths,
    identity: ['_id'],
    context: context as ((row: LooseDocument) => EncryptionContext) | undefined,
    codecs: { ...definition.codecs, ...codecs },
    indexes,
    textOf: idText,
  });
}

/** An ObjectId, a UUID, a text or an integer, whatever it is given as. */
function idText(value: unknown): string | undefined {
  if (typeof value === 'string') {
    return value;
  }
  if (typeof value === 'bigint' || Number.isSafeInteger(value)) {
    return String(value);
  }
  const { toHexString } = (value ?? {}) as { toHexString?(): string };
  return typeof toHexString === 'function' ? toHexString.call(value) : undefined;
}

interface AnySchemaType {
  readonly instance: string;
  readonly options: LooseDocument;
  readonly schema?: AnySchema;
  readonly embeddedSchemaType?: AnySchemaType;
}

interface AnySchema {
  path(name: string): AnySchemaType | undefined;
  readonly options: LooseDocument;
  indexes(): [Record<string, unknown>, unknown][];
}

/** @returns codecs by the types of paths */
function checkSchema(schema: AnySchema, definition: AnyDefinition): Record<string, AnyCodec> {
  const codecs: Record<string, AnyCodec> = {};
  const refused = (path: string, reason: string) =>
    new DekdError('INVALID_ARGUMENT', `the schema's '${path}' ${reason}`);
  for (const path of definition.paths) {
    const type = typeAt(schema, stepsOf(path));
    if (type === undefined) {
      throw refused(path, 'does not exist: encrypted paths are paths of the schema, with [] for arrays');
    }
    const given = definition.codecs?.[path];
    const codec = CODECS[type.instance];
    if (codec !== undefined && (given === undefined || given === 'bytes')) {
      codecs[path] = codec;
    } else if (!CARRIED.has(type.instance) && given === undefined) {
      throw refused(path, `is of type ${type.instance}, which JSON would not give back: give it a codec`);
    }
  }
  const encrypted = new Set(definition.paths.map((path) => path.replaceAll('[]', '')));
  for (const [keys] of schema.indexes()) {
    const found = Object.keys(keys).find((name) => encrypted.has(name));
    if (found !== undefined) {
      throw refused(found, 'has an index, which a ciphertext defeats: keep a blind index of it, and an index of that');
    }
  }
  for (const attribute of Object.keys(definition.indexes ?? {})) {
    if (attribute.includes('.') || schema.path(attribute)?.instance !== 'String') {
      throw refused(attribute, 'is to hold a blind index: it is a path of type String, at the top');
    }
  }
  return codecs;
}

function typeAt(schema: AnySchema, steps: readonly string[]): AnySchemaType | undefined {
  const end = steps.indexOf('[]');
  const type = schema.path((end < 0 ? steps : steps.slice(0, end)).join('.'));
  return end < 0 ? type : elementAt(type, steps.slice(end + 1));
}

/** The type that the steps lead to from an element of an array. */
function elementAt(array: AnySchemaType | undefined, steps: readonly string[]): AnySchemaType | undefined {
  if (array?.instance !== 'Array') {
    return undefined;
  }
  if (steps.length === 0) {
    return array.embeddedSchemaType ?? { instance: 'Embedded', options: {} };
  }
  if (steps[0] === '[]') {
    return elementAt(array.embeddedSchemaType, steps.slice(1));
  }
  return array.schema === undefined ? undefined : typeAt(array.schema, steps);
}
