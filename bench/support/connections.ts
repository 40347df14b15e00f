/** Bare connections that have greeted and do nothing else. */
import { connect, type Socket } from 'node:net';
import { FRAME_PREFIX, FrameReader } from '../../src/protocol/frame.ts';
import { messages } from '../../src/protocol/messages.ts';

const REPLY_LIMIT = 64 * 1024;

function helloFrame(): Buffer {
  const body = messages.Request.encode({ id: 1, hello: { minVersion: 1, maxVersion: 1, client: 'bench' } }).finish();
  const frame = Buffer.alloc(FRAME_PREFIX + body.length);
  frame.writeUInt32BE(body.length);
  frame.set(body, FRAME_PREFIX);
  return frame;
}

/** Connects and greets. @returns the socket once the agent has greeted back, undefined when it was refused */
export function greeted(path: string): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const reader = new FrameReader(REPLY_LIMIT, (frame) => {
      resolve(messages.Reply.decode(frame).hello ? socket : undefined);
    });
    socket.once('connect', () => socket.write(helloFrame()));
    socket.on('data', (chunk: Buffer) => reader.push(chunk));
    socket.once('error', () => resolve(undefined));
    socket.once('close', () => resolve(undefined));
  });
}
