import { strictBytes } from '../bytes.ts';
import type { Algorithm, Purpose } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';
import type { KeyDates, KeyLevel, KeyParent, KeyRecord, KeyState } from '../keyring/record.ts';

/** A record as JSON: kids in lower hex, other binary in base64, seq as a decimal string because it has 64 bits. */
export interface RecordJson {
  readonly kid: string;
  readonly name: string;
  readonly partition: string;
  readonly level: number;
  readonly version: number;
  readonly revision: number;
  readonly algorithm: string;
  readonly purpose: string;
  readonly size: number;
  readonly state: string;
  readonly owner: { readonly tenant: string; readonly service: string; readonly node: string };
  readonly dates: KeyDates;
  readonly parent:
    | {
        readonly root: string;
        readonly resolvedId: string;
        readonly materialVersion: string;
        readonly wrappedSecret: string;
      }
    | { readonly kid: string };
  readonly wrapped: string;
  readonly keyContext: Readonly<Record<string, string>>;
  readonly seq: string;
  readonly mac: string;
}

const STATES: readonly string[] = ['pre-active', 'active', 'suspended', 'deactivated', 'compromised', 'destroyed'];
const PURPOSES: readonly string[] = ['seal', 'wrap', 'message', 'mac', 'index'];
const ALGORITHMS: readonly string[] = ['xaes-256-gcm', 'esdk-0478', 'hkdf-sha-256', 'hmac-sha-256'];
const MAX_U64 = 2n ** 64n - 1n;

export function encodeRecord(record: KeyRecord): RecordJson {
  const { parent } = record;
  return {
    kid: text(record.kid, 'hex'),
    name: record.name,
    partition: record.partition,
    level: record.level,
    version: record.version,
    revision: record.revision,
    algorithm: record.algorithm,
    purpose: record.purpose,
    size: record.size,
    state: record.state,
    owner: record.owner,
    dates: record.dates,
    parent:
      parent.kind === 'root'
        ? { ...parent.reference, wrappedSecret: text(parent.wrappedSecret, 'base64') }
        : { kid: text(parent.kid, 'hex') },
    wrapped: text(record.wrapped, 'base64'),
    keyContext: record.keyContext,
    seq: record.seq.toString(),
    mac: text(record.mac, 'base64'),
  };
}

/**
 * The record in `value`, whose shape is checked and nothing else: what it says is for the keyring to judge.
 * @throws INVALID_ARGUMENT naming the field.
 */
export function decodeRecord(value: unknown): KeyRecord {
  const fields = objectOf(value, 'record');
  const owner = objectOf(fields.owner, 'owner');
  const dates = objectOf(fields.dates, 'dates');
  return {
    kid: bytesOf(fields.kid, 'kid', 'hex'),
    name: stringOf(fields.name, 'name'),
    partition: stringOf(fields.partition, 'partition'),
    level: levelOf(fields.level),
    version: wholeOf(fields.version, 'version'),
    revision: wholeOf(fields.revision, 'revision'),
    algorithm: oneOf(fields.algorithm, 'algorithm', ALGORITHMS) as Algorithm,
    purpose: oneOf(fields.purpose, 'purpose', PURPOSES) as Purpose,
    size: wholeOf(fields.size, 'size'),
    state: oneOf(fields.state, 'state', STATES) as KeyState,
    owner: {
      tenant: stringOf(owner.tenant, 'owner.tenant'),
      service: stringOf(owner.service, 'owner.service'),
      node: stringOf(owner.node, 'owner.node'),
    },
    dates: {
      created: wholeOf(dates.created, 'dates.created'),
      activated: wholeOf(dates.activated, 'dates.activated'),
      deactivated: wholeOf(dates.deactivated, 'dates.deactivated'),
      destroyed: wholeOf(dates.destroyed, 'dates.destroyed'),
    },
    parent: parentOf(fields.parent),
    wrapped: bytesOf(fields.wrapped, 'wrapped', 'base64'),
    keyContext: contextOf(fields.keyContext),
    seq: u64Of(fields.seq),
    mac: bytesOf(fields.mac, 'mac', 'base64'),
  };
}

function parentOf(value: unknown): KeyParent {
  const fields = objectOf(value, 'parent');
  if (fields.kid !== undefined) {
    return { kind: 'key', kid: bytesOf(fields.kid, 'parent.kid', 'hex') };
  }
  return {
    kind: 'root',
    reference: {
      root: stringOf(fields.root, 'parent.root'),
      resolvedId: stringOf(fields.resolvedId, 'parent.resolvedId'),
      materialVersion: stringOf(fields.materialVersion, 'parent.materialVersion'),
    },
    wrappedSecret: bytesOf(fields.wrappedSecret, 'parent.wrappedSecret', 'base64'),
  };
}

function contextOf(value: unknown): Readonly<Record<string, string>> {
  const context = Object.create(null) as Record<string, string>;
  for (const [name, entry] of Object.entries(objectOf(value, 'keyContext'))) {
    context[name] = stringOf(entry, `keyContext.${name}`);
  }
  return context;
}

function objectOf(value: unknown, field: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw malformed(field, 'an object');
  }
  return value as Record<string, unknown>;
}

function stringOf(value: unknown, field: string): string {
  if (typeof value !== 'string') {
    throw malformed(field, 'a string');
  }
  return value;
}

function oneOf(value: unknown, field: string, allowed: readonly string[]): string {
  if (typeof value !== 'string' || !allowed.includes(value)) {
    throw malformed(field, `one of ${allowed.join(', ')}`);
  }
  return value;
}

function wholeOf(value: unknown, field: string): number {
  if (!Number.isSafeInteger(value) || (value as number) < 0) {
    throw malformed(field, 'a whole number');
  }
  return value as number;
}

function levelOf(value: unknown): KeyLevel {
  if (value !== 2 && value !== 3 && value !== 4) {
    throw malformed('level', '2, 3 or 4');
  }
  return value;
}

function u64Of(value: unknown): bigint {
  if (typeof value !== 'string' || !/^(0|[1-9][0-9]{0,19})$/.test(value) || BigInt(value) > MAX_U64) {
    throw malformed('seq', 'a decimal string of at most 64 bits');
  }
  return BigInt(value);
}

/** Strict: what does not encode back to the same text is refused. */
function bytesOf(value: unknown, field: string, encoding: 'hex' | 'base64'): Uint8Array {
  const given = stringOf(value, field);
  const bytes = strictBytes(given, encoding);
  if (bytes === undefined) {
    throw malformed(field, encoding === 'hex' ? 'lower hex' : 'base64');
  }
  return new Uint8Array(bytes);
}

function text(bytes: Uint8Array, encoding: 'hex' | 'base64'): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString(encoding);
}

function malformed(field: string, expected: string): DekdError {
  return new DekdError('INVALID_ARGUMENT', `${field} is not ${expected}`);
}
