import { VaultError } from './vault-error.ts';

/** What a segment of a path may consist of. Everything else means something to a URL, to a template or to a proxy. */
const SEGMENT = /^[A-Za-z0-9_.-]+$/;

/** Whether `text` is one or more segments with `/` between them, none of which is `.` or `..`. */
export function isVaultPath(text: string): boolean {
  return text.split('/').every(isVaultName);
}

/** Whether `text` can be one segment of a path. */
export function isVaultName(text: string): boolean {
  return SEGMENT.test(text) && text !== '.' && text !== '..';
}

/** @throws CONFIG naming `setting`, unless `text` is a path. */
export function checkVaultPath(text: string, setting: string): void {
  if (!isVaultPath(text)) {
    throw new VaultError(
      'CONFIG',
      `${setting} must be letters, digits, "_", "." and "-", with single slashes between: nothing else is safe in a path`,
    );
  }
}

/** @throws CONFIG naming `setting`, unless `text` is one segment. */
export function checkVaultName(text: string, setting: string): void {
  if (!isVaultName(text)) {
    throw new VaultError(
      'CONFIG',
      `${setting} must be letters, digits, "_", "." and "-": nothing else is safe in a path`,
    );
  }
}
