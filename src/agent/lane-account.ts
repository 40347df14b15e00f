/** How much of something is held, and by whom. */
export class LaneAccount {
  readonly #held = new Map<string, number>();
  #total = 0;

  get total(): number {
    return this.#total;
  }

  /** What one share holds. */
  of(share: string): number {
    return this.#held.get(share) ?? 0;
  }

  /** @param amount negative for what is given back */
  add(share: string, amount: number): void {
    const left = this.of(share) + amount;
    this.#total += amount;
    if (left > 0) {
      this.#held.set(share, left);
    } else {
      this.#held.delete(share);
    }
  }
}
