/** Typed fields: named values of rows, encrypted and decrypted in one batch a call. */

import { MIN_TOKEN_LENGTH, TOKEN_FORMAT } from '../../envelope/token.ts';
import { decodeTokenText, encodeTokenText, TOKEN_TEXT_PREFIX } from '../../envelope/token-text.ts';
import { DekdError } from '../../errors.ts';
import { OPERATION } from '../../protocol/request-reader.ts';
import { checkPartition } from '../arguments.ts';
import { passItems } from '../batch.ts';
import type { Caller } from '../caller.ts';
import { ContextMemo } from '../context-memo.ts';
import type { WireBinding, WireItem } from '../requests.ts';
import type { CallOptions, EncryptionContext, ManyResult } from '../types.ts';
import { type AnyDefinition, type CheckedDefinition, checkDefinition, invalid } from './definition.ts';
import { jsonTextOf, jsonValueOf, NotJson, textOfUtf8 } from './json-text.ts';
import { FIELD_NAME, PairSplice, POSITION_NAME, withPair } from './row-context.ts';
import { copyRow, Misshapen, type Slot } from './row-walk.ts';
import type { FieldPath, Fields, FieldsDefinition } from './types.ts';

type Row = Record<string, unknown>;
type DecryptOptions = CallOptions & { readonly only?: readonly string[] | undefined };

const fieldPairs = new PairSplice(FIELD_NAME);
const positionPairs = new PairSplice(POSITION_NAME);
const encoder = new TextEncoder();
const NO_CONTEXT = new Uint8Array(0);
/** What stands for a value until its token is there. */
const PENDING = TOKEN_TEXT_PREFIX;

/** @throws INVALID_ARGUMENT for a definition that says something impossible */
export function defineFields<T, const P extends FieldPath<T>>(
  caller: Caller,
  definition: FieldsDefinition<T, P>,
): Fields<T, P> {
  return new FieldsOfRows(caller, checkDefinition(definition as unknown as AnyDefinition)) as unknown as Fields<T, P>;
}

class FieldsOfRows {
  readonly #caller: Caller;
  readonly #definition: CheckedDefinition;
  readonly #binder: Binder;

  constructor(caller: Caller, definition: CheckedDefinition) {
    this.#caller = caller;
    this.#definition = definition;
    this.#binder = new Binder(definition);
  }

  get paths(): readonly string[] {
    return this.#definition.paths;
  }

