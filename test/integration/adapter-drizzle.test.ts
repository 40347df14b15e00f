import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { and, eq, gt, inArray, isNotNull, isNull, like, relations, sql } from 'drizzle-orm';
import { drizzle as drizzlePg, type NodePgDatabase } from 'drizzle-orm/node-postgres';
import { pgTable, text } from 'drizzle-orm/pg-core';
import { sqliteTable, text as sqliteText } from 'drizzle-orm/sqlite-core';
import { drizzle as drizzleSqlite } from 'drizzle-orm/sqlite-proxy';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, expectTypeOf, it } from 'vitest';
import {
  ciphertextColumn,
  encryptedJson,
  encryptedTable,
  encryptedText,
  refuseFilters,
  sqliteEncryptedJson,
  sqliteEncryptedText,
} from '../../src/adapters/drizzle.ts';
import { connect, connectSync, type DekdSyncClient } from '../../src/client/index.ts';
import type { DekdClient } from '../../src/client/types.ts';
import { DekdError } from '../../src/errors.ts';
import { type ChildAgent, spawnTestAgent } from '../support/agent.ts';
import { canary, formsFound, tracesBelow } from '../support/canary.ts';
import { describeOwnServer, PostgresServer } from '../support/postgres.ts';

const folder = mkdtempSync(join(tmpdir(), 'dekd-drizzle-'));
const socket = join(folder, 's/agent.sock');
/** In a process of its own: while a synchronous call waits, nothing in this thread answers. */
let agent: ChildAgent;
let dekd: DekdSyncClient;

beforeAll(async () => {
  agent = await spawnTestAgent(socket);
  dekd = connectSync({ socket });
}, 60_000);

afterAll(async () => {
  dekd?.close();
  agent?.child.kill('SIGTERM');
  await agent?.exited;
  rmSync(folder, { recursive: true, force: true });
});

type Json = { readonly theme: string; readonly sizes: readonly number[] };

/** The DekdError that a call of Drizzle came to, which may have put its own around it. */
async function codeOf(call: PromiseLike<unknown> | (() => PromiseLike<unknown>)): Promise<string> {
  try {
    await (typeof call === 'function' ? call() : call);
  } catch (thrown) {
    const error = DekdError.is(thrown) ? thrown : (thrown as Error).cause;
    if (DekdError.is(error)) {
      return `${error.code}: ${error.message}`;
    }
    throw thrown;
  }
  throw new Error('was not refused');
}

function schemaOf(client: Pick<DekdSyncClient, 'encryptText' | 'decryptText'>) {
  const binding = (column: string) => ({ key: 'people', table: 'users', column });
  const users = pgTable('users', {
    id: text('id').primaryKey(),
    name: text('name'),
    email: encryptedText(client, binding('email')),
    settings: encryptedJson<Json>(client, binding('settings')),
    sealed: ciphertextColumn<string>('sealed'),
  });
  const posts = pgTable('posts', {
    slug: text('slug').primaryKey(),
    userId: text('user_id').notNull(),
    body: encryptedText(client, { key: 'posts', table: 'posts', column: 'body' }).notNull(),
  });
  const usersRelations = relations(users, ({ many }) => ({ posts: many(posts) }));
  const postsRelations = relations(posts, ({ one }) => ({
    user: one(users, { fields: [posts.userId], references: [users.id] }),
  }));
  return { users, posts, usersRelations, postsRelations };
}
type Schema = ReturnType<typeof schemaOf>;

