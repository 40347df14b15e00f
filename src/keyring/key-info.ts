import { hex } from '../bytes.ts';
import type { RootReference } from '../providers/provider.ts';
import type { KeyInfo } from './keyring.ts';
import type { KeyRecord } from './record.ts';
import type { Usage } from './rotation.ts';

/** What people see of a record. @param root name of that at the top of its tree */
export function keyInfo(record: KeyRecord, usage: Usage, root: string | undefined): KeyInfo {
  const { dates, parent } = record;
  return {
    kid: hex(record.kid),
    name: record.name,
    partition: record.partition,
    level: record.level,
    version: record.version,
    revision: record.revision,
    algorithm: record.algorithm,
    purpose: record.purpose,
    state: record.state,
    parent: parent.kind === 'key' ? hex(parent.kid) : rootInWords(parent.reference),
    root,
    created: iso(dates.created) ?? '',
    activated: iso(dates.activated),
    deactivated: iso(dates.deactivated),
    destroyed: iso(dates.destroyed),
    messages: usage.messages.toString(),
    bytes: usage.bytes.toString(),
    seq: record.seq.toString(),
  };
}

function rootInWords({ root, resolvedId, materialVersion }: RootReference): string {
  return `${root} (${resolvedId}${materialVersion === '' ? '' : `, material ${materialVersion}`})`;
}

/** Rows are what the keystore says: a time out of range must not stop a listing. */
function iso(ms: number): string | undefined {
  const date = new Date(ms);
  return ms === 0 || Number.isNaN(date.getTime()) ? undefined : date.toISOString();
}
