/**
 * Where the audit key comes from, run after run.
 *
 * The first key is made by `dekd keygen` and copied to the auditor, who alone keeps it. The agent reads it once. With a state
 * folder, each run uses the key of its generation and leaves only the next one behind, so that the folder never holds what
 * made earlier lines. Without one, every run begins at the first key, with an id of its own.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, renameSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { hex } from '../bytes.ts';
import type { Engine, KeyHandle, KeyUse } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';
import { CHAIN_USE } from './chain-key.ts';
import { LABEL } from './format.ts';

const DIGEST_USE: KeyUse = { algorithm: 'hmac-sha-256', purpose: 'mac' };
const DIGEST_LABEL = 'dekd/v1/audit/digest';

export interface AuditKeys {
  /** kid of the first key, in hex: which of his keys the auditor needs. */
  readonly keyId: string;
  /** Runs before this one under that key. */
  readonly generation: number;
  /** The key of this generation. */
  readonly key: KeyHandle;
  /** Of digests of contexts; the same for all runs. */
  readonly digestKey: KeyHandle;
  /** Leaves the key of the next generation in the state folder and wipes that of this one, everywhere. */
  advance(): void;
  close(): void;
}

/**
 * @param first the first key, taken over; undefined where it is not at hand any more
 * @param state the agent's state folder
 * @throws INVALID_ARGUMENT with the remedy
 */
export function openAuditKeys(engine: Engine, first: KeyHandle | undefined, state: string | undefined): AuditKeys {
  const folder = state === undefined ? undefined : join(state, 'audit');
  const kept = folder === undefined ? undefined : keptIn(folder);
  const firstId = first === undefined ? undefined : hex(engine.kid(first));
  if (kept !== undefined && folder !== undefined && (firstId === undefined || firstId === kept.keyId)) {
    if (first !== undefined) {
      engine.destroyKey(first);
    }
    const key = readKey(engine, join(folder, kept.name));
    const context = readKey(engine, join(folder, `${kept.keyId}-context.key`));
    return keysOf(engine, folder, kept.keyId, kept.generation, key, context);
  }
  if (first === undefined || firstId === undefined) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      'the audit log has no key: dekd keygen -o FILE makes one for audit.keyFile; keep a copy with the auditor',
    );
  }
  const context = engine.deriveKey(first, LABEL.context, CHAIN_USE);
  if (folder !== undefined) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    writeKey(engine, context, folder, `${firstId}-context.key`);
  }
  return keysOf(engine, folder, firstId, 0, first, context);
}

function keysOf(
  engine: Engine,
  folder: string | undefined,
  keyId: string,
  generation: number,
  key: KeyHandle,
  context: KeyHandle,
): AuditKeys {
  const digestKey = engine.deriveKey(context, DIGEST_LABEL, DIGEST_USE);
  engine.destroyKey(context);
  return {
    keyId,
    generation,
    key,
    digestKey,
    advance() {
      if (folder !== undefined) {
        const next = engine.deriveKey(key, LABEL.generation, CHAIN_USE);
        try {
          const name = nameOf(keyId, generation + 1);
          writeKey(engine, next, folder, name);
          removeOthers(folder, [name, `${keyId}-context.key`]);
        } finally {
          engine.destroyKey(next);
        }
      }
      engine.destroyKey(key);
    },
    close() {
      engine.destroyKey(key);
      engine.destroyKey(digestKey);
    },
  };
}

/** The key of a generation, from the first. @returns a key that the caller owns */
export function generationKey(engine: Engine, first: KeyHandle, generation: number): KeyHandle {
  let key = engine.deriveKey(first, LABEL.generation, CHAIN_USE);
  for (let i = 1; i < generation; i++) {
    const next = engine.deriveKey(key, LABEL.generation, CHAIN_USE);
    engine.destroyKey(key);
    key = next;
  }
  return key;
}

/** The key of digests of contexts, from the first key. @returns a key that the caller owns */
export function firstDigestKey(engine: Engine, first: KeyHandle): KeyHandle {
  const context = engine.deriveKey(first, LABEL.context, CHAIN_USE);
  try {
    return engine.deriveKey(context, DIGEST_LABEL, DIGEST_USE);
  } finally {
    engine.destroyKey(context);
  }
}

/** The digest of the canonical bytes of a context: HMAC-SHA-256, first 16 bytes. */
export function contextDigest(engine: Engine, digestKey: KeyHandle, context: Uint8Array): string {
  return Buffer.from(engine.mac(digestKey, '', context).subarray(0, 16)).toString('base64url');
}

function nameOf(keyId: string, generation: number): string {
  return `${keyId}-${generation}.key`;
}

function keptIn(
  folder: string,
): { readonly name: string; readonly keyId: string; readonly generation: number } | undefined {
  let found: { name: string; keyId: string; generation: number } | undefined;
  for (const name of namesIn(folder)) {
    const [, keyId, digits] = /^([0-9a-f]{32})-(\d{1,9})\.key$/.exec(name) ?? [];
    const generation = Number(digits);
    if (keyId !== undefined && (found === undefined || generation > found.generation)) {
      found = { name, keyId, generation };
    }
  }
  return found;
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      return [];
    }
    throw unusable(folder, error);
  }
}

function readKey(engine: Engine, path: string): KeyHandle {
  let fd: number | undefined;
  try {
    fd = openSync(path, 'r');
    return engine.readRootKey(fd, CHAIN_USE);
  } catch (error) {
    throw unusable(path, error);
  } finally {
    if (fd !== undefined) {
      closeSync(fd);
    }
  }
}

/** Under a name of its own first, so that there is the whole file or none; on disk when this returns. */
function writeKey(engine: Engine, key: KeyHandle, folder: string, name: string): void {
  const path = join(folder, name);
  const temporary = `${path}.new`;
  try {
    const fd = openSync(temporary, 'w', 0o600);
    try {
      engine.writeKey(key, fd);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
    syncFolder(folder);
  } catch (error) {
    throw unusable(path, error);
  }
}

function removeOthers(folder: string, kept: readonly string[]): void {
  for (const name of readdirSync(folder)) {
    if (!kept.includes(name)) {
      unlinkSync(join(folder, name));
    }
  }
  syncFolder(folder);
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function unusable(path: string, error: unknown): DekdError {
  const detail = (error as NodeJS.ErrnoException).code ?? DekdError.from(error).message;
  return new DekdError(
    'INVALID_ARGUMENT',
    `the state of the audit key, ${path}, cannot be used (${detail}): put it right, or begin again with a new key in audit.keyFile and without that folder`,
    { cause: error },
  );
}
