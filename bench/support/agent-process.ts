/** An agent as a child, in the form that applications meet it: `dekd dev` from dist/, with a socket in a folder of its own. */
import { execFileSync } from 'node:child_process';
import { existsSync, globSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { EngineName } from '../../src/crypto/engine.ts';
import { Child, profileFlags } from './child.ts';
import { residentBytes } from './memory-track.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const ENTRY = join(ROOT, 'dist/cli/main.js');
export const CUSTODIAN = join(ROOT, 'dist/custody/custodian.js');

/** Builds dist/ when it is not there or older than what it is made from: start, memory and speed are those of dist/. */
export function ensureDist(): void {
  const built = existsSync(ENTRY) ? statSync(ENTRY).mtimeMs : 0;
  const sources = globSync('src/**/*.{ts,js}', { cwd: ROOT });
  if (sources.some((file) => statSync(join(ROOT, file)).mtimeMs > built)) {
    execFileSync(process.execPath, [join(ROOT, 'native/build.mjs'), '--dist'], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }
}

export interface AgentOptions {
  readonly engine?: EngineName;
  /** A folder whose state the agent uses; ephemeral without. */
  readonly state?: string;
  /** Flags of Node, and variables, beside its own. */
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export class AgentProcess {
  readonly folder = mkdtempSync(join(tmpdir(), 'dekd-bench-'));
  readonly socket = join(this.folder, 'socket', 'agent.sock');
  readonly child: Child;

  /** Starts the agent and does not wait for it. */
  constructor({ engine = 'native', state, flags = [], env = {} }: AgentOptions = {}) {
    const where = state === undefined ? ['--ephemeral'] : ['--state', state];
    this.child = new Child(ENTRY, ['dev', '--json', '--until-stdin-ends', '--socket', this.socket, ...where], {
      flags: ['--disable-sigusr1', ...profileFlags('agent'), ...flags],
      env: { DEKD_ENGINE: engine, ...env },
    });
  }

  static async start(options: AgentOptions = {}): Promise<AgentProcess> {
    const agent = new AgentProcess(options);
    await agent.child.says('"ready":true');
    return agent;
  }

  /** Resident memory in bytes, as the kernel counts it. */
  get residentBytes(): number {
    return residentBytes(this.child.pid);
  }

  async stop(): Promise<void> {
    await this.child.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
