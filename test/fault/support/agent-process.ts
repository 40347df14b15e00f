/** Agents and commands of a built package as child processes, in folders of their own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { PrivatePackage } from './private-package.ts';

/** What a test runner sets for its own children would be foreign code to an agent. */
export function cleanEnv(extra: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const kept = ['PATH', 'LANG', 'TMPDIR'].map((name) => [name, process.env[name]] as const);
  return { ...Object.fromEntries(kept.filter(([, value]) => value !== undefined)), HOME: '/nonexistent', ...extra };
}

export interface AgentProcessOptions {
  readonly package: Pick<PrivatePackage, 'entry'>;
  /** A folder for the socket's folder; `state` inside it unless given. */
  readonly folder: string;
  readonly state?: string;
  /** `dev` options beside --socket and --state, or a whole command line of another script. */
  readonly args?: readonly string[];
  /** Script in the place of the command line. */
  readonly script?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Configuration file: the agent is then `dekd run`. */
  readonly config?: string;
  /** Command put in front of Node, such as setpriv or prlimit. */
  readonly wrapper?: readonly string[];
}

export class AgentProcess implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly socket: string;
  /** Milliseconds from spawn to the line that says ready. */
  readyMs = 0;
  /** Everything written so far, both streams. */
  said = '';
  readonly #ended: Promise<number | null>;

  private constructor(options: AgentProcessOptions) {
    this.socket = join(options.folder, 'run/agent.sock');
    const state = options.state ?? join(options.folder, 'state');
    const script = options.script ?? options.package.entry;
    const verb =
      options.config === undefined
        ? ['dev', '--json', '--socket', this.socket, '--state', state]
        : ['run', '--config', options.config];
    const line = [
      ...(options.wrapper ?? []),
      process.execPath,
      '--disable-sigusr1',
      script,
      ...verb,
      ...(options.args ?? []),
    ];
    this.child = spawn(line[0]!, line.slice(1), {
      env: cleanEnv({ DEKD_ENGINE: 'native', ...options.env }),
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.#ended = once(this.child, 'exit').then(([code]) => code as number | null);
  }

  /** @throws Error with what the agent wrote when it ends before it is ready */
  static async start(options: AgentProcessOptions): Promise<AgentProcess> {
    const begun = performance.now();
    const agent = new AgentProcess(options);
    const isReady = options.config === undefined ? '"ready":true' : '"agent ready"';
    await new Promise<void>((resolve, reject) => {
      const hear = (text: Buffer): void => {
        agent.said += text;
        if (agent.readyMs === 0 && agent.said.includes(isReady)) {
          agent.readyMs = performance.now() - begun;
          resolve();
        }
      };
      agent.child.stdout!.on('data', hear);
      agent.child.stderr!.on('data', hear);
      agent.child.once('error', reject);
      agent.child.once('close', (code, signal) => reject(new Error(`agent ended (${code ?? signal}): ${agent.said}`)));
    });
    return agent;
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** SIGKILL, and waits until the process is gone. */
  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.#ended;
  }

  /** SIGTERM. @returns the exit code */
  async stop(): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill('SIGTERM');
    }
    return this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

export interface CommandOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  readonly timeoutMs?: number;
}

export interface CommandResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly ms: number;
}

/** A command that runs longer has gone wrong: one that should refuse to start has started, perhaps. */
const COMMAND_TIMEOUT_MS = 5 * 60_000;

/** Runs a command line to its end; one that does not come to it is killed, and `code` is null. */
export async function runCommand(line: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const begun = performance.now();
  const child = spawn(line[0]!, line.slice(1), {
    env: cleanEnv(options.env),
    stdio: ['pipe', 'pipe', 'pipe'],
    timeout: options.timeoutMs ?? COMMAND_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  child.stdin.on('error', () => {}).end(options.input ?? '');
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr, ms: performance.now() - begun };
}

/** `dekd` of the package with these arguments, to its end. */
export function runDekd(
  built: PrivatePackage,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  return runCommand([process.execPath, '--disable-sigusr1', built.entry, ...args], options);
}

/** Uid 1000 without groups and capabilities; put in front of a command. Needs root. */
export const AS_UID_1000: readonly string[] = [
  'setpriv',
  '--reuid=1000',
  '--regid=1000',
  '--clear-groups',
  '--inh-caps=-all',
  '--bounding-set=-all',
  '--no-new-privs',
];

/** The p-quantile of `values`. */
export function quantile(values: readonly number[], p: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(p * sorted.length) - 1)] ?? Number.NaN;
}

/** Says a measured figure in the output of the run. */
export function report(what: string, figures: Readonly<Record<string, unknown>>): void {
  process.stdout.write(`[figures] ${what}: ${JSON.stringify(figures)}\n`);
}
