/** The table whose column is re-encrypted: what the catalog says of it, and every statement that is sent to it. */
import type { Cell, Row } from '../../keystores/postgres/rows.ts';
import { usageError } from '../exit.ts';
import type { Database, Value } from './database.ts';
import { quoted, tableName } from './identifier.ts';

/** Which columns are meant, as the command line says it. */
export interface TableOptions {
  readonly table: string;
  readonly column: string;
  /** Empty for the primary key. */
  readonly idColumns: readonly string[];
  /** Column by context field. */
  readonly contextColumns: Readonly<Record<string, string>>;
  readonly partitionColumn: string | undefined;
}

/** An id as text, one for each id column. */
export type RowId = readonly string[];

export interface TableRow {
  readonly id: RowId;
  /** Undefined where the column is NULL, or the token was told to be current by its head alone. */
  readonly value: string | Uint8Array | undefined;
  readonly isNull: boolean;
  /** In the order of `contextColumns`. */
  readonly context: readonly (string | null)[];
  readonly partition: string | null;
}

/** A token that takes the place of another, both as the column holds them. */
export interface Replacement {
  readonly id: RowId;
  readonly old: string | Uint8Array;
  readonly new: string | Uint8Array;
}

interface Column {
  readonly name: string;
  /** As PostgreSQL writes it, names quoted and with their schema. */
  readonly type: string;
  /** Where the operators are that compare its values. */
  readonly operators: string;
}

/** Rows after `after`, up to and with `upTo`; undefined means no end on that side. */
export interface RowRange {
  readonly after: RowId | undefined;
  readonly upTo: RowId | undefined;
}

const KINDS: Readonly<Record<string, string>> = { v: 'a view', m: 'a materialized view', f: 'a foreign table' };
/** The form of the tokens by the type of their column. */
const FORMS: Readonly<Record<string, 'binary' | 'text'>> = {
  bytea: 'binary',
  text: 'text',
  'character varying': 'text',
};

export class Table {
  readonly schema: string;
  readonly name: string;
  readonly column: string;
  readonly form: 'binary' | 'text';
  /** Quoted, with its schema. */
  readonly sql: string;
  readonly ids: readonly Column[];
  readonly contextFields: readonly string[];
  readonly #contextColumns: readonly string[];
  readonly #partitionColumn: string | undefined;

  private constructor(
    { schema, name }: { schema: string; name: string },
    { column, contextColumns, partitionColumn }: TableOptions,
    form: 'binary' | 'text',
    ids: readonly Column[],
  ) {
    this.schema = schema;
    this.name = name;
    this.column = column;
    this.form = form;
    this.sql = `${quoted(schema)}.${quoted(name)}`;
    this.ids = ids;
    this.contextFields = Object.keys(contextColumns);
    this.#contextColumns = Object.values(contextColumns);
    this.#partitionColumn = partitionColumn;
  }

  /** @throws CommandError (usage) for what is not there or cannot be done; what `Database.query` throws */
  static async find(database: Database, options: TableOptions): Promise<Table> {
    const named = tableName(options.table).map(quoted).join('.');
    const [found] = await database.transaction(async () => {
      const [meant] = await database.inTheirPath(() =>
        database.query('SELECT pg_catalog.to_regclass($1)::pg_catalog.oid::pg_catalog.text AS oid', [named]),
      );
      return await database.query(
        `SELECT c.oid::text AS oid, n.nspname AS schema, c.relname AS name, c.relkind AS kind
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1::oid`,
        [meant?.oid ?? null],
      );
    });
    if (found === undefined) {
      throw usageError(
        `there is no table ${named} in ${database.place.shown}`,
        'names are taken as they are written, small letters and capitals; with its schema: SCHEMA.TABLE',
      );
    }
    const [oid, kind] = [textOf(found, 'oid'), textOf(found, 'kind')];
    if (kind !== 'r' && kind !== 'p') {
      throw usageError(`${named} is ${KINDS[kind] ?? 'no table'}`, 'name the table below it');
    }
    const columns = await columnsOf(database, oid);
    for (const each of [options.column, ...Object.values(options.contextColumns), options.partitionColumn]) {
      if (each !== undefined && !columns.has(each)) {
        throw usageError(`table ${named} has no column ${quoted(each)}`, `it has ${[...columns.keys()].join(', ')}`);
      }
    }
    const { base } = columns.get(options.column)!;
    const form = FORMS[base];
    if (form === undefined) {
      throw usageError(`column ${quoted(options.column)} is ${base}`, 'tokens are in columns of bytea or text');
    }
    const ids = await idsOf(database, oid, named, options.idColumns);
    if (ids.includes(options.column)) {
      throw usageError(`column ${quoted(options.column)} is part of the id of its rows`);
    }
    const typed = ids.map((name) => columns.get(name)!);
    if (new Set(typed.map(({ operators }) => operators)).size > 1) {
      throw usageError(
        `the ids of ${named} are of types whose operators are in several schemas`,
        'name another unique index with --id-column',
      );
    }
    return new Table({ schema: textOf(found, 'schema'), name: textOf(found, 'name') }, options, form, typed);
  }

