import { type Stats, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { quote } from '../invocation.ts';
import { type Finding, failure, ok, warning } from './finding.ts';

const WRITABLE_BY_OTHERS = 0o002;
const ANY_OTHERS = 0o007;
const ANY_GROUP = 0o070;

/** Owner and mode of a data socket and its folder. */
export function dataSocketFindings(path: string): Finding[] {
  const folder = dirname(path);
  return [
    judge('socket folder', folder, (stats) =>
      (stats.mode & WRITABLE_BY_OTHERS) !== 0
        ? failure(
            'socket folder',
            `${describe(folder, stats)}: anybody may put a socket of theirs there`,
            `chmod o-w ${quote(folder)}`,
          )
        : undefined,
    ),
    judge('socket', path, (stats) => {
      if (!stats.isSocket()) {
        return failure('socket', `${path} is no socket`, 'remove it and start the agent again');
      }
      return (stats.mode & WRITABLE_BY_OTHERS) !== 0
        ? failure(
            'socket',
            `${describe(path, stats)}: every user may connect`,
            `chmod 660 ${quote(path)}, and give callers a group with socket.group`,
          )
        : undefined;
    }),
  ];
}

/** The admin socket is for its owner alone. */
export function adminSocketFindings(path: string): Finding[] {
  return [
    judge('admin socket', path, (stats) =>
      (stats.mode & (ANY_OTHERS | ANY_GROUP)) !== 0
        ? failure('admin socket', `${describe(path, stats)}: others may administer keys`, `chmod 600 ${quote(path)}`)
        : undefined,
    ),
  ];
}

function judge(check: string, path: string, problem: (stats: Stats) => Finding | undefined): Finding {
  let stats: Stats;
  try {
    stats = statSync(path);
  } catch (error) {
    return warning(
      check,
      `${path} cannot be looked at (${(error as NodeJS.ErrnoException).code})`,
      'start the agent, or run doctor as its user',
    );
  }
  return problem(stats) ?? ok(check, describe(path, stats));
}

function describe(path: string, { uid, gid, mode }: Stats): string {
  return `${path}, mode ${(mode & 0o7777).toString(8).padStart(4, '0')}, uid ${uid}, gid ${gid}`;
}
