/** Clients in processes of their own, told how many calls to make. */
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Child, profileFlags } from './child.ts';
import type { ScenarioName } from './scenarios.ts';

const ENTRY = fileURLToPath(new URL('client-process.ts', import.meta.url));

export class Clients {
  readonly #child: Child;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: Child) {
    this.#child = child;
    this.#lines = createInterface({ input: child.process.stdout! })[Symbol.asyncIterator]();
  }

  static async start(socket: string, scenario: ScenarioName, connections: number): Promise<Clients> {
    const clients = new Clients(
      new Child(ENTRY, [socket, scenario, String(connections)], { flags: profileFlags('client') }),
    );
    await clients.#lines.next();
    return clients;
  }

  /** Makes `count` calls, shared out among the connections. @returns the milliseconds that they took */
  async calls(count: number): Promise<number> {
    this.#child.process.stdin!.write(`${count}\n`);
    const { value, done } = await this.#lines.next();
    if (done === true) {
      throw new Error('the client process has ended');
    }
    return Number(value);
  }

  stop(): Promise<void> {
    return this.#child.stop();
  }
}
