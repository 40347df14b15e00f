import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, expectTypeOf, it } from 'vitest';
import { encryptedTable, pgTable } from '../../src/adapters/pg.ts';
import { type Ciphertext, connect } from '../../src/client/index.ts';
import type { DekdClient } from '../../src/client/types.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { canary, tracesBelow } from '../support/canary.ts';
import { countFrames, type FrameCounter } from '../support/frame-counter.ts';
import { describeOwnServer, PostgresServer } from '../support/postgres.ts';
import { refusedWith } from '../support/refusal.ts';

interface User {
  id: string;
  tenant: string;
  name: string;
  email: string | null;
  born: Date | null;
  notes: string[];
  extra: { [name: string]: string };
  picture: Uint8Array;
  counted: bigint;
  made: Date;
}

const TABLE = `CREATE TABLE app.users (id text PRIMARY KEY, tenant text NOT NULL DEFAULT 'acme', name text NOT NULL DEFAULT '',
  email text, born text, notes text[] NOT NULL DEFAULT '{}', extra jsonb, picture bytea, counted int8, made timestamptz)`;

/** Frames that typed fields make of some hundred rows, to encrypt some while the agent works on others. */
const FEW = 4;

let server: PostgresServer;
let agent: TestAgent;
let counter: FrameCounter;
let dekd: DekdClient;
let pool: pg.Pool;

function usersOf(client: DekdClient) {
  return pgTable<User>()(client, {
    table: 'app.users',
    key: 'people',
    columns: ['email', 'born', 'notes[]', 'extra'],
    identity: 'id',
    codecs: { born: 'date' },
  });
}
let users: ReturnType<typeof usersOf>;

