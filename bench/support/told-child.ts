/** A child that is told what to do by a line on its standard input, and answers each with one on standard output. */
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Child, profileFlags } from './child.ts';

export class ToldChild {
  readonly #child: Child;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: Child) {
    this.#child = child;
    this.#lines = createInterface({ input: child.process.stdout! })[Symbol.asyncIterator]();
  }

  /** Starts a file of this folder and waits for its first line, which says that it is ready. */
  static async start(entry: string, args: readonly string[]): Promise<ToldChild> {
    const path = fileURLToPath(new URL(entry, import.meta.url));
    const told = new ToldChild(new Child(path, args, { flags: profileFlags('client') }));
    await told.#answer();
    return told;
  }

  get pid(): number {
    return this.#child.pid;
  }

  async ask(line: string): Promise<string> {
    this.#child.process.stdin!.write(`${line}\n`);
    return this.#answer();
  }

  async #answer(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done === true) {
      throw new Error(`a child of the bench has ended: ${this.#child.said.trim()}`);
    }
    return value;
  }

  stop(): Promise<void> {
    return this.#child.stop();
  }
}
