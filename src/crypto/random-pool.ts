import { DekdError } from '../errors.ts';

/** Bytes drawn ahead in one call to the random source. */
const POOL_BYTES = 4096;

/**
 * Random bytes drawn ahead, each wiped as it is handed out. With `ahead` off nothing is kept between two draws, so a
 * virtual machine that is resumed twice from one image never gives the same nonce twice.
 */
export class RandomPool {
  readonly #source: (target: Uint8Array) => void;
  readonly #pool: Uint8Array;
  #next: number;

  constructor(source: (target: Uint8Array) => void, ahead: boolean) {
    this.#source = source;
    this.#pool = new Uint8Array(ahead ? POOL_BYTES : 0);
    this.#next = this.#pool.length;
  }

  /** Fills `target`; more than the pool holds comes straight from the source. */
  fill(target: Uint8Array): void {
    const pool = this.#pool;
    const length = target.length;
    if (length > pool.length) {
      this.#source(target);
      return;
    }
    if (this.#next + length > pool.length) {
      this.#source(pool);
      this.#next = 0;
    }
    const start = this.#next;
    this.#next = start + length;
    for (let i = 0; i < length; i++) {
      target[i] = pool[start + i]!;
      pool[start + i] = 0;
    }
  }

  /** Fills `target` past the pool: keys never pass through bytes drawn ahead. */
  fillDirect(target: Uint8Array): void {
    this.#source(target);
  }

  wipe(): void {
    this.#pool.fill(0);
    this.#next = this.#pool.length;
  }
}

/** @throws INVALID_ARGUMENT unless `length` is a whole number of bytes up to 1 MiB. */
export function checkRandomLength(length: number): void {
  if (!Number.isInteger(length) || length < 0 || length > 1 << 20) {
    throw new DekdError('INVALID_ARGUMENT', `random length ${length} is outside 0 to ${1 << 20} bytes`);
  }
}
