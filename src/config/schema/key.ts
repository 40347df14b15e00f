/** What a key of the configuration is made of: how it is read, its default, and what a person must know of it. */
import * as v from 'valibot';
import type { Reader } from '../readers.ts';

/** What a person must know of one key. */
export interface KeyDoc {
  readonly meaning: string;
  /** What can go wrong when it is set carelessly. */
  readonly danger?: string;
  /** Where the value comes from when the key is absent and has no fixed default. */
  readonly computed?: string;
  /** YAML to show for a key without a default, or for a section that is like another. */
  readonly example?: string;
  /** The section is for some of what its siblings choose; the sample then shows it switched off. */
  readonly isForSome?: boolean;
  /** Path of the section whose keys these are too; sample and page then show them there only, and here `example`. */
  readonly like?: string;
}

/** What the loader and the sample read back from a schema. */
export interface KeyMetadata extends KeyDoc {
  readonly reader?: Reader<unknown>;
  readonly [name: string]: unknown;
}

export function leaf<T>(reader: Reader<T>, doc: KeyDoc) {
  return v.pipe(
    v.unknown(),
    v.rawTransform(({ dataset, addIssue, NEVER }): T => {
      const value = reader.read(dataset.value);
      if (value === undefined) {
        addIssue({ message: `expected ${reader.expected}` });
        return NEVER;
      }
      return value;
    }),
    v.metadata({ ...doc, reader } as KeyMetadata),
  );
}

/** A key with a default, written as in the file. */
export function key<T>(reader: Reader<T>, fallback: string | number | boolean | object, doc: KeyDoc) {
  return v.optional(leaf(reader, doc), fallback);
}

/** A key that may be absent. */
export function optionalKey<T>(reader: Reader<T>, doc: KeyDoc & { readonly example: string }) {
  return v.optional(leaf(reader, doc));
}

/** A key that must be given. */
export function requiredKey<T>(reader: Reader<T>, doc: KeyDoc & { readonly example: string }) {
  return leaf(reader, doc);
}

/** A section; one that is absent or empty has all its defaults. */
export function section<const E extends v.ObjectEntries>(entries: E, doc: KeyDoc) {
  return v.nullish(v.pipe(v.strictObject(entries), v.metadata({ ...doc } as KeyMetadata)), {} as never);
}
