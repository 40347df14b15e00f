import { afterEach, describe, expect, it } from 'vitest';
import { DATA_KEY_USE, type Engine, type KeyHandle, ROW, ROW_STATUS, ROW_WORDS } from '../../src/crypto/engine.ts';
import { loadEngine } from '../../src/crypto/load.ts';
import { DekdError } from '../../src/errors.ts';
import type { OperationsEnvironment } from '../../src/operations/environment.ts';
import type { Output, ValueRequest } from '../../src/operations/request.ts';
import { runValue, type SliceWork } from '../../src/operations/slices.ts';
import { WorkPool, type WorkPoolOptions } from '../../src/pool/pool.ts';
import { ENGINE_NAMES } from '../support/engines.ts';

const MORTAL = new URL('../support/mortal-worker.ts', import.meta.url);
/** What `mortal-worker.ts` dies of. */
const DEADLY = 0xdd;
const SEAL = { algorithm: 'xaes-256-gcm', purpose: 'seal' } as const;
const OVERHEAD = 58;
const ROWS = 200;
const LENGTH = 32;
const LARGE = 1 << 30;

const open: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) {
    await close();
  }
});

async function engineOf(name: 'native' | 'node' | 'noble'): Promise<Engine> {
  const { engine } = await loadEngine({ engine: name, minimumLockLevel: 'heap', snapshotSafe: false, isShared: true });
  open.push(() => engine.close());
  return engine;
}

function poolOf(engine: Engine, options: Partial<WorkPoolOptions> = {}): WorkPool {
  const pool = new WorkPool({ engine, workers: 2, maxPayload: 1 << 20, ...options });
  open.push(() => pool.close());
  return pool;
}

