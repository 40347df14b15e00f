/** The tokens of a column through the agent, batch by batch: as a job that processes share, or only looking. */
import { setTimeout as sleep } from 'node:timers/promises';
import { DekdError } from '../../errors.ts';
import { CommandError, EXIT } from '../exit.ts';
import { plural } from '../terminal.ts';
import { Database, databaseFailure, isDatabaseAway } from './database.ts';
import type { DatabasePlace } from './database-place.ts';
import type { Claim, Job, JobCounts } from './job.ts';
import { GO_ON, patiently } from './patience.ts';
import type { RowProgress } from './row-progress.ts';
import type { RowId, TableRow } from './table.ts';
import { type BatchOptions, type BatchOutcome, type RowFailure, reencryptRows } from './token-batch.ts';

/** An agent or a database that does not answer is waited for this long in all; an agent hears of a rotation within less. */
const PATIENCE_MS = 120_000;
/** How often a process without rows of its own asks whether there are some. */
const WAIT_MS = 500;
/** The first batch is small, because nobody knows how long the tokens are; later ones hold about this many bytes. */
const FIRST_BATCH = 50;
const BATCH_BYTES = 8 * 1024 * 1024;
/** When this many fail and none does not, there is one reason, and it is no use to meet it for every row. */
const HOPELESS = 100;
const LISTED_FAILURES = 1_000;

export interface TableRunOptions {
  readonly place: DatabasePlace;
  readonly batch: BatchOptions;
  /** Rows of one batch at most. */
  readonly batchRows: number;
  /** Rows a second. */
  readonly rate: number;
  /** Head of the tokens that need not be read. */
  readonly current: string | Uint8Array | undefined;
  readonly progress: RowProgress;
  readonly signal: AbortSignal;
}

/** Rows of a batch that is over in half a lease at this rate: else who keeps to it would lose each range to the next process. */
export function rowsOfBatch(most: number, rate: number, leaseSeconds: number): number {
  return Math.max(1, Math.min(most, Math.floor((rate * leaseSeconds) / 2)));
}

/** What was looked at without changing anything. */
export interface Survey {
  examined: number;
  current: number;
  /** Rows that are under another version than the newest. */
  older: number;
  nulls: number;
  failed: number;
  /** The first of them. */
  readonly failures: RowFailure[];
}

export class TableRun implements AsyncDisposable {
  /** Rows that this process changed. */
  moved = 0;
  readonly #options: TableRunOptions;
  #database: Database | undefined;
  #limit: number;
  #opened = 0;
  #failed = 0;

  constructor(options: TableRunOptions, database: Database) {
    this.#options = options;
    this.#database = database;
    this.#limit = Math.min(FIRST_BATCH, options.batchRows);
  }

