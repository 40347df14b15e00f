import { DekdError } from '../../errors.ts';
import { type RowBinding, type RowCipher, type RowClient, rowCipher } from '../row-cipher.ts';
import type { DataModel } from './data-model.ts';

/** A model's definition as the extension works with it; the typed one is `PrismaModel`. */
export interface ModelDefinition extends Pick<RowBinding, 'key' | 'partition' | 'identity' | 'context' | 'indexes'> {
  readonly fields: readonly string[];
  readonly newId?: (() => string) | undefined;
}

/** One model with encrypted fields. */
export interface EncryptedModel {
  readonly name: string;
  readonly cipher: RowCipher;
  readonly newId: (() => string) | undefined;
  /** Fields that hold JSON: what is written to them is a value, never `{ set }`. */
  readonly json: ReadonlySet<string>;
}

/** @throws INVALID_ARGUMENT for a definition that says too little, whatever the schema */
export function modelCipher(dekd: RowClient, name: string, definition: ModelDefinition): RowCipher {
  const { fields: columns, newId: _, ...binding } = definition;
  return rowCipher(dekd, { ...binding, columns, name, kind: 'model' });
}

/** @throws INVALID_ARGUMENT for what the schema has not, or cannot hold a ciphertext */
export function encryptedModel(
  data: DataModel,
  name: string,
  { newId }: ModelDefinition,
  cipher: RowCipher,
): EncryptedModel {
  if (!data.has(name)) {
    throw new DekdError('INVALID_ARGUMENT', `the schema has no model '${name}'`);
  }
  const fields = data.fields(name);
  for (const field of [...cipher.identity, ...cipher.indexes.keys()]) {
    if (fields.get(field)?.kind !== 'scalar') {
      throw new DekdError('INVALID_ARGUMENT', `model ${name} has no scalar field '${field}'`);
    }
  }
  if (newId !== undefined && cipher.identity.length !== 1) {
    throw new DekdError('INVALID_ARGUMENT', `newId of model ${name} needs an identity of exactly one field`);
  }
  const json = new Set<string>();
  for (const field of cipher.names) {
    const known = fields.get(field);
    if (known?.kind !== 'scalar' || (known.type !== 'String' && known.type !== 'Json')) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `a ciphertext needs a field of type String or Json, which '${name}.${field}' is not`,
      );
    }
    if (known.type === 'Json') {
      json.add(field);
    }
  }
  const unfit = [...cipher.indexes].find(([column, of]) => json.has(of) || fields.get(column)?.type !== 'String');
  if (unfit !== undefined) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `'${name}.${unfit[0]}' is an index: it and what it is of are of type String`,
    );
  }
  return { name, cipher, newId, json };
}

/** Same text, same identity: whatever of string, number and bigint it was given as. */
export function sameIdentity(one: unknown, other: unknown): boolean {
  return one !== undefined && other !== undefined && String(one) === String(other);
}
