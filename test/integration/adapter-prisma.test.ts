import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type PrismaTypeMap, prismaEncryption } from '../../src/adapters/prisma.ts';
import { connect } from '../../src/client/index.ts';
import type { DekdClient } from '../../src/client/types.ts';
import type { DekdError } from '../../src/errors.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { canary, tracesBelow } from '../support/canary.ts';
import { countFrames, type FrameCounter } from '../support/frame-counter.ts';
import { compile, runFile, writeSection } from '../support/page-code.ts';
import { describeOwnServer, PostgresServer } from '../support/postgres.ts';
import { type Client, PRISMA_FOLDER, type Prisma, preparePrisma } from '../support/prisma.ts';
import { refusedWith } from '../support/refusal.ts';

/** Migrations need Prisma's native program; these are what it would make of the schema. */
const TABLES = `
CREATE TABLE "User" (id text PRIMARY KEY, name text NOT NULL, email text, "emailIndex" text UNIQUE, notes text[], settings jsonb, options jsonb[],
  "managerId" text REFERENCES "User");
CREATE TABLE "Post" (id serial PRIMARY KEY, slug text UNIQUE NOT NULL, body text NOT NULL,
  "authorId" text NOT NULL REFERENCES "User");
CREATE TABLE "Tag" (name text PRIMARY KEY, secret text);
CREATE TABLE "_PostToTag" ("A" int REFERENCES "Post" ON DELETE CASCADE, "B" text REFERENCES "Tag" ON DELETE CASCADE, PRIMARY KEY ("A", "B"));
CREATE TABLE "Account" (tenant text, number text, iban text NOT NULL, "userId" text UNIQUE NOT NULL REFERENCES "User",
  PRIMARY KEY (tenant, number));
`;

/** Models of the schema as far as `usage.ts`, which the compiler reads, does not say it better. */
interface Loose extends PrismaTypeMap {
  readonly model: Record<
    'User' | 'Post' | 'Tag' | 'Account',
    { readonly payload: { readonly scalars: Record<string, string> } }
  >;
}
type Models = Parameters<ReturnType<typeof prismaEncryption<Loose>>>[1];

const MODELS: Models = {
  User: {
    key: 'people',
    fields: ['email', 'notes[]' as 'notes', 'settings', 'options[]' as 'options'],
    identity: 'id',
    indexes: { emailIndex: { of: 'email', key: 'people-index', normalise: 'email' } },
  },
  Post: { key: 'posts', fields: ['body'], identity: 'slug' },
  Tag: { key: 'tags', fields: ['secret'], identity: false },
  Account: { key: 'people', partition: ({ tenant }) => tenant!, fields: ['iban'], identity: ['tenant', 'number'] },
};

/** Frames that typed fields make of some hundred rows, to encrypt some while the agent works on others. */
const FEW = 4;

let missing = '';
let prisma: Prisma;
let server: PostgresServer;
let agent: TestAgent;
let counter: FrameCounter;
let dekd: DekdClient;
/** Without encryption: what the database has. */
let stored: Client;
let db: Client;

function encrypting(models: Models = MODELS, client = dekd, base = stored): Client {
  return base.$extends(prismaEncryption<Loose>()(client, models));
}

function index(email: string): Promise<string> {
  return prismaEncryption<Loose>()(dekd, MODELS).index('User', 'emailIndex', email);
}

