/** Places that a configuration need not name. */
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { MAX_SOCKET_PATH, type SocketSurroundings } from '../protocol/socket-paths.ts';
import type { Environment } from './environment.ts';

/** File read when neither a flag nor DEKD_CONFIG names one, if it is there. */
export const DEFAULT_CONFIG_FILE = '/etc/dekd/config.yaml';

/** The admin socket lies beside the data socket. */
export function adminSocketPath(dataSocket: string): string {
  return join(dirname(dataSocket), 'admin.sock');
}

/** And so does the lane socket, whose name clients are told. */
export function laneSocketPath(dataSocket: string): string {
  return join(dirname(dataSocket), 'lane.sock');
}

/** Where `dekd dev` keeps its root key and keystore when no folder is named. */
export function devStateFolder(env: Environment): string {
  const base = env.XDG_STATE_HOME;
  return base?.startsWith('/') ? join(base, 'dekd/dev') : join(env.HOME || homedir(), '.local/state/dekd/dev');
}

export function surroundings(env: Environment): SocketSurroundings {
  return { env, uid: process.getuid?.(), temporaryFolder: tmpdir() };
}

/** What is wrong with a socket path, or undefined. */
export function socketPathProblem(path: string): string | undefined {
  const length = Buffer.byteLength(path);
  return length > MAX_SOCKET_PATH ? `is ${length} bytes long; a socket path holds ${MAX_SOCKET_PATH}` : undefined;
}
