/** Bars of the worker pool: the same slices of the same work with workers and without. */
import { randomBytes, randomInt } from 'node:crypto';
import { type EngineName, type KeyHandle, ROW, ROW_WORDS, TOKEN_OVERHEAD } from '../../src/crypto/engine.ts';
import { loadEngine } from '../../src/crypto/load.ts';
import { BLOCK_LENGTH, type Codec } from '../../src/pool/blocks.ts';
import { WorkPool } from '../../src/pool/pool.ts';
import { compare, type Effort, type Work } from '../support/interleave.ts';
import { type Bar, figure, type Measured } from './bar.ts';

const WORKERS = 2;
/** Blocks under way, of two streams or so. */
const AT_ONCE = 8;
const EFFORT: Effort = { rounds: 3, turns: 3, turnMs: 150, warmMs: 500 };
const ITEM = 64;
/** Items that a request of 1 MiB holds. */
const ITEMS = 7_200;

interface Pools {
  readonly shared: WorkPool;
  readonly alone: WorkPool;
  readonly key: KeyHandle;
}

async function withPools<T>(name: EngineName, run: (pools: Pools) => Promise<T>): Promise<T> {
  const { engine } = await loadEngine({ engine: name, minimumLockLevel: 'heap', snapshotSafe: false, isShared: true });
  const shared = new WorkPool({ engine, workers: WORKERS, maxPayload: 1 << 20 });
  const alone = new WorkPool({ engine, workers: 0, maxPayload: 1 << 20 });
  try {
    while (!shared.planRows(1e9, 1e9)?.inWorkers) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return await run({ shared, alone, key: engine.generateKey({ algorithm: 'xaes-256-gcm', purpose: 'seal' }) });
  } finally {
    await shared.close();
    engine.close();
  }
}

/** Seals a batch as the agent does: slice after slice, each in its turn. One operation is one batch. */
function batches(pool: WorkPool, key: KeyHandle): Work {
  const { memory } = pool;
  const input = memory.take(ITEM);
  const output = memory.take(ITEMS * (ITEM + TOKEN_OVERHEAD));
  const table = new Uint32Array(memory.take(ITEMS * ROW_WORDS * 4).buffer, 0, ITEMS * ROW_WORDS);
  const flag = new Int32Array(new SharedArrayBuffer(4));
  for (let item = 0; item < ITEMS; item++) {
    table.set([key, 0, 0, 0, ITEM, item * (ITEM + TOKEN_OVERHEAD), 0], item * ROW_WORDS + ROW.key);
  }
  const owner = {};
  const one = async (): Promise<void> => {
    const plan = pool.planRows(ITEMS, ITEMS * ITEM) ?? { inWorkers: false, rows: ITEMS };
    const running: Promise<void>[] = [];
    for (let done = 0; done < ITEMS; done += plan.rows) {
      const count = Math.min(plan.rows, ITEMS - done);
      const part = table.subarray(done * ROW_WORDS, (done + count) * ROW_WORDS);
      const over = await pool.turn(owner, plan.inWorkers);
      const work = { kind: 'sealRows', table: part, count, input, output, flag } as const;
      running.push(Promise.resolve(pool.rows(work, count * ITEM, plan.inWorkers)).finally(over));
    }
    await Promise.all(running);
  };
  return async (count) => {
    for (let i = 0; i < count; i++) {
      await one();
    }
  };
}

function blocks(pool: WorkPool, codec: Codec): Work {
  const block = records().subarray(0, BLOCK_LENGTH);
  const owner = {};
  return async (count) => {
    for (let left = count; left > 0; left -= AT_ONCE) {
      await Promise.all(Array.from({ length: Math.min(left, AT_ONCE) }, () => pool.compress(owner, codec, block)));
    }
  };
}

/** JSON as services store it: names that repeat, values that do not. */
function records(): Buffer {
  const lines = Array.from({ length: BLOCK_LENGTH / 64 }, (_, i) =>
    JSON.stringify({
      id: i,
      name: randomBytes(6).toString('hex'),
      city: 'Springfield',
      total: randomInt(1e6),
      open: true,
    }),
  );
  return Buffer.from(lines.join('\n'));
}

async function measured(subject: Work, baseline: Work, unit: string): Promise<Measured> {
  const { ratio, ...rates } = await compare(subject, baseline, EFFORT);
  return { ratio, detail: `${figure(rates.subject)} against ${figure(rates.baseline)} ${unit}/s` };
}

function batchBar(name: EngineName, atLeast: number): Bar {
  return {
    name: `${name} batch of ${ITEMS} × ${ITEM} B with ${WORKERS} workers against none`,
    atLeast,
    measure: () =>
      withPools(name, ({ shared, alone, key }) => measured(batches(shared, key), batches(alone, key), 'batches')),
  };
}

function compressionBar(codec: Codec): Bar {
  return {
    name: `${codec} compression with ${WORKERS} workers against none`,
    atLeast: 1.7,
    measure: () =>
      withPools('native', ({ shared, alone }) => measured(blocks(shared, codec), blocks(alone, codec), 'blocks')),
  };
}

export const poolBars: readonly Bar[] = [
  batchBar('noble', 1.7),
  batchBar('node', 1.7),
  batchBar('native', 1),
  compressionBar('zstd'),
  compressionBar('gzip'),
];
