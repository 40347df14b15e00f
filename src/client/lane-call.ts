/** One value that lies in the lane, or goes over the socket when the agent has not got its region. */
import { joined } from '../bytes.ts';
import { MIN_TOKEN_LENGTH } from '../envelope/token.ts';
import { LANE_RANGE } from '../protocol/frame.ts';
import { OPERATION } from '../protocol/request-reader.ts';
import { type AnyCall, BaseCall, payloadError, remaining } from './calls.ts';
import type { Channel } from './channel.ts';
import type { LaneSlot } from './lane.ts';
import { errorOf, type ReplyReader } from './replies.ts';
import { numberFields, type WireBinding } from './requests.ts';
import type { Transport } from './transport.ts';

/** Fields of `LaneCall`, number and wire type together. */
const LANE_FIELD = { input: 0x2a, result: 0x32, root: 0x3a } as const;

/** What a call is made of. */
export interface LaneWork {
  /** `OPERATION.encrypt` or `OPERATION.decrypt`. */
  readonly operation: number;
  readonly binding: WireBinding;
  /** The bytes, wherever the caller has them: what is sent when there is no lane. */
  readonly data: Uint8Array;
  readonly slot: LaneSlot;
  /** Where the bytes lie in the slot's region. */
  readonly offset: number;
  /** What the caller gets of the result, which lies in the slot. */
  result(length: number): Uint8Array;
  /** The agent will not touch the slot any more. */
  over(): void;
}

export class LaneCall extends BaseCall {
  readonly operation: number;
  readonly binding: WireBinding;
  readonly #transport: Transport<AnyCall>;
  readonly #work: LaneWork;
  readonly #resolve: (value: Uint8Array) => void;
  /** Sent, and not answered: the agent may be at work in the slot. */
  #isOut = false;
  #isOver = false;

  constructor(
    transport: Transport<AnyCall>,
    work: LaneWork,
    deadline: number,
    signal: AbortSignal | undefined,
    resolve: (value: Uint8Array) => void,
    reject: (error: unknown) => void,
  ) {
    super(transport, deadline, signal, reject);
    this.#transport = transport;
    this.#work = work;
    this.operation = work.operation;
    this.binding = work.binding;
    this.#resolve = resolve;
  }

  /** Puts the call on a channel. @throws INVALID_ARGUMENT when it does not fit */
  leave(channel: Channel): void {
    const { operation, binding, data, slot, offset } = this.#work;
    const lane = channel.lane;
    const handle = lane?.handle(slot.region);
    const encrypts = operation === OPERATION.encrypt;
    channel.checkChoice(binding.root !== undefined);
    const plaintextLength = encrypts ? data.length : data.length - MIN_TOKEN_LENGTH;
    if (lane === undefined || handle === undefined || plaintextLength > lane.offer.maxPayload) {
      const error = payloadError(channel, encrypts, data);
      if (error !== undefined) {
        throw error;
      }
      this.id = channel.expect(this);
      this.#isOut = true;
      channel.pushWithPayload(
        channel.writer.valueHead(operation, this.id, remaining(this), binding, data.length),
        data,
      );
      return;
    }
    this.id = channel.expect(this);
    this.#isOut = true;
    const { root, ...rest } = binding;
    const fields = laneFields(handle, offset, data.length, slot, root);
    const laneOperation = encrypts ? OPERATION.laneEncrypt : OPERATION.laneDecrypt;
    channel.push(channel.writer.head(laneOperation, this.id, remaining(this), rest, fields, 0));
  }

  reply(reply: ReplyReader): void {
    this.#isOut = false;
    let value: Uint8Array | undefined;
    if (!this.isDone && reply.isLaneResult) {
      value = this.#work.result(reply.laneLength(this.#work.slot.resultRoom));
    } else if (reply.isValue) {
      value = reply.value();
    }
    this.id = 0;
    if (value !== undefined) {
      if (this.settle()) {
        this.#resolve(value);
      }
    } else if (!this.isDone) {
      this.refused(errorOf(reply.decode().error ?? {}));
    }
    this.#finish();
  }

  override lost(error: Parameters<BaseCall['lost']>[0]): void {
    this.#isOut = false;
    super.lost(error);
    this.#finish();
  }

  /** The slot is not free before the agent has answered: it may be writing there. */
  override reject(error: unknown): void {
    if (this.#isOut && !this.isDone) {
      this.#transport.cancelKeeping(this.id);
      // Else the transport would forget it.
      this.id = 0;
    }
    super.reject(error);
    this.#finish();
  }

  #finish(): void {
    if (this.isDone && !this.#isOut && !this.#isOver) {
      this.#isOver = true;
      this.#work.over();
    }
  }
}

/** Where the bytes lie, and where the result goes; the root that was chosen has another number here than in other requests. */
function laneFields(
  handle: number,
  offset: number,
  length: number,
  { resultOffset, resultRoom }: LaneSlot,
  root: string | undefined,
): Uint8Array {
  const name = root === undefined ? undefined : Buffer.from(root);
  return joined([
    ...(name === undefined ? [] : [numberFields([[LANE_FIELD.root, name.length]]), name]),
    ...rangeField(LANE_FIELD.input, handle, offset, length),
    ...rangeField(LANE_FIELD.result, handle, resultOffset, resultRoom),
  ]);
}

function rangeField(tag: number, handle: number, offset: number, length: number): Uint8Array[] {
  const range = numberFields([
    [LANE_RANGE.handle, handle],
    [LANE_RANGE.offset, offset],
    [LANE_RANGE.length, length],
  ]);
  return [numberFields([[tag, range.length]]), range];
}
