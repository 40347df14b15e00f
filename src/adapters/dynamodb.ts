/**
 * Encrypted attributes over the DocumentClient of DynamoDB: a client like the one that it is given, which encrypts what is written
 * and decrypts what is read. Nothing of the SDK is loaded here.
 */
import type { DynamoDBDocumentClient } from '@aws-sdk/lib-dynamodb';
import type { EncryptionContext, FieldCodec } from '../client/index.ts';
import { DekdError } from '../errors.ts';
import {
  type DocumentClient,
  type DocumentIndex,
  type DocumentIndexOptions,
  documentCipher,
  type LooseDocument,
} from './document-cipher.ts';
import { EncryptedItems } from './dynamodb/encrypted-items.ts';
import { transformed } from './dynamodb/operations.ts';

export type { DocumentClient, DocumentIndex, DocumentIndexOptions } from './document-cipher.ts';

/** How the attributes of one table are encrypted. */
export interface DynamoTable<A extends string = string, K extends string = string, X extends string = string> {
  readonly key: string;
  /** The tenant; a function gets the primary key of the item. */
  readonly partition?: string | ((primaryKey: { readonly [Name in K]: unknown }) => string) | undefined;
  /** Names of the attributes to encrypt, each as a whole, be it a text, a list or a map. */
  readonly attributes: readonly A[];
  /** Names of the partition key and, where the table has one, the sort key: values are bound to table, item and attribute. */
  readonly primaryKey: readonly [K] | readonly [K, K];
  /** The name to bind to, instead of that of the table; for tables that are called otherwise in each environment. */
  readonly boundAs?: string | undefined;
  /** The context to bind to, instead of `{ table, …primary key }`; gets the primary key of the item. */
  readonly context?: ((primaryKey: { readonly [Name in K]: unknown }) => EncryptionContext) | undefined;
  /** Blind indexes of encrypted attributes, by the attribute that holds them: what a global secondary index is of. */
  readonly indexes?: { readonly [Name in X]: DocumentIndex<A> } | undefined;
  /** For values that are no JSON, by attribute. */
  readonly codecs?: { readonly [Name in A]?: FieldCodec<never> | 'date' | 'bigint' | 'bytes' } | undefined;
}

export interface EncryptedDocuments<C, Tables> {
  /**
   * Sends commands like the client that was given; a `DynamoDBDocument` has its short forms too. Requests that would compare,
   * compute with or copy a ciphertext, and PartiQL, reject with INVALID_ARGUMENT before anything is sent.
   */
  readonly client: C;
  /**
   * What an index attribute has in the items whose encrypted attribute is `value`: for a key condition. Rejects with
   * RESOURCE_EXHAUSTED and `retryAfterMs` over the quota.
   */
  index(
    table: keyof Tables & string,
    attribute: string,
    value: string,
    options?: DocumentIndexOptions,
  ): Promise<string>;
}

/** Throws INVALID_ARGUMENT for a definition that says something impossible. The client that is given stays as it is. */
export function encryptedDocuments<
  C extends DynamoDBDocumentClient,
  // biome-ignore lint/suspicious/noExplicitAny: names are checked against each other in each table by itself.
  const Tables extends Readonly<Record<string, DynamoTable<any, any, any>>>,
>(dekd: DocumentClient, documentClient: C, tables: Tables): EncryptedDocuments<C, Tables> {
  const items = new Map(Object.entries(tables).map(([name, table]) => [name, itemsOf(dekd, name, table)]));
  return {
    client: encryptingClient(documentClient, items),
    index: async (table, attribute, value, options) => {
      const known = items.get(table);
      if (known === undefined) {
        throw new DekdError('INVALID_ARGUMENT', `no table '${table}' is defined here`);
      }
      return known.cipher.index(attribute, value, options);
    },
  };
}

function itemsOf(dekd: DocumentClient, name: string, table: DynamoTable): EncryptedItems {
  const { attributes, primaryKey, boundAs = name } = table;
  const isNames = (names: unknown) =>
    Array.isArray(names) && names.every((each) => typeof each === 'string' && /^[^.[\]]+$/.test(each));
  if (!isNames(attributes) || new Set(attributes).size !== attributes.length) {
    throw new DekdError('INVALID_ARGUMENT', `table ${name}: attributes are names, each once; no path leads into them`);
  }
  if (!isNames(primaryKey) || primaryKey.length < 1 || primaryKey.length > 2) {
    throw new DekdError('INVALID_ARGUMENT', `table ${name}: primaryKey is the names of one or two attributes`);
  }
  const cipher = documentCipher(dekd, {
    name: boundAs,
    kind: 'table',
    key: table.key,
    partition: table.partition as string | ((row: LooseDocument) => string) | undefined,
    paths: attributes,
    identity: primaryKey,
    context: table.context as ((row: LooseDocument) => EncryptionContext) | undefined,
    codecs: table.codecs as Readonly<Record<string, FieldCodec<unknown> | string>> | undefined,
    indexes: table.indexes,
    textOf: keyText,
  });
  return new EncryptedItems(name, primaryKey, new Set(attributes), cipher);
}

/** A text, or an integer, whatever it is given as. */
function keyText(value: unknown): string | undefined {
  if (typeof value === 'string') {
    return value;
  }
  if (typeof value === 'bigint' || Number.isSafeInteger(value)) {
    return String(value);
  }
  // NumberValue of the SDK.
  const { value: digits } = (value ?? {}) as { value?: unknown };
  return typeof digits === 'string' && /^(0|-?[1-9]\d*)$/.test(digits) ? digits : undefined;
}

interface Args {
  readonly input: Readonly<Record<string, unknown>>;
}
type Next = (args: Args) => Promise<{ readonly output: Record<string, unknown> }>;

/** A client that shares everything with the one given but its middleware. */
function encryptingClient<C extends DynamoDBDocumentClient>(
  documentClient: C,
  tables: ReadonlyMap<string, EncryptedItems>,
): C {
  const middlewareStack = documentClient.middlewareStack.clone();
  const middleware =
    (next: Next, { commandName }: { readonly commandName?: string }) =>
    async (args: Args) => {
      const { input, reading } = await transformed(tables, commandName ?? '', args.input);
      const result = await next({ ...args, input });
      return { ...result, output: await reading(result.output) };
    };
  // First of all, so that whatever logs requests and answers sees ciphertexts; once, whatever is tried again.
  middlewareStack.add(middleware as never, { step: 'initialize', priority: 'high', name: 'dekdAttributes' });
  const client = Object.create(documentClient, {
    middlewareStack: { value: middlewareStack },
    // Handlers that are kept would be those of the other's middleware.
    handlers: { value: undefined, writable: true, configurable: true },
    send: {
      value(command: object, ...rest: unknown[]) {
        // A command of the plain client says its values in another form, which is not read here.
        if (!('clientCommand' in command)) {
          throw new DekdError('INVALID_ARGUMENT', 'this client sends commands of @aws-sdk/lib-dynamodb only');
        }
        return (documentClient.send as (...all: unknown[]) => unknown).call(client, command, ...rest);
      },
    },
  }) as C;
  return client;
}
