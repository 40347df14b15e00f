/**
 * How far the re-encryption of one column is, kept in the database itself, so that any number of processes share it.
 *
 * A job hands out ranges of ids, in their order, each to one process at a time. What a process has done of its range is written
 * in the transaction that changes the rows, so the one is never there without the other. A process that is silent for the
 * time of a lease loses its range to whoever asks next; should it live after all, its next transaction finds the range
 * taken and is undone. When the last range is done, one more pass looks for rows that were written or locked meanwhile;
 * a pass that finds none ends the job. All times are the database's.
 *
 * Locks are taken in one order, a range before its job, and rows of the table without waiting.
 */
import { createHash, randomUUID } from 'node:crypto';
import type { Row } from '../../keystores/postgres/rows.ts';
import { usageError } from '../exit.ts';
import type { Database } from './database.ts';
import { quoted } from './identifier.ts';
import type { RowId, RowRange, Table } from './table.ts';
import type { BatchOutcome, RowFailure } from './token-batch.ts';

/** A column that other writers never leave alone is given up then. */
const MAX_PASSES = 10;
/** Batches of one range: few enough that an id is soon free again, enough that handing out costs nothing. */
const BATCHES_OF_RANGE = 10;
const LISTED_FAILURES = 1_000;
/** Between passes that only met rows in use: all of them together outlast a transaction that hangs. */
const PAUSE_SECONDS = 5;

export interface JobOptions {
  readonly table: Table;
  /** Where the tables of the job are. */
  readonly schema: string;
  /** What it is a job of, beside table and column: whatever makes other tokens of the same rows, and the version to reach. */
  readonly identity: Readonly<Record<string, unknown>>;
  /** Words for whoever looks into the table. */
  readonly key: string;
  readonly target: string;
  readonly leaseSeconds: number;
  readonly batch: number;
}

/** A stretch of ids that is this process's for now; `after` is where it is. */
export interface Claim extends RowRange {
  readonly number: string;
}

export interface JobCounts {
  readonly passes: number;
  /** Rows looked at, under the newest version, and NULL, in the last pass. */
  readonly examined: number;
  readonly current: number;
  readonly nulls: number;
  /** Rows of the last pass that others held or changed. */
  readonly postponed: number;
  readonly moved: number;
  /** Of those, in later passes than the first. */
  readonly later: number;
  readonly failed: number;
  /** When the job was over; undefined while it is not. */
  readonly finished: string | undefined;
}

/** What one transaction did. */
export interface Checkpoint {
  readonly outcome: BatchOutcome;
  readonly examined: number;
  /** Where the range was before the batch. */
  readonly after: RowId | undefined;
  /** Last row of the batch; undefined when the range was empty. */
  readonly last: RowId | undefined;
  readonly isLast: boolean;
}

export class Job {
  readonly name: string;
  readonly #options: JobOptions;
  readonly #holder = randomUUID();
  readonly #job: string;
  readonly #range: string;
  readonly #failure: string;

  constructor(options: JobOptions) {
    const { table, schema, identity } = options;
    this.#options = options;
    const what = JSON.stringify([table.schema, table.name, table.column, table.ids.map(({ name }) => name), identity]);
    this.name = createHash('sha256').update(what).digest('hex').slice(0, 32);
    const place = (name: string) => `${quoted(schema)}.${quoted(`dekd_reencrypt_${name}`)}`;
    this.#job = place('job');
    this.#range = place('range');
    this.#failure = place('failure');
  }

