/**
 * Work that would keep the agent's thread from its small calls: done in slices between them, and in worker threads where
 * that pays.
 *
 * Workers are started by the first work that is worth a hop, and end when there has been none for a while; until they are
 * there, and whenever they are not, work is done here. Data lies in shared memory, keys are handles of the engine's table
 * (`Engine.share`), so a worker that dies loses neither: rows are done again here, and only a message in work is lost, as
 * nobody knows how far it got. A task is never aborted by a signal, which would kill its thread: `flag` in shared memory
 * tells it that nobody waits any more.
 */
import type { Piscina } from 'piscina';
import type { Engine, KeyHandle, OpenedFrames } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';
import { BLOCK_LENGTH, blockSize, type Codec, MAX_BLOCK_SIZE } from './blocks.ts';
import { CostModel } from './cost-model.ts';
import { perform } from './perform.ts';
import { SharedMemory } from './shared-memory.ts';
import { Turns } from './turns.ts';
import type { RowsWork, Work, WorkerSetup, WorkResult } from './work.ts';

const NS = 1_000_000;
/** What the agent's thread does at once; more of it is cut into slices. */
const LARGE_NS = 1 * NS;
/** A slice that is done here, and what this thread does for one that a worker does. */
const SLICE_HERE_NS = 0.4 * NS;
/** A slice that a worker does. */
const SLICE_THERE_NS = 4 * NS;
/** Pieces at a worker: one is done while the next one waits, so that no worker waits for this thread. */
const AT_A_WORKER = 2;
/** What this thread does for an item whoever seals it: reads it, decides on it, counts it. */
const DECIDE_NS = 150;
/**
 * How many times what a hop costs the work must take. What comes alone waits for the hop, and is slower for it unless it
 * takes much longer (measured with batches of the native engine, 25 times a hop: a tenth slower); beside other large work
 * this thread is what is short.
 */
const PAYS = 4;
const PAYS_ALONE = 40;
/** Until it was measured; what is measured above the most says how busy the machine is, and nothing about hops. */
const ASSUMED_HOP_NS = 60_000;
const MAX_HOP_NS = 200_000;
const HOP_ROUNDS = 9;
/** Below both, nothing is large with any engine. */
const SMALL_ITEMS = 16;
const SMALL_BYTES = 4096;
/** Workers end after this time without work. */
const IDLE_MS = 60_000;
/** Until workers that could not be started are tried again. */
const RETRY_MS = 30_000;
/** Memory of work under way, at least, and as a multiple of the largest request. */
const MIN_HELD = 32 * 1024 * 1024;
const HELD_REQUESTS = 6;
const MIB = 1024 * 1024;
/** A worker holds a slice of work and no key: what it needs is its code. */
const LIMITS = { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 4 };