  /** Rows, about: what the planner goes by, and where it knows nothing, all of them counted. */
  async size(database: Database): Promise<number> {
    const [row] = await database.query('SELECT reltuples::bigint AS rows FROM pg_class WHERE oid = to_regclass($1)', [
      this.sql,
    ]);
    const known = Number(row?.rows);
    return known > 0 ? known : Number((await database.query(`SELECT count(*) AS rows FROM ${this.sql}`))[0]?.rows);
  }

  /**
   * The next rows in the order of their ids.
   * @param current head of the tokens that need not be read, as the column holds it; undefined to read every token
   */
  async read(
    database: Database,
    range: RowRange,
    limit: number,
    current: string | Uint8Array | undefined,
  ): Promise<TableRow[]> {
    const token = `t.${quoted(this.column)}`;
    const head =
      this.form === 'binary'
        ? 'substring(TOKEN FROM 1 FOR octet_length($1::bytea)) = $1::bytea'
        : 'left(TOKEN::text, length($1::text)) COLLATE "C" = $1::text';
    const values: Value[] = [current ?? null, limit];
    const more = [...this.#contextColumns.map((name, index) => `t.${quoted(name)}::text AS c${index}`)];
    if (this.#partitionColumn !== undefined) {
      more.push(`t.${quoted(this.#partitionColumn)}::text AS partition`);
    }
    const rows = await database.query(
      `SELECT ${[...this.#idTexts(), ...more].join(', ')}, ${token} IS NULL AS is_null,
         CASE WHEN ${head.replaceAll('TOKEN', token)} THEN NULL ELSE ${token} END AS token
       FROM ${this.sql} AS t ${this.#where(range, values)} ORDER BY ${this.#idList()} LIMIT $2`,
      values,
    );
    return rows.map((row) => this.#rowOf(row));
  }

  /**
   * Puts new tokens in the place of those that are still there. Rows that others hold are passed over. In a transaction, and
   * with the search path of those whose triggers it runs.
   * @returns how many
   */
  async replace(database: Database, replacements: readonly Replacement[]): Promise<number> {
    const type = this.form === 'binary' ? 'bytea' : 'text';
    const collation = this.form === 'text' ? ' COLLATE pg_catalog."C"' : '';
    const isOld = (of: string) =>
      `t.${quoted(this.column)}::pg_catalog.${type}${collation} OPERATOR(pg_catalog.=) ${of}.old`;
    const keys = this.ids.map((_, index) => `k${index}`);
    const isRow = (of: string) =>
      this.ids.map(({ name }, index) => `t.${quoted(name)} ${operator('=', this.ids)} ${of}.k${index}`).join(' AND ');
    const lists = [...keys.map(() => 'pg_catalog.text[]'), `pg_catalog.${type}[]`, `pg_catalog.${type}[]`];
    const text = `WITH moved AS (
         SELECT ${this.ids.map(({ type: own }, index) => `k${index}::${own} AS k${index}`).join(', ')}, old, new
         FROM unnest(${lists.map((list, index) => `$${index + 1}::${list}`).join(', ')}) AS given (${keys.join(', ')}, old, new)
       ), held AS (
         SELECT moved.* FROM moved JOIN ${this.sql} AS t ON ${isRow('moved')}
         WHERE ${isOld('moved')} FOR UPDATE OF t SKIP LOCKED
       )
       UPDATE ${this.sql} AS t SET ${quoted(this.column)} = held.new FROM held WHERE ${isRow('held')} AND ${isOld('held')}`;
    return await database.inTheirPath(() =>
      database.change(text, [
        ...keys.map((_, index) => replacements.map(({ id }) => id[index]!)),
        replacements.map(({ old }) => old),
        replacements.map((each) => each.new),
      ]),
    );
  }

  /** The id of the last row. */
  async last(database: Database): Promise<RowId | undefined> {
    const [row] = await database.query(
      `SELECT ${this.#idTexts().join(', ')} FROM ${this.sql} AS t
       ORDER BY ${this.ids.map(({ name }) => `t.${quoted(name)} DESC`).join(', ')} LIMIT 1`,
    );
    return row === undefined ? undefined : this.#idOf(row);
  }

  /** The id of the last of the next `limit` rows. */
  async lastOf(database: Database, range: RowRange, limit: number): Promise<RowId | undefined> {
    const values: Value[] = [limit];
    const down = this.ids.map((_, index) => `o${index} DESC`).join(', ');
    const [row] = await database.query(
      `SELECT ${this.ids.map((_, index) => `i${index}`).join(', ')} FROM (
         SELECT ${this.#idTexts().join(', ')}, ${this.ids.map(({ name }, index) => `t.${quoted(name)} AS o${index}`).join(', ')}
         FROM ${this.sql} AS t ${this.#where(range, values)} ORDER BY ${this.#idList()} LIMIT $1
       ) AS next ORDER BY ${down} LIMIT 1`,
      values,
    );
    return row === undefined ? undefined : this.#idOf(row);
  }

  #where({ after, upTo }: RowRange, values: Value[]): string {
    const bound = (id: RowId, symbol: string): string => {
      values.push(id);
      const parameter = `$${values.length}::text[]`;
      const cells = this.ids.map(({ type }, index) => `(${parameter})[${index + 1}]::${type}`);
      return `(${this.#idList()}) ${operator(symbol, this.ids)} (${cells.join(', ')})`;
    };
    const conditions = [...(after ? [bound(after, '>')] : []), ...(upTo ? [bound(upTo, '<=')] : [])];
    return conditions.length === 0 ? '' : `WHERE ${conditions.join(' AND ')}`;
  }

  #idList(): string {
    return this.ids.map(({ name }) => `t.${quoted(name)}`).join(', ');
  }

