import { basename, delimiter, dirname, join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Root of the package, from the place of this file: `src/cli` and `dist/cli` lie equally deep. */
const PACKAGE_ROOT = fileURLToPath(new URL('../..', import.meta.url)).replace(/[/\\]$/, '');

export interface Started {
  /** Path of the script, as Node was given it. */
  readonly script: string;
  readonly cwd: string;
  /** PATH. */
  readonly searchPath: string;
}

/**
 * How to call this program again from the same place, ready to paste: `dekd` where a shell finds it, the npm script in a
 * clone (where the Node of the shell may be too old), else the whole path.
 */
export function selfCommand(started: Started, packageRoot = PACKAGE_ROOT): string {
  const { script, cwd, searchPath } = started;
  if (basename(script) === 'dekd') {
    const folder = dirname(script);
    if (folder === join(cwd, 'node_modules/.bin')) {
      return 'npx dekd';
    }
    return searchPath.split(delimiter).includes(folder) ? 'dekd' : quote(script);
  }
  if (script.endsWith('.ts')) {
    return cwd === packageRoot || cwd.startsWith(packageRoot + sep)
      ? 'npm run -s dekd --'
      : `npm --prefix ${quote(packageRoot)} run -s dekd --`;
  }
  return `node ${quote(script)}`;
}

/** A word for a POSIX shell. */
export function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
