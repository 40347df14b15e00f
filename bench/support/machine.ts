/** What figures were measured on; a figure without it says nothing. */
import { execFileSync } from 'node:child_process';
import { cpus, loadavg, release } from 'node:os';

export interface Machine {
  readonly date: string;
  readonly commit: string;
  readonly cpu: string;
  readonly cores: number;
  readonly kernel: string;
  readonly node: string;
  readonly openssl: string;
  /** Load of the last minute when the run began: above the cores that the bench itself uses, figures suffer. */
  readonly load: number;
}

const load = loadavg()[0]!;

export function machine(): Machine {
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: commit(),
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    kernel: release(),
    node: process.version,
    openssl: process.versions.openssl ?? 'unknown',
    load,
  };
}

export function machineLine(): string {
  const { date, commit, cpu, cores, node, openssl, load } = machine();
  return `${date}, commit ${commit}, ${cores} × ${cpu}, Node ${node}, OpenSSL ${openssl}, load ${load.toFixed(1)} at start`;
}

function commit(): string {
  try {
    const git = (...args: string[]) =>
      execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return `${git('rev-parse', '--short', 'HEAD').trim()}${git('status', '--porcelain').trim() === '' ? '' : ' and changes'}`;
  } catch {
    return 'none';
  }
}
