import type { CallOptions } from '../../client/index.ts';
import { DekdError } from '../../errors.ts';
import type { Row, RowCipher } from '../row-cipher.ts';
import { type PgQueryable, quoted, quotedTable, recordset, recordsOf, withIndexes } from './statements.ts';

export interface BackfillOptions extends CallOptions {
  /** Rows in one statement; default 500. */
  readonly rows?: number | undefined;
  /** Called after each statement. */
  readonly onProgress?: ((progress: BackfillProgress) => void) | undefined;
}

export interface BackfillProgress {
  /** Rows that were encrypted by this call. */
  readonly done: number;
  /** Rows that were to be encrypted when it began. */
  readonly total: number;
}

/**
 * Encrypts an existing column into an empty one of the same table, statement by statement, each a transaction of its own. What
 * is done is known by the target being there: a call that was interrupted is simply made again, and several may run at once. A
 * row that is changed meanwhile is read again.
 *
 * @returns rows encrypted
 */
export async function backfill(
  db: PgQueryable,
  table: string,
  cipher: RowCipher,
  source: string,
  target: string,
  { rows: limit = 500, onProgress, ...options }: BackfillOptions,
): Promise<number> {
  const { identity } = cipher;
  if (!cipher.names.has(target) || cipher.names.has(source)) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `backfill of ${table} goes from a column that is not encrypted to one that is`,
    );
  }
  if (identity.length === 0 || !Number.isInteger(limit) || limit < 1) {
    throw new DekdError('INVALID_ARGUMENT', `backfill of ${table} needs an identity, and at least one row at a time`);
  }
  const name = quotedTable(table);
  const ids = identity.map(quoted).join(', ');
  const open = `${quoted(target)} IS NULL AND ${quoted(source)} IS NOT NULL`;
  const { rows: counted } = await db.query(`SELECT count(*)::int AS total FROM ${name} WHERE ${open}`, []);
  const { total } = counted[0] as { total: number };
  const written = withIndexes(cipher, [target]);
  const update = `UPDATE ${name} AS old SET ${written.map((column) => `${quoted(column)} = given.${quoted(column)}`).join(', ')}
    FROM ${recordset(name)} WITH ORDINALITY AS given, unnest($2::text[]) WITH ORDINALITY AS seen(version, place)
    WHERE seen.place = given.ordinality AND old.xmin::text = seen.version AND old.${quoted(target)} IS NULL
    AND ${identity.map((column) => `old.${quoted(column)} = given.${quoted(column)}`).join(' AND ')}`;

  let done = 0;
  let stuck = Number.POSITIVE_INFINITY;
  for (let pass = { found: 0, done: 0 }, after: unknown[] = []; ; ) {
    options.signal?.throwIfAborted();
    const beyond = after.length === 0 ? '' : `AND (${ids}) > (${after.map((_, index) => `$${index + 1}`).join(', ')})`;
    const { rows } = await db.query(
      `SELECT ${ids}, ${quoted(source)} AS source, xmin::text AS version FROM ${name}
        WHERE ${open} ${beyond} ORDER BY ${ids} LIMIT ${limit}`,
      after,
    );
    const found = rows as Row[];
    if (found.length > 0) {
      const given = found.map(({ source: value, version: _, ...row }): Row => ({ ...row, [target]: value }));
      const records = recordsOf([...identity, ...written], given, await cipher.seal(given, options));
      const changed = (await db.query(update, [records, found.map(({ version }) => version)])).rowCount ?? 0;
      pass = { found: pass.found + found.length, done: pass.done + changed };
      done += changed;
      onProgress?.({ done, total });
    }
    if (found.length === limit) {
      after = identity.map((column) => found.at(-1)![column]);
      continue;
    }
    if (pass.found === 0) {
      return done;
    }
    // Another call may have been faster with all of them; then there are fewer by now.
    if (pass.done === 0 && pass.found >= stuck) {
      throw new DekdError(
        'CONFLICT',
        `${pass.found} rows of ${table} could not be changed: they always change, or never`,
      );
    }
    stuck = pass.done === 0 ? pass.found : Number.POSITIVE_INFINITY;
    // Rows that changed while they were encrypted are behind: from the start again, until a pass finds none.
    pass = { found: 0, done: 0 };
    after = [];
  }
}
