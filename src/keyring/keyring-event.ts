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
