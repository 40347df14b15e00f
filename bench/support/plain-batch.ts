/** The C++ baseline of the native engine, compiled when it is first asked for. */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TOKEN_OVERHEAD } from '../../src/crypto/engine.ts';
import { primitives } from '../../src/crypto/node.ts';
import { TOKEN_AAD_LENGTH, TOKEN_NONCE_LENGTH } from '../../src/envelope/token.ts';
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
}

const SOURCE = fileURLToPath(new URL('../native/plain_batch.cc', import.meta.url));
const OUTPUT = fileURLToPath(new URL('../out/plain_batch.node', import.meta.url));

let loaded: Addon | undefined;

/** @throws when there is no compiler; the headers are those that came with this Node, else the system's */
function addon(): Addon {
  if (loaded === undefined) {
    mkdirSync(dirname(OUTPUT), { recursive: true });
    const beside = join(dirname(process.execPath), '..', 'include', 'node');
    const headers = [beside, '/usr/include/node'].filter((folder) => existsSync(folder)).map((folder) => `-I${folder}`);
    const build = spawnSync(
      process.env.CXX ?? 'c++',
      ['-std=c++20', '-O3', '-fPIC', '-shared', '-Wall', ...headers, '-o', OUTPUT, SOURCE],
      { encoding: 'utf8' },
    );
    if (build.status !== 0) {
      throw new Error(`the C++ baseline was not built: ${build.error?.message ?? build.stderr}`);
    }
    loaded = createRequire(import.meta.url)(OUTPUT) as Addon;
  }
  return loaded;
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
