/** What the processes of one job may do to each other and to the table, step by step. */
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { Database } from '../../src/cli/reencrypt/database.ts';
import { databasePlace } from '../../src/cli/reencrypt/database-place.ts';
import { type Claim, Job } from '../../src/cli/reencrypt/job.ts';
import { Table, type TableRow } from '../../src/cli/reencrypt/table.ts';
import type { BatchOutcome } from '../../src/cli/reencrypt/token-batch.ts';
import { describeOwnServer, PostgresServer } from '../support/postgres.ts';

const ROWS = 50;
const BATCH = 2;
/** Ten batches make a range. */
const RANGE = 20;

describeOwnServer('a re-encryption job', () => {
  let server: PostgresServer;
  let database: Database;
  let table: Table;

  beforeAll(async () => {
    server = await PostgresServer.start();
    // Under which two tokens may count as equal that are not.
    await server.sql(`CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`);
    database = await Database.open(
      await databasePlace({ url: server.settings.url!, urlFile: undefined, caFile: undefined }, {}),
    );
  });
  afterAll(async () => {
    await database[Symbol.asyncDispose]();
    await server.stop();
  });
  beforeEach(async () => {
    await server.sql('DROP TABLE IF EXISTS t, dekd_reencrypt_failure, dekd_reencrypt_range, dekd_reencrypt_job');
    await server.sql('CREATE TABLE t (id integer PRIMARY KEY, token text COLLATE caseless, note text)');
    await server.sql(`INSERT INTO t SELECT n, 'old ' || n FROM generate_series(1, ${ROWS}) AS n`);
    table = await Table.find(database, {
      table: 't',
      column: 'token',
      idColumns: [],
      contextColumns: {},
      partitionColumn: undefined,
    });
  });

  const tokens = async (where = '') =>
    (await server.sql<{ token: string }>(`SELECT token FROM t ${where} ORDER BY id`)).map(({ token }) => token);
  const read = (after?: number, limit = ROWS) =>
    table.read(database, { after: after === undefined ? undefined : [`${after}`], upTo: undefined }, limit, undefined);

  function moving(rows: readonly TableRow[]): BatchOutcome {
    const replacements = rows.map(({ id, value }) => ({ id, old: value!, new: `new ${id[0]}` }));
    return { replacements, current: 0, nulls: 0, failures: [] };
  }

  /** Of the first batch of a range, all of whose rows move. */
  function firstCheckpoint(rows: readonly TableRow[]) {
    return { outcome: moving(rows), examined: BATCH, after: undefined, last: rows.at(-1)!.id, isLast: false };
  }

  async function process(leaseSeconds = 60): Promise<Job> {
    const job = new Job({ table, schema: 'public', identity: {}, key: 'k', target: 'v', leaseSeconds, batch: BATCH });
    await job.open(database);
    return job;
  }

  async function claimed(job: Job): Promise<Claim> {
    const claim = await job.claim(database);
    if (typeof claim === 'string') {
      throw new Error(claim);
    }
    return claim;
  }

  async function claimedBy(): Promise<[Job, Claim]> {
    const job = await process();
    return [job, await claimed(job)];
  }

  /** Does a whole range in one go. */
  async function finish(job: Job, claim: Claim, outcome?: (rows: readonly TableRow[]) => BatchOutcome) {
    const rows = await table.read(database, claim, ROWS, undefined);
    const checkpoint = {
      outcome: (outcome ?? moving)(rows),
      examined: rows.length,
      after: claim.after,
      last: rows.at(-1)?.id,
      isLast: true,
    };
    return await job.checkpoint(database, claim, checkpoint);
  }

  it('leaves nothing set in its session, which behind a pooler an application gets next', async () => {
    const settings = `SELECT name, setting FROM pg_settings WHERE source = 'session' AND name <> 'application_name'`;
    await finish(...(await claimedBy()));
    await expect(database.query('SELECT 1 / 0')).rejects.toThrow();
    await database.run('CREATE TEMPORARY TABLE IF NOT EXISTS found (name text, setting text)');
    await database.run(`INSERT INTO found ${settings}`);
    expect(await database.query('SELECT name, setting FROM pg_temp.found')).toEqual([]);
  });

  it('replaces only what still is what was read, and waits for nobody', async () => {
    const rows = await read();
    await server.sql(`UPDATE t SET token = 'by the application' WHERE id = 3`);
    await server.sql('UPDATE t SET token = NULL WHERE id = 4');
    await server.sql('DELETE FROM t WHERE id = 5');
    await server.sql(`UPDATE t SET note = 'touched' WHERE id = 6`);
    await server.sql(`UPDATE t SET token = 'OLD 7' WHERE id = 7`);
    const other = await server.admin();
    await other.query('BEGIN');
    await other.query(`UPDATE t SET token = 'not committed' WHERE id = 8`);
    expect(await table.replace(database, moving(rows).replacements)).toBe(ROWS - 5);
    await other.query('COMMIT');
    await other.end();
    expect(await tokens('WHERE id <= 9')).toEqual([
      'new 1',
      'new 2',
      'by the application',
      null,
      'new 6',
      'OLD 7',
      'not committed',
      'new 9',
    ]);
    expect(await server.sql('SELECT note FROM t WHERE id = 6')).toEqual([{ note: 'touched' }]);
  });

  it('hands out every id once, in ranges, and is over when the last is done and a pass finds nothing', async () => {
    const [a, b] = [await process(), await process()];
    expect(b.name).toBe(a.name);
    const claims = [await claimed(a), await claimed(b)];
    expect(claims.map(({ after, upTo }) => [after, upTo])).toEqual([
      [undefined, [`${RANGE}`]],
      [[`${RANGE}`], [`${2 * RANGE}`]],
    ]);
    expect(await finish(b, claims[1]!)).toBe(RANGE);
    const third = await claimed(b);
    expect([third.after, third.upTo]).toEqual([[`${2 * RANGE}`], [`${ROWS}`]]);
    await finish(b, third);
    expect(await b.claim(database)).toBe('wait');
    await finish(a, claims[0]!);
    expect(await tokens()).toEqual(Array.from({ length: ROWS }, (_, index) => `new ${index + 1}`));
    const nothing = (rows: readonly TableRow[]) => ({ ...moving([]), current: rows.length });
    for (let claim = await a.claim(database); typeof claim !== 'string'; claim = await a.claim(database)) {
      await finish(a, claim, nothing);
    }
    expect(await b.claim(database)).toBe('finished');
    expect(await a.counts(database)).toMatchObject({ passes: 2, examined: ROWS, current: ROWS, moved: ROWS, later: 0 });
  });

  it('writes nothing of a process whose range was given to another', async () => {
    const [silent, other] = [await process(0), await process()];
    const claim = await claimed(silent);
    const taken = await claimed(other);
    expect(taken).toEqual(claim);
    const rows = await read(undefined, BATCH);
    const checkpoint = firstCheckpoint(rows);
    expect(await silent.checkpoint(database, claim, checkpoint)).toBe(undefined);
    expect(await tokens('WHERE id <= 2')).toEqual(['old 1', 'old 2']);
    expect(await other.counts(database)).toMatchObject({ examined: 0, moved: 0 });
    expect(await other.checkpoint(database, taken, checkpoint)).toBe(BATCH);
    await silent.release(database, claim);
    // What it gives back is not its own any more.
    expect(await claimed(silent)).toMatchObject({ after: [`${RANGE}`] });
  });

  it('goes on where a range was given back, or its process is gone', async () => {
    const [first, second] = [await process(), await process()];
    const claim = await claimed(first);
    const rows = await read(undefined, BATCH);
    const checkpoint = firstCheckpoint(rows);
    await first.checkpoint(database, claim, checkpoint);
    // The same process, after its connection broke.
    expect(await claimed(first)).toMatchObject({ number: claim.number, after: [`${BATCH}`], upTo: [`${RANGE}`] });
    await first.release(database, claim);
    expect(await claimed(second)).toMatchObject({ number: claim.number, after: [`${BATCH}`] });
    expect(await second.counts(database)).toMatchObject({ examined: BATCH, moved: BATCH });
  });

  it('writes a batch once, also when it does not hear that it was written', async () => {
    const job = await process();
    const claim = await claimed(job);
    const rows = await read(undefined, BATCH);
    const checkpoint = firstCheckpoint(rows);
    expect(await job.checkpoint(database, claim, checkpoint)).toBe(BATCH);
    expect(await job.checkpoint(database, claim, checkpoint)).toBe(undefined);
    expect(await job.counts(database)).toMatchObject({ examined: BATCH, moved: BATCH, postponed: 0 });
    expect(await claimed(job)).toMatchObject({ number: claim.number, after: [`${BATCH}`] });
  });

  it('undoes the rows of a batch with its checkpoint', async () => {
    const job = await process();
    const claim = await claimed(job);
    const rows = await read(undefined, BATCH);
    await server.sql('ALTER TABLE dekd_reencrypt_range ADD CHECK (moved = 0)');
    const checkpoint = firstCheckpoint(rows);
    await expect(job.checkpoint(database, claim, checkpoint)).rejects.toMatchObject({ code: '23514' });
    expect(await tokens('WHERE id <= 2')).toEqual(['old 1', 'old 2']);
  });

  it('looks again after a while for rows that were in use, and gives them up in the end', async () => {
    const job = await process();
    const other = await server.admin();
    await other.query('BEGIN');
    await other.query('SELECT * FROM t FOR UPDATE');
    let passes = 0;
    for (let claim = await job.claim(database); claim !== 'finished'; claim = await job.claim(database)) {
      if (claim === 'wait') {
        // Nothing is handed out before its time.
        expect(await job.claim(database)).toBe('wait');
        await server.sql(`UPDATE dekd_reencrypt_job SET not_before = '-infinity'`);
        passes += 1;
      } else {
        expect(await finish(job, claim)).toBe(0);
      }
    }
    await other.query('ROLLBACK');
    await other.end();
    expect(passes).toBe(9);
    expect(await job.counts(database)).toMatchObject({ passes: 10, moved: 0, postponed: ROWS });
  });

  it('keeps the ids of rows that fail, forgets them when they fail no more, and is begun anew by restart', async () => {
    const job = await process();
    const failing = (rows: readonly TableRow[]): BatchOutcome => {
      const failures = rows.slice(0, 1).map(({ id }) => ({ id, code: 'DECRYPTION_FAILED' as const, message: 'no' }));
      return { ...moving(rows.slice(1)), failures };
    };
    await finish(job, await claimed(job), failing);
    expect(await job.failures(database)).toEqual([{ id: ['1'], code: 'DECRYPTION_FAILED' }]);
    for (let claim = await job.claim(database); typeof claim !== 'string'; claim = await job.claim(database)) {
      await finish(job, claim, (rows) => ({ ...moving([]), current: rows.length }));
    }
    expect([await job.failures(database), (await job.counts(database)).failed]).toEqual([[], 0]);
    await job.restart(database);
    expect(await job.counts(database)).toMatchObject({ passes: 0, moved: 0, finished: undefined });
    expect(await claimed(job)).toMatchObject({ after: undefined, upTo: [`${RANGE}`] });
  });
});
