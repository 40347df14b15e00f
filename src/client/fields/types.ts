import type { CallOptions, EncryptionContext } from '../types.ts';

declare const VALUE: unique symbol;

/**
 * An encrypted value: at run time a text `dk1.…`. It is no string to the compiler, so that what is encrypted is not used as
 * what it stands for; `toString()` gives the text where a store or a driver wants one.
 */
export interface Ciphertext<out V> {
  /** Only for the compiler. */
  readonly [VALUE]: V;
}

/** What JSON can carry. */
export type JsonValue =
  | null
  | boolean
  | number
  | string
  | readonly JsonValue[]
  | { readonly [name: string]: JsonValue | undefined };

/**
 * How the values of one field become JSON and come back. It is not asked about null and undefined, which stay what they are,
 * and gives neither.
 */
export interface FieldCodec<V, J extends JsonValue = JsonValue> {
  encode(value: V): J;
  /** @param json what `encode` gave, authenticated */
  decode(json: J): V;
}

/** Codecs that are there: a Date as its ISO 8601 text, a bigint as decimal digits, a Uint8Array as base64. */
export type BuiltInCodec<V> = [V] extends [Date]
  ? 'date'
  : [V] extends [bigint]
    ? 'bigint'
    : [V] extends [Uint8Array]
      ? 'bytes'
      : never;

type IsAny<T> = 0 extends 1 & T ? true : false;
// biome-ignore lint/complexity/noBannedTypes: every function, whatever it takes.
type AnyFunction = Function;
/** Objects that are values of their own, into which no path leads. */
type Opaque = AnyFunction | Date | RegExp | Uint8Array | ReadonlyMap<unknown, unknown> | ReadonlySet<unknown>;
/** What JSON does not give back as what it was. */
type Foreign = bigint | symbol | Opaque;
type Unnameable = '' | `${string}.${string}` | `${string}[${string}` | `${string}]${string}`;
/** `Less[N]` is N - 1. */
type Less = [never, 0, 1, 2];

/**
 * The paths to values in `T`: `email`, `address.street`, `cards[].pan`, `tags[]`, `grid[][]`; up to five names deep. Of a union of
 * objects it has the paths of every one of them; into a union of objects and other values no path leads.
 */
export type FieldPath<T> = IsAny<T> extends true ? string : MemberPath<T, 3> & string;

type MemberPath<T, D extends number> = T extends object
  ? {
      [K in keyof T & (string | number)]-?: `${K}` extends Unnameable
        ? never
        : IsMethod<T[K]> extends true
          ? never
          : `${K}` | `${K}${Onward<NonNullable<T[K]>, D>}`;
    }[keyof T & (string | number)]
  : never;

type IsMethod<V> = IsAny<V> extends true ? false : [V] extends [AnyFunction | undefined] ? true : false;

/** What may follow the name of a member or of an element with the value `V`. */
type Onward<V, D extends number> =
  IsAny<V> extends true
    ? `.${string}` | `[]${string}`
    : [V] extends [never]
      ? never
      : [D] extends [never]
        ? never
        : [V] extends [readonly (infer E)[]]
          ? '[]' | `[]${Onward<NonNullable<E>, NonNullable<E> extends readonly unknown[] ? Less[D] : D>}`
          : [V] extends [Opaque]
            ? never
            : [V] extends [object]
              ? V extends readonly unknown[]
                ? never
                : `.${MemberPath<V, Less[D]>}`
              : never;

/** The value that `P` leads to in `T`; undefined is not in it. */
export type FieldValue<T, P extends string> = Exclude<Walked<T, P>, undefined>;

type Walked<T, P extends string> = P extends `${infer Head}.${infer Rest}` ? Walked<Step<T, Head>, Rest> : Step<T, P>;

type Step<T, Name extends string> = Name extends `${infer Before}[]` ? Element<Step<T, Before>> : MemberValue<T, Name>;

type Element<A> = IsAny<A> extends true ? A : A extends readonly (infer E)[] ? E : never;

type MemberValue<T, Name extends string> =
  IsAny<T> extends true
    ? T
    : T extends object
      ? Name extends keyof T
        ? T[Name]
        : Name extends `${infer N extends number}`
          ? N extends keyof T
            ? T[N]
            : never
          : never
      : never;

