/** `dekd reencrypt --table`: a column of PostgreSQL. */
import type { EncryptOptions } from '../../client/types.ts';
import { SUITE_XAES_256_GCM, TOKEN_FORMAT } from '../../envelope/token.ts';
import { encodeTokenText } from '../../envelope/token-text.ts';
import { printable } from '../../telemetry/printable.ts';
import { openClient } from '../agent-client.ts';
import { EXIT, usageError } from '../exit.ts';
import { type CommandLine, count, plural, printResult, warn } from '../terminal.ts';
import { Database, databaseFailure } from './database.ts';
import { databasePlace } from './database-place.ts';
import { Interruption } from './interruption.ts';
import { Job, type JobCounts } from './job.ts';
import { NewestVersions } from './newest-version.ts';
import { GO_ON } from './patience.ts';
import { RowProgress } from './row-progress.ts';
import { type RowId, Table, type TableOptions } from './table.ts';
import { rowsOfBatch, type Survey, TableRun } from './table-run.ts';

const DEFAULT_BATCH = 1_000;
const DEFAULT_LEASE_SECONDS = 60;
const SHOWN_FAILURES = 20;

/** @returns the exit code: failed when a row does not open, or is left under an older version */
export async function reencryptTable(
  line: CommandLine,
  raw: Record<string, unknown>,
  binding: EncryptOptions,
): Promise<number> {
  const options = tableOptionsOf(raw, binding);
  const [dryRun, verify] = [raw.dryRun === true, raw.verify === true];
  const place = await databasePlace({
    url: raw.pg as string | undefined,
    urlFile: raw.pgUrlFile as string | undefined,
    caFile: raw.pgCa as string | undefined,
  });
  await using agent = await openClient(line);
  using interruption = new Interruption();
  const { signal } = interruption;
  const newest = new NewestVersions(agent.client, binding.key);
  const partition = binding.partition ?? '';
  const target = options.partitionColumn === undefined ? await newest.kid(partition) : undefined;
  await using database = await inDatabase(() => Database.open(place), place.shown);
  const table = await inDatabase(() => Table.find(database, options), place.shown);
  const progress = new RowProgress(line.json, await inDatabase(() => table.size(database), place.shown));
  const rate = (raw.rateLimit as number | undefined) ?? Number.POSITIVE_INFINITY;
  const leaseSeconds = (raw.lease as number | undefined) ?? DEFAULT_LEASE_SECONDS;
  const batchRows = rowsOfBatch((raw.batch as number | undefined) ?? DEFAULT_BATCH, rate, leaseSeconds);
  const context = { ...binding.context };
  await using run = new TableRun(
    {
      place,
      batch: { client: agent.client, newest, table, key: binding.key, partition, context },
      batchRows,
      rate,
      // To verify a token is to open it, whatever its head says.
      current: verify || target === undefined ? undefined : headOf(target, table.form),
      progress,
      signal,
    },
    database,
  );
  const subject = { table: `${table.schema}.${table.name}`, column: table.column, key: binding.key };
  if (dryRun || verify) {
    const survey = await run.survey();
    progress.clear();
    return reportSurvey(line, subject, survey, verify);
  }
  const job = new Job({
    table,
    schema: (raw.jobSchema as string | undefined) ?? table.schema,
    identity: identityOf(binding, options, target),
    key: binding.key,
    target: target ?? 'newest of each partition',
    leaseSeconds,
    batch: batchRows,
  });
  const begun = performance.now();
  const isDone = !(await inDatabase(() => begin(job, database, raw.again === true), place.shown));
  if (!isDone) {
    await run.toEnd(job);
  }
  progress.clear();
  const [counts, failures] = await run.results(job);
  const seconds = Number(((performance.now() - begun) / 1_000).toFixed(3));
  const document = { ...subject, job: job.name, ...counts, here: run.moved, seconds, failures };
  reportJob(line, document, counts, failures, isDone);
  return counts.failed + counts.postponed > 0 ? EXIT.failed : EXIT.ok;
}

/** What other tokens would be made by, in one order however it was given. */
function identityOf(
  { key, partition, context }: EncryptOptions,
  { contextColumns, partitionColumn }: TableOptions,
  target: string | undefined,
): Readonly<Record<string, unknown>> {
  const inOrder = (pairs: object) => Object.entries(pairs).sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    key,
    partition: partition ?? '',
    partitionColumn,
    context: inOrder(context ?? {}),
    contextColumns: inOrder(contextColumns),
    target,
  };
}

