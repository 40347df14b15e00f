import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const CODE_CACHE = fileURLToPath(new URL('../../node_modules/.cache/dekd-e2e', import.meta.url));
/** Files of formats that are frozen. */
const GOLDEN = fileURLToPath(new URL('../vectors/golden', import.meta.url));
const ENTRY = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));

export interface CommandResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A folder of its own with a `dekd` on its PATH, and perhaps an agent; nothing of the person's own is found from it. */
export class Workplace implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'dekd-cli-'));
  readonly socket = join(this.folder, 'run/agent.sock');
  readonly env: NodeJS.ProcessEnv;
  #agent: ChildProcess | undefined;

  constructor() {
    const shim = join(this.folder, 'bin');
    // What a test runner sets for its own children would be foreign code to the agent, and DEKD_ its configuration.
    const inherited = Object.entries(process.env).filter(([name]) => !/^(VITEST|LD_|DEKD_)/.test(name));
    this.env = {
      ...Object.fromEntries(inherited),
      PATH: `${shim}${delimiter}${process.env.PATH}`,
      HOME: this.folder,
      TMPDIR: this.folder,
      XDG_RUNTIME_DIR: '',
      XDG_STATE_HOME: '',
      NODE_OPTIONS: '',
      // Most of the time of a short command is reading TypeScript.
      NODE_COMPILE_CACHE: CODE_CACHE,
      DEKD_SOCKET: this.socket,
      GOLDEN,
    };
    writeShim(shim);
  }

  /** Runs a line of shell in `folder`. */
  async shell(command: string, folder = this.folder): Promise<CommandResult> {
    const child = spawn('/bin/sh', ['-c', command], {
      cwd: folder,
      env: this.env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return collect(child);
  }

  /** Starts `dekd dev` and waits until it is ready. */
  async startAgent(...options: string[]): Promise<void> {
    const child = spawn(
      process.execPath,
      ['--disable-sigusr1', ENTRY, 'dev', '--json', '--state', join(this.folder, 'state'), ...options],
      { env: this.env, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    this.#agent = child;
    let said = '';
    child.stderr.on('data', (text: Buffer) => {
      said += text;
    });
    await new Promise<void>((resolve, reject) => {
      child.stdout.on('data', (text: Buffer) => {
        said += text;
        if (said.includes('"ready":true')) {
          resolve();
        }
      });
      child.once('exit', (code) => reject(new Error(`the agent ended with ${code}: ${said}`)));
    });
  }

  /** @returns its exit code */
  async stopAgent(): Promise<number | null> {
    const agent = this.#agent;
    this.#agent = undefined;
    if (agent === undefined || agent.exitCode !== null) {
      return agent?.exitCode ?? null;
    }
    agent.kill('SIGTERM');
    await once(agent, 'exit');
    return agent.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopAgent();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The command as an installed package gives it: a file called `dekd` in a folder of PATH. */
function writeShim(folder: string): void {
  mkdirSync(folder);
  const shim = join(folder, 'dekd');
  writeFileSync(shim, `#!/bin/sh\nexec '${process.execPath}' --disable-sigusr1 '${ENTRY}' "$@"\n`);
  chmodSync(shim, 0o755);
}

async function collect(child: ChildProcess): Promise<CommandResult> {
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr };
}
