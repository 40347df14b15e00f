/**
 * The place of `own-package.ts` in the light client: files of `dekd`, where that is installed beside it. Its addon is of the
 * same version, or not used: the two speak to each other by numbers.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Written by the build of the light client: the version of `dekd` that it was made from. */
declare const DEKD_VERSION: string;

export const PACKAGE_MISSING = `the package dekd of this version (${DEKD_VERSION}) is not installed beside dekd-client`;

/** @see own-package.ts */
export function packageFile(path: string): string | undefined {
  try {
    const manifest = import.meta.resolve('dekd/package.json');
    const { version } = JSON.parse(readFileSync(new URL(manifest), 'utf8')) as { version: string };
    return version === DEKD_VERSION ? fileURLToPath(new URL(path, manifest)) : undefined;
  } catch {
    // Not installed, or nothing that can be read.
    return undefined;
  }
}

/** @see own-package.ts */
export function commandFile(): string | undefined {
  return packageFile('dist/cli/main.js');
}
