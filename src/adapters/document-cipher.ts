/** What the adapters for stores of documents share: fields of documents, bound to what identifies each, and indexes of them. */
import type { CallOptions, DekdClient, EncryptionContext, FieldCodec, Normalisation } from '../client/index.ts';
import { DekdError } from '../errors.ts';
import { indexedText, indexesOfAll, lookupIndex } from './index-lookup.ts';

export type LooseDocument = Readonly<Record<string, unknown>>;

/** An attribute that documents can be found by, filled with the blind index of an encrypted one whenever that is written. */
export interface DocumentIndex<Field extends string = string> {
  /** The encrypted field; its values are texts. */
  readonly of: Field;
  /** Name of the key for indexes. */
  readonly key: string;
  /** Bits of an index: whole bytes, 16 to 256; default 128. Fewer make more values look alike, to the database as well. */
  readonly bits?: number | undefined;
  /** What makes values equal that are not the same text; none unless given. */
  readonly normalise?: Normalisation | undefined;
}

export interface DocumentIndexOptions extends CallOptions {
  /** The tenant whose documents are looked for, where the definition takes it from the document. */
  readonly partition?: string | undefined;
}

export interface DocumentBinding {
  /** Name of the table or model: the context has it under `kind`. */
  readonly name: string;
  readonly kind: 'table' | 'model';
  readonly key: string;
  readonly partition?: string | ((identity: LooseDocument) => string) | undefined;
  readonly paths: readonly string[];
  /** Names of the members that say which document it is. */
  readonly identity: readonly string[];
  readonly context?: ((identity: LooseDocument) => EncryptionContext) | undefined;
  readonly codecs?: Readonly<Record<string, FieldCodec<unknown> | string | undefined>> | undefined;
  readonly indexes?: Readonly<Record<string, DocumentIndex>> | undefined;
  /** An identity value as text, the same however it came; undefined for what identifies nothing. */
  textOf(value: unknown): string | undefined;
}

export interface DocumentCipher {
  /** By the attribute that holds the index. */
  readonly indexes: Readonly<Record<string, DocumentIndex>>;
  /** Copies with ciphertexts in the place of what there is, one batch for all. NULL stays NULL. */
  seal(documents: readonly LooseDocument[], options?: CallOptions): Promise<LooseDocument[]>;
  /** The reverse. Rejects for a value that does not open: none is passed through. */
  open(documents: readonly LooseDocument[], options?: CallOptions): Promise<LooseDocument[]>;
  /** Indexes of `values`, a batch; undefined where there is no value. */
  indexesOf(
    items: readonly { readonly attribute: string; readonly value: unknown; readonly identity: LooseDocument }[],
    options?: CallOptions,
  ): Promise<(string | undefined)[]>;
  /** What an index attribute has where the encrypted one is `value`. */
  index(attribute: string, value: string, options?: DocumentIndexOptions): Promise<string>;
}

/** The part of a client that documents are encrypted with. */
export type DocumentClient = Pick<DekdClient, 'fields' | 'blindIndexMany'>;

