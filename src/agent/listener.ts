/**
 * A Unix socket that appears whole and is never taken from under a live agent.
 *
 * It is bound under a temporary name in a folder nobody else can write to, gets its mode and group, and is then renamed
 * into place: a client sees the old socket or the new one, never one with wrong permissions, and the predecessor's close
 * (which unlinks the name it was bound under) does not remove its successor's. Who holds the path is said by flock on a
 * file beside it, which dies with its holder, so that a socket left behind by a kill is told from a live one.
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, lstatSync, mkdirSync, renameSync, rmSync, type Stats, statSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { DekdError } from '../errors.ts';
import { MAX_SOCKET_PATH } from '../protocol/socket-paths.ts';
import { type HeldFile, holdFile, isSameFile, type TryLock } from './held-file.ts';

/** Beyond the kernel's default of 4,096 (net.core.somaxconn) it would be cut anyway. */
const BACKLOG = 4096;
const GROUP_OR_OTHERS_MAY_WRITE = 0o022;
const PARENT_MODE = 0o755;
const SET_GID = 0o2000;

export interface ListenOptions {
  readonly path: string;
  readonly mode: number;
  /** Group of socket and folder; undefined leaves what the folder gives. */
  readonly group: number | undefined;
  /** Mode of the folder when it has to be made. */
  readonly folderMode: number;
  /** Takes the path over from a live holder. */
  readonly replace: boolean;
  readonly lock: TryLock;
  /** Takes a connection that has not been read from. */
  readonly accept: (socket: Socket) => void;
}

export interface Listener {
  readonly path: string;
  /** Stops accepting and removes the socket, unless a successor has put its own there. */
  stop(): void;
}

/** @throws INVALID_ARGUMENT when the path or its folder is unsafe; CONFLICT when a live agent holds the path */
export async function listen(options: ListenOptions): Promise<Listener> {
  const { path } = options;
  const folder = dirname(path);
  const temporary = join(folder, `.${randomBytes(3).toString('hex')}`);
  checkLength(path);
  // The name it is bound under first may be the longer one.
  checkLength(temporary);
  let lock: HeldFile;
  try {
    prepareFolder(folder, options);
    lock = await takeLock(options);
  } catch (error) {
    throw cannotListen(path, error);
  }
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, options.accept);
  try {
    await bind(server, temporary);
    if (options.group !== undefined) {
      chownSync(temporary, -1, options.group);
    }
    chmodSync(temporary, options.mode);
    renameSync(temporary, path);
  } catch (error) {
    server.close();
    rmSync(temporary, { force: true });
    lock.release();
    throw cannotListen(path, error);
  }
  const own = lstatSync(path);
  return {
    path,
    stop() {
      server.close();
      if (isSameFile(path, own)) {
        rmSync(path, { force: true });
      }
      lock.release();
    },
  };
}

function cannotListen(path: string, error: unknown): DekdError {
  return DekdError.is(error)
    ? error
    : new DekdError('INVALID_ARGUMENT', `cannot listen on ${path}: ${(error as Error).message}`, { cause: error });
}

function checkLength(path: string): void {
  const length = Buffer.byteLength(path);
  if (length > MAX_SOCKET_PATH || path.startsWith('@') || path.includes('\0')) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `socket path ${path} is not usable: a file path of at most ${MAX_SOCKET_PATH} bytes is (this has ${length})`,
    );
  }
}

/** Makes the folder, or checks that nobody but its owner can swap the socket in it. */
function prepareFolder(folder: string, options: ListenOptions): void {
  let stats: Stats;
  try {
    stats = statSync(folder);
  } catch {
    const parent = dirname(folder);
    makeParents(parent);
    // In a volume whose group the pod sets (set-group-ID on the parent), the folder keeps handing that group down.
    const inherited = statSync(parent).mode & SET_GID;
    mkdirSync(folder, { mode: options.folderMode });
    if (options.group !== undefined) {
      chownSync(folder, -1, options.group);
    }
    chmodSync(folder, options.folderMode | inherited);
    stats = statSync(folder);
  }
  if (!stats.isDirectory()) {
    throw new DekdError('INVALID_ARGUMENT', `${folder} is not a folder`);
  }
  const uid = process.getuid!();
  if (stats.uid !== uid || (stats.mode & GROUP_OR_OTHERS_MAY_WRITE) !== 0) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `socket folder ${folder} (owner ${stats.uid}, mode ${(stats.mode & 0o7777).toString(8)}) must belong to uid ${uid} and be ` +
        `writable by it alone: chmod go-w it, or use a folder of its own, such as ${join(folder, 'dekd', basename(options.path))}`,
    );
  }
  const existing = lstatSync(options.path, { throwIfNoEntry: false });
  if (existing !== undefined && !existing.isSocket()) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `${options.path} exists and is not a socket: remove it or choose another path`,
    );
  }
}

/** Folders on the way to the sockets' own are for everybody to pass through, whatever the umask. */
function makeParents(folder: string): void {
  const first = mkdirSync(folder, { recursive: true });
  for (let made = folder; first !== undefined && made.length >= first.length; made = dirname(made)) {
    chmodSync(made, PARENT_MODE | (statSync(made).mode & SET_GID));
  }
}

function bind(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ path, backlog: BACKLOG }, () => {
      server.removeListener('error', reject);
      // After this an error on the listening socket (EMFILE and its like) is a connection not accepted, not a crash.
      server.on('error', () => {});
      resolve();
    });
  });
}

async function takeLock(options: ListenOptions): Promise<HeldFile> {
  const holding = holdFile(`${options.path}.lock`, options.lock, options.replace);
  // Without flock, a holder that answers is alive.
  if (holding === 'held' || (holding === undefined && !options.replace && (await answers(options.path)))) {
    throw held(options.path);
  }
  return holding ?? { release() {} };
}

function held(path: string): DekdError {
  return new DekdError(
    'CONFLICT',
    `a live agent serves ${path}: stop it, use another socket, or take over from it with run --replace`,
  );
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
}
