/** A column of PostgreSQL whose tokens move to the newest version of their key. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { describeOwnServer } from '../support/postgres.ts';
import { KEY, type RunningCommand, TokenTables } from '../support/token-table.ts';

const TIMEOUT_MS = 120_000;

describeOwnServer('dekd reencrypt --table', () => {
  let tables: TokenTables;

  beforeAll(async () => {
    tables = await TokenTables.start();
  }, TIMEOUT_MS);
  afterAll(() => tables[Symbol.asyncDispose]());
  beforeEach(() =>
    tables.server.sql('DROP TABLE IF EXISTS dekd_reencrypt_failure, dekd_reencrypt_range, dekd_reencrypt_job'),
  );

  const sql = (text: string, values: unknown[] = []) => tables.server.sql(text, values);

  /** Every row holds what it held, under the newest version. */
  async function expectDone(table: string, rows: number): Promise<void> {
    expect(await tables.kids(table)).toEqual(new Map([[await tables.newestKid(), rows]]));
    const values = await tables.values(table);
    expect(values.size).toBe(rows);
    for (const [n, value] of values) {
      expect(value).toBe(`value ${n}`);
    }
  }

  it.each([
    ['text', { type: 'integer', sql: '$1' }],
    ['bytea', { type: 'bigint', sql: '$1 * 1000000007::bigint' }],
    ['character varying(200)', { type: 'uuid', sql: "md5('$1' || $1)::uuid" }],
    ['text', { type: 'text', sql: `'Ä "quoted" \\, {x} ' || $1` }],
    ['bytea', { type: 'timestamptz', sql: "'2026-01-01Z'::timestamptz + $1 * interval '0.000001 s'" }],
    ['text', { type: 'numeric', sql: '$1 / 7.0' }],
  ])(
    'moves every token of a column of %s by an id of %o',
    async (type, id) => {
      await tables.fill('t', { type, rows: 1_500, id });
      await tables.rotate();
      const { code, document } = await tables.run('t', '--batch 200');
      expect([code, document]).toMatchObject([
        0,
        { table: 'public.t', moved: 1_500, here: 1_500, current: 1_500, nulls: 0, failed: 0, postponed: 0, later: 0 },
      ]);
      await expectDone('t', 1_500);
    },
    TIMEOUT_MS,
  );

  it(
    'refuses a table whose policies hide rows: they would stay under the version before without a word',
    async () => {
      await tables.fill('t', { rows: 20 });
      await tables.rotate();
      await sql('DROP ROLE IF EXISTS half');
      await sql('CREATE ROLE half');
      try {
        await sql('GRANT SELECT, UPDATE ON t TO half');
        await sql('GRANT CREATE ON SCHEMA public TO half');
        await sql('ALTER TABLE t ENABLE ROW LEVEL SECURITY');
        await sql('CREATE POLICY even ON t USING (n % 2 = 0)');
        const asHalf = `PGOPTIONS='-c role=half'`;
        const { code, stderr } = await tables.place.shell(`${asHalf} dekd ${tables.command('t')} --json`);
        expect([code, JSON.parse(stderr.trim().split('\n').at(-1)!)]).toMatchObject([
          1,
          { error: { message: expect.stringContaining('42501') } },
        ]);
      } finally {
        await sql('DROP TABLE t');
        await sql('DROP OWNED BY half');
        await sql('DROP ROLE half');
      }
    },
    TIMEOUT_MS,
  );

  it(
    'takes no function or operator of somebody else for one of its own, and triggers find what they are written for',
    async () => {
      await tables.fill('t', { type: 'character varying(200)', rows: 20, id: { type: 'varchar(9)', sql: '$1::text' } });
      await tables.rotate();
      await sql('DROP SCHEMA IF EXISTS theirs CASCADE');
      await sql('CREATE SCHEMA theirs');
      try {
        await sql('CREATE TABLE theirs.seen (what text)');
        const note = (what: string, result: string) =>
          `LANGUAGE plpgsql AS $$ BEGIN INSERT INTO theirs.seen VALUES ('${what}'); RETURN ${result}; END $$`;
        await sql(`CREATE FUNCTION theirs.left(a varchar, n integer) RETURNS text ${note('left', "''")}`);
        await sql(`CREATE FUNCTION theirs.to_regclass(a varchar) RETURNS regclass ${note('to_regclass', 'NULL')}`);
        await sql(`CREATE FUNCTION theirs.array_to_json(a text[]) RETURNS json ${note('json', "'[]'")}`);
        await sql(`CREATE FUNCTION theirs.same(a varchar, b varchar) RETURNS boolean ${note('same', 'false')}`);
        await sql(`CREATE FUNCTION theirs.same(a varchar, b text) RETURNS boolean ${note('equal', 'false')}`);
        for (const symbol of ['=', '>', '<=']) {
          for (const right of ['varchar', 'text']) {
            await sql(
              `CREATE OPERATOR theirs.${symbol} (LEFTARG = varchar, RIGHTARG = ${right}, FUNCTION = theirs.same)`,
            );
          }
        }
        await sql('CREATE TABLE theirs.audit (n integer)');
        await sql(`CREATE FUNCTION theirs.audited() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN INSERT INTO audit VALUES (NEW.n); RETURN NEW; END $$`);
        await sql('CREATE TRIGGER at_once AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION theirs.audited()');
        await sql(`CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED
          FOR EACH ROW EXECUTE FUNCTION theirs.audited()`);
        await sql('ALTER DATABASE postgres SET search_path TO theirs, public');
        const { code, document } = await tables.run('t');
        expect([code, document]).toMatchObject([0, { table: 'public.t', moved: 20, current: 20, postponed: 0 }]);
        expect(await sql('SELECT DISTINCT what FROM theirs.seen')).toEqual([]);
        expect(await sql('SELECT count(*)::integer AS rows FROM theirs.audit')).toEqual([{ rows: 40 }]);
      } finally {
        await sql('ALTER DATABASE postgres RESET search_path');
        await sql('DROP TABLE t');
        await sql('DROP SCHEMA theirs CASCADE');
      }
      await tables.fill('t', { rows: 1 });
    },
    TIMEOUT_MS,
  );

  it(
    'uses no tables of a job that somebody else has made, and those of an owner of the table',
    async () => {
      await tables.fill('t', { rows: 5 });
      await tables.rotate();
      await sql('CREATE ROLE mallory');
      await sql('CREATE SCHEMA shared');
      try {
        await sql('GRANT CREATE, USAGE ON SCHEMA shared TO mallory');
        expect((await tables.run('t', '--job-schema shared')).code).toBe(0);
        await sql('CREATE TABLE shared.ran (what text)');
        await sql(`CREATE FUNCTION shared.run() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN INSERT INTO shared.ran VALUES (current_user); RETURN NEW; END $$`);
        await sql(`CREATE TRIGGER theirs BEFORE INSERT OR UPDATE ON shared.dekd_reencrypt_job
          FOR EACH ROW EXECUTE FUNCTION shared.run()`);
        await sql('ALTER TABLE shared.dekd_reencrypt_job OWNER TO mallory');
        await tables.rotate();
        const { code, stderr } = await tables.run('t', '--job-schema shared');
        expect([code, stderr]).toEqual([2, expect.stringContaining('is of role mallory')]);
        expect(await sql('SELECT what FROM shared.ran')).toEqual([]);
        await sql('ALTER TABLE t OWNER TO mallory');
        expect((await tables.run('t', '--job-schema shared')).document).toMatchObject({ moved: 5 });
      } finally {
        await sql('DROP SCHEMA shared CASCADE');
        await sql('ALTER TABLE t OWNER TO postgres');
        await sql('DROP ROLE mallory');
      }
    },
    TIMEOUT_MS,
  );

  it(
    'keeps to the order of an id whose type an extension made, wherever its operators are',
    async () => {
      await sql('CREATE SCHEMA IF NOT EXISTS extensions');
      await sql('CREATE EXTENSION IF NOT EXISTS citext SCHEMA extensions');
      const id = { type: 'extensions.citext', sql: "CASE $1 % 2 WHEN 0 THEN 'a' ELSE 'B' END || $1" };
      await tables.fill('t', { rows: 300, id });
      await tables.rotate();
      const { code, document } = await tables.run('t', '--batch 7');
      expect([code, document]).toMatchObject([0, { moved: 300, current: 300, later: 0 }]);
      await expectDone('t', 300);
      await sql('DROP TABLE t');
      await sql('DROP SCHEMA extensions CASCADE');
    },
    TIMEOUT_MS,
  );

  it('goes by composite keys, unique indexes, partitions and names that need quotes', async () => {
    const name = '"my ""schema"."T.1"';
    await sql('DROP SCHEMA IF EXISTS "my ""schema" CASCADE');
    await sql('CREATE SCHEMA "my ""schema"');
    await sql(`CREATE TABLE ${name} ("Select" text, n integer NOT NULL, region "char" NOT NULL, shelf integer, tenant text,
      "to""ken" bytea, PRIMARY KEY ("Select", n), UNIQUE (n, region)) PARTITION BY LIST (n)`);
    await sql(`CREATE TABLE "my ""schema".one PARTITION OF ${name} FOR VALUES IN (1)`);
    await sql(`CREATE TABLE "my ""schema".others PARTITION OF ${name} DEFAULT`);
    const rows = Array.from({ length: 600 }, (_, n) => ({ n, shelf: n % 7, tenant: ['acme', 'zeta', ''][n % 3]! }));
    const items = rows.map(({ n, shelf, tenant }) => ({
      data: Buffer.from(`${n}`),
      partition: tenant,
      context: { shelf: `${shelf}`, app: 'shop' },
    }));
    const tokens = await tables.dekd.encryptMany(items, { key: 'orders' });
    await sql(
      `INSERT INTO ${name} SELECT 'row ' || n % 10, n, 'e', shelf, NULLIF(tenant, ''), token
       FROM unnest($1::integer[], $2::integer[], $3::text[], $4::bytea[]) AS given (n, shelf, tenant, token)`,
      [
        rows.map(({ n }) => n),
        rows.map(({ shelf }) => shelf),
        rows.map(({ tenant }) => tenant),
        tokens.map((result) => result.ok && Buffer.from(result.value)),
      ],
    );
    for (const partition of ['', '--partition acme', '--partition zeta']) {
      await tables.place.shell(`dekd keys rotate orders ${partition}`);
    }
    const flags = `--key orders --table '${name}' --column 'to"ken' --partition-column tenant --context app=shop --batch 70`;
    const run = async (options: string) => {
      const { code, stdout } = await tables.place.shell(`dekd reencrypt ${flags} --json ${options}`);
      return [code, stdout === '' ? {} : JSON.parse(stdout)];
    };
    const shelf = '--context-column shelf=shelf';
    expect(await run(shelf)).toMatchObject([0, { moved: 600, current: 600, failed: 0 }]);
    expect(await run(`${shelf} --id-column region,n`)).toMatchObject([0, { moved: 0, current: 600 }]);
    expect(await run(`${shelf} --verify`)).toMatchObject([0, { current: 600, older: 0, failed: 0 }]);
    // The column of another context field: nothing opens but by chance.
    expect(await run('--context-column shelf=n --verify')).toMatchObject([1, { current: 7, failed: 593 }]);
  });

  it('changes nothing on a dry run, and says what it would do', async () => {
    await tables.fill('t', { rows: 300 });
    await tables.rotate();
    await tables.write('t', [{ id: '7', n: 7 }]);
    await sql('UPDATE t SET token = NULL WHERE id = 9');
    await sql(`UPDATE t SET token = 'clear text' WHERE id = 10`);
    const before = await sql('SELECT xmin::text, * FROM t ORDER BY id');
    const { code, document } = await tables.run('t', '--dry-run');
    expect([code, document]).toMatchObject([
      1,
      {
        dryRun: true,
        examined: 300,
        older: 297,
        current: 1,
        nulls: 1,
        failed: 1,
        failures: [{ id: ['10'], code: 'MALFORMED' }],
      },
    ]);
    expect(await sql('SELECT xmin::text, * FROM t ORDER BY id')).toEqual(before);
    expect(
      await sql(`SELECT relname FROM pg_class WHERE relname LIKE 'dekd_%' AND relnamespace = 'public'::regnamespace`),
    ).toEqual([]);
  });

  it('leaves rows that do not open as they are, lists their ids and no value, and does them once they are right', async () => {
    await tables.fill('t', { rows: 300 });
    await tables.rotate();
    const tokens = await tables.tokens([{ id: 'another row', value: 'moved by somebody' }]);
    await sql('UPDATE t SET token = $1 WHERE id = 5', [`dk1.${Buffer.from(tokens[0]!).toString('base64url')}`]);
    await sql(`UPDATE t SET token = overlay(token PLACING '~' FROM 60) WHERE id = 6`);
    const bad = await sql('SELECT token FROM t WHERE id IN (5, 6) ORDER BY id');
    const first = await tables.run('t', '--batch 50');
    // Row 5 is under the newest version by its head: that it does not open only a reading of it says.
    expect([first.code, first.document]).toMatchObject([
      1,
      { moved: 298, failed: 1, failures: [{ id: ['6'], code: 'MALFORMED' }] },
    ]);
    expect(await sql('SELECT token FROM t WHERE id IN (5, 6) ORDER BY id')).toEqual(bad);
    const verified = await tables.run('t', '--verify');
    expect([verified.code, verified.document]).toMatchObject([
      1,
      {
        current: 298,
        failed: 2,
        failures: [
          { id: ['5'], code: 'DECRYPTION_FAILED' },
          { id: ['6'], code: 'MALFORMED' },
        ],
      },
    ]);
    expect(first.stdout + first.stderr + verified.stdout).not.toContain('dk1.');
    await tables.write('t', [
      { id: '5', n: 5 },
      { id: '6', n: 6 },
    ]);
    expect(await tables.run('t')).toMatchObject({ code: 0, document: { failed: 0, failures: [] } });
    expect(await tables.run('t', '--verify')).toMatchObject({ code: 0, document: { current: 300 } });
    await expectDone('t', 300);
  });

  it('tells a finished job from one to be done, and a rotation is a new one', async () => {
    await tables.fill('t', { rows: 200 });
    await tables.rotate();
    expect(await tables.run('t')).toMatchObject({ code: 0, document: { moved: 200, passes: 2 } });
    const again = await tables.place.shell(`dekd ${tables.command('t')}`);
    expect(again).toMatchObject({ code: 0, stderr: expect.stringMatching(/was finished at .*--again/) });
    expect(await tables.run('t', '--again')).toMatchObject({
      code: 0,
      document: { moved: 0, current: 200, passes: 1 },
    });
    await tables.rotate();
    expect(await tables.run('t')).toMatchObject({ code: 0, document: { moved: 200 } });
    expect(await sql('SELECT count(*) FROM dekd_reencrypt_job')).toEqual([{ count: '2' }]);
    await expectDone('t', 200);
  });

  it(
    'never overwrites what the application writes meanwhile, and finds rows that come in',
    async () => {
      await tables.fill('t', { rows: 3_000 });
      const old = await sql('SELECT token FROM t WHERE id = 1');
      await tables.rotate();
      const running = tables.spawn('t', '--batch 100 --rate-limit 2000');
      const written = new Map<number, string>();
      for (let round = 0; running.child.exitCode === null; round += 1) {
        const ids = Array.from({ length: 20 }, (_, index) => 1 + ((round * 97 + index * 131) % 3_000));
        const tokens = await tables.tokens(ids.map((id) => ({ id: `${id}`, value: `written ${round}` })));
        for (const [index, id] of ids.entries()) {
          await sql('UPDATE t SET token = $2 WHERE id = $1', [
            id,
            `dk1.${Buffer.from(tokens[index]!).toString('base64url')}`,
          ]);
          written.set(id, `written ${round}`);
        }
        if (round === 1) {
          // Behind where the job is: a token of the version before.
          await sql('INSERT INTO t SELECT -1, -1, $1', [(old[0] as { token: string }).token]);
          await sql('UPDATE t SET id = 0 WHERE id = -1');
          await tables.server.sql('UPDATE t SET token = $1 WHERE id = 1', [(old[0] as { token: string }).token]);
          written.delete(1);
        }
      }
      expect(await running.ended).toBe(1);
      const document = JSON.parse(running.stdout);
      // The token of row 1 under another id is of no row, and stays one that does not open.
      expect(document).toMatchObject({ failed: 1, failures: [{ id: ['0'] }], postponed: 0 });
      const values = await tables.values('t');
      expect(values.get(-1)).toBe(null);
      for (let n = 1; n <= 3_000; n += 1) {
        expect([n, values.get(n)]).toEqual([n, written.get(n) ?? `value ${n}`]);
      }
      const kids = await tables.kids('t');
      expect(kids.get(await tables.newestKid())).toBe(3_000);
    },
    TIMEOUT_MS,
  );

  it(
    'passes over rows that others hold, and comes back to them',
    async () => {
      await tables.fill('t', { rows: 400 });
      await tables.rotate();
      const other = await tables.server.admin();
      await other.query('BEGIN');
      await other.query('SELECT * FROM t WHERE id BETWEEN 50 AND 59 FOR UPDATE');
      const running = tables.spawn('t', '--batch 100');
      await expect
        .poll(async () => (await tables.kids('t')).get(await tables.newestKid()), { timeout: 30_000 })
        .toBe(390);
      await other.query('COMMIT');
      await other.end();
      expect(await running.ended).toBe(0);
      expect(JSON.parse(running.stdout)).toMatchObject({ moved: 400, later: 10, postponed: 0 });
      await expectDone('t', 400);
    },
    TIMEOUT_MS,
  );

  it(
    'is shared by processes, one of which is killed, and one that is interrupted and says how to go on',
    async () => {
      await tables.fill('t', { rows: 4_000 });
      await tables.rotate();
      const flags = '--batch 40 --lease 2 --rate-limit 1500';
      const running = [0, 1, 2].map(() => tables.spawn('t', flags));
      const [killed, interrupted, last] = running as [RunningCommand, RunningCommand, RunningCommand];
      await expect
        .poll(() => Math.max(...running.map(({ examined }) => examined)), { timeout: 60_000 })
        .toBeGreaterThan(500);
      killed.child.kill('SIGKILL');
      interrupted.child.kill('SIGINT');
      expect(await killed.ended).toBe('SIGKILL');
      expect(await interrupted.ended).toBe(1);
      expect(interrupted.stderr).toMatch(/"code":"CANCELLED".*run the same command again/);
      expect(await last.ended).toBe(0);
      expect(JSON.parse(last.stdout)).toMatchObject({ moved: 4_000, failed: 0, postponed: 0, later: 0 });
      await expectDone('t', 4_000);
    },
    TIMEOUT_MS,
  );

  it(
    'takes nothing from a process that was silent for longer than its lease, and wakes up',
    async () => {
      await tables.fill('t', { rows: 1_500 });
      await tables.rotate();
      const flags = '--batch 25 --lease 1';
      const silent = tables.spawn('t', `${flags} --rate-limit 300`);
      await expect.poll(() => silent.examined, { timeout: 60_000 }).toBeGreaterThan(100);
      silent.child.kill('SIGSTOP');
      const { code, document } = await tables.run('t', flags);
      expect([code, document]).toMatchObject([0, { moved: 1_500, failed: 0, later: 0 }]);
      silent.child.kill('SIGCONT');
      expect(await silent.ended).toBe(0);
      const { here } = JSON.parse(silent.stdout);
      expect(here + (document.here as number)).toBe(1_500);
      await expectDone('t', 1_500);
    },
    TIMEOUT_MS,
  );

  it(
    'goes on from its checkpoint: what was done is not done again',
    async () => {
      await tables.fill('t', { rows: 2_000 });
      await tables.rotate();
      const running = tables.spawn('t', '--batch 50 --rate-limit 1000');
      await expect.poll(() => running.examined, { timeout: 60_000 }).toBeGreaterThan(500);
      running.child.kill('SIGINT');
      expect(await running.ended).toBe(1);
      const [half] = (await sql(
        'SELECT sum(moved) AS moved FROM (SELECT moved FROM dekd_reencrypt_job UNION ALL SELECT moved FROM dekd_reencrypt_range) AS counted',
      )) as { moved: string }[];
      const done = await sql('SELECT id, token FROM t ORDER BY id LIMIT $1', [Number(half!.moved)]);
      const { document } = await tables.run('t', '--batch 50');
      expect(document).toMatchObject({ moved: 2_000, here: 2_000 - Number(half!.moved) });
      expect(await sql('SELECT id, token FROM t ORDER BY id LIMIT $1', [Number(half!.moved)])).toEqual(done);
    },
    TIMEOUT_MS,
  );

  it(
    'outlives an agent and a database that are restarted',
    async () => {
      await tables.fill('t', { rows: 3_000 });
      await tables.rotate();
      const running = tables.spawn('t', '--batch 50 --rate-limit 1500');
      await expect.poll(() => running.examined, { timeout: 60_000 }).toBeGreaterThan(300);
      await tables.server.kill();
      await tables.server.restart();
      await tables.place.stopAgent();
      await tables.place.startAgent();
      expect([await running.ended, running.stderr.replaceAll(/^\{"progress".*\n/gm, '')]).toEqual([
        0,
        expect.stringContaining('trying again'),
      ]);
      expect(JSON.parse(running.stdout)).toMatchObject({ moved: 3_000, failed: 0 });
      await expectDone('t', 3_000);
    },
    TIMEOUT_MS,
  );

  it('does an empty table, and an empty job schema of its own', async () => {
    await tables.fill('t', { rows: 0 });
    await tables.rotate();
    await sql('DROP SCHEMA IF EXISTS jobs CASCADE');
    await sql('CREATE SCHEMA jobs');
    expect(await tables.run('t', '--job-schema jobs')).toMatchObject({ code: 0, document: { moved: 0, examined: 0 } });
    expect(await sql('SELECT count(*) FROM jobs.dekd_reencrypt_job')).toEqual([{ count: '1' }]);
  });

  it.each([
    ['no such table', `--table nowhere --column token`, 2, /no table "nowhere"/],
    ['a table under another spelling', `--table T --column token`, 2, /small letters and capitals/],
    ['a name that is none', `--table a.b.c --column token`, 2, /is no name of a table/],
    ['an injection', `--table 't"; DROP TABLE t; --' --column token`, 2, /is no name of a table|no table/],
    ['no such column', `--table t --column nowhere`, 2, /no column "nowhere".*it has id, n, token/s],
    ['a column of another type', `--table t --column n`, 2, /column "n" is integer/],
    ['ids that tell nothing apart', `--table t --column token --id-column n`, 2, /no unique index over n/],
    ['a view', `--table v --column token`, 2, /is a view/],
    ['no column', `--table t`, 2, /no column is named/],
    ['files', `--table t --column token x.jsonl`, 2, /does not go with files/],
    ['a context field twice', `--table t --column token --context row=1 --context-column row=id`, 2, /given twice/],
    ['a column without a table', `--column token`, 2, /--column is of a database/],
    [
      'a password on the command line',
      `--table t --column token --pg postgres://u:secret@localhost/x`,
      2,
      /every user of the machine/,
    ],
    [
      'a role without rights',
      `--table t --column token --pg 'postgres://nobody@localhost:PORT/postgres?host=FOLDER'`,
      1,
      /does not let the role/,
    ],
    ['no database', `--table t --column token --pg postgres://u@127.0.0.1:1/x`, 1, /nothing listens there/],
  ])('refuses %s', async (_, options, exitCode, says) => {
    await sql('DROP VIEW IF EXISTS v');
    await tables.fill('t', { rows: 3 });
    await sql('CREATE VIEW v AS SELECT * FROM t');
    await sql(`DO $$ BEGIN CREATE ROLE nobody LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$`);
    const { server } = tables;
    const given = options.replace('PORT', `${server.port}`).replace('FOLDER', server.folder);
    const { code, stderr } = await tables.place.shell(`dekd reencrypt --key ${KEY} ${given}`);
    expect([code, stderr]).toEqual([exitCode, expect.stringMatching(says)]);
    expect(stderr).not.toContain('secret');
    await sql('DROP VIEW v');
  });

  it('gives up early where the command line is wrong for every row', async () => {
    await tables.fill('t', { rows: 500 });
    await tables.rotate();
    const { code, stderr } = await tables.place.shell(`dekd reencrypt --key ${KEY} --table t --column token`);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/no row opens: decryption failed/)]);
    expect(await tables.run('t')).toMatchObject({ code: 0, document: { moved: 500 } });
  });

  it('takes its database from a file, with a password that is nowhere to be seen', async () => {
    await tables.fill('t', { rows: 10 });
    await tables.rotate();
    await sql(
      `DO $$ BEGIN CREATE ROLE mover LOGIN PASSWORD 'pa ss'; EXCEPTION WHEN duplicate_object THEN NULL; END $$`,
    );
    await sql('DROP SCHEMA IF EXISTS jobs CASCADE');
    await sql('CREATE SCHEMA jobs AUTHORIZATION mover');
    await sql('GRANT SELECT, UPDATE (token) ON t TO mover');
    const file = join(tables.place.folder, 'database-url');
    writeFileSync(file, `postgres://mover:pa%20ss@127.0.0.1:${tables.server.port}/postgres\n`, { mode: 0o600 });
    expect(await tables.run('t', `--pg-url-file ${file} --job-schema jobs`)).toMatchObject({
      code: 0,
      document: { moved: 10 },
    });
    writeFileSync(file, `postgres://mover:wrong@127.0.0.1:${tables.server.port}/postgres\n`, { mode: 0o600 });
    const refused = await tables.run('t', `--pg-url-file ${file} --job-schema jobs`);
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringMatching(/refused the login/)]);
    expect(refused.stderr).not.toContain('wrong@');
  });
});
