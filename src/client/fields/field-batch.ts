/** Values of some rows on their way to the agent and back, and what is said of one that cannot be done. */
import { DekdError } from '../../errors.ts';
import { OPERATION } from '../../protocol/request-reader.ts';
import { passItems } from '../batch.ts';
import type { Caller } from '../caller.ts';
import type { WireItem } from '../requests.ts';
import type { CallOptions, ManyResult } from '../types.ts';
import { type AnyCodec, type CheckedDefinition, invalid } from './definition.ts';
import { NotJson } from './json-text.ts';
import { type RowBinding, Unbound } from './row-binding.ts';
import { copyRow, type Holder, Misshapen } from './row-walk.ts';
import type { Slab } from './slab.ts';

/** Values in a batch, and rows, which may have none: enough that a frame costs little, few enough that this side and the agent work at the same time. */
const VALUES = 512;
const ROWS = 512;
const WEIGHT = 128 * 1024;
const NO_BYTES = new Uint8Array(0);

export type Row = Record<string, unknown>;

/** What holds for all batches of a call. */
export interface FieldCall {
  readonly caller: Caller;
  readonly definition: CheckedDefinition;
  readonly binding: RowBinding;
  /** By index of the path. */
  readonly codecs: readonly (AnyCodec | undefined)[];
  /** Of this call alone. */
  readonly slab: Slab;
  /** Whether there is one row, which then has no number. */
  readonly isSingle: boolean;
  readonly options: CallOptions;
  /** By the monotonic clock. */
  readonly deadline: number;
}

/** A value, and where it is: what becomes of it is put there. */
export class FieldItem implements WireItem {
  data: Uint8Array = NO_BYTES;
  readonly key: string | undefined = undefined;
  readonly partition: string | undefined;
  readonly context: Uint8Array;
  readonly holder: Holder;
  readonly name: string | number;
  /** Index of the path. */
  readonly field: number;
  readonly places: readonly number[];
  readonly row: number;
  /** A value that is a token already, or may be one. */
  kept: string | undefined = undefined;

  constructor(
    holder: Holder,
    name: string | number,
    field: number,
    places: readonly number[],
    row: number,
    partition: string | undefined,
    context: Uint8Array,
  ) {
    this.holder = holder;
    this.name = name;
    this.field = field;
    this.places = places;
    this.row = row;
    this.partition = partition;
    this.context = context;
  }
}

export abstract class FieldBatch {
  protected readonly call: FieldCall;
  protected readonly items: FieldItem[] = [];
  #weight = 0;
  #rows = 0;
  #partition: string | undefined;

  constructor(call: FieldCall) {
    this.call = call;
  }

  get isFull(): boolean {
    return this.items.length >= VALUES || this.#weight >= WEIGHT || this.#rows >= ROWS;
  }

