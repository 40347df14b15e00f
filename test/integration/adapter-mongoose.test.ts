import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import mongoose, { type Connection, type Model, Schema, Types } from 'mongoose';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { encryptedModel } from '../../src/adapters/mongoose.ts';
import { connect } from '../../src/client/index.ts';
import type { DekdClient } from '../../src/client/types.ts';
import { DekdError } from '../../src/errors.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { countFrames, type FrameCounter } from '../support/frame-counter.ts';
import { MongoServer } from '../support/mongo-server/mongo-server.ts';

interface Person {
  name?: string;
  email?: string | null;
  emailIndex?: string;
  age?: number;
  born?: Date;
  address?: { street?: string; city?: string };
  cards?: { label?: string; pan?: string }[];
  tags?: string[];
  settings?: unknown;
}

/** MongoDB itself where there is one, else a stand-in for it. */
const GIVEN = process.env.DEKD_TEST_MONGODB_URL;

let server: MongoServer | undefined;
let agent: TestAgent;
let counter: FrameCounter;
let dekd: DekdClient;
let db: Connection;
let People: Model<Person>;
let encryption: ReturnType<typeof definition>;

function definition(client: DekdClient) {
  return encryptedModel<Person>()(client, {
    key: 'people',
    paths: ['email', 'age', 'born', 'address.street', 'cards[].pan', 'tags[]', 'settings'],
    indexes: { emailIndex: { of: 'email', key: 'people-index', normalise: 'email' } },
  });
}

function schemaOf(plugin: (schema: Schema) => void) {
  const schema = new Schema<Person>({
    name: String,
    email: { type: String, lowercase: true },
    emailIndex: { type: String, index: true },
    age: { type: Number, min: 0 },
    born: Date,
    address: { street: String, city: String },
    cards: [{ label: String, pan: String }],
    tags: [String],
    settings: Schema.Types.Mixed,
  });
  schema.plugin(plugin as never);
  return schema;
}

async function refusal(work: () => unknown): Promise<string> {
  try {
    await work();
  } catch (error) {
    if (DekdError.is(error)) {
      return `${error.code}: ${error.message}`;
    }
    throw error;
  }
  throw new Error('was not refused');
}

/** As it is stored. */
// biome-ignore lint/suspicious/noExplicitAny: of any shape.
async function stored(id: unknown): Promise<any> {
  return db.db!.collection('people').findOne({ _id: id as never });
}

const TOKEN = /^dk1\./;
/** Frames of some hundred values and their indexes. */
const FEW = 4;
const ADA = {
  name: 'Ada',
  email: 'ada@example.org',
  age: 36,
  born: new Date('1815-12-10'),
  address: { street: 'St James', city: 'London' },
  cards: [
    { label: 'one', pan: '4111' },
    { label: 'two', pan: '4222' },
  ],
  tags: ['a', 'b'],
  settings: { theme: 'dark', deep: [1, { two: 2 }] },
};

beforeAll(async () => {
  server = GIVEN === undefined ? await MongoServer.start() : undefined;
  agent = await startTestAgent();
  counter = await countFrames(agent.socket);
  dekd = connect({ socket: counter.socket, lane: false });
  db = mongoose.createConnection(GIVEN ?? server!.url, { dbName: `dekd_${randomUUID().slice(0, 8)}` });
  encryption = definition(dekd);
  People = db.model<Person>('Person', schemaOf(encryption.plugin), 'people');
  await db.asPromise();
}, 60_000);

afterEach(async () => {
  await db.db?.collection('people').deleteMany({});
});

afterAll(async () => {
  await db?.dropDatabase();
  await db?.close();
  await dekd?.close();
  await counter?.stop();
  await agent?.stop();
  await server?.stop();
});

