import { hex } from '../bytes.ts';
import type { Custody, Root } from '../custody/custody.ts';
import { DekdError } from '../errors.ts';
import type { ListFilter } from '../keystores/keystore.ts';
import type { Hierarchy } from './hierarchy.ts';
import type { HighWater } from './high-water.ts';
import { type DerivedRecord, isDerived, type KekMove } from './kek-move.ts';
import { checkPartition } from './key-name.ts';
import type { KeyRecord } from './record.ts';
import { RecordRefused } from './record-check.ts';
import { isRooted, type RootedRecord, type RootMove } from './root-move.ts';
import { Turns } from './turns.ts';

/** Attempts against other writers of the same row. */
const MAX_ATTEMPTS = 16;
/** Records in progress at once; each has up to two secrets in the table. */
const MAX_MOVES = 8;
const MAX_REWRAP_PAGE = 500;

/** One page of a rewrap, in order of kid. */
export interface RewrapRequest {
  /** Names of roots: every record under `from` moves under `to`. Without both, each record moves under its newest parent. */
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  /** Only records of this name, and of this partition. */
  readonly name?: string | undefined;
  readonly partition?: string | undefined;
  readonly cursor?: string | undefined;
  readonly limit: number;
  /** `dry-run` only counts; `verify` opens each record, and counts those that are not where they should be. */
  readonly mode: 'move' | 'dry-run' | 'verify';
}

export interface RewrapFailure {
  readonly kid: string;
  readonly name: string;
  readonly partition: string;
  readonly version: number;
  readonly state: string;
  readonly reason: string;
}

export interface RewrapPage {
  /** Records that this is about. */
  readonly examined: number;
  /** Wrapped anew, or with `dry-run` still to be. */
  readonly moved: number;
  /** Where they should be; with `verify`, opened there. */
  readonly done: number;
  /** With `verify`: not where they should be. */
  readonly left: number;
  readonly failed: readonly RewrapFailure[];
  /** For the next page; undefined at the end. */
  readonly cursor: string | undefined;
}

export interface RewrapParts {
  readonly custody: Custody;
  readonly hierarchy: Hierarchy;
  readonly highWater: HighWater;
  readonly rootMove: RootMove;
  readonly kekMove: KekMove;
  /** Slots of the key table. */
  readonly capacity: number;
}

type Outcome = 'moved' | 'done' | 'left' | 'none';

/** Where a record belongs, and the write that brings it there. */
interface Course {
  readonly isThere: boolean;
  readonly next: () => Promise<KeyRecord>;
}

/**
 * Wraps records anew while agents serve. One write a record, each a compare-and-set that is tried again on the row as it
 * is then; so a rotation or a denial beside it is never lost, and running it again goes on where it stopped. A record that
 * is refused, or whose provider refuses, is told with its reason and stays as it is; a provider or keystore that does not
 * answer ends the page, and what was moved by then stays moved.
 */
export class Rewrap {
  readonly #parts: RewrapParts;
  readonly #turns: Turns;

  constructor(parts: RewrapParts) {
    this.#parts = parts;
    this.#turns = new Turns(Math.max(1, Math.min(MAX_MOVES, Math.floor(parts.capacity / 8))));
  }