  #idTexts(): string[] {
    return this.ids.map(({ name }, index) => `t.${quoted(name)}::text AS i${index}`);
  }

  #idOf(row: Row): RowId {
    return this.ids.map((_, index) => textOf(row, `i${index}`));
  }

  #rowOf(row: Row): TableRow {
    return {
      id: this.#idOf(row),
      value: row.token ?? undefined,
      isNull: row.is_null === 't',
      context: this.#contextColumns.map((_, index) => row[`c${index}`] as string | null),
      partition: (row.partition ?? null) as string | null,
    };
  }
}

/** An operator of the type of ids, never a namesake of it: pages of rows have to be in the order of their index. */
function operator(symbol: string, [id]: readonly Column[]): string {
  return `OPERATOR(${quoted(id!.operators)}.${symbol})`;
}

/** Types that an extension makes bring operators of their own along; arrays, enums and the like have those of all such types. */
async function columnsOf(
  database: Database,
  oid: string,
): Promise<ReadonlyMap<string, Column & { readonly base: string }>> {
  const rows = await database.query(
    `SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
       format_type(b.oid, NULL) AS base,
       CASE WHEN b.typtype = 'b' AND b.typcategory <> 'A' THEN n.nspname ELSE 'pg_catalog' END AS operators
     FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
       JOIN pg_type b ON b.oid = COALESCE(NULLIF(t.typbasetype, 0), t.oid) JOIN pg_namespace n ON n.oid = b.typnamespace
     WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`,
    [oid],
  );
  return new Map(
    rows.map((row) => {
      const name = textOf(row, 'name');
      return [
        name,
        { name, type: textOf(row, 'type'), operators: textOf(row, 'operators'), base: textOf(row, 'base') },
      ];
    }),
  );
}

/** The columns of a unique index over columns that are never NULL, in its order, so that pages of rows come from it. */
async function idsOf(
  database: Database,
  oid: string,
  named: string,
  wanted: readonly string[],
): Promise<readonly string[]> {
  const rows = await database.query(
    `SELECT i.indisprimary AS is_primary, array_to_json(ARRAY(
         SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, at)
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
         WHERE k.at <= i.indnkeyatts ORDER BY k.at))::text AS columns
     FROM pg_index i WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisvalid AND i.indimmediate
       AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (
         SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, at)
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
         WHERE k.at <= i.indnkeyatts AND NOT a.attnotnull)
     ORDER BY i.indisprimary DESC`,
    [oid],
  );
  const keys = rows.map((row) => ({
    isPrimary: row.is_primary === 't',
    columns: JSON.parse(textOf(row, 'columns')) as string[],
  }));
  const same = (columns: readonly string[]) => columns.toSorted().join('\0') === wanted.toSorted().join('\0');
  const found = keys.find(({ isPrimary, columns }) => (wanted.length === 0 ? isPrimary : same(columns)));
  if (found === undefined) {
    throw usageError(
      wanted.length === 0
        ? `table ${named} has no primary key`
        : `table ${named} has no unique index over ${wanted.join(', ')} alone, none of them ever NULL`,
      'name columns that tell its rows apart with --id-column: a primary key or a unique index over NOT NULL columns',
    );
  }
  return found.columns;
}

function textOf(row: Row, name: string): string {
  const cell: Cell | undefined = row[name];
  if (typeof cell !== 'string') {
    throw new TypeError(`${name} is ${cell === null ? 'NULL' : typeof cell}`);
  }
  return cell;
}
