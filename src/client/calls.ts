/** The kinds of call a client makes, and how each becomes frames and takes its answer. */
import { MIN_TOKEN_LENGTH } from '../envelope/token.ts';
import { DekdError } from '../errors.ts';
import { ITEM_ALLOWANCE } from '../protocol/frame.ts';
import type { RequestFields } from '../protocol/messages.ts';
import { OPERATION } from '../protocol/request-reader.ts';
import type { Channel, Exchange } from './channel.ts';
import type { LaneCall } from './lane-call.ts';
import type { Linkable } from './outstanding.ts';
import { errorOf, type ReplyReader } from './replies.ts';
import type { WireBinding, WireItem } from './requests.ts';
import type { StreamCall } from './stream-call.ts';
import type { CallTrace } from './tracing.ts';
import type { Call, Sender, Transport } from './transport.ts';
import type { ManyResult } from './types.ts';

/** Payloads from here on are sent as they lie in memory; below, one copy is cheaper than a second write. */
export const COPY_LIMIT = 16 * 1024;
/** Calls of one tick share a frame up to this many and this much, so that the first does not wait for the last. */
const SHARED_CALLS = 512;
const SHARED_BYTES = 128 * 1024;
/** What `limits.maxPayload` of any agent may be at most. */
const MOST_PAYLOAD = 16 * 1024 * 1024;
/** Longer names than this no agent takes. */
const SHARED_NAME_LENGTH = 128;
/** Batches leave in frames of about this weight: large enough to cost one frame, small enough to overlap. */
const PART_WEIGHT = 256 * 1024;

const MANY_OF: Readonly<Record<number, number>> = {
  [OPERATION.encrypt]: OPERATION.encryptMany,
  [OPERATION.decrypt]: OPERATION.decryptMany,
  [OPERATION.reencrypt]: OPERATION.reencryptMany,
  [OPERATION.hmac]: OPERATION.hmacMany,
  [OPERATION.verifyHmac]: OPERATION.verifyHmacMany,
};
/** Operations that give a MAC, or what is computed like one. */
const HASHES: ReadonlySet<number> = new Set([
  OPERATION.hmac,
  OPERATION.hmacMany,
  OPERATION.verifyHmac,
  OPERATION.verifyHmacMany,
  OPERATION.blindIndex,
]);
/** Operations whose data is a token: it is longer than what counts towards the limit. */
const TAKES_TOKENS: ReadonlySet<number> = new Set([
  OPERATION.decrypt,
  OPERATION.decryptMany,
  OPERATION.reencrypt,
  OPERATION.reencryptMany,
]);

export type AnyCall = ValueCall | PartCall | DocumentCall | StreamCall | LaneCall;

/** A call that settles once: by an answer, its deadline or its signal. */
export abstract class BaseCall implements Call {
  readonly deadline: number;
  readonly isIdempotent: boolean = true;
  sharing = 0;
  trace: CallTrace | undefined = undefined;
  isStep = false;
  isDone = false;
  id = 0;
  isListed = false;
  previous: Linkable | undefined = undefined;
  next: Linkable | undefined = undefined;
  readonly #transport: Transport<AnyCall>;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort: (() => void) | undefined;
  readonly #reject: (error: unknown) => void;

  constructor(
    transport: Transport<AnyCall>,
    deadline: number,
    signal: AbortSignal | undefined,
    reject: (error: unknown) => void,
  ) {
    this.#transport = transport;
    this.deadline = deadline;
    this.#reject = reject;
    this.#signal = signal;
    if (signal !== undefined) {
      this.#onAbort = () => {
        this.reject(signal.reason);
      };
      signal.addEventListener('abort', this.#onAbort, { once: true });
    }
  }

  abstract reply(reply: ReplyReader): void;

  lost(error: DekdError): void {
    // Its id means nothing on another connection.
    this.id = 0;
    this.#transport.resubmit(this as unknown as AnyCall, error);
  }

  reject(error: unknown): void {
    if (this.settle(error)) {
      if (this.id !== 0) {
        this.#transport.cancel(this.id);
      }
      this.#reject(error);
    }
  }