describeOwnServer('Prisma with encrypted fields', () => {
  beforeAll(async () => {
    const prepared = await preparePrisma();
    if (typeof prepared === 'string') {
      missing = prepared;
      return;
    }
    prisma = prepared;
    server = await PostgresServer.start();
    const admin = await server.admin();
    await admin.query(TABLES);
    await admin.end();
    agent = await startTestAgent();
    counter = await countFrames(agent.socket);
    dekd = connect({ socket: counter.socket, lane: false });
    stored = prisma.open(server.settings.url!);
    db = encrypting();
  }, 300_000);

  afterAll(async () => {
    await stored?.$disconnect();
    await dekd?.close();
    await counter?.stop();
    await agent?.stop();
    await server?.stop();
  });

  beforeEach(async (context) => {
    context.skip(missing !== '', missing);
    await server.sql('TRUNCATE "User", "Post", "Tag", "_PostToTag", "Account"');
    await dekd.ping();
    counter.taken();
  });

  it('gives back what was written, and the database has ciphertexts', async () => {
    const settings = { theme: 'dark', sizes: [1, 2.5, null], nested: { on: true } };
    const data = { id: 'u1', name: 'Ada', email: 'ada@example.org', notes: ['one', 'two'], settings };
    expect(await db.user.create({ data })).toMatchObject(data);
    expect(await db.user.findUniqueOrThrow({ where: { id: 'u1' } })).toMatchObject(data);
    const row = await stored.user.findUniqueOrThrow({ where: { id: 'u1' } });
    expect(row).toMatchObject({ id: 'u1', name: 'Ada' });
    for (const token of [row.email, row.settings, ...row.notes]) {
      expect(token).toMatch(/^dk1\.[\w-]{78,}$/);
    }
    expect(row.notes).toHaveLength(2);
  });

  it('binds a value to model, row and field, as typed fields do', async () => {
    await db.user.create({ data: { id: 'u1', name: 'Ada', email: 'ada@example.org' } });
    const { email } = await stored.user.findUniqueOrThrow({ where: { id: 'u1' } });
    const context = { model: 'User', id: 'u1', field: 'email' };
    expect(await dekd.decryptText(email, { key: 'people', context })).toBe('"ada@example.org"');
  });

  it('leaves NULL as NULL, and lets a query ask for it', async () => {
    await db.user.createMany({
      data: [
        { id: 'u1', name: 'Ada', email: null },
        { id: 'u2', name: 'Bob', email: 'bob@example.org' },
      ],
    });
    expect(await db.user.findMany({ where: { email: null } })).toMatchObject([
      { id: 'u1', email: null, settings: null },
    ]);
    expect(await db.user.findMany({ where: { email: { not: null } } })).toMatchObject([{ id: 'u2' }]);
    expect(await db.user.update({ where: { id: 'u2' }, data: { email: null } })).toMatchObject({ email: null });
    expect(await db.user.count({ where: { OR: [{ email: null }, { email: { equals: null } }] } })).toBe(2);
  });

  it('encrypts the writes of every operation', async () => {
    const user = (id: string): object => ({ id, name: id, email: `${id}@example.org` });
    await db.user.create({ data: user('a') });
    await db.user.createMany({ data: [user('b'), user('c')] });
    expect(await db.user.createManyAndReturn({ data: [user('d')] })).toMatchObject([{ email: 'd@example.org' }]);
    await db.user.upsert({ where: { id: 'e' }, create: user('e'), update: { email: 'never' } });
    expect(await db.user.upsert({ where: { id: 'a' }, create: user('a'), update: { email: 'a2' } })).toMatchObject({
      email: 'a2',
    });
    expect(await db.user.update({ where: { id: 'b' }, data: { email: { set: 'b2' } } })).toMatchObject({ email: 'b2' });
    await db.user.updateMany({ where: { id: 'c', name: 'c' }, data: { email: 'c2' } });
    expect(
      await db.user.updateManyAndReturn({ where: { id: { equals: 'd' } }, data: { email: 'd2', notes: ['n'] } }),
    ).toMatchObject([{ email: 'd2', notes: ['n'] }]);
    await db.user.update({ where: { id: 'd' }, data: { notes: { push: ['o', 'p'] } } });
    await db.user.update({ where: { id: 'd' }, data: { notes: { push: 'q' } } });
    const users = await db.user.findMany({ orderBy: { id: 'asc' }, select: { email: true, notes: true } });
    expect(users.map(({ email }: { email: string }) => email)).toEqual(['a2', 'b2', 'c2', 'd2', 'e@example.org']);
    expect(users[3].notes).toEqual(['n', 'o', 'p', 'q']);
    expect(await db.user.delete({ where: { id: 'd' } })).toMatchObject({ email: 'd2' });
    for (const { email } of await stored.user.findMany()) {
      expect(email).toMatch(/^dk1\./);
    }
  });

  it('encrypts nested writes, and decrypts what relations bring', async () => {
    await db.user.create({
      data: {
        id: 'boss',
        name: 'Boss',
        email: 'boss@example.org',
        reports: { create: [{ id: 'u1', name: 'Ada', email: 'ada@example.org' }] },
      },
    });
    await db.user.update({
      where: { id: 'u1' },
      data: {
        posts: {
          create: { slug: 'one', body: 'first', tags: { create: { name: 'red', secret: 'r' } } },
          connectOrCreate: [{ where: { slug: 'two' }, create: { slug: 'two', body: 'second' } }],
          createMany: { data: [{ slug: 'three', body: 'third' }] },
        },
        account: { create: { tenant: 'acme', number: '1', iban: 'DE00' } },
      },
    });
    await db.user.update({
      where: { id: 'boss' },
      data: {
        reports: {
          update: [
            {
              where: { id: 'u1' },
              data: {
                email: 'ada2@example.org',
                posts: {
                  update: { where: { slug: 'one' }, data: { body: 'first again' } },
                  updateMany: { where: { slug: 'two' }, data: { body: 'second again' } },
                  upsert: { where: { slug: 'four' }, create: { slug: 'four', body: 'fourth' }, update: { body: 'x' } },
                },
                account: { update: { where: { tenant: 'acme', number: '1' }, data: { iban: 'DE01' } } },
              },
            },
          ],
        },
      },
    });
    const boss = await db.user.findUniqueOrThrow({
      where: { id: 'boss' },
      include: {
        reports: {
          include: { posts: { orderBy: { slug: 'asc' }, include: { tags: true } }, account: true, manager: true },
        },
      },
    });
    expect(boss).toMatchObject({
      email: 'boss@example.org',
      reports: [
        {
          email: 'ada2@example.org',
          posts: [
            { slug: 'four', body: 'fourth', tags: [] },
            { slug: 'one', body: 'first again', tags: [{ name: 'red', secret: 'r' }] },
            { slug: 'three', body: 'third' },
            { slug: 'two', body: 'second again' },
          ],
          account: { iban: 'DE01' },
          manager: { email: 'boss@example.org' },
        },
      ],
    });
    expect((await stored.account.findMany())[0].iban).toMatch(/^dk1\./);
    expect((await stored.tag.findMany())[0].secret).toMatch(/^dk1\./);
    for (const { body } of await stored.post.findMany()) {
      expect(body).toMatch(/^dk1\./);
    }
  });

  it('adds the identity that it needs to what is selected, and takes it away again', async () => {
    await db.user.create({
      data: { id: 'u1', name: 'Ada', email: 'a', posts: { create: { slug: 'one', body: 'first' } } },
    });
    expect(await db.user.findMany({ select: { email: true, posts: { select: { body: true } } } })).toEqual([
      { email: 'a', posts: [{ body: 'first' }] },
    ]);
    expect(
      await db.post.findMany({ omit: { slug: true, id: true }, include: { author: { select: { email: true } } } }),
    ).toEqual([{ body: 'first', authorId: 'u1', author: { email: 'a' } }]);
    expect(await db.user.findMany({ select: { name: true } })).toEqual([{ name: 'Ada' }]);
    expect(
      await db.user.findMany({
        omit: { email: true, notes: true, settings: true, options: true, id: true, emailIndex: true },
      }),
    ).toEqual([{ name: 'Ada', managerId: null }]);
  });

  it('decrypts what fluent calls lead to', async () => {
    await db.user.create({
      data: { id: 'u1', name: 'Ada', email: 'a', posts: { create: { slug: 'one', body: 'first' } } },
    });
    expect(await db.user.findUnique({ where: { id: 'u1' } }).posts()).toMatchObject([{ body: 'first' }]);
    expect(await db.post.findUnique({ where: { slug: 'one' } }).author()).toMatchObject({ email: 'a' });
    expect(
      await db.post
        .findUnique({ where: { slug: 'one' } })
        .author()
        .posts({ select: { body: true } }),
    ).toEqual([{ body: 'first' }]);
    expect(await db.post.findUnique({ where: { slug: 'none' } }).author()).toBeNull();
  });

  it('takes batches, whatever the number of rows', async () => {
    const many = Array.from({ length: 500 }, (_, n) => ({
      id: `u${n}`,
      name: 'x',
      email: `${n}@example.org`,
      notes: ['a', 'b'],
    }));
    await db.user.createMany({ data: many });
    expect(counter.taken()).toBeLessThanOrEqual(2 * FEW);
    await db.user.findMany();
    expect(counter.taken()).toBeLessThanOrEqual(FEW);
    await db.user.update({
      where: { id: 'u1' },
      data: {
        email: 'new',
        posts: { create: Array.from({ length: 100 }, (_, n) => ({ slug: `s${n}`, body: `body ${n}` })) },
      },
      select: { id: true },
    });
    expect(counter.taken()).toBeLessThanOrEqual(FEW);
    expect(await db.user.findMany({ where: { id: 'u1' }, include: { posts: true } })).toMatchObject([{ email: 'new' }]);
    expect(counter.taken()).toBeLessThanOrEqual(FEW);
    await db.user.count();
    await db.user.findMany({ select: { name: true } });
    expect(counter.taken()).toBe(0);
  });

  it('refuses to ask the database about plaintexts, and names the blind index', async () => {
    const email = "INVALID_ARGUMENT: 'User.email' is encrypted and cannot be";
    const filtered = `${email} filtered by: for equality filter by its blind index 'emailIndex'`;
    expect(await refusedWith(db.user.findMany({ where: { email: 'a' } }))).toBe(filtered);
    const refused: [string, Promise<unknown>][] = [
      [filtered, db.user.findFirst({ where: { OR: [{ name: 'x' }, { NOT: { email: { contains: 'a' } } }] } })],
      [filtered, db.user.count({ where: { email: { in: ['a'] } } })],
      [filtered, db.user.updateMany({ where: { email: 'a' }, data: { name: 'b' } })],
      [filtered, db.user.deleteMany({ where: { AND: { email: 'a' } } })],
      [filtered, db.user.findMany({ where: { manager: { is: { email: 'a' } } } })],
      [filtered, db.user.findMany({ where: { manager: { email: { startsWith: 'a' } } } })],
      [filtered, db.post.findMany({ where: { author: { email: 'a' } } })],
      [filtered, db.user.findMany({ where: { reports: { some: { reports: { none: { email: 'a' } } } } } })],
      [filtered, db.user.findMany({ include: { reports: { where: { email: 'a' } } } })],
      [filtered, db.user.findMany({ select: { _count: { select: { reports: { where: { email: 'a' } } } } } })],
      [
        filtered,
        db.user.update({ where: { id: 'u1' }, data: { reports: { updateMany: { where: { email: 'a' }, data: {} } } } }),
      ],
      [filtered, db.user.update({ where: { id: 'u1' }, data: { reports: { deleteMany: { email: 'a' } } } })],
      [filtered, db.user.update({ where: { id: 'u1' }, data: { reports: { connect: [{ id: 'u', email: 'a' }] } } })],
      [filtered, db.user.findMany({ cursor: { id: 'a', email: 'a' } })],
      [filtered, db.user.groupBy({ by: ['name'], having: { email: { equals: 'a' } } })],
      [email, db.user.findMany({ orderBy: { email: 'asc' } })],
      [email, db.post.findMany({ orderBy: [{ author: { email: 'asc' } }] })],
      [email, db.user.findMany({ include: { reports: { orderBy: { email: 'desc' } } } })],
      [email, db.user.findMany({ distinct: ['email'] })],
      [email, db.user.findMany({ include: { reports: { distinct: 'email' } } })],
      [email, db.user.groupBy({ by: ['email'] })],
      [email, db.user.groupBy({ by: 'email' })],
      [email, db.user.groupBy({ by: ['name'], orderBy: { _max: { email: 'asc' } } })],
      [email, db.user.aggregate({ _max: { email: true } })],
    ];
    for (const [text, call] of refused) {
      expect(await refusedWith(call)).toContain(text);
    }
    expect(await refusedWith(db.post.findMany({ where: { body: 'x' } }))).toContain(
      'keep a blind index in a field of its own',
    );
    expect(await refusedWith(db.user.findMany({ where: { notes: { has: 'x' } } }))).toContain(
      "'User.notes' is encrypted",
    );
    expect(await refusedWith(db.user.findMany({ where: { settings: { path: ['a'], equals: 1 } } }))).toContain(
      "'User.settings'",
    );
    expect(await db.user.aggregate({ _count: { email: true } })).toEqual({ _count: { email: 0 } });
    expect(counter.taken()).toBe(0);
  });

  it('fills blind indexes with what they are of, and finds rows by them', async () => {
    await db.user.createMany({
      data: [
        { id: 'u1', name: 'Ada', email: 'Ada@Example.org' },
        { id: 'u2', name: 'Bob', email: 'bob@example.org' },
        { id: 'u3', name: 'Eve', email: null },
      ],
    });
    const find = async (email: string) => db.user.findUnique({ where: { emailIndex: await index(email) } });
    expect(await find(' ada@example.ORG ')).toMatchObject({ id: 'u1', email: 'Ada@Example.org' });
    expect(await find('nobody@example.org')).toBeNull();
    const { emailIndex } = await stored.user.findUniqueOrThrow({ where: { id: 'u1' } });
    expect(emailIndex).toMatch(/^[0-9a-f]{32}$/);
    expect(emailIndex).toBe(
      await dekd.blindIndex('ada@example.org', { key: 'people-index', table: 'User', column: 'email' }),
    );
    await db.user.update({ where: { id: 'u1' }, data: { email: { set: 'new@example.org' } } });
    expect(await find('ada@example.org')).toBeNull();
    expect(await find('new@example.org')).toMatchObject({ id: 'u1' });
    await db.user.update({
      where: { id: 'u1' },
      data: { email: null, reports: { create: { id: 'u4', name: 'Sub', email: 'sub@example.org' } } },
    });
    expect(await db.user.findUniqueOrThrow({ where: { id: 'u1' } })).toMatchObject({ email: null, emailIndex: null });
    expect(await find('sub@example.org')).toMatchObject({ id: 'u4', managerId: 'u1' });
    await db.user.upsert({
      where: { id: 'u4' },
      create: { id: 'u4', name: 'Sub', email: 'x' },
      update: { email: 'upserted@example.org', emailIndex: 'overwritten' },
    });
    expect(await find('upserted@example.org')).toMatchObject({ id: 'u4' });
    expect(await refusedWith(db.user.update({ where: { id: 'u1' }, data: { emailIndex: 'mine' } }))).toContain(
      "is the index of 'email', and is written with it",
    );
    await expect(db.user.create({ data: { id: 'u5', name: 'Dup', email: 'BOB@example.org' } })).rejects.toThrow(
      'Unique',
    );
  });

  it('refuses writes whose row is not known, and changes of what rows are known by', async () => {
    const { emailIndex } = await db.user.create({ data: { id: 'u1', name: 'Ada', email: 'a' } });
    await db.post.create({ data: { slug: 'one', body: 'b', authorId: 'u1' } });
    const refusals: [string, Promise<unknown>][] = [
      ["says its 'slug'", db.post.create({ data: { body: 'b', authorId: 'u1' } })],
      ["which row by 'id'", db.user.update({ where: { emailIndex }, data: { email: 'b' } })],
      ["which row by 'id'", db.user.updateMany({ where: { id: { in: ['u1'] } }, data: { email: 'b' } })],
      ["which row by 'id'", db.user.updateMany({ where: { OR: [{ id: 'u1' }] }, data: { email: 'b' } })],
      [
        "which row by 'id'",
        db.user.updateMany({ where: { id: { equals: 'U1', mode: 'insensitive' } }, data: { email: 'b' } }),
      ],
      ["which row by 'id'", db.user.updateMany({ data: { email: 'b' } })],
      ["which row by 'id'", db.post.update({ where: { slug: 'one' }, data: { author: { update: { email: 'b' } } } })],
      ["'User.id' is what", db.user.update({ where: { id: 'u1' }, data: { id: 'u2' } })],
      ["'User.id' is what", db.user.updateMany({ where: { name: 'Ada' }, data: { id: { set: 'u2' } } })],
      [
        "'Post.slug' is what",
        db.user.update({ where: { id: 'u1' }, data: { posts: { updateMany: { where: {}, data: { slug: 'x' } } } } }),
      ],
      ['takes a string', db.user.update({ where: { id: 'u1' }, data: { email: 5 } })],
      ['takes strings', db.user.update({ where: { id: 'u1' }, data: { notes: [5] } })],
      [
        'takes its value, { set } or { push }',
        db.user.update({ where: { id: 'u1' }, data: { notes: { unset: true } } }),
      ],
      ['upper case', db.user.create({ data: { id: 'AAAAAAAA-0000-4000-8000-000000000000', name: 'x', email: 'b' } })],
    ];
    for (const [text, call] of refusals) {
      expect(await refusedWith(call)).toContain(text);
    }
    expect(await db.user.update({ where: { id: 'u1' }, data: { id: 'u1', email: 'same' } })).toMatchObject({
      email: 'same',
    });
    expect(await db.user.update({ where: { emailIndex: await index('same') }, data: { name: 'B' } })).toMatchObject({
      email: 'same',
      name: 'B',
    });
    expect(await db.account.create({ data: { tenant: 't', number: '1', iban: 'I', userId: 'u1' } })).toMatchObject({
      iban: 'I',
    });
    expect(
      await db.account.update({ where: { tenant_number: { tenant: 't', number: '1' } }, data: { iban: 'J' } }),
    ).toMatchObject({ iban: 'J' });
  });

  it('makes the identity of new rows when it is told how', async () => {
    let n = 0;
    const making = encrypting({ Post: { ...MODELS.Post!, newId: () => `made-${++n}` } });
    await db.user.create({ data: { id: 'u1', name: 'Ada' } });
    expect(await making.post.create({ data: { body: 'b', authorId: 'u1' } })).toMatchObject({
      slug: 'made-1',
      body: 'b',
    });
    expect(await making.post.create({ data: { slug: 'own', body: 'c', authorId: 'u1' } })).toMatchObject({
      slug: 'own',
    });
    await making.user.update({ where: { id: 'u1' }, data: { posts: { create: [{ body: 'd' }, { body: 'e' }] } } });
    expect(
      (await making.post.findMany({ orderBy: { slug: 'asc' } })).map(({ body }: { body: string }) => body),
    ).toEqual(['b', 'd', 'e', 'c']);
  });

  it('opens no value that was moved to another row, field or model', async () => {
    await db.user.createMany({
      data: [
        { id: 'u1', name: 'Ada', email: 'a', notes: ['n'] },
        { id: 'u2', name: 'Bob', email: 'b' },
      ],
    });
    await server.sql(`UPDATE "User" SET email = (SELECT email FROM "User" WHERE id = 'u1') WHERE id = 'u2'`);
    expect(await refusedWith(db.user.findUnique({ where: { id: 'u2' } }))).toContain('DECRYPTION_FAILED');
    expect(await db.user.findUnique({ where: { id: 'u1' } })).toMatchObject({ email: 'a' });
    await server.sql(`UPDATE "User" SET email = notes[1] WHERE id = 'u1'`);
    expect(await refusedWith(db.user.findMany({ where: { id: 'u1' }, select: { email: true } }))).toContain(
      'DECRYPTION_FAILED',
    );
    await db.post.create({ data: { slug: 'one', body: 'x', authorId: 'u1' } });
    await server.sql(`UPDATE "Post" SET body = (SELECT notes[1] FROM "User" WHERE id = 'u1')`);
    expect(await refusedWith(db.user.findMany({ select: { posts: true } }))).toContain('DECRYPTION_FAILED');
  });

  it('moves between rows where the definition says that it may', async () => {
    await db.tag.createMany({ data: [{ name: 'a', secret: 'one' }, { name: 'b' }] });
    await server.sql(`UPDATE "Tag" SET secret = (SELECT secret FROM "Tag" WHERE name = 'a')`);
    expect(await db.tag.findMany({ where: { name: 'b' } })).toEqual([{ name: 'b', secret: 'one' }]);
    expect(await db.tag.updateMany({ data: { secret: 'all' } })).toEqual({ count: 2 });
    expect(await db.tag.findMany()).toMatchObject([{ secret: 'all' }, { secret: 'all' }]);
  });

  it('passes nothing through that does not open', async () => {
    await stored.user.create({ data: { id: 'u1', name: 'Ada', email: 'legacy plaintext' } });
    expect(await refusedWith(db.user.findMany())).toContain('MALFORMED');
    await stored.user.update({ where: { id: 'u1' }, data: { email: `dk1.${'A'.repeat(90)}` } });
    expect(await refusedWith(db.user.findMany())).toMatch(/^(MALFORMED|DECRYPTION_FAILED)/);
    await stored.user.update({ where: { id: 'u1' }, data: { email: null, settings: { plain: true } } });
    expect(await refusedWith(db.user.findMany())).toContain('MALFORMED');
  });

  it('encrypts what looks like a ciphertext', async () => {
    await db.user.create({ data: { id: 'u1', name: 'Ada', email: 'a' } });
    const { email } = await stored.user.findUniqueOrThrow({ where: { id: 'u1' } });
    expect(await db.user.create({ data: { id: 'u2', name: 'Eve', email } })).toMatchObject({ email });
    expect((await stored.user.findUniqueOrThrow({ where: { id: 'u2' } })).email).not.toBe(email);
  });

  it('writes nothing when the agent is gone', async () => {
    const gone = connect({ socket: join(agent.folder, 'nobody.sock'), timeoutMs: 50 });
    const without = encrypting(MODELS, gone);
    expect(await refusedWith(without.user.create({ data: { id: 'u1', name: 'Ada', email: 'a' } }))).toContain(
      'AGENT_UNAVAILABLE',
    );
    expect(
      await refusedWith(
        without.user.create({
          data: { id: 'u1', name: 'Ada', posts: { create: { slug: 's', body: 'b' } } },
        }),
      ),
    ).toContain('AGENT_UNAVAILABLE');
    expect(await stored.user.count()).toBe(0);
    await db.user.create({ data: { id: 'u1', name: 'Ada', email: 'a' } });
    expect(await refusedWith(without.user.findMany())).toContain('AGENT_UNAVAILABLE');
    await gone.close();
  });

  it('works in transactions, of both kinds, and rolls back with them', async () => {
    const [created, found] = await db.$transaction([
      db.user.create({ data: { id: 'u1', name: 'Ada', email: 'a' } }),
      db.user.findMany(),
    ]);
    expect(created).toMatchObject({ email: 'a' });
    expect(found).toMatchObject([{ email: 'a' }]);
    const failing = db.$transaction(async (tx: Client) => {
      await tx.user.update({ where: { id: 'u1' }, data: { email: 'b' } });
      expect(await tx.user.findMany()).toMatchObject([{ email: 'b' }]);
      await tx.user.create({ data: { id: 'u2', name: 'Bob', email: 'c' } });
      return tx.user.findMany({ where: { email: 'b' } });
    });
    expect(await refusedWith(failing)).toContain('INVALID_ARGUMENT');
    expect(await db.user.findMany()).toMatchObject([{ id: 'u1', email: 'a' }]);
  });

  it('gives computed fields plaintexts, wherever they were defined', async () => {
    await db.user.create({ data: { id: 'u1', name: 'Ada', email: 'a' } });
    const shout = { needs: { email: true }, compute: ({ email }: { email: string }) => email.toUpperCase() };
    const after = db.$extends({ result: { user: { shout } } });
    const before = stored.$extends({ result: { user: { shout } } }).$extends(prismaEncryption<Loose>()(dekd, MODELS));
    for (const client of [after, before]) {
      expect(await client.user.findMany({ select: { shout: true } })).toMatchObject([{ shout: 'A' }]);
      expect((await client.user.findFirst()).shout).toBe('A');
    }
  });

  it('gives each of several equal queries its own rows', async () => {
    await db.user.create({ data: { id: 'u1', name: 'Ada', email: 'a', posts: { create: { slug: 's', body: 'b' } } } });
    const ask = () => db.user.findUnique({ where: { id: 'u1' }, include: { posts: true } });
    const [one, other] = await Promise.all([ask(), ask()]);
    expect(one).toMatchObject({ email: 'a', posts: [{ body: 'b' }] });
    expect(other).toEqual(one);
    expect(other).not.toBe(one);
  });

  it('encrypts lists of JSON element by element', async () => {
    const options = [{ a: 1 }, null, 'text', { set: [1] }];
    await db.user.create({ data: { id: 'u1', name: 'Ada', options: [{ a: 1 }] } });
    await db.user.update({ where: { id: 'u1' }, data: { options: { push: 'text' } } });
    expect(await db.user.findFirst({ select: { options: true } })).toEqual({ options: [{ a: 1 }, 'text'] });
    expect(await refusedWith(db.user.update({ where: { id: 'u1' }, data: { options: { push: [1, 2] } } }))).toContain(
      'one value',
    );
    await db.user.update({ where: { id: 'u1' }, data: { options: { set: [options[0], options[2], options[3]] } } });
    expect(await db.user.findFirst({ select: { options: true } })).toEqual({
      options: [options[0], 'text', options[3]],
    });
    const row = await stored.user.findUniqueOrThrow({ where: { id: 'u1' } });
    expect(row.options).toEqual([0, 1, 2].map(() => expect.stringMatching(/^dk1\./)));
  });

  it('does not change the arguments that it was given', async () => {
    const args = { data: { id: 'u1', name: 'Ada', email: 'a', notes: ['n'] }, select: { email: true } };
    const before = structuredClone(args);
    await db.user.create(args);
    expect(args).toEqual(before);
  });

  it('refuses definitions that the schema does not fit, or that say too little', async () => {
    const refusal = (models: unknown): string => {
      try {
        encrypting(models as Models);
      } catch (error) {
        return (error as DekdError).message;
      }
      throw new Error('was not refused');
    };
    const user = { key: 'people', fields: ['email'], identity: 'id' };
    expect(refusal({ Person: user })).toBe("the schema has no model 'Person'");
    expect(refusal({ User: { ...user, identity: undefined } })).toContain('names no identity');
    expect(refusal({ User: { ...user, identity: [] } })).toContain('names no identity');
    expect(refusal({ User: { ...user, identity: 'uuid' } })).toContain("no scalar field 'uuid'");
    expect(refusal({ User: { ...user, identity: 'email' } })).toContain('cannot say which row it is');
    expect(refusal({ User: { ...user, identity: 'posts' } })).toContain("no scalar field 'posts'");
    expect(refusal({ User: { ...user, fields: [] } })).toContain('names no column');
    expect(refusal({ User: { ...user, fields: ['mail'] } })).toContain('type String or Json');
    expect(refusal({ User: { ...user, fields: ['posts'] } })).toContain('type String or Json');
    expect(refusal({ Post: { ...user, fields: ['id'], identity: 'slug' } })).toContain('type String or Json');
    expect(refusal({ User: { ...user, identity: false, newId: () => 'x' } })).toContain('newId');
    const indexes = (column: string, of: string) => ({ User: { ...user, indexes: { [column]: { of, key: 'i' } } } });
    expect(refusal(indexes('emailIndex', 'name'))).toContain('index of an encrypted column of texts');
    expect(refusal(indexes('mailIndex', 'email'))).toContain("no scalar field 'mailIndex'");
    expect(() => prismaEncryption<Loose>()(dekd, MODELS)({ $extends: () => undefined })).toThrow('keeps no data model');
  });

  it('does what its page says', async () => {
    const page = join(PRISMA_FOLDER, 'page.ts');
    writeSection('docs/adapters.md', 'Prisma', page);
    const ran = await runFile(page, { DEKD_SOCKET: agent.socket, DATABASE_URL: server.settings.url! });
    expect(ran).toEqual({ code: 0, stdout: 'ada@example.org Hi\n', stderr: '' });
  });

  it('stands beside other extensions of queries: those before it see plaintexts, those after it ciphertexts', async () => {
    const seen: [string, unknown, unknown][] = [];
    const spy = (name: string) => ({
      query: {
        user: {
          // biome-ignore lint/suspicious/noExplicitAny: whatever Prisma gives
          async create({ args, query }: any) {
            const result = await query(args);
            seen.push([name, args.data.email, result.email]);
            return result;
          },
        },
      },
    });
    const both = encrypting(MODELS, dekd, stored.$extends(spy('before'))).$extends(spy('after'));
    await both.user.create({ data: { id: 'u1', name: 'Ada', email: 'a' } });
    expect(seen).toEqual([
      ['after', expect.stringMatching(/^dk1\./), expect.stringMatching(/^dk1\./)],
      ['before', 'a', 'a'],
    ]);
  });

  it('leaves no trace of a plaintext in the files of the server', async () => {
    const texts = ['email', 'note', 'setting', 'body', 'changed'].map(canary);
    const [email, note, setting, body, changed] = texts as [string, string, string, string, string];
    await db.user.create({
      data: {
        id: 'u1',
        name: 'Ada',
        email,
        notes: [note],
        settings: { [setting]: setting },
        posts: { create: { slug: 's', body } },
      },
    });
    await db.user.update({ where: { id: 'u1' }, data: { email: changed } });
    await db.user.findMany({ include: { posts: true } });
    expect(await refusedWith(db.user.findMany({ where: { email } }))).toContain('INVALID_ARGUMENT');
    const visible = canary('control');
    await db.user.update({ where: { id: 'u1' }, data: { name: visible } });
    await server.sql('CHECKPOINT');
    expect(tracesBelow(server.data, [visible])).not.toEqual([]);
    expect(tracesBelow(server.data, texts)).toEqual([]);
  });
});

