/** Small clients in a process of their own, each with a connection and a call now and then. */
import { ToldChild } from './told-child.ts';

/** What a while with them was like. */
export interface SmallCalls {
  readonly calls: number;
  readonly failed: number;
  /** Of the first that failed. */
  readonly reason?: string;
  /** Microseconds of one call. */
  readonly p50: number;
  readonly p99: number;
}

export class SmallClients {
  readonly #child: ToldChild;

  private constructor(child: ToldChild) {
    this.#child = child;
  }

  static async start(socket: string, clients: number): Promise<SmallClients> {
    return new SmallClients(await ToldChild.start('small-process.ts', [socket, String(clients)]));
  }

  async callFor(milliseconds: number): Promise<SmallCalls> {
    return JSON.parse(await this.#child.ask(String(milliseconds))) as SmallCalls;
  }

  stop(): Promise<void> {
    return this.#child.stop();
  }
}
