import type { Algorithm, Purpose } from '../../crypto/engine.ts';
import { DekdError } from '../../errors.ts';
import type { KeyLevel, KeyParent, KeyRecord, KeyState, UsageLease } from '../../keyring/record.ts';
import type { Column } from './schema.ts';

/** What a row has: bytea as bytes of its own, everything else as PostgreSQL writes it. */
export type Cell = string | Uint8Array | null;
export type Row = Readonly<Record<string, Cell>>;

/** OID of bytea (pg_type.dat). */
const BYTEA = 17;

/**
 * Reads cells in the text format. The driver's own parsers are shared by everything in the process and can be replaced by
 * any of it; and its numbers would round what has 64 bits.
 */
export const CELL_TYPES = {
  getTypeParser: (oid: number) => (oid === BYTEA ? parseBytea : (text: string) => text),
};

/** The record by column. Bytes are copied: statements are sent later, and may be sent again. */
export function valuesOf(record: KeyRecord): Readonly<Record<Column, Cell>> {
  const { parent, owner, dates } = record;
  const root = parent.kind === 'root' ? parent : undefined;
  return {
    kid: record.kid.slice(),
    name: storable(record.name),
    partition: storable(record.partition),
    level: String(record.level),
    version: String(record.version),
    revision: String(record.revision),
    algorithm: record.algorithm,
    purpose: record.purpose,
    size: String(record.size),
    state: record.state,
    tenant: storable(owner.tenant),
    service: storable(owner.service),
    node: storable(owner.node),
    created: String(dates.created),
    activated: String(dates.activated),
    deactivated: String(dates.deactivated),
    destroyed: String(dates.destroyed),
    parent_kid: parent.kind === 'key' ? parent.kid.slice() : null,
    root: root === undefined ? null : storable(root.reference.root),
    resolved_id: root === undefined ? null : storable(root.reference.resolvedId),
    material_version: root === undefined ? null : storable(root.reference.materialVersion),
    wrapped_secret: root?.wrappedSecret.slice() ?? null,
    wrapped: record.wrapped.slice(),
    key_context: JSON.stringify(record.keyContext),
    seq: record.seq.toString(),
    mac: record.mac.slice(),
  };
}

/**
 * The record in a row. Nothing is refused here, whatever somebody wrote into the table: a row that is not what dekd wrote
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
    seq: unsigned(row.seq),
    mac: bytes(row.mac),
  };
}

export function leaseOf(row: Row): UsageLease {
  return {
    kid: bytes(row.kid),
    holder: text(row.holder),
    messages: unsigned(row.messages),
    bytes: unsigned(row.bytes),
  };
}

/** @throws INVALID_ARGUMENT: a text column takes all of Unicode but NUL, and half a surrogate pair is not Unicode. */
export function storable(value: string): string {
  if (value.includes('\0') || !value.isWellFormed()) {
    throw new DekdError('INVALID_ARGUMENT', 'PostgreSQL stores no NUL and no half of a surrogate pair in a text');
  }
  return value;
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

/** The hex format, which each session asks for. */
function parseBytea(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text.slice('\\x'.length), 'hex'));
}

function bytes(value: Cell | undefined): Uint8Array {
  return value instanceof Uint8Array ? value : new Uint8Array(0);
}

function text(value: Cell | undefined): string {
  return typeof value === 'string' ? value : '';
}

function whole(value: Cell | undefined): number {
  return Number(text(value));
}

function unsigned(value: Cell | undefined): bigint {
  const digits = text(value);
  return /^\d{1,20}$/.test(digits) ? BigInt.asUintN(64, BigInt(digits)) : 0n;
}
