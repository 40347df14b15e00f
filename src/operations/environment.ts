/** What every operation works with. */
import type { Engine, KeyHandle } from '../crypto/engine.ts';
import type { Keyring } from '../keyring/keyring.ts';
import type { WorkPool } from '../pool/pool.ts';

export interface OperationsEnvironment {
  readonly engine: Engine;
  readonly keyring: Keyring;
  /** Where large work is done. */
  readonly pool: WorkPool;
  /** Largest plaintext of one request, in bytes. */
  readonly maxPayload: number;
  /** Bytes that a compressed value may become when its message is decrypted. */
  readonly maxExpanded: number;
  /** A key nothing was ever sealed with: opening under it is the work an unknown key costs. */
  readonly decoy: KeyHandle;
  /** The same for messages: no data key was ever wrapped with it. */
  readonly messageDecoy: KeyHandle;
  /** The same for MACs. */
  readonly macDecoy: KeyHandle;
  /** What opens envelopes that applications made themselves, before. */
  readonly legacy: LegacyKeys;
  /** Whether the context of a record may be stored in messages, and shown to the providers of their recipients. */
  readonly exposeRecordContext: boolean;
  /** Plaintext bytes so far, counted by the operations. */
  readonly volume: { bytesSealed: number; bytesOpened: number };
}

/** A key that an application had; how much was done with it since the start. */
export interface LegacyKey {
  readonly kid: string;
  readonly handle: KeyHandle;
  /** Envelopes whose plaintext a caller got, whose token one got, and that did not open. */
  opened: number;
  migrated: number;
  failed: number;
}

export interface LegacyKeys {
  /** Undefined when there is none of this kid. */
  find(kid: string): LegacyKey | undefined;
  /** A key nothing was ever sealed with. Undefined when there are no legacy keys at all. */
  readonly decoy: KeyHandle | undefined;
}

/** Undefined when the reply is written; else a promise of that, because a key had to be loaded first. */
export type Outcome = undefined | Promise<void>;
