/** Agents for tests: in this process, where a test can reach into it, or as a child, where it can be killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect as connectSocket } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type AssembledAgent, assembleAgent } from '../../src/agent/assembly.ts';
import type { Config } from '../../src/config/config.ts';
import { devConfig } from '../../src/config/dev.ts';
import { parseConfig } from '../../src/config/load.ts';
import { createLog } from '../../src/telemetry/log.ts';
import type { Observer } from '../../src/telemetry/observation.ts';
import { makeFolder, removeFolder } from './temporary-folder.ts';

export const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
/** Node 24 of the repository: vitest may have been started by another. */
export const NODE = fileURLToPath(new URL('../../node_modules/.bin/node', import.meta.url));

export interface TestAgent {
  readonly folder: string;
  readonly socket: string;
  readonly admin: string;
  readonly agent: AssembledAgent;
  /** Lines of the log so far, as objects. */
  readonly log: readonly Record<string, unknown>[];
  stop(): Promise<void>;
}

export interface TestAgentOptions {
  readonly limits?: Partial<Config['limits']>;
  readonly lane?: Partial<Config['lane']>;
  readonly engine?: Config['engine'];
  readonly workers?: Config['workers'];
  /** A whole file instead of the `dev` configuration; `FOLDER` stands for the agent's own folder. */
  readonly yaml?: string;
  readonly folder?: string;
  readonly replace?: boolean;
  readonly quotaClock?: () => number;
  readonly observers?: readonly Observer[];
  /** What the agent reads when it is to read its configuration again; `FOLDER` as in `yaml`. */
  readonly reread?: () => string;
}

/** An agent in this process on a socket of its own; `dev` with everything in memory unless a file is given. */
export async function startTestAgent(options: TestAgentOptions = {}): Promise<TestAgent> {
  const folder = options.folder ?? makeFolder();
  const socket = join(folder, 's', 'agent.sock');
  const loaded =
    options.yaml === undefined
      ? devConfig({ socket, ephemeral: true, env: {} })
      : parseConfig(options.yaml.replaceAll('FOLDER', folder), { env: {} });
  const config: Config = {
    ...loaded.config,
    engine: options.engine ?? loaded.config.engine,
    workers: options.workers ?? loaded.config.workers,
    limits: { ...loaded.config.limits, ...options.limits },
    lane: { ...loaded.config.lane, ...options.lane },
  };
  const log: Record<string, unknown>[] = [];
  const destination = { write: (line: string) => void log.push(JSON.parse(line) as Record<string, unknown>) };
  const agentLog = createLog({ level: 'debug', format: 'json', destination });
  const agent = await assembleAgent({
    config,
    log: agentLog,
    source: options.reread && {
      read: () => ({
        ...parseConfig(options.reread!().replaceAll('FOLDER', folder), { env: {} }),
        file: 'config.yaml',
      }),
      adjustLog: (settings) => agentLog.adjust(settings),
    },
    replace: options.replace ?? false,
    quotaClock: options.quotaClock,
    ...(options.observers === undefined ? {} : { observers: options.observers }),
  });
  return {
    folder,
    socket: agent.socketPath,
    admin: agent.adminPath,
    agent,
    log,
    async stop() {
      await agent.close();
      if (options.folder === undefined) {
        removeFolder(folder);
      }
    },
  };
}

export interface ChildAgent {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly socket: string;
  /** Everything the agent printed. */
  readonly output: () => string;
  /** Resolves with the exit code, or the name of the signal. */
  readonly exited: Promise<number | string>;
}

/** An agent as a child, answering on its socket. The caller ends it. */
export async function spawnTestAgent(socket: string, args?: readonly string[], limit?: string): Promise<ChildAgent> {
  const command = [NODE, '--disable-sigusr1', MAIN, ...(args ?? ['dev', '--ephemeral', '--socket', socket])];
  const [file, ...rest] = limit === undefined ? command : ['sh', '-c', `${limit}; exec "$@"`, 'sh', ...command];
  const child = spawn(file!, rest, { stdio: ['ignore', 'pipe', 'pipe'], env: childEnvironment() });
  let output = '';
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const exited = new Promise<number | string>((resolve) => {
    child.once('exit', (code, signal) => resolve(code ?? signal ?? 'unknown'));
  });
  for (let i = 0; ; i++) {
    if (child.exitCode !== null || child.signalCode !== null || i > 2_000) {
      child.kill('SIGKILL');
      throw new Error(`the agent did not come up: ${output}`);
    }
    // Its own line, not the socket: with `replace` the predecessor answers there too.
    if (/agent ready/.test(output) && (await answers(socket))) {
      return { child, pid: child.pid!, socket, output: () => output, exited };
    }
    await sleep(5);
  }
}

/** The variables of this process without those that configure agents and Node. */
export function childEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(DEKD_|XDG_|NODE_OPTIONS|VITEST|KUBERNETES)/.test(name)),
  );
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connectSocket(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
}

/** Resident memory of a process in bytes. */
export function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024;
}

/** A file for `dekd run` with a local root and sqlite in `folder`, so that agents one after the other share keys. */
export function writeRunConfig(folder: string, extra = ''): string {
  const path = join(folder, 'config.yaml');
  const key = join(folder, 'root.key');
  mkdirSync(dirname(key), { recursive: true });
  writeFileSync(key, `${Buffer.alloc(32, 7).toString('base64')}\n`, { mode: 0o600 });
  writeFileSync(path, runYaml(extra).replaceAll('FOLDER', folder));
  return path;
}

/** What `writeRunConfig` writes, with `FOLDER` for the folder; callers of the agent's own uid may do everything. */
export function runYaml(extra = ''): string {
  return `
engine: auto
memory: { level: heap, allowInsecureMemory: true }
socket: { path: FOLDER/s/agent.sock, allowOwnUid: true }
state: FOLDER/state
roots: { main: { provider: local, keyFile: FOLDER/root.key, allowLocalRoot: true } }
policy:
  rules:
    - { name: own, callers: { socket: data }, keys: '*', operations: [encrypt, decrypt, reencrypt, anyKey, keyInfo], create: { max: 100000 } }
${extra}`;
}
