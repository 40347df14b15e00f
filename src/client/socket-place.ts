/** Which socket to connect to, and whether its folder can be trusted. */
import { type Stats, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname } from 'node:path';
import { DekdError } from '../errors.ts';
import { clientSocketPaths, SYSTEM_SOCKET } from '../protocol/socket-paths.ts';

const OTHERS_MAY_WRITE = 0o002;

/** The sockets a client would try, in order. */
export function socketCandidates(given: string | undefined): string[] {
  if (given !== undefined) {
    return [given];
  }
  return clientSocketPaths({ env: process.env, uid: process.getuid?.(), temporaryFolder: tmpdir() });
}

/**
 * The first candidate that exists.
 * @throws AGENT_UNAVAILABLE when none does; PERMISSION_DENIED when its own folder can be written by others, who could
 * put a socket of theirs in its place and be handed every plaintext
 */
export function findSocket(given: string | undefined): string {
  const candidates = socketCandidates(given);
  for (const path of candidates) {
    const stats = look(path);
    if (stats === undefined) {
      continue;
    }
    if (!stats.isSocket()) {
      throw new DekdError('AGENT_UNAVAILABLE', `${path} is not a socket`);
    }
    const folder = dirname(path);
    const { mode, uid } = statSync(folder);
    if (!isNamed(given) && path !== SYSTEM_SOCKET && uid !== process.getuid?.()) {
      throw new DekdError(
        'PERMISSION_DENIED',
        `the folder of ${path} belongs to uid ${uid}: that user could answer there; set DEKD_SOCKET if that is meant`,
      );
    }
    if ((mode & OTHERS_MAY_WRITE) !== 0) {
      throw new DekdError(
        'PERMISSION_DENIED',
        `the folder of ${path} is writable by others (mode ${(mode & 0o7777).toString(8)}): anybody could answer there; chmod o-w ${folder}`,
      );
    }
    return path;
  }
  throw new DekdError(
    'AGENT_UNAVAILABLE',
    `no agent socket: tried ${candidates.join(', ')}; start one with 'dekd dev', or set DEKD_SOCKET`,
  );
}

/** A path that somebody chose is theirs to trust; the usual places are only trusted when nobody else can make them. */
function isNamed(given: string | undefined): boolean {
  return given !== undefined || Boolean(process.env.DEKD_SOCKET);
}

function look(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    throw new DekdError('AGENT_UNAVAILABLE', `cannot look at ${path}: ${(error as Error).message}`, { cause: error });
  }
}