/** The file that a worker runs; see CUSTODIAN_ENTRY for why it is named like this. */
const WORKER_ENTRY = new URL(`../pool/worker.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url);

export interface WorkPoolOptions {
  readonly engine: Engine;
  /** Threads at most; 0 for none. */
  readonly workers: number;
  /** Largest plaintext of one request, in bytes. */
  readonly maxPayload: number;
  /** Told when workers do not start or die, in words for the log. */
  readonly warn?: ((warning: string) => void) | undefined;
  /** What a worker runs; the pool's own file unless given. */
  readonly entry?: URL | undefined;
}

/** How a batch is worked on. */
export interface RowsPlan {
  readonly inWorkers: boolean;
  /** Items of one slice. */
  readonly rows: number;
}

export interface WorkPoolStats {
  /** Threads there may be, and there are. */
  readonly workers: number;
  readonly threads: number;
  /** Pieces of work done by workers and, in slices, by the agent's own thread; and those that wait. */
  readonly inWorkers: number;
  readonly inSlices: number;
  readonly waiting: number;
  /** Bytes of memory that work under way holds. */
  readonly heldBytes: number;
  /** Workers that died at work. */
  readonly deaths: number;
}

export class WorkPool {
  readonly memory: SharedMemory;
  readonly #engine: Engine;
  readonly #workers: number;
  readonly #maxHeld: number;
  readonly #warn: (warning: string) => void;
  readonly #entry: URL;
  readonly #costs = new CostModel();
  readonly #turnsHere = new Turns(1);
  readonly #turnsThere: Turns;
  #threads: Piscina | undefined;
  #starting: Promise<void> | undefined;
  /** Resolves when threads that were told to end have ended. */
  #ending: Promise<void> | undefined;
  #isWarm = false;
  #isClosed = false;
  #retryAt = 0;
  #hopNs = ASSUMED_HOP_NS;
  #held = 0;
  #inWorkers = 0;
  #inSlices = 0;
  #deaths = 0;

  constructor({ engine, workers, maxPayload, warn, entry }: WorkPoolOptions) {
    this.#engine = engine;
    this.#workers = engine.share() === undefined ? 0 : workers;
    this.#maxHeld = Math.max(MIN_HELD, HELD_REQUESTS * maxPayload);
    this.#warn = warn ?? (() => {});
    this.#entry = entry ?? WORKER_ENTRY;
    this.#turnsThere = new Turns(AT_A_WORKER * this.#workers);
    this.memory = new SharedMemory(this.#workers > 0);
  }

  stats(): WorkPoolStats {
    return {
      workers: this.#workers,
      threads: this.#threads?.threads.length ?? 0,
      inWorkers: this.#inWorkers,
      inSlices: this.#inSlices,
      waiting: this.#turnsHere.length + this.#turnsThere.length,
      heldBytes: this.#held,
      deaths: this.#deaths,
    };
  }

  // ── what goes where ───────────────────────────────────────────────────────────────────────────────────────────

  /**
   * How a batch of `items` with `bytes` in all is to be worked on; undefined when it is small, and done at once where it
   * was read. Two numbers are compared for nearly every batch.
   */
  planRows(items: number, bytes: number): RowsPlan | undefined {
    if (items < SMALL_ITEMS && bytes < SMALL_BYTES) {
      return undefined;
    }
    const engineNs = this.#engineNs(items, bytes);
    if (engineNs + items * DECIDE_NS < LARGE_NS) {
      return undefined;
    }
    const pays = this.#held > 0 ? PAYS : PAYS_ALONE;
    const inWorkers = engineNs > pays * this.#hopNs && this.#hasWorkers();
    const itemNs = engineNs / items;
    const here = SLICE_HERE_NS / (DECIDE_NS + (inWorkers ? 0 : itemNs));
    return { inWorkers, rows: Math.max(1, Math.floor(inWorkers ? Math.min(here, SLICE_THERE_NS / itemNs) : here)) };
  }

  /** Whether a worker should do what cannot be cut: one value, or the next frames of a message. */
  isWorthHop(items: number, bytes: number): boolean {
    if (this.#workers === 0 || bytes < SMALL_BYTES) {
      return false;
    }
    const engineNs = this.#engineNs(items, bytes);
    return engineNs > PAYS * (this.#hopNs + bytes * this.#costs.perCopiedByte) && this.#hasWorkers();
  }

  #engineNs(items: number, bytes: number): number {
    if (!this.#costs.isMeasured) {
      this.#costs.measure(this.#engine);
    }
    return this.#costs.engineNs(items, bytes);
  }

  /** Counts memory that work is going to hold. @returns what ends that. @throws RESOURCE_EXHAUSTED */
  hold(bytes: number): () => void {
    if (this.#held > 0 && this.#held + bytes > this.#maxHeld) {
      throw new DekdError(
        'RESOURCE_EXHAUSTED',
        `large requests under way hold ${Math.round(this.#held / MIB)} MiB, and together they may hold ` +
          `${Math.round(this.#maxHeld / MIB)} MiB: send it again, or smaller ones`,
        { retryAfterMs: 100 },
      );
    }
    this.#held += bytes;
    let isOver = false;
    return () => {
      if (!isOver) {
        isOver = true;
        this.#held -= bytes;
      }
    };
  }

  /** Resolves when it is `owner`'s turn, with what ends it; owners take turns. */
  turn(owner: object, inWorkers: boolean): Promise<() => void> {
    return (inWorkers ? this.#turnsThere : this.#turnsHere).take(owner);
  }

  // ── the work ──────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Seals or opens rows with `bytes` in all, or works on their MACs. With a turn of the workers the arrays lie in `memory`, and a promise resolves
   * when the rows are done.
   * @throws SHUTTING_DOWN once the pool is closed; what the engine throws
   */
  rows(work: RowsWork, bytes: number, inWorkers: boolean): Promise<void> | undefined {
    const expectedNs = this.#engineNs(work.count, bytes);
    // The model is of seals, and knows nothing of what a MAC takes.
    const observe = (elapsedMs: number): void => {
      if (work.scopes === undefined) {
        this.#costs.observe(expectedNs, elapsedMs);
      }
    };
    if (!inWorkers) {
      this.#inSlices++;
      const begun = performance.now();
      perform(this.#engine, work);
      observe(performance.now() - begun);
      return undefined;
    }
    return this.#inWorker(work).then(
      ({ elapsedMs }) => observe(elapsedMs),
      (error: unknown) => {
        if (!(error instanceof WorkerLost)) {
          throw error;
        }
        // Rows know nothing of each other, and what was written of them is written anew under another nonce.
        perform(this.#engine, work);
      },
    );
  }

  /**
   * Seals frames of a message in a worker. The plaintext lies in shared memory and is wiped.
   * @returns the frames, `length` bytes of shared memory
   * @throws RESOURCE_EXHAUSTED when the worker died: the message is lost, and can be made again
   */
  async sealFrames(
    owner: object,
    message: KeyHandle,
    plaintext: Uint8Array,
    isFinal: boolean,
    length: number,
  ): Promise<Uint8Array> {
    const output = new Uint8Array(new SharedArrayBuffer(length));
    try {
      await this.#ofMessage(owner, { kind: 'sealFrames', message, plaintext, isFinal, output });
      return output;
    } finally {
      plaintext.fill(0);
    }
  }

  /**
   * Opens frames of a message in a worker, as `Engine.openFrames` does. `body` is copied before this returns.
   * @throws RESOURCE_EXHAUSTED when the worker died
   */
  async openFrames(
    owner: object,
    message: KeyHandle,
    body: Uint8Array,
    output: Uint8Array,
  ): Promise<OpenedFrames | undefined> {
    const opened = new Uint8Array(new SharedArrayBuffer(body.length));
    try {
      const result = await this.#ofMessage(owner, {
        kind: 'openFrames',
        message,
        body: sharedCopy(body),
        output: opened,
      });
      if (result.opened !== undefined) {
        output.set(opened.subarray(0, result.opened.produced));
      }
      return result.opened;
    } finally {
      opened.fill(0);
    }
  }

  /** Bytes of a value that are compressed as one block. */
  readonly blockLength = BLOCK_LENGTH;

  /** As `blockSize` of the blocks. @throws MALFORMED */
  blockSize(codec: Codec, have: Uint8Array): number | undefined {
    return blockSize(codec, have);
  }

  /** One block of a value, compressed; a fresh array. The block is copied before this returns, and the copy wiped. */
  compress(owner: object, codec: Codec, block: Uint8Array): Promise<Uint8Array> {
    return this.#block(owner, 'compress', codec, block, MAX_BLOCK_SIZE);
  }

  /** The reverse of `compress`; gives BLOCK_LENGTH bytes at most. @throws MALFORMED */
  expand(owner: object, codec: Codec, block: Uint8Array): Promise<Uint8Array> {
    return this.#block(owner, 'expand', codec, block, BLOCK_LENGTH);
  }

  async #block(
    owner: object,
    kind: 'compress' | 'expand',
    codec: Codec,
    block: Uint8Array,
    room: number,
  ): Promise<Uint8Array> {
    const { memory } = this;
    const given = memory.take(block.length);
    const output = memory.take(room);
    const input = given.subarray(0, block.length);
    input.set(block);
    const inWorkers = this.#hasWorkers();
    const work: Work = { kind, codec, input, output };
    // All of it may have been written by what then failed.
    let made = room;
    const over = await this.turn(owner, inWorkers);
    try {
      const done = inWorkers
        ? this.#inWorker(work).catch((error: unknown) => {
            if (!(error instanceof WorkerLost)) {
              throw error;
            }
            return perform(this.#engine, work);
          })
        : this.#here(work);
      const { length } = await done;
      made = length!;
      return new Uint8Array(output.subarray(0, length));
    } finally {
      over();
      memory.give(given, block.length);
      memory.give(output, made);
    }
  }

  #here(work: Work): { readonly length?: number } {
    this.#inSlices++;
    return perform(this.#engine, work);
  }

  async #ofMessage(owner: object, work: Work): Promise<WorkResult> {
    const over = await this.turn(owner, true);
    try {
      return await this.#inWorker(work);
    } catch (error) {
      throw error instanceof WorkerLost
        ? new DekdError('RESOURCE_EXHAUSTED', 'a worker of the agent ended during the call: send it again', {
            retryAfterMs: 100,
            reason: error.message,
          })
        : error;
    } finally {
      over();
    }
  }

  /** @throws WorkerLost when there is no result and there will be none; what the work threw */
  async #inWorker(work: Work): Promise<WorkResult> {
    if (this.#isClosed) {
      throw new DekdError('SHUTTING_DOWN', 'the agent is stopping');
    }
    const threads = this.#threads;
    if (threads === undefined) {
      throw new WorkerLost('there is no worker');
    }
    this.#inWorkers++;
    let result: WorkResult;
    try {
      result = (await threads.run(work)) as WorkResult;
    } catch (error) {
      // What is said at once of all threads that are being ended; until they have, they may still write.
      await this.#ending;
      if (this.#isClosed) {
        throw new DekdError('SHUTTING_DOWN', 'the agent is stopping');
      }
      this.#deaths++;
      this.#warn(`a worker died at work: ${error instanceof Error ? error.message : String(error)}`);
      throw new WorkerLost(String(error));
    }
    if (result.failure !== undefined) {
      const { code, message, reason } = result.failure;
      throw new DekdError(code, message, reason === undefined ? {} : { reason });
    }
    return result;
  }

  // ── the threads ───────────────────────────────────────────────────────────────────────────────────────────────

  /** Whether workers are there; when not, they are being started, as something just found that it could use them. */
  #hasWorkers(): boolean {
    if (this.#workers === 0 || this.#isClosed) {
      return false;
    }
    if (this.#isWarm && (this.#threads?.threads.length ?? 0) > 0) {
      return true;
    }
    this.#start();
    return false;
  }

  #start(): void {
    if (this.#starting !== undefined || performance.now() < this.#retryAt) {
      return;
    }
    this.#isWarm = false;
    this.#starting = this.#warmUp().then(
      () => {
        this.#isWarm = true;
        this.#starting = undefined;
      },
      (error: unknown) => {
        this.#starting = undefined;
        if (!this.#isClosed) {
          this.#retryAt = performance.now() + RETRY_MS;
          this.#warn(`workers do not start, so their work is done without them: ${DekdError.from(error).reason}`);
        }
      },
    );
  }

  async #warmUp(): Promise<void> {
    if (this.#threads === undefined) {
      const threads = await openThreads(this.#entry, this.#workers, { share: this.#engine.share()! });
      if (this.#isClosed) {
        await threads.destroy();
        return;
      }
      // A worker that fails before its first task takes none with it: what waits for one would wait for ever.
      threads.on('error', () => void this.#discard(threads));
      this.#threads = threads;
    }
    const threads = this.#threads;
    const run = (): Promise<unknown> => threads.run({ kind: 'nothing' } satisfies Work);
    await Promise.all(Array.from({ length: this.#workers }, run));
    let shortest = MAX_HOP_NS;
    for (let round = 0; round < HOP_ROUNDS; round++) {
      const begun = performance.now();
      await run();
      shortest = Math.min(shortest, (performance.now() - begun) * NS);
    }
    this.#hopNs = shortest;
  }

  async #discard(threads: Piscina): Promise<void> {
    if (this.#threads === threads) {
      this.#threads = undefined;
      this.#isWarm = false;
    }
    this.#ending = threads.destroy();
    await this.#ending;
  }

  /** Ends the workers; work under way fails with SHUTTING_DOWN. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#starting;
    this.#ending = this.#threads?.destroy();
    await this.#ending;
    this.#threads = undefined;
    this.memory.clear();
  }
}

/** Nobody knows how far the work got. */
class WorkerLost extends Error {}

/** Loaded only now: an agent that never has large work reads none of it. */
async function openThreads(entry: URL, workers: number, setup: WorkerSetup): Promise<Piscina> {
  const { Piscina } = await import('piscina');
  return new Piscina({
    filename: entry.href,
    minThreads: 0,
    maxThreads: workers,
    concurrentTasksPerWorker: AT_A_WORKER,
    idleTimeout: IDLE_MS,
    workerData: setup,
    resourceLimits: LIMITS,
    env: workerEnvironment(),
    argv: [],
    recordTiming: false,
  });
}

/** Of the agent's variables, where the addon is: nothing else that a worker loads reads any. */
function workerEnvironment(): Record<string, string> {
  const { DEKD_NATIVE_PATH: path } = process.env;
  return path === undefined ? {} : { DEKD_NATIVE_PATH: path };
}

function sharedCopy(bytes: Uint8Array): Uint8Array {
  const copy = new Uint8Array(new SharedArrayBuffer(bytes.length));
  copy.set(bytes);
  return copy;
}