describeOwnServer('tables of PostgreSQL with encrypted columns', () => {
  beforeAll(async () => {
    server = await PostgresServer.start();
    await server.sql('CREATE SCHEMA app');
    await server.sql(TABLE);
    pool = new pg.Pool({ host: server.folder, port: server.port, user: 'postgres', database: 'postgres', max: 3 });
    agent = await startTestAgent();
    counter = await countFrames(agent.socket);
    dekd = connect({ socket: counter.socket, lane: false });
    users = usersOf(dekd);
  }, 60_000);

  afterAll(async () => {
    await pool?.end();
    await dekd?.close();
    await counter?.stop();
    await agent?.stop();
    await server?.stop();
  });

  beforeEach(async () => {
    await pool.query('TRUNCATE app.users');
    await dekd.ping();
    counter.taken();
  });

  it('gives back what was inserted, whatever the types of the columns beside', async () => {
    const user: User = {
      id: 'u1',
      tenant: 'acme',
      name: 'O\'Hara \\ "x"',
      email: 'ada@example.org',
      born: new Date('1815-12-10T00:00:00Z'),
      notes: ['one', '', 'zwölf'],
      extra: { a: 'b' },
      picture: Buffer.from([0, 1, 254, 255]),
      counted: 9_007_199_254_740_993n,
      made: new Date('2026-01-02T03:04:05.678Z'),
    };
    expect(await users.insert(pool, [user])).toBe(1);
    const [found] = await users.query(pool, 'SELECT * FROM app.users WHERE id = $1', ['u1']);
    // int8 is text to pg.
    expect(found).toEqual({ ...user, counted: '9007199254740993' });
    const [stored] = await server.sql('SELECT email, born, notes, extra FROM app.users');
    for (const token of [stored!.email, stored!.born, stored!.extra, ...(stored!.notes as string[])]) {
      expect(token).toMatch(/^dk1\./);
    }
    expectTypeOf(found!).toEqualTypeOf<User>();
  });

  it('leaves NULL as NULL, and columns that a row does not name to their defaults', async () => {
    await users.insert(pool, [{ id: 'u1', email: null, extra: {} }]);
    expect(await users.query(pool, 'SELECT * FROM app.users WHERE email IS NULL')).toMatchObject([
      { id: 'u1', tenant: 'acme', email: null, born: null, notes: [], extra: {} },
    ]);
  });

  it('takes batches and one statement, whatever the number of rows', async () => {
    const rows = Array.from({ length: 500 }, (_, n) => ({ id: `u${n}`, email: `${n}@example.org`, notes: ['a'] }));
    let statements = 0;
    const counting = {
      query: (text: string, values?: unknown[]) => {
        statements += 1;
        return pool.query(text, values);
      },
    };
    expect(await users.insert(counting, rows)).toBe(500);
    expect(counter.taken()).toBeLessThanOrEqual(FEW);
    expect(statements).toBe(1);
    const found = await users.query(counting, 'SELECT id, email FROM app.users');
    expect(counter.taken()).toBeLessThanOrEqual(FEW);
    expect(statements).toBe(2);
    expect(found.find(({ id }) => id === 'u77')).toEqual({ id: 'u77', email: '77@example.org' });
    expect(
      await users.update(
        counting,
        rows.map(({ id }) => ({ id, email: `new ${id}` })),
      ),
    ).toBe(500);
    expect(counter.taken()).toBeLessThanOrEqual(FEW);
    expect(statements).toBe(3);
    const [one] = await users.query(pool, `SELECT * FROM app.users WHERE id = 'u499'`);
    expect(one).toMatchObject({ email: 'new u499', notes: ['a'] });
    expect(await users.insert(counting, [])).toBe(0);
    expect(await users.query(counting, 'SELECT * FROM app.users WHERE false')).toEqual([]);
    expect(await users.query(counting, 'SELECT name FROM app.users LIMIT 1')).toEqual([{ name: '' }]);
  });

  it('opens no value that was moved to another row or column, and passes nothing through', async () => {
    await users.insert(pool, [
      { id: 'u1', email: 'a', notes: ['x', 'y'] },
      { id: 'u2', email: 'b', notes: [] },
    ]);
    await pool.query(`UPDATE app.users SET email = (SELECT email FROM app.users WHERE id = 'u1') WHERE id = 'u2'`);
    expect(await refusedWith(users.query(pool, `SELECT * FROM app.users WHERE id = 'u2'`))).toContain(
      'DECRYPTION_FAILED',
    );
    await pool.query(`UPDATE app.users SET email = notes[1]`);
    expect(await refusedWith(users.query(pool, `SELECT * FROM app.users WHERE id = 'u1'`))).toContain(
      'DECRYPTION_FAILED',
    );
    await pool.query(`UPDATE app.users SET email = 'legacy'`);
    expect(await refusedWith(users.query(pool, `SELECT * FROM app.users WHERE id = 'u1'`))).toContain('MALFORMED');
  });

  it('needs the identity of a row wherever it has a value, and says so', async () => {
    expect(await refusedWith(users.insert(pool, [{ email: 'a' }]))).toBe(
      'INVALID_ARGUMENT: app.users.id is not known, and encrypted values are bound to it: give it when you write, select it when you read',
    );
    await users.insert(pool, [{ id: 'u1', email: 'a' }]);
    expect(await refusedWith(users.query(pool, 'SELECT email FROM app.users'))).toContain('app.users.id is not known');
  });

  it('refuses rows that name different columns, and updates that name no row', async () => {
    expect(
      await refusedWith(
        users.insert(pool, [
          { id: 'u1', email: 'a' },
          { id: 'u2', name: 'b' },
        ]),
      ),
    ).toContain('name the same columns');
    expect(await refusedWith(users.update(pool, [{ email: 'a' }]))).toContain('takes rows with id');
    expect(await refusedWith(users.update(pool, [{ id: 'u1' }]))).toContain('something to set');
    expect(counter.taken()).toBe(0);
  });

  it('quotes what it is given', async () => {
    const hostile = pgTable<{ id: string; 'a"; DROP': string }>()(dekd, {
      table: 'app.odd"; --',
      key: 'people',
      columns: ['a"; DROP'],
      identity: 'id',
    });
    await pool.query('CREATE TABLE app."odd""; --" (id text PRIMARY KEY, "a""; DROP" text)');
    await hostile.insert(pool, [{ id: '1', 'a"; DROP': 'value' }]);
    expect(await hostile.query(pool, 'SELECT * FROM app."odd""; --"')).toEqual([{ id: '1', 'a"; DROP': 'value' }]);
  });

  it('writes nothing when the agent is gone', async () => {
    const gone = connect({ socket: join(agent.folder, 'nobody.sock'), timeoutMs: 50 });
    expect(await refusedWith(usersOf(gone).insert(pool, [{ id: 'u1', email: 'a' }]))).toContain('AGENT_UNAVAILABLE');
    expect((await pool.query('SELECT * FROM app.users')).rowCount).toBe(0);
    await users.insert(pool, [{ id: 'u1', email: 'a' }]);
    expect(await refusedWith(usersOf(gone).query(pool, 'SELECT * FROM app.users'))).toContain('AGENT_UNAVAILABLE');
    await gone.close();
  });

  it('works on columns of type json, which the database compares with nothing', async () => {
    await pool.query('CREATE TABLE guarded (id text PRIMARY KEY, email json, email_index text)');
    const guarded = pgTable<{ id: string; email: string | null }>()(dekd, {
      table: 'guarded',
      key: 'people',
      columns: ['email'],
      identity: 'id',
    });
    await guarded.insert(pool, [
      { id: 'u1', email: 'a' },
      { id: 'u2', email: null },
    ]);
    await guarded.update(pool, [{ id: 'u1', email: 'b' }]);
    expect(await guarded.query(pool, 'SELECT * FROM guarded WHERE email IS NOT NULL')).toMatchObject([{ email: 'b' }]);
    for (const clause of ["WHERE email = 'b'", 'ORDER BY email', "WHERE email IN ('b')", "WHERE email LIKE 'b%'"]) {
      await expect(guarded.query(pool, `SELECT * FROM guarded ${clause}`)).rejects.toThrow(/operator|invalid input/);
    }
  });

  it('takes a client in a transaction, and is rolled back with it', async () => {
    const client = await pool.connect();
    await client.query('BEGIN');
    await users.insert(client, [{ id: 'u1', email: 'a' }]);
    expect(await users.query(client, 'SELECT id, email FROM app.users')).toEqual([{ id: 'u1', email: 'a' }]);
    await client.query('ROLLBACK');
    client.release();
    expect(await users.query(pool, 'SELECT * FROM app.users')).toEqual([]);
  });

  it('takes the tenant of a row for its partition, and a context of the application', async () => {
    const definition = {
      table: 'app.users',
      key: 'people',
      columns: ['email'],
      identity: ['tenant', 'id'],
      partition: ({ tenant }: { tenant: string }) => tenant,
      context: ({ id }: { id: string }) => ({ user: id }),
    } as const;
    const tenants = pgTable<User>()(dekd, definition);
    await tenants.insert(pool, [
      { id: 'u1', tenant: 'acme', email: 'a' },
      { id: 'u2', tenant: 'beta', email: 'b' },
    ]);
    expect(await tenants.query(pool, 'SELECT tenant, id, email FROM app.users ORDER BY id')).toMatchObject([
      { email: 'a' },
      { email: 'b' },
    ]);
    const [row] = await server.sql(`SELECT email FROM app.users WHERE id = 'u2'`);
    const binding = { key: 'people', partition: 'beta', context: { user: 'u2', field: 'email' } };
    expect(await dekd.decryptText(row!.email as string, binding)).toBe('"b"');
    await pool.query(`UPDATE app.users SET tenant = 'acme'`);
    expect(await refusedWith(tenants.query(pool, `SELECT tenant, id, email FROM app.users WHERE id = 'u2'`))).toContain(
      'DECRYPTION_FAILED',
    );
  });

  it('keeps what is encrypted apart from what is not, for the compiler', async () => {
    const table = encryptedTable<User>()(dekd, { table: 't', key: 'k', columns: ['email', 'notes[]'], identity: 'id' });
    const [row] = await table.encrypt([{ id: 'u1', email: 'a', notes: ['n'] }]);
    expectTypeOf(row!.email).toEqualTypeOf<Ciphertext<string> | null>();
    expectTypeOf(row!.notes).toEqualTypeOf<Ciphertext<string>[]>();
    expectTypeOf(row!.id).toEqualTypeOf<string>();
    const [back] = await table.decrypt([row!]);
    expectTypeOf(back!).toEqualTypeOf<Pick<User, 'id' | 'email' | 'notes'>>();
    expect(back).toEqual({ id: 'u1', email: 'a', notes: ['n'] });
    // @ts-expect-error a ciphertext is no text
    const text: string | null = row!.email;
    expect(text).toMatch(/^dk1\./);
    const define = encryptedTable<User>();
    // @ts-expect-error no such column
    define(dekd, { table: 't', key: 'k', columns: ['mail'], identity: 'id' });
    // @ts-expect-error no list
    define(dekd, { table: 't', key: 'k', columns: ['email[]'], identity: 'id' });
    expect(() =>
      // @ts-expect-error what identifies a row is said
      define(dekd, { table: 't', key: 'k', columns: ['email'] }),
    ).toThrow('t names no identity');
    expect(() => define(dekd, { table: 't', key: 'k', columns: [], identity: 'id' })).toThrow('no column to encrypt');
    expect(() => define(dekd, { table: 't', key: 'k', columns: ['id'], identity: 'id' })).toThrow(
      'cannot say which row',
    );
    expect(() => define(dekd, { table: 't', key: 'k', columns: ['notes', 'notes[]'], identity: 'id' })).toThrow(
      'named once',
    );
  });

  it('fills blind indexes with what they are of, and finds rows by them', async () => {
    await pool.query('CREATE TABLE members (tenant text, id text PRIMARY KEY, email text, email_index text)');
    const members = pgTable<{ tenant: string; id: string; email: string | null }>()(dekd, {
      table: 'members',
      key: 'people',
      columns: ['email'],
      identity: ['tenant', 'id'],
      partition: ({ tenant }) => tenant,
      indexes: { email_index: { of: 'email', key: 'people-index', normalise: 'email', bits: 64 } },
    });
    const rows = [
      { tenant: 'acme', id: 'u1', email: 'Ada@example.org' },
      { tenant: 'beta', id: 'u2', email: 'ada@example.org' },
      { tenant: 'acme', id: 'u3', email: null },
    ];
    await members.insert(pool, rows);
    const find = async (email: string, tenant: string) =>
      members.query(pool, 'SELECT id, tenant, email FROM members WHERE tenant = $2 AND email_index = $1', [
        await members.index('email_index', email, { partition: tenant }),
        tenant,
      ]);
    expect(await find('ADA@example.org', 'acme')).toEqual([rows[0]]);
    expect(await find('ada@example.org', 'beta')).toEqual([rows[1]]);
    const stored = await server.sql('SELECT email_index FROM members ORDER BY id');
    expect(stored[0]!.email_index).toMatch(/^[0-9a-f]{16}$/);
    // One value of two tenants has two indexes.
    expect(stored[1]!.email_index).not.toBe(stored[0]!.email_index);
    expect(stored[2]!.email_index).toBeNull();
    await members.update(pool, [{ tenant: 'acme', id: 'u1', email: 'new@example.org' }]);
    expect(await find('ada@example.org', 'acme')).toEqual([]);
    expect(await find('new@example.org', 'acme')).toHaveLength(1);
    await members.update(pool, [{ tenant: 'acme', id: 'u1', email: null }]);
    expect((await server.sql(`SELECT email_index FROM members WHERE id = 'u1'`))[0]!.email_index).toBeNull();
    const [encrypted] = await members.encrypt(rows);
    expectTypeOf(encrypted!.email_index).toEqualTypeOf<string | null | undefined>();
    expect(await refusedWith(members.index('email_index', 'a'))).toContain('say which to look in');
    // @ts-expect-error no such index
    expect(await refusedWith(members.index('mail_index', 'a'))).toContain("no index 'mail_index'");
    await pool.query(
      `ALTER TABLE members ADD mail text; UPDATE members SET mail = 'back@example.org', email = NULL WHERE id = 'u3'`,
    );
    expect(await members.backfill(pool, 'mail', 'email')).toBe(1);
    expect(await find('back@example.org', 'acme')).toMatchObject([{ id: 'u3', email: 'back@example.org' }]);
  });

  describe('a backfill', () => {
    const count = 230;

    beforeEach(async () => {
      await pool.query(
        'DROP TABLE IF EXISTS old; CREATE TABLE old (tenant text, id int, mail text, email text, PRIMARY KEY (tenant, id))',
      );
      await pool.query(
        `INSERT INTO old SELECT 't' || n % 3, n, CASE WHEN n % 10 > 0 THEN n || '@example.org' END FROM generate_series(1, ${count}) n`,
      );
    });

    const old = () =>
      pgTable<{ tenant: string; id: number; mail: string | null; email: string | null }>()(dekd, {
        table: 'old',
        key: 'people',
        columns: ['email'],
        identity: ['tenant', 'id'],
      });

    async function expectWhole(): Promise<void> {
      const rows = await old().query(pool, 'SELECT * FROM old');
      expect(rows).toHaveLength(count);
      for (const { mail, email } of rows) {
        expect(email).toBe(mail);
      }
    }

    it('encrypts a column into another, says how far it is, and finds nothing to do afterwards', async () => {
      const seen: [number, number][] = [];
      const done = await old().backfill(pool, 'mail', 'email', {
        rows: 50,
        onProgress: ({ done, total }) => void seen.push([done, total]),
      });
      expect(done).toBe(207);
      expect(seen).toEqual([50, 100, 150, 200, 207].map((so) => [so, 207]));
      expect(await old().backfill(pool, 'mail', 'email')).toBe(0);
      await expectWhole();
    });

    it('goes on where an interrupted one was', async () => {
      const stop = new AbortController();
      const broken = old().backfill(pool, 'mail', 'email', {
        rows: 20,
        signal: stop.signal,
        onProgress: () => stop.abort(),
      });
      await expect(broken).rejects.toThrow('aborted');
      expect(await old().backfill(pool, 'mail', 'email', { rows: 20 })).toBe(187);
      await expectWhole();
    });

    it('never writes the value of before into a row that changed meanwhile', async () => {
      let changed = 0;
      const meddling = {
        query: async (text: string, values?: unknown[]) => {
          if (text.startsWith('UPDATE') && changed++ % 2 === 0) {
            await pool.query(
              `UPDATE old SET mail = 'new ' || ${changed} || id WHERE id % 7 = 1 AND mail IS NOT NULL AND email IS NULL`,
            );
          }
          return pool.query(text, values);
        },
      };
      expect(await old().backfill(meddling, 'mail', 'email', { rows: 60 })).toBe(207);
      await expectWhole();
      const renewed = await old().query(pool, `SELECT * FROM old WHERE mail LIKE 'new%'`);
      expect(renewed.length).toBeGreaterThan(20);
    });

    it('shares the rows among several at once', async () => {
      const done = await Promise.all([20, 35, 60].map((rows) => old().backfill(pool, 'mail', 'email', { rows })));
      expect(done.reduce((sum, one) => sum + one)).toBe(207);
      await expectWhole();
    });

    it('gives up on rows that cannot be changed, and refuses what makes no sense', async () => {
      await pool.query(`CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER keep BEFORE UPDATE ON old FOR EACH ROW EXECUTE FUNCTION keep()`);
      for (const rows of [10, 207, 500]) {
        expect(await refusedWith(old().backfill(pool, 'mail', 'email', { rows }))).toContain('CONFLICT: 207 rows');
      }
      await pool.query('DROP TABLE old; DROP FUNCTION keep');
      expect(await refusedWith(old().backfill(pool, 'email', 'email'))).toContain('INVALID_ARGUMENT');
      expect(await refusedWith(old().backfill(pool, 'email', 'mail'))).toContain('INVALID_ARGUMENT');
      expect(await refusedWith(old().backfill(pool, 'mail', 'email', { rows: 0 }))).toContain('INVALID_ARGUMENT');
    });
  });

  it('leaves no trace of a plaintext in the files of the server', async () => {
    const texts = ['email', 'note', 'extra', 'changed'].map(canary);
    const [email, note, extra, changed] = texts as [string, string, string, string];
    await users.insert(pool, [{ id: 'u1', email, notes: [note], extra: { [extra]: extra } }]);
    await users.update(pool, [{ id: 'u1', email: changed }]);
    const control = canary('control');
    await users.update(pool, [{ id: 'u1', name: control }]);
    await pool.query('CHECKPOINT');
    expect(tracesBelow(server.data, [control])).not.toEqual([]);
    expect(tracesBelow(server.data, texts)).toEqual([]);
  });
});
