/** What a definition says, checked once. Everything here throws INVALID_ARGUMENT and nothing else. */
import { DekdError } from '../../errors.ts';
import { checkKey, checkPartition, checkRoot } from '../arguments.ts';
import type { EncryptionContext } from '../types.ts';
import { type FieldNode, fieldSetOf } from './field-path.ts';
import type { JsonValue } from './types.ts';

/** Codecs that a definition can name. */
const CODEC_NAMES = ['date', 'bigint', 'bytes'] as const;
export type CodecName = (typeof CODEC_NAMES)[number];

/** A codec whose values nobody knows the type of here. */
export interface AnyCodec {
  encode(value: unknown): unknown;
  decode(json: JsonValue): unknown;
}

export type CodecChoice = CodecName | AnyCodec;

/** A definition whose types are not known here. */
export interface AnyDefinition {
  readonly key: string;
  readonly partition?: string | ((row: never) => string) | undefined;
  readonly fields: readonly string[];
  readonly context: (row: never) => EncryptionContext;
  readonly codecs?: Readonly<Record<string, unknown>> | undefined;
  readonly nulls?: 'encrypt' | 'keep' | undefined;
  readonly bindPositions?: boolean | undefined;
  readonly idempotent?: boolean | undefined;
  readonly root?: string | undefined;
}

export interface CheckedDefinition {
  readonly key: string;
  readonly partition: string | ((row: object) => unknown);
  readonly paths: readonly string[];
  readonly root: FieldNode;
  readonly context: (row: object) => EncryptionContext;
  /** By index of the path; undefined where the value is JSON as it is. */
  readonly codecs: readonly (CodecChoice | undefined)[];
  /** By index of the path: whether it leads into an array. */
  readonly isRepeated: readonly boolean[];
  readonly keepsNulls: boolean;
  readonly bindsPositions: boolean;
  readonly isIdempotent: boolean;
  /** Name of the root that values are encrypted under, if one was chosen. */
  readonly chosenRoot: string | undefined;
}

export function checkDefinition(definition: AnyDefinition): CheckedDefinition {
  if (typeof definition !== 'object' || definition === null) {
    throw invalid('a definition of fields is an object: { key, fields, context }');
  }
  const { key, partition, fields, context, nulls, bindPositions, idempotent } = definition;
  if (!Array.isArray(fields) || !fields.every((path) => typeof path === 'string')) {
    throw invalid('fields is an array of paths');
  }
  if (typeof context !== 'function') {
    throw invalid('context is a function of a row: what it returns is what the values of that row are bound to');
  }
  if (nulls !== undefined && nulls !== 'encrypt' && nulls !== 'keep') {
    throw invalid("nulls is 'encrypt' or 'keep'");
  }
  for (const [name, flag] of [
    ['bindPositions', bindPositions],
    ['idempotent', idempotent],
  ] as const) {
    if (flag !== undefined && typeof flag !== 'boolean') {
      throw invalid(`${name} is true or false`);
    }
  }
  const { paths, root } = fieldSetOf([...fields]);
  return {
    key: checkKey(key),
    partition: typeof partition === 'function' ? (partition as (row: object) => unknown) : checkPartition(partition),
    paths: Object.freeze(paths),
    root,
    context: context as (row: object) => EncryptionContext,
    codecs: codecsOf(definition.codecs, paths),
    isRepeated: paths.map((path) => path.includes('[]')),
    keepsNulls: nulls === 'keep',
    bindsPositions: bindPositions === true,
    isIdempotent: idempotent !== false,
    chosenRoot: checkRoot(definition.root),
  };
}

function codecsOf(
  choices: Readonly<Record<string, unknown>> | undefined,
  paths: readonly string[],
): readonly (CodecChoice | undefined)[] {
  const codecs = new Map<string, CodecChoice>();
  for (const [path, choice] of Object.entries(choices ?? {})) {
    if (choice === undefined) {
      continue;
    }
    if (!paths.includes(path)) {
      throw invalid(`a codec is given for '${path}', which is not one of the fields`);
    }
    if (!isCodecChoice(choice)) {
      throw invalid(
        `the codec of '${path}' is neither 'date', 'bigint' or 'bytes' nor an object with encode and decode`,
      );
    }
    codecs.set(path, choice);
  }
  return paths.map((path) => codecs.get(path));
}

function isCodecChoice(choice: unknown): choice is CodecChoice {
  const own = choice as AnyCodec | null;
  return (
    CODEC_NAMES.some((name) => name === choice) ||
    (typeof own === 'object' && typeof own?.encode === 'function' && typeof own.decode === 'function')
  );
}

export function invalid(reason: string, cause?: unknown): DekdError {
  return new DekdError('INVALID_ARGUMENT', reason, cause === undefined ? {} : { cause });
}
