import type { VaultSession } from './client.ts';
import type { UnwrappedSecretId } from './login.ts';

/** A token in use, and what is known of its end. */
export interface Lease {
  readonly token: string;
  /** Milliseconds on the clock; Infinity for none. */
  expiresAt: number;
  /** Milliseconds that login or last full renewal granted: a renewal that grants less has met the maximum. */
  grantedMs: number;
  renewable: boolean;
  usesLeft: number;
  readonly revocable: boolean;
}

/** What one process leaves to the next. */
export interface SessionContent {
  readonly lease: Lease;
  readonly unwrapped: UnwrappedSecretId | undefined;
}

/** `key` is that of the settings: a session is never used for others. */
export function encodeSession(key: string, { lease, unwrapped }: SessionContent): VaultSession {
  // No Buffer: its slices share their bytes, and what is kept must outlive the wiping of this.
  return new TextEncoder().encode(
    JSON.stringify({
      key,
      ...lease,
      expiresAt: finite(lease.expiresAt),
      grantedMs: finite(lease.grantedMs),
      usesLeft: finite(lease.usesLeft),
      unwrapped,
    }),
  );
}

/** Undefined for a session of other settings, or for what is none. */
export function decodeSession(key: string, session: VaultSession): SessionContent | undefined {
  let fields: Record<string, unknown> | null;
  try {
    fields = JSON.parse(Buffer.from(session).toString('utf8')) as typeof fields;
  } catch {
    return undefined;
  }
  if (fields === null || fields.key !== key || typeof fields.token !== 'string') {
    return undefined;
  }
  return {
    lease: {
      token: fields.token,
      expiresAt: infinite(fields.expiresAt),
      grantedMs: infinite(fields.grantedMs),
      renewable: fields.renewable === true,
      usesLeft: infinite(fields.usesLeft),
      revocable: fields.revocable === true,
    },
    unwrapped: fields.unwrapped as UnwrappedSecretId | undefined,
  };
}

function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

function infinite(value: unknown): number {
  return typeof value === 'number' ? value : Number.POSITIVE_INFINITY;
}