/** Waits for the workers, which start because something is found to be large. */
async function warmed(pool: WorkPool): Promise<void> {
  for (let i = 0; !pool.planRows(LARGE, LARGE)?.inWorkers; i++) {
    if (i > 2_000) {
      throw new Error(`the workers do not start: ${JSON.stringify(pool.stats())}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Rows that seal `ROWS` texts, in memory that workers see. */
function sealingRows(key: KeyHandle, pool: WorkPool) {
  const table = new Uint32Array(pool.memory.take(ROWS * ROW_WORDS * 4).buffer, 0, ROWS * ROW_WORDS);
  const input = pool.memory.take(ROWS * LENGTH).subarray(0, ROWS * LENGTH);
  const output = pool.memory.take(ROWS * (LENGTH + OVERHEAD));
  for (let row = 0; row < ROWS; row++) {
    input.fill(row + 1, row * LENGTH, (row + 1) * LENGTH);
    const at = row * ROW_WORDS;
    table[at + ROW.key] = key;
    table[at + ROW.contextOffset] = 0;
    table[at + ROW.contextLength] = 0;
    table[at + ROW.dataOffset] = row * LENGTH;
    table[at + ROW.dataLength] = LENGTH;
    table[at + ROW.outOffset] = row * (LENGTH + OVERHEAD);
    table[at + ROW.status] = ROW_STATUS.ok;
  }
  const flag = new Int32Array(new SharedArrayBuffer(4));
  return { kind: 'sealRows' as const, table, count: ROWS, input, output, flag };
}

/** How many of the rows open to what was sealed. */
function opens(engine: Engine, { table, input, output }: ReturnType<typeof sealingRows>): number {
  const plaintext = new Uint8Array(LENGTH);
  let good = 0;
  for (let row = 0; row < ROWS; row++) {
    const at = row * ROW_WORDS;
    const token = table[at + ROW.outOffset]!;
    if (
      engine.open(table[at + ROW.key]! as KeyHandle, output, 0, 0, token, LENGTH + OVERHEAD, plaintext, 0) &&
      Buffer.compare(plaintext, input.subarray(row * LENGTH, (row + 1) * LENGTH)) === 0
    ) {
      good++;
    }
  }
  return good;
}

describe.each(ENGINE_NAMES)('work of the %s engine in workers', (name) => {
  it('is done with keys by handle: rows that a worker sealed open here, each with a nonce of its own', async () => {
    const engine = await engineOf(name);
    const key = engine.generateKey(SEAL);
    const pool = poolOf(engine);
    await warmed(pool);
    const rows = sealingRows(key, pool);
    await pool.rows(rows, ROWS * LENGTH, true);
    expect(opens(engine, rows)).toBe(ROWS);
    const nonces = Array.from({ length: ROWS }, (_, row) =>
      Buffer.from(rows.output.subarray(row * (LENGTH + OVERHEAD) + 18, row * (LENGTH + OVERHEAD) + 42)).toString('hex'),
    );
    expect(new Set(nonces).size).toBe(ROWS);
    expect(pool.stats()).toMatchObject({ inWorkers: 1, deaths: 0 });
  });

  it('finds a key that was destroyed meanwhile stale, and seals nothing under what came to its place', async () => {
    const engine = await engineOf(name);
    const gone = engine.generateKey(SEAL);
    const pool = poolOf(engine);
    await warmed(pool);
    const rows = sealingRows(gone, pool);
    engine.destroyKey(gone);
    // Enough that every slot was somebody else's since, the slot of the destroyed key included.
    for (let i = 0; i < engine.stats().capacity; i++) {
      engine.destroyKey(engine.generateKey(SEAL));
    }
    await pool.rows(rows, ROWS * LENGTH, true);
    for (let row = 0; row < ROWS; row++) {
      expect(rows.table[row * ROW_WORDS + ROW.status]).toBe(ROW_STATUS.staleKey);
    }
    expect(rows.output.subarray(0, ROWS * (LENGTH + OVERHEAD)).every((byte) => byte === 0)).toBe(true);
  });

  it('never seals under anything but the key: one that is destroyed under way is whole or stale', async () => {
    const engine = await engineOf(name);
    const parent = engine.generateKey({ algorithm: 'hkdf-sha-256', purpose: 'wrap' });
    const original = engine.generateKey(SEAL);
    const wrapped = engine.wrapKey(parent, 'label', original, new Uint8Array(0));
    const pool = poolOf(engine);
    await warmed(pool);
    let whole = 0;
    for (let round = 0; round < 30; round++) {
      const key = engine.unwrapKey(parent, 'label', wrapped, new Uint8Array(0), SEAL);
      const rows = sealingRows(key, pool);
      const running = pool.rows(rows, ROWS * LENGTH, true);
      for (let turn = 0; turn < round % 6; turn++) {
        await new Promise((resolve) => setImmediate(resolve));
      }
      engine.destroyKey(key);
      // To the slot that became free, or to others.
      const others = [0, 1, 2].map(() => engine.generateKey(SEAL));
      await running;
      for (let row = 0; row < ROWS; row++) {
        const at = row * ROW_WORDS;
        const token = rows.output.subarray(row * (LENGTH + OVERHEAD), (row + 1) * (LENGTH + OVERHEAD));
        if (rows.table[at + ROW.status] === ROW_STATUS.staleKey) {
          expect(token.every((byte) => byte === 0)).toBe(true);
        } else {
          expect(engine.open(original, token, 0, 0, 0, token.length, new Uint8Array(LENGTH), 0)).toBe(true);
          whole++;
        }
      }
      for (const other of others) {
        engine.destroyKey(other);
      }
    }
    expect(whole).toBeGreaterThan(0);
  });

  it('goes on when a worker dies at it: the rows are done again, the keys are there, others take its place', async () => {
    const engine = await engineOf(name);
    const key = engine.generateKey(SEAL);
    const warnings: string[] = [];
    const pool = poolOf(engine, { entry: MORTAL, warn: (warning) => warnings.push(warning) });
    await warmed(pool);
    const deadly = sealingRows(key, pool);
    deadly.input[0] = DEADLY;
    await pool.rows(deadly, ROWS * LENGTH, true);
    expect(opens(engine, deadly)).toBe(ROWS);
    expect(pool.stats().deaths).toBe(1);
    expect(warnings[0]).toContain('a worker died at work');
    const next = sealingRows(key, pool);
    await pool.rows(next, ROWS * LENGTH, true);
    expect(opens(engine, next)).toBe(ROWS);
    expect(pool.stats()).toMatchObject({ deaths: 1, inWorkers: 2 });
  });

  it('seals frames of a message, and one whose worker dies is lost in a way that can be tried again', async () => {
    const engine = await engineOf(name);
    const pool = poolOf(engine, { entry: MORTAL });
    await warmed(pool);
    const dataKey = engine.generateKey(DATA_KEY_USE);
    const begin = () => {
      const begun = engine.beginMessage(dataKey, 64);
      const tag = engine.sealHeader(begun.message, new Uint8Array(3), new Uint8Array(0));
      return { ...begun, tag };
    };
    const text = (byte: number) => new Uint8Array(new SharedArrayBuffer(128)).fill(byte);
    const sealed = begin();
    const frames = await pool.sealFrames({}, sealed.message, text(7), false, 2 * 96);
    const last = await pool.sealFrames({}, sealed.message, text(8).subarray(0, 10), true, 50);
    const message = engine.resumeMessage(dataKey, 0x0478, sealed.id, 64, sealed.commitment);
    expect(engine.verifyHeader(message, new Uint8Array(3), new Uint8Array(0), sealed.tag)).toBe(true);
    const output = new Uint8Array(300);
    const first = await pool.openFrames({}, message, frames, output);
    expect(first).toEqual({ consumed: 192, produced: 128, final: false });
    expect(output.subarray(0, 128).every((byte) => byte === 7)).toBe(true);
    expect(await pool.openFrames({}, message, last, output)).toEqual({ consumed: 50, produced: 10, final: true });

    const lost = begin();
    const deadly = text(DEADLY);
    const error = await pool.sealFrames({}, lost.message, deadly, false, 2 * 96).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'RESOURCE_EXHAUSTED', retryable: true, retryAfterMs: 100 });
    expect(deadly.every((byte) => byte === 0)).toBe(true);
    const again = begin();
    expect((await pool.sealFrames({}, again.message, text(9), false, 2 * 96)).length).toBe(192);
  });

  it('refuses frames that were changed, as the engine does', async () => {
    const engine = await engineOf(name);
    const pool = poolOf(engine);
    await warmed(pool);
    const dataKey = engine.generateKey(DATA_KEY_USE);
    const { message, id, commitment } = engine.beginMessage(dataKey, 64);
    const tag = engine.sealHeader(message, new Uint8Array(3), new Uint8Array(0));
    const frames = await pool.sealFrames({}, message, new Uint8Array(new SharedArrayBuffer(64)), false, 96);
    frames[20]! ^= 1;
    const opening = engine.resumeMessage(dataKey, 0x0478, id, 64, commitment);
    engine.verifyHeader(opening, new Uint8Array(3), new Uint8Array(0), tag);
    const output = new Uint8Array(200);
    expect(await pool.openFrames({}, opening, frames, output)).toBeUndefined();
    expect(output.every((byte) => byte === 0)).toBe(true);
  });
});

describe('WorkPool', () => {
  it('starts no thread before there is large work, and calls nothing large that is not', async () => {
    const pool = poolOf(await engineOf('native'));
    expect(pool.planRows(15, 100)).toBeUndefined();
    expect(pool.isWorthHop(1, 64 * 1024)).toBe(false);
    expect(pool.stats()).toMatchObject({ workers: 2, threads: 0 });
  });

  it('never moves a single value of the native engine: its copy would cost more than its seal', async () => {
    const pool = poolOf(await engineOf('native'));
    await warmed(pool);
    for (const length of [64, 4096, 65_536, 1 << 20, 1 << 24]) {
      expect(pool.isWorthHop(1, length)).toBe(false);
    }
  });

  it('cuts a large batch into slices when it has no workers', async () => {
    const pool = poolOf(await engineOf('native'), { workers: 0 });
    const plan = pool.planRows(1_000_000, 64_000_000)!;
    expect(plan.inWorkers).toBe(false);
    expect(plan.rows).toBeLessThan(10_000);
    expect(pool.stats().threads).toBe(0);
  });

  it('has no workers for an engine whose keys are not shared', async () => {
    const { engine } = await loadEngine({ engine: 'node', minimumLockLevel: 'heap', snapshotSafe: false });
    open.push(() => engine.close());
    expect(poolOf(engine).stats().workers).toBe(0);
  });

  it('works without workers when they do not start, says so once, and does not try again at once', async () => {
    const warnings: string[] = [];
    const broken = new URL('../support/no-such-worker.ts', import.meta.url);
    const pool = poolOf(await engineOf('native'), { entry: broken, warn: (warning) => warnings.push(warning) });
    expect(pool.planRows(LARGE, LARGE)?.inWorkers).toBe(false);
    await expect.poll(() => warnings.length).toBe(1);
    expect(warnings[0]).toContain('workers do not start');
    expect(pool.planRows(LARGE, LARGE)?.inWorkers).toBe(false);
    expect(warnings.length).toBe(1);
  });

  it('refuses work over its memory, with a time to come again, and takes it once there is room', async () => {
    const pool = poolOf(await engineOf('native'));
    const release = pool.hold(20 << 20);
    expect(() => pool.hold(20 << 20)).toThrowError(
      expect.objectContaining({ code: 'RESOURCE_EXHAUSTED', retryable: true, retryAfterMs: 100 }),
    );
    release();
    release();
    pool.hold(20 << 20)();
    expect(pool.stats().heldBytes).toBe(0);
  });

  it('is given back by a large request that finds no memory', async () => {
    const pool = poolOf(await engineOf('native'));
    pool.memory.take = () => {
      throw new RangeError('Array buffer allocation failed');
    };
    const request = { id: 1, frame: new Uint8Array(1024), dataLength: 1000 } as unknown as ValueRequest;
    const work = { growth: OVERHEAD } as Partial<SliceWork>;
    const run = () => runValue({ pool } as unknown as OperationsEnvironment, request, {} as Output, work as SliceWork);
    expect(run).toThrow('allocation failed');
    expect(pool.stats().heldBytes).toBe(0);
  });

  it('leaves rows alone once nobody waits for them', async () => {
    const engine = await engineOf('native');
    const pool = poolOf(engine);
    await warmed(pool);
    const rows = sealingRows(engine.generateKey(SEAL), pool);
    Atomics.store(rows.flag, 0, 1);
    await pool.rows(rows, ROWS * LENGTH, true);
    expect(rows.output.subarray(0, ROWS * (LENGTH + OVERHEAD)).every((byte) => byte === 0)).toBe(true);
  });

  it('fails what is under way when it closes, and destroys no key', async () => {
    const engine = await engineOf('noble');
    const key = engine.generateKey(SEAL);
    const pool = poolOf(engine);
    await warmed(pool);
    const rows = [0, 1, 2, 3].map(() => sealingRows(key, pool));
    const running = rows.map((each) => pool.rows(each, ROWS * LENGTH, true)!.catch((error: unknown) => error));
    await pool.close();
    const failures = (await Promise.all(running)).filter((outcome) => outcome !== undefined);
    expect(failures.length).toBeGreaterThan(0);
    expect(failures.every((failure) => DekdError.is(failure, 'SHUTTING_DOWN'))).toBe(true);
    expect(engine.kid(key)).toHaveLength(16);
    const late = Promise.resolve(pool.rows(rows[0]!, ROWS * LENGTH, true));
    await expect(late).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
  });

  it('wipes memory that comes back', async () => {
    const { memory } = poolOf(await engineOf('native'));
    const taken = memory.take(1000);
    taken.fill(7);
    memory.give(taken, 1000);
    expect(taken.subarray(0, 1000).every((byte) => byte === 0)).toBe(true);
    expect(memory.take(1000)).toBe(taken);
  });
});

describe('keys that workers share', () => {
  it.each(['node', 'noble'] as const)(
    'are wiped where workers read them, when they are destroyed: %s',
    async (name) => {
      const engine = await engineOf(name);
      const memory = new Uint8Array(engine.share()!.keys!);
      const isEmpty = () => memory.every((byte) => byte === 0);
      expect(isEmpty()).toBe(true);
      const keys = [engine.generateKey(SEAL), engine.generateKey(DATA_KEY_USE)];
      keys.push(engine.beginMessage(keys[1]!, 64).message);
      expect(isEmpty()).toBe(false);
      for (const key of keys) {
        engine.destroyKey(key);
      }
      expect(isEmpty()).toBe(true);
    },
  );
});
