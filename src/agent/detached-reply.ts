/** A reply that is made while others are sent: in memory of its own, into which workers may write. */
import type { DekdError } from '../errors.ts';
import type { DetachedOutput, ItemFailure, ReplyMemory } from '../operations/request.ts';
import { ReplyWriter } from '../protocol/reply-writer.ts';
import type { UsedKey } from '../telemetry/observation.ts';

export interface DetachedReplyHost {
  /** Whether the client still waits for the reply. */
  isWanted(): boolean;
  /** What the client is told of an item that failed. */
  itemFailed(failure: DekdError): DekdError;
  keyUsed(key: UsedKey): void;
  /** Sends what was written. */
  send(writer: ReplyWriter): void;
}

export class DetachedReply implements DetachedOutput {
  readonly #writer: ReplyWriter;
  readonly #host: DetachedReplyHost;

  constructor(memory: ReplyMemory, host: DetachedReplyHost) {
    this.#writer = new ReplyWriter(memory);
    this.#host = host;
  }

  get isWanted(): boolean {
    return this.#host.isWanted();
  }

  get buffer(): Uint8Array {
    return this.#writer.buffer;
  }

  reserveValue(id: number, length: number): number {
    return this.#writer.reserveValue(id, length);
  }

  rewind(): void {
    this.#writer.rewind();
  }

  beginMany(id: number, bound: number): void {
    this.#writer.beginMany(id, bound);
  }

  manyValue(length: number): number {
    return this.#writer.manyValue(length);
  }

  endMany(failures: readonly ItemFailure[]): void {
    this.#writer.endMany(failures.map(({ index, error }) => ({ index, error: this.#host.itemFailed(error) })));
  }

  keyUsed(_id: number, key: UsedKey): void {
    this.#host.keyUsed(key);
  }

  send(): void {
    this.#host.send(this.#writer);
  }

  discard(): void {
    this.#writer.discard();
  }
}