describeOwnServer('Drizzle on PostgreSQL with encrypted columns', () => {
  let server: PostgresServer;
  let pool: pg.Pool;
  let schema: Schema;
  let db: NodePgDatabase<Schema>;

  beforeAll(async () => {
    server = await PostgresServer.start();
    pool = new pg.Pool({ host: server.folder, port: server.port, user: 'postgres', database: 'postgres', max: 3 });
    schema = schemaOf(dekd);
    db = drizzlePg(pool, { schema });
    const type = (column: { getSQLType(): string }) => column.getSQLType();
    const { users, posts } = schema;
    await pool.query(`CREATE TABLE users (id text PRIMARY KEY, name text, email ${type(users.email)},
      settings ${type(users.settings)}, sealed ${type(users.sealed)})`);
    await pool.query(
      `CREATE TABLE posts (slug text PRIMARY KEY, user_id text NOT NULL, body ${type(posts.body)} NOT NULL)`,
    );
  }, 60_000);

  afterAll(async () => {
    await pool?.end();
    await server?.stop();
  });

  beforeEach(async () => {
    await pool.query('TRUNCATE users, posts');
  });

  it('gives back what was written, and the database has ciphertexts', async () => {
    const { users } = schema;
    const settings = { theme: 'dark', sizes: [1, 2.5] };
    const [made] = await db
      .insert(users)
      .values({ id: 'u1', name: 'Ada', email: 'ada@example.org', settings })
      .returning();
    expect(made).toEqual({ id: 'u1', name: 'Ada', email: 'ada@example.org', settings, sealed: null });
    expectTypeOf(made!.email).toEqualTypeOf<string | null>();
    expectTypeOf(made!.settings).toEqualTypeOf<Json | null>();
    expect(await db.select().from(users)).toEqual([made]);
    const [row] = (await pool.query('SELECT email, settings FROM users')).rows;
    expect(row.email).toMatch(/^dk1\.[\w-]{78,}$/);
    expect(row.settings).toMatch(/^dk1\./);
    await db.update(users).set({ email: 'new', settings: null }).where(eq(users.id, 'u1'));
    expect(await db.select({ mail: users.email, settings: users.settings }).from(users)).toEqual([
      { mail: 'new', settings: null },
    ]);
  });

  it('leaves NULL as NULL, and lets a query ask for it', async () => {
    const { users } = schema;
    await db.insert(users).values([{ id: 'u1' }, { id: 'u2', email: '' }]);
    expect(await db.select({ id: users.id }).from(users).where(isNull(users.email))).toEqual([{ id: 'u1' }]);
    expect(await db.select({ id: users.id }).from(users).where(isNotNull(users.email))).toEqual([{ id: 'u2' }]);
  });

  it('decrypts in joins and in relational queries', async () => {
    const { users, posts } = schema;
    await db.insert(users).values({ id: 'u1', email: 'a' });
    await db.insert(posts).values([
      { slug: 's1', userId: 'u1', body: 'one' },
      { slug: 's2', userId: 'u1', body: 'two' },
    ]);
    expect(
      await db
        .select({ email: users.email, body: posts.body })
        .from(posts)
        .leftJoin(users, eq(users.id, posts.userId))
        .where(eq(posts.slug, 's2')),
    ).toEqual([{ email: 'a', body: 'two' }]);
    expect(
      await db.query.users.findFirst({ with: { posts: { orderBy: (post, { asc }) => asc(post.slug) } } }),
    ).toMatchObject({ email: 'a', posts: [{ body: 'one' }, { body: 'two' }] });
  });

  it('is bound to table and column, as typed fields are', async () => {
    const { users } = schema;
    await db.insert(users).values({ id: 'u1', email: 'a' });
    const [row] = (await pool.query('SELECT email FROM users')).rows;
    expect(dekd.decryptText(row.email, { key: 'people', context: { table: 'users', field: 'email' } })).toBe('"a"');
    await pool.query('UPDATE users SET settings = email');
    expect(await codeOf(db.select().from(users))).toContain('DECRYPTION_FAILED');
  });

  it('opens a value that was moved to another row: a column is not told its row', async () => {
    const { users } = schema;
    await db.insert(users).values([
      { id: 'u1', email: 'a' },
      { id: 'u2', email: 'b' },
    ]);
    await pool.query(`UPDATE users SET email = (SELECT email FROM users WHERE id = 'u1')`);
    expect(await db.select({ email: users.email }).from(users)).toEqual([{ email: 'a' }, { email: 'a' }]);
  });

  it('takes ciphertexts of a table, bound to their row and made in one batch', async () => {
    const { users } = schema;
    await using client: DekdClient = connect({ socket });
    const table = encryptedTable<{ id: string; sealed: string | null }>()(client, {
      table: 'users',
      key: 'people',
      columns: ['sealed'],
      identity: 'id',
    });
    const rows = Array.from({ length: 300 }, (_, n) => ({ id: `u${n}`, sealed: `secret ${n}` }));
    await db.insert(users).values(await table.encrypt(rows));
    const found = await table.decrypt(await db.select({ id: users.id, sealed: users.sealed }).from(users));
    expect(found).toEqual(rows);
    await pool.query(`UPDATE users SET sealed = (SELECT sealed FROM users WHERE id = 'u1') WHERE id = 'u2'`);
    const moved = db.select({ id: users.id, sealed: users.sealed }).from(users).where(eq(users.id, 'u2'));
    expect(await codeOf(moved.then((some) => table.decrypt(some)))).toContain('DECRYPTION_FAILED');
    // @ts-expect-error plaintext is no ciphertext
    const plaintext: typeof users.$inferInsert = { id: 'p', sealed: 'plaintext' };
    expect(await codeOf(db.insert(users).values(plaintext))).toContain('MALFORMED');
  });

  it('compares no ciphertext: the database refuses, and nothing is an answer', async () => {
    const { users } = schema;
    await db.insert(users).values({ id: 'u1', email: 'a' });
    const select = () => db.select({ id: users.id }).from(users);
    for (const query of [
      select().where(eq(users.email, 'a')),
      select().where(inArray(users.email, ['a'])),
      select().where(gt(users.email, 'a')),
      select().where(like(users.email, 'a%')),
      select().where(sql`${users.email} = ${'a'}`),
      select().orderBy(users.email),
      select().groupBy(users.email, users.id),
      db.selectDistinct({ email: users.email }).from(users),
      db.query.users.findMany({ where: (user, { eq: same }) => same(user.email, 'a') }),
    ]) {
      const error = await query.then(
        () => undefined,
        (thrown: Error) => thrown,
      );
      expect((error!.cause as Error).message).toMatch(/operator|equality|ordering/);
    }
  });

  it('refuses conditions with a reason, when it is told to', async () => {
    const guarded = refuseFilters(schemaOf(dekd).users);
    const refused = "INVALID_ARGUMENT: 'email' is encrypted and cannot be filtered by: for equality keep a blind index";
    const select = () => db.select({ id: guarded.id }).from(guarded);
    expect(await codeOf(() => select().where(eq(guarded.email, 'a')))).toContain(refused);
    expect(await codeOf(() => select().where(and(eq(guarded.id, 'x'), inArray(guarded.email, ['a']))))).toContain(
      refused,
    );
    expect(await codeOf(() => db.update(guarded).set({ name: 'x' }).where(eq(guarded.email, 'a')))).toContain(refused);
    await db.insert(guarded).values({ id: 'u1', email: 'a' });
    await db.update(guarded).set({ email: 'b' }).where(eq(guarded.id, 'u1'));
    await db
      .insert(guarded)
      .values({ id: 'u1', email: 'c' })
      .onConflictDoUpdate({ target: guarded.id, set: { email: 'd' } });
    expect(await db.select({ email: guarded.email }).from(guarded).where(isNotNull(guarded.email))).toEqual([
      { email: 'd' },
    ]);
    expect(await db.select().from(guarded)).toMatchObject([{ email: 'd' }]);
  });

  it('passes nothing through that is no ciphertext, and writes only what it encrypts', async () => {
    const { users } = schema;
    await pool.query(`INSERT INTO users (id, email) VALUES ('u1', '"legacy"')`);
    expect(await codeOf(db.select().from(users))).toContain('MALFORMED');
    await pool.query(`UPDATE users SET email = '{"a": 1}'`);
    expect(await codeOf(db.select().from(users))).toContain('MALFORMED');
    const wrong = { id: 'u2', email: 5 } as unknown as typeof users.$inferInsert;
    expect(await codeOf(db.insert(users).values(wrong))).toContain('users.email takes a string');
    const json = dekd.encryptText('{"a":1}', { key: 'people', context: { table: 'users', field: 'email' } });
    await pool.query('UPDATE users SET email = $1', [JSON.stringify(json)]);
    expect(await codeOf(db.select().from(users))).toContain('something else than a string');
  });

  it('writes nothing when the agent is gone, and is rolled back with its transaction', async () => {
    const gone = connectSync({ socket: join(folder, 'nobody.sock'), timeoutMs: 50 });
    const without = schemaOf(gone);
    expect(await codeOf(() => db.insert(without.users).values({ id: 'u1', email: 'a' }))).toContain(
      'AGENT_UNAVAILABLE',
    );
    expect(await db.$count(schema.users)).toBe(0);
    gone.close();
    const failing = db.transaction(async (tx) => {
      await tx.insert(schema.users).values({ id: 'u1', email: 'a' });
      expect(await tx.select().from(schema.users)).toMatchObject([{ email: 'a' }]);
      throw new DekdError('CONFLICT', 'on purpose');
    });
    expect(await codeOf(failing)).toContain('on purpose');
    expect(await db.$count(schema.users)).toBe(0);
  });

  it('leaves no trace of a plaintext in the files of the server', async () => {
    const { users } = schema;
    const texts = ['email', 'theme', 'filter'].map(canary);
    const [email, theme, filter] = texts as [string, string, string];
    await db.insert(users).values({ id: 'u1', email, settings: { theme, sizes: [] }, name: canary('control') });
    await db
      .select()
      .from(users)
      .where(eq(users.email, filter))
      .catch(() => undefined);
    await pool.query('CHECKPOINT');
    expect(tracesBelow(server.data, [canary('control')])).not.toEqual([]);
    expect(tracesBelow(server.data, texts)).toEqual([]);
  });
});

