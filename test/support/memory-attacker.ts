/** The attacker of memory_attacker.cc, compiled for the occasion. */
import { execFileSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCE = fileURLToPath(new URL('memory_attacker.cc', import.meta.url));

/** What each attempt got: 0 where the kernel let it through, else errno. */
export interface Attack {
  readonly mem: number;
  readonly environ: number;
  readonly ptrace: number;
  readonly vm: number;
  /** Descriptors that pidfd_getfd copied, and those of them that are secret memory. */
  readonly descriptors: number;
  readonly secret: number;
  readonly descriptorErrno: number;
}

/** @param folder where the program is compiled to, and where others may run it. @returns its path */
export function compileAttacker(folder: string): string {
  const program = join(folder, 'memory_attacker');
  execFileSync('g++', ['-O1', '-std=c++20', '-o', program, SOURCE], { stdio: 'inherit' });
  chmodSync(folder, 0o755);
  return program;
}

/** @param as what is put in front of the attacker, such as setpriv */
export function attack(program: string, pid: number, as: readonly string[] = [], address = '0'): Attack {
  const [file, ...rest] = [...as, program, String(pid), address];
  return JSON.parse(execFileSync(file!, rest, { encoding: 'utf8' })) as Attack;
}
