/** Unix sockets of the world: bytes that arrive in order, late, in other pieces, or never because an end is gone. */
import { EventEmitter } from 'node:events';
import { Duplex } from 'node:stream';
import type { Machine, SimProcess } from './machine.ts';

type Accept = (socket: SimSocket) => void;

/** What a client gives to `net.connect` to be handed what is read. */
interface OnRead {
  readonly buffer: () => Uint8Array;
  readonly callback: (length: number, buffer: Uint8Array) => boolean;
}

interface Listener {
  readonly owner: SimProcess;
  readonly accept: Accept;
  /** Of its file. */
  readonly number: number;
}

/** As much of a server as a listener needs. */
class SimServer extends EventEmitter {
  readonly #bind: (path: string) => void;

  constructor(bind: (path: string) => void) {
    super();
    this.#bind = bind;
  }

  listen({ path }: { path: string }, done: () => void): void {
    this.#bind(path);
    process.nextTick(done);
  }

  close(): void {}
}

export class SimNetwork {
  readonly #machine: Machine;
  readonly #listeners = new Map<string, Listener>();
  readonly #open = new Set<SimSocket>();
  #number = 1;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /** What `net.createServer` gives. */
  server(accept: Accept): SimServer {
    const owner = this.#machine.process!;
    return new SimServer((path) => this.#listeners.set(path, { owner, accept, number: this.#number++ }));
  }

  rename(from: string, to: string): void {
    this.#listeners.set(to, this.#listeners.get(from)!);
    this.#listeners.delete(from);
  }

  remove(path: string): void {
    this.#listeners.delete(path);
  }

  /** What `stat` says: a socket where somebody listened, a folder that nobody else may write to, and nothing else. */
  statOf(path: string): unknown {
    const listener = this.#listeners.get(path);
    const isFolder = path.endsWith('/s');
    if (listener === undefined && !isFolder) {
      return undefined;
    }
    return {
      isSocket: () => !isFolder,
      isDirectory: () => isFolder,
      mode: isFolder ? 0o040700 : 0o140600,
      uid: process.getuid!(),
      ino: listener?.number,
    };
  }

  connect({ path, onread }: { path: string; onread?: OnRead }): SimSocket {
    const machine = this.#machine;
    const client = new SimSocket(machine, machine.process, onread, (socket) => this.#open.delete(socket));
    machine.after(
      machine.chances.fraction() * 0.3,
      () => {
        const listener = this.#listeners.get(path);
        if (listener === undefined || !listener.owner.alive) {
          client.destroy(new Error('connect ECONNREFUSED'));
          return;
        }
        const server = new SimSocket(machine, listener.owner, undefined, (socket) => this.#open.delete(socket));
        this.#open.add(client).add(server);
        client.peer = server;
        server.peer = client;
        client.emit('connect');
        machine.after(0, () => listener.accept(server), listener.owner);
      },
      null,
    );
    return client;
  }

  /** Cuts a connection, if there is one: both ends hear of it. */
  cutOne(): void {
    const sockets = [...this.#open];
    if (sockets.length > 0) {
      const socket = this.#machine.chances.pick(sockets);
      socket.vanish();
      socket.peer?.vanish();
    }
  }

  /** The kernel closes what a dead process had open. */
  closeOf(owner: SimProcess): void {
    for (const socket of [...this.#open]) {
      if (socket.owner === owner) {
        this.#open.delete(socket);
        const { peer } = socket;
        this.#machine.after(this.#machine.chances.fraction(), () => peer?.vanish(), peer?.owner ?? null);
      }
    }
  }
}

export class SimSocket extends Duplex {
  /** Null for whoever is no agent. */
  readonly owner: SimProcess | null;
  peer: SimSocket | undefined;
  readonly #machine: Machine;
  readonly #onread: OnRead | undefined;
  readonly #closed: (socket: SimSocket) => void;
  /** When the last piece that is under way arrives: none overtakes it. */
  #lastAt = 0;

  constructor(
    machine: Machine,
    owner: SimProcess | null,
    onread: OnRead | undefined,
    closed: (socket: SimSocket) => void,
  ) {
    super({ allowHalfOpen: true, emitClose: true });
    this.owner = owner;
    this.#machine = machine;
    this.#onread = onread;
    this.#closed = closed;
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    // The kernel has its own copy.
    const bytes = Buffer.from(chunk);
    const { chances } = this.#machine;
    for (let from = 0; from < bytes.length; ) {
      const to = chances.chance(0.15) ? chances.between(from + 1, bytes.length) : bytes.length;
      const piece = bytes.subarray(from, to);
      this.#deliver((peer) => peer.#receive(piece));
      from = to;
    }
    done();
  }

  override _final(done: () => void): void {
    this.#deliver((peer) => peer.#ended());
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#closed(this);
    this.#deliver((peer) => peer.#ended());
    done(error);
  }

  /** The connection is gone without a word. */
  vanish(): void {
    if (!this.destroyed) {
      this.destroy();
    }
  }

  destroySoon(): void {
    if (this.writableFinished) {
      this.destroy();
    } else {
      this.once('finish', () => this.destroy());
      this.end();
    }
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  #deliver(arrive: (peer: SimSocket) => void): void {
    const { peer } = this;
    if (peer === undefined) {
      return;
    }
    const machine = this.#machine;
    this.#lastAt = Math.max(this.#lastAt, machine.now + machine.chances.fraction() * 0.4);
    machine.after(this.#lastAt - machine.now, () => peer.destroyed || arrive(peer), peer.owner);
  }

  #receive(bytes: Buffer): void {
    if (this.#onread === undefined) {
      this.push(bytes);
      return;
    }
    for (let from = 0; from < bytes.length && !this.destroyed; ) {
      const target = this.#onread.buffer();
      const length = Math.min(target.length, bytes.length - from);
      target.set(bytes.subarray(from, from + length));
      this.#onread.callback(length, target);
      from += length;
    }
  }

  #ended(): void {
    if (this.#onread === undefined) {
      this.push(null);
    } else {
      this.vanish();
    }
  }
}
