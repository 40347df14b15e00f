/**
 * Large requests, worked on slice by slice between those of others: here, or in the workers of the pool.
 *
 * What a slice needs of keys is decided when its turn has come, in the stretch in which its rows are sent off, so that a
 * key that was rotated or stopped since the request was read is noticed. A row whose key left the table before a worker
 * came to it is stale, and done here under a handle asked for anew. Request, rows and reply lie in memory of the request
 * alone until it is answered or given up, and no piece of work is under way.
 */
import { ROW_WORDS } from '../crypto/engine.ts';
import { withoutStacks } from '../errors.ts';
import type { RowsPlan } from '../pool/pool.ts';
import type { RowsWork } from '../pool/work.ts';
import { checkCount, type Pass, Weighing } from './batch.ts';
import type { OperationsEnvironment, Outcome } from './environment.ts';
import { Loaded } from './loading.ts';
import type {
  DetachedOutput,
  ItemFailure,
  ItemVisitor,
  ManyRequest,
  Output,
  ValueRequest,
  VerifyRequest,
} from './request.ts';

/** One slice while it is worked on. */
export interface Slice {
  /** The frame of the request. */
  readonly frame: Uint8Array;
  readonly reply: DetachedOutput;
  readonly loaded: Loaded;
  /** Gives the next value, of `length` bytes, its place in the reply. */
  manyValue(length: number): number;
  /** Works on the rows of a pass, whose keys were just decided on. @param scopes of MACs only */
  rows(
    kind: RowsWork['kind'],
    pass: Pass,
    input: Uint8Array,
    output: Uint8Array,
    scopes?: Uint8Array,
  ): Promise<void> | undefined;
}

/** What is done with the items of a large request. */
export interface SliceWork<P extends Pass = Pass> {
  /** What a value is longer than its data, and what its plaintext is shorter than them; in bytes. */
  readonly growth: number;
  readonly overhead: number;
  /** Takes the items of a slice; `table` is as long as they need. */
  pass(request: ManyRequest, loaded: Loaded, table: Uint32Array): P;
  /** Works on the slice that the pass has taken; its values are placed in order, before the first wait. */
  run(slice: Slice, pass: P): Promise<void>;
}

/** The request holds what has no place in slices. */
class NotInSlices extends Error {}

/**
 * How a batch is to be worked on; undefined when all of it is done at once.
 * @param passes how often each byte is worked on
 * @throws INVALID_ARGUMENT when it has more items than count towards the limit
 */
export function planOf(env: OperationsEnvironment, request: ManyRequest, passes = 1): RowsPlan | undefined {
  checkCount(request, env.maxPayload);
  return env.pool.planRows(passes * request.count, passes * request.frame.length);
}

/**
 * @param whole does the request, which it is given as a copy, without slices: for values that a provider makes
 * @throws INVALID_ARGUMENT; RESOURCE_EXHAUSTED
 */
export function runSlices(
  env: OperationsEnvironment,
  request: ManyRequest,
  output: Output,
  plan: RowsPlan,
  work: SliceWork,
  whole: (request: ManyRequest) => Outcome,
): Promise<void> {
  const weighing = new Weighing(request, work.growth, work.overhead);
  request.visitItems(weighing);
  weighing.check(env.maxPayload);
  const { bound, dataBytes } = weighing;
  const extent = { plan, work, count: request.count, bound, dataBytes };
  return new SlicedRun(env, request, output, extent).many(whole);
}

/** The same for a single value, in a worker. @throws what is wrong with it */
export function runValue(
  env: OperationsEnvironment,
  request: ValueRequest,
  output: Output,
  work: SliceWork,
): Promise<void> {
  const plan = { inWorkers: true, rows: 1 };
  const { dataLength } = request;
  const bound = dataLength + Math.max(0, work.growth);
  return new SlicedRun(env, request, output, { plan, work, count: 1, bound, dataBytes: dataLength }).one();
}

/** Visits the next `count` items from `position` on. @returns where the next ones are */
type Visit = (visitor: ItemVisitor, position: number, count: number) => number;

/** Reserves room in the reply. */
type Place = (length: number) => number;

interface Extent {
  readonly plan: RowsPlan;
  readonly work: SliceWork;
  readonly count: number;
  /** Bytes of the values in the reply. */
  readonly bound: number;
  /** Bytes of data of all items. */
  readonly dataBytes: number;
}

class SlicedRun {
  readonly #env: OperationsEnvironment;
  readonly #extent: Extent;
  readonly #owner: object;
  readonly #request: ValueRequest;
  readonly #reply: DetachedOutput;
  readonly #frame: Buffer;
  readonly #rows: Buffer;
  readonly #table: Uint32Array;
  /** Not 0 once nobody wants the reply: what workers look at. */
  readonly #flag: Int32Array;
  readonly #release: () => void;
  readonly #loaded = new Loaded();
  readonly #passes: Pass[] = [];
  readonly #pending = new Set<Promise<void>>();
  #failure: unknown;

