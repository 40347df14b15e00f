/** An agent of this instance alone: a child, on a socket in a folder that only this user enters. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { connect as connectSocket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const { resolve } = createRequire(import.meta.url);
const COMMAND = join(dirname(resolve('dekd/package.json')), 'dist/cli/main.js');
const CONFIG = fileURLToPath(new URL('config.yaml', import.meta.url));
const START_TIMEOUT_MS = 10_000;

export interface Agent {
  readonly socket: string;
  close(): Promise<void>;
}

/** @throws when it does not start; why, it says in the log */
export async function startAgent(): Promise<Agent> {
  const folder = await mkdtemp(join(tmpdir(), 'orders-'));
  const socket = join(folder, 'agent.sock');
  // An agent does not start where other code could run in it.
  const { NODE_OPTIONS: _, ...env } = process.env;
  const args = ['--disable-sigusr1', COMMAND, 'run', '--config', CONFIG, '--socket', socket];
  // Its log goes where the platform reads that of the function.
  const child = spawn(process.execPath, args, { env, stdio: ['ignore', 2, 2] });
  const end = () => child.kill('SIGTERM');
  process.once('exit', end);
  const close = async () => {
    process.off('exit', end);
    if (isRunning(child)) {
      const exited = once(child, 'exit');
      end();
      await exited;
    }
    await rm(folder, { recursive: true, force: true });
  };
  for (const began = performance.now(); isRunning(child) && performance.now() - began < START_TIMEOUT_MS; ) {
    if (await answers(socket)) {
      return { socket, close };
    }
    await sleep(2);
  }
  await close();
  throw new Error(`the agent did not start (exit code ${child.exitCode})`);
}

function isRunning(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null;
}

function answers(path: string): Promise<boolean> {
  return new Promise((done) => {
    const probe = connectSocket(path);
    probe.once('connect', () => {
      probe.destroy();
      done(true);
    });
    probe.once('error', () => done(false));
  });
}
