/** A thread that seals single values, batches and, on the native engine, frames until it is ended, wherever it then is. */
import { parentPort, workerData } from 'node:worker_threads';
import { type EngineShare, type KeyHandle, ROW, ROW_WORDS } from '../../../src/crypto/engine.ts';
import { attachEngine } from '../../../src/crypto/load.ts';

const ROWS = 256;
const LENGTH = 64;
const TOKEN = LENGTH + 58;
const FRAME = 4096;
/** Sequence, IV and tag. */
const FRAME_OVERHEAD = 32;
const { share, key, dataKey } = workerData as {
  readonly share: EngineShare;
  readonly key: KeyHandle;
  /** Of the messages; absent where threads make no keys. */
  readonly dataKey?: KeyHandle;
};
const engine = await attachEngine(share);
const table = new Uint32Array(ROWS * ROW_WORDS);
for (let row = 0; row < ROWS; row++) {
  table.set([key, 0, 0, row * LENGTH, LENGTH, row * TOKEN, 0], row * ROW_WORDS + ROW.key);
}
const input = new Uint8Array(ROWS * LENGTH);
const output = new Uint8Array(ROWS * TOKEN);
parentPort!.postMessage('ready');
const ways = [
  () => engine.sealMany(table, ROWS, input, output),
  () => engine.seal(key, input, 0, 0, 0, LENGTH, output, 0),
  ...(dataKey === undefined ? [] : [() => sealMessage(dataKey)]),
];
for (let round = 0; ; round++) {
  ways[round % ways.length]!();
  engine.forgetKeys();
}

/** A message whose last frame never comes when the thread is ended before. */
function sealMessage(of: KeyHandle): void {
  const { message } = engine.beginMessage(of, FRAME);
  engine.sealHeader(message, new Uint8Array(100), new Uint8Array(0));
  for (let frame = 0; frame < 8; frame++) {
    engine.sealFrames(message, input.subarray(0, FRAME), false, output.subarray(0, FRAME + FRAME_OVERHEAD));
  }
  engine.destroyKey(message);
}