  async encrypt(row: Row, options: CallOptions = {}): Promise<Row> {
    return (await this.#encrypt([row], true, options))[0]!;
  }

  async encryptMany(rows: readonly Row[], options: CallOptions = {}): Promise<Row[]> {
    return this.#encrypt(checkRows(rows), false, options);
  }

  async decrypt(row: Row, options: DecryptOptions = {}): Promise<Row> {
    return (await this.#decrypt([row], true, options))[0]!;
  }

  async decryptMany(rows: readonly Row[], options: DecryptOptions = {}): Promise<Row[]> {
    return this.#decrypt(checkRows(rows), false, options);
  }

  async #encrypt(rows: readonly Row[], isSingle: boolean, options: CallOptions): Promise<Row[]> {
    options.signal?.throwIfAborted();
    const deadline = this.#caller.deadline(options);
    const batch = new Batch(this.#definition, this.#binder, isSingle);
    const copies: Row[] = new Array(rows.length);
    const suspects: Item[] = [];
    for (let index = 0; index < rows.length; index++) {
      copies[index] = batch.addRow(rows[index]!, index, (item, value) => {
        const token = this.#definition.isIdempotent ? tokenOf(value) : undefined;
        if (token === undefined) {
          item.data = encoder.encode(batch.textOf(item, value));
        } else {
          item.data = token;
          item.kept = value as string;
          suspects.push(item);
        }
        item.holder[item.name] = PENDING;
        return true;
      });
      batch.checkIsUnbound(copies[index]!, index);
    }
    const { binding, items } = batch;
    if (suspects.length > 0) {
      const opened = await passItems(this.#caller, OPERATION.decryptMany, binding, suspects, options, deadline);
      for (let i = 0; i < suspects.length; i++) {
        judge(batch, suspects[i]!, opened[i]!);
      }
    }
    const wanted = suspects.length === 0 ? items : items.filter((item) => item.kept === undefined);
    const sealed = await passItems(this.#caller, OPERATION.encryptMany, binding, wanted, options, deadline);
    for (let i = 0; i < wanted.length; i++) {
      const { holder, name } = wanted[i]!;
      holder[name] = encodeTokenText(valueIn(batch, wanted[i]!, sealed[i]!));
    }
    for (const { holder, name, kept } of suspects) {
      if (kept !== undefined) {
        holder[name] = kept;
      }
    }
    return copies;
  }

  async #decrypt(rows: readonly Row[], isSingle: boolean, options: DecryptOptions): Promise<Row[]> {
    options.signal?.throwIfAborted();
    const deadline = this.#caller.deadline(options);
    const isWanted = this.#wanted(options.only);
    const batch = new Batch(this.#definition, this.#binder, isSingle);
    const copies = rows.map((row, index) =>
      batch.addRow(row, index, (item, value) => {
        if (isWanted?.[item.field] === false || (value === null && this.#definition.keepsNulls)) {
          return false;
        }
        item.data = batch.tokenAt(item, value);
        return true;
      }),
    );
    const { binding, items } = batch;
    const opened = await passItems(this.#caller, OPERATION.decryptMany, binding, items, options, deadline);
    for (let i = 0; i < items.length; i++) {
      const item = items[i]!;
      item.holder[item.name] = batch.valueAt(item, valueIn(batch, item, opened[i]!));
    }
    return copies;
  }

  #wanted(only: readonly string[] | undefined): boolean[] | undefined {
    if (only === undefined) {
      return undefined;
    }
    const { paths } = this.#definition;
    if (!Array.isArray(only)) {
      throw invalid('only is an array of paths');
    }
    for (const path of only as readonly unknown[]) {
      if (!paths.includes(path as string)) {
        throw invalid('only names a path that is not one of the fields');
      }
    }
    return paths.map((path) => only.includes(path));
  }
}

/** A value on its way. */
class Item implements WireItem, Slot {
  data: Uint8Array = NO_CONTEXT;
  readonly key: string | undefined = undefined;
  readonly partition: string | undefined;
  readonly context: Uint8Array;
  readonly holder: Slot['holder'];
  readonly name: string | number;
  readonly field: number;
  readonly places: readonly number[];
  readonly row: number;
  /** The text of the row, while it may be a token of this very field, and once it is known to be one. */
  kept: string | undefined = undefined;

  constructor(slot: Slot, row: number, partition: string | undefined, context: Uint8Array) {
    this.holder = slot.holder;
    this.name = slot.name;
    this.field = slot.field;
    this.places = slot.places;
    this.row = row;
    this.partition = partition;
    this.context = context;
  }
}

/** The values of one call, and what is said when one of them cannot be done. */
class Batch {
  readonly items: Item[] = [];
  readonly #definition: CheckedDefinition;
  readonly #binder: Binder;
  readonly #isSingle: boolean;
  #partition: string | undefined;

  constructor(definition: CheckedDefinition, binder: Binder, isSingle: boolean) {
    this.#definition = definition;
    this.#binder = binder;
    this.#isSingle = isSingle;
  }

  /** What holds for items that do not say. */
  get binding(): WireBinding {
    return { key: this.#definition.key, partition: this.#partition ?? '', context: NO_CONTEXT, anyKey: false };
  }

  /**
   * Copies a row, and adds an item for each value that `take` takes.
   * @throws INVALID_ARGUMENT, and what `take` throws
   */
  addRow(row: Row, index: number, take: (item: Item, value: unknown) => boolean): Row {
    if (typeof row !== 'object' || row === null || Array.isArray(row)) {
      throw invalid(`${this.#rowName(index)}the row is not an object`);
    }
    const binder = this.#binder;
    try {
      binder.begin(row);
      this.#partition ??= binder.partition;
      const partition = binder.partition === this.#partition ? undefined : binder.partition;
      return copyRow(row, this.#definition.root, (value, holder, name, field, places) => {
        const slot = { holder, name, field, places };
        const item = new Item(slot, index, partition, binder.contextOf(field, places));
        if (take(item, value)) {
          this.items.push(item);
        }
      });
    } catch (error) {
      if (error instanceof Misshapen) {
        throw invalid(`${this.#rowName(index)}${this.#pathName(error.field, error.places)}: ${error.message}`);
      }
      throw error instanceof Unbound ? invalid(`${this.#rowName(index)}${error.message}`, error.cause) : error;
    }
  }

  /** @throws INVALID_ARGUMENT when the row, encrypted, would say another context or partition */
  checkIsUnbound(copy: Row, index: number): void {
    try {
      this.#binder.checkSame(copy);
    } catch (error) {
      throw error instanceof Unbound ? invalid(`${this.#rowName(index)}${error.message}`, error.cause) : error;
    }
  }

  /** @throws INVALID_ARGUMENT */
  textOf(item: Item, value: unknown): string {
    const codec = value === null ? undefined : this.#definition.codecs[item.field];
    return this.#said(item, () => jsonTextOf(codec === undefined ? value : codec.encode(value)));
  }

  /** @throws MALFORMED */
  tokenAt(item: Item, value: unknown): Uint8Array {
    const token = tokenOf(value);
    if (token === undefined) {
      throw new DekdError('MALFORMED', `${this.at(item)}: the value is not a token (a text that begins with dk1.)`);
    }
    return token;
  }

  valueAt(item: Item, plaintext: Uint8Array): unknown {
    return this.#said(item, () => {
      const bytes = Buffer.from(plaintext.buffer, plaintext.byteOffset, plaintext.byteLength);
      const value = jsonValueOf(textOfUtf8(bytes, 0, bytes.length));
      const codec = value === null ? undefined : this.#definition.codecs[item.field];
      return codec === undefined ? value : codec.decode(value as never);
    });
  }

  /** Where an item is, in words. */
  at({ row, field, places }: Item): string {
    return this.#rowName(row) + this.#pathName(field, places);
  }

  #said<R>(item: Item, work: () => R): R {
    try {
      return work();
    } catch (error) {
      if (error instanceof NotJson) {
        throw invalid(`${this.at(item)}: ${error.message}`);
      }
      throw invalid(`${this.at(item)}: its codec failed`, error);
    }
  }

  #rowName(index: number): string {
    return this.#isSingle ? '' : `row ${index}, `;
  }

  #pathName(field: number, places: readonly number[]): string {
    let depth = 0;
    const path = this.#definition.paths[field]!.replace(/\[\]/g, () =>
      depth < places.length ? `[${places[depth++]}]` : '[]',
    );
    return `field '${path}'`;
  }
}

