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
  /** Cron expression of five fields, in UTC: a version made before the last time that it names is replaced. */
  readonly schedule: string | undefined;
  /** Versions beside the sealing one that still open; older ones are suspended once `grace` has passed. */
  readonly keep: number;
  /** Milliseconds that a version stays usable after it stopped sealing, whatever `keep` says. */
  readonly grace: number;
}

interface RootCommon {
  readonly name: string;
  /** Resolved ids that records may still name. */
  readonly formerly: readonly string[];
}

/** A root key that the agent itself reads. */
export interface LocalRootConfig extends RootCommon {
  readonly provider: 'local';
  /** Absolute path of a 0600 file with 32 bytes as one base64 line. */
  readonly keyFile: string | undefined;
  /** Number of an inherited descriptor with the same content, instead of `keyFile`. */
  readonly keyDescriptor: number | undefined;
  readonly allowLocalRoot: boolean;
  /** Make `keyFile` (0600) when it is absent. Only `dekd dev` sets it. */
  readonly createKeyFile: boolean;
  /** Draw the root key at start and keep it nowhere. Only `dekd dev --ephemeral` sets it. */
  readonly ephemeral: boolean;
}

/** How calls to a service are made. */
export interface ServiceSettings {
  /** Milliseconds for one call, waiting for a connection and retries included. */
  readonly timeout: number;
  /** Attempts after the first; 0 is exactly one request. */
  readonly retries: number;
  /** Connections at once. */
  readonly connections: number;
  /** Milliseconds that an unused connection is kept. */
  readonly idleTimeout: number;
}

export interface AwsKmsSettings extends ServiceSettings {
  /** Key id, key ARN, alias/NAME or alias ARN. */
  readonly key: string;
  /** Undefined leaves it to the SDK: AWS_REGION, then the profile. */
  readonly region: string | undefined;
  /** Instead of the Region's own endpoint. */
  readonly endpoint: string | undefined;
  readonly fips: boolean;
}

export interface AwsKmsRootConfig extends RootCommon {
  readonly provider: 'aws-kms';
  readonly aws: AwsKmsSettings;
}

/** How a Vault or OpenBao is logged in to. Files are read again at every login. */
export type VaultAuth =
  | {
      readonly method: 'token';
      /** Else VAULT_TOKEN. */
      readonly tokenFile: string | undefined;
    }
  | {
      readonly method: 'approle';
      readonly mount: string;
      /** One of the two. */
      readonly roleId: string | undefined;
      readonly roleIdFile: string | undefined;
      /** Else `secretIdAws`, else VAULT_SECRET_ID. */
      readonly secretIdFile: string | undefined;
      /** The secret id is inside a response-wrapping token. */
      readonly secretIdWrapped: boolean;
      /** Name or ARN of the secret in AWS Secrets Manager that holds the secret id. */
      readonly secretIdAws: string | undefined;
    }
  | {
      readonly method: 'kubernetes' | 'jwt';
      readonly mount: string;
      readonly role: string;
      readonly jwtFile: string;
    };

export interface VaultSettings extends ServiceSettings {
  /** https://…, or http:// to a loopback address; may have a path. */
  readonly address: string;
  readonly namespace: string | undefined;
  /** PEM file with the only authorities trusted; undefined: those of the system. */
  readonly caFile: string | undefined;
  /** Name that the certificate must have, where it is not that of the address. */
  readonly serverName: string | undefined;
  readonly auth: VaultAuth;
}

export interface TransitSettings {
  readonly mount: string;
  readonly key: string;
}

export interface VaultTransitRootConfig extends RootCommon {
  readonly provider: 'vault-transit';
  readonly vault: VaultSettings;
  readonly transit: TransitSettings;
}

