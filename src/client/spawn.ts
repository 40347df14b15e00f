/** A private agent as a child: ephemeral root, memory keystore, own socket. It ends when its parent does. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { DekdError } from '../errors.ts';

const START_TIMEOUT_MS = 5_000;
const POLL_MS = 4;

export interface SpawnedAgent {
  readonly socket: string;
  isRunning(): boolean;
  stop(): Promise<void>;
}

/** @throws AGENT_UNAVAILABLE with what the child said, when it does not come up */
export async function spawnAgent(): Promise<SpawnedAgent> {
  const folder = await mkdtemp(join(tmpdir(), 'dekd-'));
  const socket = join(folder, 'agent.sock');
  // From .ts in development, from .js once built: the entry has the extension of this file.
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const entry = fileURLToPath(new URL(`../cli/main.${extension}`, import.meta.url));
  // A Node too old to know the option is too old for the agent, which says so better than Node would.
  const flags = process.allowedNodeEnvironmentFlags.has('--disable-sigusr1') ? ['--disable-sigusr1'] : [];
  const child = spawn(
    process.execPath,
    [...flags, entry, 'dev', '--ephemeral', '--socket', socket, '--until-stdin-ends'],
    { stdio: ['pipe', 'ignore', 'pipe'], env: { ...process.env, NODE_OPTIONS: '' } },
  );
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
  const isRunning = (): boolean => child.exitCode === null && child.signalCode === null;
  const stop = async (): Promise<void> => {
    child.stdin.end();
    await exited(child);
    await rm(folder, { recursive: true, force: true });
  };
  for (const began = performance.now(); performance.now() - began < START_TIMEOUT_MS; ) {
    if (!isRunning() || failure !== '') {
      break;
    }
    if (await answers(socket)) {
      // The child must not keep its parent alive; the end of its standard input tells it that the parent is gone.
      child.unref();
      (child.stdin as unknown as { unref(): void }).unref();
      (child.stderr as unknown as { unref(): void }).unref();
      return { socket, isRunning, stop };
    }
    await sleep(POLL_MS);
  }
  child.kill('SIGKILL');
  await rm(folder, { recursive: true, force: true });
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