describe('Drizzle on SQLite with encrypted columns', () => {
  const open = () => {
    const database = new DatabaseSync(':memory:');
    database.exec('CREATE TABLE users (id text PRIMARY KEY, email text, settings text)');
    const db = drizzleSqlite(async (statement, params, method) => {
      const prepared = database.prepare(statement);
      prepared.setReturnArrays(true);
      if (method === 'run') {
        prepared.run(...(params as string[]));
        return { rows: [] };
      }
      return { rows: prepared.all(...(params as string[])) as unknown[] };
    });
    const binding = (column: string) => ({ key: 'people', table: 'users', column });
    const users = refuseFilters(
      sqliteTable('users', {
        id: sqliteText('id').primaryKey(),
        email: sqliteEncryptedText(dekd, binding('email')),
        settings: sqliteEncryptedJson<Json>(dekd, binding('settings')),
      }),
    );
    return { database, db, users };
  };

  it('gives back what was written, and the database has ciphertexts', async () => {
    const { database, db, users } = open();
    const secret = canary('sqlite');
    await db.insert(users).values([{ id: 'u1', email: secret, settings: { theme: 'dark', sizes: [1] } }, { id: 'u2' }]);
    expect(await db.select().from(users)).toEqual([
      { id: 'u1', email: secret, settings: { theme: 'dark', sizes: [1] } },
      { id: 'u2', email: null, settings: null },
    ]);
    const [row] = database.prepare('SELECT * FROM users').all() as { email: string; settings: string }[];
    expect(row!.email).toMatch(/^dk1\./);
    expect(formsFound(Buffer.from(JSON.stringify(row)), secret)).toEqual([]);
  });

  it('refuses conditions on ciphertexts, which SQLite would answer with nothing', async () => {
    const { db, users } = open();
    await db.insert(users).values({ id: 'u1', email: 'a' });
    expect(await codeOf(() => db.select().from(users).where(eq(users.email, 'a')))).toContain('blind index');
    expect(await codeOf(() => db.delete(users).where(eq(users.settings, { theme: '', sizes: [] })))).toContain(
      'blind index',
    );
    expect(await db.select({ id: users.id }).from(users).where(isNotNull(users.email))).toEqual([{ id: 'u1' }]);
  });

  it('takes a round trip for each value: what batches are for', async () => {
    let calls = 0;
    const counting = {
      encryptText: (...args: Parameters<DekdSyncClient['encryptText']>) => {
        calls += 1;
        return dekd.encryptText(...args);
      },
      decryptText: dekd.decryptText.bind(dekd),
    };
    const { db } = open();
    const users = sqliteTable('users', {
      id: sqliteText('id').primaryKey(),
      email: sqliteEncryptedText(counting, { key: 'people', table: 'users', column: 'email' }),
    });
    await db.insert(users).values([
      { id: 'u1', email: 'a' },
      { id: 'u2', email: 'b' },
    ]);
    expect(calls).toBe(2);
  });
});
