/**
 * The client's side of the bulk lane: buffers in memory that the agent sees too.
 *
 * Everything here may be missing (the addon, the agent's lane, room in it), and then values go over the socket.
 */
import { MIN_TOKEN_LENGTH } from '../envelope/token.ts';
import { DekdError } from '../errors.ts';
import type { Channel } from './channel.ts';
import type { LaneNative } from './lane-native.ts';
import { LaneRanges, rounded } from './lane-ranges.ts';
import type { Capabilities } from './types.ts';

/** What a token has more than its plaintext. */
const TOKEN_OVERHEAD = MIN_TOKEN_LENGTH;
/** Size of a region unless a buffer needs a larger one. */
const REGION_SIZE = 16 * 1024 * 1024;
/** After the lane was refused, it is not asked for again before this. */
const REFUSED_MS = 5_000;

/** Memory shared with every agent that this client connects to. */
interface Region {
  readonly number: number;
  readonly ranges: LaneRanges;
}

/** A place for bytes and, behind them, for the result of a call with them. */
export interface LaneSlot {
  readonly region: number;
  /** Where the bytes begin, and how many fit. */
  readonly offset: number;
  readonly capacity: number;
  /** Where the result begins; it fits whatever is made of `capacity` bytes. */
  readonly resultOffset: number;
  readonly resultRoom: number;
  /** A call with it is under way. */
  isBusy: boolean;
}

export class ClientLane {
  /** The connection, made when there is none. */
  readonly #connected: () => Promise<Channel | undefined>;
  readonly #regions: Region[] = [];
  readonly #slots = new WeakMap<ArrayBufferLike, LaneSlot>();
  /** Gives back what a buffer took, once no view of it is left. */
  readonly #collected = new FinalizationRegistry<LaneSlot>((slot) => this.giveBack(slot));
  #native: LaneNative | undefined;
  #loading: Promise<LaneNative> | undefined;
  #growing: Promise<void> | undefined;
  #reason: string | undefined = 'nothing was sent by it yet: allocate() and large values open it';
  #channel: Channel | undefined;
  /** Before it, by the monotonic clock, no region is asked for. */
  #growAt = 0;

  constructor(connected: () => Promise<Channel | undefined>) {
    this.#connected = connected;
  }

  get capabilities(): Capabilities {
    return this.#reason === undefined ? { lane: true } : { lane: false, reason: this.#reason };
  }

  /** Whether `reserve` may give what `tryReserve` does not. */
  get mayGrow(): boolean {
    return performance.now() >= this.#growAt;
  }

  /** Native calls; only after a slot was had. */
  get native(): LaneNative {
    return this.#native!;
  }

  /** The slot whose bytes `data` is, or a part of; undefined for any other memory, that of results included. */
  slotOf(data: Uint8Array): LaneSlot | undefined {
    const slot = this.#slots.get(data.buffer);
    return slot !== undefined && data.byteOffset + data.length <= slot.capacity ? slot : undefined;
  }

  /** Called with each new connection before anything is sent on it: shares again what is there. Never throws. */
  async attach(channel: Channel): Promise<void> {
    this.#channel = channel;
    this.#growAt = 0;
    if (this.#native === undefined) {
      return;
    }
    for (const { number } of this.#regions) {
      await this.#share(channel, number);
    }
  }

  /** A buffer of `length` bytes with room for its result; undefined where there is no lane, or no room in it. */
  async allocate(length: number): Promise<Uint8Array | undefined> {
    const slot = await this.reserve(length);
    if (slot === undefined) {
      return undefined;
    }
    const total = slot.resultOffset - slot.offset + slot.resultRoom;
    const memory = this.native.buffer(slot.region, slot.offset, total);
    new Uint8Array(memory).fill(0);
    this.#slots.set(memory, slot);
    this.#collected.register(memory, slot);
    return new Uint8Array(memory, 0, length);
  }

