import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type Ciphertext, connect, type DekdClient, type FieldCodec } from '../../src/client/index.ts';
import { DekdError, type ErrorCode } from '../../src/errors.ts';
import { runYaml, spawnTestAgent, startTestAgent, type TestAgent, writeRunConfig } from '../support/agent.ts';
import { startFakeAgent } from '../support/fake-agent.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

interface Card {
  pan: string;
  expiry: number | null;
}

interface User {
  id: string;
  email: string;
  phone?: string | undefined;
  note: string | null;
  address?: { street: string; town: string } | null;
  cards: Card[];
  tags: string[];
  profile?: unknown;
}

const CANARY = 'canary-4111-1111';

let agent: TestAgent;
let dekd: DekdClient;
beforeAll(async () => {
  agent = await startTestAgent();
  dekd = connect({ socket: agent.socket });
});
afterAll(async () => {
  await dekd.close();
  await agent.stop();
});

function user(id = 'u1'): User {
  return {
    id,
    email: `${id}@example.org`,
    note: null,
    address: { street: '1 High Street', town: 'Ely' },
    cards: [
      { pan: '4111', expiry: 2030 },
      { pan: '5500', expiry: null },
    ],
    tags: ['a', 'b'],
  };
}

const context = ({ id }: User) => ({ user: id });

function users(client: DekdClient = dekd) {
  return client.fields<User>()({
    key: 'customers',
    partition: 'acme',
    fields: ['email', 'phone', 'note', 'address.street', 'cards[].pan', 'cards[].expiry', 'tags[]'],
    context,
  });
}

/** What a call was refused with. Its message holds nothing of the values. */
async function refusal(call: Promise<unknown>): Promise<DekdError> {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(DekdError);
  expect((error as DekdError).message).not.toContain(CANARY);
  return error as DekdError;
}

async function said(call: Promise<unknown>): Promise<[ErrorCode, string]> {
  const { code, message } = await refusal(call);
  return [code, message];
}

/** As a store or an attacker would hand it out: types are none of its business. */
function stored<T>(row: T): Record<string, never> {
  return JSON.parse(JSON.stringify(row));
}