  /**
   * Copies a row, and takes the values that the paths lead to.
   * @param index number of the row
   * @throws DekdError naming the row, and the path where it is one value that is wrong
   */
  addRow(row: Row, index: number): Row {
    return this.#aboutRow(index, () => {
      if (typeof row !== 'object' || row === null || Array.isArray(row)) {
        throw new Unbound('the row is not an object');
      }
      const partition = this.#begin(row);
      const copy = copyRow(row, this.call.definition.root, (value, holder, name, field, places) =>
        this.#take(value, holder, name, field, places, index, partition),
      );
      this.checkCopy(copy);
      return copy;
    });
  }

  /** Takes one value of a row, of which only what the context is made of has to be there. */
  addValue(value: unknown, row: Row, holder: Holder, index: number, field: number): void {
    this.#aboutRow(index, () => {
      if (typeof row !== 'object' || row === null) {
        throw new Unbound('the row of the value is not an object');
      }
      this.#take(value, holder, index, field, [], index, this.#begin(row));
    });
  }

  /** Sends the values off, and puts what they became into their places. @throws DekdError */
  abstract run(): Promise<void>;

  /** Sets the data of an item. @returns false for a value that stays as it is. @throws DekdError */
  protected abstract load(item: FieldItem, value: unknown): boolean;

  /** @throws Unbound */
  protected checkCopy(_copy: Row): void {}

  /** One result an item. @param operation one of `OPERATION` that takes many */
  protected async pass(operation: number, items: readonly FieldItem[]): Promise<ManyResult[]> {
    const { caller, definition, options, deadline } = this.call;
    options.signal?.throwIfAborted();
    const binding = {
      key: definition.key,
      partition: this.#partition ?? '',
      context: NO_BYTES,
      anyKey: false,
      root: operation === OPERATION.encryptMany ? definition.chosenRoot : undefined,
    };
    return passItems(caller, operation, binding, items, options, deadline);
  }

  /** @throws what the agent said of the item */
  protected bytesIn(item: FieldItem, result: ManyResult): Uint8Array {
    if (result.ok) {
      return result.value;
    }
    throw this.failure(item, result.error);
  }

  /** What the agent said of an item, with where that is. */
  protected failure(item: FieldItem, error: DekdError, message = error.message): DekdError {
    const { code, incident, retryAfterMs } = error;
    return new DekdError(code, `${this.at(item)}: ${message}`, {
      ...(incident === undefined ? {} : { incident }),
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    });
  }

  /** The codec of an item, which is not asked about null. */
  protected codecOf(item: FieldItem, value: unknown): AnyCodec | undefined {
    return value === null ? undefined : this.call.codecs[item.field];
  }

  /** Runs what turns a value into JSON or back, which an application has its hand in. @throws INVALID_ARGUMENT */
  protected about<R>(item: FieldItem, work: () => R): R {
    try {
      return work();
    } catch (error) {
      if (error instanceof NotJson) {
        throw invalid(`${this.at(item)}: ${error.message}`);
      }
      const hasCodec = this.call.codecs[item.field] !== undefined;
      throw invalid(`${this.at(item)}: ${hasCodec ? 'its codec failed' : 'the value cannot be read'}`, error);
    }
  }

  /** Where an item is, in words. */
  protected at({ row, field, places }: FieldItem): string {
    return this.#rowName(row) + this.#pathName(field, places);
  }

  /** @returns the partition that items of this row have to say, undefined when it is that of the batch */
  #begin(row: Row): string | undefined {
    const { binding } = this.call;
    this.#rows += 1;
    binding.begin(row);
    this.#partition ??= binding.partition;
    return binding.partition === this.#partition ? undefined : binding.partition;
  }

  #take(
    value: unknown,
    holder: Holder,
    name: string | number,
    field: number,
    places: readonly number[],
    row: number,
    partition: string | undefined,
  ): void {
    const context = this.call.binding.context(field, places);
    const item = new FieldItem(holder, name, field, places, row, partition, context);
    if (this.load(item, value)) {
      this.items.push(item);
      this.#weight += item.data.length + context.length;
    }
  }

  #aboutRow<R>(index: number, work: () => R): R {
    try {
      return work();
    } catch (error) {
      if (error instanceof Misshapen) {
        throw invalid(`${this.#rowName(index)}${this.#pathName(error.field, error.places)}: ${error.message}`);
      }
      if (error instanceof Unbound) {
        throw invalid(`${this.#rowName(index)}${error.message}`, error.cause);
      }
      throw error instanceof DekdError ? error : invalid(`${this.#rowName(index)}the row cannot be read`, error);
    }
  }

  #rowName(index: number): string {
    return this.call.isSingle ? '' : `row ${index}, `;
  }

  #pathName(field: number, places: readonly number[]): string {
    let depth = 0;
    const path = this.call.definition.paths[field]!.replaceAll('[]', () => {
      const place = places[depth++];
      return place === undefined ? '[]' : `[${place}]`;
    });
    return `field '${path}'`;
  }
}
