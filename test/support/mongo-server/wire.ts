/** Frames of MongoDB's wire protocol: OP_MSG, and OP_QUERY for the one greeting that drivers still send so. */
import mongoose from 'mongoose';

const { BSON } = mongoose.mongo;

export type Json = Record<string, unknown>;

const OP_REPLY = 1;
const OP_QUERY = 2004;
const OP_MSG = 2013;
const CHECKSUM = 1;
const MORE_TO_COME = 2;

/** Takes whole frames off a stream of bytes. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0);

  take(bytes: Uint8Array): Buffer[] {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    const frames: Buffer[] = [];
    while (this.#rest.length >= 16 && this.#rest.length >= this.#rest.readInt32LE(0)) {
      const length = this.#rest.readInt32LE(0);
      frames.push(this.#rest.subarray(0, length));
      this.#rest = this.#rest.subarray(length);
    }
    return frames;
  }
}

export interface Request {
  readonly id: number;
  readonly isQuery: boolean;
  readonly isAnswered: boolean;
  readonly command: Json;
}

/** @throws Error for a frame that no driver of today sends */
export function readRequest(frame: Buffer): Request {
  const id = frame.readInt32LE(4);
  const code = frame.readInt32LE(12);
  if (code === OP_QUERY) {
    const body = frame.indexOf(0, 20) + 1 + 8;
    return { id, isQuery: true, isAnswered: true, command: decoded(frame, body) };
  }
  const flags = frame.readUInt32LE(16);
  if (code !== OP_MSG || (flags & ~MORE_TO_COME) !== 0 || (flags & CHECKSUM) !== 0) {
    throw new Error(`operation ${code} with flags ${flags} is not stood in for`);
  }
  const command: Json = {};
  let at = 20;
  while (at < frame.length) {
    const kind = frame[at]!;
    const length = frame.readInt32LE(at + 1);
    const end = at + 1 + length;
    if (kind === 0) {
      Object.assign(command, decoded(frame, at + 1));
    } else {
      const nameEnd = frame.indexOf(0, at + 5);
      const documents: Json[] = [];
      for (let place = nameEnd + 1; place < end; place += frame.readInt32LE(place)) {
        documents.push(decoded(frame, place));
      }
      command[frame.toString('utf8', at + 5, nameEnd)] = documents;
    }
    at = end;
  }
  return { id, isQuery: false, isAnswered: (flags & MORE_TO_COME) === 0, command };
}

export function replyTo({ id, isQuery }: Request, reply: Json): Buffer {
  const body = BSON.serialize(reply);
  const head = Buffer.alloc(isQuery ? 36 : 21);
  head.writeInt32LE(head.length + body.length, 0);
  head.writeInt32LE(id, 8);
  head.writeInt32LE(isQuery ? OP_REPLY : OP_MSG, 12);
  if (isQuery) {
    head.writeInt32LE(1, 32);
  }
  return Buffer.concat([head, body]);
}

function decoded(frame: Buffer, at: number): Json {
  return BSON.deserialize(frame.subarray(at, at + frame.readInt32LE(at)));
}
