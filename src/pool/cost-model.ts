/** What work costs on this machine with this engine, measured at first use and corrected by what real work then takes. */
import { type Engine, type KeyHandle, ROW, ROW_WORDS, TOKEN_OVERHEAD } from '../crypto/engine.ts';

const ITEMS = 16;
const ITEM_LENGTH = 64;
const BYTES = 16 * 1024;
const ROUNDS = 3;
const NS = 1_000_000;
/** How much one observation moves the model. */
const WEIGHT = 0.1;
/** Runs below this, in milliseconds, say more about the clock than about the engine. */
const WORTH_OBSERVING = 0.05;

export class CostModel {
  /** Nanoseconds of the engine for an item, and for a byte of one. */
  perItem = 0;
  perByte = 0;
  /** Nanoseconds to copy a byte into memory that workers see. */
  perCopiedByte = 0.2;
  isMeasured = false;
  #scale = 1;

  /** Some milliseconds with the slowest engine. Where the key table is full, it is left for another time. */
  measure(engine: Engine): void {
    let key: KeyHandle;
    try {
      key = engine.generateKey({ algorithm: 'xaes-256-gcm', purpose: 'seal' });
    } catch {
      return;
    }
    try {
      const items = sealing(engine, key, ITEMS, ITEM_LENGTH) / ITEMS;
      const bytes = sealing(engine, key, 1, BYTES);
      this.perByte = Math.max(0.01, (bytes - items) / (BYTES - ITEM_LENGTH));
      this.perItem = Math.max(1, items - ITEM_LENGTH * this.perByte);
      this.perCopiedByte = copying();
      this.isMeasured = true;
    } finally {
      engine.destroyKey(key);
    }
  }

  /** Nanoseconds that the engine takes for `items` with `bytes` in all. */
  engineNs(items: number, bytes: number): number {
    return (items * this.perItem + bytes * this.perByte) * this.#scale;
  }

  /** Says what work took that the model had put at `expectedNs`. */
  observe(expectedNs: number, elapsedMs: number): void {
    if (elapsedMs > WORTH_OBSERVING && expectedNs > 0) {
      const ratio = Math.min(4, Math.max(0.25, (elapsedMs * NS) / expectedNs));
      this.#scale = Math.min(20, Math.max(0.05, this.#scale * (1 - WEIGHT + WEIGHT * ratio)));
    }
  }
}

/** Nanoseconds for `count` items of `length` bytes, the best of a few rounds. */
function sealing(engine: Engine, key: KeyHandle, count: number, length: number): number {
  const input = new Uint8Array(count * length);
  const output = new Uint8Array(count * (length + TOKEN_OVERHEAD));
  const table = new Uint32Array(count * ROW_WORDS);
  for (let item = 0; item < count; item++) {
    const row = item * ROW_WORDS;
    table[row + ROW.key] = key;
    table[row + ROW.dataOffset] = item * length;
    table[row + ROW.dataLength] = length;
    table[row + ROW.outOffset] = item * (length + TOKEN_OVERHEAD);
  }
  return best(() => engine.sealMany(table, count, input, output));
}

function copying(): number {
  const length = 256 * 1024;
  const source = new Uint8Array(length);
  const target = new Uint8Array(new SharedArrayBuffer(length));
  return Math.max(0.02, best(() => target.set(source)) / length);
}

function best(run: () => void): number {
  let shortest = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const begun = performance.now();
    run();
    shortest = Math.min(shortest, (performance.now() - begun) * NS);
  }
  return shortest;
}