describe('types of the Prisma extension', () => {
  it('know models and fields of the schema, and keep the types of the client', async (context) => {
    context.skip(missing !== '' || prisma === undefined, missing || 'needs postgresql');
    writeFileSync(join(PRISMA_FOLDER, 'usage.ts'), USAGE);
    writeSection('docs/adapters.md', 'Prisma', join(PRISMA_FOLDER, 'page.ts'));
    expect(await compile(PRISMA_FOLDER, ['usage.ts', 'page.ts'])).toBe('');
  }, 120_000);
});

const USAGE = `
import { PrismaClient, type Prisma } from './generated/client.ts';
import { prismaEncryption } from '../../src/adapters/prisma.ts';
import type { DekdClient } from '../../src/client/index.ts';

declare const dekd: DekdClient;
declare const options: ConstructorParameters<typeof PrismaClient>[0];
const encryption = prismaEncryption<Prisma.TypeMap>();
const plain = new PrismaClient(options);
const INDEXES = { emailIndex: { of: 'email', key: 'people-index', normalise: 'email' } } as const;
const prisma = plain.$extends(
  encryption(dekd, {
    User: { key: 'people', fields: ['email', 'notes[]', 'settings'], identity: 'id', indexes: INDEXES },
    Account: { key: 'people', fields: ['iban'], identity: ['tenant', 'number'], partition: (row) => row.tenant },
    Tag: { key: 'tags', fields: ['secret'], identity: false },
  }),
);

const found: { email: string | null; posts: { body: string }[] } | null = await prisma.user.findUnique({
  where: { id: 'u1' },
  select: { email: true, posts: { select: { body: true } } },
});
void found;
await prisma.user.create({ data: { id: 'u1', name: 'Ada', email: 'a', notes: ['n'], settings: { a: 1 } } });
// @ts-expect-error a field that the model has not
await prisma.user.create({ data: { id: 'u1', name: 'Ada', mail: 'a' } });
// @ts-expect-error no such model
encryption(dekd, { Person: { key: 'people', fields: ['email'], identity: 'id' } });
// @ts-expect-error an index of a field that is none
encryption(dekd, { User: { key: 'people', fields: ['email'], identity: 'id', indexes: { mailIndex: INDEXES.emailIndex } } });
// @ts-expect-error no such field
encryption(dekd, { User: { key: 'people', fields: ['mail'], identity: 'id' } });
// @ts-expect-error a list is encrypted element by element
encryption(dekd, { User: { key: 'people', fields: ['notes'], identity: 'id' } });
// @ts-expect-error a number is no text
encryption(dekd, { Post: { key: 'posts', fields: ['id'], identity: 'slug' } });
// @ts-expect-error what identifies a row is said
encryption(dekd, { User: { key: 'people', fields: ['email'] } });
// @ts-expect-error no such identity
encryption(dekd, { User: { key: 'people', fields: ['email'], identity: 'uuid' } });
`;
