import { hex } from '../bytes.ts';
import { DekdError } from '../errors.ts';
import type { KeyRecord } from '../keyring/record.ts';
import type { Keystore, ListFilter } from './keystore.ts';

/** A record, and the name of the keystore that holds this copy of it. */
export interface Copy {
  readonly record: KeyRecord;
  readonly part: string;
}

/** How far the listing of one keystore is. */
interface Progress {
  readonly keystore: Keystore;
  /** Cursor of the page that `left` is from; undefined for the first. */
  page: string | undefined;
  /** Cursor of the page after it; undefined when that was the last. */
  next: string | undefined;
  /** What of the page is not taken yet, in order of kid; undefined before it was read. */
  left: { readonly kid: string; readonly record: KeyRecord }[] | undefined;
}

/** `after` is the last kid returned; `pages` has the cursor of each keystore that has more, null for its first page. */
interface Position {
  readonly after: string;
  readonly pages: Readonly<Record<string, string | null>>;
}

/**
 * The listings of several keystores as one, in order of kid, all copies of a record together. A cursor of a keystore
 * names a page and not a place in it, so a merged cursor has the page of each and the last kid taken, and the rest of the
 * page is read again.
 */
export class MergedListing {
  readonly #filter: ListFilter;
  readonly #limit: number;
  readonly #after: string;
  readonly #parts = new Map<string, Progress>();

  private constructor(filter: ListFilter, limit: number, after: string) {
    this.#filter = filter;
    this.#limit = limit;
    this.#after = after;
  }

  /** @throws INVALID_ARGUMENT for a cursor that is none. */
  static resume(
    keystores: ReadonlyMap<string, Keystore>,
    filter: ListFilter,
    cursor: string | undefined,
    limit: number,
  ): MergedListing {
    const position = cursor === undefined ? undefined : decode(cursor);
    const listing = new MergedListing(filter, limit, position?.after ?? '');
    for (const [name, keystore] of keystores) {
      const page = position === undefined ? null : position.pages[name];
      if (page !== undefined) {
        listing.#parts.set(name, { keystore, page: page ?? undefined, next: undefined, left: undefined });
      }
    }
    return listing;
  }

  /** All copies of the next record; undefined at the end. */
  async next(): Promise<Copy[] | undefined> {
    await Promise.all([...this.#parts].map(([name, progress]) => this.#fill(name, progress)));
    let least: string | undefined;
    for (const { left } of this.#parts.values()) {
      const kid = left![0]!.kid;
      if (least === undefined || kid < least) {
        least = kid;
      }
    }
    const copies: Copy[] = [];
    for (const [part, { left }] of this.#parts) {
      if (left![0]!.kid === least) {
        copies.push({ part, record: left!.shift()!.record });
      }
    }
    return least === undefined ? undefined : copies;
  }

  /** Where to go on after `kid`, which may lie before what `next` returned last. */
  cursorAfter(kid: Uint8Array): string {
    const pages = Object.fromEntries([...this.#parts].map(([name, { page }]) => [name, page ?? null]));
    const position: Position = { after: hex(kid), pages };
    return Buffer.from(JSON.stringify(position)).toString('base64url');
  }

  /** Reads until something of this keystore is left to take, or drops it. */
  async #fill(name: string, progress: Progress): Promise<void> {
    while (progress.left === undefined || progress.left.length === 0) {
      if (progress.left !== undefined) {
        if (progress.next === undefined) {
          this.#parts.delete(name);
          return;
        }
        progress.page = progress.next;
      }
      const { records, cursor } = await progress.keystore.list(this.#filter, progress.page, this.#limit);
      progress.next = cursor;
      progress.left = records
        .map((record) => ({ kid: hex(record.kid), record }))
        .filter(({ kid }) => kid > this.#after);
    }
  }
}

function decode(cursor: string): Position {
  try {
    const { after, pages } = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as Position;
    const isCursor = (page: unknown) => page === null || typeof page === 'string';
    if (typeof after === 'string' && typeof pages === 'object' && Object.values(pages).every(isCursor)) {
      // A null prototype, so that no name of a keystore finds what an object inherits.
      return { after, pages: Object.assign(Object.create(null), pages) };
    }
  } catch {
    // Not ours, as below.
  }
  throw new DekdError('INVALID_ARGUMENT', 'cursor is not one that this keystore gave');
}