export interface Pkcs11Settings {
  /** Absolute path of the shared library. */
  readonly module: string;
  /** Exactly one of slot number and token label. */
  readonly slot: number | undefined;
  readonly token: string | undefined;
  readonly pinFile: string;
  /** CKA_LABEL of the AES-256 key, or CKA_ID in hex; exactly one. */
  readonly key: string | undefined;
  readonly keyId: string | undefined;
  readonly mechanism: 'aes-gcm' | 'aes-kwp';
  /** Instead of the number that PKCS#11 gives the mechanism. */
  readonly mechanismNumber: number | undefined;
  /** Sessions at once. */
  readonly sessions: number;
  /** Milliseconds for one call. */
  readonly timeout: number;
}

export interface Pkcs11RootConfig extends RootCommon {
  readonly provider: 'pkcs11';
  readonly pkcs11: Pkcs11Settings;
}

/** A root whose library runs in a custodian. */
export type ServiceRootConfig = AwsKmsRootConfig | VaultTransitRootConfig | Pkcs11RootConfig;

export type RootConfig = LocalRootConfig | ServiceRootConfig;

export interface PostgresSettings {
  /** Without a password. Undefined leaves host, database and user to the libpq variables. */
  readonly url: string | undefined;
  /** Read again for each new connection. */
  readonly passwordFile: string | undefined;
  readonly schema: string;
  readonly caFile: string | undefined;
  /** `disable` only for a Unix socket or a loopback address. */
  readonly tls: 'verify-full' | 'disable';
  readonly connections: number;
  /** Milliseconds for one operation. */
  readonly timeout: number;
  /** Whether the agent makes and upgrades the schema itself. */
  readonly migrate: boolean;
}

export interface KvSettings {
  /** Mount of a KV version 2 engine. */
  readonly mount: string;
  /** Everything lies below it; may have several segments. */
  readonly prefix: string;
}

/** A keystore whose rows are in the agent's process or in a file. */
export interface EmbeddedKeystoreConfig {
  readonly kind: 'memory' | 'sqlite' | 'bundle';
  /** Absolute path of the database or of the export; undefined for `memory`. */
  readonly path: string | undefined;
  readonly acceptLoss: boolean;
}

/** A keystore whose driver runs in a custodian. */
export type ServiceKeystoreConfig =
  | { readonly kind: 'postgres'; readonly postgres: PostgresSettings }
  | { readonly kind: 'openbao-kv'; readonly vault: VaultSettings; readonly kv: KvSettings };

export type KeystoreConfig = EmbeddedKeystoreConfig | ServiceKeystoreConfig;

/** Which records a route is for: each field given must match. Texts are globs. */
export interface RouteMatch {
  readonly level: readonly (2 | 3 | 4)[] | undefined;
  readonly tenant: string | undefined;
  readonly service: string | undefined;
  readonly key: string | undefined;
  readonly region: string | undefined;
}

/** The first route that matches says where a record goes. */
export interface Route extends RouteMatch {
  /** Undefined: the default root; of no meaning to a record that hangs under another key. */
  readonly root: string | undefined;
  /** Name of a keystore; undefined: `default`. */
  readonly keystore: string | undefined;
  /** Keystores in which such records may still lie. */
  readonly formerKeystores: readonly string[];
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
  /** The provider itself encrypts, and there is no data key. */
  readonly direct: boolean;
  /** Who can open messages of it: `keystore`, and names of recipients. */
  readonly recipients: readonly string[];
  /** Recipients that its messages may still be sealed for. */
  readonly formerRecipients: readonly string[];
}

/** Who can open messages beside the keystore: who may use the key of a root, or has a raw AES key; one of the two. */
export interface RecipientConfig {
  readonly name: string;
  /** Name of a root of aws-kms or vault-transit. */
  readonly root: string | undefined;
  /** As raw AES keyrings of the AWS Encryption SDK name it; `keyFile` is the absolute path of a 0600 file. */
  readonly rawAes: { readonly namespace: string; readonly name: string; readonly keyFile: string } | undefined;
}

/** Key bytes from a variable, which only `dekd dev` takes. Shown and printed as the name of the variable. */
export class VariableKey {
  readonly variable: string;
  readonly #bytes: Uint8Array;

