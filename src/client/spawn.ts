/** A private agent as a child: ephemeral root, memory keystore, own socket. It ends when its parent does. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DekdError } from '../errors.ts';
import { type AgentCommand, privateAgent, START_TIMEOUT_MS, socketIn } from './agent-command.ts';

const POLL_MS = 4;
const LAST_WORDS_MS = 1_000;
/** Longer than an agent drains. */
const STOP_TIMEOUT_MS = 15_000;

/** An agent that runs, or ran, as a child of this process. */
export interface RunningAgent {
  readonly pid: number;
  isRunning(): boolean;
  /** Ends it as it should end, and kills it when it does not. Resolves when it has ended. */
  stop(): Promise<void>;
  /** Ends it with that signal, or stops and continues it. */
  kill(signal: NodeJS.Signals): void;
  /** Resolves when it has ended. */
  readonly exited: Promise<void>;
}

export interface SpawnedAgent {
  readonly socket: string;
  isRunning(): boolean;
  stop(): Promise<void>;
}

/** @throws AGENT_UNAVAILABLE with what the child said, when it does not come up; UNSUPPORTED where only the client is installed */
export async function spawnAgent(): Promise<SpawnedAgent> {
  const folder = await mkdtemp(join(tmpdir(), 'dekd-'));
  const socket = socketIn(folder);
  const remove = () => rm(folder, { recursive: true, force: true });
  try {
    const agent = await startAgent(privateAgent(folder), socket);
    return {
      socket,
      isRunning: agent.isRunning,
      async stop() {
        await agent.stop();
        await remove();
      },
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** @throws AGENT_UNAVAILABLE with what the child said, when it does not come up */
export async function startAgent({ file, args, env }: AgentCommand, socket: string): Promise<RunningAgent> {
  const child = spawn(file, args, { stdio: ['pipe', 'ignore', 'pipe'], env });
  // Without a listener a child that cannot be started would be an uncaught exception.
  let failure = '';
  child.once('error', (error) => {
    failure = error.message;
  });
  child.stdin.on('error', () => {});
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-2_000);
  });
  const silent = new Promise((resolve) => child.once('close', resolve));
  const isRunning = (): boolean => child.exitCode === null && child.signalCode === null;
  for (const began = performance.now(); performance.now() - began < START_TIMEOUT_MS; ) {
    if (!isRunning() || failure !== '') {
      break;
    }
    if (await answers(socket)) {
      // The child must not keep its parent alive; the end of its standard input tells it that the parent is gone.
      child.unref();
      (child.stdin as unknown as { unref(): void }).unref();
      (child.stderr as unknown as { unref(): void }).unref();
      return {
        pid: child.pid!,
        isRunning,
        async stop() {
          child.kill('SIGTERM');
          // One that was stopped hears the signal once it goes on.
          child.kill('SIGCONT');
          const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
          await exited(child);
          clearTimeout(timer);
        },
        kill: (signal) => void child.kill(signal),
        get exited() {
          return exited(child);
        },
      };
    }
    await sleep(POLL_MS);
  }
  child.kill('SIGKILL');
  if (failure === '') {
    // What it said last may come after it has ended.
    await Promise.race([silent, sleep(LAST_WORDS_MS, undefined, { ref: false })]);
  }
  throw new DekdError(
    'AGENT_UNAVAILABLE',
    `the private agent did not start: ${said.trim() || failure || 'it said nothing'}`,
  );
}

function exited(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) {
      resolve();
    } else {
      child.once('exit', () => resolve());
      child.ref();
    }
  });
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
}
