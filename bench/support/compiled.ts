/** What of the bench is C++, compiled when it is first asked for, and again when its source is newer. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * @param source a file of bench/native
 * @returns path of what was made of it
 * @throws when there is no compiler; the headers are those that came with this Node, else the system's
 */
export function compiled(source: string, name: string, flags: readonly string[] = []): string {
  const from = fileURLToPath(new URL(`../native/${source}`, import.meta.url));
  const to = fileURLToPath(new URL(`../out/${name}`, import.meta.url));
  if (existsSync(to) && statSync(to).mtimeMs > statSync(from).mtimeMs) {
    return to;
  }
  mkdirSync(dirname(to), { recursive: true });
  const build = spawnSync(process.env.CXX ?? 'c++', ['-std=c++20', '-O3', '-Wall', ...flags, '-o', to, from], {
    encoding: 'utf8',
  });
  if (build.status !== 0) {
    throw new Error(
      `${source} was not built: ${build.error?.message ?? build.stderr}; install a compiler, or name one in CXX`,
    );
  }
  return to;
}
