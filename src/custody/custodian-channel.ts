import type { Duplex } from 'node:stream';
import { FRAME_PREFIX, FrameReader } from '../protocol/frame.ts';
import { MAX_MESSAGE } from './custodian-messages.ts';
import { Garbage } from './untrusted.ts';

/** Bytes before the JSON: its length. */
const HEAD_PREFIX = 4;
const NO_BYTES = new Uint8Array(0);

export interface ChannelListener {
  /**
   * A whole message. `body` is the listener's own. What it throws is passed to `garbage`.
   * @param head parsed JSON of any shape
   * @param size bytes of the whole message
   */
  message(head: unknown, body: Uint8Array, size: number): void;
  /** What arrived is no message, or not what the listener takes; nothing is read after it. */
  garbage(error: unknown): void;
  /** The other side is gone. */
  closed(): void;
}

/**
 * Messages over a socket pair: u32 big-endian length, u32 big-endian length of the JSON, JSON, bytes.
 *
 * Not the IPC channel that Node offers: that one takes a message of any length and builds any object that it is told to,
 * and what a custodian says is not trusted that far. Here the limit is checked before anything is kept.
 */
export class CustodianChannel {
  readonly #socket: Duplex;
  #dead = false;

  constructor(socket: Duplex, listener: ChannelListener) {
    this.#socket = socket;
    const reader = new FrameReader(MAX_MESSAGE, (frame) => {
      try {
        if (!this.#dead) {
          const { head, body } = parsed(frame);
          listener.message(head, body, frame.length);
        }
      } finally {
        // In direct mode it is plaintext.
        frame.fill(0);
      }
    });
    socket.on('data', (chunk: Buffer) => {
      if (this.#dead) {
        return;
      }
      try {
        reader.push(chunk);
      } catch (error) {
        this.#dead = true;
        listener.garbage(error);
      }
    });
    socket.on('error', () => {});
    socket.once('close', () => listener.closed());
  }

  /** Sends a message, in order; `body` may be reused at once. @throws Garbage over MAX_MESSAGE, and then nothing is sent */
  send(head: object, body: Uint8Array = NO_BYTES): void {
    const json = Buffer.from(JSON.stringify(head));
    const length = HEAD_PREFIX + json.length + body.length;
    if (length > MAX_MESSAGE) {
      throw new Garbage(`a message of ${length} bytes is over the limit of ${MAX_MESSAGE}`);
    }
    const frame = Buffer.allocUnsafeSlow(FRAME_PREFIX + length);
    frame.writeUInt32BE(length, 0);
    frame.writeUInt32BE(json.length, FRAME_PREFIX);
    json.copy(frame, FRAME_PREFIX + HEAD_PREFIX);
    frame.set(body, FRAME_PREFIX + HEAD_PREFIX + json.length);
    this.#socket.write(frame, () => frame.fill(0));
  }

  /** Nothing is listened to any more. */
  close(): void {
    this.#dead = true;
    this.#socket.destroy();
  }
}

function parsed(frame: Buffer): { head: unknown; body: Uint8Array } {
  const headLength = frame.length < HEAD_PREFIX ? -1 : frame.readUInt32BE(0);
  const bodyAt = HEAD_PREFIX + headLength;
  if (headLength < 0 || bodyAt > frame.length) {
    throw new Garbage('a message shorter than it says');
  }
  try {
    const head: unknown = JSON.parse(frame.toString('utf8', HEAD_PREFIX, bodyAt));
    return { head, body: new Uint8Array(frame.subarray(bodyAt)) };
  } catch {
    throw new Garbage('a message that is no JSON');
  }
}
