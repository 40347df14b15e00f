import { parentPort, workerData } from 'node:worker_threads';
import { type EngineName, ROW_WORDS, TOKEN_OVERHEAD } from '../../src/crypto/engine.ts';
import { loadEngine } from '../../src/crypto/load.ts';
import { BUCKET_BITS, BUCKETS, type NonceWork } from './nonce-buckets.ts';

/**
 * Seals empty values and files the last 8 bytes of each nonce under its lowest bits. Half of them come from single
 * seals, half from batches, one after the other in turns, so that both kinds of draw mix.
 */
const { engine: name, singles, batches, batchRows, counts, values, capacity } = workerData as NonceWork;

const { engine } = await loadEngine({ engine: name as EngineName, minimumLockLevel: 'heap', snapshotSafe: false });
const key = engine.generateKey({ algorithm: 'xaes-256-gcm', purpose: 'seal' });
const bucketCounts = new Uint32Array(counts);
const bucketValues = new Float64Array(values);
const output = new Uint8Array(batchRows * TOKEN_OVERHEAD);
const view = new DataView(output.buffer);
const nothing = new Uint8Array(0);
const table = new Uint32Array(batchRows * ROW_WORDS);
for (let row = 0; row < batchRows; row++) {
  table.set([key, 0, 0, 0, 0, row * TOKEN_OVERHEAD], row * ROW_WORDS);
}

/** The last 8 bytes of the nonce of the token at `offset`: 11 bits choose the bucket, 53 are kept as a number. */
function file(offset: number): void {
  const high = view.getUint32(offset + 34);
  const low = view.getUint32(offset + 38);
  const bucket = low & (BUCKETS - 1);
  const count = bucketCounts[bucket]!;
  if (count === capacity) {
    throw new Error(`bucket ${bucket} is full: nonces are not spread evenly`);
  }
  bucketValues[bucket * capacity + count] = high * 2 ** (32 - BUCKET_BITS) + (low >>> BUCKET_BITS);
  bucketCounts[bucket] = count + 1;
}

const singlesPerTurn = Math.ceil(singles / Math.max(1, batches));
let singlesLeft = singles;
for (let batch = 0; batch < batches; batch++) {
  engine.sealMany(table, batchRows, nothing, output);
  for (let row = 0; row < batchRows; row++) {
    file(row * TOKEN_OVERHEAD);
  }
  const turn = Math.min(singlesPerTurn, singlesLeft);
  for (let i = 0; i < turn; i++) {
    engine.seal(key, nothing, 0, 0, 0, 0, output, 0);
    file(0);
  }
  singlesLeft -= turn;
}
engine.close();
parentPort?.postMessage(batches * batchRows + singles - singlesLeft);
