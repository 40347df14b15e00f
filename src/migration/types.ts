import type { CallOptions, DekdClient, EncryptionContext } from '../client/types.ts';
import type { DekdError } from '../errors.ts';

/**
 * What is stored: an envelope with `kid` dekd, no `iv` and the token as `ct`; in the stage `read` one from before. To a reader from
 * before the first is an envelope of a kid that it does not have, which it refuses.
 */
export interface StoredCredentials {
  readonly __enc: 1;
  readonly kid: string;
  readonly iv: string;
  readonly ct: string;
}

/** The calls of a client that migration needs. */
export type MigrationClient = Pick<
  DekdClient,
  'encryptText' | 'decryptText' | 'encryptMany' | 'decryptMany' | 'openLegacy' | 'migrateLegacy'
>;

/**
 * `read`: every form is read, none is written but by `writeLegacy`. `write`: every form is read, tokens are written. `done`: tokens
 * are read and written, and nothing else.
 */
export type MigrationStage = 'read' | 'write' | 'done';

export interface CredentialsOptions {
  /** The key of the tokens, whose rights also say what may be done with envelopes from before. */
  readonly key: string;
  readonly partition?: string | undefined;
  /** Bound to every token, unless a call says its own. */
  readonly context?: EncryptionContext | undefined;
  readonly stage: MigrationStage;
  /**
   * For the stage `read`: makes an envelope from before, which pods that know no tokens can read. What it gives is stored only if
   * the agent opens it. Without it, `encryptCredentials` rejects with SERVICE_DISABLED in that stage.
   */
  readonly writeLegacy?: ((value: unknown) => unknown) | undefined;
  /**
   * Lets values through that were never encrypted, until this instant (a date without a time is its first second, UTC). Off
   * unless given. What looks like an envelope or a token is never let through.
   */
  readonly plaintext?: { readonly until: Date | string } | undefined;
  /**
   * Whether `encryptCredentials` makes a token of what an envelope from before holds, when it is given one: `true` unless said.
   * Such an envelope is bound to no record. Where users choose what is saved, say `false`: it is then encrypted as it is.
   */
  readonly migrateOnEncrypt?: boolean | undefined;
  /** Told of everything that is not the ordinary way; for the log. What it throws is not heard. */
  readonly onEvent?: ((event: MigrationEvent) => void) | undefined;
}

/** Never with a value, a key or a context. */
export interface MigrationEvent {
  readonly event:
    | 'legacyRead'
    | 'legacyWritten'
    | 'plaintextRead'
    | 'plaintextRefused'
    | 'lookalikeRefused'
    | 'migrated'
    | 'resaveFailed';
  readonly key: string;
  readonly partition: string;
  /** Of an envelope from before. */
  readonly kid?: string;
  readonly error?: unknown;
}

/** How often each happened to this object. */
export interface MigrationCounts {
  readonly tokensRead: number;
  readonly legacyRead: number;
  readonly plaintextRead: number;
  readonly plaintextRefused: number;
  readonly lookalikeRefused: number;
  readonly encrypted: number;
  /** Envelopes from before, and plaintexts, that became tokens. */
  readonly migrated: number;
  /** Given to be encrypted, and encrypted already. */
  readonly unchanged: number;
  readonly legacyWritten: number;
  readonly resaveFailed: number;
}

export interface CredentialsCall extends CallOptions {
  readonly partition?: string | undefined;
  readonly context?: EncryptionContext | undefined;
}

export interface DecryptCredentialsCall extends CredentialsCall {
  /**
   * Given the new form of a value that was in another one, in the stage `write`, to be stored in its place: compare-and-set, since
   * somebody may have written meanwhile. The value is read whatever becomes of it; a failure is counted.
   */
  readonly resave?: ((stored: StoredCredentials) => unknown) | undefined;
}

export interface MigrationRow {
  readonly value: unknown;
  readonly partition?: string | undefined;
  readonly context?: EncryptionContext | undefined;
}

/** `changed` is false for what was a token of this key, partition and context already. */
export type MigrationResult =
  | {
      readonly ok: true;
      readonly stored: StoredCredentials;
      readonly from: 'token' | 'legacy' | 'plaintext';
      readonly changed: boolean;
    }
  | { readonly ok: false; readonly error: DekdError };

/** Functions, not methods: they can be taken out of the object. */
export interface Credentials {
  /**
   * Encrypts what JSON can carry, in the form that is stored. What is a token of this key, partition and context already comes back
   * as it was, recognised by its authentication: anything that only looks like one is encrypted like everything else.
   * Rejects as `encryptText` does, and with INVALID_ARGUMENT for what JSON would lose.
   */
  encryptCredentials(value: unknown, call?: CredentialsCall): Promise<StoredCredentials>;
  /**
   * The value behind any form that the stage reads; objects, and the JSON text of them. Rejects with DECRYPTION_FAILED, and with
   * MALFORMED for what is not encrypted and not let through.
   */
  decryptCredentials<T = unknown>(value: unknown, call?: DecryptCredentialsCall): Promise<T>;
  /**
   * Whether a value is a token of this key, partition and context, or an envelope from before that opens. A promise: await it.
   * Rejects where that cannot be found out.
   */
  isEncrypted(value: unknown, call?: CredentialsCall): Promise<boolean>;
  /**
   * The form to store for each row, in batches; plaintexts stay in the agent where they were encrypted. Only in the stage `write`.
   * A failed row fails alone.
   */
  migrateCredentials(rows: readonly MigrationRow[], call?: CallOptions): Promise<MigrationResult[]>;
  counts(): MigrationCounts;
}
