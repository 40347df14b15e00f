/** The limit of the socket: the same bytes between two C++ processes and back, with nothing done to them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { compiled } from './compiled.ts';

export class BareEcho {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  /** @throws when there is no compiler */
  constructor() {
    this.#child = spawn(compiled('bare_echo.cc', 'bare_echo'), { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  /** Sends `count` messages of so many bytes, `width` of them under way. @returns once all have come back */
  async send(count: number, width: number, bytes: number): Promise<void> {
    this.#child.stdin!.write(`${count} ${width} ${bytes}\n`);
    if ((await this.#lines.next()).done === true) {
      throw new Error('the bare echo has ended');
    }
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode === null) {
      const ended = once(this.#child, 'exit');
      this.#child.stdin!.end();
      await ended;
    }
  }
}