  /** A slot for `length` bytes, for one call: `giveBack` ends it. */
  async reserve(length: number): Promise<LaneSlot | undefined> {
    for (;;) {
      const most = this.#channel?.lane?.offer.maxPayload;
      if (most !== undefined && length > most + TOKEN_OVERHEAD) {
        return undefined;
      }
      const slot = this.tryReserve(length);
      if (slot !== undefined) {
        return slot;
      }
      if (this.#growing === undefined) {
        if (performance.now() < this.#growAt) {
          return undefined;
        }
        this.#growing = this.#grow(length).finally(() => {
          this.#growing = undefined;
        });
        try {
          await this.#growing;
        } catch (error) {
          this.#growAt = performance.now() + REFUSED_MS;
          this.#reason = this.#regions.length > 0 ? this.#reason : DekdError.from(error).message;
          return this.tryReserve(length);
        }
      } else {
        await this.#growing.catch(() => {});
      }
    }
  }

  /** The same at once, where there is room already. */
  tryReserve(length: number): LaneSlot | undefined {
    const lane = this.#channel?.lane;
    if (lane === undefined || length > lane.offer.maxPayload + TOKEN_OVERHEAD) {
      return undefined;
    }
    const resultAt = rounded(length);
    const resultRoom = length + TOKEN_OVERHEAD;
    for (const region of this.#regions) {
      const offset = lane.handle(region.number) === undefined ? undefined : region.ranges.take(resultAt + resultRoom);
      if (offset !== undefined) {
        return {
          region: region.number,
          offset,
          capacity: length,
          resultOffset: offset + resultAt,
          resultRoom,
          isBusy: false,
        };
      }
    }
    return undefined;
  }

  /**
   * Passes two files to the agent. @returns their handle, good for one call on that connection; undefined where they go as a
   * stream instead
   */
  async passFiles(
    source: number,
    target: number,
  ): Promise<{ readonly handle: number; readonly channel: Channel } | undefined> {
    try {
      const native = await this.#load();
      const channel = await this.#connected();
      const handle = await channel?.lane?.passFiles((fd, token) => native.shareFiles(fd, token, source, target));
      return channel && handle ? { handle, channel } : undefined;
    } catch {
      // Whatever is wrong with files or agent, the stream says it better, or works.
      return undefined;
    }
  }

  /** Nobody uses the slot any more, the agent included. */
  giveBack({ region, offset, resultOffset, resultRoom }: LaneSlot): void {
    const found = this.#regions.find(({ number }) => number === region);
    found?.ranges.give(offset, resultOffset - offset + resultRoom);
  }

  /** Lets go of the memory, as far as no buffer of it is left. */
  close(): void {
    for (const { number } of this.#regions.splice(0)) {
      this.#native!.drop(number);
    }
  }

  /** Makes one more region and shares it. @throws DekdError why there is none */
  async #grow(length: number): Promise<void> {
    const native = await this.#load();
    const channel = await this.#connected();
    if (channel?.lane === undefined) {
      throw new DekdError('UNSUPPORTED', 'the agent offers no lane');
    }
    if (length > channel.lane.offer.maxPayload + TOKEN_OVERHEAD) {
      return;
    }
    const needed = rounded(length) + rounded(length + TOKEN_OVERHEAD);
    // On a new connection the regions of the last one have just been shared, and there may be room.
    const size = Math.max(needed, Math.min(REGION_SIZE, channel.lane.offer.regionLimit));
    if (size > channel.lane.offer.regionLimit) {
      throw new DekdError(
        'RESOURCE_EXHAUSTED',
        `a region of ${size} bytes is over the ${channel.lane.offer.regionLimit} that the agent takes (lane.budget)`,
      );
    }
    const number = native.create(size);
    try {
      await channel.lane.share(number, (fd, token) => native.share(fd, token, number));
    } catch (error) {
      native.drop(number);
      throw error;
    }
    this.#regions.push({ number, ranges: new LaneRanges(size) });
    this.#reason = undefined;
  }

  async #share(channel: Channel, region: number): Promise<void> {
    try {
      if (channel.lane === undefined) {
        throw new DekdError('UNSUPPORTED', 'the agent offers no lane');
      }
      await channel.lane.share(region, (fd, token) => this.native.share(fd, token, region));
      this.#reason = undefined;
    } catch (error) {
      // What lies in it goes over the socket.
      this.#reason = DekdError.from(error).message;
    }
  }

  async #load(): Promise<LaneNative> {
    this.#loading ??= import('./lane-native.ts').then(({ LaneNative }) => LaneNative.load());
    this.#native = await this.#loading;
    return this.#native;
  }
}