describe(`Mongoose with encrypted paths, on ${GIVEN === undefined ? 'a stand-in for MongoDB' : 'the server that is given'}`, () => {
  it('saves ciphertexts and loads plaintexts, of every type', async () => {
    const ada = new People(ADA);
    await ada.save();
    // What was saved stays what it is in memory.
    expect(ada.toObject()).toMatchObject(ADA);
    const row = await stored(ada._id);
    const text = JSON.stringify(row);
    expect(text).not.toMatch(/ada@|1815|St James|4111|4222|dark/);
    expect(row).toMatchObject({
      name: 'Ada',
      address: { city: 'London' },
      cards: [{ label: 'one' }, { label: 'two' }],
    });
    expect([row.email, row.age, row.born, row.address.street, row.cards[1].pan, row.tags[0], row.settings]).toEqual(
      Array(7).fill(expect.stringMatching(TOKEN)),
    );
    const found = (await People.findById(ada._id))!;
    expect(found.toObject()).toMatchObject(ADA);
    expect(found.toObject().born).toBeInstanceOf(Date);
    expect(found.isModified()).toBe(false);
    expect(JSON.parse(JSON.stringify(found)).email).toBe('ada@example.org');
    const lean = await People.findOne({ _id: ada._id }).lean();
    expect(lean).toMatchObject(ADA);
  });

  it('leaves what was not modified as it is, byte for byte', async () => {
    const ada = await People.create(ADA);
    const before = await stored(ada._id);
    const found = (await People.findById(ada._id))!;
    found.name = 'Augusta';
    found.age = 37;
    found.cards![1]!.pan = '4333';
    await found.save();
    const after = await stored(ada._id);
    expect([after.email, after.settings, after.tags, after.cards[0], after.emailIndex]).toEqual([
      before.email,
      before.settings,
      before.tags,
      before.cards[0],
      before.emailIndex,
    ]);
    expect([after.name, after.cards[1].pan]).toEqual(['Augusta', expect.stringMatching(TOKEN)]);
    expect(after.cards[1].pan).not.toBe(before.cards[1].pan);
    expect((await People.findById(ada._id))!.toObject()).toMatchObject({
      age: 37,
      cards: [{ pan: '4111' }, { pan: '4333' }],
    });
  });

  it('takes arrays and subdocuments as documents change them', async () => {
    const ada = await People.create(ADA);
    const found = (await People.findById(ada._id))!;
    found.cards!.push({ label: 'three', pan: '4444' });
    found.tags!.push('c');
    found.address = { street: 'Ockham', city: 'Surrey' };
    await found.save();
    const pulled = (await People.findById(ada._id))!;
    expect(pulled.toObject()).toMatchObject({
      address: { street: 'Ockham', city: 'Surrey' },
      cards: [{ pan: '4111' }, { pan: '4222' }, { label: 'three', pan: '4444' }],
      tags: ['a', 'b', 'c'],
    });
    (pulled.cards as unknown as Types.DocumentArray<object>).splice(0, 1);
    pulled.email = undefined as never;
    await pulled.save();
    const row = await stored(ada._id);
    expect(row.cards.map((card: { pan: string }) => card.pan)).toEqual(Array(2).fill(expect.stringMatching(TOKEN)));
    expect([row.email, row.emailIndex]).toEqual([undefined, undefined]);
    expect((await People.findById(ada._id))!.cards!.map(({ pan }) => pan)).toEqual(['4222', '4444']);
  });

  it('keeps null and what is absent as they are', async () => {
    const none = await People.create({ name: 'None', email: null });
    const row = await stored(none._id);
    expect([row.email, 'age' in row, row.tags, 'emailIndex' in row]).toEqual([null, false, [], false]);
    expect(await People.countDocuments({ email: null })).toBe(1);
    expect((await People.findById(none._id))!.email).toBe(null);
  });

  it('takes many at once, in one batch, and reads them by every way there is', async () => {
    const many = Array.from({ length: 150 }, (_, at) => ({
      name: `n${String(at).padStart(3, '0')}`,
      email: `e${at}@x.org`,
    }));
    await dekd.ping();
    counter.taken();
    await People.insertMany(many);
    expect(counter.taken()).toBeLessThanOrEqual(FEW);
    expect((await db.db!.collection('people').findOne({ name: 'n007' }))!.email).toMatch(TOKEN);
    const emails = many.map(({ email }) => email);
    expect((await People.find().sort({ name: 1 })).map(({ email }) => email)).toEqual(emails);
    expect(counter.taken()).toBeLessThanOrEqual(FEW);
    expect((await People.find().sort('name').lean()).map(({ email }) => email)).toEqual(emails);
    counter.taken();
    const walked: unknown[] = [];
    for await (const { email } of People.find().sort('name').cursor({ batchSize: 40 })) {
      walked.push(email);
    }
    expect(walked).toEqual(emails);
    // The 150 come as 40 at a time.
    expect(counter.taken()).toBeLessThanOrEqual(4 * FEW);
    const matched = await People.aggregate([
      { $match: { name: { $lt: 'n003' } } },
      { $sort: { name: 1 } },
      { $limit: 2 },
    ]);
    expect(matched.map(({ email }) => email)).toEqual(emails.slice(0, 2));
    const direct = People.collection.find({}, { sort: { name: 1 } });
    expect([await direct.hasNext(), (await direct.next())?.email, (await direct.toArray()).length]).toEqual([
      true,
      emails[0],
      149,
    ]);
    expect(() => People.collection.find({}).stream()).toThrow('as they are stored');
  });

  it('takes a text that looks like a ciphertext, even its own, as the text that it is', async () => {
    const { _id } = await People.create({ settings: 'x' });
    const { settings } = await stored(_id);
    await People.updateOne({ _id }, { settings });
    expect((await People.findById(_id))!.settings).toBe(settings);
    expect((await stored(_id)).settings).not.toBe(settings);
  });

  it('finds documents by the blind index', async () => {
    await People.create([
      { name: 'a', email: 'ada@example.org' },
      { name: 'b', email: 'bob@example.org' },
    ]);
    const find = async (email: string) => {
      const found = await People.find({ emailIndex: await encryption.index('emailIndex', email) });
      return found.map(({ name, email: is }) => [name, is]);
    };
    expect(await find(' ADA@example.org ')).toEqual([['a', 'ada@example.org']]);
    const ada = (await People.findOne({ name: 'a' }))!;
    ada.email = 'carol@example.org';
    await ada.save();
    expect([await find('ada@example.org'), await find('carol@example.org')]).toEqual([
      [],
      [['a', 'carol@example.org']],
    ]);
  });

  it('encrypts updates that name their document, whichever way they are sent', async () => {
    const { _id } = await People.create(ADA);
    await People.updateOne(
      { _id },
      { email: 'NEW@example.org', $push: { tags: 'c', cards: { $each: [{ pan: '5' }] } } },
    );
    const after = await People.findByIdAndUpdate(
      _id,
      { $set: { age: 40, 'address.street': 'New', 'cards.0.pan': '6' }, $unset: { settings: 1 } },
      { returnDocument: 'after' },
    );
    expect(after!.toObject()).toMatchObject({
      email: 'new@example.org',
      age: 40,
      address: { street: 'New', city: 'London' },
      cards: [{ pan: '6' }, { pan: '4222' }, { pan: '5' }],
      tags: ['a', 'b', 'c'],
    });
    await People.bulkWrite([
      { insertOne: { document: { name: 'bulk', email: 'bulk@example.org' } } },
      { updateOne: { filter: { _id }, update: { $set: { age: 41 } } } },
    ]);
    const upserted = new Types.ObjectId();
    await People.updateOne({ _id: upserted }, { $setOnInsert: { email: 'up@example.org' } }, { upsert: true });
    await People.replaceOne({ _id }, { name: 'replaced', email: 'r@example.org' });
    const rows = await db.db!.collection('people').find({}).toArray();
    expect(JSON.stringify(rows)).not.toContain('example.org');
    expect(rows.map(({ email }) => email)).toEqual(Array(3).fill(expect.stringMatching(TOKEN)));
    const emails = (await People.find()).map(({ email }) => email).sort();
    expect(emails).toEqual(['bulk@example.org', 'r@example.org', 'up@example.org']);
    expect((await People.findOneAndDelete({ _id }))!.email).toBe('r@example.org');
    expect(await People.findOneAndUpdate({ _id }, { age: 1 })).toBe(null);
  });

  it.each<[string, (people: Model<Person>) => unknown, string]>([
    ['a filter', (people) => people.find({ email: 'secret' }), "use its blind index 'emailIndex'"],
    [
      'a filter in a list',
      (people) => people.findOne({ $or: [{ name: 'a' }, { age: { $gt: 3 } }] }),
      'keep a blind index',
    ],
    ['a filter of elements', (people) => people.find({ cards: { $elemMatch: { pan: '4111' } } }), "'cards[].pan'"],
    ['a filter through an array', (people) => people.find({ 'cards.pan': '4111' }), "'cards[].pan'"],
    ['a filter of a place', (people) => people.find({ 'cards.0.pan': '4111' }), "'cards[].pan'"],
    ['a filter into a value', (people) => people.find({ 'settings.theme': 'dark' }), "'settings'"],
    ['a whole subdocument', (people) => people.find({ address: { street: 'x' } as never }), "'address.street'"],
    ['an expression', (people) => people.find({ $expr: { $eq: ['$email', 'x'] } }), "'email'"],
    ['an exclusion', (people) => people.countDocuments({ email: { $ne: 'x' } }), "'email'"],
    ['a deletion', (people) => people.deleteMany({ tags: 'a' }), "'tags[]'"],
    ['distinct values', (people) => people.distinct('email'), "'email'"],
    ['a sort', (people) => people.find().sort({ age: -1 }), "'age'"],
    ['a part of a value', (people) => people.find().select('settings.theme'), 'no parts'],
    ['values without their id', (people) => people.find().select('-_id email'), "select '_id' too"],
    ['a group', (people) => people.aggregate([{ $group: { _id: '$email' } }]), "'email'"],
    ['a whole document', (people) => people.aggregate([{ $group: { _id: 1, all: { $push: '$$ROOT' } } }]), '$$ROOT'],
    ['a stage that moves', (people) => people.aggregate([{ $replaceRoot: { newRoot: '$address' } }]), '$replaceRoot'],
    ['changes', (people) => people.collection.watch(), 'watch is not read'],
    [
      'bulk writes of a connection',
      (people) => people.db.bulkWrite([{ model: people, name: 'insertOne', document: { email: 'x' } } as never]),
      'use bulkWrite of the model',
    ],
    [
      'those in any order',
      (people) =>
        people.db.bulkWrite([{ model: 'Person', name: 'updateOne', filter: {}, update: { age: 1 } } as never], {
          ordered: false,
        }),
      'use bulkWrite of the model',
    ],
    ['an update without id', (people) => people.updateMany({ name: 'a' }, { email: 'x' }), "names it by '_id'"],
    ['an update of some ids', (people) => people.updateOne({ _id: { $in: [] } }, { email: 'x' }), "names it by '_id'"],
    ['arithmetic', (people) => people.updateOne({ name: 'a' }, { $inc: { age: 1 } }), '$inc would compute'],
    ['a set of values', (people) => people.updateOne({ name: 'a' }, { $addToSet: { tags: 'x' } }), '$addToSet'],
    ['a pull of values', (people) => people.updateOne({ name: 'a' }, { $pull: { tags: 'x' } }), '$pull'],
    [
      'a pull by a value',
      (people) => people.updateOne({ name: 'a' }, { $pull: { cards: { pan: 'x' } } }),
      "'cards[].pan'",
    ],
    ['a new name', (people) => people.updateOne({ name: 'a' }, { $rename: { name: 'email' } }), "'email'"],
    ['a part of a value set', (people) => people.updateOne({ name: 'a' }, { 'settings.x': 1 }), 'as a whole'],
    ['an index by itself', (people) => people.updateOne({ name: 'a' }, { emailIndex: 'x' }), 'is written with it'],
    ['an index without a value', (people) => people.create({ emailIndex: 'x' }), 'is written with it'],
    [
      'an array filter',
      (people) => people.updateOne({ name: 'a' }, { 'cards.$[c].label': 'x' }, { arrayFilters: [{ 'c.pan': '4111' }] }),
      "'cards[].pan'",
    ],
    [
      'an update by a pipeline',
      (people) => people.updateOne({ name: 'a' }, [{ $set: { email: 'x' } }], { updatePipeline: true }),
      "'email'",
    ],
  ])('refuses %s that would compare or compute with ciphertexts', async (_what, work, says) => {
    await People.create({ name: 'a', email: 'ada@example.org' });
    const before = await db.db!.collection('people').find({}).toArray();
    expect(await refusal(() => work(People))).toMatch(/^INVALID_ARGUMENT/);
    expect(await refusal(() => work(People))).toContain(says);
    expect(await db.db!.collection('people').find({}).toArray()).toEqual(before);
  });

  it('asks whether there is a value, and takes what is not encrypted as ever', async () => {
    const { _id } = await People.create(ADA);
    expect(await People.countDocuments({ email: { $exists: true } })).toBe(1);
    expect(await People.countDocuments({ email: { $ne: null }, 'address.city': 'London', 'cards.label': 'two' })).toBe(
      1,
    );
    const part = await People.findOne({ _id }).select('email');
    expect([part!.email, part!.name]).toEqual(['ada@example.org', undefined]);
    const without = await People.findOne({ _id }).select('-_id name').lean();
    expect(without).toEqual({ name: 'Ada' });
    await People.updateMany({ name: 'Ada' }, { $set: { name: 'A.' }, $unset: { age: 1 } });
    expect((await People.findById(_id))!.toObject()).toMatchObject({ name: 'A.', email: 'ada@example.org' });
    expect((await stored(_id)).age).toBeUndefined();
  });

  it('opens no value that was moved to another document or path, and passes nothing through', async () => {
    const [ada, bob] = await People.create([{ email: 'a' }, { email: 'b' }]);
    const { email } = await stored(ada!._id);
    const raw = db.db!.collection('people');
    for (const [id, change, code] of [
      [bob!._id, { email }, 'DECRYPTION_FAILED'],
      [ada!._id, { tags: [email] }, 'DECRYPTION_FAILED'],
      [ada!._id, { tags: [], email: 'legacy plaintext' }, 'MALFORMED'],
    ] as const) {
      await raw.updateOne({ _id: id }, { $set: change });
      expect(await refusal(() => People.findById(id).lean())).toContain(code);
      expect(await refusal(() => People.find({ _id: id }))).toContain(code);
    }
  });

  it('writes nothing when the agent is gone', async () => {
    await using gone = connect({ socket: join(agent.folder, 'nobody.sock'), timeoutMs: 50 });
    const other = mongoose.createConnection(GIVEN ?? server!.url, { dbName: db.name });
    const Without = other.model<Person>('Person', schemaOf(definition(gone).plugin), 'people');
    expect(await refusal(() => Without.create(ADA))).toContain('AGENT_UNAVAILABLE');
    expect(await refusal(() => Without.insertMany([ADA]))).toContain('AGENT_UNAVAILABLE');
    expect(await refusal(() => Without.updateOne({ _id: new Types.ObjectId() }, { age: 1 }))).toContain(
      'AGENT_UNAVAILABLE',
    );
    expect(await People.countDocuments()).toBe(0);
    // A query that cannot be refused by the agent goes on without it.
    expect(await Without.find()).toEqual([]);
    await other.close();
  });

  it('encrypts once what waited for a connection', async () => {
    const late = mongoose.createConnection();
    const own = definition(dekd);
    const Late = late.model<Person>('Person', schemaOf(own.plugin), 'people');
    const saved = Late.create({ email: 'late@example.org' });
    await late.openUri(GIVEN ?? server!.url, { dbName: db.name });
    const { _id } = await saved;
    expect((await stored(_id)).email).toMatch(TOKEN);
    expect((await People.findById(_id))!.email).toBe('late@example.org');
    await late.close();
  });

  it('covers discriminators, which share the collection of their base', async () => {
    const own = encryptedModel<{ secret: string }>()(dekd, { key: 'things', paths: ['secret'] });
    const schema = new Schema<{ secret: string }>({ secret: String }, { discriminatorKey: 'kind' });
    schema.plugin(own.plugin as never);
    const Thing = db.model('Thing', schema, 'things');
    const Special = Thing.discriminator('Special', new Schema({ extra: String }));
    const { _id } = await Special.create({ secret: 'x', extra: 'y' } as never);
    expect((await db.db!.collection('things').findOne({ _id: _id as never }))!.secret).toMatch(TOKEN);
    expect((await Thing.findById(_id))!.toObject()).toMatchObject({ secret: 'x', kind: 'Special', extra: 'y' });
    expect((await Special.findById(_id))!.secret).toBe('x');
  });

  it('gives back bytes, bigints, lists of dates and whole subdocuments as what they were', async () => {
    interface Odd {
      bytes: Buffer;
      big: bigint;
      days: Date[];
      whole: { a: string; b: number[] };
    }
    const own = encryptedModel<Odd>()(dekd, { key: 'odd', paths: ['bytes', 'big', 'days[]', 'whole'] } as never);
    const whole = new Schema({ a: String, b: [Number] }, { _id: false });
    const schema = new Schema({ bytes: Buffer, big: BigInt, days: [Date], whole });
    schema.plugin(own.plugin as never);
    const OddModel = db.model('Odd', schema, 'odd');
    const given = {
      bytes: Buffer.from([0, 255, 7]),
      big: 2n ** 60n,
      days: [new Date(0), new Date(1e12)],
      whole: { a: 'x', b: [1] },
    };
    const odd = await OddModel.create(given);
    const row = await db.db!.collection('odd').findOne({ _id: odd._id as never });
    expect([row!.bytes, row!.big, row!.days[1], row!.whole]).toEqual(Array(4).fill(expect.stringMatching(TOKEN)));
    const found = (await OddModel.findById(odd._id))!;
    expect(Buffer.from(found.bytes as never)).toEqual(given.bytes);
    expect(found.toObject()).toMatchObject({ big: given.big, days: given.days, whole: given.whole });
    found.bytes = Buffer.from('changed') as never;
    found.days!.push(new Date(5));
    await found.save();
    const lean = (await OddModel.findById(odd._id).lean()) as unknown as Odd;
    expect([Buffer.from(lean.bytes).toString(), lean.days[2]!.getTime(), lean.big]).toEqual(['changed', 5, given.big]);
  });

  it('goes with a model to another connection', async () => {
    const [one, other] = await Promise.all(
      ['one', 'other'].map((name) =>
        mongoose.createConnection(GIVEN ?? server!.url, { dbName: `${db.name}_${name}` }).asPromise(),
      ),
    );
    const Moving = one!.model<Person>('Person', schemaOf(definition(dekd).plugin), 'people');
    const Moved = Moving.useConnection(other!);
    const { _id } = await Moved.create({ email: 'moved@example.org' });
    expect((await other!.db!.collection('people').findOne({ _id: _id as never }))!.email).toMatch(TOKEN);
    expect((await Moved.findById(_id))!.email).toBe('moved@example.org');
    await Promise.all([one!, other!].map((each) => each.dropDatabase().then(() => each.close())));
  });

  it('refuses to be a plugin of subdocuments, where it would encrypt nothing', async () => {
    const inner = new Schema({ street: String });
    const own = encryptedModel<{ street: string }>()(dekd, { key: 'k', paths: ['street'] });
    inner.plugin(own.plugin as never);
    const Outer = db.model('Outer', new Schema({ one: inner, many: [inner] }), 'outer');
    await expect(Outer.create({ one: { street: 'x' } })).rejects.toThrow('name their paths');
    await expect(Outer.create({ many: [{ street: 'x' }] })).rejects.toThrow('name their paths');
    await expect(Outer.insertMany([{ one: { street: 'x' } }])).rejects.toThrow('name their paths');
    const unvalidated = new Outer({ one: { street: 'x' } });
    await expect(unvalidated.save({ validateBeforeSave: false })).rejects.toThrow('name their paths');
    expect(await Outer.countDocuments()).toBe(0);
  });

  it('refuses schemas and definitions that say something impossible', () => {
    const define = (fields: object, paths: string[], more: object = {}) => {
      const own = encryptedModel<never>()(dekd, { key: 'k', paths, ...more } as never);
      return () => new Schema(fields as never).plugin(own.plugin as never);
    };
    expect(define({ a: String }, ['b'])).toThrow('does not exist');
    expect(define({ a: [String] }, ['a.b'])).toThrow('does not exist');
    expect(define({ a: Schema.Types.ObjectId }, ['a'])).toThrow('ObjectId, which JSON would not give back');
    expect(define({ a: { type: String, unique: true } }, ['a'])).toThrow('which a ciphertext defeats');
    expect(define({ a: String }, ['a'], { indexes: { i: { of: 'a', key: 'k' } } })).toThrow('is to hold a blind index');
    expect(() => define({ a: String }, [])).toThrow('nothing to encrypt');
    expect(() => define({ a: String }, ['_id'])).toThrow('cannot be encrypted');
  });
});
