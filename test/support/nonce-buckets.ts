import { Worker } from 'node:worker_threads';
import type { EngineName } from '../../src/crypto/engine.ts';

/** 2,048 buckets by 11 bits; the 53 bits left fit a double exactly, and doubles sort natively. */
export const BUCKET_BITS = 11;
export const BUCKETS = 2 ** BUCKET_BITS;

/** What one worker gets: how much to draw, and shared memory for what it drew. */
export interface NonceWork {
  readonly engine: EngineName;
  readonly singles: number;
  readonly batches: number;
  readonly batchRows: number;
  readonly counts: SharedArrayBuffer;
  readonly values: SharedArrayBuffer;
  /** Values a bucket can hold. */
  readonly capacity: number;
}

export interface NonceDraw {
  readonly engine: EngineName;
  /** Nonces over all workers, half from single seals and half from batches. */
  readonly total: number;
  readonly workers: number;
  readonly batchRows: number;
}

/**
 * Draws nonces in worker threads and counts values of their last 8 bytes that came twice. A repeated nonce repeats
 * them too; that two different ones among 10^8 share them by chance has a probability under 0.0003.
 */
export async function countRepeats(draw: NonceDraw): Promise<{ drawn: number; repeats: number }> {
  const { engine, workers, batchRows } = draw;
  const perWorker = draw.total / workers;
  const batches = Math.ceil(perWorker / 2 / batchRows);
  const singles = perWorker - batches * batchRows;
  const mean = perWorker / BUCKETS;
  // Eight standard deviations of room.
  const capacity = Math.ceil(mean + 8 * Math.sqrt(mean) + 16);
  const works = Array.from({ length: workers }, (): NonceWork => {
    const counts = new SharedArrayBuffer(BUCKETS * 4);
    const values = new SharedArrayBuffer(BUCKETS * capacity * 8);
    return { engine, singles, batches, batchRows, counts, values, capacity };
  });
  const drawn = (await Promise.all(works.map(run))).reduce((sum, count) => sum + count, 0);
  const merged = new Float64Array(capacity * workers);
  let repeats = 0;
  let counted = 0;
  for (let bucket = 0; bucket < BUCKETS; bucket++) {
    let length = 0;
    for (const { counts, values } of works) {
      const part = new Float64Array(values, bucket * capacity * 8, new Uint32Array(counts)[bucket]!);
      merged.set(part, length);
      length += part.length;
    }
    const sorted = merged.subarray(0, length).sort();
    for (let i = 1; i < length; i++) {
      if (sorted[i] === sorted[i - 1]) {
        repeats++;
      }
    }
    counted += length;
  }
  if (counted !== drawn) {
    throw new Error(`${drawn} nonces were drawn and ${counted} filed`);
  }
  return { drawn, repeats };
}

function run(work: NonceWork): Promise<number> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./nonce-worker.ts', import.meta.url), { workerData: work });
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', (code) => {
      if (code !== 0) {
        reject(new Error(`worker ended with ${code}`));
      }
    });
  });
}