  /** Makes the tables where they are not there, and the job. @throws what `Database.query` throws */
  async open(database: Database): Promise<void> {
    const { table, key, target } = this.#options;
    await database.transaction(async () => {
      // Two that make them at once would be in each other's way, in spite of IF NOT EXISTS.
      await database.query(`SELECT pg_advisory_xact_lock(hashtext('dekd_reencrypt'))`);
      const [{ found } = { found: null }] = await database.query('SELECT to_regclass($1) AS found', [this.#failure]);
      if (found === null) {
        await database.run(this.#tables());
      } else {
        await this.#checkOwners(database);
      }
      await database.query(
        `INSERT INTO ${this.#job} (job, table_schema, table_name, column_name, key_name, target)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (job) DO NOTHING`,
        [this.name, table.schema, table.name, table.column, key, target],
      );
    });
  }

  /** Whoever owns a table has a say in what a statement on it does, with the rights of who sends it. @throws CommandError (usage) */
  async #checkOwners(database: Database): Promise<void> {
    const { table, schema } = this.#options;
    const [strange] = await database.query(
      `SELECT c.relname AS name, c.relowner::regrole::text AS owner FROM pg_class c
       WHERE c.oid = ANY (ARRAY[to_regclass($1), to_regclass($2), to_regclass($3)]::oid[])
         AND c.relowner <> ALL (ARRAY(SELECT oid FROM pg_roles WHERE rolsuper OR rolname = current_user
           UNION SELECT relowner FROM pg_class WHERE oid = to_regclass($4)
           UNION SELECT nspowner FROM pg_namespace WHERE oid = c.relnamespace
           UNION SELECT datdba FROM pg_database WHERE datname = current_database()))
       LIMIT 1`,
      [this.#job, this.#range, this.#failure, table.sql],
    );
    if (strange !== undefined) {
      throw usageError(
        `table ${quoted(schema)}.${quoted(strange.name as string)} is of role ${strange.owner}, who is neither you nor an ` +
          `owner of ${table.sql}, of its schema or of the database`,
        'name a schema of your own with --job-schema, or drop that table',
      );
    }
  }

  /** Begins a job that was finished anew, unless another process did so already. */
  async restart(database: Database): Promise<void> {
    await database.query(
      `UPDATE ${this.#job} SET finished = NULL, begun = clock_timestamp(), pass = 0, moved = 0, moved_first = 0,
         ceiling = NULL, frontier = NULL, handed_out = false
       WHERE job = $1 AND finished IS NOT NULL`,
      [this.name],
    );
  }

  /** The next rows for this process; `wait` while all that are left are others', `finished` when there are none. */
  async claim(database: Database): Promise<Claim | 'wait' | 'finished'> {
    return await database.transaction(async () => {
      const left = await this.#takeOver(database);
      if (left !== undefined) {
        return left;
      }
      const [job] = await database.query(
        `SELECT finished, handed_out, pass, not_before > clock_timestamp() AS pauses,
           array_to_json(ceiling)::text AS ceiling, array_to_json(frontier)::text AS frontier
         FROM ${this.#job} WHERE job = $1 FOR NO KEY UPDATE`,
        [this.name],
      );
      if (job === undefined || job.finished !== null) {
        return 'finished';
      }
      if (job.pauses === 't') {
        return 'wait';
      }
      if (Number(job.pass) === 0) {
        await this.#beginPass(database);
      } else if (job.handed_out === 't') {
        return await this.#endPass(database);
      }
      // The pass ends at the row that is the last when it begins: rows that keep coming in are for the next one.
      const ceiling = idIn(job.ceiling) ?? (await this.#options.table.last(database));
      return await this.#handOut(database, idIn(job.frontier), ceiling);
    });
  }

  /**
   * Writes a batch and how far the range is with it, in one transaction.
   * @returns how many rows were changed; undefined when nothing was written: the range is another process's by now, or this very
   *   batch was written before, by a commit whose answer was lost
   */
  async checkpoint(database: Database, claim: Claim, { outcome, examined, after, last, isLast }: Checkpoint) {
    const { replacements, current, nulls, failures } = outcome;
    try {
      return await database.transaction(async () => {
        const moved = replacements.length === 0 ? 0 : await this.#options.table.replace(database, replacements);
        await this.#keepFailures(database, failures);
        const counts = [examined, moved, current, nulls, replacements.length - moved];
        const isOurs =
          (await database.change(
            `UPDATE ${this.#range} SET cursor = COALESCE($4, cursor), lease_until = ${this.#leaseEnd()},
               examined = examined + $5, moved = moved + $6, current = current + $7, nulls = nulls + $8,
               postponed = postponed + $9
             WHERE job = $1 AND number = $2 AND holder = $3 AND cursor IS NOT DISTINCT FROM $10::text[]`,
            [this.name, claim.number, this.#holder, last ?? null, ...counts, after ?? null],
          )) === 1;
        if (!isOurs) {
          throw new TakenOver();
        }
        if (isLast) {
          await this.#close(database, claim);
        }
        return moved;
      });
    } catch (error) {
      if (error instanceof TakenOver) {
        return undefined;
      }
      throw error;
    }
  }

  /** Lets another process have the range at once. */
  async release(database: Database, claim: Claim): Promise<void> {
    await database.query(
      `UPDATE ${this.#range} SET lease_until = '-infinity' WHERE job = $1 AND number = $2 AND holder = $3`,
      [this.name, claim.number, this.#holder],
    );
  }

  async counts(database: Database): Promise<JobCounts> {
    const [row] = await database.query(
      `SELECT j.pass, j.finished, j.moved_first,
         j.examined + COALESCE(r.examined, 0) AS examined, j.current + COALESCE(r.current, 0) AS current,
         j.nulls + COALESCE(r.nulls, 0) AS nulls, j.postponed + COALESCE(r.postponed, 0) AS postponed,
         j.moved + COALESCE(r.moved, 0) AS moved,
         (SELECT count(*) FROM ${this.#failure} AS f WHERE f.job = j.job) AS failed
       FROM ${this.#job} AS j LEFT JOIN (
         SELECT job, sum(examined) AS examined, sum(moved) AS moved, sum(current) AS current, sum(nulls) AS nulls,
           sum(postponed) AS postponed FROM ${this.#range} GROUP BY job
       ) AS r USING (job) WHERE j.job = $1`,
      [this.name],
    );
    const number = (name: string) => Number(row?.[name] ?? 0);
    const passes = number('pass');
    return {
      passes,
      examined: number('examined'),
      current: number('current'),
      nulls: number('nulls'),
      postponed: number('postponed'),
      moved: number('moved'),
      later: passes > 1 ? number('moved') - number('moved_first') : 0,
      failed: number('failed'),
      finished: row?.finished == null ? undefined : new Date(row.finished as string).toISOString(),
    };
  }

  /** The first rows that failed, in the order of their ids as text. */
  async failures(database: Database): Promise<readonly Pick<RowFailure, 'id' | 'code'>[]> {
    const rows = await database.query(
      `SELECT array_to_json(id)::text AS id, code FROM ${this.#failure} WHERE job = $1 ORDER BY id LIMIT ${LISTED_FAILURES}`,
      [this.name],
    );
    return rows.map((row) => ({ id: idIn(row.id)!, code: row.code as RowFailure['code'] }));
  }

  /** A range whose process is gone, or that this process had before its connection broke. */
  async #takeOver(database: Database): Promise<Claim | undefined> {
    const [row] = await database.query(
      `SELECT number, array_to_json(cursor)::text AS cursor, array_to_json(up_to)::text AS up_to FROM ${this.#range}
       WHERE job = $1 AND (holder = $2 OR lease_until < clock_timestamp())
       ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED`,
      [this.name, this.#holder],
    );
    if (row === undefined) {
      return undefined;
    }
    await database.query(
      `UPDATE ${this.#range} SET holder = $3, lease_until = ${this.#leaseEnd()} WHERE job = $1 AND number = $2`,
      [this.name, row.number!, this.#holder],
    );
    return { number: row.number as string, after: idIn(row.cursor), upTo: idIn(row.up_to) };
  }

  /** The next range; the job's row is locked. */
  async #handOut(database: Database, after: RowId | undefined, ceiling: RowId | undefined) {
    const { table, batch } = this.#options;
    const upTo =
      ceiling === undefined
        ? undefined
        : await table.lastOf(database, { after, upTo: ceiling }, batch * BATCHES_OF_RANGE);
    if (upTo === undefined) {
      await database.query(`UPDATE ${this.#job} SET handed_out = true WHERE job = $1`, [this.name]);
      return await this.#endPass(database);
    }
    await database.query(`UPDATE ${this.#job} SET frontier = $2, ceiling = $3 WHERE job = $1`, [
      this.name,
      upTo,
      ceiling!,
    ]);
    const [row] = await database.query(
      `INSERT INTO ${this.#range} (job, number, cursor, up_to, holder, lease_until)
       SELECT $1, COALESCE(max(number), 0) + 1, $2, $3, $4, ${this.#leaseEnd()} FROM ${this.#range} WHERE job = $1
       RETURNING number`,
      [this.name, after ?? null, upTo, this.#holder],
    );
    return { number: row!.number as string, after, upTo };
  }

  /** All is handed out, and the job's row is locked: begins another pass or finishes, once nobody has a range any more. */
  async #endPass(database: Database): Promise<'wait' | 'finished' | Claim> {
    const [row] = await database.query(
      `SELECT (SELECT count(*) FROM ${this.#range} AS r WHERE r.job = j.job) AS ranges, pass,
         moved - moved_before AS moved, postponed FROM ${this.#job} AS j WHERE job = $1`,
      [this.name],
    );
    const number = (name: string) => Number(row?.[name]);
    if (number('ranges') > 0) {
      return 'wait';
    }
    if (number('moved') + number('postponed') === 0 || number('pass') >= MAX_PASSES) {
      await database.query(`UPDATE ${this.#job} SET finished = clock_timestamp() WHERE job = $1`, [this.name]);
      return 'finished';
    }
    await this.#beginPass(database);
    if (number('moved') === 0) {
      await database.query(
        `UPDATE ${this.#job} SET not_before = clock_timestamp() + interval '${PAUSE_SECONDS} seconds' WHERE job = $1`,
        [this.name],
      );
      return 'wait';
    }
    return await this.#handOut(database, undefined, await this.#options.table.last(database));
  }

  /** Counts of the pass before are over, and so is what failed in it: it fails again, or was put right. */
  async #beginPass(database: Database): Promise<void> {
    await database.query(
      `UPDATE ${this.#job} SET pass = pass + 1, ceiling = NULL, frontier = NULL, handed_out = false, examined = 0,
         current = 0, nulls = 0, postponed = 0, moved_before = moved,
         moved_first = CASE WHEN pass = 1 THEN moved ELSE moved_first END WHERE job = $1`,
      [this.name],
    );
    await database.query(`DELETE FROM ${this.#failure} WHERE job = $1`, [this.name]);
  }

  /** Adds the counts of a range to those of its job. */
  async #close(database: Database, { number }: Claim): Promise<void> {
    await database.query(
      `WITH done AS (DELETE FROM ${this.#range} WHERE job = $1 AND number = $2 RETURNING *)
       UPDATE ${this.#job} AS j SET examined = j.examined + done.examined, moved = j.moved + done.moved,
         current = j.current + done.current, nulls = j.nulls + done.nulls, postponed = j.postponed + done.postponed
       FROM done WHERE j.job = done.job`,
      [this.name, number],
    );
  }

  async #keepFailures(database: Database, failures: readonly RowFailure[]): Promise<void> {
    if (failures.length > 0) {
      await database.query(
        `INSERT INTO ${this.#failure} (job, id, code)
         SELECT $1, ARRAY(SELECT json_array_elements_text(id::json)), code FROM unnest($2::text[], $3::text[]) AS given (id, code)
         ON CONFLICT (job, id) DO UPDATE SET code = excluded.code`,
        [this.name, failures.map(({ id }) => JSON.stringify(id)), failures.map(({ code }) => code)],
      );
    }
  }

  #leaseEnd(): string {
    return `clock_timestamp() + interval '${this.#options.leaseSeconds} seconds'`;
  }

  #tables(): string {
    return `
CREATE TABLE ${this.#job} (
  job text PRIMARY KEY,
  table_schema text NOT NULL,
  table_name text NOT NULL,
  column_name text NOT NULL,
  key_name text NOT NULL,
  target text NOT NULL,
  pass integer NOT NULL DEFAULT 0,
  begun timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished timestamptz,
  ceiling text[],
  frontier text[],
  handed_out boolean NOT NULL DEFAULT false,
  not_before timestamptz NOT NULL DEFAULT '-infinity',
  examined bigint NOT NULL DEFAULT 0,
  moved bigint NOT NULL DEFAULT 0,
  moved_before bigint NOT NULL DEFAULT 0,
  moved_first bigint NOT NULL DEFAULT 0,
  current bigint NOT NULL DEFAULT 0,
  nulls bigint NOT NULL DEFAULT 0,
  postponed bigint NOT NULL DEFAULT 0
);
CREATE TABLE ${this.#range} (
  job text NOT NULL REFERENCES ${this.#job} ON DELETE CASCADE,
  number bigint NOT NULL,
  cursor text[],
  up_to text[] NOT NULL,
  holder uuid NOT NULL,
  lease_until timestamptz NOT NULL,
  examined bigint NOT NULL DEFAULT 0,
  moved bigint NOT NULL DEFAULT 0,
  current bigint NOT NULL DEFAULT 0,
  nulls bigint NOT NULL DEFAULT 0,
  postponed bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (job, number)
);
CREATE TABLE ${this.#failure} (
  job text NOT NULL REFERENCES ${this.#job} ON DELETE CASCADE,
  id text[] NOT NULL,
  code text NOT NULL,
  PRIMARY KEY (job, id)
);`;
  }
}

/** Undoes a transaction whose range is another process's by now. */
class TakenOver extends Error {}

function idIn(cell: Row[string] | undefined): RowId | undefined {
  return typeof cell === 'string' ? (JSON.parse(cell) as RowId) : undefined;
}
