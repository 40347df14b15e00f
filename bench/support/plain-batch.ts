/** The C++ baseline of the native engine, compiled when it is first asked for. */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { TOKEN_OVERHEAD } from '../../src/crypto/engine.ts';
import { primitives } from '../../src/crypto/node.ts';
import { TOKEN_AAD_LENGTH, TOKEN_NONCE_LENGTH } from '../../src/envelope/token.ts';
import { compiled } from './compiled.ts';
import { AAD } from './in-process.ts';

interface Addon {
  sealBatches(
    count: number,
    key: Uint8Array,
    aad: Uint8Array,
    input: Uint8Array,
    itemLength: number,
    items: number,
    output: Uint8Array,
  ): boolean;
  copy(count: number, input: Uint8Array, output: Uint8Array): boolean;
}

let loaded: Addon | undefined;

function addon(): Addon {
  if (loaded === undefined) {
    const beside = join(dirname(process.execPath), '..', 'include', 'node');
    const headers = [beside, '/usr/include/node'].filter((folder) => existsSync(folder)).map((folder) => `-I${folder}`);
    const output = compiled('plain_batch.cc', 'plain_batch.node', ['-fPIC', '-shared', ...headers]);
    loaded = createRequire(import.meta.url)(output) as Addon;
  }
  return loaded;
}

/** Copies values of one size: as fast as the memory is. @returns work */
export function copying(data: Uint8Array): (count: number) => void {
  const { copy } = addon();
  const output = Buffer.alloc(data.length);
  return (count) => {
    if (!copy(count, data, output)) {
      throw new Error('the copy failed');
    }
  };
}

/** Seals batches of `items` values of `data`. */
export class PlainBatch {
  readonly #key = randomBytes(32);
  readonly #data: Uint8Array;
  readonly #items: number;
  readonly #input: Buffer;
  readonly #output: Buffer;
  readonly #addon = addon();

  constructor(data: Uint8Array, items: number) {
    this.#data = data;
    this.#items = items;
    this.#input = Buffer.concat(Array.from({ length: items }, () => data));
    this.#output = Buffer.alloc(items * (data.length + TOKEN_OVERHEAD));
    this.seal(1);
    this.#check();
  }

  seal(count: number): void {
    const { length } = this.#data;
    if (!this.#addon.sealBatches(count, this.#key, AAD, this.#input, length, this.#items, this.#output)) {
      throw new Error('the C++ baseline failed');
    }
  }

  /** Once, outside of every timed loop: the last token is XAES-256-GCM of the data. */
  #check(): void {
    const token = this.#output.subarray(-(this.#data.length + TOKEN_OVERHEAD));
    const nonce = token.subarray(TOKEN_AAD_LENGTH, TOKEN_AAD_LENGTH + TOKEN_NONCE_LENGTH);
    const sealed = token.subarray(TOKEN_AAD_LENGTH + TOKEN_NONCE_LENGTH);
    const plain = primitives.xaesOpen(this.#key, nonce, AAD, sealed);
    if (plain === undefined || Buffer.compare(plain, this.#data) !== 0) {
      throw new Error('the C++ baseline does not write XAES-256-GCM');
    }
  }
}
