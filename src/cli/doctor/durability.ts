import { statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Finding, failure, ok, warning } from './finding.ts';

/** `f_type` of statfs(2). */
const TMPFS = 0x01021994;
const RAMFS = 0x858458f6;
const OVERLAY = 0x794c7630;

export interface KeystorePlace {
  readonly kind: string;
  /** Path of the database or of the bundle. */
  readonly path: string | undefined;
  /** Whether losing it is expected: by configuration, or because the agent is for development. */
  readonly acceptLoss: boolean;
}

/**
 * Whether the keystore outlives the agent, the container and the machine.
 * @param section of the configuration that the keystore is
 */
export function durabilityFinding(keystore: KeystorePlace, section = 'keystore'): Finding {
  const { kind, path, acceptLoss } = keystore;
  if (kind === 'memory') {
    const found = 'kind memory: every token dies with the agent';
    const remedy = `${section}.kind: sqlite, on a volume that outlives the pod, or postgres`;
    return acceptLoss ? warning('keystore', `${found}, as configured`, remedy) : failure('keystore', found, remedy);
  }
  if (path === undefined) {
    return ok('keystore', kind);
  }
  const type = fileSystem(path);
  if (type === TMPFS || type === RAMFS) {
    return failure(
      'keystore',
      `${kind} at ${path}, in memory (tmpfs): gone after a restart`,
      `move ${section}.path to a disk`,
    );
  }
  if (type === OVERLAY) {
    return warning(
      'keystore',
      `${kind} at ${path}, in the layer of a container: gone with it`,
      `mount a volume and put ${section}.path there`,
    );
  }
  return ok('keystore', `${kind} at ${path}, on a disk; keep a copy with dekd keys export`);
}

function fileSystem(path: string): number | undefined {
  for (const candidate of [path, dirname(path)]) {
    try {
      return statfsSync(candidate).type;
    } catch {
      // A database that is not there yet: its folder says the same.
    }
  }
  return undefined;
}
