// A number of operations of the native engine, of every kind, a failing one among them: `many-operations.mjs COUNT`. Prints
// how many were done.

import {
  DATA_KEY_USE,
  MESSAGE_KEY_USE,
  ROW,
  ROW_WORDS,
  SECRET_USE,
  TOKEN_OVERHEAD,
} from '../../../src/crypto/engine.ts';
import { loadEngine } from '../../../src/crypto/load.ts';

const wanted = Number(process.argv[2]);
const { engine } = await loadEngine({ engine: 'native', minimumLockLevel: 'heap', snapshotSafe: false });
const SEAL = { algorithm: 'xaes-256-gcm', purpose: 'seal' };
const MAC = { algorithm: 'hmac-sha-256', purpose: 'mac' };
const LABEL = 'dekd/v1/wrap';
const ROWS = 16;
const SIZE = 64;

const parent = engine.generateKey(SECRET_USE);
const messageKey = engine.generateKey(MESSAGE_KEY_USE);
const mac = engine.generateKey(MAC);
const aad = new Uint8Array(40);
const data = new Uint8Array(SIZE).fill(7);
const token = new Uint8Array(SIZE + TOKEN_OVERHEAD);
const back = new Uint8Array(SIZE);
const table = new Uint32Array(ROWS * ROW_WORDS);
const input = new Uint8Array(ROWS * SIZE);
const tokens = new Uint8Array(ROWS * (SIZE + TOKEN_OVERHEAD));
let done = 0;

function rows(key, opening) {
  for (let row = 0; row < ROWS; row++) {
    const at = row * (SIZE + TOKEN_OVERHEAD);
    const place = opening ? [at, SIZE + TOKEN_OVERHEAD, row * SIZE] : [row * SIZE, SIZE, at];
    table.set([key, 0, 0, ...place, 0], row * ROW_WORDS + ROW.key);
  }
}

while (done < wanted) {
  const key = engine.generateKey(SEAL);
  const wrapped = engine.wrapKey(parent, LABEL, key, aad);
  const again = engine.unwrapKey(parent, LABEL, wrapped, aad, SEAL);
  engine.kid(again);
  for (let i = 0; i < 20; i++) {
    engine.seal(key, data, 0, 8, 8, SIZE - 8, token, 0);
    engine.open(again, token, 0, 0, 0, SIZE - 8 + TOKEN_OVERHEAD, back, 0);
  }
  rows(key, false);
  engine.sealMany(table, ROWS, input, tokens);
  rows(again, true);
  engine.openMany(table, ROWS, tokens, input);
  engine.verifyMac(mac, '', data, engine.mac(mac, '', data));
  try {
    engine.unwrapKey(parent, LABEL, wrapped.fill(0, 40, 41), aad, SEAL);
  } catch {
    // What fails has things to give back too.
  }
  const dataKey = engine.generateKey(DATA_KEY_USE);
  engine.wrapDataKey(messageKey, dataKey, aad);
  const { message, id, commitment } = engine.beginMessage(dataKey, 32);
  const header = new Uint8Array(100);
  const tag = engine.sealHeader(message, header, aad);
  // Two frames: sequence, IV, ciphertext and tag.
  const body = new Uint8Array(2 * (4 + 12 + 32 + 16));
  engine.sealFrames(message, data, false, body);
  const reader = engine.resumeMessage(dataKey, 0x0478, id, 32, commitment);
  engine.verifyHeader(reader, header, aad, tag);
  if (engine.openFrames(reader, body, new Uint8Array(body.length))?.consumed !== body.length) {
    throw new Error('frames do not open');
  }
  engine.random(48);
  for (const each of [reader, message, dataKey, again, key]) {
    engine.destroyKey(each);
  }
  // 40 tokens, two batches, and 16 calls for keys, MACs and the message.
  done += 40 + 2 * ROWS + 16;
}
engine.close();
console.log(`${done} operations`);
