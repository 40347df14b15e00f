import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';

/** Longer than the longest PIN of any token known to us (SoftHSM2 takes 255 bytes), and one line. */
const MAX_PIN_BYTES = 256;
const LINE_END_BYTES = 2;
const NEWLINE = 0x0a;
const RETURN = 0x0d;

export interface Pin {
  /** Without the end of the line; the caller's to wipe. */
  readonly bytes: Uint8Array;
  /** Differs once the file was written or replaced. */
  readonly identity: string;
}

/** The file with the PIN cannot be used; the message says why, and the remedy. */
export class PinFileError extends Error {
  override readonly name = 'PinFileError';
}

/** @throws PinFileError; an error of the file system never holds what the file does. */
export function readPin(path: string): Pin {
  const fd = openPinFile(path);
  const buffer = new Uint8Array(MAX_PIN_BYTES + LINE_END_BYTES + 1);
  try {
    // Checked on the open descriptor: whoever can rename files under the path cannot change what is read.
    const identity = checkedIdentity(path, fd);
    const length = trimmedLength(buffer, readSync(fd, buffer));
    if (length === 0 || length > MAX_PIN_BYTES) {
      throw new PinFileError(`the PIN file ${path} must hold one line of 1 to ${MAX_PIN_BYTES} bytes`);
    }
    return { bytes: buffer.slice(0, length), identity };
  } finally {
    buffer.fill(0);
    closeSync(fd);
  }
}

function openPinFile(path: string): number {
  try {
    // Without NONBLOCK the open of a FIFO put in the place of the file would hang.
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new PinFileError(`the PIN file ${path} cannot be opened (${code}): check path, owner and mode`);
  }
}

function checkedIdentity(path: string, fd: number): string {
  const stats = fstatSync(fd, { bigint: true });
  const own = process.geteuid?.() ?? 0;
  if (!stats.isFile()) {
    throw new PinFileError(`the PIN file ${path} is not a regular file`);
  }
  if (Number(stats.uid) !== own && stats.uid !== 0n) {
    throw new PinFileError(
      `the PIN file ${path} belongs to uid ${stats.uid}, not to uid ${own} or root: run chown ${own} on it`,
    );
  }
  if ((stats.mode & 0o077n) !== 0n) {
    const mode = (stats.mode & 0o7777n).toString(8).padStart(4, '0');
    throw new PinFileError(`the PIN file ${path} is open to group or others (mode ${mode}): run chmod 600 on it`);
  }
  return `${stats.dev}:${stats.ino}:${stats.size}:${stats.mtimeNs}`;
}

function trimmedLength(bytes: Uint8Array, length: number): number {
  let end = length;
  if (end > 0 && bytes[end - 1] === NEWLINE) {
    end--;
    if (end > 0 && bytes[end - 1] === RETURN) {
      end--;
    }
  }
  return end;
}
