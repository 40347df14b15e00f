/**
 * What waits for an answer, in structures that leave nothing behind.
 *
 * Not Map and Set: V8 links each table that a hash map outgrew to its successor, and once one of them has been promoted,
 * all later ones, with every call in them, live until the next full collection. Measured, that is most of the cost of
 * many calls in flight.
 */

/** A member of a `LinkedSet`, which owns these fields. */
export interface Linkable {
  isListed: boolean;
  previous: Linkable | undefined;
  next: Linkable | undefined;
}

/** A set whose members carry their own links. One member is in one set at most. */
export class LinkedSet<T extends Linkable> {
  #first: T | undefined;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(member: T): void {
    if (member.isListed) {
      return;
    }
    member.isListed = true;
    member.next = this.#first;
    if (this.#first !== undefined) {
      this.#first.previous = member;
    }
    this.#first = member;
    this.#size += 1;
  }

  delete(member: T): void {
    if (!member.isListed) {
      return;
    }
    const { previous, next } = member;
    member.isListed = false;
    member.previous = undefined;
    member.next = undefined;
    if (previous === undefined) {
      this.#first = next as T | undefined;
    } else {
      previous.next = next;
    }
    if (next !== undefined) {
      next.previous = previous;
    }
    this.#size -= 1;
  }

  /** The members as they are now; later changes do not matter. */
  members(): T[] {
    const members: T[] = [];
    for (let member: Linkable | undefined = this.#first; member !== undefined; member = member.next) {
      members.push(member as T);
    }
    return members;
  }
}

const INITIAL_SLOTS = 64;
const ID_LIMIT = 0xffffffff;

/**
 * What waits under which id: a ring indexed by the id's low bits, at most half full. Ids go up, wrap, and skip 0 and
 * every id whose place is taken, those in flight among them; so one answer that is long in coming costs one place.
 */
export class IdTable<T> {
  #ids: number[] = new Array<number>(INITIAL_SLOTS).fill(0);
  #values: (T | undefined)[] = new Array<T | undefined>(INITIAL_SLOTS).fill(undefined);
  #size = 0;
  #next: number;

  /** @param first where ids begin */
  constructor(first = 1) {
    this.#next = first;
  }

  get size(): number {
    return this.#size;
  }

  /** Puts `value` under an id that nothing else has, and returns the id. */
  add(value: T): number {
    if (this.#size * 2 >= this.#ids.length) {
      this.#grow();
    }
    const mask = this.#ids.length - 1;
    let id = this.#next > ID_LIMIT ? 1 : this.#next;
    while (this.#values[id & mask] !== undefined) {
      id = id >= ID_LIMIT ? 1 : id + 1;
    }
    this.#next = id + 1;
    this.#ids[id & mask] = id;
    this.#values[id & mask] = value;
    this.#size += 1;
    return id;
  }

  get(id: number): T | undefined {
    const slot = id & (this.#ids.length - 1);
    return this.#ids[slot] === id ? this.#values[slot] : undefined;
  }

  /** Whether anything was under the id. */
  delete(id: number): boolean {
    const slot = id & (this.#ids.length - 1);
    if (this.#ids[slot] !== id || this.#values[slot] === undefined) {
      return false;
    }
    this.#values[slot] = undefined;
    this.#size -= 1;
    return true;
  }

  /** Takes everything out. */
  drain(): T[] {
    const values = this.#values.filter((value): value is NonNullable<typeof value> => value !== undefined);
    this.#values.fill(undefined);
    this.#size = 0;
    return values;
  }

  /** Ids with places of their own in a ring have places of their own in one of twice the size. */
  #grow(): void {
    const ids = this.#ids;
    const values = this.#values;
    const slots = ids.length * 2;
    this.#ids = new Array<number>(slots).fill(0);
    this.#values = new Array<T | undefined>(slots).fill(undefined);
    for (let i = 0; i < ids.length; i++) {
      if (values[i] !== undefined) {
        const slot = ids[i]! & (slots - 1);
        this.#ids[slot] = ids[i]!;
        this.#values[slot] = values[i];
      }
    }
  }
}
