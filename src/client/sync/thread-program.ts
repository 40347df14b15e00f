/**
 * The program of the thread that a synchronous client waits for: it owns the socket and moves bytes, and knows nothing of
 * what they mean.
 *
 * It is text, because a program that only a URL names is lost when an application is bundled, and the text of a function is
 * not what was written once a bundler or a coverage tool has been at it. It needs nothing but modules of Node.
 *
 * Both sides share `control` and `inbox`. The caller writes requests to the descriptor itself, which spares a hop, and waits
 * on `control[STATE]`; the thread reads the reply into one half of `inbox`, says which, and notifies. A state is
 * `connection * 8 + kind`, so that what is said of a connection that was given up is not taken for news of its successor.
 */

/** Places in `control`. */
export const PLACE = { state: 0, half: 1, descriptor: 2, lock: 3, child: 4, gone: 5, sleep: 6, length: 7 } as const;

/** What can be the matter with a connection. */
export const KIND = {
  /** The caller waits. */
  waiting: 0,
  opened: 1,
  /** A whole frame is in that half of the inbox. */
  reply: 2,
  /** A frame that is larger than that is on the port. */
  posted: 3,
  /** The connection has ended; why is on the port. */
  lost: 4,
} as const;

/** `descriptor` when there is no connection, and when there is one whose number Node does not tell. */
export const NO_DESCRIPTOR = -1;
export const HIDDEN_DESCRIPTOR = -2;

/** Bytes of one half of the inbox; a larger reply gets memory of its own. */
export const HALF = 64 * 1024;

/** What the thread is started with. */
export interface ThreadData {
  readonly control: Int32Array;
  readonly inbox: Uint8Array;
  readonly port: unknown;
  /** Largest frame that is read, with its prefix. */
  readonly maxFrame: number;
}

/** What the thread is told. */
export type ThreadCommand =
  | { readonly connection: number; readonly connect: string }
  | { readonly connection: number; readonly send: SharedArrayBuffer }
  | { readonly drop: true }
  | { readonly run: { readonly file: string; readonly args: readonly string[]; readonly env: NodeJS.ProcessEnv } }
  | { readonly stop: true };

/** What it says beside its states. */
export type ThreadNews =
  | { readonly connection: number; readonly frame: SharedArrayBuffer }
  | { readonly connection: number; readonly lost: string; readonly isGarbage: boolean }
  | { readonly ended: string };

export const THREAD_PROGRAM = `'use strict';
const { spawn } = require('node:child_process');
const { Socket } = require('node:net');
const { workerData } = require('node:worker_threads');
const { control, inbox, port, maxFrame } = workerData;
const halves = [inbox.subarray(0, ${HALF}), inbox.subarray(${HALF})];
let current;
let child;

/** Whether the caller was waiting for news of that connection; then it has them. */
function say(connection, kind) {
  const waiting = connection * 8 + ${KIND.waiting};
  if (Atomics.compareExchange(control, ${PLACE.state}, waiting, connection * 8 + kind) !== waiting) {
    return false;
  }
  Atomics.notify(control, ${PLACE.state});
  return true;
}

/** The caller must not be writing when the descriptor is closed: its number goes to the next file that is opened. */
function retire() {
  while (Atomics.compareExchange(control, ${PLACE.lock}, 0, 1) !== 0) {
    Atomics.wait(control, ${PLACE.lock}, 1, 1);
  }
  Atomics.store(control, ${PLACE.descriptor}, ${NO_DESCRIPTOR});
  Atomics.store(control, ${PLACE.lock}, 0);
}

class Connection extends Socket {
  _destroy(error, done) {
    if (this === current) {
      current = undefined;
      retire();
      const lost = error ? error.message : 'the connection was closed';
      port.postMessage({ connection: this.number, lost, isGarbage: error instanceof RangeError });
      say(this.number, ${KIND.lost});
    }
    super._destroy(error, done);
  }
}

function connect(connection, path) {
  let side = 0;
  let target = halves[0];
  let filled = 0;
  const take = (length) => {
    filled += length;
    if (filled < 4) {
      return;
    }
    const total = 4 + target[0] * 16777216 + target[1] * 65536 + target[2] * 256 + target[3];
    if (total > maxFrame) {
      socket.destroy(new RangeError('a frame of ' + (total - 4) + ' bytes is over the limit of ' + (maxFrame - 4)));
      return;
    }
    if (filled < total) {
      if (total > target.length) {
        const large = new Uint8Array(new SharedArrayBuffer(total));
        large.set(target.subarray(0, filled));
        target = large;
      }
      return;
    }
    const isMore = filled > total;
    const isLarge = target !== halves[side];
    filled = 0;
    if (isLarge) {
      port.postMessage({ connection, frame: target.buffer });
    } else {
      Atomics.store(control, ${PLACE.half}, side);
      // What comes next must not lie where the caller reads.
      side = 1 - side;
    }
    target = halves[side];
    // One request, one reply: what else comes is a farewell, or an answer that nobody waits for any more.
    if (!say(connection, isLarge ? ${KIND.posted} : ${KIND.reply}) || isMore) {
      socket.destroy();
    }
  };
  const socket = new Connection({
    onread: { buffer: () => (filled === 0 ? target : target.subarray(filled)), callback: (length) => (take(length), true) },
  });
  socket.number = connection;
  current = socket;
  socket.on('error', () => {});
  socket.once('connect', () => {
    const fd = socket._handle && socket._handle.fd;
    Atomics.store(control, ${PLACE.descriptor}, fd >= 0 ? fd : ${HIDDEN_DESCRIPTOR});
    say(connection, ${KIND.opened});
  });
  socket.connect(path);
}

function run({ file, args, env }) {
  let said = '';
  const ended = (why) => {
    if (child === started) {
      child = undefined;
      port.postMessage({ ended: why });
      Atomics.store(control, ${PLACE.child}, 0);
      Atomics.notify(control, ${PLACE.child});
    }
  };
  const started = spawn(file, args, { stdio: ['pipe', 'ignore', 'pipe'], env });
  child = started;
  started.stdin.on('error', () => {});
  started.stderr.setEncoding('utf8').on('data', (text) => {
    said = (said + text).slice(-2000);
  });
  started.once('error', (error) => ended(error.message));
  started.once('close', () => ended(said.trim()));
}

port.on('message', (command) => {
  if (command.connect !== undefined) {
    if (current) {
      current.destroy();
    }
    connect(command.connection, command.connect);
  } else if (command.send !== undefined) {
    if (current && current.number === command.connection) {
      current.write(Buffer.from(command.send));
    } else {
      say(command.connection, ${KIND.lost});
    }
  } else if (command.drop) {
    if (current) {
      current.destroy();
    }
  } else if (command.run !== undefined) {
    run(command.run);
  } else if (child) {
    child.stdin.end();
  }
});

process.once('exit', () => {
  retire();
  Atomics.store(control, ${PLACE.gone}, 1);
  say(Atomics.load(control, ${PLACE.state}) >> 3, ${KIND.lost});
});
`;
