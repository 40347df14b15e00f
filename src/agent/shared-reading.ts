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

/**
 * The same connection, whose 'data' events show the shared buffer: a chunk is intact until its listener returns, and
 * is then wiped, because it may be plaintext. Takes over `accepted`, which must not have been read from (`pauseOnConnect`)
 * and is of no further use. Where Node gives no handle, it is `accepted` itself, with chunks of its own.
 */
export function readShared(accepted: Socket): Socket {
  const { _handle: handle } = accepted as unknown as WithHandle;
  if (handle === null || handle === undefined) {
    return accepted;
  }
  (accepted as unknown as WithHandle)._handle = null;
  const buffer = (): Buffer => {
    shared ??= Buffer.alloc(READ_BUFFER);
    return shared;
  };
  const options: SocketConstructorOpts & { allowHalfOpen: boolean } = {
    handle: handle as NonNullable<SocketConstructorOpts['handle']>,
    readable: true,
    writable: true,
    allowHalfOpen: true,
    onread: {
      buffer,
      callback: (length) => {
        const chunk = buffer().subarray(0, length);
        try {
          socket.emit('data', chunk);
        } finally {
          chunk.fill(0);
        }
        return true;
      },
    },
  };
  const socket = new Socket(options);
  return socket;
}