  /** The agent answered with an error; what it refuses only because it is stopping is sent to its successor. */
  protected refused(error: DekdError): void {
    this.id = 0;
    if (error.code === 'SHUTTING_DOWN') {
      this.lost(error);
    } else if (this.settle(error)) {
      this.#reject(error);
    }
  }

  /** Marks the call as settled; false when it already was. @param failure what it rejects with */
  protected settle(failure?: unknown): boolean {
    if (this.isDone) {
      return false;
    }
    this.isDone = true;
    if (this.#onAbort !== undefined) {
      this.#signal?.removeEventListener('abort', this.#onAbort);
    }
    this.#transport.settled(this as unknown as AnyCall, failure);
    return true;
  }
}

/** One value. */
export class ValueCall extends BaseCall {
  readonly operation: number;
  readonly binding: WireBinding;
  readonly data: Uint8Array;
  readonly #resolve: (value: Uint8Array) => void;

  constructor(
    transport: Transport<AnyCall>,
    operation: number,
    binding: WireBinding,
    data: Uint8Array,
    deadline: number,
    signal: AbortSignal | undefined,
    resolve: (value: Uint8Array) => void,
    reject: (error: unknown) => void,
  ) {
    super(transport, deadline, signal, reject);
    this.operation = operation;
    this.binding = binding;
    this.data = data;
    this.sharing = isShareable(data, binding) ? operation : 0;
    this.#resolve = resolve;
  }

  reply(reply: ReplyReader): void {
    if (reply.isValue) {
      this.done(reply.value());
    } else {
      this.refused(errorOf(reply.decode().error ?? {}));
    }
  }

  done(value: Uint8Array): void {
    if (this.settle()) {
      this.#resolve(value);
    }
  }

  fail(error: DekdError): void {
    this.refused(error);
  }
}

/** Whether a value may share a frame: what one call says too much must not be the ruin of the others. */
function isShareable(data: Uint8Array, { key, partition, root, context, anyKey }: WireBinding): boolean {
  return (
    !anyKey &&
    data.length + context.length <= COPY_LIMIT &&
    key.length <= SHARED_NAME_LENGTH &&
    partition.length <= SHARED_NAME_LENGTH &&
    (root === undefined || root.length <= SHARED_NAME_LENGTH)
  );
}

/** Values of one tick in one frame. */
class SharedExchange implements Exchange {
  readonly #calls: readonly ValueCall[];

  constructor(calls: readonly ValueCall[]) {
    this.#calls = calls;
  }

  reply(reply: ReplyReader): void {
    if (!reply.isMany) {
      const error = errorOf(reply.decode().error ?? {});
      for (const call of this.#calls) {
        call.fail(error);
      }
      return;
    }
    const results = reply.many(this.#calls.length);
    for (let i = 0; i < results.length; i++) {
      const result = results[i]!;
      if (result.ok) {
        this.#calls[i]!.done(result.value);
      } else {
        this.#calls[i]!.fail(result.error);
      }
    }
  }

  lost(error: DekdError): void {
    for (const call of this.#calls) {
      call.lost(error);
    }
  }
}

/** Some items of a batch. */
export class PartCall extends BaseCall {
  override isStep = true;
  readonly operation: number;
  readonly binding: WireBinding;
  readonly items: readonly WireItem[];
  readonly from: number;
  readonly to: number;
  readonly #resolve: (results: ManyResult[]) => void;

  constructor(
    transport: Transport<AnyCall>,
    operation: number,
    binding: WireBinding,
    items: readonly WireItem[],
    from: number,
    to: number,
    deadline: number,
    signal: AbortSignal | undefined,
    resolve: (results: ManyResult[]) => void,
    reject: (error: unknown) => void,
  ) {
    super(transport, deadline, signal, reject);
    this.operation = operation;
    this.binding = binding;
    this.items = items;
    this.from = from;
    this.to = to;
    this.#resolve = resolve;
  }

  reply(reply: ReplyReader): void {
    if (!reply.isMany) {
      this.refused(errorOf(reply.decode().error ?? {}));
      return;
    }
    this.resolve(reply.many(this.to - this.from));
  }