/** @throws INVALID_ARGUMENT for a binding that says nothing, or too little */
export function documentCipher(dekd: DocumentClient, binding: DocumentBinding): DocumentCipher {
  const { name, kind, partition, paths, identity, context, codecs, indexes = {}, textOf } = binding;
  if (paths.length === 0) {
    throw new DekdError('INVALID_ARGUMENT', `${name} names nothing to encrypt`);
  }
  const own = identity.find((member) => paths.some((path) => rootOf(path) === member));
  if (own !== undefined) {
    throw new DekdError('INVALID_ARGUMENT', `${name}.${own} says which document it is, and cannot be encrypted`);
  }
  for (const [attribute, { of }] of Object.entries(indexes)) {
    const isTaken = identity.includes(attribute) || paths.some((path) => rootOf(path) === attribute);
    if (isTaken || !paths.includes(of) || of.includes('[]')) {
      throw new DekdError('INVALID_ARGUMENT', `${name}.${attribute} is to be the index of an encrypted text`);
    }
  }

  function identityOf(document: LooseDocument): Record<string, string> {
    return Object.fromEntries(
      identity.map((member) => {
        const text = textOf(document[member]);
        if (text === undefined) {
          throw new DekdError(
            'INVALID_ARGUMENT',
            document[member] === undefined || document[member] === null
              ? `${name}.${member} is not known, and encrypted values are bound to it: give it when you write, select it when you read`
              : `${name}.${member} is of a kind that values cannot be bound to`,
          );
        }
        return [member, text];
      }),
    );
  }

  function picked(document: LooseDocument): LooseDocument {
    return Object.fromEntries(identity.map((member) => [member, document[member]]));
  }

  function partitionOf(document: LooseDocument): string | undefined {
    return typeof partition === 'function' ? partition(picked(document)) : partition;
  }

  // biome-ignore lint/suspicious/noExplicitAny: documents of any shape; nothing of it is in a public type.
  const fields = dekd.fields<any>()({
    key: binding.key,
    partition: typeof partition === 'function' ? (row: LooseDocument) => partition(picked(row)) : partition,
    fields: paths,
    context: (row: LooseDocument) =>
      context === undefined ? { [kind]: name, ...identityOf(row) } : context(picked(row)),
    nulls: 'keep',
    // What is written is plaintext, whatever it looks like; and a writer needs no right to decrypt.
    idempotent: false,
    ...(codecs === undefined ? {} : { codecs: codecs as never }),
  });

  async function over(
    documents: readonly LooseDocument[],
    work: (some: LooseDocument[]) => Promise<readonly LooseDocument[]>,
  ): Promise<LooseDocument[]> {
    const results = [...documents];
    const at: number[] = [];
    documents.forEach((document, place) => {
      if (paths.some((path) => holds(document, path))) {
        // Said here, where it is an error of its own and not that of a context function.
        identityOf(document);
        at.push(place);
      }
    });
    const done = at.length === 0 ? [] : await work(at.map((place) => documents[place]!));
    done.forEach((document, place) => {
      results[at[place]!] = document;
    });
    return results;
  }

  async function indexesOf(
    items: readonly { readonly attribute: string; readonly value: unknown; readonly identity: LooseDocument }[],
    options: CallOptions = {},
  ): Promise<(string | undefined)[]> {
    const found: (string | undefined)[] = items.map(() => undefined);
    const places: number[] = [];
    const asked = items.flatMap(({ attribute, value, identity: document }, place) => {
      if (value === undefined || value === null) {
        return [];
      }
      places.push(place);
      const { of, ...index } = indexes[attribute]!;
      return [
        {
          ...index,
          partition: partitionOf(document),
          table: name,
          column: of,
          value: indexedText(`${name}.${of}`, value),
        },
      ];
    });
    const done = await indexesOfAll(dekd, asked, options);
    done.forEach((index, place) => {
      found[places[place]!] = index;
    });
    return found;
  }

  return {
    indexes,
    seal: (documents, options = {}) => over(documents, (some) => fields.encryptMany(some, options)),
    open: (documents, options = {}) => over(documents, (some) => fields.decryptMany(some as never, options)),
    indexesOf,
    index: (attribute, value, options) =>
      lookupIndex(dekd, { name: name, of: 'document', partition, indexes }, attribute, value, options),
  };
}

/** The first name of a path. */
export function rootOf(path: string): string {
  return /^[^.[]*/.exec(path)![0];
}

/** Whether a document has something at a path that is neither absent nor null. */
function holds(value: unknown, path: string): boolean {
  if (value === undefined || value === null) {
    return false;
  }
  if (path === '') {
    return true;
  }
  if (path.startsWith('[]')) {
    return Array.isArray(value) && value.some((each) => holds(each, path.slice(2)));
  }
  const [, name, rest] = /^\.?([^.[]*)(.*)$/s.exec(path)!;
  return typeof value === 'object' && holds((value as LooseDocument)[name!], rest!);
}
