/** The lane before anybody has used it: most clients never do, and none reads its code before the first large value. */
import type { Caller } from './caller.ts';
import type { Channel } from './channel.ts';
import type { ClientLane } from './lane.ts';
import type { LaneValue, LaneValues } from './lane-values.ts';
import type { CallOptions, Capabilities } from './types.ts';

/** Bytes from which copying a value into the lane is cheaper than sending it. */
export const WORTH_COPYING = 256 * 1024;

interface OpenLane {
  readonly lane: ClientLane;
  readonly values: LaneValues;
}

export class LaneDoor {
  readonly #caller: () => Caller;
  #opening: Promise<OpenLane> | undefined;
  #open: OpenLane | undefined;
  /** The connection that the lane is of once it is open. */
  #channel: Channel | undefined;

  /** @param caller asked for when the lane is opened */
  constructor(caller: () => Caller) {
    this.#caller = caller;
  }

  get capabilities(): Capabilities {
    return (
      this.#open?.lane.capabilities ?? {
        lane: false,
        reason: 'nothing was sent by it yet: allocate() and large values open it',
      }
    );
  }

  /** Called with each new connection before anything is sent on it. Never throws. */
  async attach(channel: Channel): Promise<void> {
    this.#channel = channel;
    await this.#open?.lane.attach(channel);
  }

  /** The lane itself. */
  async lane(): Promise<ClientLane> {
    return (await this.#opened()).lane;
  }

  /** A buffer of zeros, in the lane where there is one. @throws INVALID_ARGUMENT; as every call */
  async allocate(length: number, options: CallOptions): Promise<Uint8Array> {
    return (await this.#opened()).values.allocate(length, options);
  }

  /** Whether the lane is the way of these bytes, as far as can be said at once. */
  wants(data: Uint8Array): boolean {
    return this.#open?.values.wants(data) ?? data.length >= WORTH_COPYING;
  }

  /** Starts the call: over the socket after all where there is no room. @throws INVALID_ARGUMENT when the buffer is in use */
  submit(value: LaneValue): void {
    if (this.#open === undefined) {
      this.#submitOnceOpen(value).catch(value.reject);
    } else {
      this.#open.values.submit(value);
    }
  }

  /** Lets go of the memory, as far as no buffer of it is left. */
  close(): void {
    this.#open?.lane.close();
  }

  async #submitOnceOpen(value: LaneValue): Promise<void> {
    const { values } = await this.#opened();
    value.signal?.throwIfAborted();
    values.submit(value);
  }

  #opened(): Promise<OpenLane> {
    this.#opening ??= this.#load();
    return this.#opening;
  }

  async #load(): Promise<OpenLane> {
    const [{ ClientLane }, { LaneValues }] = await Promise.all([import('./lane.ts'), import('./lane-values.ts')]);
    const caller = this.#caller();
    const lane = new ClientLane(() => caller.channel());
    const open = { lane, values: new LaneValues(caller, lane) };
    this.#open = open;
    if (this.#channel !== undefined) {
      await lane.attach(this.#channel);
    }
    return open;
  }
}
