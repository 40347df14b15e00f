import type { KeyContext } from '../provider.ts';

/** What DescribeKey tells of a key, as far as it matters here. */
export interface KeyDescription {
  readonly arn: string;
  /** Enabled, Disabled, PendingDeletion, PendingImport, PendingReplicaDeletion, Unavailable, Creating or Updating. */
  readonly state: string;
  readonly usage: string;
  /** SYMMETRIC_DEFAULT is an AES-256-GCM key. */
  readonly spec: string;
  /** Who made the material: AWS_KMS, EXTERNAL (imported), AWS_CLOUDHSM or EXTERNAL_KEY_STORE. */
  readonly origin: string;
  readonly createdAt: Date | undefined;
  /** When imported material expires. */
  readonly expiresAt: Date | undefined;
  /** Id of the material that encrypts now; empty where the service does not say. */
  readonly materialId: string;
}

export interface EncryptInput {
  /** Id, ARN, alias or alias ARN. */
  readonly key: string;
  /** Stays the caller's, to wipe. */
  readonly plaintext: Uint8Array;
  readonly context: KeyContext;
}

export interface DecryptInput {
  readonly key: string;
  readonly ciphertext: Uint8Array;
  readonly context: KeyContext;
}

export interface ReEncryptInput {
  readonly from: string;
  readonly to: string;
  readonly ciphertext: Uint8Array;
  /** The same before and after. */
  readonly context: KeyContext;
}

/**
 * The calls of AWS KMS that this provider makes; each is exactly one request. Errors are the SDK's own, by name. `signal`
 * ends a request in every state it may be in, and what a call leaves unread is wiped where it can be reached.
 */
export interface KmsCalls {
  /** The Region that requests are signed for. */
  readonly region: string;
  describeKey(key: string, signal: AbortSignal): Promise<KeyDescription>;
  encrypt(input: EncryptInput, signal: AbortSignal): Promise<{ ciphertext: Uint8Array; keyArn: string }>;
  /** @returns plaintext that is the caller's to wipe, in memory of its own. */
  decrypt(input: DecryptInput, signal: AbortSignal): Promise<{ plaintext: Uint8Array; keyArn: string }>;
  reEncrypt(
    input: ReEncryptInput,
    signal: AbortSignal,
  ): Promise<{ ciphertext: Uint8Array; keyArn: string; sourceKeyArn: string; materialId: string }>;
  /** Asks where the credentials come from anew. @returns whether they are others than before. */
  renewCredentials(signal: AbortSignal): Promise<boolean>;
  /** Ends every connection, and the requests on them. */
  close(): void;
}

/** A reply that lacks what the service always sends: another service answers at this endpoint, or a damaged one. */
export class MalformedReply extends Error {
  override readonly name = 'MalformedReply';
}

/** W would go over the network in clear. */
export class InsecureEndpoint extends Error {
  override readonly name = 'InsecureEndpoint';
}