/** The row says nothing that its values could be bound to. */
class Unbound extends Error {
  override readonly name = 'Unbound';
}

/** What the values of the row under way are bound to. */
class Binder {
  partition = '';
  readonly #definition: CheckedDefinition;
  readonly #memo = new ContextMemo();
  readonly #pairs: readonly Uint8Array[];
  /** Of the row: canonical, without field. */
  #base: Uint8Array = NO_CONTEXT;
  #place = 0;
  /** By index of the path, for `#base`. */
  #contexts: (Uint8Array | undefined)[] = [];

  constructor(definition: CheckedDefinition) {
    this.#definition = definition;
    this.#pairs = definition.paths.map((path) => fieldPairs.pair(path));
  }

  /** @throws Unbound */
  begin(row: Row): void {
    const base = this.#contextOfRow(row);
    this.partition = this.#partitionOfRow(row);
    if (base === this.#base && this.#contexts.length > 0) {
      return;
    }
    const place = fieldPairs.placeIn(base);
    if (place < 0) {
      throw new Unbound("the context has 'field', which is the path of each value: name yours otherwise");
    }
    if (this.#definition.bindsPositions && positionPairs.placeIn(base) < 0) {
      throw new Unbound("the context has 'position', which bindPositions sets: name yours otherwise");
    }
    this.#base = base;
    this.#place = place;
    this.#contexts = new Array(this.#pairs.length).fill(undefined);
  }

