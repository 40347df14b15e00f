/** A client made of hand-written frames: it can be wrong in every way a real one must not. */
import { connect, type Socket } from 'node:net';
import { FrameReader } from '../../src/protocol/frame.ts';
import { messages, type RequestFields } from '../../src/protocol/messages.ts';

const MAX_REPLY = 64 * 1024 * 1024;
const PATIENCE_MS = 10_000;

/** A failure as it travels. */
export interface RawError {
  readonly code: number;
  readonly message: string;
  readonly incident: string;
  readonly retryable: boolean;
  readonly retryAfterMs: number;
}

/** A reply with every field of what it holds filled in, as the decoder does. */
export interface RawReply {
  readonly id: number;
  readonly error?: RawError;
  readonly hello?: {
    readonly version: number;
    readonly maxPayload: number;
    readonly maxFrame: number;
    readonly maxInFlight: number;
    readonly engine: string;
    readonly lockLevel: string;
    readonly agent: string;
  };
  readonly document?: Uint8Array;
  readonly many?: {
    readonly values: Uint8Array[];
    readonly errors: { readonly index: number; readonly error: RawError }[];
  };
  readonly value?: Uint8Array;
}

/** A frame with this body. */
export function frameOf(body: Uint8Array): Buffer {
  const frame = Buffer.alloc(4 + body.length);
  frame.writeUInt32BE(body.length);
  frame.set(body, 4);
  return frame;
}

export function requestFrame(fields: RequestFields): Buffer {
  return frameOf(messages.Request.encode(fields).finish());
}

export const HELLO = { minVersion: 1, maxVersion: 1, client: 'raw' } as const;

/** The canonical bytes of a context, written here on purpose without the code under test. */
export function contextOf(pairs: Readonly<Record<string, string>>): Buffer {
  const sorted = Object.entries(pairs)
    .map(([name, value]) => [Buffer.from(name), Buffer.from(value)] as const)
    .sort(([a], [b]) => a.compare(b));
  if (sorted.length === 0) {
    return Buffer.alloc(0);
  }
  const u16 = (n: number): Buffer => Buffer.from([n >> 8, n & 255]);
  return Buffer.concat([
    u16(sorted.length),
    ...sorted.flatMap(([name, value]) => [u16(name.length), name, u16(value.length), value]),
  ]);
}

export class RawClient {
  readonly socket: Socket;
  readonly replies: RawReply[] = [];
  /** Whether the agent ended or cut the connection. */
  readonly closed: Promise<void>;
  isClosed = false;
  #nextId = 1;
  #wake: (() => void)[] = [];

  private constructor(socket: Socket) {
    this.socket = socket;
    const reader = new FrameReader(MAX_REPLY, (frame) => {
      this.replies.push(messages.Reply.decode(Buffer.from(frame)) as unknown as RawReply);
      this.#wakeAll();
    });
    socket.on('data', (chunk: Buffer) => reader.push(chunk));
    socket.on('error', () => {});
    this.closed = new Promise((resolve) => {
      const done = (): void => {
        this.isClosed = true;
        this.#wakeAll();
        resolve();
      };
      socket.once('end', done);
      socket.once('close', done);
    });
  }

  static connect(path: string, options: { allowHalfOpen?: boolean } = {}): Promise<RawClient> {
    return new Promise((resolve, reject) => {
      const socket = connect({ path, ...options });
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.removeListener('error', reject);
        resolve(new RawClient(socket));
      });
    });
  }

  /** Connects and says hello. */
  static async greeted(path: string, options: { allowHalfOpen?: boolean } = {}): Promise<RawClient> {
    const client = await RawClient.connect(path, options);
    const reply = await client.ask({ hello: HELLO });
    if (!reply.hello) {
      throw new Error(`no hello: ${JSON.stringify(reply)}`);
    }
    return client;
  }

  write(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  send(fields: RequestFields): number {
    const id = fields.id ?? this.#nextId++;
    this.write(requestFrame({ ...fields, id }));
    return id;
  }

  ask(fields: RequestFields): Promise<RawReply> {
    return this.reply(this.send(fields));
  }

  /** The reply with this id, taken out. @throws when the connection ends first, or nothing comes */
  async reply(id: number): Promise<RawReply> {
    const until = performance.now() + PATIENCE_MS;
    for (;;) {
      const index = this.replies.findIndex((reply) => reply.id === id);
      if (index >= 0) {
        return this.replies.splice(index, 1)[0]!;
      }
      if (this.isClosed || performance.now() > until) {
        throw new Error(`no reply ${id}: ${this.isClosed ? 'closed' : 'nothing came'}`);
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 200);
        this.#wake.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  /** Waits for so many replies. */
  async count(replies: number): Promise<void> {
    const until = performance.now() + PATIENCE_MS;
    while (this.replies.length < replies && !this.isClosed && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  destroy(): void {
    this.socket.destroy();
  }

  #wakeAll(): void {
    for (const wake of this.#wake.splice(0)) {
      wake();
    }
  }
}
