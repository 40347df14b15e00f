/**
 * What agent and custodian say to each other, as JSON with bytes beside it (`CustodianChannel`). No message holds key
 * material: secrets go over the key pipe, in frames that carry the id of the call they belong to.
 *
 * Both sides write a frame before the message that announces it, and read it when they handle that message, before the
 * next one; so the order of frames is the order of messages.
 *
 * | operation | frame to the custodian | frame back |
 * | --- | --- | --- |
 * | wrap | W, or the data key of a message | |
 * | unwrap | | the same, before the reply |
 * | restore | a login kept from an earlier custodian | |
 * | `session` message | | the login to keep, before the message |
 */

import type { ServiceKeystoreConfig, ServiceRootConfig } from '../config/config.ts';
import { MAX_PIPED_LENGTH, SECRET_LENGTH } from '../crypto/engine.ts';
import { Garbage, listOf, objectOf, textOf, wholeOf } from './untrusted.ts';

export type CustodianRole = 'provider' | 'keystore';

/** Raised with every change of these messages: after an upgrade in place, an agent finds the custodian of another version. */
export const CUSTODIAN_PROTOCOL = 1;

/** Descriptors of a custodian. */
export const CUSTODIAN_FD = {
  channel: 3,
  /** Secrets from the agent; provider role only, as is the next. */
  fromAgent: 4,
  toAgent: 5,
} as const;

/** Longest message in bytes: a direct ciphertext of 1 MiB as Vault writes it (base64), or rows, and room. */
export const MAX_MESSAGE = 2 * 1024 * 1024;
/** Bytes of rows in one `rows` message, about. */
export const ROWS_BYTES = 256 * 1024;
/** Rows of one call, and bytes of the messages they come in: leases are one per key and agent, some 110 bytes each. */
export const MAX_ROWS = 1_000_000;
export const MAX_ROWS_LENGTH = 128 * 1024 * 1024;

export type ProviderOperation =
  | 'restore'
  | 'describe'
  | 'wrap'
  | 'unwrap'
  | 'rewrap'
  | 'encrypt'
  | 'decrypt'
  | 'health';

export type KeystoreOperation =
  | 'open'
  | 'store'
  | 'retrieve'
  | 'versions'
  | 'updateMetadata'
  | 'delete'
  | 'list'
  | 'leases'
  | 'storeLease'
  | 'health';

export type CustodianOperation = ProviderOperation | KeystoreOperation;

/** Lengths, in bytes, of the frame ahead of an operation. */
export const FRAME_AHEAD: Readonly<
  Partial<Record<CustodianOperation, { readonly least: number; readonly most: number }>>
> = {
  wrap: { least: SECRET_LENGTH, most: SECRET_LENGTH },
  restore: { least: 1, most: MAX_PIPED_LENGTH },
};

/** What a custodian works for. */
export type Targets =
  | { readonly role: 'provider'; readonly roots: readonly ServiceRootConfig[] }
  | { readonly role: 'keystore'; readonly keystores: Readonly<Record<string, ServiceKeystoreConfig>> };

export type ToCustodian =
  /** The first message, and only that. */
  | {
      readonly kind: 'begin';
      readonly targets: Targets;
      /** Milliseconds after the first plaintext when the custodian ends by itself, whatever the agent does. */
      readonly limitMs: number;
    }
  | {
      readonly kind: 'call';
      readonly id: number;
      /** Name of the root or of the keystore. */
      readonly target: string;
      readonly operation: CustodianOperation;
      readonly args: Readonly<Record<string, unknown>>;
      /** Of the request that the call is made for. */
      readonly traceparent?: string;
    }
  | { readonly kind: 'cancel'; readonly id: number; readonly timedOut: boolean }
  /** The session with this id is kept. */
  | { readonly kind: 'kept'; readonly id: number }
  /** Close everything and exit; logins of the roots named are ended, the others left for whoever comes next. */
  | { readonly kind: 'end'; readonly forget: readonly string[] };

export type FromCustodian =
  | { readonly kind: 'ready'; readonly role: string; readonly protocol: number }
  | { readonly kind: 'reply'; readonly id: number; readonly value: unknown }
  /** Some of the rows of a reply that follows. */
  | { readonly kind: 'rows'; readonly id: number; readonly rows: readonly unknown[] }
  | ({ readonly kind: 'failure'; readonly id: number } & Failure)
  | { readonly kind: 'session'; readonly id: number; readonly root: string };

/** What went wrong with a call. */
export interface Failure {
  /** Of ProviderError, of DekdError in the keystore role, or INTERNAL. */
  readonly code: string;
  readonly message: string;
  readonly detail?: string;
  readonly retryAfterMs?: number;
}

const MAX_ID = 2 ** 32 - 1;
const MAX_TEXT = 4_000;
const DAY_MS = 86_400_000;

/** A message of a custodian. @throws Garbage for everything that is none */
export function fromCustodian(head: unknown): FromCustodian {
  const fields = objectOf(head, 'the message');
  const id = () => wholeOf(fields.id, 'id', MAX_ID);
  switch (fields.kind) {
    case 'ready':
      return {
        kind: 'ready',
        role: textOf(fields.role, 'role', 16),
        protocol: wholeOf(fields.protocol, 'protocol', MAX_ID),
      };
    case 'reply':
      return { kind: 'reply', id: id(), value: fields.value ?? null };
    case 'rows':
      return { kind: 'rows', id: id(), rows: listOf(fields.rows, 'rows', MAX_ROWS) };
    case 'failure':
      return {
        kind: 'failure',
        id: id(),
        code: textOf(fields.code, 'code', 64),
        message: textOf(fields.message, 'message', MAX_TEXT),
        ...(fields.detail === undefined ? {} : { detail: textOf(fields.detail, 'detail', MAX_TEXT) }),
        ...(fields.retryAfterMs === undefined
          ? {}
          : { retryAfterMs: wholeOf(fields.retryAfterMs, 'retryAfterMs', DAY_MS) }),
      };
    case 'session':
      return { kind: 'session', id: id(), root: textOf(fields.root, 'root', 256) };
    default:
      throw new Garbage('a message of no kind');
  }
}