  resolve(results: ManyResult[]): void {
    if (this.settle()) {
      this.#resolve(results);
    }
  }
}

/** Anything answered with a JSON document. */
export class DocumentCall extends BaseCall {
  readonly fields: RequestFields;
  override readonly isIdempotent: boolean;
  /** The only connection on which what it names means something; undefined for any. */
  readonly channel: Channel | undefined;
  readonly #resolve: (document: unknown) => void;

  constructor(
    transport: Transport<AnyCall>,
    fields: RequestFields,
    isIdempotent: boolean,
    deadline: number,
    signal: AbortSignal | undefined,
    resolve: (document: unknown) => void,
    reject: (error: unknown) => void,
    channel?: Channel,
  ) {
    super(transport, deadline, signal, reject);
    this.fields = fields;
    this.channel = channel;
    this.isIdempotent = isIdempotent;
    this.#resolve = resolve;
  }

  reply(reply: ReplyReader): void {
    const { error, document } = reply.decode();
    if (document === undefined || document === null) {
      this.refused(errorOf(error ?? {}));
      return;
    }
    const parsed: unknown = JSON.parse(new TextDecoder().decode(document));
    if (this.settle()) {
      this.#resolve(parsed);
    }
  }
}

/** What one item counts towards the payload limit. */
function itemWeight(takesToken: boolean, item: WireItem): number {
  const plaintext = takesToken ? item.data.length - MIN_TOKEN_LENGTH : item.data.length;
  return Math.max(0, plaintext) + ITEM_ALLOWANCE + (item.context?.length ?? 0);
}

/** Cuts a batch into runs of items that fit into one frame each; an item over the limit gets a run of its own. */
export function partition(operation: number, items: readonly WireItem[], maxPayload: number): number[] {
  const limit = Math.min(PART_WEIGHT, maxPayload);
  const ends: number[] = [];
  // Asked once: a look-up for each of a thousand items is seen in what a batch takes.
  const takesTokens = TAKES_TOKENS.has(operation);
  let weight = 0;
  for (let i = 0; i < items.length; i++) {
    const own = itemWeight(takesTokens, items[i]!);
    if (weight > 0 && weight + own > limit) {
      ends.push(i);
      weight = 0;
    }
    weight += own;
  }
  if (items.length > 0) {
    ends.push(items.length);
  }
  return ends;
}

export const sender: Sender<AnyCall> = {
  send(channel, calls) {
    const [first] = calls;
    if (first instanceof ValueCall) {
      sendValues(channel, calls as ValueCall[]);
    } else if (first instanceof PartCall) {
      const { operation, binding, items, from, to } = first;
      channel.checkChoice(binding.root !== undefined || (!channel.limits.choosesRoots && anyChooses(items, from, to)));
      if (to - from === 1) {
        const error = payloadError(channel, !TAKES_TOKENS.has(operation), items[from]!.data, HASHES.has(operation));
        if (error !== undefined) {
          first.resolve([{ ok: false, error }]);
          return;
        }
      }
      first.id = channel.expect(first);
      channel.push(channel.writer.many(operation, first.id, remaining(first), binding, items, from, to));
    } else if (first instanceof DocumentCall) {
      if (first.channel !== undefined && first.channel !== channel) {
        throw new DekdError('AGENT_UNAVAILABLE', 'the connection was lost on which the files were passed');
      }
      channel.checkChoice(Boolean(first.fields.fileEncrypt?.root));
      first.id = channel.expect(first);
      channel.push(channel.writer.message({ id: first.id, timeoutMs: remaining(first), ...first.fields }));
    } else {
      first?.leave(channel);
    }
  },
};

export function anyChooses(items: readonly WireItem[], from: number, to: number): boolean {
  for (let i = from; i < to; i++) {
    if (items[i]!.root !== undefined) {
      return true;
    }
  }
  return false;
}

function sendValues(channel: Channel, calls: readonly ValueCall[]): void {
  if (!channel.limits.choosesRoots && calls.some(({ binding }) => binding.root !== undefined)) {
    refuseChoices(channel, calls);
    return;
  }
  if (calls.length === 1) {
    sendValue(channel, calls[0]!);
    return;
  }
  const limit = Math.min(SHARED_BYTES, channel.limits.maxPayload);
  let from = 0;
  while (from < calls.length) {
    let bytes = 0;
    let to = from;
    while (to < calls.length && to - from < SHARED_CALLS) {
      bytes += sharedWeight(calls[to]!);
      if (bytes > limit && to > from) {
        break;
      }
      to++;
    }
    try {
      if (to - from === 1) {
        sendValue(channel, calls[from]!);
      } else {
        sendShared(channel, calls.slice(from, to));
      }
    } catch (error) {
      // What is wrong with these is not wrong with the others.
      for (const call of calls.slice(from, to)) {
        call.reject(error);
      }
    }
    from = to;
  }
}

/** Refuses those that choose a root, and sends the others. */
function refuseChoices(channel: Channel, calls: readonly ValueCall[]): void {
  const rest: ValueCall[] = [];
  for (const call of calls) {
    try {
      channel.checkChoice(call.binding.root !== undefined);
      rest.push(call);
    } catch (error) {
      call.reject(error);
    }
  }
  if (rest.length > 0) {
    sendValues(channel, rest);
  }
}

function sendValue(channel: Channel, call: ValueCall): void {
  const { operation, binding, data } = call;
  const error = payloadError(channel, !TAKES_TOKENS.has(operation), data, HASHES.has(operation));
  if (error !== undefined) {
    throw error;
  }
  call.id = channel.expect(call);
  if (data.length <= COPY_LIMIT) {
    channel.push(channel.writer.value(operation, call.id, remaining(call), binding, data));
  } else {
    const head = channel.writer.valueHead(operation, call.id, remaining(call), binding, data.length);
    channel.pushWithPayload(head, data);
  }
}

/** About what a call adds to a shared frame, in bytes; a name of absurd length makes it travel alone, and fail alone. */
function sharedWeight({ data, binding }: ValueCall): number {
  const { key, partition, root, context } = binding;
  return data.length + context.length + key.length + partition.length + (root?.length ?? 0) + ITEM_ALLOWANCE;
}

function sendShared(channel: Channel, calls: readonly ValueCall[]): void {
  const id = channel.expect(new SharedExchange(calls));
  const operation = MANY_OF[calls[0]!.operation]!;
  channel.push(channel.writer.shared(operation, id, longest(calls), calls));
}

/**
 * The agent would refuse it too, but only after it had to be sent.
 * @param encrypts whether all of `data` counts. @param hashes whether there is no other way for a larger value
 */
export function payloadError(
  channel: Pick<Channel, 'limits' | 'lane'>,
  encrypts: boolean,
  data: Uint8Array,
  hashes = false,
): DekdError | undefined {
  const { maxPayload } = channel.limits;
  const length = encrypts ? data.length : data.length - MIN_TOKEN_LENGTH;
  if (length <= maxPayload) {
    return undefined;
  }
  if (hashes) {
    return new DekdError(
      'INVALID_ARGUMENT',
      `value of ${length} bytes is over the agent's maxPayload of ${maxPayload}: raise limits.maxPayload (to 16 MiB), or ` +
        'give a SHA-256 of the value instead',
    );
  }
  const lane = channel.lane?.offer.maxPayload;
  const beside =
    lane === undefined
      ? ''
      : length > lane
        ? ` and over the lane.maxPayload of ${lane}`
        : `, and the lane, which takes lane.maxPayload of ${lane}, could not be used`;
  const raise = length <= MOST_PAYLOAD ? 'raise limits.maxPayload (to 16 MiB), ' : '';
  return new DekdError(
    'INVALID_ARGUMENT',
    `value of ${length} bytes is over the agent's maxPayload of ${maxPayload}${beside}: ${raise}make a message of it ` +
      '(encryptLarge, encryptStream, encryptFile) or split it',
  );
}

/** The agent must not give up what the last of them still waits for. */
function longest(calls: readonly Call[]): number {
  let deadline = 0;
  for (const call of calls) {
    deadline = Math.max(deadline, call.deadline);
  }
  return Math.max(1, Math.ceil(deadline - performance.now()));
}

/** Whole milliseconds left, at least one: zero would mean "did not say". */
export function remaining(call: Call): number {
  return Math.max(1, Math.ceil(call.deadline - performance.now()));
}