describe('fields of rows', () => {
  it('are encrypted where the paths lead, and nowhere else', async () => {
    const row = user();
    const sealed = await users().encrypt(row);
    const token = expect.stringMatching(/^dk1\.[A-Za-z0-9_-]+$/);
    expect(sealed).toEqual({
      id: 'u1',
      email: token,
      note: token,
      address: { street: token, town: 'Ely' },
      cards: [
        { pan: token, expiry: token },
        { pan: token, expiry: token },
      ],
      tags: [token, token],
    });
    expect(Object.keys(sealed)).toEqual(Object.keys(row));
    expect(await users().decrypt(sealed)).toStrictEqual(row);
    expect(row).toStrictEqual(user());
  });

  it('are what the plain interface makes and opens: JSON, under the context of the row and the path', async () => {
    const binding = { key: 'customers', partition: 'acme' };
    const sealed = await users().encrypt(user());
    const street = { ...binding, context: { field: 'address.street', user: 'u1' } };
    expect(await dekd.decryptText(String(sealed.address?.street), street)).toBe('"1 High Street"');
    const pan = { ...binding, context: { user: 'u1', field: 'cards[].pan' } };
    const made = await dekd.encryptText('"6011"', pan);
    const cards = [{ ...sealed.cards[0]!, pan: made as unknown as Ciphertext<string> }];
    expect((await users().decrypt({ ...sealed, cards })).cards[0]!.pan).toBe('6011');
  });

  it('travel together, whatever the number of rows and fields, and come back in order', async () => {
    const fake = await startFakeAgent({
      onRequest: (request, connection) => {
        const items = (request.encryptMany ?? request.decryptMany)!.items!;
        connection.reply({ id: request.id, many: { values: items.map(({ data }) => data), errors: [] } });
      },
    });
    onTestFinished(() => fake.stop());
    const client = connect({ socket: fake.path, lane: false });
    onTestFinished(() => client.close());
    const echoed = await client
      .fields<User>()({ key: 'k', fields: ['email', 'cards[].pan'], context })
      .encryptMany([user('a'), user('b'), user('c')]);
    expect(fake.requests).toHaveLength(1);
    const texts = echoed.map(({ email }) => Buffer.from(String(email).slice(4), 'base64url').toString());
    expect(texts).toEqual(['"a@example.org"', '"b@example.org"', '"c@example.org"']);
  });

  it('of 5,000 rows at once, in two calls of one definition, come back as they were, and let others take their turn', async () => {
    const fields = users();
    const rows = Array.from({ length: 5_000 }, (_, i) => user(`u${i}`));
    const others = Array.from({ length: 2_000 }, (_, i) => user(`v${i}`));
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const [sealed, moreSealed] = await Promise.all([fields.encryptMany(rows), fields.encryptMany(others)]);
    clearInterval(timer);
    expect(turns).toBeGreaterThan(5);
    const [opened, more] = await Promise.all([fields.decryptMany(sealed), fields.decryptMany(moreSealed)]);
    expect(opened).toStrictEqual(rows);
    expect(more).toStrictEqual(others);
  });

  it('let others take their turn where rows have none of them', async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const bare = await users().encryptMany(
      Array.from({ length: 100_000 }, (_, i) => ({ id: `u${i}`, cards: [], tags: [] })),
    );
    clearInterval(timer);
    expect(bare).toHaveLength(100_000);
    expect(turns).toBeGreaterThan(5);
  });

  it('of no row, of rows without any, are nothing to do', async () => {
    expect(await users().encryptMany([])).toEqual([]);
    const bare = { id: 'a', cards: [], tags: [] };
    expect(await users().encryptMany([bare])).toEqual([bare]);
  });

  it('stay absent where they are absent or undefined, and null comes back as null', async () => {
    const row: User = { ...user(), phone: undefined, address: null };
    const sealed = await users().encrypt(row);
    expect(Object.hasOwn(sealed, 'phone')).toBe(true);
    expect(sealed.phone).toBeUndefined();
    expect(sealed.address).toBeNull();
    expect(String(sealed.note)).toMatch(/^dk1\./);
    expect(await users().decrypt(sealed)).toStrictEqual(row);
    const { email: _email, phone: _phone, ...less } = await users().encrypt(user());
    expect(await users().decrypt(less)).toMatchObject({ note: null, tags: ['a', 'b'] });
  });

  it('leave null where null is to be kept, and say so where it was not', async () => {
    const keeping = dekd.fields<User>()({ key: 'customers', fields: ['note', 'email'], context, nulls: 'keep' });
    const sealed = await keeping.encrypt(user());
    expect(sealed.note).toBeNull();
    expect(await keeping.decrypt(sealed)).toStrictEqual(user());
    expect(await said(users().decrypt({ ...stored(await users().encrypt(user())), note: null } as never))).toEqual([
      'MALFORMED',
      "field 'note': the value is no token, a text that begins with dk1.: say nulls: 'keep' where the store has null for what is absent",
    ]);
  });

  it('share what is on no path, and copy what is', async () => {
    const profile = { deep: { same: true } };
    const row = { ...user(), profile };
    const sealed = await users().encrypt(row);
    expect(sealed.profile).toBe(profile);
    expect(sealed.cards).not.toBe(row.cards);
    const frozen = Object.freeze({ ...row, cards: Object.freeze([Object.freeze(row.cards[0]!)]) as unknown as Card[] });
    expect(await users().decrypt(await users().encrypt(frozen))).toStrictEqual({ ...frozen });
  });

  it('may be whole objects and arrays, and any value of JSON', async () => {
    const whole = dekd.fields<User>()({ key: 'customers', fields: ['cards', 'profile'], context });
    const profile = {
      '': [0, -0, 1e300, 'ü\u{1f600}\u2028', null, false, [[]], {}],
      a: { b: { c: '\ud83d\ude00' } },
      u: undefined,
    };
    const row = { ...user(), profile };
    const back = await whole.decrypt(await whole.encrypt(row));
    const { u: _u, ...rest } = profile;
    expect(back).toStrictEqual({ ...row, profile: rest });
    expect(Object.is((back.profile as { '': number[] })[''][1], -0)).toBe(true);
    const long = { ...user(), profile: 'é'.repeat(200_000) };
    expect(await whole.decrypt(await whole.encrypt(long))).toStrictEqual(long);
  });
});