  /** @throws INVALID_ARGUMENT, KMS_UNAVAILABLE, KEYSTORE_UNAVAILABLE, RESOURCE_EXHAUSTED, UNSUPPORTED */
  async page(request: RewrapRequest): Promise<RewrapPage> {
    const { keystore } = this.#parts.custody;
    const route = this.#route(request);
    const limit = Math.min(Math.max(1, request.limit), MAX_REWRAP_PAGE);
    const { records, cursor } = await keystore.list(filterOf(request), request.cursor, limit);
    const count: Record<Outcome, number> = { moved: 0, done: 0, left: 0, none: 0 };
    const failed: RewrapFailure[] = [];
    const work = records.map((record) =>
      this.#turns.run(async () => {
        try {
          count[await this.#handle(record, route, request.mode)]++;
        } catch (error) {
          failed.push(failureOf(record, error));
        }
      }),
    );
    for (const result of await Promise.allSettled(work)) {
      if (result.status === 'rejected') {
        throw result.reason;
      }
    }
    const { moved, done, left } = count;
    return { examined: moved + done + left + failed.length, moved, done, left, failed, cursor };
  }

  async #handle(record: KeyRecord, route: Route, mode: RewrapRequest['mode']): Promise<Outcome> {
    let row = record;
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const course = await route(row);
      if (course === undefined) {
        return 'none';
      }
      try {
        if (mode === 'verify') {
          await this.#parts.hierarchy.prove(row);
          return course.isThere ? 'done' : 'left';
        }
        if (course.isThere || mode === 'dry-run') {
          return course.isThere ? 'done' : 'moved';
        }
        const next = await course.next();
        await this.#write(row, next);
        if (next.state === 'active' && isRooted(next) && row.state === 'active') {
          await this.#leaveOneActive(next);
        }
        return 'moved';
      } catch (error) {
        const now = await this.#parts.custody.keystore.retrieve(row.kid);
        if (now === undefined || now.seq === row.seq) {
          throw error;
        }
        // Written in between: begun again with what it is now.
        row = now;
      }
    }
    throw new DekdError('CONFLICT', 'the record is being written by others');
  }

  async #write(row: KeyRecord, next: KeyRecord): Promise<void> {
    const { custody, highWater, hierarchy } = this.#parts;
    await custody.keystore.updateMetadata([{ record: next, expect: { seq: row.seq } }]);
    await highWater.raise([next]);
    hierarchy.take(next);
  }

  /**
   * Stops older versions of a KEK that are active under the root that `arrived` has come to: beside it, or at the same moment by
   * another agent.
   */
  async #leaveOneActive(arrived: RootedRecord): Promise<void> {
    const { custody, rootMove } = this.#parts;
    const { name, partition, purpose, parent } = arrived;
    const root = this.#rootNamed(parent.reference.root);
    for (let attempt = 0; ; attempt++) {
      const rows = await custody.keystore.versions(name, partition, purpose);
      const active = rows
        .filter(isRooted)
        .filter((row) => row.state === 'active' && row.parent.reference.root === root.name);
      const [older] = active;
      if (older === undefined || active.length === 1) {
        return;
      }
      try {
        await this.#write(older, await rootMove.stopped(older, root));
      } catch (error) {
        const now = await custody.keystore.retrieve(older.kid);
        if (now?.seq === older.seq || attempt === MAX_ATTEMPTS) {
          throw error;
        }
      }
    }
  }

  #route({ from, to }: RewrapRequest): Route {
    if (from === undefined && to === undefined) {
      return this.#towardsNewest();
    }
    const source = this.#rootNamed(from ?? '');
    const target = this.#rootNamed(to ?? '');
    if (source === target) {
      throw new DekdError('INVALID_ARGUMENT', `root ${source.name} is named twice: dekd rewrap stays under one root`);
    }
    return async (record) => {
      const name = isRooted(record) ? record.parent.reference.root : '';
      return isRooted(record) && (name === source.name || name === target.name)
        ? this.#courseBetween(record, source, target)
        : undefined;
    };
  }

  #courseBetween(record: RootedRecord, source: Root, target: Root): Course {
    const { rootMove } = this.#parts;
    const isThere = record.parent.reference.root === target.name;
    return {
      isThere,
      next: async () => rootMove.next(record, source, target, await this.#isSuperseded(record, target)),
    };
  }

  /** Each page learns the newest material anew, and looks each parent up once. */
  #towardsNewest(): Route {
    const { rootMove, kekMove } = this.#parts;
    const learned = new Map<Root, Promise<void>>();
    const targets = new Map<string, KeyRecord | undefined>();
    return async (record) => {
      if (record.state === 'destroyed') {
        return undefined;
      }
      if (isRooted(record)) {
        const root = this.#rootNamed(record.parent.reference.root);
        let learning = learned.get(root);
        if (learning === undefined) {
          learning = rootMove.learnNewest(root, record.keyContext);
          learned.set(root, learning);
        }
        await learning;
        return {
          isThere: rootMove.isNewest(record, root),
          next: () => rootMove.next(record, root, root, false),
        };
      }
      return isDerived(record) ? this.#courseUnderKek(record, await kekMove.target(record, targets)) : undefined;
    };
  }

  #courseUnderKek(record: DerivedRecord, target: KeyRecord | undefined): Course {
    const { kekMove } = this.#parts;
    return {
      isThere: target === undefined || kekMove.isUnder(record, target),
      next: () => kekMove.next(record, target!),
    };
  }

  /** One version of a KEK is active under each root: what comes to one that has a newer active version stops sealing. */
  async #isSuperseded(record: KeyRecord, target: Root): Promise<boolean> {
    if (record.state !== 'active') {
      return false;
    }
    const { keystore } = this.#parts.custody;
    const rows = await keystore.versions(record.name, record.partition, record.purpose);
    return rows.some(
      (row) =>
        row.version > record.version &&
        row.state === 'active' &&
        isRooted(row) &&
        row.parent.reference.root === target.name,
    );
  }

  #rootNamed(name: string): Root {
    const { roots } = this.#parts.custody;
    const root = roots.get(name);
    if (root === undefined) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `no root ${JSON.stringify(name)} is configured; the roots are ${[...roots.keys()].join(', ')}`,
      );
    }
    return root;
  }
}

/** What is to be done about a record; undefined when nothing is. */
type Route = (record: KeyRecord) => Promise<Course | undefined>;

function filterOf({ from, name, partition }: RewrapRequest): ListFilter {
  checkPartition(partition ?? '');
  return {
    ...(name === undefined ? {} : { name }),
    ...(partition === undefined ? {} : { partition }),
    // Only KEKs hang under a root.
    ...(from === undefined ? {} : { purpose: 'wrap' }),
  };
}

/** @throws what is no fault of the record */
function failureOf({ kid, name, partition, version, state }: KeyRecord, error: unknown): RewrapFailure {
  if (!(error instanceof RecordRefused) && !OF_ONE_RECORD.some((code) => DekdError.is(error, code))) {
    throw error;
  }
  const reason = error instanceof RecordRefused ? error.reason : reasonOf(error);
  return { kid: hex(kid), name, partition, version, state, reason };
}

const OF_ONE_RECORD = ['KMS_DENIED', 'DECRYPTION_FAILED', 'KEY_DISABLED', 'CONFLICT', 'INVALID_ARGUMENT'] as const;

function reasonOf(error: unknown): string {
  const { reason, message } = DekdError.from(error);
  return reason ?? message;
}