  /** Takes a copy of the request. @throws RESOURCE_EXHAUSTED */
  constructor(env: OperationsEnvironment, request: ValueRequest, output: Output, extent: Extent) {
    const { memory } = env.pool;
    const tableBytes = extent.count * ROW_WORDS * Uint32Array.BYTES_PER_ELEMENT;
    const held = request.frame.length + tableBytes + extent.bound;
    this.#env = env;
    this.#extent = extent;
    this.#owner = output.owner;
    this.#release = env.pool.hold(held);
    try {
      this.#frame = memory.take(request.frame.length);
      this.#rows = memory.take(tableBytes + Int32Array.BYTES_PER_ELEMENT);
      this.#table = new Uint32Array(this.#rows.buffer, this.#rows.byteOffset, extent.count * ROW_WORDS);
      this.#flag = new Int32Array(this.#rows.buffer, this.#rows.byteOffset + tableBytes, 1).fill(0);
      this.#request = request.copy(this.#frame);
      this.#reply = output.detach(request.id, held, memory);
    } catch (error) {
      // There was no memory, whatever may be held.
      this.#release();
      throw error;
    }
  }

  async many(whole: (request: ManyRequest) => Outcome): Promise<void> {
    // The copy of what `runSlices` was given.
    const request = this.#request as ManyRequest;
    try {
      this.#reply.beginMany(request.id, this.#extent.bound);
      const placed = (length: number): number => this.#reply.manyValue(length);
      await this.#runAll((visitor, position, count) => request.visitSome(visitor, position, count), placed);
      this.#noteKey();
      withoutStacks(() => this.#reply.endMany(this.#failures()));
      this.#reply.send();
    } catch (error) {
      await this.#giveUp();
      if (!(error instanceof NotInSlices)) {
        throw error;
      }
      await whole(request);
    } finally {
      this.#putAway();
    }
  }

  async one(): Promise<void> {
    const { id, contextOffset, contextLength, dataOffset, dataLength } = this.#request;
    const placed = (length: number): number => this.#reply.reserveValue(id, length);
    try {
      await this.#runAll((visitor) => {
        const { macOffset, macLength } = this.#request as Partial<VerifyRequest>;
        visitor.item(dataOffset, dataLength, contextOffset, contextLength, undefined, undefined, macOffset, macLength);
        return 0;
      }, placed);
      for (const { error } of this.#failures()) {
        throw error;
      }
      this.#noteKey();
      this.#reply.send();
    } catch (error) {
      await this.#giveUp();
      throw error;
    } finally {
      this.#putAway();
    }
  }

  /** Sends slice after slice off, each in its turn, and waits for all of them. */
  async #runAll(visit: Visit, placed: Place): Promise<void> {
    const { pool } = this.#env;
    const { plan, work, count } = this.#extent;
    let position = 0;
    let done = 0;
    while (done < count) {
      const rows = Math.min(plan.rows, count - done);
      const over = await pool.turn(this.#owner, plan.inWorkers);
      try {
        if (this.#failure !== undefined) {
          throw this.#failure;
        }
        if (!this.#reply.isWanted) {
          throw new GivenUp();
        }
        const table = this.#table.subarray(done * ROW_WORDS, (done + rows) * ROW_WORDS);
        const pass = work.pass(this.#request as ManyRequest, this.#loaded, table);
        const next = withoutStacks(() => visit(pass, position, rows));
        if (pass.hasDirect) {
          throw new NotInSlices();
        }
        if (pass.missing.size > 0) {
          over();
          await this.#loaded.load(pass.missing);
          continue;
        }
        position = next;
        done += rows;
        this.#passes.push(pass);
        this.#follow(work.run(this.#slice(placed), pass), over);
      } catch (error) {
        over();
        throw error;
      }
    }
    await Promise.all(this.#pending);
    if (this.#failure !== undefined) {
      throw this.#failure;
    }
  }

  #slice(placed: Place): Slice {
    const { pool } = this.#env;
    const { plan, count, dataBytes } = this.#extent;
    return {
      frame: this.#request.frame,
      reply: this.#reply,
      loaded: this.#loaded,
      manyValue: placed,
      rows: (kind, pass, input, output, scopes) =>
        pool.rows(
          { kind, table: pass.table, count: pass.count, input, output, scopes, flag: this.#flag },
          (dataBytes * pass.count) / count,
          plan.inWorkers,
        ),
    };
  }

  #follow(running: Promise<void>, over: () => void): void {
    const settled = running
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => {
        this.#pending.delete(settled);
        over();
        if (!this.#reply.isWanted) {
          Atomics.store(this.#flag, 0, 1);
        }
      });
    this.#pending.add(settled);
  }

  #noteKey(): void {
    const [first] = this.#passes;
    const key = first?.keys[0];
    if (key !== undefined && !first!.failures.has(0)) {
      this.#reply.keyUsed(this.#request.id, key);
    }
  }

  /** What failed, by the index in the request. */
  #failures(): ItemFailure[] {
    let first = 0;
    return this.#passes.flatMap((pass) => {
      const base = first;
      first += pass.count;
      return [...pass.failures].sort(([a], [b]) => a - b).map(([index, error]) => ({ index: base + index, error }));
    });
  }

  /** Ends what is under way, and wipes the reply when nothing writes to it any more. */
  async #giveUp(): Promise<void> {
    Atomics.store(this.#flag, 0, 1);
    await Promise.all(this.#pending);
    this.#reply.discard();
  }

  #putAway(): void {
    const { memory } = this.#env.pool;
    memory.give(this.#frame, this.#request.frame.length);
    memory.give(this.#rows, this.#rows.length);
    this.#release();
  }
}

/** Nobody waits for the reply; what was said of that has been said. */
class GivenUp extends Error {}
