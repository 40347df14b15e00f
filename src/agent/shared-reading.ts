/**
 * One buffer that every connection is read into.
 *
 * Node reads an accepted socket into a fresh 64 KiB chunk each time. For frames that span many chunks, the memory that
 * costs is most of the time they take (measured: 1 MiB frames 1.5 times as fast from one buffer of 256 KiB), and each idle
 * connection may pin a chunk. Node offers a buffer of one's own (`onread`) to sockets that connect, not to those that are
 * accepted; so the accepted socket's handle is given to a socket that was made for it.
 */
import { Socket, type SocketConstructorOpts } from 'node:net';

/** Above what a Unix socket holds in the kernel, so that one read empties it. */
const READ_BUFFER = 256 * 1024;

let shared: Buffer | undefined;

/** What is not in the public types of a socket: its handle, and the option that takes one. */
interface WithHandle {
  _handle: unknown;
}

/** Who takes what is read. */
export interface Intake {
  /** Memory to read into next instead of the shared buffer. */
  readonly space: Buffer | undefined;
  /** Takes a chunk of the shared buffer, which is intact until this returns. */
  push(chunk: Buffer): void;
  /** `length` bytes were read into what `space` was. */
  fill(length: number): void;
}

/**
 * The same connection, read into the shared buffer, which is wiped after each chunk because it may be plaintext, or into
 * the intake's own memory. Takes over `accepted`, which must not have been read from (`pauseOnConnect`) and is of no
 * further use. Where Node gives no handle, it is `accepted` itself, with chunks of its own.
 */
export function readShared(accepted: Socket, intake: Intake): Socket {
  const { _handle: handle } = accepted as unknown as WithHandle;
  if (handle === null || handle === undefined) {
    accepted.on('data', (chunk: Buffer) => intake.push(chunk));
    return accepted;
  }
  (accepted as unknown as WithHandle)._handle = null;
  const common = sharedBuffer();
  const options: SocketConstructorOpts & { allowHalfOpen: boolean } = {
    handle: handle as NonNullable<SocketConstructorOpts['handle']>,
    readable: true,
    writable: true,
    allowHalfOpen: true,
    onread: {
      // Asked after each read for the memory of the next.
      buffer: () => intake.space ?? common,
      callback: (length, buffer) => {
        if (buffer !== common) {
          intake.fill(length);
          return true;
        }
        const chunk = common.subarray(0, length);
        try {
          intake.push(chunk);
        } finally {
          chunk.fill(0);
        }
        return true;
      },
    },
  };
  // Without a listener for data it would not flow, and never end.
  return new Socket(options).resume();
}

function sharedBuffer(): Buffer {
  shared ??= Buffer.alloc(READ_BUFFER);
  return shared;
}
