/** A thread that seals batches and frames with the agent's keys until it is ended, wherever it then is. */
import { parentPort, workerData } from 'node:worker_threads';
import { type EngineShare, type KeyHandle, ROW, ROW_WORDS } from '../../../src/crypto/engine.ts';
import { attachEngine } from '../../../src/crypto/load.ts';

const ROWS = 256;
const LENGTH = 64;
const TOKEN = LENGTH + 58;
const { share, key } = workerData as { readonly share: EngineShare; readonly key: KeyHandle };
const engine = await attachEngine(share);
const table = new Uint32Array(ROWS * ROW_WORDS);
for (let row = 0; row < ROWS; row++) {
  table.set([key, 0, 0, row * LENGTH, LENGTH, row * TOKEN, 0], row * ROW_WORDS + ROW.key);
}
const input = new Uint8Array(ROWS * LENGTH);
const output = new Uint8Array(ROWS * TOKEN);
parentPort!.postMessage('ready');
for (;;) {
  engine.sealMany(table, ROWS, input, output);
  engine.forgetKeys();
}
