/** Values that go through the lane: those in buffers of `allocate`, and large ones, which are copied there and back. */
import { MIN_TOKEN_LENGTH } from '../envelope/token.ts';
import { DekdError } from '../errors.ts';
import type { Caller } from './caller.ts';
import { ValueCall } from './calls.ts';
import type { ClientLane, LaneSlot } from './lane.ts';
import { LaneCall, type LaneWork } from './lane-call.ts';
import { WORTH_COPYING } from './lane-door.ts';
import type { WireBinding } from './requests.ts';
import { within } from './transport.ts';
import type { CallOptions } from './types.ts';

/** A value, what is to be done with it, and who waits for what comes of it. */
export interface LaneValue {
  /** `OPERATION.encrypt` or `OPERATION.decrypt`. */
  readonly operation: number;
  readonly binding: WireBinding;
  readonly data: Uint8Array;
  /** By the monotonic clock. */
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (value: Uint8Array) => void;
  readonly reject: (error: unknown) => void;
}

export class LaneValues {
  readonly #caller: Caller;
  readonly #lane: ClientLane;

  constructor(caller: Caller, lane: ClientLane) {
    this.#caller = caller;
    this.#lane = lane;
  }

  /** A buffer of zeros in the lane; an ordinary one where there is no lane, or no room. @throws INVALID_ARGUMENT; as every call */
  async allocate(length: number, options: CallOptions): Promise<Uint8Array> {
    const deadline = this.#caller.deadline(options);
    const offer = (await this.#caller.channel(options))?.lane?.offer;
    if (offer !== undefined && length > offer.maxPayload + MIN_TOKEN_LENGTH) {
      throw new DekdError(
        'INVALID_ARGUMENT',
        `buffer of ${length} bytes is over the agent's lane.maxPayload of ${offer.maxPayload} (limits.maxPayload, which is ` +
          `for what is sent, is ${this.#caller.transport.maxPayload}): ` +
          'make a message of it (encryptLarge, encryptStream, encryptFile) or split it',
      );
    }
    // Also where none is offered: then the lane knows why, and capabilities tell it.
    return (await within(this.#lane.allocate(length), deadline, options.signal)) ?? new Uint8Array(length);
  }

  /** Whether the lane is the way of these bytes, as far as can be said at once. */
  wants(data: Uint8Array): boolean {
    return data.length >= WORTH_COPYING || this.#lane.slotOf(data) !== undefined;
  }

  /** Starts the call: over the socket after all where there is no room. @throws INVALID_ARGUMENT when the buffer is in use */
  submit(value: LaneValue): void {
    const lane = this.#lane;
    const own = lane.slotOf(value.data);
    if (own !== undefined) {
      this.#fromBuffer(value, own);
      return;
    }
    const slot = lane.tryReserve(value.data.length);
    if (slot !== undefined) {
      this.#byCopy(value, slot);
    } else if (lane.mayGrow) {
      this.#withRoom(value).catch(value.reject);
    } else {
      this.#overSocket(value);
    }
  }

  async #withRoom(value: LaneValue): Promise<void> {
    const { transport } = this.#caller;
    const { data, deadline, signal } = value;
    const lane = this.#lane;
    const release = transport.hold();
    try {
      // In the time of this call, and with the errors of a call: the lane connects in its own.
      await this.#caller.channel({ signal, timeoutMs: Math.max(1, deadline - performance.now()) });
      const late = (slot: LaneSlot | undefined) => slot && lane.giveBack(slot);
      const slot = await within(lane.reserve(data.length), deadline, signal, late);
      if (slot === undefined) {
        this.#overSocket(value, true);
      } else {
        this.#byCopy(value, slot, true);
      }
    } finally {
      release();
    }
  }

  #fromBuffer(value: LaneValue, slot: LaneSlot): void {
    const { operation, binding, data } = value;
    if (slot.isBusy) {
      throw new DekdError('INVALID_ARGUMENT', 'the buffer is in use by a call that has not ended: one call at a time');
    }
    slot.isBusy = true;
    const work: LaneWork = {
      operation,
      binding,
      data,
      slot,
      offset: slot.offset + data.byteOffset,
      result: (length) => new Uint8Array(data.buffer, slot.resultOffset - slot.offset, length),
      over: () => {
        slot.isBusy = false;
      },
    };
    this.#submit(value, work, false);
  }

  #byCopy(value: LaneValue, slot: LaneSlot, isStep = false): void {
    const lane = this.#lane;
    const { operation, binding, data } = value;
    lane.native.copyIn(slot.region, slot.offset, data);
    const work: LaneWork = {
      operation,
      binding,
      data,
      slot,
      offset: slot.offset,
      result: (length) => {
        const result = Buffer.allocUnsafeSlow(length);
        lane.native.copyOut(slot.region, slot.resultOffset, result);
        return new Uint8Array(result.buffer, result.byteOffset, length);
      },
      over: () => lane.giveBack(slot),
    };
    this.#submit(value, work, isStep);
  }

  #submit({ deadline, signal, resolve, reject }: LaneValue, work: LaneWork, isStep: boolean): void {
    const { transport } = this.#caller;
    const call = new LaneCall(transport, work, deadline, signal, resolve, reject);
    call.isStep = isStep;
    transport.submit(call);
  }

  #overSocket({ operation, binding, data, deadline, signal, resolve, reject }: LaneValue, isStep = false): void {
    const { transport } = this.#caller;
    const call = new ValueCall(transport, operation, binding, data, deadline, signal, resolve, reject);
    call.isStep = isStep;
    transport.submit(call);
  }
}
