/**
 * Who may work next: as many at once as there are seats, and the owners of waiting work in turn, however much each of
 * them waits with.
 */
export class Turns {
  readonly #seats: number;
  readonly #waiting = new Map<object, (() => void)[]>();
  #taken = 0;
  #isGranting = false;
  #length = 0;

  constructor(seats: number) {
    this.#seats = seats;
  }

  /** Pieces of work that wait. */
  get length(): number {
    return this.#length;
  }

  /**
   * Resolves when it is the turn of `owner`'s next piece of work, with what ends it. Turns are given between two rounds of
   * the event loop, one in each: what came meanwhile is served first.
   */
  take(owner: object): Promise<() => void> {
    return new Promise((resolve) => {
      const queue = this.#waiting.get(owner);
      const grant = (): void => {
        let isOver = false;
        resolve(() => {
          if (!isOver) {
            isOver = true;
            this.#taken--;
            this.#grantSoon();
          }
        });
      };
      if (queue === undefined) {
        this.#waiting.set(owner, [grant]);
      } else {
        queue.push(grant);
      }
      this.#length++;
      this.#grantSoon();
    });
  }

  #grantSoon(): void {
    if (!this.#isGranting && this.#length > 0 && this.#taken < this.#seats) {
      this.#isGranting = true;
      setImmediate(() => {
        this.#isGranting = false;
        this.#grant();
        this.#grantSoon();
      });
    }
  }

  #grant(): void {
    for (const [owner, queue] of this.#waiting) {
      this.#waiting.delete(owner);
      const grant = queue.shift()!;
      if (queue.length > 0) {
        // Behind all others.
        this.#waiting.set(owner, queue);
      }
      this.#length--;
      this.#taken++;
      grant();
      return;
    }
  }
}
