/** What `GET MOUNT/keys/KEY` says, as far as it matters here. */
export interface TransitKeyState {
  readonly type: string;
  readonly latestVersion: number;
  readonly minDecryptionVersion: number;
  readonly derived: boolean;
  readonly softDeleted: boolean;
  readonly deletionAllowed: boolean;
  readonly exportable: boolean;
  readonly plaintextBackup: boolean;
}

/** Symmetric types with associated data; CBC and HMAC types, and keys that anybody may encrypt to, are none. */
const AEAD_TYPES: ReadonlySet<string> = new Set([
  'aes128-gcm96',
  'aes256-gcm96',
  'chacha20-poly1305',
  'xchacha20-poly1305',
]);

export const AEAD_TYPE_NAMES = [...AEAD_TYPES].join(', ');

/** Undefined when `body` is not what Transit answers. */
export function readKeyState(body: unknown): TransitKeyState | undefined {
  const data = (body as { data?: Record<string, unknown> } | undefined)?.data;
  if (typeof data?.type !== 'string' || typeof data.latest_version !== 'number') {
    return undefined;
  }
  return {
    type: data.type,
    latestVersion: data.latest_version,
    minDecryptionVersion: typeof data.min_decryption_version === 'number' ? data.min_decryption_version : 1,
    derived: data.derived === true,
    softDeleted: data.soft_deleted === true,
    deletionAllowed: data.deletion_allowed === true,
    exportable: data.exportable === true,
    plaintextBackup: data.allow_plaintext_backup === true,
  };
}

export function isAead(type: string): boolean {
  return AEAD_TYPES.has(type);
}

/** Lines for a person, about a key that can get lost or get out. */
export function keyWarnings(name: string, state: TransitKeyState): string[] {
  const warnings: string[] = [];
  if (state.deletionAllowed) {
    warnings.push(
      `transit key ${name} may be deleted, and everything under it with it: set deletion_allowed=false in ${name}/config`,
    );
  }
  if (state.exportable) {
    warnings.push(
      `transit key ${name} is exportable, for good: whoever may export it can open everything without Vault`,
    );
  }
  if (state.plaintextBackup) {
    warnings.push(`transit key ${name} allows backups in plaintext, for good: whoever has one can open everything`);
  }
  return warnings;
}
