import { readFileSync } from 'node:fs';
import { readSwapSources, SWAP_REMEDY, swapAreas } from '../../agent/swap.ts';
import type { LockLevel } from '../../crypto/engine.ts';
import { loadEngine } from '../../crypto/load.ts';
import { foreignCode, nodeProblem } from '../host-checks.ts';
import { byteSize } from '../terminal.ts';
import { type Finding, failure, ok, warning } from './finding.ts';

/** 1,024 key slots of 64 bytes: what the locked arena takes by default. */
const ARENA_BYTES = 64 * 1024;

/** Node, foreign code, the engine that would be used here, what this user may lock, and what can be swapped. */
export async function hostFindings(): Promise<Finding[]> {
  const lockable = memlock('/proc/self/limits', 'memlock', 'this user');
  return [node(), ...surroundings(), ...(await engine()), lockable, swapFinding(swapAreas(readSwapSources()))];
}

function node(): Finding {
  const problem = nodeProblem(process.version);
  const found = `Node ${process.version}, OpenSSL ${process.versions.openssl}`;
  return problem === undefined ? ok('node', found) : failure('node', problem, 'install a newer Node for the agent');
}

function surroundings(): Finding[] {
  const found = foreignCode(process.env, process.execArgv);
  return found.length === 0
    ? [ok('surroundings', 'no variable or option loads foreign code')]
    : [warning('surroundings', found.join(', '), 'unset it for the agent: dekd run refuses to start with it')];
}

async function engine(): Promise<Finding[]> {
  const { engine: loaded, fallback } = await loadEngine({
    engine: 'auto',
    minimumLockLevel: 'heap',
    snapshotSafe: false,
  });
  const { name, library, cpu, lockLevel, lockReason } = loaded.info;
  loaded.close();
  const found = [name, library, cpu].filter((part) => part !== '').join(', ');
  return [
    fallback === undefined
      ? ok('engine', found)
      : warning(
          'engine',
          `${found}: slower, and keys on the JavaScript heap; the native engine does not load: ${fallback}`,
          'build it with npm run build:native (a C++ compiler, and CMake or Python 3), or install the package with its prebuild',
        ),
    lockFinding('lock', lockLevel, lockReason),
  ];
}

/** Whether plaintext on the heap can reach a disk; keys cannot, from level locked on. */
export function swapFinding(areas: readonly string[]): Finding {
  return areas.length === 0
    ? ok('swap', 'memory of this process is not swapped to a disk')
    : warning('swap', `what an agent encrypts and decrypts can be swapped to ${areas.join(', ')}`, SWAP_REMEDY);
}

/** How good a lock level is, and how to get a better one. */
export function lockFinding(check: string, level: LockLevel | string, reason: string): Finding {
  const because = reason === '' ? '' : ` (${reason})`;
  switch (level) {
    case 'secret':
      return ok(check, 'keys in memfd_secret memory: not even root reads them through /proc');
    case 'locked':
      return warning(
        check,
        `keys in locked memory: never swapped or dumped, but root can read them${because}`,
        'for level secret: Linux 5.14 or newer, with secretmem.enable=1 on the kernel command line before 6.5',
      );
    default:
      return failure(
        check,
        `keys on the ordinary heap: they can be swapped and dumped${because}`,
        'use the native engine and allow locking: ulimit -l 64, LimitMEMLOCK=64K under systemd, or a runtime that allows mlock',
      );
  }
}

/** What RLIMIT_MEMLOCK leaves for keys. */
export function memlock(limitsFile: string, check: string, whose: string): Finding {
  let text: string;
  try {
    text = readFileSync(limitsFile, 'utf8');
  } catch {
    return warning(check, `the limits of ${whose} cannot be read`, 'run doctor as the user of the agent, on Linux');
  }
  const soft = /^Max locked memory\s+(\S+)/m.exec(text)?.[1] ?? 'unknown';
  if (soft === 'unlimited' || Number(soft) >= ARENA_BYTES) {
    const amount = soft === 'unlimited' ? 'any amount' : byteSize(Number(soft));
    return ok(check, `${whose} may lock ${amount}; 1,024 keys take ${byteSize(ARENA_BYTES)}`);
  }
  return warning(
    check,
    `${whose} may lock ${byteSize(Number(soft))}; 1,024 keys take ${byteSize(ARENA_BYTES)}`,
    'ulimit -l 64, LimitMEMLOCK=64K under systemd; in a container the limit comes from the runtime',
  );
}
