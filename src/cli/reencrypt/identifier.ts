/** Names of tables and columns: taken as they are written, and quoted wherever they are sent. */
import { usageError } from '../exit.ts';

export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/**
 * The parts of `table` or `schema.table`; a name that holds a dot is put into double quotes, as in SQL.
 * @throws CommandError (usage)
 */
export function tableName(text: string): readonly string[] {
  const parts = [...text.matchAll(/(?:^|\.)(?:"((?:[^"]|"")+)"|([^".]+))/gy)].map(
    ([, inQuotes, plain]) => inQuotes?.replaceAll('""', '"') ?? plain!,
  );
  const written = text.match(/(?:^|\.)(?:"(?:[^"]|"")+"|[^".]+)/gy)?.join('');
  if (written !== text || parts.length > 2) {
    throw usageError(`'${text}' is no name of a table`, 'write TABLE or SCHEMA.TABLE; "…" around a name with a dot');
  }
  return parts;
}