/** `T` with the values at `P` encrypted, and everything else as it was. */
export type Encrypted<T, P extends FieldPath<T>> = Sealed<T, P & string, false>;

/** `T` with none, some or all of the values at `P` encrypted: what may be encrypted again. */
export type PartlyEncrypted<T, P extends FieldPath<T>> = Sealed<T, P & string, true>;

/** @typeParam Plain whether the value itself may stand there too */
type Sealed<T, P extends string, Plain extends boolean> = [P] extends [never]
  ? T
  : IsAny<T> extends true
    ? T
    : T extends Opaque
      ? T
      : T extends readonly unknown[]
        ? { [I in keyof T]: SealedAt<T[I], Beyond<P, '[]'>, Plain> }
        : T extends object
          ? { [K in keyof T]: SealedMember<T[K], P, K, Plain> }
          : T;

type SealedMember<V, P extends string, K, Plain extends boolean> = K extends string | number
  ? string extends K
    ? V | Ciphertext<V>
    : SealedAt<V, Beyond<P, `${K}`>, Plain>
  : V;

type SealedAt<V, Rest extends string, Plain extends boolean> = [Rest] extends [never]
  ? V
  : '' extends Rest
    ? IsAny<V> extends true
      ? Ciphertext<V>
      : Ciphertext<Exclude<V, undefined>> | (Plain extends true ? V : Extract<V, undefined>)
    : Sealed<V, Rest, Plain>;

/** What remains of the paths that begin with `Name`; the empty text of one that ends there. */
type Beyond<P extends string, Name extends string> = P extends Name
  ? ''
  : P extends `${Name}.${infer Rest}`
    ? Rest
    : P extends `${Name}[]${infer Rest}`
      ? `[]${Rest}`
      : never;

/** Paths whose values JSON would not give back. */
type ForeignPath<T, P extends FieldPath<T>> = P extends P
  ? IsAny<FieldValue<T, P & string>> extends true
    ? never
    : [Extract<FieldValue<T, P & string>, Foreign>] extends [never]
      ? never
      : P
  : never;

type CodecOf<V> = FieldCodec<V> | BuiltInCodec<V>;

/** Codecs by path: for each path whose values are no JSON, and for any other that wants one. */
export type FieldCodecs<T, P extends FieldPath<T>> = {
  readonly [K in ForeignPath<T, P>]: CodecOf<NonNullable<FieldValue<T, K & string>>>;
} & {
  readonly [K in Exclude<P, ForeignPath<T, P>>]?: CodecOf<NonNullable<FieldValue<T, K & string>>> | undefined;
};

interface FieldsBasis<T, P extends FieldPath<T>> {
  readonly key: string;
  /** The tenant, of all rows or of each. */
  readonly partition?: string | ((row: T) => string) | undefined;
  /** Paths of the values to encrypt; none lies inside another. */
  readonly fields: readonly P[];
  /**
   * What each row is bound to: what makes it this row and no other, an id for one. Called with the row as it is given, so, to
   * decrypt, with an encrypted one: it must not read a field of the list. The name `field` is taken.
   */
  readonly context: (row: T) => EncryptionContext;
  /**
   * Whether null is encrypted like any value, which is the default, or stays null in both directions: `keep` is for stores in
   * which an absent value is null, and shows where there is none.
   */
  readonly nulls?: 'encrypt' | 'keep' | undefined;
  /**
   * Binds the elements of arrays to their place as well, as `position` of the context. Two elements of one array can then not
   * change places, nor can they be moved by the application without decrypting; `dekd encrypt --fields` has no such thing.
   */
  readonly bindPositions?: boolean | undefined;
  /**
   * Whether a value that is this field's ciphertext already is kept, which the agent is asked about: the default. With
   * `false` every value is plaintext, and no right to decrypt is needed.
   */
  readonly idempotent?: boolean | undefined;
  /** Name of the root that values are encrypted under; see `RootOption`. Values under any root decrypt. */
  readonly root?: string | undefined;
}

/** Which values of a row are encrypted, under which key, and what they are bound to. */
export type FieldsDefinition<T, P extends FieldPath<T>> = FieldsBasis<T, P> &
  ([ForeignPath<T, P>] extends [never]
    ? { readonly codecs?: FieldCodecs<T, NoInfer<P>> | undefined }
    : { readonly codecs: FieldCodecs<T, NoInfer<P>> });

