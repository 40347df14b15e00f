import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';

/** Messages of the client that the server answers: Query and Sync. */
const REQUESTS: readonly number[] = [0x51, 0x53];

type Cut = { remaining: number; readonly when: 'before' | 'after'; readonly thenRefuse: boolean };

/**
 * Stands between a keystore and PostgreSQL, and breaks connections at a point that the test names. It reads the protocol as
 * far as it must: every message but the first has a type and a length.
 */
export class PostgresProxy {
  readonly #server: Server;
  readonly #target: string;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  #cut: Cut | undefined;
  #frozen = false;
  #refusing = false;

  private constructor(server: Server, target: string) {
    this.#server = server;
    this.#target = target;
  }

  /** @param target path of the server's Unix socket */
  static async start(target: string): Promise<PostgresProxy> {
    // Frozen, it does not even answer a goodbye.
    const server = createServer({ allowHalfOpen: true });
    const proxy = new PostgresProxy(server, target);
    server.on('connection', (client) => proxy.#accept(client));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  get connections(): number {
    return this.#pairs.size;
  }

  /** Whether the cut that was asked for has happened. */
  get hasCut(): boolean {
    return this.#cut === undefined;
  }

  /**
   * Breaks the connection at the n-th request from now: before the server sees it, or after it has answered and before the
   * client knows.
   */
  cutAt(n: number, when: Cut['when'], options: { readonly thenRefuse: boolean }): void {
    this.#cut = { remaining: n, when, thenRefuse: options.thenRefuse };
  }

  /** From now on nothing passes either way, and no connection ends. */
  freeze(): void {
    this.#frozen = true;
  }

  /** Ends what it has, and lets new connections through. */
  heal(): void {
    this.#frozen = false;
    this.#refusing = false;
    this.#cut = undefined;
    for (const pair of this.#pairs) {
      this.#end(pair);
    }
  }

  async stop(): Promise<void> {
    this.heal();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #accept(client: Socket): void {
    if (this.#refusing) {
      client.destroy();
      return;
    }
    const upstream = createConnection(this.#target);
    const pair = [client, upstream] as const;
    this.#pairs.add(pair);
    let pending: Buffer = Buffer.alloc(0);
    let isFirst = true;
    let endAtAnswer = false;
    client.on('data', (chunk: Buffer) => {
      if (this.#frozen) {
        return;
      }
      pending = Buffer.concat([pending, chunk]);
      for (;;) {
        const head = isFirst ? 0 : 1;
        const length = pending.length >= head + 4 ? head + pending.readUInt32BE(head) : Number.POSITIVE_INFINITY;
        if (pending.length < length) {
          return;
        }
        const message = pending.subarray(0, length);
        pending = pending.subarray(length);
        const fate = !isFirst && REQUESTS.includes(message[0]!) ? this.#fate() : 'pass';
        isFirst = false;
        if (fate === 'before') {
          this.#end(pair);
          return;
        }
        endAtAnswer ||= fate === 'after';
        upstream.write(message);
      }
    });
    upstream.on('data', (chunk: Buffer) => {
      if (endAtAnswer) {
        this.#end(pair);
      } else if (!this.#frozen) {
        client.write(chunk);
      }
    });
    client.on('end', () => this.#frozen || this.#end(pair));
    for (const socket of pair) {
      socket.on('error', () => this.#end(pair));
      socket.on('close', () => this.#end(pair));
    }
  }

  #fate(): 'pass' | Cut['when'] {
    const cut = this.#cut;
    if (cut === undefined) {
      return 'pass';
    }
    cut.remaining -= 1;
    if (cut.remaining > 0) {
      return 'pass';
    }
    this.#cut = undefined;
    this.#refusing = cut.thenRefuse;
    return cut.when;
  }

  #end(pair: readonly [Socket, Socket]): void {
    this.#pairs.delete(pair);
    pair[0].destroy();
    pair[1].destroy();
  }
}
