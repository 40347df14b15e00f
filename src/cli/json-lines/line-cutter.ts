/** Collects chunks of a stream and hands out whole lines. */
export class LineCutter {
  #chunks: Buffer[] = [];
  /** Bytes held. */
  #length = 0;
  /** Bytes held up to and with the last newline; 0 when there is none. */
  #whole = 0;

  get length(): number {
    return this.#length;
  }

  /** Bytes of the line that has no end yet. */
  get unfinished(): number {
    return this.#length - this.#whole;
  }

  get hasLines(): boolean {
    return this.#whole > 0;
  }

  /** Keeps `chunk`, which must not change until its lines were taken. */
  push(chunk: Buffer): void {
    const newline = chunk.lastIndexOf(0x0a);
    if (newline >= 0) {
      this.#whole = this.#length + newline + 1;
    }
    this.#chunks.push(chunk);
    this.#length += chunk.length;
  }

  /** All whole lines so far; the last byte is a newline. Only when `hasLines`. */
  takeLines(): Buffer {
    const held = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks, this.#length);
    const lines = held.subarray(0, this.#whole);
    // A copy, so that a short rest does not keep the memory of the lines before it.
    const rest = Buffer.from(held.subarray(this.#whole));
    this.#chunks = rest.length === 0 ? [] : [rest];
    this.#length = rest.length;
    this.#whole = 0;
    return lines;
  }

  /** The bytes of the unfinished last line and a newline that was not there. */
  takeRest(): Buffer {
    const rest = Buffer.concat([...this.#chunks, Buffer.from('\n')]);
    this.#chunks = [];
    this.#length = 0;
    this.#whole = 0;
    return rest;
  }
}
