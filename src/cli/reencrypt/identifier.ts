/** Names of tables and columns: taken as they are written, and quoted wherever they are sent. */
import { usageError } from '../exit.ts';

export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

const PART = '"(?:[^"]|"")+"|[^".]+';
const NAME = new RegExp(`^(${PART})(?:\\.(${PART}))?$`, 'v');

/**
 * The parts of `table` or `schema.table`; a name that holds a dot is put into double quotes, as in SQL.
 * @throws CommandError (usage)
 */
export function tableName(text: string): readonly string[] {
  const parts = NAME.exec(text)?.slice(1);
  if (parts === undefined) {
    throw usageError(`'${text}' is no name of a table`, 'write TABLE or SCHEMA.TABLE; "…" around a name with a dot');
  }
  return parts
    .filter((part) => part !== undefined)
    .map((part) => (part.startsWith('"') ? part.slice(1, -1).replaceAll('""', '"') : part));
}