  /** Works on the job until it is finished, by whomever. @throws CANCELLED when it is interrupted; what stands in the way */
  async toEnd(job: Job): Promise<void> {
    for (;;) {
      this.#checkInterrupted();
      const claim = await this.#asking((database) => job.claim(database));
      if (claim === 'finished') {
        return;
      }
      if (claim === 'wait') {
        await this.#showJob(job, '  waiting for other processes');
        await sleep(WAIT_MS, undefined, { signal: this.#options.signal }).catch(() => undefined);
      } else {
        await this.#range(job, claim);
      }
    }
  }

  /** Looks at every row and changes none. @throws as `toEnd` */
  async survey(): Promise<Survey> {
    const { progress } = this.#options;
    const survey: Survey = { examined: 0, current: 0, older: 0, nulls: 0, failed: 0, failures: [] };
    let after: RowId | undefined;
    for (;;) {
      const begun = performance.now();
      const rows = await this.#read({ after, upTo: undefined });
      const outcome = await this.#reencrypt(rows);
      survey.examined += rows.length;
      survey.current += outcome.current;
      survey.older += outcome.replacements.length;
      survey.nulls += outcome.nulls;
      survey.failed += outcome.failures.length;
      survey.failures.push(...outcome.failures.slice(0, LISTED_FAILURES - survey.failures.length));
      if (progress.isDue) {
        progress.show({ ...survey, moved: survey.older });
      }
      after = rows.at(-1)?.id;
      if (rows.length === 0) {
        return survey;
      }
      await this.#keepRate(rows.length, begun);
      this.#checkInterrupted();
    }
  }

  /** What has become of the job, and the first rows that failed. */
  async results(job: Job): Promise<[JobCounts, Awaited<ReturnType<Job['failures']>>]> {
    return await this.#asking(async (database) => [await job.counts(database), await job.failures(database)]);
  }

  /** Runs `work` on a connection, a new one where the old one was lost, and again while the database does not answer. */
  async #asking<T>(work: (database: Database) => Promise<T>): Promise<T> {
    const { place, signal } = this.#options;
    const attempt = async (): Promise<T> => {
      if (this.#database?.isLost !== false) {
        await this.#database?.[Symbol.asyncDispose]();
        this.#database = await Database.open(place);
      }
      return await work(this.#database);
    };
    try {
      return await patiently(attempt, {
        patienceMs: PATIENCE_MS,
        signal,
        isPassing: isDatabaseAway,
        inWords: (error) => databaseFailure(error, place.shown),
      });
    } catch (error) {
      throw databaseFailure(error, place.shown, GO_ON);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#database?.[Symbol.asyncDispose]();
  }

  async #range(job: Job, claim: Claim): Promise<void> {
    let after = claim.after;
    for (;;) {
      const begun = performance.now();
      const limit = this.#limit;
      const rows = await this.#read({ after, upTo: claim.upTo });
      const isLast = rows.length < limit;
      const last = rows.at(-1)?.id;
      let isOver = false;
      try {
        const outcome = await this.#reencrypt(rows);
        const checkpoint = { outcome, examined: rows.length, after, last, isLast };
        const moved = await this.#asking((database) => job.checkpoint(database, claim, checkpoint));
        this.moved += moved ?? 0;
        isOver = moved === undefined || isLast;
        await this.#showJob(job);
        if (!isOver) {
          await this.#keepRate(rows.length, begun);
          this.#checkInterrupted();
        }
      } catch (error) {
        // Whoever comes next need not wait for the lease.
        await this.#asking((database) => job.release(database, claim)).catch(() => undefined);
        throw error;
      }
      if (isOver) {
        return;
      }
      after = last;
    }
  }

  #read(range: { readonly after: RowId | undefined; readonly upTo: RowId | undefined }): Promise<TableRow[]> {
    const { batch, current } = this.#options;
    return this.#asking((database) => batch.table.read(database, range, this.#limit, current));
  }

  async #reencrypt(rows: readonly TableRow[]): Promise<BatchOutcome> {
    const { batch, batchRows, signal } = this.#options;
    const outcome = await patiently(() => reencryptRows(batch, rows), {
      patienceMs: PATIENCE_MS,
      signal,
      isPassing: (error) => DekdError.is(error) && error.retryable,
    });
    const bytes = rows.reduce((sum, { value }) => sum + (value?.length ?? 0), 0);
    const fitting = Math.floor((BATCH_BYTES * Math.max(1, rows.length)) / Math.max(1, bytes));
    this.#limit = Math.max(1, Math.min(batchRows, 4 * this.#limit, fitting));
    this.#checkHopeful(outcome);
    return outcome;
  }

  #checkHopeful({ failures, current, replacements }: BatchOutcome): void {
    this.#opened += current + replacements.length;
    this.#failed += failures.length;
    if (this.#failed >= HOPELESS && this.#opened === 0) {
      const { code, message } = failures[0]!;
      throw new CommandError(
        EXIT.failed,
        code,
        `no row opens: ${message}`,
        'give the key, partition and context that the tokens were made with',
      );
    }
  }

  async #showJob(job: Job, waitsFor = ''): Promise<void> {
    const { progress } = this.#options;
    if (progress.isDue) {
      progress.show(await this.#asking((database) => job.counts(database)), waitsFor);
    }
  }

  /** Waits out the time of a batch. Time that a stall took is not caught up: the rate is what the database can spare. */
  async #keepRate(rows: number, begun: number): Promise<void> {
    const { rate, signal } = this.#options;
    const wait = begun + (rows / rate) * 1_000 - performance.now();
    if (wait > 0) {
      await sleep(wait, undefined, { signal }).catch(() => undefined);
    }
  }

  #checkInterrupted(): void {
    if (this.#options.signal.aborted) {
      this.#options.progress.clear();
      throw new CommandError(
        EXIT.failed,
        'CANCELLED',
        `interrupted: ${plural(this.moved, 'row was', 'rows were')} re-encrypted by this process`,
        GO_ON,
      );
    }
  }
}
