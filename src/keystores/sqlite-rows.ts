import type { SQLOutputValue } from 'node:sqlite';
import type { Algorithm, Purpose } from '../crypto/engine.ts';
import type { KeyLevel, KeyParent, KeyRecord, KeyState, UsageLease } from '../keyring/record.ts';

type Row = Record<string, SQLOutputValue>;

/** The record as named values of a statement. */
export function valuesOf(record: KeyRecord) {
  const { parent, owner, dates } = record;
  const root = parent.kind === 'root' ? parent : undefined;
  return {
    kid: record.kid,
    name: record.name,
    partition: record.partition,
    level: record.level,
    version: record.version,
    revision: record.revision,
    algorithm: record.algorithm,
    purpose: record.purpose,
    size: record.size,
    state: record.state,
    tenant: owner.tenant,
    service: owner.service,
    node: owner.node,
    created: dates.created,
    activated: dates.activated,
    deactivated: dates.deactivated,
    destroyed: dates.destroyed,
    parent_kid: parent.kind === 'key' ? parent.kid : null,
    root: root?.reference.root ?? null,
    resolved_id: root?.reference.resolvedId ?? null,
    material_version: root?.reference.materialVersion ?? null,
    wrapped_secret: root?.wrappedSecret ?? null,
    wrapped: record.wrapped,
    key_context: JSON.stringify(record.keyContext),
    seq: BigInt.asIntN(64, record.seq),
    mac: record.mac,
  };
}

/**
 * The record in a row. Nothing is refused here, whatever somebody wrote into the file: a row that is not what dekd wrote
 * fails its MAC, and then the operator is told which, while a throw would hide the rows beside it.
 */
export function recordOf(row: Row): KeyRecord {
  return {
    kid: bytes(row.kid),
    name: text(row.name),
    partition: text(row.partition),
    level: whole(row.level) as KeyLevel,
    version: whole(row.version),
    revision: whole(row.revision),
    algorithm: text(row.algorithm) as Algorithm,
    purpose: text(row.purpose) as Purpose,
    size: whole(row.size),
    state: text(row.state) as KeyState,
    owner: { tenant: text(row.tenant), service: text(row.service), node: text(row.node) },
    dates: {
      created: whole(row.created),
      activated: whole(row.activated),
      deactivated: whole(row.deactivated),
      destroyed: whole(row.destroyed),
    },
    parent: parentOf(row),
    wrapped: bytes(row.wrapped),
    keyContext: contextOf(text(row.key_context)),
    seq: BigInt.asUintN(64, row.seq as bigint),
    mac: bytes(row.mac),
  };
}

export function leaseOf(row: Row): UsageLease {
  return {
    kid: bytes(row.kid),
    holder: text(row.holder),
    messages: row.messages as bigint,
    bytes: row.bytes as bigint,
  };
}

function parentOf(row: Row): KeyParent {
  if (row.parent_kid instanceof Uint8Array) {
    return { kind: 'key', kid: row.parent_kid };
  }
  return {
    kind: 'root',
    reference: {
      root: text(row.root),
      resolvedId: text(row.resolved_id),
      materialVersion: text(row.material_version),
    },
    wrappedSecret: bytes(row.wrapped_secret),
  };
}

function contextOf(json: string): Readonly<Record<string, string>> {
  const context = Object.create(null) as Record<string, string>;
  try {
    for (const [name, value] of Object.entries(JSON.parse(json) as object)) {
      context[name] = String(value);
    }
  } catch {
    // Not JSON: the MAC says so.
  }
  return context;
}

function bytes(value: SQLOutputValue | undefined): Uint8Array {
  return value instanceof Uint8Array ? value : new Uint8Array(0);
}

function text(value: SQLOutputValue | undefined): string {
  return typeof value === 'string' ? value : '';
}

function whole(value: SQLOutputValue | undefined): number {
  return Number(value ?? 0);
}
