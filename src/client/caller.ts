/** Starts the calls of one client, on its transport and within its time. */
import type { RequestFields } from '../protocol/messages.ts';
import { checkTimeout } from './arguments.ts';
import { type AnyCall, DocumentCall } from './calls.ts';
import type { Channel } from './channel.ts';
import type { Transport } from './transport.ts';
import type { CallOptions } from './types.ts';

export const DEFAULT_TIMEOUT_MS = 10_000;

export class Caller {
  readonly transport: Transport<AnyCall>;
  readonly #timeoutMs: number;

  /** @param timeoutMs of calls that do not say; default 10,000. @throws INVALID_ARGUMENT */
  constructor(transport: Transport<AnyCall>, timeoutMs: number = DEFAULT_TIMEOUT_MS) {
    this.transport = transport;
    this.#timeoutMs = checkTimeout(timeoutMs);
  }

  /** Milliseconds that a call may take. @throws INVALID_ARGUMENT */
  timeoutOf({ timeoutMs }: CallOptions): number {
    return timeoutMs === undefined ? this.#timeoutMs : checkTimeout(timeoutMs);
  }

  /** When a call that begins now is over, by the monotonic clock. @throws INVALID_ARGUMENT */
  deadline(options: CallOptions): number {
    return performance.now() + this.timeoutOf(options);
  }

  /** A call that is answered with a JSON document, and may be sent again. */
  document(fields: RequestFields, options: CallOptions): Promise<unknown> {
    return new Promise((resolve, reject) => {
      options.signal?.throwIfAborted();
      const deadline = this.deadline(options);
      this.transport.submit(new DocumentCall(this.transport, fields, true, deadline, options.signal, resolve, reject));
    });
  }

  /** Asks the agent for a sign of life, which also makes the connection. */
  ping(options: CallOptions): Promise<unknown> {
    return this.document({ ping: {} }, options);
  }

  /** The connection, made if there is none. @throws as every call */
  async channel(options: CallOptions = {}): Promise<Channel | undefined> {
    if (this.transport.channel === undefined) {
      await this.ping(options);
    }
    return this.transport.channel;
  }
}
