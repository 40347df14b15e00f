/** Lines into blocks, each with a number, and each block with a MAC over everything in it and the MAC before. */
import type { ChainKey } from './chain-key.ts';
import { NO_MAC, openLine, PLAIN_END, sealedEnd, textOf } from './format.ts';

/** A place in a chain: what an anchor says. */
export interface ChainPlace {
  /** Number of the last line. */
  readonly seq: number;
  /** Its MAC, as the line has it. */
  readonly mac: string;
}

export class Chain {
  readonly #key: ChainKey;
  #previous: Uint8Array = NO_MAC;
  #seq = 0;
  #blocks = 0;

  constructor(key: ChainKey) {
    this.#key = key;
  }

  /** Blocks so far: how often the key evolved. */
  get blocks(): number {
    return this.#blocks;
  }

  /** Lines so far. */
  get lines(): number {
    return this.#seq;
  }

  /** Undefined before the first block. */
  get place(): ChainPlace | undefined {
    return this.#blocks === 0 ? undefined : { seq: this.#seq, mac: textOf(this.#previous) };
  }

  /**
   * Closes a block.
   * @param bodies of at least one line, as `bodyOf` makes them
   * @returns the lines as they are written. @throws RESOURCE_EXHAUSTED; nothing has changed then
   */
  seal(bodies: readonly string[]): Buffer {
    let text = '';
    const last = bodies.length - 1;
    for (let i = 0; i < last; i++) {
      text += openLine(this.#seq + 1 + i, bodies[i]!) + PLAIN_END;
    }
    text += openLine(this.#seq + 1 + last, bodies[last]!);
    const head = NO_MAC.length;
    const length = Buffer.byteLength(text);
    const block = Buffer.allocUnsafe(head + length + SEAL_LENGTH);
    block.set(this.#previous);
    block.write(text, head, 'utf8');
    const mac = this.#key.mac(block.subarray(0, head + length));
    block.write(sealedEnd(mac), head + length, 'latin1');
    this.#previous = mac;
    this.#seq += bodies.length;
    this.#blocks += 1;
    return block.subarray(head);
  }

  close(): void {
    this.#key.close();
  }
}

const SEAL_LENGTH = sealedEnd(NO_MAC).length;