  /** Canonical bytes, shared: nobody writes to them. */
  contextOf(field: number, places: readonly number[]): Uint8Array {
    let context = this.#contexts[field];
    if (context === undefined) {
      context = withPair(this.#base, this.#place, this.#pairs[field]!);
      this.#contexts[field] = context;
    }
    if (!this.#definition.bindsPositions || places.length === 0) {
      return context;
    }
    return withPair(context, positionPairs.placeIn(context), positionPairs.pair(places.join('.')));
  }

  /** @throws Unbound when the row says something else than the one that was begun with */
  checkSame(row: Row): void {
    const base = this.#base;
    const other = this.#contextOfRow(row);
    if (other !== base && Buffer.compare(other, base) !== 0) {
      throw new Unbound('the context changes when the row is encrypted: it must not be made of a field of the list');
    }
    if (this.#partitionOfRow(row) !== this.partition) {
      throw new Unbound('the partition changes when the row is encrypted: it must not be made of a field of the list');
    }
  }

  #contextOfRow(row: Row): Uint8Array {
    const { context } = this.#definition;
    let said: EncryptionContext;
    try {
      said = context(row);
    } catch (error) {
      throw new Unbound('the context function failed', { cause: error });
    }
    if (said === undefined) {
      throw new Unbound('the context function returned nothing');
    }
    try {
      return this.#memo.bytesOf(said);
    } catch (error) {
      throw new Unbound((error as Error).message);
    }
  }

  #partitionOfRow(row: Row): string {
    const { partition } = this.#definition;
    if (typeof partition === 'string') {
      return partition;
    }
    let said: unknown;
    try {
      said = partition(row);
    } catch (error) {
      throw new Unbound('the partition function failed', { cause: error });
    }
    if (typeof said !== 'string') {
      throw new Unbound(`the partition function returned ${said === null ? 'null' : typeof said}, not a string`);
    }
    return checkPartition(said);
  }
}

function checkRows(rows: readonly Row[]): readonly Row[] {
  if (!Array.isArray(rows)) {
    throw invalid('rows is an array of rows');
  }
  return rows;
}

/** The bytes of what may be a token; undefined for everything that is none whoever looks. */
function tokenOf(value: unknown): Uint8Array | undefined {
  if (typeof value !== 'string' || !value.startsWith(TOKEN_TEXT_PREFIX)) {
    return undefined;
  }
  try {
    const token = decodeTokenText(value);
    return token.length >= MIN_TOKEN_LENGTH && token[0] === TOKEN_FORMAT ? token : undefined;
  } catch {
    return undefined;
  }
}

/** Decides whether a value that looks like a token is one of this very field. @throws what the agent could not tell */
function judge(batch: Batch, item: Item, result: ManyResult): void {
  if (result.ok) {
    return;
  }
  const { code } = result.error;
  if (code === 'DECRYPTION_FAILED' || code === 'MALFORMED' || code === 'UNSUPPORTED_VERSION') {
    const text = item.kept!;
    item.kept = undefined;
    item.data = encoder.encode(batch.textOf(item, text));
    return;
  }
  const { message } = result.error;
  throw failure(
    batch,
    item,
    result.error,
    code === 'PERMISSION_DENIED'
      ? `the value looks like a token, and to tell takes the right to decrypt (or idempotent: false, to encrypt every value): ${message}`
      : message,
  );
}

function valueIn(batch: Batch, item: Item, result: ManyResult): Uint8Array {
  if (result.ok) {
    return result.value;
  }
  throw failure(batch, item, result.error, result.error.message);
}

function failure(batch: Batch, item: Item, error: DekdError, message: string): DekdError {
  const { code, incident, retryAfterMs } = error;
  return new DekdError(code, `${batch.at(item)}: ${message}`, {
    ...(incident === undefined ? {} : { incident }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}
