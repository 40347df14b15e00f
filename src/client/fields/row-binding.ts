/** What the values of a row are bound to: partition and record context. */
import { ContextMemo } from '../context-memo.ts';
import type { EncryptionContext } from '../types.ts';
import type { CheckedDefinition } from './definition.ts';
import { PairSplice, withPair } from './row-context.ts';
import type { Slab } from './slab.ts';

/** Says which field a value is of, as `--fields` of the command line does. */
const fieldPairs = new PairSplice('field');
/** Says where in its arrays a value is, where positions are bound. */
const positionPairs = new PairSplice('position');

/** Said of a function that was asked about a row with tokens for values, as it will be when that is decrypted. */
const ENCRYPTED = ', asked about the encrypted row,';

/** A row that says nothing its values could be bound to; the message is said behind the number of the row. */
export class Unbound extends Error {
  override readonly name = 'Unbound';
}

/** The pairs that say which field a value is of, by index of the path. */
export function fieldPairsOf({ paths }: CheckedDefinition): Uint8Array[] {
  return paths.map((path) => fieldPairs.pair(path));
}

/** Of one row after the other. */
export class RowBinding {
  partition = '';
  readonly #definition: CheckedDefinition;
  readonly #slab: Slab;
  readonly #memo = new ContextMemo();
  readonly #pairs: readonly Uint8Array[];
  /** Of the row: canonical, without the field. */
  #base: Uint8Array | undefined;
  /** Where in `#base` the field belongs. */
  #place = 0;
  /** By index of the path, made when they are asked for. */
  readonly #contexts: (Uint8Array | undefined)[];

  /** @param pairs what `fieldPairsOf` makes of the paths */
  constructor(definition: CheckedDefinition, pairs: readonly Uint8Array[], slab: Slab) {
    this.#definition = definition;
    this.#slab = slab;
    this.#pairs = pairs;
    this.#contexts = new Array(pairs.length).fill(undefined);
  }

  /** @throws Unbound */
  begin(row: object): void {
    const base = this.#contextOf(row);
    this.partition = this.#partitionOf(row);
    if (base === this.#base) {
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
    this.#contexts.fill(undefined);
  }

  /**
   * The context of the values of a path; shared, so that nobody writes to it.
   * @param places indices of the arrays on the way
   * @throws Unbound
   */
  context(field: number, places: readonly number[]): Uint8Array {
    let context = this.#contexts[field];
    if (context === undefined) {
      context = this.#with(this.#base!, this.#place, this.#pairs[field]!);
      this.#contexts[field] = context;
    }
    return this.#definition.bindsPositions && places.length > 0
      ? this.#with(context, positionPairs.placeIn(context), positionPairs.pair(places.join('.')))
      : context;
  }

  /** @throws Unbound when the row says something else than the one that was begun with */
  checkSame(row: object): void {
    const base = this.#base!;
    const other = this.#contextOf(row, ENCRYPTED);
    if (other !== base && Buffer.compare(other, base) !== 0) {
      throw new Unbound('the context is another once the row is encrypted: it must not be made of a field of the list');
    }
    if (this.#partitionOf(row, ENCRYPTED) !== this.partition) {
      throw new Unbound(
        'the partition is another once the row is encrypted: it must not be made of a field of the list',
      );
    }
  }

  #with(context: Uint8Array, place: number, pair: Uint8Array): Uint8Array {
    return unboundBy(() => withPair(this.#slab, context, place, pair));
  }

  #contextOf(row: object, which = ''): Uint8Array {
    const said = answer(`context function${which}`, this.#definition.context, row) as EncryptionContext | undefined;
    if (said === undefined) {
      throw new Unbound(`the context function${which} returned nothing`);
    }
    return unboundBy(() => this.#memo.bytesOf(said));
  }

  #partitionOf(row: object, which = ''): string {
    const { partition } = this.#definition;
    if (typeof partition === 'string') {
      return partition;
    }
    const said = answer(`partition function${which}`, partition, row);
    if (typeof said !== 'string' || !said.isWellFormed()) {
      const kind = said === null ? 'null' : typeof said;
      const what = kind === 'string' ? 'a text with a lone surrogate' : `${kind}, not a text`;
      throw new Unbound(`the partition function${which} returned ${what}`);
    }
    return said;
  }
}

/** What a function of the application says of a row. @throws Unbound with what it threw as the cause */
function answer(name: string, ask: (row: object) => unknown, row: object): unknown {
  try {
    return ask(row);
  } catch (error) {
    throw new Unbound(`the ${name} failed`, { cause: error });
  }
}

function unboundBy<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new Unbound((error as Error).message);
  }
}
