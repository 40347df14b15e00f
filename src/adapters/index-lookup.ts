/** Blind indexes beside encrypted columns and fields: what rows and documents have in common. */
import type { BlindIndexItem, CallOptions, DekdClient, Normalisation } from '../client/index.ts';
import { DekdError } from '../errors.ts';

/** A column that rows can be found by, filled with the blind index of an encrypted one whenever that is written. */
export interface IndexDefinition<Column extends string = string> {
  /** The encrypted column; its values are texts. */
  readonly of: Column;
  /** Name of the key for indexes. */
  readonly key: string;
  /** Bits of an index: whole bytes, 16 to 256; default 128. Fewer make more values look alike, to the database as well. */
  readonly bits?: number | undefined;
  /** What makes values equal that are not the same text; none unless given. */
  readonly normalise?: Normalisation | undefined;
}

export interface IndexOptions extends CallOptions {
  /** The tenant whose rows are looked for, where the definition takes it from the row. */
  readonly partition?: string | undefined;
}

type IndexClient = Pick<DekdClient, 'blindIndexMany'>;

/** What indexes of one table or model are made with. */
export interface IndexedTable {
  readonly name: string;
  /** What it has, in the singular. */
  readonly of: 'row' | 'document';
  readonly partition?: string | ((identity: never) => string) | undefined;
  /** By the column that holds the index. */
  readonly indexes: Readonly<Record<string, IndexDefinition>>;
}

/** The text of which an index is made. @throws INVALID_ARGUMENT */
export function indexedText(name: string, value: unknown): string {
  if (typeof value !== 'string') {
    throw new DekdError('INVALID_ARGUMENT', `${name} has an index, which is of texts: this is ${typeof value}`);
  }
  return value;
}

/** Indexes of all items in one batch, in order; none is asked for none. Rejects with the first error of an item. */
export async function indexesOfAll(
  dekd: IndexClient,
  items: readonly BlindIndexItem[],
  options: CallOptions,
): Promise<string[]> {
  const results = items.length === 0 ? [] : await dekd.blindIndexMany(items, options);
  return results.map((result) => {
    if (!result.ok) {
      throw result.error;
    }
    return result.value;
  });
}

/** What a column of indexes has where the encrypted one is `value`. */
export async function lookupIndex(
  dekd: IndexClient,
  { name, of: what, partition, indexes }: IndexedTable,
  column: string,
  value: string,
  { partition: tenant, ...options }: IndexOptions = {},
): Promise<string> {
  if (!Object.hasOwn(indexes, column)) {
    throw new DekdError('INVALID_ARGUMENT', `${name} defines no index '${column}'`);
  }
  if (typeof partition === 'function' && tenant === undefined) {
    throw new DekdError('INVALID_ARGUMENT', `${name} takes its partition from the ${what}: say which to look in`);
  }
  const { of, ...index } = indexes[column]!;
  const place = { table: name, column: of, partition: tenant ?? (partition as string | undefined) };
  const [found] = await indexesOfAll(
    dekd,
    [{ ...index, ...place, value: indexedText(`${name}.${of}`, value) }],
    options,
  );
  return found!;
}
