// The client under test: a process that is told what to call, and says what came of it, one line of JSON each.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export class ClientProcess {
  #child;
  #waiting = new Map();
  #nextId = 1;
  #ended;

  /** @param command the program and its arguments */
  constructor([program, ...args]) {
    this.#child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child.stdin.on('error', () => {});
    this.#child.once('error', (error) => this.#end(error.message));
    this.#child.once('exit', (code, signal) => this.#end(`the client ended with ${code ?? signal}`));
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#take(line));
  }

  /** @returns { ok, value } or { ok, error }, or { unsupported: true }. @throws Error when the client ends, or takes too long */
  call(request, patienceMs) {
    if (this.#ended !== undefined) {
      return Promise.reject(new Error(this.#ended));
    }
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new Error(`no answer to ${request.op} within ${patienceMs} ms`));
      }, patienceMs);
      this.#waiting.set(id, {
        resolve: (answer) => {
          clearTimeout(timer);
          resolve(answer);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
      this.#child.stdin.write(`${JSON.stringify({ id, ...request })}\n`);
    });
  }

  kill() {
    this.#child.kill('SIGKILL');
  }

  /** Ends the client by the end of its input. */
  async stop() {
    if (this.#ended === undefined) {
      const ended = new Promise((resolve) => this.#child.once('exit', resolve));
      this.#child.stdin.end();
      const timer = setTimeout(() => this.#child.kill('SIGKILL'), 2_000);
      await ended;
      clearTimeout(timer);
    }
  }

  #take(line) {
    let answer;
    try {
      answer = JSON.parse(line);
    } catch {
      this.#end(`the client said what is not JSON: ${line.slice(0, 200)}`);
      return;
    }
    this.#waiting.get(answer.id)?.resolve(answer);
    this.#waiting.delete(answer.id);
  }

  #end(why) {
    this.#ended ??= why;
    for (const { reject } of this.#waiting.values()) {
      reject(new Error(this.#ended));
    }
    this.#waiting.clear();
  }
}
