/** The baseline of the socket: the same bytes to a bare Node process and back, with nothing done to them. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Child, profileFlags } from './child.ts';

const ENTRY = fileURLToPath(new URL('echo-server.ts', import.meta.url));

export class Echo {
  readonly #folder: string;
  readonly #child: Child;
  readonly #socket: Socket;
  readonly #waiting: { left: number; resolve: () => void }[] = [];

  private constructor(folder: string, child: Child, socket: Socket) {
    this.#folder = folder;
    this.#child = child;
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => this.#take(chunk.length));
  }

  static async start(): Promise<Echo> {
    const folder = mkdtempSync(join(tmpdir(), 'dekd-echo-'));
    const path = join(folder, 'echo.sock');
    const child = new Child(ENTRY, [path], { flags: profileFlags('echo') });
    await child.says('listening');
    const socket = connect(path);
    await once(socket, 'connect');
    return new Echo(folder, child, socket);
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Sends `bytes` and resolves when as many have come back; any number may be on their way. */
  send(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push({ left: bytes.length, resolve });
      this.#socket.write(bytes);
    });
  }

  #take(length: number): void {
    let rest = length;
    while (rest > 0) {
      const first = this.#waiting[0]!;
      const taken = Math.min(rest, first.left);
      first.left -= taken;
      rest -= taken;
      if (first.left === 0) {
        this.#waiting.shift();
        first.resolve();
      }
    }
  }

  async stop(): Promise<void> {
    this.#socket.destroy();
    await this.#child.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
