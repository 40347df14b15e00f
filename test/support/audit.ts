/** Agents with an audit log, and what their log says. */
import { createReadStream, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Anchor, anchorOf } from '../../src/audit/anchors.ts';
import { CHAIN_USE } from '../../src/audit/chain-key.ts';
import { auditFiles } from '../../src/audit/find-incident.ts';
import { linesOf } from '../../src/audit/lines.ts';
import { type AuditVerdict, Verifier } from '../../src/audit/verifier.ts';
import { askAdmin } from '../../src/client/admin-request.ts';
import { Channel } from '../../src/client/channel.ts';
import { loadEngine } from '../../src/crypto/load.ts';
import { readKeyFile } from '../../src/providers/key-file.ts';
import { runYaml } from './agent.ts';

export const AUDIT_KEY = Buffer.alloc(32, 0xa7);

/** A configuration with an audit log in `FOLDER/audit/`; the root key and the audit key are written to `folder`. */
export function auditYaml(folder: string, audit = '', extra = ''): string {
  writeFileSync(join(folder, 'root.key'), `${Buffer.alloc(32, 7).toString('base64')}\n`, { mode: 0o600 });
  writeAuditKey(folder);
  return runYaml(
    `audit: { keyFile: FOLDER/audit.key, to: file, file: FOLDER/audit/audit.jsonl${audit === '' ? '' : `, ${audit}`} }\n${extra}`,
  );
}

export function writeAuditKey(folder: string): string {
  const path = join(folder, 'audit.key');
  writeFileSync(path, `${AUDIT_KEY.toString('base64')}\n`, { mode: 0o600 });
  return path;
}

export type AuditRecord = Readonly<Record<string, unknown>>;

/** Every record in the files of the log, the oldest first. */
export function recordsOf(path: string): AuditRecord[] {
  return auditFiles(path)
    .reverse()
    .flatMap((file) => readFileSync(file, 'utf8').split('\n').slice(0, -1))
    .map((line) => JSON.parse(line) as AuditRecord);
}

/** Verifies files under AUDIT_KEY, as the command does. */
export async function verdictOf(
  files: readonly string[],
  keyFile: string,
  anchors: readonly Anchor[] = [],
  isMixed = false,
): Promise<AuditVerdict> {
  const { engine } = await loadEngine({ engine: 'node', minimumLockLevel: 'heap', snapshotSafe: false });
  try {
    const key = readKeyFile(engine, keyFile, 'audit key file', CHAIN_USE);
    const verifier = new Verifier({ engine, key, anchors, isMixed });
    for (const file of files) {
      verifier.begin(file);
      for await (const line of linesOf(createReadStream(file))) {
        verifier.take(line);
      }
    }
    return verifier.end();
  } finally {
    engine.close();
  }
}

export function anchorsIn(text: string): Anchor[] {
  return text.split('\n').flatMap((line) => anchorOf(line) ?? []);
}

/** What `status` says of the log. */
export interface AuditStanding {
  readonly lost: number;
  readonly refused: number;
  readonly failure: string | null;
  readonly waitingBytes: number;
}

export async function auditStanding(admin: string): Promise<AuditStanding> {
  const channel = await Channel.open(admin, undefined, 5_000, () => {});
  try {
    return ((await askAdmin(channel, { status: {} })) as { audit: AuditStanding }).audit;
  } finally {
    channel.close();
  }
}

/** Waits until it is so. */
export async function until(what: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 400; i++) {
    if (await what()) {
      return;
    }
    await sleep(25);
  }
  throw new Error('it did not come to that');
}
