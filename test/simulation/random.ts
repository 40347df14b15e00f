/** Numbers that depend on a seed and on nothing else. Not for keys outside of a simulation. */
export class SeededRandom {
  #a: number;
  #b: number;
  #c: number;
  #count = 1;

  /** @param stream tells apart what draws under one seed, so that more draws of one leave the others as they are */
  constructor(seed: number, stream: number) {
    this.#a = seed | 0;
    this.#b = Math.floor(seed / 2 ** 32) | 0;
    this.#c = Math.imul(stream + 1, 0x9e3779b9) | 0;
    for (let i = 0; i < 12; i++) {
      this.uint32();
    }
  }

  /** The generator sfc32. */
  uint32(): number {
    const sum = (this.#a + this.#b + this.#count++) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    this.#c |= 0;
    return sum >>> 0;
  }

  /** From 0 to 1, without 1. */
  fraction(): number {
    return this.uint32() / 2 ** 32;
  }

  /** Whole, from `low` to `high`, both included. */
  between(low: number, high: number): number {
    return low + Math.floor(this.fraction() * (high - low + 1));
  }

  chance(probability: number): boolean {
    return this.fraction() < probability;
  }

  pick<T>(values: readonly T[]): T {
    return values[this.between(0, values.length - 1)]!;
  }

  /** One of `[weight, value]`, by weight. */
  weighted<T>(values: readonly (readonly [number, T])[]): T {
    let left = this.fraction() * values.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, value] of values) {
      left -= weight;
      if (left < 0) {
        return value;
      }
    }
    return values.at(-1)![1];
  }

  fill(target: Uint8Array): void {
    for (let i = 0; i < target.length; i++) {
      target[i] = this.uint32() >>> 24;
    }
  }
}
