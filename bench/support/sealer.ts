/** An engine with a key and the buffers of a measurement. */
import {
  type Engine,
  type EngineName,
  type KeyHandle,
  ROW,
  ROW_STATUS,
  ROW_WORDS,
  TOKEN_OVERHEAD,
} from '../../src/crypto/engine.ts';
import { loadEngine } from '../../src/crypto/load.ts';
import { CONTEXT_BYTES } from './in-process.ts';

export async function openEngine(name: EngineName): Promise<Engine> {
  const { engine } = await loadEngine({ engine: name, minimumLockLevel: 'heap', snapshotSafe: false });
  return engine;
}

/** Seals and opens values of one size as the agent does: from a frame, by offset, to where the reply is. */
export class Sealer {
  readonly #engine: Engine;
  readonly #key: KeyHandle;
  readonly #data: Uint8Array;
  readonly #input: Uint8Array;
  readonly #token: Uint8Array;
  readonly #tokenInput: Uint8Array;
  readonly #plain: Uint8Array;
  readonly #items: number;
  readonly #sealTable: Uint32Array;
  readonly #openTable: Uint32Array;

  /** @param items values in a batch */
  constructor(engine: Engine, data: Uint8Array, items = 1) {
    this.#engine = engine;
    this.#data = data;
    this.#items = items;
    this.#key = engine.generateKey({ algorithm: 'xaes-256-gcm', purpose: 'seal' });
    const context = CONTEXT_BYTES.length;
    const token = data.length + TOKEN_OVERHEAD;
    this.#input = new Uint8Array(context + items * data.length);
    this.#input.set(CONTEXT_BYTES);
    this.#token = new Uint8Array(items * token);
    this.#sealTable = new Uint32Array(items * ROW_WORDS);
    this.#openTable = new Uint32Array(items * ROW_WORDS);
    for (let i = 0; i < items; i++) {
      this.#input.set(data, context + i * data.length);
      this.#row(this.#sealTable, i, context + i * data.length, data.length, i * token);
      this.#row(this.#openTable, i, context + i * token, token, i * data.length);
    }
    this.#plain = new Uint8Array(items * data.length);
    this.#tokenInput = new Uint8Array(context + this.#token.length);
    this.#tokenInput.set(CONTEXT_BYTES);
    this.#check();
  }

  #row(table: Uint32Array, index: number, dataOffset: number, dataLength: number, outOffset: number): void {
    const at = index * ROW_WORDS;
    table[at + ROW.key] = this.#key;
    table[at + ROW.contextOffset] = 0;
    table[at + ROW.contextLength] = CONTEXT_BYTES.length;
    table[at + ROW.dataOffset] = dataOffset;
    table[at + ROW.dataLength] = dataLength;
    table[at + ROW.outOffset] = outOffset;
  }

  seal(): void {
    const context = CONTEXT_BYTES.length;
    this.#engine.seal(this.#key, this.#input, 0, context, context, this.#data.length, this.#token, 0);
  }

  open(): void {
    const context = CONTEXT_BYTES.length;
    const token = this.#data.length + TOKEN_OVERHEAD;
    if (!this.#engine.open(this.#key, this.#tokenInput, 0, context, context, token, this.#plain, 0)) {
      throw new Error('the engine does not open what it sealed');
    }
  }

  sealMany(): void {
    this.#engine.sealMany(this.#sealTable, this.#items, this.#input, this.#token);
  }

  openMany(): void {
    this.#engine.openMany(this.#openTable, this.#items, this.#tokenInput, this.#plain);
  }

  /** Once, outside of every timed loop: what was sealed opens to what it was. */
  #check(): void {
    this.sealMany();
    this.#tokenInput.set(this.#token, CONTEXT_BYTES.length);
    this.openMany();
    this.#expectPlain(this.#items);
    for (let i = 0; i < this.#items; i++) {
      if (this.#openTable[i * ROW_WORDS + ROW.status] !== ROW_STATUS.ok) {
        throw new Error(`item ${i} of the batch did not open`);
      }
    }
    this.seal();
    this.#tokenInput.set(this.#token, CONTEXT_BYTES.length);
    this.#plain.fill(0);
    this.open();
    this.#expectPlain(1);
  }

  #expectPlain(items: number): void {
    for (let i = 0; i < items; i++) {
      const at = i * this.#data.length;
      if (Buffer.compare(this.#plain.subarray(at, at + this.#data.length), this.#data) !== 0) {
        throw new Error(`item ${i} opened to something else`);
      }
    }
  }
}
