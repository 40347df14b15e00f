/** Clients in processes of their own, told how many calls to make. */
import type { ScenarioName } from './scenarios.ts';
import { ToldChild } from './told-child.ts';

export class Clients {
  readonly #child: ToldChild;

  private constructor(child: ToldChild) {
    this.#child = child;
  }

  static async start(socket: string, scenario: ScenarioName, connections: number): Promise<Clients> {
    return new Clients(await ToldChild.start('client-process.ts', [socket, scenario, String(connections)]));
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Makes `count` calls, shared out among the connections. @returns the milliseconds that they took */
  async calls(count: number): Promise<number> {
    return Number(await this.#child.ask(String(count)));
  }

  stop(): Promise<void> {
    return this.#child.stop();
  }
}
