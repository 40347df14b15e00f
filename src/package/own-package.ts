/**
 * Where the files of this package lie that are not modules: the addon, and the command line that starts an agent.
 *
 * The light client, which is published on its own, has `package-beside.ts` in the place of this file.
 */
import { fileURLToPath } from 'node:url';

/** The file at `path`, given from the package's root; undefined where there is no such package. */
export function packageFile(path: string): string | undefined {
  // Two folders up is the root, from src/package, from dist/package and from the files that this is bundled into.
  return fileURLToPath(new URL(`../../${path}`, import.meta.url));
}

/** The command line, for a private agent: from .ts in development, from .js once built. */
export function commandFile(): string | undefined {
  return packageFile(import.meta.url.endsWith('.ts') ? 'src/cli/main.ts' : 'dist/cli/main.js');
}

/** Why there is no file where one is undefined; here there is always one. */
export const PACKAGE_MISSING = 'the package has no such file';
