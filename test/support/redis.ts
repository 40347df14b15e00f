import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { describe, it } from 'vitest';

const PROGRAMS = ['redis-server', 'valkey-server'];
const NEEDS_REDIS = 'needs redis-server';

function redisProgram(): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/bin', '/usr/local/bin'];
  return folders.flatMap((folder) => PROGRAMS.map((name) => join(folder, name))).find((path) => existsSync(path));
}

/** Tests that need a server; skipped, with the reason, where there is none. */
export function describeRedis(name: string, tests: () => void): void {
  const possible = redisProgram() !== undefined;
  describe(name, possible ? tests : () => it('runs against a server', ({ skip }) => skip(NEEDS_REDIS)));
}

/** A Redis of its own: in a temporary folder, on a Unix socket there and no port, nothing written to disk. */
export class RedisServer {
  readonly #folder: string;
  readonly #process: ChildProcess;
  readonly #clients: Redis[] = [];

  private constructor(folder: string, child: ChildProcess) {
    this.#folder = folder;
    this.#process = child;
  }

  static async start(): Promise<RedisServer> {
    const program = redisProgram();
    if (program === undefined) {
      throw new Error(NEEDS_REDIS);
    }
    const folder = mkdtempSync(join(tmpdir(), 'dekd-redis-'));
    const options = [
      '--port',
      '0',
      '--unixsocket',
      join(folder, 's'),
      '--dir',
      folder,
      '--save',
      '',
      '--appendonly',
      'no',
    ];
    const child = spawn(program, options, { stdio: 'ignore' });
    const server = new RedisServer(folder, child);
    while (!existsSync(join(folder, 's'))) {
      if (child.exitCode !== null) {
        throw new Error(`${program} ended with ${child.exitCode}`);
      }
      await sleep(10);
    }
    return server;
  }

  /** Closed with the server. */
  client(keyPrefix = ''): Redis {
    const client = new Redis(join(this.#folder, 's'), { keyPrefix });
    this.#clients.push(client);
    return client;
  }

  /** Everything that it holds, names and values, as one run of bytes. */
  async dump(): Promise<Buffer> {
    const client = this.client();
    const parts: Buffer[] = [];
    for (const name of await client.keysBuffer('*')) {
      parts.push(name, (await client.getBuffer(name)) ?? Buffer.alloc(0));
    }
    return Buffer.concat(parts);
  }

  async stop(): Promise<void> {
    for (const client of this.#clients) {
      client.disconnect();
    }
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const exited = once(this.#process, 'exit');
      this.#process.kill('SIGKILL');
      await exited;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
