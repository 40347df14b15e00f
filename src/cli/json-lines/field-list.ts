import { type FieldSet, fieldSetOf } from '../../client/fields/field-path.ts';

/**
 * The paths of `--fields`, separated by commas or given one by one; a name with a comma in it cannot be named.
 *
 * @throws DekdError INVALID_ARGUMENT naming the path.
 */
export function parseFields(list: readonly string[]): FieldSet {
  return fieldSetOf(list.flatMap((text) => text.split(',')).map((path) => path.trim()));
}
