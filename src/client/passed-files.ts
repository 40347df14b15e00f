/** Files that the agent itself reads and writes, by descriptors passed on the lane. */
import { DekdError } from '../errors.ts';
import type { RequestFields } from '../protocol/messages.ts';
import { MAX_TIMEOUT_MS } from './arguments.ts';
import type { Caller } from './caller.ts';
import { DocumentCall } from './calls.ts';
import type { PassTarget } from './file-ways.ts';
import type { ClientLane } from './lane.ts';
import { Silence } from './silence.ts';
import { within } from './transport.ts';
import type { CallOptions } from './types.ts';

/**
 * Has the agent read `source`, a descriptor, and write `target`.
 * @param fieldsOf the request, given the handle under which the agent knows the two
 * @returns false when they have to go as a stream
 * @throws what went wrong with the message; DEADLINE_EXCEEDED when nothing was written for the time of the call
 */
export async function passByDescriptors(
  caller: Caller,
  lane: ClientLane,
  source: number,
  target: PassTarget,
  options: CallOptions,
  fieldsOf: (handle: number) => RequestFields,
): Promise<boolean> {
  const { signal } = options;
  signal?.throwIfAborted();
  // The lane has a patience of its own, which may be longer than that of the call.
  const passed = await within(lane.passFiles(source, target.descriptor), caller.deadline(options), signal);
  if (passed === undefined) {
    return false;
  }
  const silence = new Silence(target, caller.timeoutOf(options));
  try {
    await new Promise((resolve, reject) => {
      const stop = signal === undefined ? silence.signal : AbortSignal.any([signal, silence.signal]);
      stop.throwIfAborted();
      const deadline = performance.now() + MAX_TIMEOUT_MS;
      const fields = fieldsOf(passed.handle);
      const { channel } = passed;
      caller.transport.submit(
        new DocumentCall(caller.transport, fields, false, deadline, stop, resolve, reject, channel),
      );
    });
    return true;
  } catch (error) {
    // The agent cannot do it this way, or not now.
    if (DekdError.is(error, 'UNSUPPORTED') || DekdError.is(error, 'RESOURCE_EXHAUSTED')) {
      return false;
    }
    throw error;
  } finally {
    silence.end();
  }
}
