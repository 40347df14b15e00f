import { join } from 'node:path';
import {
  CamelCasePlugin,
  type Generated,
  Kysely,
  type KyselyPlugin,
  type PluginTransformResultArgs,
  PostgresDialect,
  type RootOperationNode,
  sql,
} from 'kysely';
import { jsonArrayFrom } from 'kysely/helpers/postgres';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, expectTypeOf, it } from 'vitest';
import { type EncryptedColumn, encryptedTable, encryptedTables } from '../../src/adapters/kysely.ts';
import { connect } from '../../src/client/index.ts';
import type { DekdClient } from '../../src/client/types.ts';
import { DekdError } from '../../src/errors.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { canary, tracesBelow } from '../support/canary.ts';
import { countFrames, type FrameCounter } from '../support/frame-counter.ts';
import { describeOwnServer, PostgresServer } from '../support/postgres.ts';
import { refusedWith } from '../support/refusal.ts';

interface Database {
  users: {
    id: string;
    name: string | null;
    email: EncryptedColumn<string | null>;
    email_index: string | null;
    notes: EncryptedColumn<string[] | null>;
  };
  posts: { id: Generated<number>; slug: string; user_id: string; body: EncryptedColumn<string>; email: string | null };
  plain: { id: number; email: string };
}

interface User {
  id: string;
  name: string | null;
  email: string | null;
  notes: string[] | null;
}

const TABLES = `
CREATE TABLE users (id text PRIMARY KEY, name text, email text, email_index text, notes text[]);
CREATE TABLE posts (id serial PRIMARY KEY, slug text UNIQUE NOT NULL, user_id text NOT NULL, body text NOT NULL, email text);
CREATE TABLE plain (id int PRIMARY KEY, email text);
`;

let server: PostgresServer;
let agent: TestAgent;
let counter: FrameCounter;
let dekd: DekdClient;
let db: Kysely<Database>;
let stored: Kysely<Record<string, Record<string, unknown>>>;

function tablesOf(client: DekdClient) {
  return {
    users: encryptedTable<User>()(client, {
      table: 'users',
      key: 'people',
      columns: ['email', 'notes[]'],
      identity: 'id',
    }),
    posts: encryptedTable<{ slug: string; user_id: string; body: string }>()(client, {
      table: 'posts',
      key: 'posts',
      columns: ['body'],
      identity: 'slug',
    }),
  };
}
let users: ReturnType<typeof tablesOf>['users'];
let posts: ReturnType<typeof tablesOf>['posts'];

/** Frames that typed fields make of some hundred rows, to encrypt some while the agent works on others. */
const FEW = 4;

async function addUsers(...rows: Partial<User>[]): Promise<void> {
  const whole = rows.map((row) => ({ id: '', name: null, email: null, notes: null, ...row }));
  await db
    .insertInto('users')
    .values(await users.encrypt(whole))
    .execute();
}

