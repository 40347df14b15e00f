/** The configuration as the agent uses it: every default filled in, sizes in bytes, durations in milliseconds. */
import type { LockLevel } from '../crypto/engine.ts';

/** When a sealing version is replaced by a new one, whichever comes first; Infinity means never. */
export interface RotationLimits {
  /** Milliseconds since the version became active. */
  readonly age: number;
  /** Messages sealed. */
  readonly messages: number;
  /** Bytes of plaintext sealed. */
  readonly bytes: number;
}

/** A root key that the agent itself reads. */
export interface LocalRootConfig {
  readonly name: string;
  readonly provider: 'local';
  /** Absolute path of a 0600 file with 32 bytes as one base64 line. */
  readonly keyFile: string | undefined;
  /** Number of an inherited descriptor with the same content, instead of `keyFile`. */
  readonly keyDescriptor: number | undefined;
  readonly allowLocalRoot: boolean;
  /** Resolved ids that records may still name. */
  readonly formerly: readonly string[];
  /** Make `keyFile` (0600) when it is absent. Only `dekd dev` sets it. */
  readonly createKeyFile: boolean;
  /** Draw the root key at start and keep it nowhere. Only `dekd dev --ephemeral` sets it. */
  readonly ephemeral: boolean;
}

export type RootConfig = LocalRootConfig;

export interface KeystoreConfig {
  readonly kind: 'memory' | 'sqlite' | 'bundle';
  /** Absolute path of the database or of the export; undefined for `memory`. */
  readonly path: string | undefined;
  readonly acceptLoss: boolean;
}

/** What holds for every key whose name matches; the first entry that matches counts. */
export interface KeyDefinition {
  /** Glob over key names. */
  readonly name: string;
  /** Bound when the key is wrapped; what a KMS sees. Null prototype. */
  readonly keyContext: Readonly<Record<string, string>>;
  /** Context names every call must carry. */
  readonly requiredContext: readonly string[];
  readonly rotation: RotationLimits;
}

/** What a rule can grant. `anyKey` is decrypting without naming the key; it adds to `decrypt`. */
export type Operation = 'encrypt' | 'decrypt' | 'reencrypt' | 'anyKey' | 'keyInfo';

/** Which socket a caller came through. */
export type SocketName = 'data' | 'admin';

/** Who a rule is for: every field given must match, by any of its values. */
export interface RuleCallers {
  readonly uid: readonly number[] | undefined;
  readonly gid: readonly number[] | undefined;
  /** Supplementary groups. */
  readonly groups: readonly number[] | undefined;
  readonly socket: readonly SocketName[];
}

export interface PolicyRule {
  readonly name: string;
  readonly callers: RuleCallers;
  /** Globs over key names. */
  readonly keys: readonly string[];
  /** Globs over partitions; `*` includes none. */
  readonly partitions: readonly string[];
  readonly operations: readonly Operation[];
  /** Creation on first use: refused, or at most `max` (key, partition) pairs between start and stop of the agent. */
  readonly create: false | { readonly max: number };
}

export interface Config {
  /** Whether this is `dekd dev`. Not a key of the file. */
  readonly dev: boolean;
  readonly service: string;
  readonly node: string;
  /** Absolute path of the folder with the high-water file; undefined for none. */
  readonly state: string | undefined;
  readonly engine: 'auto' | 'native' | 'node' | 'noble';
  readonly memory: {
    /** The lowest level the agent starts with. */
    readonly level: LockLevel;
    readonly allowInsecureMemory: boolean;
    /** Keys that fit at once. */
    readonly slots: number;
  };
  readonly randomness: 'buffered' | 'snapshot-safe';
  readonly socket: {
    /** Absolute path of the data socket. */
    readonly path: string;
    /** Group of the socket and its folder; undefined leaves what the folder gives. */
    readonly group: number | undefined;
    /** Permission bits: 0o600 or 0o660. */
    readonly mode: number;
    readonly allowOwnUid: boolean;
  };
  readonly admin: { readonly path: string };
  readonly limits: {
    /** Largest plaintext of one request, in bytes. */
    readonly maxPayload: number;
    /** Requests in flight on one connection. */
    readonly maxInFlight: number;
    /** Open connections; the agent lowers it below its limit of open files. */
    readonly connections: number;
    /** Milliseconds in which a connection must have said Hello, and a frame begun must be whole. */
    readonly headerTimeout: number;
    /** Milliseconds a stopping agent waits for requests in flight. */
    readonly drain: number;
  };
  /** At least one. */
  readonly roots: readonly RootConfig[];
  /** Name of the root that wraps new records. */
  readonly defaultRoot: string;
  readonly keystore: KeystoreConfig;
  readonly keys: readonly KeyDefinition[];
  /** What holds for a key that no entry of `keys` names. */
  readonly rotation: RotationLimits;
  readonly policy: { readonly rules: readonly PolicyRule[] };
  readonly log: {
    readonly level: 'debug' | 'info' | 'warn' | 'error' | 'silent';
    readonly format: 'json' | 'text';
  };
}
