/** Streams of a client in a process of its own. */
import { ToldChild } from './told-child.ts';

export interface Streams {
  /** Streams at once, ten of them on one connection. */
  readonly streams: number;
  /** Bytes of plaintext in each. */
  readonly bytes: number;
  /** Whether each message is opened again on its way, by one stream more. */
  readonly both: boolean;
}

export class StreamClients {
  readonly #child: ToldChild;

  private constructor(child: ToldChild) {
    this.#child = child;
  }

  static async start(socket: string): Promise<StreamClients> {
    return new StreamClients(await ToldChild.start('stream-process.ts', [socket]));
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** @returns the milliseconds until all of them have come to their ends */
  async pass(streams: Streams): Promise<number> {
    return Number(await this.#child.ask(JSON.stringify(streams)));
  }

  stop(): Promise<void> {
    return this.#child.stop();
  }
}
