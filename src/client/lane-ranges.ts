/** Parts of a region that are given out and come back: first fit, neighbours joined. */

/** On the border of a line of the processor's cache, so that two values never share one. */
const GRAIN = 64;

interface Free {
  offset: number;
  length: number;
}

export class LaneRanges {
  readonly #free: Free[];

  constructor(size: number) {
    this.#free = [{ offset: 0, length: size }];
  }

  /** The offset of `length` bytes that are the caller's until `give`; undefined when there is no room. */
  take(length: number): number | undefined {
    const wanted = rounded(length);
    for (let i = 0; i < this.#free.length; i++) {
      const free = this.#free[i]!;
      if (free.length >= wanted) {
        const { offset } = free;
        free.offset += wanted;
        free.length -= wanted;
        if (free.length === 0) {
          this.#free.splice(i, 1);
        }
        return offset;
      }
    }
    return undefined;
  }

  /** What `take` gave, with the same length. */
  give(offset: number, length: number): void {
    const end = offset + rounded(length);
    let at = 0;
    while (at < this.#free.length && this.#free[at]!.offset < offset) {
      at++;
    }
    const before = this.#free[at - 1];
    const after = this.#free[at];
    const joinsBefore = before !== undefined && before.offset + before.length === offset;
    const joinsAfter = after?.offset === end;
    if (joinsBefore) {
      before.length = end - before.offset + (joinsAfter ? after!.length : 0);
      if (joinsAfter) {
        this.#free.splice(at, 1);
      }
    } else if (joinsAfter) {
      after!.length += after!.offset - offset;
      after!.offset = offset;
    } else {
      this.#free.splice(at, 0, { offset, length: end - offset });
    }
  }
}

/** What a range of `length` bytes takes. */
export function rounded(length: number): number {
  return Math.ceil(Math.max(length, 1) / GRAIN) * GRAIN;
}
