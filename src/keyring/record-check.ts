import type { Algorithm, Engine, KeyHandle, Purpose } from '../crypto/engine.ts';
import { WRAPPED_KEY_LENGTH } from '../crypto/engine.ts';
import { DekdError } from '../errors.ts';
import type { DekCache } from './dek-cache.ts';
import type { HighWater } from './high-water.ts';
import type { KeyRecord, KeyState } from './record.ts';
import { META_LABEL, metaBytes, WRAP_LABEL, wrapAad } from './record-binding.ts';
import { isKeyState } from './states.ts';

export const KEY_SIZE = 32;
const KID_LENGTH = 16;
const MAC_LENGTH = 32;

/** One purpose has one algorithm. */
export const ALGORITHM_OF: Readonly<Record<Purpose, Algorithm>> = {
  seal: 'xaes-256-gcm',
  wrap: 'hkdf-sha-256',
  message: 'esdk-0478',
  mac: 'hmac-sha-256',
  index: 'hmac-sha-256',
};

/** Why a row is not used. `reason` is for the operator. */
export class RecordRefused extends Error {
  override readonly name = 'RecordRefused';
  readonly reason: string;
  /** The row is authentic, but older than what this agent has seen. */
  readonly isRollback: boolean;

  constructor(reason: string, isRollback = false) {
    super(reason);
    this.reason = reason;
    this.isRollback = isRollback;
  }
}

/**
 * Checks a row against its MAC under the parent secret, and against the high-water mark. Rows are whatever the keystore
 * says, so their shape is checked first.
 * @throws RecordRefused.
 */
export function checkRecord(engine: Engine, parent: KeyHandle, record: KeyRecord, highWater: HighWater): void {
  checkAuthentic(engine, parent, record);
  const seen = highWater.seq(record.kid);
  if (record.seq < seen) {
    throw new RecordRefused(
      `the row is at seq ${record.seq}, and seq ${seen} was seen: the keystore was put back to an older state; ` +
        'restore the newer one, or accept this one with dekd keys import --accept-rollback',
      true,
    );
  }
}

/** Checks shape and MAC only. @throws RecordRefused. */
export function checkAuthentic(engine: Engine, parent: KeyHandle, record: KeyRecord): void {
  checkShape(record);
  let authentic: boolean;
  try {
    authentic = engine.verifyMac(parent, META_LABEL, metaBytes(record), record.mac);
  } catch (error) {
    if (!DekdError.is(error, 'INVALID_ARGUMENT')) {
      throw error;
    }
    // Values that have no canonical encoding were never written by us.
    authentic = false;
  }
  if (!authentic) {
    throw new RecordRefused('the MAC of the row does not match: it was changed outside of dekd');
  }
}

/**
 * Unwraps the key of a checked record and compares its kid, which commits to key, algorithm and purpose.
 * @returns a handle that the caller owns. @throws RecordRefused, RESOURCE_EXHAUSTED.
 */
export function unwrapRecord(engine: Engine, parent: KeyHandle, record: KeyRecord): KeyHandle {
  const use = { algorithm: record.algorithm, purpose: record.purpose };
  let handle: KeyHandle;
  try {
    handle = engine.unwrapKey(parent, WRAP_LABEL, record.wrapped, wrapAad(record), use);
  } catch (error) {
    if (DekdError.is(error, 'DECRYPTION_FAILED')) {
      throw new RecordRefused('the wrapped key does not open under the parent that the row names');
    }
    throw error;
  }
  if (!sameBytes(engine.kid(handle), record.kid)) {
    engine.destroyKey(handle);
    throw new RecordRefused('the wrapped key is not the one that the kid commits to');
  }
  return handle;
}

/** Unwraps the key of a checked record and wipes it again; a destroyed one has none. @throws as `unwrapRecord` */
export function checkOpens(engine: Engine, cache: DekCache, parent: KeyHandle, record: KeyRecord): void {
  if (record.state !== 'destroyed') {
    engine.destroyKey(cache.room(() => unwrapRecord(engine, parent, record)));
  }
}

/** `draft` with `key` wrapped under the parent secret, and with its MAC. */
export function wrapRecord(engine: Engine, parent: KeyHandle, key: KeyHandle, draft: KeyRecord): KeyRecord {
  const wrapped = engine.wrapKey(parent, WRAP_LABEL, key, wrapAad(draft));
  return withMac(engine, parent, { ...draft, wrapped });
}

/** `record` with the MAC of what it says now. */
export function withMac(engine: Engine, parent: KeyHandle, record: KeyRecord): KeyRecord {
  return { ...record, mac: engine.mac(parent, META_LABEL, metaBytes(record)) };
}

/** The next metadata write of `record`: another state, its date, seq raised by one. The MAC is still the old one. */
export function inState(record: KeyRecord, state: KeyState, now: number): KeyRecord {
  const { dates } = record;
  const activated = state === 'active' && dates.activated === 0 ? now : dates.activated;
  const stopped = state === 'deactivated' || state === 'compromised' || state === 'destroyed';
  const deactivated = stopped && dates.activated !== 0 && dates.deactivated === 0 ? now : dates.deactivated;
  const destroyed = state === 'destroyed' ? now : dates.destroyed;
  return {
    ...record,
    state,
    dates: { created: dates.created, activated, deactivated, destroyed },
    seq: record.seq + 1n,
    wrapped: state === 'destroyed' ? new Uint8Array(0) : record.wrapped,
  };
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function checkShape(record: KeyRecord): void {
  const wrappedLength = record.state === 'destroyed' ? 0 : WRAPPED_KEY_LENGTH;
  const sound =
    record.kid.length === KID_LENGTH &&
    record.mac.length === MAC_LENGTH &&
    record.wrapped.length === wrappedLength &&
    record.size === KEY_SIZE &&
    isKeyState(record.state) &&
    Object.hasOwn(ALGORITHM_OF, record.purpose) &&
    ALGORITHM_OF[record.purpose] === record.algorithm &&
    (record.level === 4) !== (record.purpose === 'wrap') &&
    (record.parent.kind === 'key' ? record.parent.kid.length === KID_LENGTH : record.level !== 4) &&
    Number.isSafeInteger(record.version) &&
    record.version >= 1 &&
    record.seq >= 1n;
  if (!sound) {
    throw new RecordRefused('the row has a field of the wrong shape: it was changed outside of dekd');
  }
}
