import type { Algorithm, Purpose } from '../crypto/engine.ts';
import type { RootReference } from '../providers/provider.ts';

/** NIST SP 800-57 part 1, section 7. `suspended` is what `disable` makes. */
export type KeyState = 'pre-active' | 'active' | 'suspended' | 'deactivated' | 'compromised' | 'destroyed';

/** L2 tenant KEK, L3 service KEK, L4 data key. L1 is a root key and has no record. */
export type KeyLevel = 2 | 3 | 4;

/** What a record hangs under: a root (through the wrapped secret W) or another record. */
export type KeyParent =
  | { readonly kind: 'root'; readonly reference: RootReference; readonly wrappedSecret: Uint8Array }
  | { readonly kind: 'key'; readonly kid: Uint8Array };

export interface KeyDates {
  /** Milliseconds since the epoch, whole. */
  readonly created: number;
  /** When it last became active; 0 when never. */
  readonly activated: number;
  /** When it stopped sealing for good; 0 when it has not. */
  readonly deactivated: number;
  /** When it was destroyed; 0 when it was not. */
  readonly destroyed: number;
}

/** One version of one key as a keystore holds it: metadata and wrapped bytes, never key material. */
export interface KeyRecord {
  readonly kid: Uint8Array;
  readonly name: string;
  /** The tenant the key is for; empty for none. */
  readonly partition: string;
  readonly level: KeyLevel;
  /** New material raises the version, from 1. */
  readonly version: number;
  /** The same material newly wrapped raises the revision, from 1. */
  readonly revision: number;
  readonly algorithm: Algorithm;
  readonly purpose: Purpose;
  /** Length of the key in bytes. */
  readonly size: number;
  readonly state: KeyState;
  readonly owner: { readonly tenant: string; readonly service: string; readonly node: string };
  readonly dates: KeyDates;
  readonly parent: KeyParent;
  /** 01 ‖ nonce 24 ‖ ciphertext ‖ tag 16; empty in a tombstone. */
  readonly wrapped: Uint8Array;
  /** Bound when the key was wrapped; what a KMS sees. Null prototype. */
  readonly keyContext: Readonly<Record<string, string>>;
  /** Raised by one at every metadata write. */
  readonly seq: bigint;
  /** HMAC over everything here but the wrapped W, the root reference and the revision. */
  readonly mac: Uint8Array;
}

/** What one agent has set aside of a key's budget, so that a crash never forgets use. */
export interface UsageLease {
  readonly kid: Uint8Array;
  /** Random name of the agent process that took it. */
  readonly holder: string;
  readonly messages: bigint;
  readonly bytes: bigint;
}
