/**
 * What the compiler must say of fields: `npm run typecheck` fails where a line marked `@ts-expect-error` compiles, and where any
 * other does not. Nothing here runs.
 */
import type {
  Ciphertext,
  DekdClient,
  Encrypted,
  EncryptedRow,
  FieldCodec,
  FieldPath,
  FieldValue,
  PartlyEncrypted,
  PlainRow,
} from '../../src/client/index.ts';

declare const dekd: DekdClient;
type Equal<A, B> = (<X>() => X extends A ? 1 : 2) extends <X>() => X extends B ? 1 : 2 ? true : false;
declare function same<A, B>(..._: Equal<A, B> extends true ? [] : [never]): void;
declare function takes<V>(value: V): void;

interface Address {
  street: string;
  zip: string | null;
}

interface User {
  readonly id: string;
  email: string;
  phone?: string;
  note: string | null;
  visits: number;
  born: Date;
  balance: bigint;
  address?: Address | null;
  cards: { pan: string; expiry: number; owner?: Address }[];
  readonly tags: readonly string[];
  grid: number[][];
  pair: [string, number];
  payment: { kind: 'card'; pan: string } | { kind: 'transfer'; iban: string };
  loose: string | { text: string };
  anything: unknown;
  label(): string;
  'dotted.name': string;
}

declare const user: User;

// Paths.
same<
  FieldPath<Omit<User, 'payment' | 'loose' | 'anything' | 'born' | 'balance'>>,
  | 'id'
  | 'email'
  | 'phone'
  | 'note'
  | 'visits'
  | 'address'
  | 'address.street'
  | 'address.zip'
  | 'cards'
  | 'cards[]'
  | 'cards[].pan'
  | 'cards[].expiry'
  | 'cards[].owner'
  | 'cards[].owner.street'
  | 'cards[].owner.zip'
  | 'tags'
  | 'tags[]'
  | 'grid'
  | 'grid[]'
  | 'grid[][]'
  | 'pair'
  | 'pair[]'
>();
same<
  FieldPath<Pick<User, 'payment' | 'loose' | 'anything' | 'born' | 'balance'>>,
  'payment' | 'payment.kind' | 'payment.pan' | 'payment.iban' | 'loose' | 'anything' | 'born' | 'balance'
>();
same<FieldValue<User, 'cards[].owner.zip'>, string | null>();
same<FieldValue<User, 'phone'>, string>();
same<FieldValue<User, 'grid[][]'>, number>();
same<FieldValue<User, 'payment.pan'>, string>();
same<FieldPath<Record<string, { a: string }>>, `${string}.a` | string>();

declare function unsure(row: User): { user: string } | undefined;
const context = (row: User) => ({ user: row.id });
const definition = { key: 'customers', context } as const;

dekd.fields<User>()({
  ...definition,
  fields: ['email', 'address.zip', 'cards[].pan', 'tags[]', 'grid[][]', 'payment.iban'],
});
// @ts-expect-error there is no such member
dekd.fields<User>()({ ...definition, fields: ['emial'] });
// @ts-expect-error there is no such member of a member
dekd.fields<User>()({ ...definition, fields: ['address.town'] });
// @ts-expect-error cards is an array
dekd.fields<User>()({ ...definition, fields: ['cards.pan'] });
// @ts-expect-error no path names one element
dekd.fields<User>()({ ...definition, fields: ['cards[0].pan'] });
// @ts-expect-error email is no array
dekd.fields<User>()({ ...definition, fields: ['email[]'] });
// @ts-expect-error a method is no value
dekd.fields<User>()({ ...definition, fields: ['label'] });
// @ts-expect-error no path leads into a Date
dekd.fields<User>()({ ...definition, fields: ['born.getTime'] });
// @ts-expect-error no path leads into what may be no object
dekd.fields<User>()({ ...definition, fields: ['loose.text'] });
// @ts-expect-error a name with a dot cannot be named
dekd.fields<User>()({ ...definition, fields: ['dotted.name'] });
// @ts-expect-error one wrong path among right ones
dekd.fields<User>()({ ...definition, fields: ['email', 'phones'] });

