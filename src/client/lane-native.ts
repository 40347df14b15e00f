/** The native part of the client: memory to share. Only loaded late, so that a client without it stays light. */

import { getSystemErrorName } from 'node:util';
import { type Binding, LANE_FAULT, loadBinding } from '../addon/binding.ts';
import { DekdError } from '../errors.ts';

/** Regions by number; what is in them, the agent reads and writes too. */
export class LaneNative {
  readonly #binding: Binding;

  private constructor(binding: Binding) {
    this.#binding = binding;
  }

  /** @throws UNSUPPORTED with the reason when there is no addon */
  static load(): LaneNative {
    const { binding, reason } = loadBinding();
    if (binding === undefined) {
      throw new DekdError('UNSUPPORTED', reason);
    }
    return new LaneNative(binding);
  }

  /** Makes a region of `size` bytes. @throws RESOURCE_EXHAUSTED when there is no memory for it */
  create(size: number): number {
    const created = this.#binding.laneCreate(size);
    if (typeof created === 'number') {
      throw new DekdError('RESOURCE_EXHAUSTED', `no shared memory of ${size} bytes: ${this.#reason()}`);
    }
    return created.region;
  }

  /** A buffer that is a part of a region; the part must not be given to anybody else before the buffer is collected. */
  buffer(region: number, offset: number, length: number): ArrayBuffer {
    const buffer = this.#binding.laneBuffer(region, offset, length);
    if (typeof buffer === 'number') {
      throw new DekdError('INTERNAL', 'a part of a region is outside of it');
    }
    return buffer;
  }

  copyIn(region: number, offset: number, bytes: Uint8Array): void {
    this.#check(this.#binding.laneWrite(region, offset, bytes));
  }

  copyOut(region: number, offset: number, out: Uint8Array): void {
    this.#check(this.#binding.laneRead(region, offset, out));
  }

  /** Sends the descriptor of a region. */
  share(socket: number, token: Uint8Array, region: number): void {
    if (this.#binding.laneShare(socket, token, region) !== LANE_FAULT.none) {
      throw new DekdError('AGENT_UNAVAILABLE', `the region could not be sent: ${this.#reason()}`);
    }
  }

  /** Sends the descriptors of two files, the one to read and the one to write. */
  shareFiles(socket: number, token: Uint8Array, source: number, target: number): void {
    if (this.#binding.laneShareFiles(socket, token, source, target) !== LANE_FAULT.none) {
      throw new DekdError('AGENT_UNAVAILABLE', `the files could not be sent: ${this.#reason()}`);
    }
  }

  drop(region: number): void {
    this.#binding.laneDrop(region);
  }

  #check(status: number): void {
    if (status !== 0) {
      throw new DekdError('INTERNAL', 'a part of a region is outside of it');
    }
  }

  #reason(): string {
    const errno = this.#binding.laneErrno();
    return errno > 0 ? getSystemErrorName(-errno) : 'unknown error';
  }
}