describe('codecs', () => {
  interface Person {
    id: string;
    born: Date | null;
    balance: bigint;
    photo: Uint8Array;
    days?: Date[];
    point: Map<string, number>;
    nothing?: number;
  }
  const asEntries: FieldCodec<Map<string, number>, [string, number][]> = {
    encode: (map) => [...map],
    decode: (entries) => new Map(entries),
  };
  const people = () =>
    dekd.fields<Person>()({
      key: 'customers',
      fields: ['born', 'balance', 'photo', 'days[]', 'point', 'nothing'],
      codecs: {
        born: 'date',
        balance: 'bigint',
        photo: 'bytes',
        'days[]': 'date',
        point: asEntries,
        nothing: { encode: () => null, decode: () => 1 },
      },
      context: ({ id }) => ({ id }),
    });
  const person = (): Person => ({
    id: 'p1',
    born: new Date(-1),
    balance: -(2n ** 200n),
    photo: new Uint8Array([0, 255, 1]),
    days: [new Date('+275760-09-13T00:00:00.000Z')],
    point: new Map([['x', 1]]),
  });

  it('give back dates, bigints, bytes and what an application makes of its own', async () => {
    const fields = people();
    expect(await fields.decrypt(await fields.encrypt(person()))).toStrictEqual(person());
    const without = { ...person(), born: null, photo: Buffer.alloc(0) };
    const sealed = await fields.encrypt(without);
    expect(await fields.encrypt(sealed)).toEqual(sealed);
    expect(await fields.decrypt(sealed)).toStrictEqual({ ...without, photo: new Uint8Array(0) });
  });

  it.each([
    ['born', new Date(Number.NaN), 'the value is not a valid Date'],
    ['born', '2020-01-01', 'the value is not a valid Date'],
    ['balance', 1, 'the value is not a bigint'],
    ['photo', [1], 'the value is not a Uint8Array'],
    ['point', {}, 'its codec failed'],
    ['nothing', 1, 'its codec gave null for a value'],
  ])('refuse a value of another kind: %s', async (name, value, reason) => {
    const row = { ...person(), [name]: value } as Person;
    expect(await said(people().encrypt(row))).toEqual(['INVALID_ARGUMENT', `field '${name}': ${reason}`]);
  });

  it.each([
    ['born', '"tomorrow"', /not a date in ISO 8601/],
    ['born', '"2020-13-01"', /not a date in ISO 8601/],
    ['balance', '"0x10"', /not a text of digits/],
    ['balance', '"-0"', /not a text of digits/],
    ['photo', '"AAA"', /not base64/],
    ['photo', '7', /not base64/],
  ])('refuse a plaintext of another kind: %s %s', async (name, json, reason) => {
    const token = await dekd.encryptText(json, { key: 'customers', context: { id: 'p1', field: name } });
    const row = { id: 'p1', [name]: token } as never;
    expect((await refusal(people().decrypt(row))).message).toMatch(reason);
  });

  it('read days without a time, and times with a zone, as the command line may have met them', async () => {
    for (const [json, at] of [
      ['"2020-02-29"', '2020-02-29T00:00:00.000Z'],
      ['"2020-02-29T12:00:00+02:00"', '2020-02-29T10:00:00.000Z'],
    ] as const) {
      const token = await dekd.encryptText(json, { key: 'customers', context: { id: 'p1', field: 'born' } });
      const row = { id: 'p1', born: token as unknown as Ciphertext<Date | null> };
      expect((await people().decrypt(row)).born?.toISOString()).toBe(at);
    }
  });
});