describeOwnServer('Kysely with encrypted columns', () => {
  beforeAll(async () => {
    server = await PostgresServer.start();
    const admin = await server.admin();
    await admin.query(TABLES);
    await admin.end();
    agent = await startTestAgent();
    counter = await countFrames(agent.socket);
    dekd = connect({ socket: counter.socket, lane: false });
    ({ users, posts } = tablesOf(dekd));
    const pool = new pg.Pool({
      host: server.folder,
      port: server.port,
      user: 'postgres',
      database: 'postgres',
      max: 3,
    });
    const dialect = new PostgresDialect({ pool });
    db = new Kysely<Database>({ dialect, plugins: [encryptedTables([users, posts])] });
    stored = new Kysely({ dialect });
  }, 60_000);

  afterAll(async () => {
    await db?.destroy();
    await dekd?.close();
    await counter?.stop();
    await agent?.stop();
    await server?.stop();
  });

  beforeEach(async () => {
    await sql`TRUNCATE users, posts, plain`.execute(stored);
    await dekd.ping();
    counter.taken();
  });

  it('gives back what was written, and the database has ciphertexts', async () => {
    await addUsers({ id: 'u1', name: 'Ada', email: 'ada@example.org', notes: ['one', 'two'] }, { id: 'u2' });
    const found = await db.selectFrom('users').selectAll().orderBy('id').execute();
    expect(found).toEqual([
      { id: 'u1', name: 'Ada', email: 'ada@example.org', email_index: null, notes: ['one', 'two'] },
      { id: 'u2', name: null, email: null, email_index: null, notes: null },
    ]);
    expectTypeOf(found[0]!.email).toEqualTypeOf<string | null>();
    const [row] = await stored.selectFrom('users').selectAll().where('id', '=', 'u1').execute();
    for (const token of [row!.email, ...(row!.notes as string[])]) {
      expect(token).toMatch(/^dk1\.[\w-]{78,}$/);
    }
  });

  it('decrypts under aliases, in joins, and in what writes return', async () => {
    await addUsers({ id: 'u1', email: 'a' }, { id: 'boss', email: 'b' });
    const rows = await posts.encrypt([{ slug: 's1', user_id: 'u1', body: 'text' }]);
    expect(await db.insertInto('posts').values(rows).returning(['slug', 'body as said']).execute()).toEqual([
      { slug: 's1', said: 'text' },
    ]);
    const joined = await db
      .selectFrom('posts as p')
      .innerJoin('users as u', 'u.id', 'p.user_id')
      .leftJoin('users as other', (join) => join.onRef('other.id', '=', 'p.email'))
      .select([
        'p.slug as key',
        'body',
        'u.id as uid',
        'u.email as mail',
        'other.id as oid',
        'other.email as omail',
        'p.email',
      ])
      .execute();
    expect(joined).toEqual([{ key: 's1', body: 'text', uid: 'u1', mail: 'a', oid: null, omail: null, email: null }]);
    const [changed] = await users.encrypt([{ id: 'u1', email: 'c' }]);
    const update = db.updateTable('users').set({ email: changed!.email }).where('id', '=', 'u1');
    expect(await update.returning(['id', 'email']).executeTakeFirst()).toEqual({ id: 'u1', email: 'c' });
    expect(await db.deleteFrom('users').where('id', '=', 'u1').returningAll().execute()).toMatchObject([
      { email: 'c' },
    ]);
    expect(await db.selectFrom('users').selectAll('users').execute()).toMatchObject([{ email: 'b' }]);
  });

  it('takes batches, whatever the number of rows', async () => {
    await addUsers(...Array.from({ length: 400 }, (_, n) => ({ id: `u${n}`, email: `${n}`, notes: ['a'] })));
    expect(counter.taken()).toBeLessThanOrEqual(FEW);
    const found = await db.selectFrom('users').selectAll().execute();
    expect(counter.taken()).toBeLessThanOrEqual(FEW);
    expect(found.find(({ id }) => id === 'u7')).toMatchObject({ email: '7', notes: ['a'] });
    await db.selectFrom('users').select(['name']).execute();
    await db.selectFrom('users').selectAll().where('id', '=', 'none').execute();
    expect(counter.taken()).toBe(0);
  });

  it('refuses whatever would compute with a ciphertext, before it is sent', async () => {
    const from = () => db.selectFrom('users').select('name');
    const refused: (() => Promise<unknown>)[] = [
      () => from().where('email', '=', 'a').execute(),
      () => from().where('users.email', 'in', ['a']).execute(),
      () =>
        from()
          .where((eb) => eb.or([eb('name', '=', 'x'), eb('email', 'like', 'a%')]))
          .execute(),
      () =>
        from()
          .where((eb) => eb.not(eb('email', '=', 'a')))
          .execute(),
      () => from().where('email', 'is', 'a').execute(),
      () => from().whereRef('email', '=', 'name').execute(),
      () => from().orderBy('email').execute(),
      () => from().groupBy(['name', 'email']).execute(),
      () => from().distinctOn('email').execute(),
      () => from().having('email', '=', 'a').execute(),
      () =>
        db
          .selectFrom('users')
          .select((eb) => eb.fn.max('email').as('m'))
          .execute(),
      () =>
        db
          .selectFrom('users')
          .select(sql<string>`upper(${sql.ref('email')})`.as('m'))
          .execute(),
      () => db.selectFrom('users as u').select('name').where('u.email', '=', 'a').execute(),
      () => db.selectFrom('posts').innerJoin('users', 'users.email', 'posts.email').select('slug').execute(),
      () => db.updateTable('users').set({ name: 'x' }).where('email', '=', 'a').execute(),
      () => db.deleteFrom('users').where('email', '=', 'a').execute(),
      () =>
        db
          .updateTable('users')
          .set((eb) => ({ name: eb.ref('email') }))
          .where('id', '=', 'x')
          .execute(),
      () =>
        from()
          .where((eb) => eb.exists(eb.selectFrom('plain').select('id').whereRef('plain.email', '=', 'users.email')))
          .execute(),
      () =>
        db
          .with('w', (q) => q.selectFrom('users').select('name').where('email', '=', 'a'))
          .selectFrom('w')
          .selectAll()
          .execute(),
      () => sql`select * from (${db.selectFrom('users').select('name').where('email', '=', 'a')}) t`.execute(db),
    ];
    for (const call of refused) {
      expect(await refusedWith(call)).toMatch(
        /^INVALID_ARGUMENT: '(users\.)?email' is|^INVALID_ARGUMENT: 'users\.email' is encrypted/,
      );
    }
    expect(counter.taken()).toBe(0);
    expect(await from().where('email', 'is not', null).where('email_index', '=', 'x').execute()).toEqual([]);
    expect(await db.selectFrom('plain').selectAll().where('email', '=', 'x').orderBy('email').execute()).toEqual([]);
    expect(await db.selectFrom('posts').select('slug').where('posts.email', '=', 'x').execute()).toEqual([]);
    const inner = db
      .selectFrom('users')
      .select('name')
      .where((eb) => eb.exists(eb.selectFrom('posts').select('slug').where('posts.email', '=', 'x')));
    expect(await inner.execute()).toEqual([]);
  });

  it('knows its tables with and without their schema', async () => {
    await addUsers({ id: 'u1', email: 'a' });
    const named = db.withSchema('public');
    expect(await named.selectFrom('users').select(['id', 'email']).execute()).toEqual([{ id: 'u1', email: 'a' }]);
    expect(
      await refusedWith(() => named.selectFrom('users').select('id').where('email', '=', 'a').execute()),
    ).toContain('is encrypted');
    const other = new Kysely<{ 'public.users': Database['users']; 'other.users': Database['users'] }>({
      dialect: new PostgresDialect({ pool: new pg.Pool({ host: server.folder, port: server.port, user: 'postgres' }) }),
      plugins: [
        encryptedTables([
          encryptedTable<User>()(dekd, {
            table: 'public.users',
            key: 'people',
            columns: ['email'],
            identity: 'id',
            context: ({ id }) => ({ table: 'users', id }),
          }),
        ]),
      ],
    });
    const found = other.selectFrom('public.users').select(['public.users.id', 'email']);
    expect(await found.execute()).toEqual([{ id: 'u1', email: 'a' }]);
    const unnamed = other.withTables<{ users: Database['users'] }>().selectFrom('users').select(['id', 'email']);
    expect(await unnamed.execute()).toEqual([{ id: 'u1', email: 'a' }]);
    await expect(other.selectFrom('other.users').select('email').execute()).rejects.toThrow('does not exist');
    await other.destroy();
  });

  it('refuses to select a ciphertext where it could not be decrypted', async () => {
    const outermost = 'is selected in the outermost query only';
    expect(await refusedWith(() => db.selectFrom('users').select('email').execute())).toContain(
      "is bound to 'id' of its row",
    );
    const nested: (() => Promise<unknown>)[] = [
      () =>
        db
          .selectFrom((eb) => eb.selectFrom('users').select(['id', 'email']).as('s'))
          .selectAll()
          .execute(),
      () =>
        db
          .with('w', (q) => q.selectFrom('users').selectAll())
          .selectFrom('w')
          .selectAll()
          .execute(),
      () =>
        db
          .selectFrom('plain')
          .select((eb) => eb.selectFrom('users').select('email').as('e'))
          .execute(),
      () =>
        db
          .selectFrom('plain')
          .select((eb) => jsonArrayFrom(eb.selectFrom('users').select(['users.id', 'users.email'])).as('all'))
          .execute(),
      () =>
        db
          .selectFrom('plain')
          .select('email')
          .unionAll(db.selectFrom('users').select(['id', 'email']).$castTo<{ email: string }>())
          .execute(),
    ];
    for (const call of nested) {
      expect(await refusedWith(call)).toContain(outermost);
    }
    expect(
      await refusedWith(() =>
        db.selectFrom('users').innerJoin('posts', 'posts.user_id', 'users.id').selectAll().execute(),
      ),
    ).toContain('select the columns of each');
  });

  it('refuses plaintext in an encrypted column, and values that belong to no row', async () => {
    const takes = "'users.email' takes ciphertexts";
    // biome-ignore lint/suspicious/noExplicitAny: what the types refuse
    const loose = db as Kysely<any>;
    expect(await refusedWith(() => loose.insertInto('users').values({ id: 'u1', email: 'plain' }).execute())).toContain(
      takes,
    );
    expect(
      await refusedWith(() =>
        loose
          .insertInto('users')
          .values([
            { id: 'u1', email: null },
            { id: 'u2', email: sql`lower('X')` },
          ])
          .execute(),
      ),
    ).toContain('cannot be written from an expression');
    expect(await refusedWith(() => loose.updateTable('users').set({ email: 'plain' }).execute())).toContain(takes);
    expect(await refusedWith(() => loose.updateTable('users').set('email', sql.ref('name')).execute())).toContain(
      'from an expression',
    );
    expect(
      await refusedWith(() =>
        loose
          .insertInto('users')
          .columns(['id', 'email'])
          .expression(loose.selectFrom('plain').select(['id', 'email']))
          .execute(),
      ),
    ).toContain('from an expression or another query');
    // @ts-expect-error the type of the column takes ciphertexts
    const values = { id: 'u1', email: 'plain' } satisfies {
      id: string;
      email: Parameters<typeof users.decrypt>[0][0]['email'];
    };
    expect(values.id).toBe('u1');
    expect(await stored.selectFrom('users').selectAll().execute()).toEqual([]);
  });

  it('lets a conflict replace a value in its own row only', async () => {
    await addUsers({ id: 'u1', email: 'a' });
    const [row] = await users.encrypt([{ id: 'u1', name: 'Ada', email: 'b', notes: null }]);
    await db
      .insertInto('users')
      .values(row!)
      .onConflict((conflict) => conflict.column('id').doUpdateSet((eb) => ({ email: eb.ref('excluded.email') })))
      .execute();
    expect(await db.selectFrom('users').select(['id', 'email']).execute()).toEqual([{ id: 'u1', email: 'b' }]);
    expect(
      await refusedWith(() =>
        db
          .insertInto('users')
          .values(row!)
          .onConflict((conflict) =>
            conflict.column('email_index').doUpdateSet((eb) => ({ email: eb.ref('excluded.email') })),
          )
          .execute(),
      ),
    ).toContain('from an expression');
    expect(
      await refusedWith(() =>
        db
          .insertInto('users')
          .values(row!)
          .onConflict((conflict) => conflict.column('email').doNothing())
          .execute(),
      ),
    ).toContain('has no conflicts');
  });

  it('opens no value that was moved to another row or column, and passes nothing through', async () => {
    await addUsers({ id: 'u1', email: 'a', notes: ['n'] }, { id: 'u2', email: 'b' });
    await sql`UPDATE users SET email = (SELECT email FROM users WHERE id = 'u1') WHERE id = 'u2'`.execute(stored);
    const one = (id: string) => db.selectFrom('users').selectAll().where('id', '=', id).execute();
    expect(await refusedWith(one('u2'))).toContain('DECRYPTION_FAILED');
    await sql`UPDATE users SET email = notes[1] WHERE id = 'u1'`.execute(stored);
    expect(await refusedWith(one('u1'))).toContain('DECRYPTION_FAILED');
    await sql`UPDATE users SET email = 'legacy' WHERE id = 'u1'`.execute(stored);
    expect(await refusedWith(one('u1'))).toContain('MALFORMED');
  });

  it('works beside the plugin for camel case, before it and after it, and says what it cannot find', async () => {
    const columns = (email: string) =>
      encryptedTable<Record<string, string>>()(dekd, {
        table: 'users',
        key: 'people',
        columns: [email],
        identity: 'id',
      });
    const pool = new pg.Pool({
      host: server.folder,
      port: server.port,
      user: 'postgres',
      database: 'postgres',
      max: 1,
    });
    const dialect = new PostgresDialect({ pool });
    interface Camel {
      users: { id: string; emailIndex: EncryptedColumn<string | null> };
    }
    const camel = new CamelCasePlugin();
    const rename = {
      transformQuery: ({ node }: { node: RootOperationNode }) => node,
      transformResult: async ({ result }: PluginTransformResultArgs) => ({
        ...result,
        rows: result.rows.map(({ id, ...rest }) => ({ id, changed: Object.values(rest)[0] })),
      }),
    };
    for (const [name, order] of [
      ['email_index', (plugin: KyselyPlugin) => [camel, plugin]],
      ['emailIndex', (plugin: KyselyPlugin) => [plugin, camel]],
    ] as const) {
      const table = columns(name);
      const camelDb = new Kysely<Camel>({ dialect, plugins: order(encryptedTables([table])) });
      await stored.deleteFrom('users').execute();
      const [row] = await table.encrypt([{ id: 'u1', [name]: 'a' }]);
      await camelDb
        .insertInto('users')
        .values({ id: 'u1', emailIndex: row![name] as never })
        .execute();
      const select = camelDb.selectFrom('users').select(['id', 'emailIndex']);
      expect(await select.execute()).toEqual([{ id: 'u1', emailIndex: 'a' }]);
      const renamed = new Kysely<Camel>({ dialect, plugins: [rename, ...order(encryptedTables([table]))] });
      expect(await refusedWith(renamed.selectFrom('users').select(['id', 'emailIndex']).execute())).toContain(
        'renames columns',
      );
    }
    await pool.end();
  });

  it('writes nothing when the agent is gone, and is rolled back with its transaction', async () => {
    const gone = connect({ socket: join(agent.folder, 'nobody.sock'), timeoutMs: 50 });
    const without = tablesOf(gone);
    expect(await refusedWith(without.users.encrypt([{ id: 'u1', email: 'a' }]))).toContain('AGENT_UNAVAILABLE');
    await gone.close();
    const failing = db.transaction().execute(async (trx) => {
      await trx
        .insertInto('users')
        .values(await users.encrypt([{ id: 'u1', name: null, email: 'a', notes: null }]))
        .execute();
      expect(await trx.selectFrom('users').select(['id', 'email']).execute()).toEqual([{ id: 'u1', email: 'a' }]);
      throw new DekdError('CONFLICT', 'on purpose');
    });
    expect(await refusedWith(failing)).toContain('on purpose');
    expect(await stored.selectFrom('users').selectAll().execute()).toEqual([]);
  });

  it('leaves no trace of a plaintext in the files of the server', async () => {
    const texts = ['email', 'note', 'filter'].map(canary);
    const [email, note, filter] = texts as [string, string, string];
    await addUsers({ id: 'u1', email, notes: [note], name: canary('control') });
    expect(await refusedWith(() => db.selectFrom('users').selectAll().where('email', '=', filter).execute())).toContain(
      'INVALID',
    );
    await sql`CHECKPOINT`.execute(stored);
    expect(tracesBelow(server.data, [canary('control')])).not.toEqual([]);
    expect(tracesBelow(server.data, texts)).toEqual([]);
  });
});