/** Finds or makes the job. One that left rows is begun anew once it is finished. @returns false when there is nothing to do */
async function begin(job: Job, database: Database, again: boolean): Promise<boolean> {
  await job.open(database);
  const { finished, failed, postponed } = await job.counts(database);
  if (finished === undefined) {
    return true;
  }
  if (failed === 0 && postponed === 0 && !again) {
    return false;
  }
  await job.restart(database);
  return true;
}

function tableOptionsOf(raw: Record<string, unknown>, { partition, context }: EncryptOptions): TableOptions {
  const column = raw.column as string | undefined;
  if (column === undefined) {
    throw usageError('no column is named', 'add --column NAME: the column with the tokens');
  }
  if ((raw.fields as readonly string[]).length > 0) {
    throw usageError('--fields is of JSON Lines; it does not go with --table');
  }
  const partitionColumn = raw.partitionColumn as string | undefined;
  if (partition !== undefined && partitionColumn !== undefined) {
    throw usageError('both --partition and --partition-column are given');
  }
  const contextColumns: Record<string, string> = Object.create(null);
  for (const pair of raw.contextColumn as readonly string[]) {
    const at = pair.indexOf('=');
    const [field, name] = [pair.slice(0, at), pair.slice(at + 1)];
    if (at < 1 || name === '') {
      throw usageError(`context column '${pair}' is not field=column`);
    }
    if (field in contextColumns || Object.hasOwn(context ?? {}, field)) {
      throw usageError(`context field '${field}' is given twice`);
    }
    contextColumns[field] = name;
  }
  const idColumns = ((raw.idColumn as string | undefined) ?? '').split(',').filter((name) => name !== '');
  return { table: raw.table as string, column, idColumns, contextColumns, partitionColumn };
}

/** What a token of this version begins with, as the column holds it: 18 bytes are 24 digits of base64, and none over. */
function headOf(kid: string, form: 'binary' | 'text'): string | Uint8Array {
  const head = Buffer.concat([Buffer.from([TOKEN_FORMAT, SUITE_XAES_256_GCM]), Buffer.from(kid, 'hex')]);
  return form === 'binary' ? head : encodeTokenText(head);
}

async function inDatabase<T>(work: () => Promise<T>, shown: string): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw databaseFailure(error, shown);
  }
}

function reportSurvey(line: CommandLine, subject: object, survey: Survey, verify: boolean): number {
  const { examined, current, older, nulls, failed, failures } = survey;
  const isGood = failed === 0 && !(verify && older > 0);
  const listed = failures.map(({ id, code }) => ({ id, code }));
  if (!line.json) {
    nameFailures(listed, failed);
  }
  const counts = verify
    ? { verify: true, examined, current, older, nulls, failed }
    : { dryRun: true, examined, older, current, nulls, failed };
  const text = verify
    ? `${plural(current, 'row')} of ${count(examined)} open under the newest version, ${count(older)} under an older one`
    : `${plural(older, 'row')} of ${count(examined)} would be re-encrypted, ${count(current)} are under the newest version`;
  printResult(line, { ...subject, ...counts, failures: listed }, `${text}${rest(nulls, failed)}`);
  return isGood ? EXIT.ok : EXIT.failed;
}

type Listed = readonly { readonly id: RowId; readonly code: string }[];

function reportJob(line: CommandLine, document: object, counts: JobCounts, failures: Listed, isDone: boolean): void {
  const { moved, current, nulls, failed, postponed, later, finished } = counts;
  if (!line.json) {
    nameFailures(failures, failed);
    if (isDone) {
      warn(`this job was finished at ${finished}; --again begins it anew`);
    }
    if (later > 0) {
      warn(
        `${plural(later, 'row was', 'rows were')} written or locked while the first pass ran, and moved in a later one`,
      );
    }
    if (postponed > 0) {
      warn(`${plural(postponed, 'row was', 'rows were')} held or changed by others all the time; ${GO_ON}`);
    }
  }
  const newest = `${plural(current, 'row is', 'rows are')} under the newest version`;
  printResult(line, document, `${plural(moved, 'row')} re-encrypted, ${newest}${rest(nulls, failed)}`);
}

function rest(nulls: number, failed: number): string {
  return `${nulls > 0 ? `, ${count(nulls)} NULL` : ''}${failed > 0 ? `, ${count(failed)} failed` : ''}`;
}

/** Ids only: what is in a row is nobody's business here. */
function nameFailures(failures: Listed, failed: number): void {
  for (const { id, code } of failures.slice(0, SHOWN_FAILURES)) {
    warn(printable(`failed ${id.length === 1 ? id[0]! : `(${id.join(', ')})`}: ${code}`));
  }
  if (failed > SHOWN_FAILURES) {
    warn(`and ${count(failed - SHOWN_FAILURES)} more; --json lists a thousand`);
  }
}
