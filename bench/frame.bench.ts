/** The frame codec: cutting a stream into frames, and the requests and replies in them. */
import { randomBytes } from 'node:crypto';
import { ReplyReader } from '../src/client/replies.ts';
import { RequestWriter } from '../src/client/requests.ts';
import { FRAME_PREFIX, FrameReader } from '../src/protocol/frame.ts';
import { messages } from '../src/protocol/messages.ts';
import { ReplyWriter } from '../src/protocol/reply-writer.ts';
import { OPERATION, RequestReader } from '../src/protocol/request-reader.ts';
import { type Group, repeat, SIZES, type Size } from './support/group.ts';
import { CONTEXT_BYTES } from './support/in-process.ts';

/** What one read of a Unix socket brings. */
const CHUNK = 64 * 1024;
const LIMIT = 2 * 1024 * 1024;
const BINDING = { key: 'customers', partition: '', context: CONTEXT_BYTES, anyKey: false };
const TIMEOUT_MS = 10_000;

function prefixed(body: Uint8Array): Buffer {
  const frame = Buffer.alloc(FRAME_PREFIX + body.length);
  frame.writeUInt32BE(body.length);
  frame.set(body, FRAME_PREFIX);
  return frame;
}

/** Reads frames as one does at first: append what came, look whether it is enough. */
class Concatenation {
  #bytes = Buffer.alloc(0);
  readonly #sink: (frame: Buffer) => void;

  constructor(sink: (frame: Buffer) => void) {
    this.#sink = sink;
  }

  push(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    while (this.#bytes.length >= FRAME_PREFIX) {
      const end = FRAME_PREFIX + this.#bytes.readUInt32BE();
      if (this.#bytes.length < end) {
        return;
      }
      this.#sink(this.#bytes.subarray(FRAME_PREFIX, end));
      this.#bytes = this.#bytes.subarray(end);
    }
  }
}

function reading(size: Size): Group {
  return {
    name: `read frames ${size.name}`,
    baseline: `read/concatenation/${size.name}`,
    open() {
      const frame = prefixed(randomBytes(size.bytes));
      const chunks: Buffer[] = [];
      for (let at = 0; at < frame.length; at += CHUNK) {
        chunks.push(frame.subarray(at, at + CHUNK));
      }
      let frames = 0;
      let pushed = 0;
      const sink = (body: Buffer): void => {
        if (body.length !== size.bytes) {
          throw new Error('a frame was cut wrongly');
        }
        frames += 1;
      };
      const subject = (name: string, reader: { push(chunk: Buffer): void }) => ({
        name: `read/${name}/${size.name}`,
        bytes: size.bytes,
        work: repeat(() => {
          for (const chunk of chunks) {
            reader.push(chunk);
          }
          pushed += 1;
        }),
      });
      return {
        subjects: [
          subject('frame-reader', new FrameReader(LIMIT, sink)),
          subject('concatenation', new Concatenation(sink)),
        ],
        close() {
          if (frames !== pushed) {
            throw new Error(`${frames} frames came out of ${pushed}`);
          }
        },
      };
    },
  };
}

function requests(size: Size): Group {
  return {
    name: `request ${size.name}`,
    baseline: `encode-request/protobufjs/${size.name}`,
    open() {
      const data = randomBytes(size.bytes);
      const writer = new RequestWriter();
      const reader = new RequestReader();
      const fields = {
        id: 7,
        timeoutMs: TIMEOUT_MS,
        encrypt: { key: BINDING.key, context: CONTEXT_BYTES, data },
      };
      const body = writer.value(OPERATION.encrypt, 7, TIMEOUT_MS, BINDING, data).subarray(FRAME_PREFIX);
      if (
        !messages.Request.encode(fields)
          .finish()
          .every((byte, i) => byte === body[i])
      ) {
        throw new Error('the two encoders do not agree');
      }
      const bytes = size.bytes;
      return {
        subjects: [
          {
            name: `encode-request/dekd/${size.name}`,
            bytes,
            work: repeat(() => void writer.value(OPERATION.encrypt, 7, TIMEOUT_MS, BINDING, data)),
          },
          {
            name: `encode-request/protobufjs/${size.name}`,
            bytes,
            work: repeat(() => void prefixed(messages.Request.encode(fields).finish())),
          },
          {
            name: `decode-request/dekd/${size.name}`,
            bytes,
            work: repeat(() => {
              reader.read(body);
              reader.readBinding();
            }),
          },
          {
            name: `decode-request/protobufjs/${size.name}`,
            bytes,
            work: repeat(() => void messages.Request.decode(body)),
          },
        ],
      };
    },
  };
}

function replies(size: Size): Group {
  return {
    name: `reply ${size.name}`,
    baseline: `encode-reply/protobufjs/${size.name}`,
    open() {
      const value = randomBytes(size.bytes);
      const writer = new ReplyWriter();
      const reader = new ReplyReader();
      const sink = {
        write(_bytes: Buffer, done: () => void): boolean {
          done();
          return true;
        },
      };
      const body = Buffer.from(messages.Reply.encode({ id: 7, value }).finish());
      reader.read(body);
      if (Buffer.compare(reader.value(), value) !== 0) {
        throw new Error('the value read is not the one written');
      }
      const bytes = size.bytes;
      return {
        subjects: [
          {
            name: `encode-reply/dekd/${size.name}`,
            bytes,
            work: repeat(() => {
              const at = writer.reserveValue(7, value.length);
              writer.buffer.set(value, at);
              writer.flush(sink);
            }),
          },
          {
            name: `encode-reply/protobufjs/${size.name}`,
            bytes,
            work: repeat(() => void prefixed(messages.Reply.encode({ id: 7, value }).finish())),
          },
          {
            name: `decode-reply/dekd/${size.name}`,
            bytes,
            work: repeat(() => {
              reader.read(body);
              reader.value();
            }),
          },
          {
            name: `decode-reply/protobufjs/${size.name}`,
            bytes,
            work: repeat(() => void messages.Reply.decode(body)),
          },
        ],
      };
    },
  };
}

const pick = (...names: string[]) => SIZES.filter(({ name }) => names.includes(name));

export const groups: readonly Group[] = [
  ...pick('64B', '64KiB', '1MiB').map(reading),
  ...pick('64B', '16KiB').map(requests),
  ...pick('64B', '16KiB').map(replies),
];
