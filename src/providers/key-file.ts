import { closeSync, constants, fstatSync, fsyncSync, openSync, type Stats } from 'node:fs';
import { dirname } from 'node:path';
import type { Engine, KeyHandle, KeyUse } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';

/**
 * Reads the key in a file (32 bytes as one base64 line) straight into the table. The file must be a regular one of the own
 * user or root, and closed to everybody else.
 * @param what what it is, for messages: `root key file`
 * @param use that of root keys unless given
 * @returns a handle that the caller owns. @throws INVALID_ARGUMENT with the remedy; RESOURCE_EXHAUSTED.
 */
export function readKeyFile(engine: Engine, path: string, what: string, use?: KeyUse): KeyHandle {
  const fd = openKeyFile(path, what, use);
  try {
    // Checked on the open descriptor: whoever can rename files under the path cannot change what is read.
    checkKeyFile(path, what, fstatSync(fd));
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return readKeyFrom(engine, fd, `${what} ${path}`, use);
}

/** Reads the key at `fd`. Closes `fd` whatever comes of it: nothing that this process starts may inherit it. */
export function readKeyFrom(engine: Engine, fd: number, what: string, use?: KeyUse): KeyHandle {
  try {
    return engine.readRootKey(fd, use);
  } catch (error) {
    if (DekdError.is(error, 'RESOURCE_EXHAUSTED')) {
      throw error;
    }
    const detail = error instanceof Error ? error.message : String(error);
    const kind = use === undefined ? 'root key' : 'key';
    throw new DekdError('INVALID_ARGUMENT', `${what} does not hold a ${kind}: ${detail}; ${originOf(use)}`, {
      cause: error,
    });
  } finally {
    tryClose(fd);
  }
}

/** Writes a new root key (0600) unless the file is there already. */
export function makeKeyFile(engine: Engine, path: string): void {
  let fd: number;
  try {
    fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') {
      return;
    }
    throw new DekdError('INVALID_ARGUMENT', `root key file ${path} cannot be made (${code}): ${remedyOf(code, path)}`, {
      cause: error,
    });
  }
  try {
    engine.writeRootKey(fd);
    // Records wrapped under a root key that a power cut takes away would be lost with it.
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  const folder = openSync(dirname(path), constants.O_RDONLY);
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

function openKeyFile(path: string, what: string, use: KeyUse | undefined): number {
  try {
    // Without NONBLOCK the open of a FIFO put in the place of the key would hang the agent.
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') {
      throw new DekdError('INVALID_ARGUMENT', `${what} ${path} does not exist; ${originOf(use)}`);
    }
    throw new DekdError('INVALID_ARGUMENT', `${what} ${path} cannot be opened (${code}): ${remedyOf(code, path)}`, {
      cause: error,
    });
  }
}

/** Where a key in a file comes from. A new one would open nothing of an application that had its own. */
function originOf(use: KeyUse | undefined): string {
  return use?.purpose === 'seal'
    ? 'put the 32 bytes that the application had there, or their base64 as one line'
    : 'dekd keygen makes one';
}

function remedyOf(code: string | undefined, path: string): string {
  return code === 'EACCES' || code === 'EPERM'
    ? `run chown ${ownUid()} ${quoted(path)} && chmod 600 ${quoted(path)}`
    : 'check the path';
}

function checkKeyFile(path: string, what: string, stats: Stats): void {
  if (!stats.isFile()) {
    throw new DekdError('INVALID_ARGUMENT', `${what} ${path} is not a regular file`);
  }
  if (stats.uid !== ownUid() && stats.uid !== 0) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `${what} ${path} belongs to uid ${stats.uid}, not to uid ${ownUid()} or root: ` +
        `run chown ${ownUid()} ${quoted(path)}`,
    );
  }
  if ((stats.mode & (isCredential(path) ? 0o037 : 0o077)) !== 0) {
    const mode = (stats.mode & 0o7777).toString(8).padStart(4, '0');
    throw new DekdError(
      'INVALID_ARGUMENT',
      `${what} ${path} is open to group or others (mode ${mode}): run chmod 600 ${quoted(path)}`,
    );
  }
}

/**
 * Whether systemd hands the file over (`LoadCredential=`). It lets the user in by an access list, whose mask shows as the bits
 * of the group; the folder lets in nobody else.
 */
function isCredential(path: string): boolean {
  return process.env.CREDENTIALS_DIRECTORY !== undefined && dirname(path) === process.env.CREDENTIALS_DIRECTORY;
}

function ownUid(): number {
  return process.geteuid?.() ?? 0;
}

function quoted(path: string): string {
  return /^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}

function tryClose(fd: number): void {
  try {
    closeSync(fd);
  } catch {
    // An inherited descriptor that was never open is reported by the read before.
  }
}
