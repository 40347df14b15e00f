/** Memory for work that is done piece by piece or in workers: kept between uses, wiped after each. */

/** Bytes kept for the next use. */
const MAX_SPARE = 8 * 1024 * 1024;
const GRAIN = 64 * 1024;

export class SharedMemory {
  readonly #isShared: boolean;
  #spares: Buffer[] = [];
  #spareBytes = 0;

  /** @param isShared whether workers must see it */
  constructor(isShared: boolean) {
    this.#isShared = isShared;
  }

  /** At least `length` bytes, of unknown content. */
  take(length: number): Buffer {
    let fit = -1;
    for (let i = 0; i < this.#spares.length; i++) {
      const size = this.#spares[i]!.length;
      if (size >= length && size <= 2 * length + GRAIN && (fit < 0 || size < this.#spares[fit]!.length)) {
        fit = i;
      }
    }
    if (fit >= 0) {
      const spare = this.#spares.splice(fit, 1)[0]!;
      this.#spareBytes -= spare.length;
      return spare;
    }
    const size = Math.ceil(length / GRAIN) * GRAIN;
    return this.#isShared ? Buffer.from(new SharedArrayBuffer(size)) : Buffer.allocUnsafeSlow(size);
  }

  /** Takes memory back and wipes the first `used` bytes of it, which may be plaintext. */
  give(memory: Buffer, used: number): void {
    memory.fill(0, 0, used);
    if (this.#spareBytes + memory.length <= MAX_SPARE) {
      this.#spares.push(memory);
      this.#spareBytes += memory.length;
    }
  }

  /** Lets go of what is kept. */
  clear(): void {
    this.#spares = [];
    this.#spareBytes = 0;
  }
}
