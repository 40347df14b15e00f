/** Seccomp filters for processes of tests: of a profile as container runtimes read it, or of system calls by name. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCE = fileURLToPath(new URL('seccomp_run.c', import.meta.url));

interface Profile {
  readonly syscalls: readonly {
    readonly names: readonly string[];
    readonly action: 'SCMP_ACT_ALLOW' | 'SCMP_ACT_ERRNO';
    readonly errnoRet?: number;
    readonly args?: readonly {
      readonly index: number;
      readonly value: number;
      readonly valueTwo?: number;
      readonly op: string;
    }[];
  }[];
}

export function readProfile(path: string): Profile {
  return JSON.parse(readFileSync(path, 'utf8')) as Profile;
}

/** A profile that allows these system calls, and says of `absent` that the kernel does not have them. */
export function profileOf(names: readonly string[], absent: readonly string[]): Profile {
  return {
    syscalls: [
      { names, action: 'SCMP_ACT_ALLOW' },
      { names: absent, action: 'SCMP_ACT_ERRNO', errnoRet: 38 },
    ],
  };
}

/** Compiles a program that runs others under the profile. @returns its path */
export function compileFilter(folder: string, name: string, { syscalls }: Profile): string {
  const rules = join(folder, `${name}.rules`);
  const lines = syscalls.flatMap(({ names, action, errnoRet = 1, args }) => {
    const verdict = action === 'SCMP_ACT_ALLOW' ? 'ALLOW' : `ERRNO(${errnoRet})`;
    if ((args?.length ?? 0) > 1) {
      throw new Error(`${names.join(', ')}: conditions on more than one argument`);
    }
    return names.map((each) => `#ifdef __NR_${each}\nRULE(${each}, ${verdict}, ${condition(args?.[0])})\n#endif`);
  });
  writeFileSync(rules, `${lines.join('\n')}\n`);
  const program = join(folder, name);
  execFileSync('gcc', ['-O1', '-Wall', `-DRULES="${rules}"`, '-o', program, SOURCE], { stdio: 'inherit' });
  return program;
}

type Argument = NonNullable<Profile['syscalls'][number]['args']>[number];

function condition(argument: Argument | undefined): string {
  if (argument === undefined) {
    return '0, 0, 0, 0';
  }
  const { index, value, valueTwo = 0, op } = argument;
  switch (op) {
    case 'SCMP_CMP_EQ':
      return `1, ${index}, 0xffffffffu, ${value}u`;
    case 'SCMP_CMP_MASKED_EQ':
      return `1, ${index}, ${value}u, ${valueTwo}u`;
    default:
      throw new Error(`${op} is not known here`);
  }
}
