/** One connection to the lane socket: a greeting with descriptors, and its answer. */
import { connect, type Socket } from 'node:net';
import { DekdError } from '../errors.ts';
import { FrameReader } from '../protocol/frame.ts';
import type { LaneReplyFields } from '../protocol/messages.ts';
import { messages } from '../protocol/messages.ts';
import { errorOf } from './replies.ts';

/** How long the agent may take to answer; it has nothing to wait for. */
const ANSWER_TIMEOUT_MS = 5_000;
/** An answer holds a handle, a token and at most an error's text. */
const MAX_ANSWER = 64 * 1024;

/** Connects, says one thing and takes the one answer. @throws DekdError when there is none */
export function converse(path: string, say: (fd: number) => void): Promise<LaneReplyFields> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const fail = (error: unknown): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(DekdError.from(error));
    };
    const lost = (why: string) => fail(new DekdError('AGENT_UNAVAILABLE', `no answer on ${path}: ${why}`));
    const timer = setTimeout(() => lost(`within ${ANSWER_TIMEOUT_MS} ms`), ANSWER_TIMEOUT_MS);
    const reader = new FrameReader(MAX_ANSWER, (frame) => {
      const { lane, error } = messages.Reply.decode(frame);
      if (!lane) {
        throw error ? errorOf(error) : new DekdError('PROTOCOL_ERROR', 'the agent sent what is not a reply');
      }
      clearTimeout(timer);
      socket.end();
      resolve(lane);
    });
    socket.once('connect', () => attempt(() => say(descriptorOf(socket)), fail));
    socket.on('data', (chunk: Buffer) => attempt(() => reader.push(chunk), fail));
    socket.once('error', (error) => lost(error.message));
    socket.once('close', () => lost('the connection was closed'));
  });
}

function attempt(step: () => void, failed: (error: unknown) => void): void {
  try {
    step();
  } catch (error) {
    failed(error);
  }
}

/** Node has no public way to the descriptor of a socket; the handle has been there in every release line. */
function descriptorOf(socket: Socket): number {
  const { _handle: handle } = socket as unknown as { _handle: { fd: number } | null };
  if (handle === null) {
    throw new DekdError('AGENT_UNAVAILABLE', 'the lane connection was closed');
  }
  return handle.fd;
}
