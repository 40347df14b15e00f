/** Child processes of the bench: started, awaited, stopped by their own id, and never left behind. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

export interface ChildOptions {
  /** Flags of Node in front of the entry. */
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Where each process of a measured pair writes its profile when it ends; absent when none is taken. */
export const profileFolder = process.env.DEKD_BENCH_PROFILE;

export function profileFlags(name: string): string[] {
  return profileFolder === undefined
    ? []
    : [
        '--cpu-prof',
        `--cpu-prof-dir=${profileFolder}`,
        `--cpu-prof-name=${name}.cpuprofile`,
        '--cpu-prof-interval=200',
      ];
}

export class Child {
  readonly process: ChildProcess;
  #said = '';
  #exited = false;

  constructor(entry: string, args: readonly string[], { flags = [], env = {} }: ChildOptions = {}) {
    this.process = spawn(process.execPath, [...flags, entry, ...args], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, NODE_OPTIONS: '', ...env },
    });
    for (const stream of [this.process.stdout!, this.process.stderr!]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.#said = (this.#said + text).slice(-64_000);
      });
    }
    this.process.once('exit', () => {
      this.#exited = true;
    });
  }

  get pid(): number {
    return this.process.pid!;
  }

  get exited(): boolean {
    return this.#exited;
  }

  /** The end of what it has printed. */
  get said(): string {
    return this.#said;
  }

  /** Resolves once `ready` is in what the child has printed. @throws when it ends, or says nothing of the kind in 20 s */
  async says(ready: string): Promise<void> {
    const deadline = performance.now() + 20_000;
    while (!this.#said.includes(ready)) {
      if (this.#exited || performance.now() > deadline) {
        throw new Error(`a child of the bench did not start: ${this.#said.trim() || 'it said nothing'}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** Ends its standard input, which is what the children of the bench live by, and waits. */
  async stop(): Promise<void> {
    if (!this.#exited) {
      const ended = once(this.process, 'exit');
      this.process.stdin!.end();
      await ended;
    }
  }
}