/** Names of members of a row, encrypted or not. */
type Member<T, P extends FieldPath<T>> = keyof T & keyof Encrypted<T, P>;

export interface FieldsDecryptOptions<Only> extends CallOptions {
  /** The fields to decrypt; the others stay as they are. */
  readonly only: readonly Only[];
}

export interface WholeRowOptions extends CallOptions {
  readonly only?: undefined;
}

/**
 * Encrypts and decrypts named values of rows: one batch for a call, whatever the number of rows. Rows given are never changed;
 * those returned are plain objects and share what is on no path. A row that cannot be done fails the call, with its number and
 * the path in the error; nothing half done is returned.
 */
export interface Fields<T, P extends FieldPath<T>> {
  readonly paths: readonly P[];
  encrypt(row: T | PartlyEncrypted<T, P>, options?: CallOptions): Promise<Encrypted<T, P>>;
  /** Some members of a row, among them all that its context is made of. */
  encrypt<K extends Member<T, P>>(row: Pick<T, K>, options?: CallOptions): Promise<Pick<Encrypted<T, P>, K>>;
  encryptMany(rows: readonly (T | PartlyEncrypted<T, P>)[], options?: CallOptions): Promise<Encrypted<T, P>[]>;
  encryptMany<K extends Member<T, P>>(
    rows: readonly Pick<T, K>[],
    options?: CallOptions,
  ): Promise<Pick<Encrypted<T, P>, K>[]>;
  decrypt(row: Encrypted<T, P>, options?: WholeRowOptions): Promise<T>;
  decrypt<Only extends P>(
    row: Encrypted<T, P>,
    options: FieldsDecryptOptions<Only>,
  ): Promise<Encrypted<T, Exclude<P, Only> & FieldPath<T>>>;
  decrypt<K extends Member<T, P>>(row: Pick<Encrypted<T, P>, K>, options?: WholeRowOptions): Promise<Pick<T, K>>;
  decryptMany(rows: readonly Encrypted<T, P>[], options?: WholeRowOptions): Promise<T[]>;
  decryptMany<Only extends P>(
    rows: readonly Encrypted<T, P>[],
    options: FieldsDecryptOptions<Only>,
  ): Promise<Encrypted<T, Exclude<P, Only> & FieldPath<T>>[]>;
  decryptMany<K extends Member<T, P>>(
    rows: readonly Pick<Encrypted<T, P>, K>[],
    options?: WholeRowOptions,
  ): Promise<Pick<T, K>[]>;
  /** One field by itself, for whoever has values and not rows. Throws INVALID_ARGUMENT for an element whose position is bound. */
  column<Q extends P>(path: Q): FieldColumn<T, FieldValue<T, Q & string>>;
}

/** A value, and what its row is known by: as much of the row as partition and context are made of. */
export interface ValueOfRow<T, V> {
  readonly value: V;
  readonly row: Readonly<Partial<T>>;
}

/**
 * One field by itself. What it makes, `Fields` opens, and the reverse. It cannot see whether a context is made of an encrypted
 * member: give rows without those.
 */
export interface FieldColumn<T, V> {
  readonly path: string;
  encrypt(value: V | Ciphertext<V>, row: Readonly<Partial<T>>, options?: CallOptions): Promise<Ciphertext<V>>;
  decrypt(value: Ciphertext<V>, row: Readonly<Partial<T>>, options?: CallOptions): Promise<V>;
  /** One result a value, in order. */
  encryptMany(values: readonly ValueOfRow<T, V | Ciphertext<V>>[], options?: CallOptions): Promise<Ciphertext<V>[]>;
  decryptMany(values: readonly ValueOfRow<T, Ciphertext<V>>[], options?: CallOptions): Promise<V[]>;
}

/** The rows that `F`, a `Fields`, encrypts, and what they are encrypted: `EncryptedRow<typeof users>`. */
export type PlainRow<F> = F extends Fields<infer T, infer _P> ? T : never;
export type EncryptedRow<F> = F extends Fields<infer T, infer P> ? Encrypted<T, P & FieldPath<T>> : never;
