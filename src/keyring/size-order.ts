/** A member of a `SizeOrder`: its size and its neighbours belong to the order and are changed by nobody else. */
export interface Sized<T> {
  size: number;
  newer: T | undefined;
  older: T | undefined;
}

/**
 * Members by size, and within one size by the time of last use: the largest is found, and a member grown, shrunk or
 * touched, in constant time. One doubly linked list for each size; sizes change by one, so the largest is always at
 * hand.
 */
export class SizeOrder<T extends Sized<T>> {
  readonly #newest: (T | undefined)[] = [];
  readonly #oldest: (T | undefined)[] = [];
  #largest = 0;

  /** The least recently touched of the largest members; undefined when all are of size 0. */
  get largest(): T | undefined {
    return this.#oldest[this.#largest];
  }

  grow(member: T): void {
    if (member.size > 0) {
      this.#unlink(member);
    }
    member.size++;
    this.#link(member);
    if (member.size > this.#largest) {
      this.#largest = member.size;
    }
  }

  shrink(member: T): void {
    this.#unlink(member);
    member.size--;
    if (member.size > 0) {
      this.#link(member);
    }
    while (this.#largest > 0 && this.#newest[this.#largest] === undefined) {
      this.#largest--;
    }
  }

  /** Makes `member`, of size 1 or more, the most recently used of its size. */
  touch(member: T): void {
    if (this.#newest[member.size] !== member) {
      this.#unlink(member);
      this.#link(member);
    }
  }

  #link(member: T): void {
    const { size } = member;
    const newest = this.#newest[size];
    member.newer = undefined;
    member.older = newest;
    if (newest === undefined) {
      this.#oldest[size] = member;
    } else {
      newest.newer = member;
    }
    this.#newest[size] = member;
  }

  #unlink(member: T): void {
    const { size, newer, older } = member;
    if (newer === undefined) {
      this.#newest[size] = older;
    } else {
      newer.older = older;
    }
    if (older === undefined) {
      this.#oldest[size] = newer;
    } else {
      older.newer = newer;
    }
    member.newer = undefined;
    member.older = undefined;
  }
}
