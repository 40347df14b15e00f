/** Processes that share the re-encryption of a large table, killed at any moment, while an application writes to it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeOwnServer } from '../support/postgres.ts';
import { type RunningCommand, TokenTables } from '../support/token-table.ts';
import { report } from './support/agent-process.ts';
import { randomNumbers } from './support/random-numbers.ts';

const ROWS = Number(process.env.DEKD_ROWS ?? 100_000);
const KILLS = Number(process.env.DEKD_KILLS ?? 20);
const SEED = Number(process.env.DEKD_SEED ?? Date.now() % 1_000_000);
const PROCESSES = 3;
const FLAGS = '--batch 200 --lease 2';
const TIMEOUT_MS = 300_000 + KILLS * 20_000;

describeOwnServer(`${ROWS} rows, ${PROCESSES} processes, ${KILLS} SIGKILLs (DEKD_SEED=${SEED})`, () => {
  let tables: TokenTables;
  const random = randomNumbers(SEED);

  beforeAll(async () => {
    tables = await TokenTables.start();
    await tables.fill('t', { type: 'bytea', rows: ROWS, id: { type: 'uuid', sql: 'md5($1::text)::uuid' } });
    // What an update does to a row, counted by the database itself.
    await tables.server.sql('CREATE TABLE change (id uuid, old bytea, new bytea)');
    await tables.server.sql(`CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      INSERT INTO public.change VALUES (NEW.id, substring(OLD.token FROM 3 FOR 16), substring(NEW.token FROM 3 FOR 16));
      RETURN NEW; END $$`);
    await tables.server.sql('CREATE TRIGGER note AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note()');
  }, TIMEOUT_MS);
  afterAll(() => tables[Symbol.asyncDispose]());

  it(
    'do every row once, lose none and never undo what is written meanwhile',
    async () => {
      await tables.rotate();
      const written = new Map<number, string>();
      const application = new AbortController();
      const writes = write(application.signal, written);
      const begun = performance.now();
      let killed = 0;
      let running: RunningCommand[] = [];
      while (killed < KILLS) {
        running = running.filter(({ child }) => child.exitCode === null && child.signalCode === null);
        while (running.length < PROCESSES) {
          running.push(tables.spawn('t', `${FLAGS} --rate-limit ${Math.ceil(ROWS / KILLS / 5)}`));
        }
        await sleep(500 + 1_500 * random());
        const victim = running[Math.floor(random() * running.length)]!;
        victim.child.kill('SIGKILL');
        killed += (await victim.ended) === 'SIGKILL' ? 1 : 0;
      }
      // Slow enough that every kill met processes at work.
      expect(await tables.server.sql('SELECT finished FROM dekd_reencrypt_job')).toEqual([{ finished: null }]);
      const last = tables.spawn('t', FLAGS);
      const ends = await Promise.all([last, ...running].map(({ ended }) => ended));
      application.abort();
      await writes;
      expect(ends.filter((end) => end !== 'SIGKILL' && end !== 0)).toEqual([]);
      const totals = JSON.parse(last.stdout) as Record<string, number>;
      expect(totals).toMatchObject({ failed: 0, postponed: 0 });
      await expectRight(written);
      // Of a row that nobody else wrote, one change: from the version before to the newest.
      const newest = await tables.newestKid();
      const twice = await tables.server.sql(
        `SELECT id FROM change WHERE old <> new AND old <> '\\x${newest}' GROUP BY id HAVING count(*) > 1`,
      );
      expect(twice).toEqual([]);
      const [changes] = await tables.server.sql<{ moved: string; again: string }>(
        `SELECT count(*) FILTER (WHERE old <> new) AS moved, count(*) FILTER (WHERE old = new AND new <> '\\x${newest}') AS again FROM change`,
      );
      expect(changes).toMatchObject({ again: '0' });
      const { document } = await tables.run('t', '--verify');
      expect(document).toMatchObject({ current: ROWS, older: 0, failed: 0 });
      const seconds = Math.round((performance.now() - begun) / 1_000);
      report('re-encryption of a table', { ...totals, rows: ROWS, killed, seconds, writes: written.size, seed: SEED });
    },
    TIMEOUT_MS,
  );

  /** An application that gives rows new values, each of which must stay. */
  async function write(signal: AbortSignal, written: Map<number, string>): Promise<void> {
    const admin = await tables.server.admin();
    for (let round = 0; !signal.aborted; round += 1) {
      const n = 1 + Math.floor(random() * ROWS);
      const { rows } = await admin.query('SELECT id::text FROM t WHERE n = $1', [n]);
      const value = `written ${round}`;
      const [token] = await tables.tokens([{ id: rows[0].id, value }]);
      await admin.query('UPDATE t SET token = $2 WHERE id = $1::uuid', [rows[0].id, Buffer.from(token!)]);
      written.set(n, value);
      await sleep(5);
    }
    await admin.end();
  }

  async function expectRight(written: ReadonlyMap<number, string>): Promise<void> {
    expect(await tables.kids('t')).toEqual(new Map([[await tables.newestKid(), ROWS]]));
    const values = await tables.values('t');
    expect(values.size).toBe(ROWS);
    for (const [n, value] of values) {
      if (value !== (written.get(n) ?? `value ${n}`)) {
        expect([n, value]).toEqual([n, written.get(n) ?? `value ${n}`]);
      }
    }
  }
});
