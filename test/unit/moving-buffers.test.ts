/** Memory that another thread changes while native code works in it; row N5 of docs/test-plan.md. */
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadBinding } from '../../src/addon/binding.ts';
import { ROW, ROW_STATUS, ROW_WORDS, TOKEN_OVERHEAD } from '../../src/crypto/engine.ts';
import { NativeEngine } from '../../src/crypto/native.ts';

const SEAL = { algorithm: 'xaes-256-gcm', purpose: 'seal' } as const;
const ROUNDS = Number(process.env.DEKD_MOVING_ROUNDS ?? 300);
const ROWS = 8;
const SIZE = 4096;
const unable = loadBinding().binding === undefined ? 'the addon is not built' : undefined;

/** Writes to every byte of the memory it is given, in no order, until it is ended. */
const SCRIBBLER = `
  const { parentPort, workerData } = require('node:worker_threads');
  const views = workerData.map((memory) => new Uint8Array(memory));
  parentPort.postMessage('ready');
  for (let n = 1; ; n = (n * 1103515245 + 12345) >>> 0) {
    const view = views[n % views.length];
    view[(n >>> 3) % view.length] = n >>> 24;
  }`;

describe.skipIf(unable !== undefined)(`memory that is changed during a call${unable ? `: ${unable}` : ''}`, () => {
  let engine: NativeEngine;
  let scribbler: Worker;
  const plain = new SharedArrayBuffer(ROWS * SIZE);
  const sealed = new SharedArrayBuffer(ROWS * (SIZE + TOKEN_OVERHEAD));
  const table = new SharedArrayBuffer(ROWS * ROW_WORDS * 4);

  beforeAll(async () => {
    engine = new NativeEngine();
    scribbler = new Worker(SCRIBBLER, { eval: true, workerData: [plain, sealed] });
    await new Promise((resolve) => scribbler.once('message', resolve));
  });
  afterAll(async () => {
    await scribbler?.terminate();
    engine?.close();
  });

  it('while it is sealed gives a token of bytes that were there, or one that does not open', () => {
    const key = engine.generateKey(SEAL);
    const token = new Uint8Array(SIZE + TOKEN_OVERHEAD);
    const opened = new Uint8Array(SIZE);
    let whole = 0;
    for (let round = 0; round < ROUNDS; round++) {
      engine.seal(key, new Uint8Array(plain), 0, 0, 0, SIZE, token, 0);
      // In memory of its own a token always opens: what was read once was sealed.
      expect(engine.open(key, token, 0, 0, 0, token.length, opened, 0)).toBe(true);
      engine.seal(key, new Uint8Array(plain), 0, 16, 16, SIZE - 16, new Uint8Array(sealed), 0);
      whole += engine.open(key, new Uint8Array(sealed), 0, 16, 0, SIZE - 16 + TOKEN_OVERHEAD, opened, 0) ? 1 : 0;
    }
    expect(whole).toBeLessThan(ROUNDS);
    engine.destroyKey(key);
  });

  it('while tokens are opened into it gives plaintext that was sealed, or says that a row failed', () => {
    const key = engine.generateKey(SEAL);
    const words = new Uint32Array(table);
    const input = new Uint8Array(sealed);
    for (let round = 0; round < ROUNDS; round++) {
      for (let row = 0; row < ROWS; row++) {
        words.set([key, 0, 0, row * SIZE, SIZE, row * (SIZE + TOKEN_OVERHEAD), 0], row * ROW_WORDS + ROW.key);
      }
      engine.sealMany(words, ROWS, new Uint8Array(plain), input);
      for (let row = 0; row < ROWS; row++) {
        const token = row * (SIZE + TOKEN_OVERHEAD);
        words.set([key, 0, 0, token, SIZE + TOKEN_OVERHEAD, row * SIZE, 0], row * ROW_WORDS + ROW.key);
      }
      engine.openMany(words, ROWS, input, new Uint8Array(plain));
      for (let row = 0; row < ROWS; row++) {
        expect([ROW_STATUS.ok, ROW_STATUS.failed]).toContain(words[row * ROW_WORDS + ROW.status]);
      }
    }
    engine.destroyKey(key);
  });

  it('that was detached, or is too short, is refused before anything is read', () => {
    const key = engine.generateKey(SEAL);
    const gone = new Uint8Array(SIZE);
    structuredClone(gone.buffer, { transfer: [gone.buffer] });
    const token = new Uint8Array(SIZE + TOKEN_OVERHEAD);
    expect(gone.length).toBe(0);
    expect(() => engine.seal(key, gone, 0, 0, 0, SIZE, token, 0)).toThrow(/INVALID_ARGUMENT|region|buffer/);
    expect(() => engine.seal(key, new Uint8Array(SIZE), 0, 0, 0, SIZE, gone, 0)).toThrow(
      /INVALID_ARGUMENT|region|buffer/,
    );
    const shrunk = new ArrayBuffer(SIZE, { maxByteLength: SIZE });
    const view = new Uint8Array(shrunk);
    shrunk.resize(SIZE / 2);
    expect(() => engine.seal(key, view, 0, 0, 0, SIZE, token, 0)).toThrow(/INVALID_ARGUMENT|region|buffer/);
    engine.destroyKey(key);
  });
});
