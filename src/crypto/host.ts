import { getSystemErrorName } from 'node:util';
import { loadBinding } from '../addon/binding.ts';
import { DekdError } from '../errors.ts';
import type { KeyHandle } from './engine.ts';

/**
 * What only native code can ask of the host. Without the addon every function says so (undefined or an empty list) and
 * does nothing; the caller decides whether that is a refusal.
 */

/** A caller as the kernel knows it. */
export interface PeerCredentials {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups: readonly number[];
}

/** What a look at the process's own memory found. */
export interface MemoryScan {
  /** Copies of the key's bytes outside of the key table. */
  readonly copies: number;
  /** Bytes looked at. */
  readonly bytes: number;
}

const MEASURES = ['no core file', 'empty core filter', 'not dumpable', 'no new privileges'] as const;

/**
 * Who connected the Unix socket behind `fd` (SO_PEERCRED, SO_PEERGROUPS).
 * @returns undefined without the addon. @throws INVALID_ARGUMENT when `fd` is not a connected Unix socket.
 */
export function peerCredentials(fd: number): PeerCredentials | undefined {
  const peer = loadBinding().binding?.peerIdentity(fd);
  if (typeof peer === 'number') {
    throw new DekdError('INVALID_ARGUMENT', `no peer credentials: ${getSystemErrorName(-peer)}`);
  }
  return peer;
}

/** Both ends of a pipe, as descriptors; whoever opened it closes them. */
export interface KeyPipe {
  readonly read: number;
  readonly write: number;
}

/**
 * Opens a pipe for the frames of `Engine.sendKey` and the calls beside it (pipe2, closed by exec). The end named by
 * `own` stays here and does not block. The other one blocks and is for a child: pass its number in `stdio`, since a
 * `'pipe'` there would be read by JavaScript, and close it here once the child runs, or its death is never seen.
 * @returns undefined without the addon. @throws RESOURCE_EXHAUSTED when there is no descriptor left.
 */
export function openPipe(own: 'read' | 'write'): KeyPipe | undefined {
  const pipe = loadBinding().binding?.openPipe(own === 'read' ? 0 : 1);
  if (typeof pipe === 'number') {
    throw new DekdError('RESOURCE_EXHAUSTED', `no pipe: ${getSystemErrorName(-pipe)}`);
  }
  return pipe;
}

/**
 * Takes the exclusive flock of the open file without waiting; it ends when the file is closed, also by a crash.
 * @returns whether it was taken; undefined without the addon. @throws INVALID_ARGUMENT when the file cannot be locked.
 */
export function lockFile(fd: number): boolean | undefined {
  const result = loadBinding().binding?.lockFile(fd);
  if (result === undefined) {
    return undefined;
  }
  if (result > 0) {
    throw new DekdError('INVALID_ARGUMENT', `cannot lock the file: ${getSystemErrorName(-result)}`);
  }
  return result === 0;
}

/**
 * Takes away what would let others read this process, for the rest of its life: core files, ptrace and
 * /proc/PID/mem for the same uid, privileges by exec.
 * @returns the measures that were taken, none without the addon.
 */
export function hardenProcess(): string[] {
  const taken = loadBinding().binding?.hardenProcess() ?? 0;
  return MEASURES.filter((_, bit) => (taken & (1 << bit)) !== 0);
}

/**
 * Counts copies of the key in this process's readable and writable memory outside of the key table. Blocks for about
 * half a second a gigabyte.
 * @returns undefined without the addon. @throws INTERNAL on a stale handle or when memory cannot be listed.
 */
export function scanForCopies(key: KeyHandle): MemoryScan | undefined {
  const result = loadBinding().binding?.countCopies(key);
  if (typeof result === 'number') {
    throw new DekdError('INTERNAL', `the memory scan failed with status ${result} of the addon`);
  }
  return result;
}

/**
 * DELIBERATELY leaves a copy of the key on the ordinary heap, to show that `scanForCopies` would find a leak. Clear it
 * with `proveLeakClear`. For `dekd prove` only.
 * @returns whether it was planted. @throws INTERNAL on a stale handle.
 */
export function proveLeakPlant(key: KeyHandle): boolean {
  const status = loadBinding().binding?.proveLeakPlant(key);
  if (status !== undefined && status !== 0) {
    throw new DekdError('INTERNAL', 'stale key handle');
  }
  return status === 0;
}

/** Wipes and frees what `proveLeakPlant` left. */
export function proveLeakClear(): void {
  loadBinding().binding?.proveLeakClear();
}