// What a definition must have.
// @ts-expect-error the context is missing
dekd.fields<User>()({ key: 'customers', fields: ['email'] });
// @ts-expect-error the key is missing
dekd.fields<User>()({ context, fields: ['email'] });
// @ts-expect-error the fields are missing
dekd.fields<User>()({ ...definition });
// @ts-expect-error a context has texts
dekd.fields<User>()({ key: 'customers', fields: ['email'], context: (row) => ({ visits: row.visits }) });
// @ts-expect-error a row has no such member
dekd.fields<User>()({ key: 'customers', fields: ['email'], context: (row) => ({ user: row.uid }) });
// @ts-expect-error a context that may be absent binds nothing
dekd.fields<User>()({ key: 'customers', fields: ['email'], context: (row) => unsure(row) });
// @ts-expect-error a partition is a text
dekd.fields<User>()({ ...definition, partition: (row) => row.visits, fields: ['email'] });
// @ts-expect-error an option that there is not
dekd.fields<User>()({ ...definition, fields: ['email'], bindPosition: true });
dekd.fields<User>()({
  ...definition,
  partition: 'acme',
  fields: ['email'],
  nulls: 'keep',
  bindPositions: true,
  idempotent: false,
});

// Codecs.
const money: FieldCodec<bigint, string> = {
  encode: (value) => value.toString(16),
  decode: (text) => BigInt(`0x${text}`),
};
dekd.fields<User>()({ ...definition, fields: ['born', 'balance', 'email'], codecs: { born: 'date', balance: money } });
dekd.fields<User>()({
  ...definition,
  fields: ['email'],
  codecs: { email: { encode: (email: string) => [email], decode: (list) => String((list as string[])[0]) } },
});
// @ts-expect-error JSON would not give a Date back: it takes a codec
dekd.fields<User>()({ ...definition, fields: ['born'] });
// @ts-expect-error one of two has no codec
dekd.fields<User>()({ ...definition, fields: ['born', 'balance'], codecs: { born: 'date' } });
// @ts-expect-error the codec of another type
dekd.fields<User>()({ ...definition, fields: ['born'], codecs: { born: 'bigint' } });
// @ts-expect-error a text is JSON as it is, and no date
dekd.fields<User>()({ ...definition, fields: ['email'], codecs: { email: 'date' } });
// @ts-expect-error a codec for what is no field
dekd.fields<User>()({ ...definition, fields: ['email'], codecs: { born: 'date' } });

// What comes out.
const users = dekd.fields<User>()({
  ...definition,
  fields: [
    'email',
    'phone',
    'note',
    'address.zip',
    'cards[].pan',
    'tags[]',
    'grid[][]',
    'pair[]',
    'payment.pan',
    'born',
  ],
  codecs: { born: 'date' },
});
export async function encrypting(): Promise<void> {
  const row = await users.encrypt(user);
  same<typeof row.email, Ciphertext<string>>();
  same<typeof row.id, string>();
  same<typeof row.visits, number>();
  same<(typeof row)['phone'], Ciphertext<string> | undefined>();
  same<typeof row.note, Ciphertext<string | null>>();
  same<typeof row.born, Ciphertext<Date>>();
  same<NonNullable<typeof row.address>['zip'], Ciphertext<string | null>>();
  same<NonNullable<typeof row.address>['street'], string>();
  same<(typeof row.cards)[number]['pan'], Ciphertext<string>>();
  same<(typeof row.cards)[number]['expiry'], number>();
  same<typeof row.tags, readonly Ciphertext<string>[]>();
  same<typeof row.grid, Ciphertext<number>[][]>();
  same<typeof row.pair, [Ciphertext<string>, Ciphertext<number>]>();
  takes<Ciphertext<string> | undefined>(row.payment.kind === 'card' ? row.payment.pan : undefined);
  takes<string>(row.payment.kind === 'transfer' ? row.payment.iban : '');

  // @ts-expect-error a ciphertext is no text
  takes<string>(row.email);
  // @ts-expect-error nor has it the methods of one
  row.email.toLowerCase();
  // @ts-expect-error a text is no ciphertext
  takes<Ciphertext<string>>('dk1.');
  // @ts-expect-error nor is the ciphertext of another type
  takes<Ciphertext<number>>(row.email);
  // @ts-expect-error an encrypted element is no text
  takes<string>(row.cards[0]!.pan);
  // @ts-expect-error an encrypted row is no row
  takes<User>(row);
  // @ts-expect-error a row is no encrypted row
  takes<typeof row>(user);
  // @ts-expect-error a row in the clear is not decrypted
  await users.decrypt(user);
  // @ts-expect-error nor are many
  await users.decryptMany([row, user]);
  takes<string>(row.email.toString());

  takes<User>(await users.decrypt(row));
  takes<User[]>(await users.decryptMany([row]));
  same<Awaited<ReturnType<typeof users.encryptMany>>, EncryptedRow<typeof users>[]>();
  same<PlainRow<typeof users>, User>();
}

