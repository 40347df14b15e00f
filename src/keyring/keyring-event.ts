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
    | 'rotation-failed'
    | 'refresh-failed'
    | 'lease-failed'
    | 'rollback-undetected';
  readonly level: 'info' | 'warn' | 'error';
  readonly key?: string;
  readonly partition?: string;
  readonly version?: number;
  readonly kid?: string;
  readonly reason?: string;
  readonly error?: unknown;
}

export type KeyringLog = (event: KeyringEvent) => void;