describe('a row that cannot be encrypted', () => {
  class Account {
    #secret = CANARY;
    readonly id = 'u1';
    get email(): string {
      return this.#secret;
    }
  }

  it.each<[string, object, string]>([
    [
      'undefined in an array',
      { tags: ['a', undefined] },
      "field 'tags[1]': the element is undefined, which JSON cannot carry",
    ],
    [
      'a hole in an array',
      { tags: new Array(1) },
      "field 'tags[0]': the element is undefined, which JSON cannot carry",
    ],
    ['NaN', { email: Number.NaN }, "field 'email': the value is NaN, which JSON cannot carry"],
    [
      'an infinity',
      { cards: [{ expiry: Number.NEGATIVE_INFINITY }] },
      "field 'cards[0].expiry': the value is -Infinity, which JSON cannot carry",
    ],
    ['a function', { email: () => CANARY }, "field 'email': the value is a function, which JSON cannot carry"],
    ['a symbol', { email: Symbol('s') }, "field 'email': the value is a symbol, which JSON cannot carry"],
    ['a bigint', { email: 1n }, "field 'email': the value is a bigint: give the field the codec 'bigint'"],
    ['a Date', { email: new Date(0) }, "field 'email': the value is a Date: give the field the codec 'date'"],
    [
      'bytes',
      { email: Buffer.from(CANARY) },
      "field 'email': the value is a Uint8Array: give the field the codec 'bytes'",
    ],
    [
      'a Map',
      { email: new Map([[CANARY, 1]]) },
      "field 'email': the value is a Map, which JSON would not give back: give the field a codec",
    ],
    [
      'an instance',
      { email: new Account() },
      "field 'email': the value is an instance of a class, which JSON would give back as a plain object: give the field a codec",
    ],
    [
      'a lone surrogate',
      { email: '\ud800' },
      "field 'email': the value has a lone surrogate, which UTF-8 cannot carry",
    ],
    [
      'something in a value',
      { email: { [CANARY]: [CANARY, Number.NaN] } },
      "field 'email': something in the value is NaN, which JSON cannot carry",
    ],
    [
      'a name in a value',
      { email: { '\udc00': 1 } },
      "field 'email': something in the value has a lone surrogate, which UTF-8 cannot carry",
    ],
    [
      'a symbol for a name',
      { email: { [Symbol('s')]: 1 } },
      "field 'email': the value has a member whose name is a symbol, which JSON cannot carry",
    ],
    [
      'a text for an object',
      { address: CANARY },
      "field 'address.street': there is a string where the path has an object",
    ],
    [
      'an array for an object',
      { address: [{ street: CANARY }] },
      "field 'address.street': there is an array where the path has an object",
    ],
    [
      'an object for an array',
      { tags: { 0: CANARY } },
      "field 'tags[]': there is an object where the path has an array",
    ],
    [
      'a text among objects',
      { cards: [{ pan: '1' }, CANARY] },
      "field 'cards[1].pan': there is a string where the path has an object",
    ],
    [
      'a Map on the way',
      { address: new Map([['street', CANARY]]) },
      "field 'address.street': there is a Map where the path has an object",
    ],
  ])('says so with its path: %s', async (_what, bad, message) => {
    const row = { ...user(), ...bad } as User;
    expect(await said(users().encrypt(row))).toEqual(['INVALID_ARGUMENT', message]);
    expect(await said(users().encryptMany([user(), row]))).toEqual(['INVALID_ARGUMENT', `row 1, ${message}`]);
  });

  it('says so when it cannot be read, and keeps what was thrown as the cause', async () => {
    const own = new Error(CANARY);
    const failing = {
      get deep(): string {
        throw own;
      },
    };
    for (const [bad, message] of [
      [{ email: failing }, "field 'email': the value cannot be read"],
      [{ address: failing }, 'the row cannot be read'],
    ] as const) {
      const error = await refusal(users().encrypt({ ...user(), ...bad } as never));
      expect([error.code, error.message, error.cause]).toEqual(['INVALID_ARGUMENT', message, own]);
    }
    class Named {
      id = 'u1';
      email = 'x';
      name(): string {
        return this.id;
      }
    }
    const methods = dekd.fields<Named>()({
      key: 'customers',
      fields: ['email'],
      context: (row) => ({ id: row.name() }),
    });
    expect(await said(methods.encrypt(new Named()))).toEqual([
      'INVALID_ARGUMENT',
      'the context function, asked about the encrypted row, failed',
    ]);
  });

  it('says so when the value holds itself or is nested too deep', async () => {
    const loop: unknown[] = [];
    loop.push(loop);
    const message = "field 'profile': the value is nested deeper than 1000 levels, or holds itself";
    const fields = dekd.fields<User>()({ key: 'customers', fields: ['profile'], context });
    expect(await said(fields.encrypt({ ...user(), profile: loop }))).toEqual(['INVALID_ARGUMENT', message]);
  });

  it('is one whose member is an accessor of its class: it would stay in the clear', async () => {
    const fields = dekd.fields<{ id: string; email: string }>()({
      key: 'customers',
      fields: ['email'],
      context: ({ id }) => ({ id }),
    });
    const message =
      "field 'email': the object has 'email' hidden, or as an accessor of its class: give a plain object, as toObject() or toJSON() makes";
    expect(await said(fields.encrypt(new Account()))).toEqual(['INVALID_ARGUMENT', message]);
    const hidden = Object.defineProperty({ id: 'u1', email: '' }, 'email', { enumerable: false });
    expect(await said(fields.encrypt(hidden))).toEqual(['INVALID_ARGUMENT', message]);
  });

  it('is not one that is an instance with members of its own: what comes back is plain', async () => {
    class Person {
      id = 'u1';
      email = 'ada@example.org';
      static none = undefined;
    }
    const fields = dekd.fields<Person>()({ key: 'customers', fields: ['email'], context: ({ id }) => ({ id }) });
    const back = await fields.decrypt(await fields.encrypt(new Person()));
    expect(Object.getPrototypeOf(back)).toBe(Object.prototype);
    expect(back).toStrictEqual({ id: 'u1', email: 'ada@example.org' });
    const bare = Object.assign(Object.create(null), { id: 'u1', email: 'x' }) as Person;
    expect(Object.getPrototypeOf(await fields.encrypt(bare))).toBeNull();
  });

  it.each([
    ['null', null],
    ['a text', 'row'],
    ['an array', [user()]],
  ])('is one that is no object: %s', async (_what, row) => {
    expect(await said(users().encryptMany([user(), row as never]))).toEqual([
      'INVALID_ARGUMENT',
      'row 1, the row is not an object',
    ]);
  });

  it('changes no prototype by the names in it', async () => {
    type Hostile = { id: string; inner: Record<string, unknown> };
    const row = JSON.parse('{"id":"u1","__proto__":{"polluted":"x"},"constructor":{"prototype":{"polluted":"y"}}}');
    const fields = dekd.fields<ReturnType<typeof JSON.parse>>()({
      key: 'customers',
      fields: ['__proto__.polluted', 'constructor.prototype.polluted'],
      context: ({ id }: Hostile) => ({ id }),
    });
    const sealed = await fields.encrypt(row);
    expect(JSON.stringify(sealed)).toMatch(
      /"__proto__":\{"polluted":"dk1\..*"constructor":\{"prototype":\{"polluted":"dk1\./,
    );
    expect(JSON.stringify(await fields.decrypt(sealed))).toBe(JSON.stringify(row));
    const plain = { id: 'u2' };
    expect(await fields.encrypt(plain)).toEqual(plain);
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });

  it('fails the call with what the agent says of the first of its values', async () => {
    const [code, message] = await said(
      users().encryptMany([
        user('a'),
        { ...user('b'), tags: ['x', 'y'.repeat(2 << 20)] },
        { ...user('c'), tags: ['y'.repeat(2 << 20)] },
      ]),
    );
    expect(code).toBe('INVALID_ARGUMENT');
    expect(message).toMatch(/^row 1, field 'tags\[1\]': .*2097154 bytes/);
  });
});

describe('what rows are bound to', () => {
  const fields = (how: object) =>
    dekd.fields<User>()({ key: 'customers', fields: ['email', 'tags[]'], context, ...how });

  it.each<[string, object, string]>([
    [
      "'field'",
      { context: () => ({ field: 'email' }) },
      "the context has 'field', which is the path of each value: name yours otherwise",
    ],
    [
      "'position' where it is bound",
      { context: () => ({ position: '1' }), bindPositions: true },
      "the context has 'position', which bindPositions sets: name yours otherwise",
    ],
    ['no text', { context: () => ({ user: 1 }) }, 'context value of "user" is number, not a string'],
    [
      'nothing of an absent member',
      { context: ({ uid }: { uid: string }) => ({ user: uid }) },
      'context value of "user" is undefined, not a string',
    ],
    ['nothing', { context: () => undefined }, 'the context function returned nothing'],
    ['null', { context: () => null }, 'context is null, not an object of strings'],
    ['a promise', { context: async () => ({}) }, 'context is a Promise, not an object of strings'],
    [
      'an error',
      {
        context: () => {
          throw new Error(CANARY);
        },
      },
      'the context function failed',
    ],
    [
      'a value that is encrypted',
      { context: ({ email }: User) => ({ email }) },
      'the context is another once the row is encrypted: it must not be made of a field of the list',
    ],
    [
      'a tenant that is encrypted',
      { partition: ({ email }: User) => email },
      'the partition is another once the row is encrypted: it must not be made of a field of the list',
    ],
    ['no tenant', { partition: () => undefined }, 'the partition function returned undefined, not a text'],
    [
      'a tenant with a lone surrogate',
      { partition: () => '\ud800' },
      'the partition function returned a text with a lone surrogate',
    ],
  ])('cannot be %s', async (_what, how, reason) => {
    expect(await said(fields(how).encryptMany([user()]))).toEqual(['INVALID_ARGUMENT', `row 0, ${reason}`]);
  });

  it('keeps what the function of the application threw as the cause', async () => {
    const own = new Error('own');
    const error = await refusal(
      fields({
        context: () => {
          throw own;
        },
      }).encrypt(user()),
    );
    expect(error.cause).toBe(own);
  });

  it('may be another tenant for each row', async () => {
    const each = fields({ partition: ({ id }: User) => `tenant-${id}` });
    const rows = ['a', 'b', 'c', 'a'].map(user);
    const sealed = await each.encryptMany(rows);
    expect(await each.decryptMany(sealed)).toStrictEqual(rows);
    expect(await fields({ partition: 'tenant-b' }).decrypt(sealed[1]!)).toStrictEqual(rows[1]);
    expect((await refusal(fields({ partition: 'tenant-a' }).decrypt(sealed[1]!))).code).toBe('DECRYPTION_FAILED');
  });

  it('keeps two elements of an array in their places where positions are bound, and only there', async () => {
    const swapped = async (how: object): Promise<unknown> => {
      const sealed = await fields(how).encrypt(user());
      return fields(how).decrypt({ ...sealed, tags: [...sealed.tags].reverse() });
    };
    expect(await swapped({})).toMatchObject({ tags: ['b', 'a'] });
    expect(await said(swapped({ bindPositions: true }))).toEqual([
      'DECRYPTION_FAILED',
      "field 'tags[0]': decryption failed",
    ]);
    const bound = await fields({ bindPositions: true }).encrypt(user());
    expect(await fields({ bindPositions: true }).decrypt(bound)).toStrictEqual(user());
    const alone = { key: 'customers', context: { field: 'tags[]', position: '1', user: 'u1' } };
    expect(await dekd.decryptText(String(bound.tags[1]), alone)).toBe('"b"');
  });

  it('tells which value of which row does not open', async () => {
    const [a, b] = await users().encryptMany([user('a'), user('b')]);
    expect(await said(users().decryptMany([a!, { ...b!, cards: [b!.cards[0]!, a!.cards[1]!] }]))).toEqual([
      'DECRYPTION_FAILED',
      "row 1, field 'cards[1].pan': decryption failed",
    ]);
    const error = await refusal(users().decrypt({ ...a!, email: b!.email }));
    expect(error.incident).toMatch(/\S/);
  });
});

describe('a value that is encrypted already', () => {
  it('stays as it is, and so does a row that is encrypted in part', async () => {
    const sealed = await users().encrypt(user());
    expect(await users().encrypt(sealed)).toEqual(sealed);
    const mixed = await users().encrypt({ ...sealed, email: 'new@example.org' });
    expect(mixed).toMatchObject({ note: sealed.note, cards: sealed.cards });
    expect(await users().decrypt(mixed)).toStrictEqual({ ...user(), email: 'new@example.org' });
  });

  it('is known by its seal alone: whatever only looks like it is encrypted as the text that it is', async () => {
    const sealed = await users().encrypt(user());
    const elsewhere = await users().encrypt(user('u2'));
    const otherKey = await dekd
      .fields<User>()({ key: 'orders', partition: 'acme', fields: ['email'], context })
      .encrypt(user());
    const token = Buffer.from(String(sealed.email).slice(4), 'base64url');
    const cut = token.subarray(0, -1);
    const foreign = Buffer.from(token).fill(0, 2, 18);
    const futureSuite = Buffer.from(token).fill(0x7f, 1, 2);
    const looks = [
      String(elsewhere.email),
      String(otherKey.email),
      String(sealed.tags[0]),
      ...[cut, foreign, futureSuite].map((bytes) => `dk1.${bytes.toString('base64url')}`),
      `dk1.${Buffer.concat([Buffer.from([0xc1, 0x01]), Buffer.alloc(56)]).toString('base64url')}`,
      `${sealed.email} `,
      'dk1.',
      'dk1.AAAA',
    ];
    for (const email of looks) {
      const again = await users().encrypt({ ...user(), email });
      expect(again.email).not.toBe(email);
      expect((await users().decrypt(again)).email).toBe(email);
    }
  });

  it('takes the right to decrypt to be told, and none where every value is plaintext', async () => {
    const folder = temporaryFolder();
    writeRunConfig(folder);
    const yaml = runYaml().replace(/operations: \[.*?\]/, 'operations: [encrypt]');
    const writer = await startTestAgent({ folder, yaml });
    onTestFinished(() => writer.stop());
    const client = connect({ socket: writer.socket });
    onTestFinished(() => client.close());
    const writing = users(client);
    const sealed = await writing.encrypt(user());
    const [code, message] = await said(writing.encryptMany([user(), sealed]));
    expect(code).toBe('PERMISSION_DENIED');
    expect(message).toMatch(
      /^row 1, field 'email': the value looks like a token, and to tell takes the right to decrypt: .*idempotent: false/,
    );
    const twice = client.fields<User>()({ key: 'customers', fields: ['email'], context, idempotent: false });
    const again = await twice.encrypt({ ...user(), email: String(sealed.email) });
    expect(again.email).not.toBe(sealed.email);
  });
});

describe('what is decrypted', () => {
  it('is never taken as it is when it is no token', async () => {
    const sealed = stored(await users().encrypt(user()));
    for (const email of [CANARY, 'dk1.', `dk1.${'A'.repeat(80)}`, `${sealed.email}=`, 7, true, {}, []]) {
      expect(await said(users().decryptMany([sealed, { ...sealed, email }] as never))).toEqual([
        'MALFORMED',
        "row 1, field 'email': the value is no token, a text that begins with dk1.",
      ]);
    }
  });

  it('is never given out when it is no JSON', async () => {
    for (const plaintext of [CANARY, `"${CANARY}" "b"`, `${CANARY}"`, '"\n"', '']) {
      const token = await dekd.encryptText(plaintext, {
        key: 'customers',
        partition: 'acme',
        context: { user: 'u1', field: 'email' },
      });
      expect(await said(users().decrypt({ id: 'u1', email: token } as never))).toEqual([
        'INVALID_ARGUMENT',
        "field 'email': the plaintext is not one JSON value: it was not encrypted as a field",
      ]);
    }
    const bytes = Buffer.from([0x22, 0xff, 0x22]);
    const token = await dekd.encrypt(bytes, {
      key: 'customers',
      partition: 'acme',
      context: { user: 'u1', field: 'email' },
    });
    const text = `dk1.${Buffer.from(token).toString('base64url')}`;
    expect((await refusal(users().decrypt({ id: 'u1', email: text } as never))).message).toMatch(/not UTF-8/);
  });

  it('may be some of the fields, and the others stay encrypted', async () => {
    const sealed = await users().encrypt(user());
    const some = await users().decrypt(sealed, { only: ['email', 'cards[].pan'] });
    expect(some).toEqual({
      ...sealed,
      email: 'u1@example.org',
      cards: sealed.cards.map(({ expiry }, i) => ({ pan: user().cards[i]!.pan, expiry })),
    });
    expect(await users().decryptMany([sealed], { only: [] })).toEqual([sealed]);
    expect(await said(users().decrypt(sealed, { only: ['id' as never] }))).toEqual([
      'INVALID_ARGUMENT',
      'only is an array of paths of the fields',
    ]);
    const broken = { ...sealed, note: 'no token' as never };
    expect((await users().decrypt(broken, { only: ['email'] })).email).toBe('u1@example.org');
  });

  it('may be a row of which a query gave a part', async () => {
    const { id, email } = await users().encrypt(user());
    expect(await users().decrypt({ id, email })).toStrictEqual({ id: 'u1', email: 'u1@example.org' });
    expect(await said(users().decryptMany([{ email } as never]))).toEqual([
      'INVALID_ARGUMENT',
      'row 0, context value of "user" is undefined, not a string',
    ]);
  });
});

describe('a field alone', () => {
  it('makes and opens what fields of rows do, many at once', async () => {
    const email = users().column('email');
    const sealed = await users().encrypt(user());
    expect(await email.decrypt(sealed.email, { id: 'u1' })).toBe('u1@example.org');
    const token = await email.encrypt('new@example.org', { id: 'u1' });
    expect((await users().decrypt({ ...sealed, email: token })).email).toBe('new@example.org');
    expect(await email.encrypt(token, { id: 'u1' })).toBe(token);
    const values = Array.from({ length: 2_000 }, (_, i) => ({ value: `${i}`, row: { id: `u${i}` } }));
    const tokens = await email.encryptMany(values);
    const back = await email.decryptMany(tokens.map((value, i) => ({ value, row: { id: `u${i}` } })));
    expect(back).toEqual(values.map(({ value }) => value));
    const pan = await users().column('cards[].pan').encrypt('6011', { id: 'u1' });
    expect((await users().decrypt({ ...sealed, cards: [{ ...sealed.cards[0]!, pan }] })).cards[0]!.pan).toBe('6011');
  });

  it('says what is wrong with a value, by its number', async () => {
    const email = users().column('email');
    const good = { value: await email.encrypt('x', { id: 'a' }), row: { id: 'a' } };
    expect(await said(email.decryptMany([good, { ...good, row: { id: 'b' } }]))).toEqual([
      'DECRYPTION_FAILED',
      "row 1, field 'email': decryption failed",
    ]);
    expect(await said(email.encryptMany([{ value: undefined as never, row: { id: 'a' } }]))).toEqual([
      'INVALID_ARGUMENT',
      "row 0, field 'email': the value is undefined, which JSON cannot carry",
    ]);
    expect(await said(email.encrypt('x', undefined as never))).toEqual([
      'INVALID_ARGUMENT',
      'the row of the value is not an object',
    ]);
    const bound = dekd.fields<User>()({ key: 'customers', fields: ['tags[]'], context, bindPositions: true });
    expect(() => bound.column('tags[]')).toThrow(/bound to their positions/);
    expect(() => users().column('id' as never)).toThrow(DekdError);
  });
});

describe('a definition', () => {
  const good = { key: 'customers', fields: ['email'], context };
  it.each<[string, unknown, RegExp]>([
    ['nothing', undefined, /a definition of fields is an object/],
    ['no key', { ...good, key: '' }, /key is a name/],
    ['no fields', { ...good, fields: [] }, /no field is named/],
    ['fields that are no paths', { ...good, fields: [1] }, /fields is an array of paths/],
    ['a text of fields', { ...good, fields: 'email' }, /fields is an array of paths/],
    ['one field twice', { ...good, fields: ['email', 'email'] }, /field 'email' is named twice/],
    [
      'a field in a field',
      { ...good, fields: ['cards', 'cards[].pan'] },
      /field 'cards\[\].pan' lies inside field 'cards'/,
    ],
    ['no context', { ...good, context: undefined }, /context is a function of a row/],
    ['a context that is no function', { ...good, context: { user: 'u1' } }, /context is a function of a row/],
    ['a partition that is no text', { ...good, partition: 1 }, /partition is number, not a string/],
    ['an unknown codec', { ...good, codecs: { email: 'dates' } }, /the codec of 'email' is neither/],
    ['a codec of Object', { ...good, codecs: { email: 'constructor' } }, /the codec of 'email' is neither/],
    ['half a codec', { ...good, codecs: { email: { encode: String } } }, /the codec of 'email' is neither/],
    ['a codec for another', { ...good, codecs: { note: 'date' } }, /a codec is given for 'note'/],
    ['nulls that are neither', { ...good, nulls: true }, /nulls is 'encrypt' or 'keep'/],
    ['a flag that is none', { ...good, bindPositions: 'yes' }, /bindPositions is true or false/],
  ])('is refused with %s', (_what, definition, reason) => {
    expect(() => dekd.fields<User>()(definition as never)).toThrow(reason);
  });

  it('is read once: changing its arrays later changes nothing', async () => {
    const fields = ['email'] as ['email'];
    const some = dekd.fields<User>()({ key: 'customers', fields, context });
    fields.splice(0, 1);
    expect(some.paths).toEqual(['email']);
    expect(Object.isFrozen(some.paths)).toBe(true);
    expect(String((await some.encrypt(user())).email)).toMatch(/^dk1\./);
  });
});

describe('a call', () => {
  it('is given up with its signal, before and while it works', async () => {
    const reason = new Error('enough');
    await expect(users().encrypt(user(), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const rows = Array.from({ length: 5_000 }, (_, i) => user(`u${i}`));
    const call = users().encryptMany(rows, { signal: controller.signal });
    await sleep(1);
    controller.abort(reason);
    await expect(call).rejects.toBe(reason);
  });

  it('over many rows is finished although its agent is killed and another takes its place', async () => {
    const folder = temporaryFolder();
    const command = ['run', '--config', writeRunConfig(folder)];
    const socket = join(folder, 's', 'agent.sock');
    const first = await spawnTestAgent(socket, command);
    const client = connect({ socket, timeoutMs: 20_000 });
    const rows = Array.from({ length: 20_000 }, (_, i) => user(`u${i}`));
    const fields = users(client);
    await fields.encrypt(user());
    const call = fields.encryptMany(rows);
    await sleep(20);
    first.child.kill('SIGKILL');
    await first.exited;
    const second = await spawnTestAgent(socket, command);
    onTestFinished(async () => {
      await client.close();
      second.child.kill('SIGKILL');
      await second.exited;
    });
    expect(await fields.decryptMany(await call)).toStrictEqual(rows);
  });

  it('says that there is no agent, that its time is over and what is wrong with its arguments', async () => {
    const nobody = connect({ socket: `${agent.folder}/nobody.sock`, timeoutMs: 50 });
    onTestFinished(() => nobody.close());
    expect((await refusal(users(nobody).encryptMany([user(), user()]))).code).toBe('AGENT_UNAVAILABLE');
    expect((await refusal(users().encrypt(user(), { timeoutMs: 0 }))).code).toBe('INVALID_ARGUMENT');
    expect(await said(users().encryptMany(user() as never))).toEqual([
      'INVALID_ARGUMENT',
      'rows are given as an array',
    ]);
  });
});
