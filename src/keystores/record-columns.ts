/** Records as columns of a table, which is alike in every SQL database; each database has its own types for them. */
import type { Algorithm, Purpose } from '../crypto/engine.ts';
import type { KeyLevel, KeyParent, KeyRecord, KeyState } from '../keyring/record.ts';

/** Columns in the order in which an insert names them. */
export const COLUMNS = [
  'kid',
  'name',
  'partition',
  'level',
  'version',
  'revision',
  'algorithm',
  'purpose',
  'size',
  'state',
  'tenant',
  'service',
  'node',
  'created',
  'activated',
  'deactivated',
  'destroyed',
  'parent_kid',
  'root',
  'resolved_id',
  'material_version',
  'wrapped_secret',
  'wrapped',
  'key_context',
  'seq',
  'mac',
] as const;

export type Column = (typeof COLUMNS)[number];

/** What a metadata write may change; the rest is fixed for the life of a version. */
export const MUTABLE: readonly Column[] = [
  'state',
  'created',
  'activated',
  'deactivated',
  'destroyed',
  'seq',
  'mac',
  'revision',
  'parent_kid',
  'root',
  'resolved_id',
  'material_version',
  'wrapped_secret',
  'wrapped',
];

/** What a row of either table may hold, as the driver gives it. */
type Row = Readonly<Record<string, string | number | bigint | Uint8Array | null>>;
export type RowCell = Row[string] | undefined;

/** How a database writes numbers. Nothing is thrown for what is no number. */
export interface NumberCells {
  whole(cell: RowCell): number;
  /** An unsigned number of 64 bits. */
  unsigned(cell: RowCell): bigint;
}

/** The record by column. Bytes stay the record's. */
export function columnsOf(record: KeyRecord) {
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
    seq: record.seq,
    mac: record.mac,
  } satisfies Record<Column, unknown>;
}

/**
 * The record in a row. Nothing is refused here, whatever somebody wrote into the table: a row that is not what dekd wrote
 * fails its MAC, and then the operator is told which, while a throw would hide the rows beside it.
 */
export function recordFrom(row: Row, { whole, unsigned }: NumberCells): KeyRecord {
  return {
    kid: bytesIn(row.kid),
    name: textIn(row.name),
    partition: textIn(row.partition),
    level: whole(row.level) as KeyLevel,
    version: whole(row.version),
    revision: whole(row.revision),
    algorithm: textIn(row.algorithm) as Algorithm,
    purpose: textIn(row.purpose) as Purpose,
    size: whole(row.size),
    state: textIn(row.state) as KeyState,
    owner: { tenant: textIn(row.tenant), service: textIn(row.service), node: textIn(row.node) },
    dates: {
      created: whole(row.created),
      activated: whole(row.activated),
      deactivated: whole(row.deactivated),
      destroyed: whole(row.destroyed),
    },
    parent: parentFrom(row),
    wrapped: bytesIn(row.wrapped),
    keyContext: contextFrom(textIn(row.key_context)),
    seq: unsigned(row.seq),
    mac: bytesIn(row.mac),
  };
}

function parentFrom(row: Row): KeyParent {
  if (row.parent_kid instanceof Uint8Array) {
    return { kind: 'key', kid: row.parent_kid };
  }
  return {
    kind: 'root',
    reference: {
      root: textIn(row.root),
      resolvedId: textIn(row.resolved_id),
      materialVersion: textIn(row.material_version),
    },
    wrappedSecret: bytesIn(row.wrapped_secret),
  };
}

function contextFrom(json: string): Readonly<Record<string, string>> {
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

export function bytesIn(cell: RowCell): Uint8Array {
  return cell instanceof Uint8Array ? cell : new Uint8Array(0);
}

export function textIn(cell: RowCell): string {
  return typeof cell === 'string' ? cell : '';
}