  constructor(variable: string, bytes: Uint8Array) {
    this.variable = variable;
    this.#bytes = bytes;
  }

  /** A copy of the 32 bytes, which the caller wipes. */
  copy(): Uint8Array {
    return this.#bytes.slice();
  }
}

/** An AES-256 key that an application had: in the file at this absolute path, or from a variable. */
export interface LegacyKeyConfig {
  readonly kid: string;
  readonly source: string | VariableKey;
}

/** What a rule can grant. `anyKey` is decrypting without naming the key; it adds to `decrypt`. */
export type Operation =
  | 'encrypt'
  | 'decrypt'
  | 'reencrypt'
  | 'anyKey'
  | 'keyInfo'
  | 'hmac'
  | 'verifyHmac'
  | 'blindIndex'
  | LegacyOperation;

/** To have envelopes of `legacy.keys` opened, or made tokens of the key. */
export type LegacyOperation = 'openLegacy' | 'migrateLegacy';

/** Which socket a caller came through: `data`, `admin`, or a name of `sockets`. */
export type SocketName = string;

/** A further data socket. */
export interface SocketConfig {
  readonly name: string;
  /** Absolute. */
  readonly path: string;
  /** Group of the socket and its folder; undefined leaves what the folder gives. */
  readonly group: number | undefined;
  /** Permission bits: 0o600 or 0o660. */
  readonly mode: number;
}

/** What callers can show beside what the kernel says of them. */
export interface TokenConfig {
  readonly name: string;
  /** Absolute path of a file with 32 bytes as one base64 line. */
  readonly file: string;
}

/** What each caller of a rule may have at once and in a second; undefined for any amount. */
export interface RuleQuota {
  /** Items of batches count one by one. */
  readonly requestsPerSecond: number | undefined;
  readonly bytesPerSecond: number | undefined;
  readonly inFlight: number | undefined;
}

/** Who a rule is for: every field given must match, by any of its values. */
export interface RuleCallers {
  readonly uid: readonly number[] | undefined;
  readonly gid: readonly number[] | undefined;
  /** Supplementary groups. */
  readonly groups: readonly number[] | undefined;
  readonly socket: readonly SocketName[];
  /** Names of tokens; undefined for callers with any or none. */
  readonly token: readonly string[] | undefined;
}

