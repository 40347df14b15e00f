/** Work for a pool, as the agent gives it to one. */
import { randomBytes, randomInt } from 'node:crypto';
import { type KeyHandle, ROW, ROW_WORDS, TOKEN_OVERHEAD } from '../../src/crypto/engine.ts';
import { BLOCK_LENGTH, type Codec } from '../../src/pool/blocks.ts';
import type { WorkPool } from '../../src/pool/pool.ts';
import type { Work } from './interleave.ts';

export const ITEM = 64;
/** Items that a request of 1 MiB holds. */
export const ITEMS = 7_200;
/** Blocks under way, of two streams or so. */
const AT_ONCE = 8;

/** Seals a batch as the agent does: slice after slice, each in its turn. One operation is one batch. */
export function batches(pool: WorkPool, key: KeyHandle): Work {
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

/** Compresses blocks, each a call. One operation is one block. */
export function blocks(pool: WorkPool, codec: Codec): Work {
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
