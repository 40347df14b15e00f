import { hex } from '../bytes.ts';
import type { KeyRecord } from './record.ts';
import type { RecordRefused } from './record-check.ts';

/** Something an operator may want to know. Fields are names and numbers; never key material or context values. */
export interface KeyringEvent {
  readonly event:
    | 'keystore-under-other-root'
    | 'root-unavailable'
    | 'record-refused'
    | 'record-missing'
    | 'unauthenticated-denial'
    | 'rollback-refused'
    | 'key-created'
    | 'key-rotated'
    | 'key-imported'
    | 'version-retired'
    | 'retirement-failed'
    | 'moved-out-of-reach'
    | 'rotation-failed'
    | 'refresh-failed'
    | 'lease-failed'
    | 'rollback-undetected'
    | 'root-denied'
    | 'root-refused'
    | 'coast-ended'
    | 'frozen'
    | 'thawed'
    | 'prewarm-failed';
  readonly level: 'info' | 'warn' | 'error';
  readonly key?: string;
  readonly partition?: string;
  readonly version?: number;
  readonly kid?: string;
  readonly reason?: string;
  readonly error?: unknown;
}

export type KeyringLog = (event: KeyringEvent) => void;

/** That a row was refused, and why: what callers are not told. */
export function refusalEvent({ name, partition, version, kid }: KeyRecord, refusal: RecordRefused): KeyringEvent {
  return {
    event: refusal.isRollback ? 'rollback-refused' : 'record-refused',
    level: 'error',
    key: name,
    partition,
    version,
    kid: hex(kid),
    reason: refusal.reason,
  };
}