export interface PolicyRule {
  readonly name: string;
  readonly callers: RuleCallers;
  /** Globs over key names. */
  readonly keys: readonly string[];
  /** Globs over partitions; `*` includes none. */
  readonly partitions: readonly string[];
  readonly operations: readonly Operation[];
  /** Globs over kids of legacy keys, for the operations on their envelopes; undefined for all. */
  readonly legacyKids?: readonly string[];
  /** Creation on first use: refused, or at most `max` (key, partition) pairs between start and stop of the agent. */
  readonly create: false | { readonly max: number };
  /** Values for indexes that each caller may have computed in a second. */
  readonly blindIndexPerSecond: number;
  /** Names that the context of a call must have; none unless given. */
  readonly requireContext: readonly string[];
  readonly quota: RuleQuota;
  /** Globs over names of roots that its callers may choose on encrypting; none unless given. */
  readonly roots: readonly string[];
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
  /** Further data sockets, each with rules of its own. */
  readonly sockets: readonly SocketConfig[];
  readonly tokens: readonly TokenConfig[];
  readonly admin: {
    readonly path: string;
    /** TCP port of probes, metrics and the page; undefined for none. */
    readonly port: number | undefined;
    readonly host: string;
    readonly metrics: boolean;
    readonly page: boolean;
  };
  readonly metrics: {
    readonly enabled: boolean;
    /** Names of keys as labels. */
    readonly keys: boolean;
  };
  /** Threads for large work. */
  readonly workers: number | 'auto';
  readonly limits: {
    /** Largest plaintext of one request, in bytes. */
    readonly maxPayload: number;
    /** What a compressed value may become, in bytes. */
    readonly maxExpanded: number;
    /** Requests in flight on one connection. */
    readonly maxInFlight: number;
    /** Open connections; the agent lowers it below its limit of open files. */
    readonly connections: number;
    /** Milliseconds in which a connection must have said Hello, and a frame begun must be whole. */
    readonly headerTimeout: number;
    /** Milliseconds a stopping agent waits for requests in flight. */
    readonly drain: number;
  };
  readonly lane: {
    /** Whether clients may share memory; only the native engine can. */
    readonly enabled: boolean;
    /** Absolute path of the lane socket. */
    readonly path: string;
    /** Largest plaintext of one request in shared memory, in bytes. */
    readonly maxPayload: number;
    /** Bytes that all clients together may share; undefined for a quarter of the agent's memory, which it is at most. */
    readonly budget: number | undefined;
    /** Bytes that one caller may share; undefined for half of the budget. */
    readonly callerBudget: number | undefined;
  };
  /** At least one. */
  readonly roots: readonly RootConfig[];
  /** Name of the root that wraps new records. */
  readonly defaultRoot: string;
  /** By name; `default` is there unless every route names another. */
  readonly keystores: ReadonlyMap<string, KeystoreConfig>;
  /** Whether providers and networked keystores run in processes of their own. */
  readonly custody: 'process' | 'inline';
  readonly hierarchy: {
    /** KEKs between root and data keys, outermost first: tenant (L2), service (L3). */
    readonly levels: readonly ('tenant' | 'service')[];
  };
  readonly region: string | undefined;
  /** Empty: everything goes to the default root and the keystore `default`. */
  readonly routes: readonly Route[];
  /** Milliseconds for which keys that are loaded serve while their root's provider does not answer. */
  readonly coast: { readonly encrypt: number; readonly decrypt: number };
  readonly revocation: {
    /** Milliseconds in which a refusal by a channel that the agent can reach stops a key. */
    readonly within: number;
    /** Caps both coasts at `within`. */
    readonly strict: boolean;
  };
  /** Keys that are loaded at start. */
  readonly prewarm: readonly { readonly key: string; readonly partition: string }[];
  readonly keys: readonly KeyDefinition[];
  /** What holds for a key that no entry of `keys` names. */
  readonly rotation: RotationLimits;
  /** Whether a key that no entry of `keys` names is direct. */
  readonly direct: boolean;
  readonly recipients: readonly RecipientConfig[];
  readonly message: {
    /** What holds for a key that no entry of `keys` names. */
    readonly recipients: readonly string[];
    readonly formerRecipients: readonly string[];
    /** Messages store the context of the record, and providers of recipients see it. */
    readonly exposeRecordContext: boolean;
  };
  readonly legacy: { readonly keys: readonly LegacyKeyConfig[] };
  readonly policy: { readonly rules: readonly PolicyRule[] };
  readonly audit: {
    readonly to: 'off' | 'file' | 'stdout';
    /** Absolute path; there for `file`. */
    readonly file: string | undefined;
    readonly keyFile: string | undefined;
    readonly requests: 'none' | 'failures' | 'all';
    /** Share of the requests without a failure, 0 to 1. */
    readonly sample: number;
    /** Nothing is done that cannot be recorded. */
    readonly strict: boolean;
    readonly fsync: 'never' | 'interval' | 'always';
    /** Bytes and milliseconds after which another file is begun. */
    readonly rotate: { readonly size: number; readonly age: number };
    readonly anchors: {
      readonly file: string | undefined;
      readonly lines: number;
      /** Milliseconds. */
      readonly interval: number;
    };
  };
  readonly reload: {
    /** Whether the file is read again when it has changed. */
    readonly watch: boolean;
  };
  readonly log: {
    readonly level: 'debug' | 'info' | 'warn' | 'error' | 'silent';
    readonly format: 'json' | 'text';
  };
}