// What may go in: rows, rows that are encrypted in part or altogether, parts of rows.
export async function encryptingAgain(row: EncryptedRow<typeof users>): Promise<void> {
  takes<typeof row>(await users.encrypt(row));
  takes<PartlyEncrypted<User, 'email'>>({ ...user, email: row.email });
  takes<(typeof row)[]>(await users.encryptMany([user, row, { ...row, email: 'ada@example.org' }]));
  const part = await users.encrypt({ id: 'a', email: 'ada@example.org' });
  same<typeof part.email, Ciphertext<string>>();
  same<typeof part.id, string>();
  // @ts-expect-error what was not given is not there
  takes<unknown>(part.note);
  // @ts-expect-error the member of another type
  await users.encrypt({ id: 'a', email: 1 });
  // @ts-expect-error no member of a row
  await users.encrypt({ id: 'a', emial: 'x' });
}

// A part of what is encrypted, and rows in which a part is.
export async function decryptingSome(row: EncryptedRow<typeof users>): Promise<void> {
  const some = await users.decrypt(row, { only: ['email', 'cards[].pan'] });
  takes<string>(some.email);
  takes<string>(some.cards[0]!.pan);
  takes<Ciphertext<Date>>(some.born);
  // @ts-expect-error it was not decrypted
  takes<Date>(some.born);
  // @ts-expect-error no field of the list
  await users.decrypt(row, { only: ['visits'] });
  const [first] = await users.decryptMany([row], { only: ['born'] });
  takes<Date>(first!.born);
  const projected = await users.decrypt({ id: row.id, email: row.email });
  same<typeof projected, Pick<User, 'id' | 'email'>>();
  const projections = await users.decryptMany([{ id: row.id, email: row.email }]);
  takes<string>(projections[0]!.email);
}

// A field alone.
export async function column(row: EncryptedRow<typeof users>): Promise<void> {
  const pan = users.column('cards[].pan');
  same<Awaited<ReturnType<typeof pan.decrypt>>, string>();
  takes<Ciphertext<string>>(await pan.encrypt('4111 1111', { id: 'a' }));
  takes<string[]>(await pan.decryptMany([{ value: row.cards[0]!.pan, row: { id: 'a' } }]));
  // @ts-expect-error no field of the list
  users.column('visits');
  // @ts-expect-error the value of another type
  await pan.encrypt(1, { id: 'a' });
  // @ts-expect-error the ciphertext of another type
  await pan.decrypt(row.born, { id: 'a' });
  // @ts-expect-error no member of the row
  await pan.encrypt('4111 1111', { uid: 'a' });
}

// Types that know nothing, and types that know themselves.
type Untyped = ReturnType<typeof JSON.parse>;
interface Node {
  id: string;
  secret: string;
  children: Node[];
}
takes<FieldPath<Node>[]>(['secret', 'children[].secret', 'children[].children[].children[].secret']);
same<Encrypted<{ a: Untyped }, 'a'>, { a: Ciphertext<Untyped> }>();
dekd.fields<Untyped>()({ key: 'k', fields: ['a', 'b[].c'], context: (row) => ({ id: row.id }) });
dekd.fields<Record<string, string>>()({ key: 'k', fields: ['a', 'b'], context: (row) => ({ id: row.id ?? '' }) });
export async function generic<T extends { id: string; email: string }>(row: T): Promise<Ciphertext<string>> {
  const some = dekd.fields<{ id: string; email: string }>()({
    key: 'k',
    fields: ['email'],
    context: ({ id }) => ({ id }),
  });
  return (await some.encrypt(row)).email;
}
