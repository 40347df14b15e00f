import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from '../../src/client/index.ts';

/** Callers that encrypt and decrypt without a pause through one agent, or through those that follow it on its socket. */
export class AgentLoad {
  readonly failures: string[] = [];
  /** Tokens that were made meanwhile, by partition. */
  readonly made: [string, Uint8Array][] = [];
  requests = 0;
  #isOver = false;
  readonly #callers: Promise<void>[];
  readonly #client;

  /** @param tokens of key `k`, each with the name of its partition inside */
  constructor(socket: string, tokens: ReadonlyMap<string, Uint8Array>, callers: number) {
    this.#client = connect({ socket });
    const known = [...tokens];
    this.#callers = Array.from({ length: callers }, (_, caller) => this.#call(known, caller));
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#callers);
    await this.#client.close();
  }

  async #call(known: readonly (readonly [string, Uint8Array])[], caller: number): Promise<void> {
    const decoder = new TextDecoder();
    for (let round = 0; !this.#isOver; round++) {
      const [partition, token] = known[Math.floor(Math.random() * known.length)]!;
      await this.#counted('decrypt', async () => {
        const plain = decoder.decode(await this.#client.decrypt(token, { key: 'k', partition }));
        if (plain !== partition) {
          throw new Error('another plaintext');
        }
      });
      // Now and then a tenant that there was not: its KEK is made under the root that is the default then.
      const into = round % 50 === 0 ? `new-${caller}-${round}` : partition;
      await this.#counted('encrypt', async () => {
        const made = await this.#client.encrypt(new TextEncoder().encode(into), { key: 'k', partition: into });
        if (round % 10 === 0) {
          this.made.push([into, made]);
        }
      });
      // The event loop is shared with the stand-ins of the services.
      await sleep(1);
    }
  }

  async #counted(what: string, work: () => Promise<void>): Promise<void> {
    this.requests++;
    try {
      await work();
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      this.failures.push(`${what}: ${code}: ${message}`);
    }
  }
}
