/**
 * Where the agent listens and the client looks: one list for both, so that neither needs to be told.
 */
import { join } from 'node:path';

/** What the list depends on; given, not read, so that the list is a function. */
export interface SocketSurroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Own uid; undefined where the platform has none. */
  readonly uid: number | undefined;
  /** The folder for temporary files. */
  readonly temporaryFolder: string;
}

/** Data socket of an agent that serves the node or the pod. */
export const SYSTEM_SOCKET = '/run/dekd/agent.sock';

/** Longest socket path in bytes: `sun_path` has 108, one of them the final zero. */
export const MAX_SOCKET_PATH = 107;

function userSockets({ env }: SocketSurroundings): string[] {
  return env.XDG_RUNTIME_DIR ? [join(env.XDG_RUNTIME_DIR, 'dekd/agent.sock')] : [];
}

function temporarySocket({ uid, temporaryFolder }: SocketSurroundings): string {
  return join(temporaryFolder, `dekd-${uid ?? 'user'}`, 'agent.sock');
}

/** Paths a client tries in this order; a set DEKD_SOCKET is the only one. */
export function clientSocketPaths(surroundings: SocketSurroundings): string[] {
  const named = surroundings.env.DEKD_SOCKET;
  return named ? [named] : [...userSockets(surroundings), SYSTEM_SOCKET, temporarySocket(surroundings)];
}

/** The path an agent binds when its configuration names none: `dev` falls back to the temporary folder, `run` never. */
export function agentSocketPath(surroundings: SocketSurroundings, mode: 'run' | 'dev'): string {
  const named = surroundings.env.DEKD_SOCKET;
  const [user] = userSockets(surroundings);
  return named || user || (mode === 'dev' ? temporarySocket(surroundings) : SYSTEM_SOCKET);
}
