/**
 * A value that is compressed on its way into a message, and expanded on its way out: block by block, in the workers of the
 * pool, two blocks at a time. A block opens to 256 KiB at most and says how long it is, so that memory is bounded whatever
 * a message holds; how much one may become in all is the agent's limit.
 */
import { joined } from '../bytes.ts';
import { COMPRESSION_NAME, CONTENT_NAME } from '../envelope/own-names.ts';
import { DekdError } from '../errors.ts';
import type { Codec } from '../pool/blocks.ts';
import type { WorkPool } from '../pool/pool.ts';

export type { Codec } from '../pool/blocks.ts';

const AT_ONCE = 2;
const NOTHING = new Uint8Array(0);

/** What a message stores of its value. */
export function valuePairs(content: string | undefined, codec: string | undefined): Readonly<Record<string, string>> {
  return {
    ...(content === undefined ? {} : { [CONTENT_NAME]: content }),
    ...(codec === undefined ? {} : { [COMPRESSION_NAME]: codec }),
  };
}

/** The same of a message that is there. */
export function storedValuePairs(stored: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return valuePairs(stored[CONTENT_NAME], stored[COMPRESSION_NAME]);
}

/**
 * How the value in a message was compressed, by what its header stores; undefined when it was not.
 * @throws UNSUPPORTED_VERSION
 */
export function codecOf(stored: Readonly<Record<string, string>>): Codec | undefined {
  const name = stored[COMPRESSION_NAME];
  if (name === undefined || name === 'gzip' || name === 'zstd') {
    return name;
  }
  throw new DekdError('UNSUPPORTED_VERSION', 'the value of the message is compressed in a way that is not known here');
}

/** All of the blocks; when one fails, the others are wiped. @throws what the first one failed with */
async function allOf(running: readonly Promise<Uint8Array>[]): Promise<Uint8Array[]> {
  try {
    return await Promise.all(running);
  } catch (error) {
    for (const made of running) {
      void made.then(
        (block) => block.fill(0),
        () => {},
      );
    }
    throw error;
  }
}

export class BlockCompressor {
  readonly #pool: WorkPool;
  readonly #owner: object;
  readonly #codec: Codec;
  readonly #blockLength: number;
  /** Plaintext of blocks that are not compressed yet. */
  #waiting: Uint8Array = NOTHING;
  #waitingLength = 0;

  constructor(pool: WorkPool, owner: object, codec: Codec) {
    this.#pool = pool;
    this.#owner = owner;
    this.#codec = codec;
    this.#blockLength = pool.blockLength;
  }

  /** Takes plaintext, which is not kept. @returns whether there is enough for `flush` to be worth it */
  push(plaintext: Uint8Array): boolean {
    const length = this.#waitingLength + plaintext.length;
    if (length > this.#waiting.length) {
      const larger = new Uint8Array(Math.max(length, 2 * this.#waiting.length));
      larger.set(this.#waiting.subarray(0, this.#waitingLength));
      this.#waiting.fill(0);
      this.#waiting = larger;
    }
    this.#waiting.set(plaintext, this.#waitingLength);
    this.#waitingLength = length;
    return length >= AT_ONCE * this.#blockLength;
  }

  /** What has been pushed, compressed. */
  async flush(): Promise<Uint8Array[]> {
    const blocks: Promise<Uint8Array>[] = [];
    for (let at = 0; at < this.#waitingLength; at += this.#blockLength) {
      const block = this.#waiting.subarray(at, Math.min(at + this.#blockLength, this.#waitingLength));
      // Copied before it returns.
      blocks.push(this.#pool.compress(this.#owner, this.#codec, block));
    }
    this.close();
    return allOf(blocks);
  }

  /** Wipes what waits. */
  close(): void {
    this.#waiting.fill(0, 0, this.#waitingLength);
    this.#waitingLength = 0;
  }
}

export class BlockExpander {
  readonly #pool: WorkPool;
  readonly #owner: object;
  readonly #codec: Codec;
  readonly #limit: number;
  /** Blocks that are not expanded yet, the last maybe not whole. */
  #waiting: Uint8Array = NOTHING;
  #expanded = 0;

  /** @param limit bytes that the value may become */
  constructor(pool: WorkPool, owner: object, codec: Codec, limit: number) {
    this.#pool = pool;
    this.#owner = owner;
    this.#codec = codec;
    this.#limit = limit;
  }

  /** Takes compressed bytes over. */
  push(compressed: Uint8Array): void {
    if (this.#waiting.length === 0) {
      this.#waiting = compressed;
      return;
    }
    const both = joined([this.#waiting, compressed]);
    compressed.fill(0);
    this.#waiting.fill(0);
    this.#waiting = both;
  }

  /** Whether `next` gives something. @throws MALFORMED */
  get hasWhole(): boolean {
    const size = this.#pool.blockSize(this.#codec, this.#waiting);
    return size !== undefined && size <= this.#waiting.length;
  }

  /** The value of the next blocks; fresh. @throws MALFORMED; INVALID_ARGUMENT when the value becomes too long */
  async next(): Promise<Uint8Array> {
    const running: Promise<Uint8Array>[] = [];
    while (running.length < AT_ONCE && this.hasWhole) {
      const size = this.#pool.blockSize(this.#codec, this.#waiting)!;
      const block = this.#waiting.subarray(0, size);
      // Copied before it returns.
      running.push(this.#pool.expand(this.#owner, this.#codec, block));
      block.fill(0);
      this.#waiting = this.#waiting.subarray(size);
    }
    const blocks = await allOf(running);
    const value = joined(blocks);
    for (const block of blocks) {
      block.fill(0);
    }
    this.#expanded += value.length;
    if (this.#expanded > this.#limit) {
      value.fill(0);
      throw new DekdError(
        'INVALID_ARGUMENT',
        `the compressed value becomes longer than limits.maxExpanded of ${this.#limit} bytes`,
      );
    }
    return value;
  }

  /** @throws MALFORMED when a block is not whole */
  end(): void {
    if (this.#waiting.length > 0) {
      throw new DekdError('MALFORMED', 'the compressed value ends in the middle of a block');
    }
  }

  /** Wipes what waits. */
  close(): void {
    this.#waiting.fill(0);
    this.#waiting = NOTHING;
  }
}
