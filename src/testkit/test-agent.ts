import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { askAdmin } from '../client/admin-request.ts';
import { agentCommand, socketIn } from '../client/agent-command.ts';
import { Channel } from '../client/channel.ts';
import { connect, connectSync, type DekdClient, type DekdSyncClient } from '../client/index.ts';
import { type RunningAgent, startAgent } from '../client/spawn.ts';
import { DekdError } from '../errors.ts';
import type { AdminFields } from '../protocol/messages.ts';
import type { TestAgent, TestAgentOptions, TestKeyOptions } from './types.ts';

const GREETING_TIMEOUT_MS = 5_000;
/** What of this process's surroundings would make another agent of it, or put a test runner's code into it. */
const NOT_HANDED_DOWN = /^(DEKD_|ENCRYPTION_PROVIDER$|KUBERNETES_|NODE_|VITEST|JEST_|LD_PRELOAD$)/;

/**
 * Starts an agent for tests: a development agent as a child of this process, with keys in memory unless told otherwise.
 * Several may run at once.
 * @throws AGENT_UNAVAILABLE with what the child said when it does not start, a wrong configuration included
 */
export async function createTestAgent(options: TestAgentOptions = {}): Promise<TestAgent> {
  // As the socket's folder it must be nobody else's.
  const folder = await mkdtemp(join(tmpdir(), 'dekd-kit-'));
  try {
    return await PrivateAgent.start(folder, options);
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

class PrivateAgent implements TestAgent {
  readonly socket: string;
  readonly #folder: string;
  readonly #start: () => Promise<RunningAgent>;
  readonly #clients: (DekdClient | DekdSyncClient)[] = [];
  #agent: RunningAgent;

  private constructor(folder: string, start: () => Promise<RunningAgent>, agent: RunningAgent) {
    this.socket = socketIn(folder);
    this.#folder = folder;
    this.#start = start;
    this.#agent = agent;
  }

  static async start(folder: string, { config, keep = false, env, node }: TestAgentOptions): Promise<PrivateAgent> {
    const args = keep ? ['--state', join(folder, 'state')] : ['--ephemeral'];
    if (config !== undefined) {
      const file = join(folder, 'config.yaml');
      // JSON is YAML.
      await writeFile(file, typeof config === 'string' ? config : JSON.stringify(config), { mode: 0o600 });
      args.push('--config', file);
    }
    const command = agentCommand(folder, args, { ...ownVariables(), ...env });
    const start = () => startAgent({ ...command, file: node ?? command.file }, socketIn(folder));
    return new PrivateAgent(folder, start, await start());
  }

  get admin(): string {
    return join(dirname(this.socket), 'admin.sock');
  }

  get env(): { readonly DEKD_SOCKET: string } {
    return { DEKD_SOCKET: this.socket };
  }

  get pid(): number {
    return this.#agent.pid;
  }

  connect(options: Parameters<TestAgent['connect']>[0] = {}): DekdClient {
    const client = connect({ ...options, socket: this.socket });
    this.#clients.push(client);
    return client;
  }

  connectSync(options: Parameters<TestAgent['connectSync']>[0] = {}): DekdSyncClient {
    const client = connectSync({ ...options, socket: this.socket });
    this.#clients.push(client);
    return client;
  }

  rotate(key: string, options: TestKeyOptions = {}): Promise<void> {
    return this.#administer({ rotate: { name: key, ...said(options) } });
  }

  disable(key: string, options: TestKeyOptions = {}): Promise<void> {
    return this.#administer({ disable: { name: key, ...said(options) } });
  }

  enable(key: string, options: TestKeyOptions = {}): Promise<void> {
    return this.#administer({ enable: { name: key, ...said(options) } });
  }

  async kill(): Promise<void> {
    this.#agent.kill('SIGKILL');
    await this.#agent.exited;
  }

  pause(): void {
    this.#agent.kill('SIGSTOP');
  }

  resume(): void {
    this.#agent.kill('SIGCONT');
  }

  async restart(): Promise<void> {
    await this.#agent.stop();
    this.#agent = await this.#start();
  }

  async close(): Promise<void> {
    // Calls that are under way find an agent that answers.
    this.resume();
    await Promise.all(this.#clients.splice(0).map(async (client) => client.close()));
    await this.#agent.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #administer(command: AdminFields): Promise<void> {
    if (!this.#agent.isRunning()) {
      throw new DekdError('AGENT_UNAVAILABLE', 'the test agent does not run: restart it first');
    }
    const channel = await Channel.open(this.admin, undefined, GREETING_TIMEOUT_MS, () => {});
    try {
      await askAdmin(channel, command);
    } finally {
      channel.close();
    }
  }
}

function said({ partition, purpose }: TestKeyOptions): { partition?: string; purpose?: string } {
  return { ...(partition === undefined ? {} : { partition }), ...(purpose === undefined ? {} : { purpose }) };
}

function ownVariables(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !NOT_HANDED_DOWN.test(name)));
}
